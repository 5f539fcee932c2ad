"""``wide``: exactly one row per trace, with its prompt's source, its verdicts and its scores.

Filters, named queries and user SQL are all written against this one relation. Its SQL is made
from the tables that a store has, or from the columns that plug-ins declare, so that a predicate
can be bound before any fact exists (``empty_wide``).

Columns, in this order:

* of the trace: ``trace_id`` … ``run_id`` (``TRACE_COLUMNS``; no text), and of its sampling;
* of the prompt's source (``SOURCE_COLUMNS``). A prompt may have several sources: the one taken
  has a gold rather than none, names a verifier rather than none, then comes first by source,
  item and key. ``n_sources`` says how many there are. Of a corrected source the last correction
  counts;
* ``status reward reason extracted decided_by``: the verdict of the verifier that the source
  names; where it names none, of the first verifier by name whose verdict used the source's gold;
* ``REVIEW_COLUMNS``: what people said of the trace (``factory.stages.review``), the latest counts;
* ``<verifier>_<field>`` of every verifier. Of several verdicts of one version on one trace the
  one on the taken source's gold counts, then the one of the latest run;
* every score's own columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import duckdb

from factory import plugins
from factory.errors import UsageError
from factory.records import SQL_TYPES, TABLES, VERDICT_FIELDS
from factory.records.meanings import COLUMNS
from factory.store import Store

TEXT_COLUMNS = ("completion", "prefill")
"""Columns of a trace that stay in Parquet."""
TEXTS = {"completion": "text", "prompt_text": "text"}
"""Texts that predicates may name: read only where one does, since they are most of a store."""
TRACE_COLUMNS = tuple(c for c in TABLES["traces"].columns if c not in TEXT_COLUMNS)
SAMPLING_COLUMNS = ("temperature", "top_p", "max_tokens")
SOURCE_COLUMNS = {
    "source": "source", "item": "item", "split": "split", "domain": "domain", "level": "level",
    "language": "prompt_language", "verifier": "verifier", "gold_hash": "gold_hash",
}  # fmt: skip
"""Column of ``prompt_sources`` → its name in ``wide`` (a score may well write ``language``)."""
REVIEW_COLUMNS = ("review", "review_note", "reviewed_by", "reviewed_at")

Relation = Callable[[str, Mapping[str, str]], str]
"""From a table's name and its columns to SQL of its rows, in brackets."""
Pin = str | int | None


@dataclass(frozen=True)
class Plug:
    """One verifier or score as ``wide`` sees it: one version, one table, its columns.

    Attributes:
        kind: ``verdicts`` or ``scores``.
        name: of the plug-in, such as ``math``.
        label: ``name@VERSION`` and for scores with parameters ``+hash``.
        columns: column of the table → (column of ``wide``, its kind).
    """

    kind: str
    name: str
    label: str
    columns: Mapping[str, tuple[str, str]]

    @property
    def table(self) -> str:
        """Name of its table in the store."""
        return f"{self.kind}.{self.label}"

    @property
    def stored_columns(self) -> Mapping[str, str]:
        """Columns of its table, with their kinds."""
        if self.kind == "verdicts":
            return TABLES["verdicts"].columns
        own = {c: kind for c, (_, kind) in self.columns.items()}
        return {"trace_id": "text", **own, "run_id": "text"}

    @property
    def version(self) -> tuple[int, str]:
        """Sorts versions: numbers before their parameters."""
        version, _, params = self.label.rpartition("@")[2].partition("+")
        return (int(version) if version.isdigit() else -1, params)


def quoted(name: str) -> str:
    """Return a SQL identifier.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a SQL string.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def verdict_plug(label: str) -> Plug:
    """Return the verifier's part of ``wide``: ``<verifier>_status`` and so on.

    >>> verdict_plug("math@1").columns["status"]
    ('math_status', 'text')
    """
    name = label.rpartition("@")[0]
    kinds = TABLES["verdicts"].columns
    return Plug("verdicts", name, label, {f: (f"{name}_{f}", kinds[f]) for f in VERDICT_FIELDS})


def score_plug(label: str, columns: Mapping[str, str]) -> Plug:
    """Return a score's part of ``wide``: its own columns under their own names."""
    own = {c: (c, kind) for c, kind in columns.items() if c not in ("trace_id", "run_id")}
    return Plug("scores", label.rpartition("@")[0], label, own)


