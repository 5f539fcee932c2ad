"""Texts as runs of one script: the first, cheap step of finding what language stands where.

Works on UTF-8 bytes of many texts at once. Every byte gets the class of its character's script;
a *run* is a stretch of one class. Runs of class 0 are gaps: spaces, digits, punctuation, symbols.
Mathematical letters (``ℝ``, ``𝑥``), full-width Latin and Roman numerals count as symbols.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from factory.scores._tokens import Ints, utf8

Bytes = npt.NDArray[np.uint8]
GAP, LATIN, CJK, HANGUL, CYRILLIC, ARABIC, GREEK, HEBREW, DEVANAGARI, THAI = range(10)
_JOINING = 255
_LAST = 0x323B0

# Class, language that the script stands for where nothing else is known, ranges of code points.
_TABLE: tuple[tuple[int, str, tuple[tuple[int, int], ...]], ...] = (
    (LATIN, "", ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x24F),
                 (0x250, 0x2AF), (0x1E00, 0x1EFF), (0xFB00, 0xFB06))),
    (CJK, "zh", ((0x3005, 0x3007), (0x3041, 0x3096), (0x309D, 0x309F), (0x30A1, 0x30FA),
                 (0x30FC, 0x30FF), (0x3105, 0x312F), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
                 (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF))),
    (HANGUL, "ko", ((0x1100, 0x11FF), (0x3131, 0x318E), (0xA960, 0xA97C), (0xAC00, 0xD7A3))),
    (CYRILLIC, "ru", ((0x400, 0x52F), (0x1C80, 0x1C88), (0x2DE0, 0x2DFF), (0xA640, 0xA69F))),
    (ARABIC, "ar", ((0x610, 0x61A), (0x620, 0x65F), (0x66E, 0x6D3), (0x6D5, 0x6DC),
                    (0x6DF, 0x6EF), (0x6FA, 0x6FC), (0x750, 0x77F), (0x8A0, 0x8FF),
                    (0xFB50, 0xFDFF), (0xFE70, 0xFEFC))),
    (GREEK, "el", ((0x370, 0x373), (0x376, 0x377), (0x37B, 0x37D), (0x386, 0x386),
                   (0x388, 0x3FF), (0x1F00, 0x1FFC))),
    (HEBREW, "he", ((0x591, 0x5BD), (0x5D0, 0x5EA), (0xFB1D, 0xFB4F))),
    (DEVANAGARI, "hi", ((0x900, 0x963), (0x970, 0x97F), (0xA8E0, 0xA8FF))),
    (THAI, "th", ((0xE01, 0xE3A), (0xE40, 0xE4E))),
    (10, "lo", ((0xE81, 0xEBD), (0xEC0, 0xECD), (0xEDC, 0xEDF))),
    (11, "km", ((0x1780, 0x17D3),)),
    (12, "my", ((0x1000, 0x103F), (0x1050, 0x109F))),
    (13, "bn", ((0x980, 0x9E3), (0x9F0, 0x9F1))),
    (14, "te", ((0xC00, 0xC63),)),
    (15, "ta", ((0xB80, 0xBD7),)),
    (16, "kn", ((0xC80, 0xCE3),)),
    (17, "ml", ((0xD00, 0xD63), (0xD7A, 0xD7F))),
    (18, "gu", ((0xA80, 0xAE3),)),
    (19, "pa", ((0xA00, 0xA5E), (0xA70, 0xA76))),
    (20, "or", ((0xB00, 0xB63),)),
    (21, "si", ((0xD80, 0xDDF),)),
    (22, "ka", ((0x10A0, 0x10FF), (0x1C90, 0x1CBF))),
    (23, "hy", ((0x531, 0x587),)),
    (24, "am", ((0x1200, 0x137F),)),
    (25, "bo", ((0xF40, 0xFBC),)),
    (26, "dv", ((0x780, 0x7B1),)),
)  # fmt: skip
N_CLASSES = 27
DEFAULT_LANGUAGE = {number: language for number, language, _ in _TABLE}
# The script of languages that are not written in Latin letters.
SCRIPT_OF = {
    **{language: number for number, language, _ in _TABLE if language},
    "ja": CJK,
    "yi": HEBREW,
    "as": 13,
    **dict.fromkeys(("uk", "bg", "sr", "mk", "be", "kk", "ky", "mn", "tg", "tt"), CYRILLIC),
    **dict.fromkeys(("ba", "cv", "os", "ce", "sah", "rue", "kv", "mhr", "myv"), CYRILLIC),
    **dict.fromkeys(("fa", "ur", "ps", "ug", "sd", "ckb", "azb", "arz", "pnb", "mzn"), ARABIC),
    **dict.fromkeys(("mr", "ne", "sa", "bh", "mai", "new", "gom", "dty"), DEVANAGARI),
}
# Characters for one word in scripts without spaces: Chinese and Japanese words have about 1.7,
# Thai and its neighbours about 4 (with their vowel signs).
CHARS_PER_WORD = {CJK: 1.7, THAI: 4.0, 10: 4.0, 11: 4.0, 12: 4.0, 25: 4.0}


@functools.cache
def _code_points() -> Bytes:
    table = np.zeros(_LAST, dtype=np.uint8)
    for number, _, ranges in _TABLE:
        for first, last in ranges:
            table[first : last + 1] = number
    table[0x300:0x370] = _JOINING
    table[[0x200C, 0x200D]] = _JOINING
    return table


_ASCII = np.zeros(256, dtype=np.uint8)
_ASCII[list(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] = LATIN


def classify(data: Bytes) -> Bytes:
    """Return the class of each byte: that of the script of the character it belongs to.

    >>> classify(np.frombuffer("a 好!".encode(), dtype=np.uint8)).tolist()
    [1, 0, 2, 2, 2, 0]
    """
    table = _code_points()
    out = _ASCII[data]
    lead = np.flatnonzero(data >= 0xC2)
    if not len(lead):
        return _join_apostrophes(data, out, lead)
    last = len(data) - 1
    first = data[lead].astype(np.int32)
    second, third, fourth = (
        (data[np.minimum(lead + k, last)] & 0x3F).astype(np.int32) for k in (1, 2, 3)
    )
    point = np.where(
        first < 0xE0,
        (first & 0x1F) << 6 | second,
        np.where(
            first < 0xF0,
            (first & 0x0F) << 12 | second << 6 | third,
            (first & 0x07) << 18 | second << 12 | third << 6 | fourth,
        ),
    )
    kind = table[np.minimum(point, _LAST - 1)]
    for k, least in ((0, 0), (1, 0), (2, 0xE0), (3, 0xF0)):
        has = first >= least
        out[np.minimum(lead[has] + k, last)] = kind[has]
    joining = lead[kind == _JOINING]
    for _ in range(3):  # a letter carries rarely more than three marks
        before = np.where(joining > 0, out[np.maximum(joining - 1, 0)], GAP)
        size = 2 if not len(joining) else np.where(data[joining] >= 0xE0, 3, 2)
        for k in range(3):
            at = joining + k
            keep = (k < size) & (before != _JOINING) & (at <= last)
            out[at[keep]] = before[keep]
        joining = joining[before == _JOINING]
    out[out == _JOINING] = GAP
    return _join_apostrophes(data, out, lead)


def _join_apostrophes(data: Bytes, out: Bytes, lead: Ints) -> Bytes:
    at = np.flatnonzero(data == 0x27)
    at = at[(at > 0) & (at < len(data) - 1)]
    at = at[(out[at - 1] == out[at + 1]) & (out[at - 1] != CJK)]
    out[at] = out[at - 1]
    curly = lead[lead < len(data) - 3]
    curly = curly[(data[curly] == 0xE2) & (data[curly + 1] == 0x80) & (data[curly + 2] == 0x99)]
    curly = curly[(curly > 0) & (curly < len(data) - 3)]
    curly = curly[(out[curly - 1] == out[curly + 3]) & (out[curly - 1] != CJK)]
    for k in range(3):
        out[curly + k] = out[curly - 1]
    return out


@dataclass(frozen=True, slots=True)
class Runs:
    """R runs of D texts.

    ``edge_R`` holds R + 1 byte offsets into ``data``; ``class_R`` the script; ``text_R`` the
    text; ``first_D`` holds D + 1 run offsets.
    """

    data: Bytes
    bounds_D: Ints
    edge_R: Ints
    class_R: Bytes
    text_R: npt.NDArray[np.int32]
    first_D: Ints

    def encode(self) -> tuple[npt.NDArray[np.int32], list[bytes]]:
        """Number the distinct runs: the number of each of the R, and the distinct ones."""
        slices = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(),
            len(self.edge_R) - 1,
            [None, pa.py_buffer(self.edge_R), pa.py_buffer(self.data)],
        )
        coded = slices.dictionary_encode()
        return coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()


def find_runs(texts: pl.Series) -> Runs:
    """Split texts into runs of one script.

    >>> runs = find_runs(pl.Series(["We say 所以 so", None]))
    >>> codes, vocabulary = runs.encode()
    >>> [(vocabulary[c].decode(), int(k)) for c, k in zip(codes, runs.class_R) if k]
    [('We', 1), ('say', 1), ('所以', 2), ('so', 1)]
    """
    data, bounds = utf8(texts)
    n_texts = len(bounds) - 1
    if not len(data):
        none = np.zeros(0, dtype=np.int64)
        first = np.zeros(n_texts + 1, dtype=np.int64)
        return Runs(data, bounds, np.zeros(1, np.int64), data, none.astype(np.int32), first)
    kind = classify(data)
    is_edge = np.empty(len(data) + 1, dtype=np.bool_)
    is_edge[1:-1] = kind[1:] != kind[:-1]
    is_edge[bounds] = True
    edge = np.flatnonzero(is_edge)
    first = np.searchsorted(edge, bounds)
    text = np.repeat(np.arange(n_texts, dtype=np.int32), np.diff(first))
    return Runs(data, bounds, edge, kind[edge[:-1]], text, first)


def has_other_script(texts: pl.Series) -> npt.NDArray[np.bool_]:
    """Tell which texts hold letters of any script but Latin, at the cost of those letters alone.

    >>> has_other_script(pl.Series(["naïve – 3 × 4", "so 所以", None])).tolist()
    [False, True, False]
    """
    data, bounds = utf8(texts)
    # Every such letter has a first byte of at least CD (Greek begins at U+0370).
    lead = np.flatnonzero(data >= 0xCD)
    lead = lead[lead < len(data) - 1]
    first, second = data[lead], data[lead + 1]
    # E2 80 to E2 AF is punctuation, arrows and mathematics, F0 9D and 9F are letters of formulas
    # and emoji, E1 B8 to BB Latin with marks.
    sign = (first == 0xE2) & (second < 0xB0)
    sign |= (first == 0xF0) & (second != 0xA0)
    sign |= (first == 0xE1) & (second >= 0xB8) & (second <= 0xBB)
    at = lead[~sign]
    return np.diff(np.searchsorted(at, bounds)) > 0
