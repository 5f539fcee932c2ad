"""What changed between two versions of a dataset: rows, why they came or went, and the decision.

Rows are matched by ``trace_id``; a trace never changes, so a row is in one version, the other, or
in both. Why it is missing from one is read from that version's own decisions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from catalogs import build
from catalogs.show import existing_release
from factory.rows.answers import Answer, Format, plain
from factory.store import Store
from factory.store.wide import literal


def diff(store: Store, before: str, after: str, *, form: Format = "table") -> str:
    """Compare two releases, or two versions of one.

    Args:
        store: the store.
        before: ``release`` (its latest version) or ``release/version``.
        after: the same.
        form: printed form; ``json`` is one object with a list of rows per section.

    Raises:
        UsageError: no such release or version.
    """
    build.ensure(store)
    names = [existing_release(store, name) for name in (before, after)]
    with build.connect(store, refresh=False) as con:
        found = sections(con, *names)
    if form == "json":
        whole = {s.title: plain(s.dicts()) for s in found}
        return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
    return "\n".join(section.render(form) for section in found)


def sections(con: Any, a: tuple[str, str], b: tuple[str, str]) -> list[Answer]:
    """Compare two releases.

    Args:
        con: the catalog; temporary tables are made in it.
        a: name and version of the one.
        b: name and version of the other.

    Returns:
        Counts; rows that only one has, by what the other decided; what decided differently.
    """
    # Not ``before`` and ``after``: neither name says that time runs from one to the other.
    for side, (release, version) in (("a", a), ("b", b)):
        where = f"WHERE release = {literal(release)} AND version = {literal(version)}"
        con.execute(f"CREATE TEMP TABLE rows_{side} AS SELECT trace_id FROM release_rows {where}")
        con.execute(
            f"CREATE TEMP TABLE decided_{side} AS "
            "SELECT trace_id, list_sort(list_concat(dropped_by, list_transform(undefined_by, "
            "lambda name: name || ' (undefined)'))) AS why, is_kept "
            f"FROM release_decisions {where}"
        )
    manifests = [_manifest(con, *name) for name in (a, b)]
    titles = "/".join(a), "/".join(b)
    counts = con.execute(
        "SELECT (SELECT count(*) FROM rows_a), (SELECT count(*) FROM rows_b), "
        "(SELECT count(*) FROM rows_a SEMI JOIN rows_b USING (trace_id)), "
        "(SELECT count(*) FROM decided_a), (SELECT count(*) FROM decided_b), "
        "(SELECT count(*) FROM decided_a SEMI JOIN decided_b USING (trace_id))"
    ).fetchone()
    n_a, n_b, both, universe_a, universe_b, universe_both = counts
    head = Answer(
        ("what", "before", "after", "in_both", "gone", "new"),
        [
            ("rows", n_a, n_b, both, n_a - both, n_b - both),
            ("universe", universe_a, universe_b, universe_both, universe_a - universe_both,
             universe_b - universe_both),
        ],
        title=f"{titles[0]} -> {titles[1]}",
    )  # fmt: skip
    moved = [
        _moved(con, "a", "b", f"gone: why {titles[1]} lacks them"),
        _moved(con, "b", "a", f"new: why {titles[0]} lacked them"),
    ]
    decision = Answer(
        ("what", "name", "before", "after"),
        _changes(*manifests),
        title="what decided differently",
    )
    return [head, *(s for s in (*moved, decision) if s.rows)]


def _moved(con: Any, own: str, other: str, title: str) -> Answer:
    """Count rows that only ``own`` has by what the other version decided about them."""
    rows = con.execute(
        f"""
        SELECT CASE WHEN d.trace_id IS NULL THEN 'not in its universe'
                    WHEN d.is_kept THEN 'kept by its decisions, not in its rows'
                    ELSE array_to_string(d.why, ', ') END AS why,
            w.source, count(*) AS n_rows, min(r.trace_id) AS a_trace_id
        FROM (FROM rows_{own} ANTI JOIN rows_{other} USING (trace_id)) AS r
        LEFT JOIN decided_{other} AS d USING (trace_id)
        LEFT JOIN wide AS w ON w.trace_id = r.trace_id
        GROUP BY ALL ORDER BY n_rows DESC, why, source
        """
    ).fetchall()
    return Answer(("why", "source", "n_rows", "a_trace_id"), rows, title=title)


def _manifest(con: Any, release: str, version: str) -> dict[str, Any]:
    text = con.execute(
        "SELECT manifest FROM releases WHERE release = ? AND version = ?", [release, version]
    ).fetchone()[0]
    found = json.loads(text or "{}")
    return found if isinstance(found, dict) else {}


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str, Any, Any]]:
    """List what two manifests say differently: filters, plug-in versions, other recipe values."""
    rows = []
    sides = [
        {
            "filter": {f["name"]: _predicate(f) for f in m.get("filters", []) if "name" in f},
            "version of": m.get("plugins") or {},
            "universe": m.get("universe") or {},
            "recipe": {k: v for k, v in (m.get("recipe") or {}).items() if k != "filters"},
            "made by": {"code": m.get("code_version"), "parents": m.get("parents") or []},
        }
        for m in (a, b)
    ]
    for what in sides[0]:
        before, after = sides[0][what], sides[1][what]
        if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
            before, after = {"": before}, {"": after}
        for name in sorted({*before, *after}):
            was, now = before.get(name), after.get(name)
            if was != now:
                rows.append((what, name, _cell(was), _cell(now)))
    return rows


def _predicate(item: Mapping[str, Any]) -> str:
    return f"{item.get('sql')}" + ("" if item.get("is_on", True) else "  (off)")


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True)
