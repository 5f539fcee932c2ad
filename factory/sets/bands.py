"""Pass rates per prompt, and bands of them: which prompts teach something in RL.

A prompt that all samples solve, or none, gives no advantage in GRPO and so no gradient.
"""

from __future__ import annotations

import polars as pl

from factory.errors import UsageError

BANDS = ("unsolved", "hard", "medium", "easy", "solved")
_EDGES = (0.25, 0.75)


def pass_rates(
    df: pl.DataFrame, *, status: str = "math_status", by: str = "prompt_id"
) -> pl.DataFrame:
    """Count verdicts per prompt.

    Args:
        df: one row per trace.
        status: column of ``pass``, ``fail``, ``unscored`` or null (no verdict).
        by: column of the prompt.

    Returns:
        One row per prompt, in order of appearance: ``by``, ``n`` (traces), ``n_scored``,
        ``n_pass``, ``pass_rate`` (of the scored; null where none is) and ``band``: ``unsolved``
        (0), ``hard`` (below 0.25), ``medium``, ``easy`` (0.75 and above), ``solved`` (1); null
        where the rate is.

    >>> frame = pl.DataFrame({"prompt_id": ["p", "p", "q"],
    ...                       "math_status": ["pass", "fail", "unscored"]})
    >>> pass_rates(frame).select("n_scored", "pass_rate", "band").rows()
    [(2, 0.5, 'medium'), (0, None, None)]
    """
    for name in (status, by):
        if name not in df.columns:
            raise UsageError(f"no column {name!r}", f"it has {', '.join(df.columns)}")
    is_pass = pl.col(status) == "pass"
    counted = df.group_by(by, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("n"),
        pl.col(status).is_in(["pass", "fail"]).sum().cast(pl.Int64).alias("n_scored"),
        is_pass.sum().cast(pl.Int64).alias("n_pass"),
    )
    some = pl.when(pl.col("n_scored") > 0)
    counted = counted.with_columns(
        some.then(pl.col("n_pass") / pl.col("n_scored")).alias("pass_rate")
    )
    rate = pl.col("pass_rate")
    band = (
        pl.when(rate == 0).then(pl.lit(BANDS[0]))
        .when(rate < _EDGES[0]).then(pl.lit(BANDS[1]))
        .when(rate < _EDGES[1]).then(pl.lit(BANDS[2]))
        .when(rate < 1).then(pl.lit(BANDS[3]))
        .when(rate == 1).then(pl.lit(BANDS[4]))
    )  # fmt: skip
    return counted.with_columns(band.alias("band"))


def in_band(rates: pl.DataFrame, *, low: float, high: float, min_scored: int = 1) -> pl.DataFrame:
    """Add ``is_in_band``: low <= pass_rate <= high on at least ``min_scored`` verdicts.

    Null where fewer verdicts are there: too few samples are no statement about a prompt.

    Raises:
        UsageError: the bounds are not 0 <= low <= high <= 1.

    >>> rates = pl.DataFrame({"pass_rate": [0.0, 0.5, None], "n_scored": [4, 4, 0]})
    >>> in_band(rates, low=0.1, high=0.9)["is_in_band"].to_list()
    [False, True, None]
    """
    if not 0 <= low <= high <= 1:
        raise UsageError(f"the band [{low}, {high}] is empty or outside [0, 1]")
    inside = pl.col("pass_rate").is_between(low, high)
    enough = pl.col("n_scored") >= max(1, min_scored)
    return rates.with_columns(pl.when(enough).then(inside).alias("is_in_band"))
