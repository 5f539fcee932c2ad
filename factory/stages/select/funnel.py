"""The funnel: named SQL predicates over traces, every one evaluated for every trace.

A predicate that is NULL does not keep the row and is counted as undefined. Since no filter hides
a row from the next, what a filter drops, and what it alone would drop, does not depend on the
order; only ``n_in`` and ``n_dropped_here``, which tell the way from top to bottom, do.

``select`` counts its own steps (caps, duplicates) with the same code as ``funnel``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from factory.errors import UsageError

if TYPE_CHECKING:
    import duckdb

RELATION = "wide"


@dataclass(frozen=True, slots=True)
class Step:
    """One reason to drop.

    Attributes:
        name: unique name.
        sql: the predicate, or what the step does in words.
        is_on: False: evaluated and counted, but drops nothing.
        passed: nullable Boolean, one per row; null is undefined.
    """

    name: str
    sql: str
    is_on: bool
    passed: pl.Series


@dataclass(frozen=True, slots=True)
class Count:
    """What one step does to the rows.

    Attributes:
        n_in: rows that the steps before it left.
        n_dropped_here: those of them that it drops.
        n_dropped: rows, of all, that it does not keep (false or undefined).
        n_dropped_only: rows that it does not keep and all other steps do.
        n_undefined: rows for which it is NULL; part of ``n_dropped``.
    """

    name: str
    sql: str
    is_on: bool
    n_in: int
    n_dropped: int
    n_dropped_here: int
    n_dropped_only: int
    n_undefined: int

    def row(self) -> dict[str, Any]:
        """Return it as a manifest holds it."""
        return asdict(self)


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
        return pl.DataFrame([count.row() for count in self.counts])


def check_filters(con: duckdb.DuckDBPyConnection, filters: Mapping[str, str]) -> None:
    """Bind every predicate against ``wide``, which may be empty, before any work.

    Raises:
        UsageError: one is no Boolean expression over the columns of one row; the message names it.
    """
    import duckdb

    wide = con.execute(f"SELECT * FROM {RELATION} LIMIT 0").description or []
    known = {str(column[0]).lower() for column in wide}
    for name, sql in filters.items():
        # All columns beside it, so that an aggregate does not bind.
        query = f"SELECT *, {predicate(sql)} FROM {RELATION} LIMIT 0"
        try:
            if len(con.extract_statements(query)) != 1:
                raise UsageError(
                    f"filter {name!r} is more than one statement", "give one expression"
                )
            _refuse_inconstant(con, name, sql, known)
            columns = con.execute(query).description or []
        except duckdb.Error as error:
            why = " ".join(re.split(r"LINE \d", str(error))[0].split())[:240]
            todo = "`factory show wide` names its columns"
            if "GROUP BY" in why:
                why = "a filter speaks of one row: no aggregate"
            elif '"' in sql and "not found" in why:
                todo = "text stands in single quotes, such as 'pass'"
            raise UsageError(f"filter {name!r} ({sql}) does not bind: {why}", todo) from None
        kind = str(columns[-1][1]).upper() if len(columns) == len(wide) + 1 else "several columns"
        if kind not in ("BOOLEAN", "BOOL", '"NULL"', "NULL"):
            raise UsageError(f"filter {name!r} ({sql}) gives {kind}", "write a comparison")


@functools.cache
def _inconstant() -> frozenset[str]:
    """Return DuckDB's functions that another day would answer otherwise."""
    import duckdb

    asked = "SELECT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
    with duckdb.connect() as con:
        return frozenset(str(row[0]) for row in con.execute(asked).fetchall())


def _refuse_inconstant(
    con: duckdb.DuckDBPyConnection, name: str, sql: str, known: Set[str]
) -> None:
    """Refuse what is no expression by itself, and what another day would answer otherwise.

    Args:
        con: a connection.
        name: the filter's, for the message.
        sql: its predicate.
        known: columns of ``wide``, in small letters.
    """
    asked = "SELECT json_serialize_sql(?)"
    row = con.execute(asked, [f"SELECT {sql}\n"]).fetchone()
    parsed = orjson.loads(row[0]) if row else {}
    if parsed.get("error"):
        raise UsageError(
            f"filter {name!r} ({sql}) is no expression by itself", "close what it opens"
        )
    called = sorted(_names(parsed, known) & _inconstant())
    if called:
        raise UsageError(
            f"filter {name!r} ({sql}) calls {called[0]}, which changes from run to run",
            "a decision must be the same again: compare columns; to thin out, use max_rows",
        )


