"""Loops: stretches of a text that repeat what stands one period before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from factory.scores._repeats import Batch, Grams
from factory.scores._tokens import Tokens

# A period is worth a look where at least so many n-grams recur at that distance.
_MIN_RECURRENCES = 16
_MAX_CANDIDATES = 6
# A token that differs from its copy costs what four equal ones earn: counters ("Step 41") and small
# variations are bridged, prose that merely shares phrases is not.
_MISMATCH_COST = 4


class Loop(NamedTuple):
    """A loop: offset and length in bytes from the text's start, mean period in bytes, copies."""

    start: int
    size: int
    period: float
    copies: float


def candidates(grams: Grams, text: npt.NDArray[np.int32]) -> dict[int, list[int]]:
    """Return for each text (number within the batch) the distances at which its n-grams recur.

    The most frequent first, in tokens; texts without any are left out.
    """
    again = np.flatnonzero(~grams.is_new_G)
    if not len(again):
        return {}
    here = grams.position_G[again]
    distance = here - grams.position_G[again - 1]
    pairs = (text[here].astype(np.int64) << 40) | distance
    pairs.sort()
    new = np.ones(len(pairs), dtype=np.bool_)
    new[1:] = pairs[1:] != pairs[:-1]
    begin = np.flatnonzero(new)
    count = np.diff(np.append(begin, len(pairs)))
    period = pairs[begin] & ((1 << 40) - 1)
    owner = pairs[begin] >> 40
    # Three further copies of a period give at least half a period of recurrences even where the
    # n-grams that hold a counter do not recur.
    good = (count >= _MIN_RECURRENCES) & (2 * count >= period)
    found: dict[int, list[int]] = {}
    for index in np.flatnonzero(good)[np.argsort(-count[good], kind="stable")].tolist():
        of_text = found.setdefault(int(owner[index]), [])
        if len(of_text) < _MAX_CANDIDATES:
            of_text.append(int(period[index]))
    return found


def stretch(codes: npt.NDArray[np.int32], period: int) -> tuple[int, int]:
    """Return the token range [a, b) that best repeats itself with this period.

    The range of greatest sum, one for each token equal to that one period before and minus
    ``_MISMATCH_COST`` for each other one, with the first period put before it.

    >>> stretch(np.array([7, 1, 2, 1, 2, 1, 2, 1, 2, 9], dtype=np.int32), 2)
    (1, 9)
    """
    gain = np.where(codes[period:] == codes[:-period], 1, -_MISMATCH_COST)
    total = np.concatenate([[0], np.cumsum(gain)])
    lowest = np.minimum.accumulate(total)
    end = int(np.argmax(total - lowest))
    begin = int(np.flatnonzero(total[: end + 1] == lowest[end])[-1])
    return begin, end + period if end > begin else begin


def longest_loop(
    tokens: Tokens, first: int, last: int, periods: list[int], *, min_copies: float, min_bytes: int
) -> Loop | None:
    """Return the longest loop of the text whose tokens are [first, last); None without one."""
    codes = tokens.codes_T[first:last]
    start, end = tokens.start_T[first:last], tokens.end_T[first:last]
    loops = []
    for period in periods:
        begin, stop = stretch(codes, period)
        copies = (stop - begin) / period
        if stop <= begin or copies < min_copies:
            continue
        size = int(end[stop - 1] - start[begin])
        if size >= min_bytes:
            offset = int(start[begin]) - int(tokens.bounds_D[tokens.text_T[first]])
            loops.append(Loop(offset, size, size / copies, copies))
    if not loops:
        return None
    longest = max(loop.size for loop in loops)
    # A multiple of the period fits as well: the shortest that explains nearly as much.
    return min((loop for loop in loops if loop.size >= 0.95 * longest), key=lambda x: x.period)


def find_loops(
    tokens: Tokens, batch: Batch, grams: Grams, *, min_copies: float, min_bytes: int
) -> dict[int, Loop]:
    """Return the longest loop of each text of the batch that has one, by the text's index."""
    text = tokens.text_T[batch.tokens] - np.int32(batch.texts.start)
    found = {}
    for number, periods in candidates(grams, text).items():
        index = batch.texts.start + number
        first, last = int(tokens.first_D[index]), int(tokens.first_D[index + 1])
        loop = longest_loop(
            tokens, first, last, periods, min_copies=min_copies, min_bytes=min_bytes
        )
        if loop is not None:
            found[index] = loop
    return found
