"""Repeated n-grams of tokens, and loops: where the same n-gram occurred before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.scores._tokens import Ints, Tokens

Hashes = npt.NDArray[np.uint64]

# A text of up to 2^12 tokens shares a sort with others: text in the upper 10 bits of the key, then
# 42 bits of the n-gram's hash, then the position. A longer one is sorted alone, by 40 bits of hash
# and 24 of position. Hashes come from the tokens' bytes, so that what a text scores never depends
# on its neighbours, not even by a collision.
_SMALL = 1 << 12
_BATCH_TEXTS = 1 << 10
_BATCH_TOKENS = 1 << 18
_SORTABLE = 1 << 24
_P = np.uint64(0x9E3779B97F4A7C15)
LOOP_GRAM = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Token and text ranges that are sorted together; ``is_small`` says with which key."""

    tokens: slice
    texts: slice
    is_small: bool


def batches(tokens: Tokens) -> Iterator[Batch]:
    """Yield consecutive ranges of texts, long texts alone."""
    first = tokens.first_D
    count = np.diff(first)
    begin, n_texts = 0, len(count)
    while begin < n_texts:
        end = begin + 1
        if count[begin] < _SMALL:
            while (
                end < n_texts
                and count[end] < _SMALL
                and end - begin < _BATCH_TEXTS
                and first[end + 1] - first[begin] <= _BATCH_TOKENS
            ):
                end += 1
        if first[end] > first[begin]:
            small = bool(count[begin] < _SMALL)
            yield Batch(slice(int(first[begin]), int(first[end])), slice(begin, end), small)
        begin = end


@dataclass(frozen=True, slots=True)
class Grams:
    """The n-grams of a batch, sorted so that equal ones of one text stand together.

    ``position_G`` is the token index (within the batch) where each n-gram begins, ascending
    within equal ones; ``is_new_G`` marks the first of each group.
    """

    position_G: Ints
    is_new_G: npt.NDArray[np.bool_]


def sort_grams(
    hashes: Hashes, text: npt.NDArray[np.int32], position: Ints, starts: Ints, small: bool
) -> Grams:
    """Sort n-grams by text, hash and position.

    Args:
        hashes: one for each n-gram.
        text: number of its text within the batch.
        position: token index within the batch.
        starts: token index, within the batch, at which each text begins.
        small: whether the texts share the sort (see ``_SMALL``).
    """
    if small:
        key = text.astype(np.uint64) << np.uint64(54)
        key |= (hashes >> np.uint64(22)) << np.uint64(12)
        key |= (position - starts[text]).astype(np.uint64)
        key.sort()
        head = key >> np.uint64(12)
        order = starts[(key >> np.uint64(54)).astype(np.int64)]
        order += (key & np.uint64(_SMALL - 1)).astype(np.int64)
    elif len(hashes) < _SORTABLE:
        key = hashes & ~np.uint64(_SORTABLE - 1)
        key |= position.astype(np.uint64)
        key.sort()
        head = key >> np.uint64(24)
        order = (key & np.uint64(_SORTABLE - 1)).astype(np.int64)
    else:
        by_hash = np.argsort(hashes, kind="stable")
        head, order = hashes[by_hash], position[by_hash]
    is_new = np.ones(len(head), dtype=np.bool_)
    is_new[1:] = head[1:] != head[:-1]
    return Grams(order, is_new)


def gram_hashes(token_hashes: Hashes, n: int, before: Hashes | None) -> Hashes:
    """Return hashes of n-grams from those of (n-1)-grams (``before``; None for n = 1)."""
    if before is None:
        return token_hashes
    with np.errstate(over="ignore"):
        return before[:-1] * _P + token_hashes[n - 1 :]
