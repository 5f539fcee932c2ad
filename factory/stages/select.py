"""Selection: which traces of a stored universe a dataset keeps, and why the others are dropped.

A decision can be taken again in seconds: filters are named SQL predicates over ``wide``, what
depends on the whole set (near-duplicates, contamination, caps) is computed here. Every filter is
evaluated for every trace, so the funnel shows overlaps and what each alone would drop. A predicate
that is NULL does not keep the row and is counted as undefined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import polars as pl
from pydantic import Field

from catalogs import catalog, wide
from factory.config import Config
from factory.errors import UsageError
from factory.store import Store


class Universe(Config):
    """Which traces are looked at: prompts × models × samplings × sample indices."""

    sources: list[str] | None = None
    """Names of prompt sources; None means all."""
    models: list[str] | None = None
    """``model`` or ``model@revision``; None means all."""
    samplings: list[str] | None = None
    """Sampling ids; None means all."""
    runs: list[str] | None = None
    """Run ids; None means all."""
    n: int | None = Field(default=None, ge=1)
    """Sample indices below n; None means all."""
    where: str | None = None
    """A further SQL predicate over wide."""


class NearDuplicates(Config):
    """Near-duplicate clusters keep one trace each."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of word 5-grams at and above which two texts are one."""
    within: Literal["set", "prompt"] = "set"
    """Whether traces of different prompts can be duplicates of each other."""


class Decontaminate(Config):
    """Prompts and completions that share an n-gram with a benchmark are dropped."""

    against: list[str]
    """Benchmark files (JSON Lines or Parquet)."""
    ngram: int = Field(default=10, ge=3)
    """Words per n-gram (DeepSeek-R1: 10)."""


class Selection(Config):
    """The recipe of a selection."""

    universe: Universe = Universe()
    filters: dict[str, str] = Field(default_factory=dict)
    """Name → SQL predicate over wide; a row is kept where all are true."""
    disabled: list[str] = Field(default_factory=list)
    """Names of filters that are evaluated and counted, but drop nothing."""
    near_duplicates: NearDuplicates | None = None
    decontaminate: Decontaminate | None = None
    cap_per_prompt: int | None = Field(default=None, ge=1)
    """Most traces kept of one prompt."""
    prefer: str = "sample_index"
    """SQL order of one prompt's traces under the cap, such as ``answer_words, sample_index``."""
    max_rows: int | None = Field(default=None, ge=1)
    """Most traces kept in all, in the order of their keys (which is random in the content)."""
    versions: dict[str, str | int] = Field(default_factory=dict)
    """Plug-in → version; by default the newest that the store has."""


@dataclass(frozen=True)
class Selected:
    """Result of a selection.

    Attributes:
        kept: kept traces, sorted by trace_id, with all columns of wide.
        decisions: one row per trace of the universe: trace_id, is_kept, dropped_by, undefined_by
            (lists of filter names).
        funnel: one row per step: name, sql, is_on, n_in, n_dropped, n_dropped_only, n_undefined.
        recipe: what was asked.
        labels: plug-in → ``name@VERSION`` in force.
    """

    kept: pl.DataFrame
    decisions: pl.DataFrame
    funnel: list[dict[str, Any]]
    recipe: Selection
    labels: dict[str, str]


def check_filters(
    filters: Mapping[str, str], *, verifiers: Sequence[str], scores: Sequence[str]
) -> None:
    """Bind every predicate against the empty wide view, before any work starts.

    Raises:
        UsageError: a predicate that names no such column or is no SQL; it is named.
    """
    with duckdb.connect(":memory:") as con:
        wide.empty_wide(con, verifiers, scores)
        _bind(con, filters)


def _bind(con: duckdb.DuckDBPyConnection, filters: Mapping[str, str]) -> None:
    for name, predicate in filters.items():
        query = f"SELECT ({predicate}\n)::BOOLEAN FROM wide LIMIT 0"
        try:
            if len(con.extract_statements(query)) != 1:
                raise UsageError(
                    f"filter {name!r} is more than one expression", "give one predicate"
                )
            con.execute(query).fetchall()
        except duckdb.Error as error:
            detail = " ".join(str(error).split())[:240]
            raise UsageError(
                f"filter {name!r} does not bind ({detail})", "correct the predicate"
            ) from None


