"""Texts as runs of one script: the first, cheap step of finding what language stands where.

A *run* is a stretch of letters of one script; runs of class 0 are gaps: spaces, digits,
punctuation, symbols. Mathematical letters (``ℝ``, ``𝑥``), full-width Latin and Roman numerals
count as symbols. Prose is what stands outside code, LaTeX and formulas, touches no digit or sign
of code and is no single letter. Names (capitals inside a sentence) are words, but of no language.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.scores._byte_arrays import Bools, Ints, utf8

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
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
    (24, "am", ((0x1200, 0x135F), (0x1380, 0x138F))),
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


# Bytes for one word (three for each character); 0 where spaces part the words.
_BYTES_PER_WORD = np.zeros(N_CLASSES)
for _number, _chars in CHARS_PER_WORD.items():
    _BYTES_PER_WORD[_number] = 3 * _chars


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


@dataclass(frozen=True, slots=True)
class Runs:
    """R runs of D texts in C scripts.

    ``edge_R`` holds R + 1 byte offsets into ``data``; ``class_R`` the script; ``first_D`` D + 1 run
    numbers; ``mark_R`` the bits of ``scan_kernels``. ``count_R`` is the words in a run, an
    estimate in scripts without spaces; 0 for gaps and for what is no prose. ``main_D`` is the class
    in which most words stand, 0 for none; ``letters_D`` its bytes of prose; ``foreign_F`` the
    numbers of the runs in other scripts.
    """

    data: Bytes
    bounds_D: Ints
    edge_R: Ints
    class_R: Bytes
    mark_R: Bytes
    first_D: Ints
    count_R: Floats
    words_DC: Floats
    main_D: Ints
    letters_D: Ints
    foreign_F: Ints

    def text(self, begin: int, end: int) -> str:
        """Return the text between two byte offsets."""
        return self.data[begin:end].tobytes().decode(errors="ignore")


def find_runs(texts: pl.Series) -> Runs:
    """Split texts into runs of one script.

    >>> runs = find_runs(pl.Series(["We say 所以 so", None]))
    >>> [runs.text(*runs.edge_R[r : r + 2]) for r in range(7) if runs.class_R[r]]
    ['We', 'say', '所以', 'so']
    >>> runs.main_D.tolist(), runs.foreign_F.tolist()
    ([1, 0], [4])
    """
    from factory.scores.language import scan_kernels

    data, bounds_D = utf8(texts)
    n_texts, most = len(bounds_D) - 1, len(data)
    edge_R, mark_R = np.empty(most + 1, dtype=np.int64), np.empty(most, dtype=np.uint8)
    class_R, first_D = np.empty(most, dtype=np.uint8), np.zeros(n_texts + 1, dtype=np.int64)
    n = scan_kernels.scan(data, bounds_D, _code_points(), _ASCII, edge_R, class_R, mark_R, first_D)
    # The rooms were for one run at each byte: what is left over was never touched.
    edge_R, class_R, mark_R = edge_R[: n + 1], class_R[:n], mark_R[:n]
    count_R, foreign_F = np.empty(n, dtype=np.float64), np.empty(n, dtype=np.int64)
    words_DC = np.zeros((n_texts, N_CLASSES), dtype=np.float64)
    main_D, letters_D = np.zeros(n_texts, dtype=np.int64), np.zeros(n_texts, dtype=np.int64)
    n_foreign = scan_kernels.weigh(
        data, bounds_D, edge_R, class_R, mark_R, first_D, _BYTES_PER_WORD, count_R, words_DC,
        main_D, letters_D, foreign_F,
    )  # fmt: skip
    return Runs(
        data, bounds_D, edge_R, class_R, mark_R, first_D, count_R, words_DC, main_D, letters_D,
        foreign_F[:n_foreign],
    )  # fmt: skip


def has_other_script(texts: pl.Series) -> Bools:
    """Tell which texts hold letters of any script but Latin, at the cost of one look at each byte.

    >>> has_other_script(pl.Series(["naïve – 3 × 4", "so 所以", None])).tolist()
    [False, True, False]
    """
    from factory.scores.language import scan_kernels

    data, bounds_D = utf8(texts)
    out = np.zeros(len(bounds_D) - 1, dtype=np.bool_)
    scan_kernels.other_script(data, bounds_D, out)
    return out


@functools.cache
def lower_points() -> Ints:
    """Return the lower case of the first 8,192 code points, where it is one character."""
    out = np.arange(0x2000, dtype=np.int64)
    for point in range(0x41, 0x2000):
        lower = chr(point).lower()
        out[point] = ord(lower[0])
    return out
