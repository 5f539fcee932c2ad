"""What ``factory sql | ls | show`` do. Each returns text; the command line prints it."""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Iterator
from typing import Any

import duckdb

from catalogs import build, query
from catalogs.build import asked, find_release
from catalogs.printing import find_trace, print_traces
from factory.errors import UsageError
from factory.rows.answers import Answer, Format, pieces, plain
from factory.store import Store
from factory.store.wide import literal


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


def sql_pieces(
    store: Store, text: str, *, form: Format, limit: int = 0, notes: list[str]
) -> Iterator[str]:
    """Yield an answer in JSON, CSV or Markdown while it comes: all of it, however large.

    Args:
        store: the store.
        text: SQL, or the name of a query with an ``@``.
        form: ``json``, ``csv`` or ``md``.
        limit: rows at most, 0 for all.
        notes: takes notes for standard error, at the end.

    Raises:
        UsageError: as ``sql``, some of them only at the end.
    """
    with query.stream(store, text, max_rows=limit or None) as rows:
        yield from pieces(rows.columns, rows, form)
        notes += query.notes_of(rows, limit)


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


_NAMES = (
    "SELECT DISTINCT release AS name FROM releases "
    "UNION ALL SELECT table_name FROM duckdb_tables() "
    "UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal"
)


def show(store: Store, name: str, *, form: Format = "table", colour: bool = False) -> str:
    """Describe a release, a table, a run, a trace or a named query.

    Args:
        store: the store.
        name: ``release`` or ``release/version``, a table's name, a run's id, ``@query``, or the
            beginning of a trace's key.
        form: printed form.
        colour: whether a trace is printed in colours.

    Raises:
        UsageError: nothing of that name, or several traces.
    """
    if name.startswith("@"):
        return query.text_of(name)
    build.ensure(store)
    sections = _release_sections(store, name) or _run_sections(store, name)
    sections = sections or _table_sections(store, name)
    trace_id = None if sections else find_trace(store, name)
    if trace_id is not None:
        return print_traces(store, [trace_id], form=form, full=True, colour=colour)
    if not sections:
        names = [str(r["name"]) for r in asked(store, _NAMES).dicts()]
        near = difflib.get_close_matches(name, names, n=1)
        raise UsageError(
            f"nothing is named {name[:80]!r}",
            f"{f'{near[0]!r} is near; ' if near else ''}`factory ls` lists what there is",
        )
    if form == "json":
        whole = {s.title: plain(s.dicts()) for s in sections}
        return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
    return "\n".join(section.render(form) for section in sections)


def audit(store: Store) -> list[Answer]:
    """Run every audit; return those that found rows. An empty list means all is well."""
    found = []
    build.ensure(store)
    for name in query.named_queries():
        if name.startswith("audit_"):
            answer = asked(store, query.text_of(f"@{name}"), f"@{name}")
            found += [answer] if answer.rows else []
    return found


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


def _release_sections(store: Store, name: str) -> list[Answer]:
    found = find_release(store, name)
    if found is None:
        return []
    where = f"WHERE release = {literal(found[0])} AND version = {literal(found[1])}"
    row = asked(store, f"SELECT * EXCLUDE (manifest) FROM releases {where}").dicts()[0]
    title = f"release {found[0]}/{found[1]}"
    head = Answer(
        ("field", "value"), [(k, v) for k, v in row.items() if v is not None], title=title
    )
    funnel = asked(
        store,
        "SELECT filter, is_on, n_in, n_dropped_here, n_dropped, n_dropped_only, n_undefined, "
        "predicate "
        f"FROM release_filters {where} ORDER BY position",
        "funnel",
    )
    makeup = asked(
        store,
        "SELECT source, model, status, count(*) AS n_rows, "
        "round(avg(n_completion_tokens), 1) AS mean_tokens "
        f"FROM release_rows JOIN wide USING (trace_id) {where} GROUP BY ALL ORDER BY ALL",
        "made of",
    )
    return [head, *(s for s in (funnel, makeup) if s.rows)]


def _run_sections(store: Store, name: str) -> list[Answer]:
    rows = asked(store, f"SELECT * FROM runs WHERE run_id = {literal(name)}").dicts()
    if not rows:
        return []
    made = asked(
        store,
        "SELECT model, count(*) AS n_traces, sum(n_completion_tokens) AS completion_tokens "
        f"FROM wide WHERE run_id = {literal(name)} GROUP BY model ORDER BY model",
        "traces of this run",
    )
    head = Answer(("field", "value"), list(rows[0].items()), title=f"run {name}")
    return [head, *([made] if made.rows else [])]


def _table_sections(store: Store, name: str) -> list[Answer]:
    columns = asked(
        store,
        "SELECT column_name AS column, data_type AS type, comment FROM duckdb_columns() "
        f"WHERE database_name = 'catalog' AND table_name = {literal(name)} "
        "AND NOT internal ORDER BY column_index",
        f"columns of {name}",
    )
    if not columns.rows:
        return []
    if name == "wide":
        owners = {r["name"]: r for r in asked(store, "SELECT * FROM wide_columns").dicts()}
        rows = [(c, t, owners.get(c, {}).get("written_by"), said) for c, t, said in columns.rows]
        columns = Answer(("column", "type", "from", "meaning"), rows, title=columns.title)
    return [columns]
