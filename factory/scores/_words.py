"""Which runs of a text are words of prose, and in which script the text is written.

Left out: what stands in code, LaTeX or formulas, what touches a digit or a sign of code, and single
letters, which are symbols. Names and acronyms (capitals inside a sentence) are words, but of no
language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.scores._scripts import CHARS_PER_WORD, CJK, LATIN, N_CLASSES, THAI, Runs
from factory.scores._tokens import Bools, Ints

# Bytes for one word of a script without spaces: three for each character.
_BYTES_PER_WORD = np.ones(N_CLASSES)
for _number, _chars in CHARS_PER_WORD.items():
    _BYTES_PER_WORD[_number] = 3 * _chars
UNSPACED = np.isin(np.arange(N_CLASSES), [CJK, THAI, 10, 11, 12, 25])


def _lookup(chars: bytes) -> Bools:
    table = np.zeros(256, dtype=np.bool_)
    table[list(chars)] = True
    return table


_BEFORE_CODE = _lookup(b"\\_^@#$=0123456789{<&%~|")
_AFTER_CODE = _lookup(b"_^=0123456789@{>\\|")
_BREAKS = _lookup(b".!?;:\n")
_WIDE_STOPS = _lookup(b"\x81\x9a\x9b\x9f")
_MARK = _lookup(b"$`\\")
_CLOSES_SENTENCE = _lookup(b" \n\t\r\"')]*\xe2")
_DELIMITER = re.compile(rb"```|`|\$\$|\$|\\\(|\\\)|\\\[|\\\]|\n")
_CLOSER = {b"```": b"```", b"`": b"`", b"$$": b"$$", b"$": b"$", b"\\(": b"\\)", b"\\[": b"\\]"}
_LONGEST = {b"`": 200, b"$": 400, b"$$": 4000, b"\\(": 2000, b"\\[": 8000}


def formula_spans(text: bytes) -> list[tuple[int, int]]:
    r"""Return byte ranges of code and formulas, in one pass over the delimiters.

    >>> formula_spans(rb"so $x+1$ and `len(a)` cost $5 or $6")
    [(3, 8), (13, 21)]
    """
    spans = []
    opener, start = b"", 0
    for match in _DELIMITER.finditer(text):
        token, at = match.group(), match.start()
        if opener and opener != b"```":
            is_inline = opener in (b"`", b"$")
            if at - start > _LONGEST[opener] or (is_inline and token == b"\n"):
                opener = b""
        if not opener:
            # A dollar sign opens a formula only before something that is no space (pandoc's rule).
            if token in _CLOSER and not (token == b"$" and text[at + 1 : at + 2].strip() == b""):
                opener, start = token, at
        elif token == _CLOSER[opener]:
            prior, after = text[at - 1 : at], text[at + 1 : at + 2]
            if opener == b"$" and (prior.isspace() or after.isdigit()):
                start = at  # money: "$5 or $6"
                continue
            spans.append((start, match.end()))
            opener = b""
    if opener == b"```":
        spans.append((start, len(text)))
    return spans


@dataclass(frozen=True, slots=True)
class Words:
    """What is known of each of the R runs, and the main script of each of the D texts.

    ``count_R`` is the number of words a run holds, an estimate in scripts without spaces; 0 for
    gaps and for what is no prose. ``main_D`` is the class in which most words stand, 0 for none.
    """

    count_R: npt.NDArray[np.float64]
    is_prose_R: Bools
    in_formula_R: Bools
    main_D: Ints
    words_DC: npt.NDArray[np.float64]


def find_words(runs: Runs) -> Words:
    """Tell prose from the rest, and the main script of each text."""
    n_runs, n_texts = len(runs.class_R), len(runs.bounds_D) - 1
    at = np.flatnonzero(runs.class_R)  # the words: gaps need no look
    kind, text = runs.class_R[at], runs.text_R[at]
    begin, end = runs.edge_R[at], runs.edge_R[at + 1]
    padded = np.append(runs.data, np.uint8(32))
    # At the seam of two texts the neighbouring byte belongs to the other one: no great harm is
    # done by a digit there, but a text must not depend on its neighbours.
    before = padded[begin - 1]
    after = padded[end]
    heads = runs.first_D[:-1][np.diff(runs.first_D) > 0]
    tails = runs.first_D[1:][np.diff(runs.first_D) > 0] - 1
    is_head, is_tail = np.zeros(n_runs, dtype=np.bool_), np.zeros(n_runs, dtype=np.bool_)
    is_head[heads] = is_tail[tails] = True
    # "3个苹果": digits beside scripts without spaces are ordinary.
    code = (_BEFORE_CODE[before] & ~is_head[at]) | (_AFTER_CODE[after] & ~is_tail[at])
    latin = kind == LATIN
    drop = code & ~UNSPACED[kind]
    drop |= latin & (end - begin < 2)
    formula = _in_formula(runs)
    is_prose, in_formula = np.zeros(n_runs, dtype=np.bool_), np.zeros(n_runs, dtype=np.bool_)
    if len(formula):
        in_formula[formula] = True
        drop |= in_formula[at]
    is_prose[at] = ~drop
    count_at = (~drop).astype(np.float64)
    other = np.flatnonzero(UNSPACED[kind])
    # A run of an unspaced script holds as many words as its characters make, another one is one.
    per_run = (end - begin)[other] / _BYTES_PER_WORD[kind[other]]
    count_at[other] *= np.maximum(per_run, 1.0)
    count = np.zeros(n_runs)
    count[at] = count_at
    key = text.astype(np.int64) * N_CLASSES + kind
    words = np.bincount(key, weights=count_at, minlength=n_texts * N_CLASSES)
    words_DC = words.reshape(n_texts, N_CLASSES).astype(np.float64)
    main = words_DC.argmax(axis=1).astype(np.int64)  # 0 where no word was found
    return Words(count, is_prose, in_formula, main, words_DC)


def _in_formula(runs: Runs) -> Ints:
    """Return the runs that stand in code or formulas."""
    mark = np.flatnonzero(_MARK[runs.data])
    following = np.append(runs.data, np.uint8(32))[mark + 1]
    mark = mark[(runs.data[mark] != 0x5C) | (following == 0x28) | (following == 0x5B)]
    if not len(mark):
        return np.zeros(0, dtype=np.int64)
    found = []
    for text in np.unique(np.searchsorted(runs.bounds_D, mark, side="right") - 1).tolist():
        offset, stop = int(runs.bounds_D[text]), int(runs.bounds_D[text + 1])
        for start, end in formula_spans(runs.data[offset:stop].tobytes()):
            found.append((offset + start, offset + end))
    edges = np.array(found, dtype=np.int64).reshape(-1, 2)
    first, last = np.searchsorted(runs.edge_R[:-1], edges.T).astype(np.int64)
    inside: list[Ints] = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
    out: Ints = np.concatenate([first[:0], *inside])
    return out


def breaks(runs: Runs) -> Bools:
    """Return for each run whether it is a gap that ends a sentence or a line."""
    data = runs.data
    out = np.zeros(len(runs.class_R), dtype=np.bool_)
    stop = np.flatnonzero(_BREAKS[data])
    following = np.append(data, np.uint8(10))[stop + 1]
    stop = stop[(data[stop] == 0x0A) | _CLOSES_SENTENCE[following]]
    # U+3002 (ideographic full stop), full-width signs U+FF01, FF1A, FF1B, FF1F, danda U+0964.
    lead = np.flatnonzero(data >= 0xE0)
    lead = lead[lead < len(data) - 2]
    first, second, third = data[lead], data[lead + 1], data[lead + 2]
    wide = (first == 0xE3) & (second == 0x80) & (third == 0x82)
    wide |= (first == 0xEF) & (second == 0xBC) & _WIDE_STOPS[third]
    wide |= (first == 0xE0) & (second == 0xA5) & (third == 0xA4)
    for at in (stop, lead[wide]):
        run = np.searchsorted(runs.edge_R, at, side="right") - 1
        out[run] = True
    out &= runs.class_R == 0
    return out


def edges_of(values: Ints) -> Ints:
    """Return the indices at which a sorted array takes a new value."""
    return np.flatnonzero(np.diff(values, prepend=values[:1] - 1)) if len(values) else values
