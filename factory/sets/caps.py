"""Caps per group, and the choice among right traces of one prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from factory.errors import UsageError

CHOICES: Mapping[str, tuple[str, bool]] = {
    "first": ("sample_index", False),
    "shortest": ("completion_words", False),
    "longest": ("completion_words", True),
    "most_readable": ("readability", True),
}
"""Name → (column, whether the highest value is best)."""
_BY_COLUMN = re.compile(r"(highest|lowest)\s+([A-Za-z_][A-Za-z0-9_]*)")


def order_sql(choose: str) -> str:
    """Return the SQL order of a choice; null and not-a-number come last.

    Args:
        choose: a name of ``CHOICES``, ``highest COLUMN`` or ``lowest COLUMN`` (such as a reward
            model's score), or a SQL order, which is returned as it is.

    >>> order_sql("shortest")
    'completion_words ASC NULLS LAST'
    >>> order_sql("highest rm_score")
    'CASE WHEN NOT isnan(rm_score::DOUBLE) THEN rm_score END DESC NULLS LAST'
    """
    by_column = _BY_COLUMN.fullmatch(choose.strip())
    if by_column:
        column, descending = by_column[2], by_column[1] == "highest"
        value = f"CASE WHEN NOT isnan({column}::DOUBLE) THEN {column} END"
    elif choose in CHOICES:
        column, descending = CHOICES[choose]
        value = column
        if choose == "most_readable":
            value = f"CASE WHEN NOT isnan({column}) THEN {column} END"
    else:
        return choose
    return f"{value} {'DESC' if descending else 'ASC'} NULLS LAST"


def cap(
    df: pl.DataFrame,
    *,
    limit: int,
    by: str = "prompt_id",
    choose: str = "first",
    highest: bool | None = None,
    among: pl.Series | None = None,
) -> pl.Series:
    """Keep at most ``limit`` rows of each group.

    Args:
        df: rows with a ``by`` column and that of the choice.
        limit: rows to keep of each group, at least 1.
        by: column of the group; a null is a group of its own row and is kept.
        choose: a name of ``CHOICES`` or any column, such as a reward model's score.
        highest: for a column: keep its highest values (default) or its lowest.
        among: Boolean, one per row: rows that compete; the others are not kept and take no place.

    Returns:
        Boolean ``keep``, one per row in order. Null values of the choice come last, ties are
        settled by ``trace_id`` where there is one, else by row.

    Raises:
        UsageError: a column is missing or ``limit`` is below 1.

    >>> frame = pl.DataFrame({"prompt_id": ["p", "p", "q"], "completion_words": [9, 4, 7]})
    >>> cap(frame, limit=1, choose="shortest").to_list()
    [False, True, True]
    """
    if limit < 1:
        raise UsageError(f"limit {limit} is below 1", "leave the cap out to keep all")
    column, descending = CHOICES.get(choose, (choose, highest is not False))
    for name in (by, column):
        if name not in df.columns:
            raise UsageError(f"no column {name!r}", f"it has {', '.join(df.columns)}")
    tie = ["trace_id"] if "trace_id" in df.columns else []
    rows = df.select(by, *dict.fromkeys([column, *tie])).with_row_index("__row")
    if among is not None:
        rows = rows.filter(among.fill_null(False))
    if rows.schema[column].is_float():
        rows = rows.with_columns(pl.col(column).fill_nan(None))
    order = [pl.col(column), *map(pl.col, tie), pl.col("__row")]
    rows = rows.sort(order, descending=[descending] + [False] * (len(order) - 1), nulls_last=True)
    place = pl.int_range(pl.len()).over(by)
    kept = rows.filter((place < limit) | pl.col(by).is_null())["__row"]
    return _mask(df.height, kept)


def _mask(height: int, rows: pl.Series) -> pl.Series:
    keep = pl.repeat(False, height, dtype=pl.Boolean, eager=True).alias("keep")
    return keep.scatter(rows, True) if len(rows) else keep
