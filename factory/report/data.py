"""What a report of a release says, measured in the catalog. Undefined is None, never 0.

The catalog comes from above, as a connection (``catalogs.show.open_release``): of it are read
``releases release_filters release_rows release_decisions wide wide_columns golds trace_texts
prompt_texts``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from factory.dialects import DIALECTS, END_TOKENS
from factory.errors import UsageError
from factory.metrics import Interval, mean_interval
from factory.report.samples import Sample, samples_of
from factory.rows.answers import Answer
from factory.stages.contents import contents_lines
from factory.store.wide import literal, quoted

LENGTHS = {
    "n_completion_tokens": "tokens",
    "completion_words": "words",
    "completion_chars": "characters",
}
"""Columns that measure how long a trace is, best first."""
MAX_GROUPS = 24
N_BINS = 24


@dataclass(frozen=True)
class Histogram:
    """Counts of lengths; the last bin holds everything above its lower edge.

    Attributes:
        unit: what is counted.
        edges: lower edge of each bin, shape (B,).
        n_all: traces of the universe, shape (B,).
        n_kept: kept traces, shape (B,).
        step: width of a bin.
    """

    unit: str
    edges: list[int]
    n_all: list[int]
    n_kept: list[int]
    step: int


@dataclass(frozen=True)
class Rate:
    """Pass rate of one source and model: the mean over prompts with its interval."""

    source: str
    model: str
    n_traces: int
    n_scored: int
    interval: Interval


@dataclass(frozen=True)
class ReportData:
    """Everything that the report prints.

    Attributes:
        funnel: rows of ``release_filters``, in order.
        totals: numbers of the universe and of what is kept.
        splits: rows of each split, and whether it is one of evaluation.
        warnings: what to know before training on it, among the kept rows: evaluation rows, copies,
            unverified, cut, without thinking, very short …
        formats: how the kept traces mark their thinking; None where texts were not read.
        has_cost: whether any trace says what it took.
        coverage: by pass-rate band: prompts of the universe and those with a kept trace.
    """

    name: str
    version: str
    created_at: str | None
    problem: str | None
    totals: dict[str, Any]
    funnel: list[dict[str, Any]]
    makeup: Answer
    splits: Answer
    warnings: list[str]
    formats: Answer | None
    has_cost: bool
    lengths: Histogram | None
    quantiles: Answer | None
    languages: Answer | None
    rates: list[Rate]
    coverage: Answer
    rejected: Answer
    cost: Answer
    samples: list[Sample]
    provenance: dict[str, str]


def collect(
    con: duckdb.DuckDBPyConnection, name: str, version: str, *, texts: bool = True
) -> ReportData:
    """Measure a release.

    Args:
        con: the catalog; a temporary table is made in it.
        name: of the release.
        version: of the release.
        texts: whether texts are read too, for formats and samples; they are most of a store.

    Raises:
        UsageError: no such release.
    """
    where = f"release = {literal(name)} AND version = {literal(version)}"
    heads = _rows(con, f"SELECT * FROM releases WHERE {where}").dicts()
    if not heads:
        raise UsageError(f"no release {f'{name}/{version}'[:80]!r}", "`factory ls` lists them")
    have = _make_universe(con, where)
    length = next((c for c in LENGTHS if c in have and _count(con, c)), None)
    totals = _totals(con, heads[0])
    funnel = _rows(con, f"SELECT * FROM release_filters WHERE {where} ORDER BY position").dicts()
    formats = _formats(con) if texts else None
    return ReportData(
        name=name,
        version=version,
        created_at=heads[0]["created_at"],
        problem=heads[0]["problem"],
        totals=totals,
        funnel=funnel,
        makeup=_makeup(con),
        splits=_splits(con),
        warnings=_warnings(con, heads[0], totals, formats),
        formats=formats,
        has_cost=_count(con, "n_completion_tokens") + _count(con, "seconds") > 0,
        lengths=_histogram(con, length) if length else None,
        quantiles=_quantiles(con, length) if length else None,
        languages=_languages(con, have),
        rates=_rates(con),
        coverage=_coverage(con),
        rejected=_rejected(con),
        cost=_cost(con),
        samples=samples_of(con, have, where, funnel) if texts else [],
        provenance=_provenance(heads[0]),
    )


def _rows(con: duckdb.DuckDBPyConnection, text: str) -> Answer:
    result = con.execute(text)
    return Answer(tuple(d[0] for d in result.description or []), result.fetchall())


def _largest(con: duckdb.DuckDBPyConnection, text: str, by: str, order: str) -> Answer:
    """Return the ``MAX_GROUPS`` largest rows of a query, in an order to read; what is cut is said.

    Args:
        con: connection.
        text: the query.
        by: column that measures how large a row is.
        order: columns to print them by.
    """
    n = int(_rows(con, f"SELECT count(*) FROM ({text})").rows[0][0])
    answer = _rows(
        con, f"FROM (FROM ({text}) ORDER BY {by} DESC, {order} LIMIT {MAX_GROUPS}) ORDER BY {order}"
    )
    note = f"The {MAX_GROUPS} largest of {n:,} groups." if n > MAX_GROUPS else ""
    return Answer(answer.columns, answer.rows, note=note)


def _count(con: duckdb.DuckDBPyConnection, column: str) -> int:
    return int(_rows(con, f"SELECT count({quoted(column)}) FROM u").rows[0][0])


def _make_universe(con: duckdb.DuckDBPyConnection, where: str) -> set[str]:
    """Make ``u``: the traces that the release looked at; return the optional columns it has."""
    columns = {r[0] for r in _rows(con, "SELECT name FROM wide_columns WHERE note IS NULL").rows}
    optional = {*LENGTHS, "lang", "language_consistency"} & columns
    fixed = (
        "trace_id prompt_id model source item split status reason prompt_language n_prompt_tokens "
        "n_completion_tokens seconds finish_reason text_hash"
    )
    names = ", ".join(f"w.{quoted(c)}" for c in sorted({*fixed.split(), *optional}))
    # A release without its decisions is looked at by its own rows alone.
    con.execute(
        "CREATE OR REPLACE TEMP TABLE u AS WITH "
        f"d AS (SELECT trace_id, is_kept FROM release_decisions WHERE {where}), "
        f"r AS (SELECT trace_id, true AS is_kept FROM release_rows WHERE {where}), "
        "chosen AS (FROM d UNION ALL (FROM r WHERE NOT EXISTS (FROM d))) "
        f"SELECT {names}, is_kept FROM chosen JOIN wide w USING (trace_id)"
    )
    return optional


def _totals(con: duckdb.DuckDBPyConnection, head: dict[str, Any]) -> dict[str, Any]:
    found = _rows(
        con,
        "SELECT count(*) AS n_universe, count(*) FILTER (is_kept) AS n_kept, "
        "count(DISTINCT prompt_id) AS n_prompts, "
        "count(DISTINCT prompt_id) FILTER (is_kept) AS n_prompts_kept, "
        "count(*) FILTER (status IN ('pass', 'fail')) AS n_scored, "
        "count(*) FILTER (status = 'pass') AS n_pass, "
        "count(*) FILTER (status = 'unscored') AS n_unscored, "
        "count(*) FILTER (status IS NULL) AS n_unverified, "
        "count(*) - count(DISTINCT (prompt_id, text_hash)) AS n_duplicates, "
        "count(*) FILTER (finish_reason = 'length') AS n_truncated, "
        "count(*) FILTER (is_kept AND finish_reason = 'length') AS n_kept_truncated, "
        "count(*) FILTER (is_kept AND (status IS NULL OR status = 'unscored')) "
        "AS n_kept_unverified, "
        "count(*) FILTER (is_kept) - count(DISTINCT text_hash) FILTER (is_kept) AS n_kept_copies, "
        "sum(n_completion_tokens) AS completion_tokens FROM u",
    ).dicts()[0]
    kept, tokens = found["n_kept"], found["completion_tokens"]
    found["tokens_per_kept"] = tokens / kept if kept and tokens else None
    found["pass_rate"] = found["n_pass"] / found["n_scored"] if found["n_scored"] else None
    found["n_rows"] = head["n_rows"]
    return found


def _makeup(con: duckdb.DuckDBPyConnection) -> Answer:
    return _largest(
        con,
        "SELECT coalesce(source, '?') AS source, model, count(*) AS n_universe, "
        "count(*) FILTER (is_kept) AS n_kept, round(n_kept / n_universe, 4) AS kept_fraction, "
        "count(DISTINCT prompt_id) FILTER (is_kept) AS n_prompts_kept FROM u GROUP BY ALL",
        by="n_universe",
        order="source, model",
    )


def _splits(con: duckdb.DuckDBPyConnection) -> Answer:
    return _largest(
        con,
        "SELECT coalesce(split, 'none') AS split, is_evaluation_split(split) AS is_evaluation, "
        "count(*) AS n_universe, count(*) FILTER (is_kept) AS n_kept, "
        "count(DISTINCT prompt_id) FILTER (is_kept) AS n_prompts_kept FROM u GROUP BY ALL",
        by="n_universe",
        order="split",
    )


def _histogram(con: duckdb.DuckDBPyConnection, column: str) -> Histogram:
    top = _rows(con, f"SELECT quantile_disc({column}, 0.99), max({column}) FROM u").rows[0]
    step = max(1, -(-(int(top[0]) + 1) // N_BINS))
    counts = _rows(
        con,
        f"SELECT least({column} // {step}, {N_BINS - 1}) AS bin, count(*), "
        f"count(*) FILTER (is_kept) FROM u WHERE {column} IS NOT NULL GROUP BY bin",
    ).rows
    by_bin = {int(b): (n, k) for b, n, k in counts}
    n_bins = max(by_bin) + 1
    pairs = [by_bin.get(i, (0, 0)) for i in range(n_bins)]
    return Histogram(
        LENGTHS[column],
        [i * step for i in range(n_bins)],
        [n for n, _ in pairs],
        [k for _, k in pairs],
        step,
    )


def _quantiles(con: duckdb.DuckDBPyConnection, column: str) -> Answer:
    points = ", ".join(
        f"quantile_disc({column}, {q}) AS {name}"
        for name, q in (("q10", 0.1), ("median", 0.5), ("q90", 0.9), ("q99", 0.99))
    )
    return _rows(
        con,
        "SELECT CASE WHEN is_kept THEN 'kept' WHEN status = 'pass' THEN 'dropped, right' "
        "WHEN status = 'fail' THEN 'dropped, wrong' ELSE 'dropped, no verdict' END AS traces, "
        f"count({column}) AS n, round(avg({column}), 1) AS mean, {points}, "
        f"max({column}) AS longest FROM u GROUP BY traces ORDER BY traces = 'kept' DESC, traces",
    )


def _languages(con: duckdb.DuckDBPyConnection, have: set[str]) -> Answer | None:
    if "lang" not in have:
        return None
    consistency = (
        "round(avg(language_consistency), 4) AS consistency, "
        "round(avg(language_consistency) FILTER (is_kept), 4) AS consistency_kept"
        if "language_consistency" in have
        else "NULL AS consistency, NULL AS consistency_kept"
    )
    return _largest(
        con,
        "SELECT coalesce(prompt_language, '?') AS prompt, coalesce(lang, '?') AS completion, "
        f"count(*) AS n_universe, count(*) FILTER (is_kept) AS n_kept, {consistency} FROM u "
        "GROUP BY prompt, completion",
        by="n_universe",
        order="prompt, completion",
    )


def _rates(con: duckdb.DuckDBPyConnection) -> list[Rate]:
    rows = _largest(
        con,
        "WITH p AS (SELECT coalesce(source, '?') AS source, model, prompt_id, count(*) AS n, "
        "count(*) FILTER (status IN ('pass', 'fail')) AS scored, "
        "count(*) FILTER (status = 'pass') / nullif(scored, 0) AS rate FROM u "
        "GROUP BY ALL) SELECT source, model, sum(n) AS n, sum(scored) AS scored, "
        "list(rate ORDER BY prompt_id) AS rates FROM p GROUP BY source, model",
        by="n",
        order="source, model",
    ).rows
    return [
        Rate(source, model, int(n), int(scored), mean_interval(rates))
        for source, model, n, scored, rates in rows
    ]


def _coverage(con: duckdb.DuckDBPyConnection) -> Answer:
    return _rows(
        con,
        "WITH p AS (SELECT prompt_id, count(*) FILTER (status IN ('pass', 'fail')) AS scored, "
        "count(*) FILTER (status = 'pass') / nullif(scored, 0) AS rate, "
        "count(*) FILTER (is_kept) AS kept FROM u GROUP BY prompt_id) "
        "SELECT CASE WHEN rate IS NULL THEN 'unscored' WHEN rate = 0 THEN 'never right' "
        "WHEN rate <= 0.25 THEN 'up to 1/4' WHEN rate <= 0.5 THEN 'up to 1/2' "
        "WHEN rate <= 0.75 THEN 'up to 3/4' WHEN rate < 1 THEN 'below 1' "
        "ELSE 'always right' END AS pass_rate, count(*) AS n_prompts, "
        "count(*) FILTER (kept > 0) AS n_prompts_kept, sum(kept)::BIGINT AS n_traces_kept "
        "FROM p GROUP BY pass_rate ORDER BY min(coalesce(rate, -1))",
    )


def _rejected(con: duckdb.DuckDBPyConnection) -> Answer:
    return _rows(
        con,
        "SELECT status, reason, count(*) AS n_traces FROM u WHERE status IN ('fail', 'unscored') "
        "GROUP BY status, reason ORDER BY n_traces DESC, status, reason LIMIT 12",
    )


def _cost(con: duckdb.DuckDBPyConnection) -> Answer:
    return _largest(
        con,
        "SELECT model, count(*) AS n_traces, count(*) FILTER (is_kept) AS n_kept, "
        "sum(n_completion_tokens) AS completion_tokens, "
        "round(sum(n_completion_tokens) / nullif(n_kept, 0), 1) AS tokens_per_kept, "
        "round(sum(seconds), 1) AS seconds, "
        "round(sum(seconds) / nullif(n_kept, 0), 2) AS seconds_per_kept "
        "FROM u GROUP BY model",
        by="n_traces",
        order="model",
    )


def _formats(con: duckdb.DuckDBPyConnection) -> Answer:
    text = "(coalesce(t.prefill, '') || coalesce(t.completion, ''))"
    whens = " ".join(
        f"WHEN contains({text}, {literal(d.think[1])}) THEN {literal(_format_name(name))}"
        for name, d in DIALECTS.items()
        if name != "think_answer" and d.think[1] not in END_TOKENS
    )
    return _rows(
        con,
        f"SELECT CASE {whens} WHEN contains({text}, '<think>') THEN 'a thinking that never ends' "
        "ELSE 'no thinking' END AS format, count(*) AS n_kept FROM u JOIN trace_texts t "
        "USING (trace_id) WHERE is_kept GROUP BY format ORDER BY n_kept DESC, format",
    )


def _format_name(dialect: str) -> str:
    begin, end = DIALECTS[dialect].think
    return f"{begin} … {end}"


def _warnings(
    con: duckdb.DuckDBPyConnection, head: Mapping[str, Any], totals: Mapping[str, Any],
    formats: Answer | None,
) -> list[str]:  # fmt: skip
    """What to know before training on the kept rows; an empty list: nothing was found."""
    kept = totals["n_kept"]
    out = []
    splits = _rows(
        con, "SELECT split, count(*) FROM u WHERE is_kept AND is_evaluation_split(split) GROUP BY 1"
    ).rows
    out += [f"{n:,} kept rows are of split {name}, one of evaluation" for name, n in splits]
    counted = (
        ("n_kept_copies", "are exact copies of others"),
        ("n_kept_truncated", "were cut by their token limit"),
    )
    out += [f"of {kept:,} kept rows {totals[n]:,} {what}" for n, what in counted if totals[n]]
    lines = contents_lines(json.loads(head["manifest"] or "{}"))
    out += [line for line in lines if not line.startswith("split: ")]
    if totals["n_kept_unverified"] and not any("no verdict" in line for line in lines):
        out.append(f"of {kept:,} kept rows {totals['n_kept_unverified']:,} have no verdict")
    if formats is not None and len(formats.rows) > 1:
        mixed = ", ".join(f"{n:,} {name}" for name, n in formats.rows)
        out.append(f"the kept rows mark their thinking in several ways: {mixed}")
    return out


def _provenance(head: dict[str, Any]) -> dict[str, str]:
    manifest = json.loads(head["manifest"] or "{}")
    shown: Sequence[str] = (
        "universe", "selection", "plugins", "parents", "recipe", "template", "code_version"
    )  # fmt: skip
    return {
        key: manifest[key]
        if isinstance(manifest[key], str)
        else json.dumps(manifest[key], ensure_ascii=False, indent=1)
        for key in shown
        if manifest.get(key)
    }