def stored_plugs(store: Store) -> list[Plug]:
    """Return every version of every verifier and score that the store has facts of."""
    plugs = []
    for table in store.tables():
        kind, _, label = table.partition(".")
        if kind == "verdicts" and "@" in label:
            plugs.append(verdict_plug(label))
        elif kind == "scores" and "@" in label:
            plugs.append(score_plug(label, store.table(table).form.columns))
    return plugs


def declared_plugs(verifiers: Iterable[str], scores: Iterable[str]) -> list[Plug]:
    """Return what plug-ins declare, whether or not a fact of theirs exists."""
    verifiers = list(verifiers)
    for name in verifiers:  # named by a recipe or by a caller in Python
        plugins.allow(name)
    return [
        *(verdict_plug(plugins.label("verifiers", name)) for name in verifiers),
        *(
            score_plug(plugins.label("scores", name), plugins.load("scores", name).WRITES)
            for name in scores
        ),
    ]


def choose(plugs: Sequence[Plug], versions: Mapping[str, Pin] | None = None) -> list[Plug]:
    """Return one version of each verifier and score: the pinned one, else the latest.

    Args:
        plugs: all versions at hand.
        versions: plug-in's name → version (``1``, ``"1"``, ``"math@1"``, ``"length@1+ab12"``),
            or None to leave the plug-in out.

    Raises:
        UsageError: a pin fits nothing; the message names what there is.
    """
    pins = dict(versions or {})
    chosen = []
    for kind, name in dict.fromkeys((p.kind, p.name) for p in plugs):
        own = [p for p in plugs if (p.kind, p.name) == (kind, name)]
        if name not in pins:
            # Of one version, the one without parameters comes before those with some.
            chosen.append(max(own, key=lambda p: (p.version[0], not p.version[1], p.version[1])))
        elif pins[name] is not None:
            pin = str(pins[name])
            fits = [p for p in own if pin in (p.label, p.label.rpartition("@")[2])]
            if not fits:
                have = ", ".join(sorted(p.label for p in own))
                raise UsageError(f"no facts of {name} {pin!r}", f"the store has {have}")
            chosen.append(fits[0])
    stray = sorted(set(pins) - {p.name for p in plugs})
    if stray:
        raise UsageError(
            f"versions pin {', '.join(stray)}, of which the store has no facts",
            f"it has {', '.join(sorted({p.name for p in plugs})) or 'none'}",
        )
    return sorted(chosen, key=lambda p: (p.kind != "verdicts", p.name))


def collisions(plugs: Sequence[Plug]) -> dict[str, list[str]]:
    """Return the columns that two parts of ``wide`` would both write → who writes them.

    Names are compared as SQL does: without regard to case.
    """
    owners: dict[str, list[str]] = {name: ["wide itself"] for name in fixed_columns()}
    for plug in plugs:
        for column, _ in plug.columns.values():
            owners.setdefault(column.lower(), []).append(plug.label)
    return {column: who for column, who in owners.items() if len(who) > 1}


def fixed_columns() -> dict[str, str]:
    """Return the columns that ``wide`` has in every store, with their kinds."""
    traces, samplings = TABLES["traces"].columns, TABLES["samplings"].columns
    sources, verdicts = TABLES["prompt_sources"].columns, TABLES["verdicts"].columns
    return {
        **{c: traces[c] for c in TRACE_COLUMNS},
        **{c: samplings[c] for c in SAMPLING_COLUMNS},
        **{name: sources[c] for c, name in SOURCE_COLUMNS.items()},
        "n_sources": "int",
        **{c: verdicts[c] for c in VERDICT_FIELDS},
        **dict.fromkeys(REVIEW_COLUMNS, "text"),
    }


def columns_of(plugs: Sequence[Plug]) -> dict[str, str]:
    """Return all columns of ``wide`` with their kinds, in order."""
    out = fixed_columns()
    for plug in plugs:
        out.update(plug.columns.values())
    return out


