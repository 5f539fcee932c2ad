"""What several scores share: which half is judged, and what a word is."""

from __future__ import annotations

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
