"""Reflection in the thinking: how often the ten words that rise during R1-Zero's training occur.

The words are those that three experts chose (DeepSeek-R1, Nature 2025, supplement C.2): wait,
mistake, however, but, retry, error, verify, wrong, evaluate, check, with their inflections, and
their Chinese counterparts. ``wait`` is counted apart as well, since it appears late and suddenly.

Rates are per 1,000 words of the half that is judged: the reasoning, or the whole completion where
there is none. A rate per 1,000 tokens is ``n_reflective * 1000 / reasoning_tokens`` where the trace
has a token count.
"""

from __future__ import annotations

import polars as pl

from factory.scores._text import WORD, judged

VERSION = 1
READS = ("completion", "reasoning")
WRITES = {
    "n_reflective": "int",
    "n_wait": "int",
    "reflective_per_1k_words": "float",
    "wait_per_1k_words": "float",
}
MEANINGS = {
    "n_reflective": "reflective words (wait, mistake, however, but, retry, error, verify …)",
    "n_wait": "of these, the word wait and its Chinese counterparts",
    "reflective_per_1k_words": "reflective words per 1,000 words",
    "wait_per_1k_words": "wait per 1,000 words",
}

WAIT = r"\bwait\b|等等|等一下|等下|稍等|且慢"
OTHERS = (
    r"\b(?:mistakes?|mistaken|however|but|retry|retries|retried|errors?"
    r"|verif(?:y|ies|ied|ying)|wrong|evaluat(?:e|es|ed|ing)|check(?:s|ed|ing)?)\b"
    r"|不过|然而|但是?|可是|错误|错了|弄错|搞错|重试|再试|验证|核实|检验|检查|评估|不对"
)


def score(df: pl.DataFrame) -> pl.DataFrame:
    """Count reflective words; null where the text is null, rates null where it has no word.

    Args:
        df: columns ``completion`` and ``reasoning``, text, N rows.

    Returns:
        N rows with the columns of ``WRITES``.

    >>> df = pl.DataFrame({"completion": [""], "reasoning": ["Wait, but is it wrong? 等等"]})
    >>> score(df).row(0)
    (4, 2, 571.4285714285714, 285.7142857142857)
    """
    text = pl.col("judged")
    counted = df.select(judged()).select(
        text.str.count_matches(f"(?i){WAIT}").cast(pl.Int64).alias("n_wait"),
        text.str.count_matches(f"(?i){OTHERS}").cast(pl.Int64).alias("n_others"),
        text.str.count_matches(WORD).alias("n_words"),
    )
    words = pl.when(pl.col("n_words") > 0).then(pl.col("n_words"))
    return counted.with_columns(
        (pl.col("n_wait") + pl.col("n_others")).alias("n_reflective")
    ).select(
        "n_reflective",
        "n_wait",
        (pl.col("n_reflective") * 1000 / words).alias("reflective_per_1k_words"),
        (pl.col("n_wait") * 1000 / words).alias("wait_per_1k_words"),
    )
