"""Selection: which traces of a stored universe a dataset keeps, and why the others are dropped.

A decision can be taken again in seconds: filters are named SQL predicates over ``wide``, what
depends on the whole set (near-duplicates, contamination, caps, mixtures) is computed by
``factory.sets``. Every filter is evaluated for every trace, so the funnel shows overlaps and what
each alone would drop. A predicate that is NULL does not keep the row and is counted as undefined.
The first step leaves out what is evaluation (``factory.stages.select.evaluation``), so that no test
problem gets into a training set because nobody thought of it.

Memory: keys, labels and one flag per filter of every trace of the universe; texts and the other
columns of ``wide`` are read by the batch, and DuckDB spills to disk beyond ``MEMORY``.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from factory.errors import UsageError
from factory.sets.caps import order_sql
from factory.stages.reading import OnCount
from factory.stages.select import funnel
from factory.stages.select.evaluation import SAYS, not_evaluation, splits_of
from factory.stages.select.recipe import (
    NOT_EVALUATION,
    Decontaminate,
    Diversity,
    Mixture,
    NearDuplicates,
    PassRates,
    Selection,
    Universe,
)
from factory.stages.select.set_steps import columns_needed, set_steps
from factory.store import Store, wide
from factory.store.durable import TMP_PREFIX, is_writable
from factory.store.wide import literal, quoted

__all__ = [
    "Decontaminate", "Diversity", "Mixture", "NearDuplicates", "PassRates", "Selected",
    "Selection", "Universe", "check_filters", "open_wide", "select",
]  # fmt: skip
CATEGORICAL = ("source", "split", "domain", "level", "prompt_language", "verifier", "status")
"""Columns of ``wide`` that are part of a release's version, beside the texts."""
MEMORY = "1GB"
BATCH_ROWS = 20_000


