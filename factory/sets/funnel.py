"""The funnel: named SQL predicates over traces, every one evaluated for every trace.

A predicate that is NULL does not keep the row and is counted as undefined. Since no filter hides
a row from the next, the counts do not depend on their order and say what each alone would drop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import polars as pl

from factory.errors import UsageError

if TYPE_CHECKING:
    import duckdb

RELATION = "wide"


@dataclass(frozen=True, slots=True)
class Count:
    """What one filter does to the rows.

    Attributes:
        n_in: rows before any filter; the same for all.
        n_dropped: rows that it does not keep (false or undefined).
        n_dropped_only: rows that it does not keep and all others do.
        n_undefined: rows for which it is NULL; part of ``n_dropped``.
    """

    name: str
    sql: str
    n_in: int
    n_dropped: int
    n_dropped_only: int
    n_undefined: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """Counts per filter, and which rows all of them keep.

    Attributes:
        counts: one for each filter, in their order.
        keep: Boolean, one per row, never null.
        flags: one nullable Boolean column per filter.
    """

    counts: list[Count]
    keep: pl.Series
    flags: pl.DataFrame

    def table(self) -> pl.DataFrame:
        """Return the counts as a frame."""
        return pl.DataFrame([asdict(count) for count in self.counts])


def check_filters(con: duckdb.DuckDBPyConnection, filters: Mapping[str, str]) -> None:
    """Bind every predicate against ``wide``, which may be empty, before any work.

    Raises:
        UsageError: one is no Boolean expression over its columns; the message names it.
    """
    import duckdb

    for name, sql in filters.items():
        try:
            # A line break, so that a comment at the end of a predicate hides nothing.
            bound = con.execute(f"SELECT (\n{sql}\n) FROM {RELATION} LIMIT 0")
        except duckdb.Error as error:
            why = " ".join(str(error).split("LINE 1")[0].split())
            raise UsageError(f"filter {name!r} ({sql}) does not bind: {why}") from None
        columns = bound.description or []
        kind = str(columns[0][1]).upper() if len(columns) == 1 else "several columns"
        if kind not in ("BOOLEAN", "BOOL", '"NULL"', "NULL"):
            raise UsageError(f"filter {name!r} ({sql}) gives {kind}", "write a comparison")


def evaluate(con: duckdb.DuckDBPyConnection, filters: Mapping[str, str]) -> pl.DataFrame:
    """Evaluate every filter on every row of ``wide``: one nullable Boolean column per filter.

    Rows are in the order in which ``wide`` gives them.

    Raises:
        UsageError: a filter does not bind.
    """
    import duckdb

    check_filters(con, filters)
    columns = ", ".join(f"(\n{sql}\n)::BOOLEAN AS {_quoted(name)}" for name, sql in filters.items())
    try:
        relation = con.sql(f"SELECT {columns or 'true AS __none'} FROM {RELATION}")
        frame = pl.DataFrame(relation.to_arrow_table())
    except duckdb.Error as error:
        raise UsageError(f"a filter fails on a row: {str(error).splitlines()[0]}") from None
    return frame if filters else frame.drop("__none")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def funnel(source: pl.DataFrame | duckdb.DuckDBPyConnection, filters: Mapping[str, str]) -> Funnel:
    """Apply named filters to a frame, or to the relation ``wide`` of a DuckDB connection.

    Args:
        source: rows. A frame is bound as ``wide`` in a connection of its own, which reads no file.
        filters: name → SQL Boolean expression over the columns.

    Raises:
        UsageError: a filter does not bind; the message names it.

    >>> frame = pl.DataFrame({"n": [1, 5, None, 9], "ok": [True, True, True, False]})
    >>> funnel(frame, {"short": "n < 6", "right": "ok"}).table().rows()
    [('short', 'n < 6', 4, 2, 1, 1), ('right', 'ok', 4, 1, 0, 0)]
    """
    if not isinstance(source, pl.DataFrame):
        n_rows = source.execute(f"SELECT count(*) FROM {RELATION}").fetchone()
        flags = evaluate(source, filters)
        return _funnel(flags, filters, int(n_rows[0]) if n_rows else 0)
    import duckdb

    with duckdb.connect(config={"enable_external_access": "false"}) as con:
        con.register(RELATION, source.to_arrow())
        return _funnel(evaluate(con, filters), filters, source.height)


def _funnel(flags: pl.DataFrame, filters: Mapping[str, str], n_rows: int) -> Funnel:
    names = list(filters)
    if names and flags.height != n_rows:
        raise UsageError(
            f"the filters give {flags.height} values for {n_rows} rows",
            "a filter speaks of one row: no aggregate, no unnest",
        )
    n_failed = pl.sum_horizontal(
        pl.lit(0, dtype=pl.Int64), *((~pl.col(n).fill_null(False)).cast(pl.Int64) for n in names)
    )
    keep = flags.select((n_failed == 0).alias("keep")).to_series()
    if not names:
        keep = pl.repeat(True, n_rows, dtype=pl.Boolean, eager=True).alias("keep")
    failed_one = flags.select((n_failed == 1).alias("one")).to_series() if names else keep
    counts = []
    for name in names:
        failed = ~flags[name].fill_null(False)
        counts.append(
            Count(
                name, filters[name], n_rows, int(failed.sum()),
                int((failed & failed_one).sum()), flags[name].null_count(),
            )
        )  # fmt: skip
    return Funnel(counts, keep, flags)


def compose(
    *presets: Mapping[str, str],
    own: Mapping[str, str | None] | None = None,
    off: Sequence[str] = (),
) -> dict[str, str]:
    """Join presets and a recipe's own filters; own ones replace, null or ``off`` switches off.

    Raises:
        UsageError: ``off`` names a filter that is not there.

    >>> compose({"a": "x > 1", "b": "y"}, own={"a": "x > 2", "b": None})
    {'a': 'x > 2'}
    """
    joined: dict[str, str | None] = {}
    for preset in presets:
        joined |= preset
    joined |= own or {}
    for name in off:
        if name not in joined:
            raise UsageError(f"there is no filter {name!r} to switch off", ", ".join(joined))
    return {name: sql for name, sql in joined.items() if sql is not None and name not in off}