def select(
    store: Store,
    recipe: Selection,
    *,
    trace_ids: pl.Series | None = None,
    verifiers: Sequence[str] = (),
    scores: Sequence[str] = (),
) -> Selected:
    """Decide which traces of the universe are kept.

    Args:
        store: facts; open segments are sealed first.
        recipe: universe, filters, sets.
        trace_ids: the universe as explicit keys, within that of the recipe (a policy's own).
        verifiers: verifiers whose columns the filters may name even without any fact.
        scores: scores, likewise.

    Raises:
        UsageError: a filter does not bind, or ``disabled`` names one that is not there.
    """
    stray = sorted(set(recipe.disabled) - set(recipe.filters))
    if stray:
        raise UsageError(
            f"disabled names {', '.join(stray)}", f"filters: {', '.join(recipe.filters)}"
        )
    catalog.seal(store)
    with duckdb.connect(":memory:") as con:
        sql = wide.wide_sql(store, recipe.versions, verifiers=verifiers, scores=scores)
        con.execute(f"CREATE TEMP VIEW wide AS {sql}")
        _bind(con, recipe.filters)
        frame = _universe(con, recipe, trace_ids)
    frame = frame.sort("trace_id")
    names = list(recipe.filters)
    flags = frame.select(pl.col(f"_f{i}").alias(n) for i, n in enumerate(names))
    frame = frame.drop([f"_f{i}" for i in range(len(names))])
    steps = [_Step(n, recipe.filters[n], n not in recipe.disabled, flags[n]) for n in names]
    alive = _all_true([s.passed for s in steps if s.is_on], frame.height)
    for step in _set_steps(store, recipe, frame, alive):
        steps.append(step)
        alive = alive & step.passed.fill_null(False)
    decisions = _decisions(frame["trace_id"], steps, alive)
    funnel = _funnel(steps, frame.height)
    labels = {p.name: p.label for p in wide.choose(wide.stored_plugs(store), recipe.versions)}
    return Selected(frame.filter(alive), decisions, funnel, recipe, labels)


@dataclass(frozen=True)
class _Step:
    """One reason to drop: its flags over the universe (null is undefined)."""

    name: str
    sql: str
    is_on: bool
    passed: pl.Series


def _universe(
    con: duckdb.DuckDBPyConnection, recipe: Selection, trace_ids: pl.Series | None
) -> pl.DataFrame:
    u = recipe.universe
    wheres: list[str] = []
    values: list[Any] = []
    for column, wanted in (
        ("source", u.sources), ("sampling_id", u.samplings), ("run_id", u.runs),
    ):  # fmt: skip
        if wanted is not None:
            wheres.append(f"{column} IN (SELECT unnest(?))")
            values.append(wanted)
    if u.models is not None:
        wheres.append(
            "(model IN (SELECT unnest(?)) OR model || '@' || revision IN (SELECT unnest(?)))"
        )
        values += [u.models, u.models]
    if u.n is not None:
        wheres.append("sample_index < ?")
        values.append(u.n)
    if u.where:
        wheres.append(f"({u.where})")
    if trace_ids is not None:
        con.register("_wanted", trace_ids.alias("trace_id").to_frame().to_arrow())
        wheres.append("trace_id IN (SELECT trace_id FROM _wanted)")
    flags = "".join(f", ({p})::BOOLEAN AS _f{i}" for i, p in enumerate(recipe.filters.values()))
    order = (
        f", row_number() OVER (PARTITION BY prompt_id ORDER BY {recipe.prefer}, trace_id) AS _rank"
    )
    where = f" WHERE {' AND '.join(wheres)}" if wheres else ""
    try:
        query = f"SELECT *{flags}{order} FROM wide{where}"
        table = con.sql(query, params=values).to_arrow_table()
    except duckdb.Error as error:
        detail = " ".join(str(error).split())[:240]
        raise UsageError(
            f"universe.where or prefer does not bind ({detail})", "correct it"
        ) from None
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _set_steps(
    store: Store, recipe: Selection, frame: pl.DataFrame, alive: pl.Series
) -> list[_Step]:
    """Near-duplicates, contamination, caps: each looks at what those before it left."""
    steps: list[_Step] = []
    height = frame.height
    if recipe.decontaminate is not None:
        passed = _uncontaminated(store, frame, alive, recipe.decontaminate)
        detail = f"{recipe.decontaminate.ngram}-grams of {', '.join(recipe.decontaminate.against)}"
        steps.append(_Step("decontaminate", detail, True, passed))
        alive = alive & passed
    if recipe.near_duplicates is not None:
        passed = _unique(store, frame, alive, recipe.near_duplicates)
        detail = f"word 5-grams, Jaccard >= {recipe.near_duplicates.threshold}"
        steps.append(_Step("near_duplicates", detail, True, passed))
        alive = alive & passed
    if recipe.cap_per_prompt is not None:
        ranked = frame.select("prompt_id", "_rank").with_row_index("_row").filter(alive)
        ranked = ranked.sort("prompt_id", "_rank")
        inside = ranked.filter(pl.int_range(pl.len()).over("prompt_id") < recipe.cap_per_prompt)
        passed = _at(height, inside["_row"], among=alive)
        sql = f"at most {recipe.cap_per_prompt} per prompt, by {recipe.prefer}"
        steps.append(_Step("cap_per_prompt", sql, True, passed))
        alive = alive & passed
    if recipe.max_rows is not None:
        inside_rows = pl.Series(range(height), dtype=pl.UInt32).filter(alive)[: recipe.max_rows]
        passed = _at(height, inside_rows, among=alive)
        steps.append(_Step("max_rows", f"at most {recipe.max_rows}", True, passed))
    return steps