def _names(node: Any, known: Set[str]) -> set[str]:
    """Return the functions that a parsed statement calls, and names that are no known column."""
    if isinstance(node, list):
        return {name for item in node for name in _names(item, known)}
    if not isinstance(node, dict):
        return set()
    own = {str(node["function_name"]).lower()} if "function_name" in node else set()
    columns = node.get("column_names")
    if isinstance(columns, list) and len(columns) == 1:
        own |= {str(columns[0]).lower()} - known
    return own | {name for item in node.values() for name in _names(item, known)}


def predicate(sql: str) -> str:
    """Return a filter as one SQL expression; a comment at its end hides nothing after it."""
    return f"(\n{sql}\n)"


def failed_on_a_row(error: duckdb.Error) -> UsageError:
    """Explain a filter that binds and fails on some value, such as a cast."""
    return UsageError(f"a filter fails on a row: {str(error).splitlines()[0][:240]}")


def evaluate(con: duckdb.DuckDBPyConnection, filters: Mapping[str, str]) -> pl.DataFrame:
    """Evaluate every filter on every row of ``wide``: one nullable Boolean column per filter.

    Rows are in the order in which ``wide`` gives them.

    Raises:
        UsageError: a filter does not bind.
    """
    import duckdb

    check_filters(con, filters)
    columns = ", ".join(
        f"{predicate(sql)}::BOOLEAN AS {_quoted(name)}" for name, sql in filters.items()
    )
    try:
        relation = con.sql(f"SELECT {columns or 'true AS __none'} FROM {RELATION}")
        frame = pl.DataFrame(relation.to_arrow_table())
    except duckdb.Error as error:
        raise failed_on_a_row(error) from None
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
    >>> counts = funnel(frame, {"short": "n < 6", "right": "ok"}).table()
    >>> counts.select("name", "n_in", "n_dropped", "n_dropped_only", "n_undefined").rows()
    [('short', 4, 2, 1, 1), ('right', 2, 1, 0, 0)]
    """
    if not isinstance(source, pl.DataFrame):
        found = source.execute(f"SELECT count(*) FROM {RELATION}").fetchone()
        return _funnel(evaluate(source, filters), filters, int(found[0]) if found else 0)
    import duckdb

    with duckdb.connect(config={"enable_external_access": "false"}) as con:
        con.register(RELATION, source.to_arrow())
        return _funnel(evaluate(con, filters), filters, source.height)


def _funnel(flags: pl.DataFrame, filters: Mapping[str, str], n_rows: int) -> Funnel:
    if filters and flags.height != n_rows:
        raise UsageError(
            f"the filters give {flags.height} values for {n_rows} rows",
            "a filter speaks of one row: no aggregate, no unnest",
        )
    steps = [Step(name, sql, True, flags[name]) for name, sql in filters.items()]
    return Funnel(count_steps(steps, n_rows), keep_all(steps, n_rows), flags)


def keep_all(steps: Sequence[Step], n_rows: int) -> pl.Series:
    """Return which rows every step that is on keeps: Boolean, never null."""
    keep = pl.repeat(True, n_rows, dtype=pl.Boolean, eager=True).alias("keep")
    for step in steps:
        if step.is_on:
            keep = keep & step.passed.fill_null(False)
    return keep.alias("keep")


def count_steps(steps: Sequence[Step], n_rows: int) -> list[Count]:
    """Count for each step, in order, what it drops: by itself, after the others, alone.

    A step that is off drops nothing; its ``n_dropped`` says what it would not keep.
    """
    n_failed = pl.repeat(0, n_rows, dtype=pl.Int32, eager=True)
    for step in steps:
        if step.is_on:
            n_failed = n_failed + (~step.passed.fill_null(False)).cast(pl.Int32)
    counts = []
    alive = keep_all([], n_rows)
    for step in steps:
        dropped = ~step.passed.fill_null(False)
        n_only = int((dropped & (n_failed == 1)).sum()) if step.is_on else 0
        counts.append(
            Count(
                name=step.name,
                sql=step.sql,
                is_on=step.is_on,
                n_in=int(alive.sum()),
                n_dropped=int(dropped.sum()),
                n_dropped_here=int((alive & dropped).sum()) if step.is_on else 0,
                n_dropped_only=n_only,
                n_undefined=step.passed.null_count(),
            )
        )
        if step.is_on:
            alive = alive & ~dropped
    return counts


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