@dataclass(frozen=True)
class Selected:
    """Result of a selection.

    Attributes:
        keys: kept traces, sorted by trace_id: trace_id, prompt_id, text_hash and ``CATEGORICAL``.
        decisions: one row per trace of the universe: trace_id, is_kept, dropped_by, undefined_by
            (lists of filter names).
        funnel: one row per step: name, sql, is_on, n_in, n_dropped, n_dropped_here,
            n_dropped_only, n_undefined.
        recipe: what was asked.
        labels: plug-in → ``name@VERSION`` in force.
        wide_sql: SELECT over the store's parts of that moment, which are never changed.
    """

    keys: pl.DataFrame
    decisions: pl.DataFrame
    funnel: list[dict[str, Any]]
    recipe: Selection
    labels: dict[str, str]
    store: Store
    wide_sql: str

    @cached_property
    def kept(self) -> pl.DataFrame:
        """Kept traces, sorted by trace_id, with all columns of wide (use ``batches`` for many)."""
        frames = list(self.batches())
        return pl.concat(frames).sort("trace_id") if frames else self._empty()

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the kept traces with all columns of wide, in no order, ``BATCH_ROWS`` at a time."""
        if self.keys.is_empty():
            return
        with open_wide(self.store, self.wide_sql) as con:
            con.register("_kept", self.keys.select("trace_id").to_arrow())
            found = con.sql("SELECT * FROM wide WHERE trace_id IN (SELECT trace_id FROM _kept)")
            for batch in found.to_arrow_reader(BATCH_ROWS):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame

    def _empty(self) -> pl.DataFrame:
        with open_wide(self.store, self.wide_sql) as con:
            return pl.DataFrame(con.sql("SELECT * FROM wide LIMIT 0").to_arrow_table())


def check_filters(
    filters: Mapping[str, str | None], *, verifiers: Sequence[str], scores: Sequence[str]
) -> None:
    """Bind every predicate against the empty wide view, before any work starts.

    Args:
        filters: name → predicate, as in a recipe; null is a preset's that is taken out.
        verifiers: verifiers whose columns may be named.
        scores: scores, likewise.

    Raises:
        UsageError: a predicate that names no such column or is no SQL; it is named.
    """
    with duckdb.connect(":memory:") as con:
        wide.empty_wide(con, verifiers, scores)
        given = {name: sql for name, sql in filters.items() if sql is not None}
        funnel.check_filters(con, given)


def select(
    store: Store,
    recipe: Selection,
    *,
    trace_ids: pl.Series | None = None,
    verifiers: Sequence[str] = (),
    scores: Sequence[str] = (),
    on_count: OnCount | None = None,
) -> Selected:
    """Decide which traces of the universe are kept.

    Args:
        store: facts; open segments are sealed first.
        recipe: universe, presets, filters, sets.
        trace_ids: the universe as explicit keys, within that of the recipe (a policy's own).
        verifiers: verifiers whose columns the filters may name even without any fact.
        scores: scores, likewise.
        on_count: called before the filters, and by the set steps after every batch of texts.

    Raises:
        UsageError: a filter does not bind, ``disabled`` names one that is not there, or the
            universe names what the store does not have.
    """
    filters = recipe.all_filters()
    recipe.steps()  # refuses stray names before any work
    store.seal()
    sql = wide.wide_sql(store, recipe.versions, verifiers=verifiers, scores=scores)
    labels = {p.name: p.label for p in wide.choose(wide.stored_plugs(store), recipe.versions)}
    said = " ".join([*filters.values(), recipe.universe.where or "", recipe.prefer])
    if on_count is not None:
        on_count("filters", 0, 0)
    has_texts = re.search(rf"\b({'|'.join(wide.TEXTS)})\b", said) is not None
    with open_wide(store, wide.with_texts(store, sql) if has_texts else sql) as con:
        funnel.check_filters(con, filters)
        _refuse_unknown(con, store, recipe.universe)
        frame = _universe(con, store, recipe, filters, trace_ids).sort("trace_id")
    asked = recipe.universe
    train = not_evaluation(store, frame, splits=asked.splits or (), runs=asked.runs or ())
    is_on = NOT_EVALUATION not in recipe.disabled
    frame = frame.with_columns(_counts=train if is_on else pl.lit(True))
    steps = [funnel.Step(NOT_EVALUATION, SAYS, is_on, train)]
    steps += [
        funnel.Step(name, sql_of, name not in recipe.disabled, frame[f"_f{i}"])
        for i, (name, sql_of) in enumerate(filters.items())
    ]
    frame = frame.drop([f"_f{i}" for i in range(len(filters))])
    alive = funnel.keep_all(steps, frame.height)
    steps += set_steps(store, recipe, frame, alive, on_count)
    keep = funnel.keep_all(steps, frame.height)
    counts = [count.row() for count in funnel.count_steps(steps, frame.height)]
    keys = frame.select("trace_id", "prompt_id", "text_hash", *CATEGORICAL).filter(keep)
    decisions = _decisions(frame["trace_id"], steps, keep)
    return Selected(keys, decisions, counts, recipe, labels, store, sql)


@contextlib.contextmanager
def open_wide(store: Store, wide_sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB with the view ``wide``; it reads the store's parts and nothing else.

    A recipe's predicate may come from anybody: with external access off it can open no file.
    """
    parts = [p for paths in wide.part_lists(store).values() for p in paths]
    place = store.root if is_writable(store.root) else None  # else where temporary files go
    spill = Path(tempfile.mkdtemp(prefix=TMP_PREFIX, dir=place))
    try:
        with duckdb.connect(":memory:") as con:
            for setting in (
                f"SET temp_directory = {literal(str(spill.absolute()))}",
                f"SET memory_limit = {literal(MEMORY)}",
                "SET preserve_insertion_order = false",
                "SET python_enable_replacements = false",
                f"SET allowed_paths = [{', '.join(literal(str(p.absolute())) for p in parts)}]",
                "SET enable_external_access = false",
                "SET lock_configuration = true",
            ):
                con.execute(setting)
            con.execute(f"CREATE TEMP VIEW {funnel.RELATION} AS {wide_sql}")
            yield con
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _refuse_unknown(con: duckdb.DuckDBPyConnection, store: Store, universe: Universe) -> None:
    """Refuse names that nothing bears: a slip of the pen would select nothing, silently."""
    model = "model || '@' || revision"
    for field, column in (
        ("sources", "source"), ("samplings", "sampling_id"), ("runs", "run_id"), ("models", "model")
    ):  # fmt: skip
        wanted = getattr(universe, field)
        if wanted is None:
            continue
        names = f"[{column}, {model}]" if field == "models" else f"[{column}]"
        have = con.sql(f"SELECT DISTINCT unnest({names}) FROM wide WHERE {column} IS NOT NULL")
        _refuse(field, wanted, [row[0] for row in have.fetchall()])
    if universe.splits is not None:
        _refuse("splits", universe.splits, splits_of(store)["split"].drop_nulls().to_list())


def _refuse(field: str, wanted: Sequence[str], have: Sequence[str]) -> None:
    if stray := sorted(set(wanted) - set(have)):
        there = ", ".join(sorted(set(have))[:12]) or "none"
        raise UsageError(
            f"universe.{field} names {', '.join(stray)}, of which the store has no trace",
            f"there is {there}",
        )


def _universe(
    con: duckdb.DuckDBPyConnection,
    store: Store,
    recipe: Selection,
    filters: Mapping[str, str],
    trace_ids: pl.Series | None,
) -> pl.DataFrame:
    """Return keys, labels, ``_rank`` within the prompt and the filters' flags, ``_f0`` and on."""
    wheres, values = _wheres(recipe.universe)
    if trace_ids is not None:
        con.register("_wanted", trace_ids.alias("trace_id").to_frame().to_arrow())
        wheres.append("trace_id IN (SELECT trace_id FROM _wanted)")
    if recipe.universe.splits is not None:
        own = splits_of(store).filter(pl.col("split").is_in(recipe.universe.splits))
        con.register("_own", own.select("prompt_id").to_arrow())
        wheres.append("prompt_id IN (SELECT prompt_id FROM _own)")
    where = f" WHERE {' AND '.join(wheres)}" if wheres else ""
    order = order_sql(recipe.prefer)
    rank = f"row_number() OVER (PARTITION BY prompt_id ORDER BY {order}, trace_id) AS _rank"
    names = ["trace_id", "prompt_id", "run_id", "text_hash", *CATEGORICAL, *columns_needed(recipe)]
    columns = [quoted(name) for name in dict.fromkeys(names)]
    flags = [f"{funnel.predicate(p)}::BOOLEAN AS _f{i}" for i, p in enumerate(filters.values())]
    _check(con, f"SELECT {', '.join(columns)} FROM wide LIMIT 0", [], "a set step's column")
    _check(con, f"SELECT {rank} FROM wide{where} LIMIT 0", values, "universe.where or prefer")
    query = f"SELECT {', '.join([*columns, rank, *flags])} FROM wide{where}"
    try:
        frame = pl.DataFrame(con.sql(query, params=values).to_arrow_table())
    except duckdb.OutOfMemoryException as error:
        raise UsageError(
            f"selecting needs more than {MEMORY} and the disk ({str(error).splitlines()[0][:160]})",
            "narrow the universe",
        ) from None
    except duckdb.Error as error:
        raise funnel.failed_on_a_row(error) from None
    if not frame["trace_id"].is_unique().all():
        raise UsageError("a filter gives several values for a trace", "no unnest in a filter")
    return frame


def _check(con: duckdb.DuckDBPyConnection, query: str, values: list[Any], what: str) -> None:
    try:
        if len(con.extract_statements(query)) != 1:
            raise UsageError(f"{what} is more than one expression", "correct it")
        con.execute(query, values)
    except duckdb.Error as error:
        detail = " ".join(str(error).split())[:240]
        raise UsageError(f"{what} does not bind ({detail})", "correct it") from None


def _wheres(universe: Universe) -> tuple[list[str], list[Any]]:
    wheres: list[str] = []
    values: list[Any] = []
    for column, wanted in (
        ("source", universe.sources), ("sampling_id", universe.samplings),
        ("run_id", universe.runs),
    ):  # fmt: skip
        if wanted is not None:
            wheres.append(f"{column} IN (SELECT unnest(?))")
            values.append(wanted)
    if universe.models is not None:
        wheres.append(
            "(model IN (SELECT unnest(?)) OR model || '@' || revision IN (SELECT unnest(?)))"
        )
        values += [universe.models, universe.models]
    if universe.n is not None:
        wheres.append("sample_index < ?")
        values.append(universe.n)
    if universe.where:
        wheres.append(funnel.predicate(universe.where))
    return wheres, values


def _decisions(trace_ids: pl.Series, steps: Sequence[funnel.Step], keep: pl.Series) -> pl.DataFrame:
    def names(flags: list[tuple[str, pl.Series]]) -> pl.Expr:
        if not flags:
            return pl.lit([], dtype=pl.List(pl.String))
        columns = [pl.when(pl.lit(flag)).then(pl.lit(name)).otherwise(None) for name, flag in flags]
        return pl.concat_list(columns).list.drop_nulls()

    on = [s for s in steps if s.is_on]
    frame = pl.DataFrame({"trace_id": trace_ids, "is_kept": keep})
    return frame.with_columns(
        dropped_by=names([(s.name, s.passed == False) for s in on]),  # noqa: E712 - null stays null
        undefined_by=names([(s.name, s.passed.is_null()) for s in on]),
    )