def meanings_of(plugs: Sequence[Plug]) -> dict[str, str]:
    """Return column of ``wide`` → what it means, where that is known.

    A score from outside is not imported for it: its columns have no text then.
    """
    out = dict(COLUMNS)
    for plug in plugs:
        if plug.kind == "verdicts":
            names = {column: field for field, (column, _) in plug.columns.items()}
            out |= {c: f"{COLUMNS[f]}; by {plug.name}" for c, f in names.items()}
        elif plug.name in plugins.names("scores"):
            out |= plugins.meanings("scores", plug.name)
    return out


def empty_wide(
    con: duckdb.DuckDBPyConnection, verifiers: Iterable[str], scores: Iterable[str]
) -> None:
    """Make an empty view ``wide`` in ``con``, so that predicates bind before any work starts.

    Args:
        con: a connection, such as ``duckdb.connect()``.
        verifiers: names or paths of the verifiers that the recipe runs.
        scores: names or paths of its scores.

    Raises:
        PluginError: no such plug-in.
        UsageError: two of them would write one column.

    >>> import duckdb
    >>> con = duckdb.connect()
    >>> empty_wide(con, [], ["length"])
    >>> con.execute("SELECT count(*) FROM wide WHERE reasoning_words > 10").fetchone()
    (0,)
    """
    plugs = declared_plugs(verifiers, scores)
    refuse_collisions(plugs)
    columns = {**columns_of(plugs), **TEXTS}
    nulls = ", ".join(
        f"NULL::{SQL_TYPES[kind]} AS {quoted(name)}" for name, kind in columns.items()
    )
    con.execute(f"CREATE OR REPLACE TEMP VIEW wide AS SELECT {nulls} WHERE false")


def refuse_collisions(plugs: Sequence[Plug]) -> None:
    """Raise ``UsageError`` where two parts of ``wide`` would write one column."""
    found = collisions(plugs)
    if found:
        lines = "; ".join(f"{c!r} by {' and '.join(who)}" for c, who in sorted(found.items()))
        raise UsageError(
            f"columns of the wide view written twice: {lines}",
            "rename the column in one plug-in, or leave one out",
        )


def wide_sql(
    store: Store,
    versions: Mapping[str, Pin] | None = None,
    *,
    verifiers: Iterable[str] = (),
    scores: Iterable[str] = (),
) -> str:
    """Return a SELECT over the store's own files that is ``wide``.

    What writers that are still open hold is not in it: seal first (``Store.seal``).

    Args:
        store: the store.
        versions: see ``choose``.
        verifiers: verifiers whose columns must be there even without any fact.
        scores: scores, likewise.

    Raises:
        UsageError: a pin that fits nothing, or a column that two plug-ins write.
    """
    stored = stored_plugs(store)
    have = {(p.kind, p.name) for p in stored}
    extra = [p for p in declared_plugs(verifiers, scores) if (p.kind, p.name) not in have]
    plugs = choose([*stored, *extra], versions)
    refuse_collisions(plugs)
    relation = parquet_relation(store)
    with duckdb.connect(":memory:") as con:
        several = repeated(con, plugs, relation)
    return wide_of(plugs, relation, several)


def with_texts(store: Store, sql: str) -> str:
    """Return ``wide`` with the columns of ``TEXTS``, for predicates that name them.

    Args:
        store: of ``sql``.
        sql: what ``wide_sql`` returned.
    """
    relation = parquet_relation(store)
    traces = relation("traces", dict.fromkeys(("trace_id", "completion", "run_id"), "text"))
    prompts = relation("prompts", dict.fromkeys(("prompt_id", "text"), "text"))
    return (
        f"SELECT w.*, t.completion, p.text AS prompt_text FROM ({sql}) AS w "
        f"LEFT JOIN {traces} AS t ON t.trace_id = w.trace_id "
        f"LEFT JOIN {prompts} AS p ON p.prompt_id = w.prompt_id"
    )


def parquet_relation(store: Store) -> Relation:
    """Return SQL over the sealed parts that the store has now, revoked runs left out."""
    parts = part_lists(store)
    revoked = store.excluded_runs()

    def relation(name: str, columns: Mapping[str, str]) -> str:
        return files_sql(parts.get(name, []), columns, revoked if name != "exclusions" else [])

    return relation