def _at(height: int, rows: pl.Series, *, among: pl.Series) -> pl.Series:
    """Return flags that are true at ``rows`` and wherever ``among`` is false (not looked at)."""
    passed = ~among
    return passed.scatter(rows, True) if len(rows) else passed


def _uncontaminated(
    store: Store, frame: pl.DataFrame, alive: pl.Series, recipe: Decontaminate
) -> pl.Series:
    from factory import files
    from factory.sets.decontaminate import Decontaminator, benchmark_texts

    benchmarks = {}
    for path in recipe.against:
        files.check_input(path)
        rows = [r for r in files.read_rows(path) if isinstance(r, dict)]
        benchmarks[path] = benchmark_texts(rows)
    checker = Decontaminator(benchmarks, ngram=recipe.ngram)
    texts = texts_of(store, frame.filter(alive), with_prompt=True)
    checked = checker.check(texts, columns=["prompt", "text"])
    clean = frame.select("trace_id").with_row_index("_row").join(
        texts.select("trace_id").hstack(checked.select("is_contaminated")), on="trace_id"
    )  # fmt: skip
    return _at(frame.height, clean.filter(~pl.col("is_contaminated"))["_row"], among=alive)


def _unique(
    store: Store, frame: pl.DataFrame, alive: pl.Series, recipe: NearDuplicates
) -> pl.Series:
    from factory.sets.near_duplicates import near_duplicates

    texts = texts_of(store, frame.filter(alive), with_prompt=False)
    # The first in the preferred order stays: rank within the prompt, then the key.
    order = frame.select("trace_id", "prompt_id", "_rank").with_row_index("_row")
    texts = texts.join(order, on="trace_id").sort("_rank", "trace_id")
    within = "prompt_id" if recipe.within == "prompt" else None
    marked = near_duplicates(texts, threshold=recipe.threshold, ngram=5, within=within)
    return _at(frame.height, marked.filter(~pl.col("is_duplicate"))["_row"], among=alive)


def texts_of(store: Store, frame: pl.DataFrame, *, with_prompt: bool) -> pl.DataFrame:
    """Return trace_id and text (prefill + completion), and the prompt's text where wanted."""
    wanted = frame.select("trace_id", "prompt_id")
    parts = [
        batch.join(wanted, on="trace_id", how="semi")
        for batch in store.table("traces").batches(
            ["trace_id", "prompt_id", "prefill", "completion"]
        )
    ]
    texts = pl.concat(parts).with_columns(
        pl.concat_str([pl.col("prefill").fill_null(""), "completion"]).alias("text")
    )
    if not with_prompt:
        return texts.select("trace_id", "text")
    prompts = store.table("prompts").read(["prompt_id", "text"]).rename({"text": "prompt"})
    return texts.join(prompts, on="prompt_id", how="left").select("trace_id", "prompt", "text")


def _all_true(flags: Sequence[pl.Series], height: int) -> pl.Series:
    alive = pl.Series([True]).new_from_index(0, height)
    for flag in flags:
        alive = alive & flag.fill_null(False)
    return alive


def _funnel(steps: Sequence[_Step], height: int) -> list[dict[str, Any]]:
    """Count for each step: rows before it, dropped by it, dropped by it alone, undefined."""
    rows: list[dict[str, Any]] = []
    n_fails = sum(
        ((~s.passed.fill_null(False)).cast(pl.Int32) for s in steps if s.is_on),
        start=pl.Series([0], dtype=pl.Int32).new_from_index(0, height),
    )
    alive = _all_true([], height)
    for step in steps:
        passed = step.passed.fill_null(False)
        alone = (~passed) & (n_fails == 1) if step.is_on else ~passed & False
        rows.append(
            {
                "name": step.name,
                "sql": step.sql,
                "is_on": step.is_on,
                "n_in": int(alive.sum()),
                "n_dropped": int((~passed).sum()),
                "n_dropped_here": int((alive & ~passed).sum()) if step.is_on else 0,
                "n_dropped_only": int(alone.sum()),
                "n_undefined": int(step.passed.is_null().sum()),
            }
        )
        if step.is_on:
            alive = alive & passed
    return rows


def _decisions(trace_ids: pl.Series, steps: Sequence[_Step], alive: pl.Series) -> pl.DataFrame:
    def names(flags: list[tuple[str, pl.Series]]) -> pl.Expr:
        if not flags:
            return pl.lit([], dtype=pl.List(pl.String))
        columns = [pl.when(pl.lit(flag)).then(pl.lit(name)).otherwise(None) for name, flag in flags]
        return pl.concat_list(columns).list.drop_nulls()

    on = [s for s in steps if s.is_on]
    frame = pl.DataFrame({"trace_id": trace_ids, "is_kept": alive})
    return frame.with_columns(
        dropped_by=names([(s.name, s.passed == False) for s in on]),  # noqa: E712 - null stays null
        undefined_by=names([(s.name, s.passed.is_null()) for s in on]),
    )
