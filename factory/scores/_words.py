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

# Bytes per character of a script's letters, to count characters without decoding.
_BYTES_PER_CHAR = np.array(
    [1, 1, 3, 3, 2, 2, 2, 2, 3, 3, *[3] * (N_CLASSES - 10)], dtype=np.float64
)
_BYTES_PER_CHAR[23] = _BYTES_PER_CHAR[26] = 2  # Armenian, Thaana
UNSPACED = np.isin(np.arange(N_CLASSES), [CJK, THAI, 10, 11, 12, 25])


def _lookup(chars: bytes) -> Bools:
    table = np.zeros(256, dtype=np.bool_)
    table[list(chars)] = True
    return table


_BEFORE_CODE = _lookup(b"\\_^@#$=0123456789{<&%~|")
_AFTER_CODE = _lookup(b"_^=0123456789@{>\\|")
_BREAKS = _lookup(b".!?;:")
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
    kind = runs.class_R
    begin, end = runs.edge_R[:-1], runs.edge_R[1:]
    n_texts = len(runs.bounds_D) - 1
    size = (end - begin).astype(np.float64)
    is_word = kind > 0
    padded = np.append(runs.data, np.uint8(32))
    # At the seam of two texts the neighbouring byte belongs to the other one.
    before = np.where(begin > runs.bounds_D[runs.text_R], padded[begin - 1], 32)
    after = np.where(end < runs.bounds_D[runs.text_R + 1], padded[end], 32)
    code = _BEFORE_CODE[before] | _AFTER_CODE[after]
    # "3个苹果": digits beside scripts without spaces are ordinary.
    code &= ~UNSPACED[kind]
    is_symbol = (kind == LATIN) & (size < 2)
    in_formula = _in_formula(runs)
    is_prose = is_word & ~code & ~is_symbol & ~in_formula
    per_word = np.ones(N_CLASSES)
    for number, chars in CHARS_PER_WORD.items():
        per_word[number] = chars
    # A run of an unspaced script holds as many words as its characters make, another one is one.
    per_run = np.where(UNSPACED[kind], size / _BYTES_PER_CHAR[kind] / per_word[kind], 1.0)
    count = np.maximum(per_run, 1.0) * is_prose
    key = runs.text_R.astype(np.int64) * N_CLASSES + kind
    words = np.bincount(key, weights=count, minlength=n_texts * N_CLASSES)
    words_DC = words.reshape(n_texts, N_CLASSES)
    words_DC[:, 0] = 0
    main = words_DC.argmax(axis=1).astype(np.int64)  # 0 where no word was found
    return Words(count, is_prose, in_formula, main, words_DC.astype(np.float64))


def _in_formula(runs: Runs) -> Bools:
    inside = np.zeros(len(runs.class_R), dtype=np.bool_)
    marks = np.flatnonzero((runs.data == 0x24) | (runs.data == 0x60))
    slash = np.flatnonzero(runs.data[:-1] == 0x5C)
    slash = slash[np.isin(runs.data[slash + 1], np.frombuffer(b"([", dtype=np.uint8))]
    texts = np.unique(np.searchsorted(runs.bounds_D, np.append(marks, slash), side="right") - 1)
    begin = runs.edge_R[:-1]
    for text in texts.tolist():
        offset, stop = int(runs.bounds_D[text]), int(runs.bounds_D[text + 1])
        for start, end in formula_spans(runs.data[offset:stop].tobytes()):
            first, last = np.searchsorted(begin, (offset + start, offset + end))
            inside[first:last] = True
    return inside


def breaks(runs: Runs) -> Bools:
    """Return for each run whether it is a gap that ends a sentence or a line."""
    data = runs.data
    stops = data == 0x0A
    following = np.append(data[1:], np.uint8(10))
    stops |= _BREAKS[data] & _CLOSES_SENTENCE[following]
    # U+3002 (ideographic full stop), full-width signs U+FF01, FF1A, FF1B, FF1F, danda U+0964.
    lead = np.flatnonzero((data == 0xE3) | (data == 0xEF) | (data == 0xE0))
    lead = lead[lead < len(data) - 2]
    second, third = data[lead + 1], data[lead + 2]
    wide = (data[lead] == 0xE3) & (second == 0x80) & (third == 0x82)
    wide |= (data[lead] == 0xEF) & (second == 0xBC) & np.isin(third, [0x81, 0x9A, 0x9B, 0x9F])
    wide |= (data[lead] == 0xE0) & (second == 0xA5) & (third == 0xA4)
    stops[lead[wide]] = True
    total = np.concatenate([[0], np.cumsum(stops)])
    n_stops: Ints = np.diff(total[runs.edge_R])
    has_stop: Bools = np.logical_and(n_stops > 0, runs.class_R == 0)
    return has_stop


def edges_of(values: Ints) -> Ints:
    """Return the indices at which a sorted array takes a new value."""
    return np.flatnonzero(np.diff(values, prepend=values[:1] - 1)) if len(values) else values