def part_lists(store: Store) -> dict[str, list[Path]]:
    """Return the parts of every table at one moment.

    What refers comes before what it refers to: while others write, a verdict may lack here, but
    never the trace of a verdict.
    """
    base = list(TABLES)

    def rank(name: str) -> int:
        first = name.partition(".")[0]
        return -base.index(first) if first in base else -len(base)

    return {name: store.table(name).part_paths() for name in sorted(store.tables(), key=rank)}


def files_sql(paths: Sequence[Path], columns: Mapping[str, str], revoked: Sequence[str]) -> str:
    """Return a SELECT over Parquet files named one by one; empty with its types where none is."""
    if not paths:
        nulls = ", ".join(f"NULL::{SQL_TYPES[k]} AS {quoted(c)}" for c, k in columns.items())
        return f"(SELECT {nulls} WHERE false)"
    files = ", ".join(literal(str(path.absolute())) for path in paths)
    names = ", ".join(quoted(c) for c in columns)
    sql = f"SELECT {names} FROM read_parquet([{files}])"
    if revoked and "run_id" in columns:
        runs = ", ".join(literal(run) for run in revoked)
        sql += f" WHERE coalesce(run_id NOT IN ({runs}), true)"
    return f"({sql})"


def repeated(con: duckdb.DuckDBPyConnection, plugs: Sequence[Plug], relation: Relation) -> set[str]:
    """Return the labels of verifiers that hold several verdicts of one trace.

    Most hold one each, and choosing among several costs more than all of the rest of ``wide``.
    """
    found = set()
    for plug in plugs:
        if plug.kind == "verdicts":
            rows = relation(plug.table, plug.stored_columns)
            again = f"SELECT trace_id FROM {rows} GROUP BY trace_id HAVING count(*) > 1 LIMIT 1"
            if con.execute(again).fetchall():
                found.add(plug.label)
    return found


def wide_of(plugs: Sequence[Plug], relation: Relation, several: Set[str]) -> str:
    """Return the SELECT that makes ``wide`` out of the tables that ``relation`` gives.

    Args:
        plugs: one version of each verifier and score.
        relation: SQL of a table's rows.
        several: labels of the verifiers to choose one verdict per trace from (``repeated``).
    """
    names = ("traces", "samplings", "trace_updates", "reviews")
    base = {name: relation(name, TABLES[name].columns) for name in names}
    base["traces"] = f"({_traces_sql(base['traces'], base['trace_updates'])})"
    sources = relation("prompt_sources", TABLES["prompt_sources"].columns)
    ctes = [f"_source AS ({_source_sql(sources)})"]
    joins = [
        f"LEFT JOIN {base['samplings']} AS _sampling USING (sampling_id)",
        "LEFT JOIN _source USING (prompt_id)",
        f"LEFT JOIN {latest_reviews(base['reviews'])} AS _review "
        "ON _review.trace_id = _trace.trace_id",
    ]
    shown = [f"_trace.{quoted(c)}" for c in TRACE_COLUMNS]
    shown += [f"_sampling.{quoted(c)}" for c in SAMPLING_COLUMNS]
    shown += [f"_source.{quoted(c)}" for c in (*SOURCE_COLUMNS.values(), "n_sources")]
    reviewed = [f"_review.{quoted(c)}" for c in REVIEW_COLUMNS]
    own = []
    for n, plug in enumerate(plugs):
        rows = relation(plug.table, plug.stored_columns)
        if plug.label in several and plug.kind == "verdicts":
            rows = f"({_one_verdict_sql(rows, base['traces'])})"
        joins.append(f"LEFT JOIN {rows} AS _p{n} ON _p{n}.trace_id = _trace.trace_id")
        own += [f"_p{n}.{quoted(c)} AS {quoted(w)}" for c, (w, _) in plug.columns.items()]
    general = _general({n: p for n, p in enumerate(plugs) if p.kind == "verdicts"})
    return (
        f"WITH {', '.join(ctes)} SELECT {', '.join([*shown, *general, *reviewed, *own])} "
        f"FROM {base['traces']} AS _trace {' '.join(joins)}"
    )


