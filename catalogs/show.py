"""What ``factory sql | ls | show | sample`` do. Each returns text; the command line prints it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from catalogs import build, query
from factory.errors import UsageError
from factory.records.text import trace_text
from factory.rows.answers import Answer, Format, plain, printable
from factory.store import Store
from factory.store.wide import literal

SHOWN_CHARS = 1600


def sql(
    store: Store,
    text: str,
    *,
    form: Format = "table",
    limit: int = query.MAX_ROWS,
    timeout_s: float = query.TIMEOUT_S,
) -> tuple[str, str]:
    """Answer one SELECT or ``@name``; return the printed rows and a note for standard error.

    Args:
        store: the store.
        text: SQL, or the name of a query with an ``@``.
        form: ``table``, ``json``, ``csv`` or ``md``.
        limit: rows at most, 0 for all.
        timeout_s: wall seconds.

    Raises:
        UsageError: in one line, with what to do.
    """
    answer = query.run(store, text, max_rows=limit or None, timeout_s=timeout_s)
    return answer.render(form), answer.note


def ls(store: Store, *, form: Format = "table") -> str:
    """List releases, tables and views with their rows, and named queries."""
    with build.connect(store) as con:
        shelf = con.execute(
            "SELECT release || '/' || version, n_rows, coalesce(problem, created_at) "
            "FROM releases ORDER BY release, created_at"
        ).fetchall()
        tables = con.execute(
            "SELECT table_name, comment FROM duckdb_tables() WHERE database_name = 'catalog' "
            "UNION ALL SELECT view_name, comment FROM duckdb_views() "
            "WHERE database_name = 'catalog' AND NOT internal ORDER BY 1"
        ).fetchall()
        counts = {
            name: con.execute(f'SELECT count(*) FROM "{name}"').fetchall()[0][0]
            for name, _ in tables
        }
    rows: list[tuple[Any, ...]] = [("release", *row) for row in shelf]
    rows += [("table", name, counts[name], comment or "") for name, comment in tables]
    rows += [("query", f"@{name}", None, text) for name, text in query.named_queries().items()]
    return Answer(("kind", "name", "rows", "what"), rows).render(form)


def show(store: Store, name: str, *, form: Format = "table") -> str:
    """Describe a release, a table, a run or a named query.

    Args:
        store: the store.
        name: ``release`` or ``release/version``, a table's name, a run's id, ``@query``.
        form: printed form.

    Raises:
        UsageError: nothing of that name.
    """
    if name.startswith("@"):
        return query.text_of(name)
    build.ensure(store)
    sections = _release_sections(store, name) or _run_sections(store, name)
    sections = sections or _table_sections(store, name)
    if not sections:
        raise UsageError(f"nothing is named {name[:80]!r}", "`factory ls` lists what there is")
    if form == "json":
        whole = {s.title: plain(s.dicts()) for s in sections}
        return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
    return "\n".join(section.render(form) for section in sections)


def sample(
    store: Store,
    name: str,
    *,
    n: int = 3,
    dropped_by: str | None = None,
    seed: int = 0,
    form: Format = "table",
) -> str:
    """Show some traces of a release in full, or some that one of its filters dropped.

    Args:
        store: the store.
        name: ``release``, ``release/version``, or ``wide`` for all traces.
        n: traces.
        dropped_by: name of a filter of the release.
        seed: chooses which; the same seed shows the same ones.
        form: ``table`` prints readable blocks, ``json`` whole texts.

    Raises:
        UsageError: no such release or filter.
    """
    if n < 1:
        raise UsageError(f"-n {n}", "give at least 1")
    build.ensure(store)
    answer = _sampled(store, name, n, dropped_by, seed)
    if form != "table":
        return answer.render(form)
    if not answer.rows:
        return f"no trace of {name} was dropped by {dropped_by}\n" if dropped_by else "no traces\n"
    blocks = [_block(i, len(answer.rows), row) for i, row in enumerate(answer.dicts(), 1)]
    return "\n".join(blocks)


def audit(store: Store) -> list[Answer]:
    """Run every audit; return those that found rows. An empty list means all is well."""
    found = []
    build.ensure(store)
    for name in query.named_queries():
        if name.startswith("audit_"):
            answer = _ask(store, query.text_of(f"@{name}"), f"@{name}")
            found += [answer] if answer.rows else []
    return found


def find_release(store: Store, name: str) -> tuple[str, str] | None:
    """Return (name, version) of a release given as ``name`` (the latest) or ``name/version``.

    The catalog must have been brought up to date (``catalog.ensure``).

    Raises:
        UsageError: the name exists but not this version.
    """
    release, _, version = name.replace("@", "/").partition("/")
    rows = _ask(
        store,
        f"SELECT version, is_latest FROM releases WHERE release = {literal(release)} "
        "ORDER BY created_at",
    ).rows
    if not rows:
        return None
    fits = [v for v, latest in rows if (v.startswith(version) if version else latest)]
    if not fits:
        raise UsageError(
            f"release {release!r} has no version {version[:40]!r}",
            f"it has {', '.join(v for v, _ in rows)}",
        )
    return release, fits[-1]


def existing_release(store: Store, name: str) -> tuple[str, str]:
    """Return what ``find_release`` finds.

    Raises:
        UsageError: no such release.
    """
    found = find_release(store, name)
    if found is None:
        raise UsageError(f"no release {name[:80]!r}", "`factory ls` lists them")
    return found


@contextlib.contextmanager
def open_release(store: Store, name: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, str, str]]:
    """Open the catalog, brought up to date, and find a release in it.

    Args:
        store: the store.
        name: ``release`` (its latest version) or ``release/version``.

    Returns:
        The connection, the release's name and its version.

    Raises:
        UsageError: no such release.
    """
    build.ensure(store)
    release, version = existing_release(store, name)
    with build.connect(store, refresh=False) as con:
        yield con, release, version


def _ask(store: Store, text: str, title: str = "") -> Answer:
    with build.connect(store, refresh=False) as con:
        result = con.execute(text)
        columns = tuple(d[0] for d in result.description or [])
        return Answer(columns, result.fetchall(), title=title)


def _release_sections(store: Store, name: str) -> list[Answer]:
    found = find_release(store, name)
    if found is None:
        return []
    where = f"WHERE release = {literal(found[0])} AND version = {literal(found[1])}"
    row = _ask(store, f"SELECT * EXCLUDE (manifest) FROM releases {where}").dicts()[0]
    title = f"release {found[0]}/{found[1]}"
    head = Answer(
        ("field", "value"), [(k, v) for k, v in row.items() if v is not None], title=title
    )
    funnel = _ask(
        store,
        "SELECT filter, is_on, n_in, n_dropped_here, n_dropped, n_dropped_only, n_undefined, "
        "predicate "
        f"FROM release_filters {where} ORDER BY position",
        "funnel",
    )
    makeup = _ask(
        store,
        "SELECT source, model, status, count(*) AS n_rows, "
        "round(avg(n_completion_tokens), 1) AS mean_tokens "
        f"FROM release_rows JOIN wide USING (trace_id) {where} GROUP BY ALL ORDER BY ALL",
        "made of",
    )
    return [head, *(s for s in (funnel, makeup) if s.rows)]


def _run_sections(store: Store, name: str) -> list[Answer]:
    rows = _ask(store, f"SELECT * FROM runs WHERE run_id = {literal(name)}").dicts()
    if not rows:
        return []
    made = _ask(
        store,
        "SELECT model, count(*) AS n_traces, sum(n_completion_tokens) AS completion_tokens "
        f"FROM wide WHERE run_id = {literal(name)} GROUP BY model ORDER BY model",
        "traces of this run",
    )
    head = Answer(("field", "value"), list(rows[0].items()), title=f"run {name}")
    return [head, *([made] if made.rows else [])]


def _table_sections(store: Store, name: str) -> list[Answer]:
    columns = _ask(
        store,
        "SELECT column_name AS column, data_type AS type, comment FROM duckdb_columns() "
        f"WHERE database_name = 'catalog' AND table_name = {literal(name)} "
        "AND NOT internal ORDER BY column_index",
        f"columns of {name}",
    )
    if not columns.rows:
        return []
    if name == "wide":
        owners = {r["name"]: r for r in _ask(store, "SELECT * FROM wide_columns").dicts()}
        rows = [(c, t, owners.get(c, {}).get("written_by"), said) for c, t, said in columns.rows]
        columns = Answer(("column", "type", "from", "meaning"), rows, title=columns.title)
    return [columns]


def _sampled(store: Store, name: str, n: int, dropped_by: str | None, seed: int) -> Answer:
    universe, why = "SELECT trace_id FROM wide", "NULL::VARCHAR[]"
    if name not in ("wide", "traces"):
        found = find_release(store, name)
        if found is None:
            raise UsageError(
                f"no release {name[:80]!r}", "`factory ls` lists them; `wide` samples all traces"
            )
        where = f"release = {literal(found[0])} AND version = {literal(found[1])}"
        universe = f"SELECT trace_id FROM release_rows WHERE {where}"
        if dropped_by is not None:
            _check_filter(store, where, found, dropped_by)
            universe = (
                f"SELECT trace_id, dropped_by FROM release_decisions WHERE {where} "
                f"AND list_contains(dropped_by, {literal(dropped_by)})"
            )
            why = "dropped_by"
    elif dropped_by is not None:
        raise UsageError("--dropped-by needs a release", "name one: `factory ls` lists them")
    return _ask(
        store,
        f"WITH chosen AS ({universe} ORDER BY md5(trace_id || {literal(str(seed))}) LIMIT {n}) "
        "SELECT trace_id, model, source, item, status, reason, "
        f"{why} AS dropped_by, extracted, n_completion_tokens, "
        "(SELECT gold FROM golds g WHERE g.prompt_id = w.prompt_id AND gold IS NOT NULL "
        "ORDER BY source_id LIMIT 1) AS gold, p.text AS prompt, t.prefill, t.completion "
        "FROM chosen JOIN wide w USING (trace_id) JOIN trace_texts t USING (trace_id) "
        "LEFT JOIN prompt_texts p ON p.prompt_id = w.prompt_id ORDER BY trace_id",
    )


def _check_filter(store: Store, where: str, found: Sequence[str], name: str) -> None:
    known = [r[0] for r in _ask(store, f"SELECT filter FROM release_filters WHERE {where}").rows]
    if name not in known:
        raise UsageError(
            f"release {'/'.join(found)} has no filter {name[:60]!r}",
            f"it has {', '.join(known) or 'none'}",
        )
    decided = _ask(store, f"SELECT count(*) FROM release_decisions WHERE {where}").rows[0][0]
    if not decided:
        raise UsageError(
            f"release {'/'.join(found)} was written without its decisions", "release it again"
        )


def _block(number: int, of: int, row: dict[str, Any]) -> str:
    words = [row["status"] or "unverified", row["reason"]]
    if row["dropped_by"]:
        words.append("dropped by " + ", ".join(row["dropped_by"]))
    words += [row["model"], f"{row['source']}/{row['item']}" if row["source"] else None]
    if row["n_completion_tokens"] is not None:
        words.append(f"{row['n_completion_tokens']} tokens")
    head = " · ".join(printable(str(w)) for w in words if w)
    text = trace_text(row["prefill"], row["completion"])
    lines = [f"━━ {number} of {of} · {head}", f"trace  {row['trace_id']}"]
    lines += [f"prompt {_shortened(row['prompt'] or '', 400)}"]
    lines += [f"gold   {_shortened(row['gold'], 200)}"] if row["gold"] is not None else []
    lines += [f"  │ {line}".rstrip() for line in _shortened(text, SHOWN_CHARS).split("\n")]
    return "\n".join(lines) + "\n"


def _shortened(text: str, limit: int) -> str:
    lines = "\n".join(printable(line) for line in text.split("\n"))
    if len(lines) <= limit:
        return lines
    left = len(lines) - limit
    return f"{lines[: limit // 2]}\n[… {left:,} characters …]\n{lines[-limit // 2 :]}"
