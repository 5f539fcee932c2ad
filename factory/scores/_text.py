"""What several scores share: which half is judged, and what a word is."""

from __future__ import annotations

import functools
import sys

import numpy as np
import numpy.typing as npt
import polars as pl

# Scripts that are written without spaces between words.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[\p{{L}}\p{{M}}\p{{N}}--[{UNSPACED}]]"
# A run of letters, marks and digits with apostrophes inside, or one character of those scripts.
WORD = rf"[{UNSPACED}]|{_LETTER}+(?:['’]{_LETTER}+)*"


def judged() -> pl.Expr:
    """Return the half that style scores judge: the reasoning, or all where it is blank.

    >>> frame = pl.DataFrame({"completion": ["a", "b", None], "reasoning": ["x", " ", None]})
    >>> frame.select(judged()).to_series().to_list()
    ['x', 'b', None]
    """
    reasoning = pl.col("reasoning")
    has_any = reasoning.str.contains(r"\S").fill_null(False)
    return pl.when(has_any).then(reasoning).otherwise(pl.col("completion")).alias("judged")


@functools.cache
def char_kinds() -> npt.NDArray[np.uint8]:
    """Return the bits of ``readability.line_kernels`` of each code point, shape (0x110000,).

    >>> kinds = char_kinds()
    >>> [int(kinds[ord(c)]) for c in "aé好٣\ufffd "]
    [1, 1, 3, 4, 8, 0]
    """
    import regex

    from factory.scores.readability.line_kernels import BROKEN, DIGIT, EASTERN, LETTER

    table = np.zeros(sys.maxunicode + 1, dtype=np.uint8)
    # A place for each surrogate, so that an offset is a code point.
    chars = "".join(map(chr, range(0xD800))) + " " * 0x800
    chars += "".join(map(chr, range(0xE000, sys.maxunicode + 1)))
    for bit, pattern in (
        (LETTER, r"\p{L}+"),
        (EASTERN, r"[\p{Han}\p{Hiragana}\p{Katakana}]+"),
        (DIGIT, r"\p{Nd}+"),
        # Replacement, control, private-use and zero-width characters.
        (BROKEN, r"[\uFFFD\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\uE000-\uF8FF\u200B\u2060\uFEFF]+"),
    ):
        for match in regex.finditer(pattern, chars):
            table[match.start() : match.end()] |= bit
    return table