def _traces_sql(traces: str, updates: str) -> str:
    """Traces with what is known of them since they were stored, those superseded left out."""
    updated = [c for c in TABLES["trace_updates"].columns if c in TRACE_COLUMNS]
    own = ("trace_id", "run_id")
    shown = ", ".join(f"coalesce(u.{c}, t.{c}) AS {c}" for c in updated if c not in own)
    return (
        f"SELECT t.* REPLACE ({shown}) FROM {traces} AS t LEFT JOIN (SELECT * FROM {updates} "
        "QUALIFY row_number() OVER (PARTITION BY trace_id ORDER BY correction DESC) = 1) AS u "
        "USING (trace_id) WHERE u.superseded_by IS NULL"
    )


def latest_reviews(reviews: str) -> str:
    """Return SQL of what people said last of each trace: ``trace_id`` and ``REVIEW_COLUMNS``.

    A later word replaces an earlier one, whoever said it; ``none`` takes it back.
    """
    last = "ORDER BY created_at DESC, review_id DESC"
    return (
        "(SELECT trace_id, "
        f"nullif(first(review {last}) FILTER (review IS NOT NULL), 'none') AS review, "
        f"nullif(first(note {last}) FILTER (note IS NOT NULL), '') AS review_note, "
        f"first(author {last}) AS reviewed_by, max(created_at) AS reviewed_at "
        f"FROM {reviews} GROUP BY trace_id)"
    )


def current_sources(sources: str) -> str:
    """Return SQL of the prompt sources that count: of corrected ones the last correction."""
    return (
        f"(SELECT * FROM {sources} QUALIFY row_number() OVER "
        "(PARTITION BY prompt_id, source, item ORDER BY correction DESC NULLS LAST) = 1)"
    )


def _source_sql(sources: str) -> str:
    names = ", ".join(f"{quoted(c)} AS {quoted(w)}" for c, w in SOURCE_COLUMNS.items())
    # A source may name a verifier by the path of its file; its facts go by the file's stem.
    stem = "regexp_replace(verifier, '^(.*/)?(.*?)(\\.py)?$', '\\2')"
    return (
        f"SELECT prompt_id, {names}, {stem} AS _verifier, "
        f"count(*) OVER (PARTITION BY prompt_id) AS n_sources "
        f"FROM {current_sources(sources)} QUALIFY row_number() OVER (PARTITION BY prompt_id "
        "ORDER BY gold_hash IS NULL, verifier IS NULL, source, item, source_id) = 1"
    )


def _one_verdict_sql(verdicts: str, traces: str) -> str:
    fields = ", ".join(f"v.{quoted(f)}" for f in VERDICT_FIELDS)
    return (
        f"SELECT v.trace_id, v.gold_hash, {fields} FROM {verdicts} AS v "
        f"LEFT JOIN (SELECT trace_id, prompt_id FROM {traces}) AS t USING (trace_id) "
        "LEFT JOIN _source AS s USING (prompt_id) "
        "QUALIFY row_number() OVER (PARTITION BY v.trace_id ORDER BY "
        "v.gold_hash IS DISTINCT FROM s.gold_hash, v.run_id DESC, v.verdict_id) = 1"
    )


def _general(verifiers: Mapping[int, Plug]) -> list[str]:
    """SQL of status, reward … of the verifier that the prompt's source names."""
    kinds = TABLES["verdicts"].columns
    if not verifiers:
        return [f"NULL::{SQL_TYPES[kinds[f]]} AS {quoted(f)}" for f in VERDICT_FIELDS]
    out = []
    for field in VERDICT_FIELDS:
        whens = [
            f"WHEN _source._verifier = {literal(p.name)} THEN _p{n}.{field}"
            for n, p in verifiers.items()
        ]
        whens += [
            f"WHEN _source._verifier IS NULL AND _source.gold_hash = _p{n}.gold_hash "
            f"THEN _p{n}.{field}"
            for n in verifiers
        ]
        out.append(f"CASE {' '.join(whens)} END AS {field}")
    return out
