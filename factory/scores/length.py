"""Lengths in characters and words, of the whole completion and of its two halves.

A *word* is a run of letters, digits and marks, with apostrophes inside it; in scripts that are
written without spaces (Han, kana, Thai, Lao, Khmer, Burmese) each character counts as one. Token
counts are no score: a trace that an engine made carries its own (``reasoning_tokens`` and so on).
"""

from __future__ import annotations

import polars as pl

from factory.scores._text import WORD

VERSION = 1
READS = ("completion", "reasoning", "answer")
WRITES = {
    f"{part}_{unit}": "int"
    for part in ("completion", "reasoning", "answer")
    for unit in ("chars", "words")
}
MEANINGS = {
    f"{part}_{unit}": f"{name} of the {part}"
    for part in ("completion", "reasoning", "answer")
    for unit, name in (("chars", "characters"), ("words", "words"))
}


def score(df: pl.DataFrame) -> pl.DataFrame:
    """Return the six lengths; null where the half is null.

    Args:
        df: columns ``completion``, ``reasoning``, ``answer``, text, N rows.

    Returns:
        N rows with the columns of ``WRITES``.

    >>> score(pl.DataFrame({"completion": ["I don't know 你好"], "reasoning": [""],
    ...     "answer": [None]}, schema_overrides={"answer": pl.String})).row(0)
    (15, 5, 0, 0, None, None)
    """
    parts = ("completion", "reasoning", "answer")
    return df.select(
        expression
        for part in parts
        for expression in (
            pl.col(part).str.len_chars().cast(pl.Int64).alias(f"{part}_chars"),
            pl.col(part).str.count_matches(WORD).cast(pl.Int64).alias(f"{part}_words"),
        )
    )
