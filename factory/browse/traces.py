"""What the pages of traces show: lists, one trace with its why, all traces of a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from catalogs.marks import halves
from factory.browse.database import Database
from factory.browse.view import NULL, PAGE_ROWS, TITLES, View, facet_sql, facets_of
from factory.errors import UsageError
from factory.records.text import trace_text
from factory.store.wide import REVIEW_COLUMNS, literal, quoted

QUERY_S = 20.0
GOLD_CHARS = 200
LIST_COLUMNS = (
    "trace_id", "prompt_id", "status", "reason", "review", "model", "source", "item",
    "n_completion_tokens", "extracted", "finish_reason",
)  # fmt: skip
_KEY = re.compile("[0-9a-f]{32}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def ask(db: Database, text: str) -> list[dict[str, Any]]:
    """Answer a question about ``wide``, the newest reviews included."""
    return db.ask(db.wide_cte() + text).dicts()


def condition_of(db: Database, view: View) -> str:
    """Return the condition of a view that our own SQL may hold: no word of a user is in it."""
    where = db.rows_where(view.where, timeout_s=QUERY_S) if view.where else None
    return view.condition(db.columns, where=where)


# ---- lists


def page_of(db: Database, view: View, *, after: str = "", before: str = "") -> dict[str, Any]:
    """Return one page of a view's traces.

    Args:
        db: the catalog.
        view: which traces.
        after: mark of the row before the page; empty: the first page.
        before: mark of the row behind the page.
    """
    back = bool(before)
    conditions = [condition_of(db, view)]
    if after or before:
        conditions.append(f"({view.beyond(after or before, db.columns, back=back)})")
    names = [c for c in dict.fromkeys((*LIST_COLUMNS, view.sort)) if c in db.columns]
    rows = ask(
        db,
        f"SELECT {', '.join(quoted(c) for c in names)} FROM wide "
        f"WHERE {' AND '.join(conditions)} ORDER BY {view.order(back=back)} "
        f"LIMIT {PAGE_ROWS + 1}",
    )
    more = len(rows) > PAGE_ROWS
    rows = rows[:PAGE_ROWS]
    if back:
        rows.reverse()
    prompts = prompt_texts(db, {r["prompt_id"] for r in rows}, limit=240)
    for row in rows:
        row["mark"] = view.mark_of(row)
        row["prompt"] = prompts.get(row["prompt_id"])
    return {
        "rows": rows,
        "after": rows[-1]["mark"] if rows and (more or back) else "",
        "before": rows[0]["mark"] if rows and ((more and back) or after) else "",
        "is_first": not after and not (back and more),
    }


def facets(db: Database, view: View) -> list[dict[str, Any]]:
    """Return every facet with the traces of each value, in the present view."""
    known = facets_of(db.columns)
    names = list(known)
    rows = ask(db, facet_sql(names, known, condition_of(db, view)))
    out = []
    for i, name in enumerate(names):
        chosen = view.facets.get(name, ())
        found = [(r["value"], r["n"]) for r in rows if r["facet"] == i]
        if not chosen and all(value is None for value, _ in found):
            continue
        values = [
            {
                "name": "none" if value is None else value,
                "n": n,
                "is_on": (NULL if value is None else value) in chosen,
                "href": view.toggled(name, NULL if value is None else value).address(),
            }
            for value, n in found
        ]
        there = {NULL if v is None else v for v, _ in found}
        values += [
            {"name": value, "n": 0, "is_on": True, "href": view.toggled(name, value).address()}
            for value in chosen
            if value not in there
        ]
        out.append({"name": name, "title": TITLES[name], "values": values})
    return out


def count(db: Database, view: View) -> int:
    """Return the number of traces of a view."""
    if view.is_all:
        return db.n_traces
    rows = ask(db, f"SELECT count(*) AS n FROM wide WHERE {condition_of(db, view)}")
    return int(rows[0]["n"])


def prompt_texts(db: Database, prompt_ids: set[str], *, limit: int = 0) -> dict[str, str]:
    """Return prompts by key; ``limit``: their first characters."""
    if not prompt_ids:
        return {}
    keys = ", ".join(literal(p) for p in sorted(prompt_ids))
    text = f"left(text, {limit})" if limit else "text"
    return dict(
        db.ask(f"SELECT prompt_id, {text} FROM prompt_texts WHERE prompt_id IN ({keys})").rows
    )


# ---- one trace


def find_trace(db: Database, prefix: str) -> str:
    """Return the key of the trace that begins so.

    Raises:
        UsageError: none does, or several do.
    """
    if not re.fullmatch("[0-9a-f]{1,32}", prefix):
        raise UsageError(f"{prefix[:40]!r} is no trace", "a trace_id has 32 hexadecimal digits")
    rows = db.ask(
        "SELECT trace_id FROM catalog.wide WHERE starts_with(trace_id, ?) LIMIT 2", [prefix]
    ).rows
    if len(rows) != 1:
        raise UsageError(
            f"{'several traces begin' if rows else 'no trace begins'} with {prefix}",
            "give more of its key" if rows else "bring the catalog up to date, if it is new",
        )
    return str(rows[0][0])


def wide_rows(db: Database, condition: str) -> list[dict[str, Any]]:
    """Return whole rows of ``wide``, newest reviews included."""
    rows = db.ask(f"SELECT * FROM catalog.wide WHERE {condition}").dicts()
    for row in rows:
        word = db.words.get(row["trace_id"])
        if word is not None:
            row.update(zip(REVIEW_COLUMNS, word, strict=True))
    return rows


def text_of(db: Database, trace_id: str) -> dict[str, Any]:
    """Return prefill and completion of a trace, read from the one row in which they stand."""
    for file, row in db.ask(
        "SELECT file, row FROM catalog.trace_places WHERE trace_id = ?", [trace_id]
    ).rows:
        return db.ask(
            f"SELECT prefill, completion FROM read_parquet({literal(file)}) "
            f"WHERE file_row_number = {row}"
        ).dicts()[0]
    return {"prefill": None, "completion": None}


def trace_page(db: Database, key: str) -> dict[str, Any]:
    """Return all that the page of one trace shows at once."""
    trace_id = find_trace(db, key) if not _KEY.fullmatch(key) else key
    rows = wide_rows(db, f"trace_id = {literal(trace_id)}")
    if not rows:
        find_trace(db, key)
    row = rows[0]
    text = trace_text(**text_of(db, trace_id))
    thinking, answer = halves(text, row)
    prompt = db.ask(
        "SELECT text, messages FROM prompt_texts WHERE prompt_id = ?", [row["prompt_id"]]
    ).dicts()
    golds = db.ask(
        "SELECT DISTINCT gold_short FROM catalog.prompt_sources WHERE prompt_id = ? "
        "AND gold_short IS NOT NULL LIMIT 5",
        [row["prompt_id"]],
    ).rows
    if any(len(gold) >= GOLD_CHARS for (gold,) in golds):  # the catalog holds their beginnings
        golds = db.ask(
            "SELECT DISTINCT gold FROM golds WHERE prompt_id = ? AND gold IS NOT NULL LIMIT 5",
            [row["prompt_id"]],
        ).rows
    return {
        "row": row,
        "thinking": thinking,
        "answer": answer,
        "n_chars": len(text),
        "messages": _messages(prompt[0] if prompt else {}),
        "golds": [g[0] for g in golds],
        "decisions": decisions(db, row),
        "reviews": reviews(db, trace_id),
        "siblings": siblings(db, row["prompt_id"]),
    }


def _messages(prompt: Mapping[str, Any]) -> list[dict[str, str]]:
    import orjson

    try:
        found = orjson.loads(prompt.get("messages") or "null")
    except ValueError:
        found = None
    if isinstance(found, list) and all(isinstance(m, dict) for m in found):
        return [
            {"role": str(m.get("role", "")), "content": str(m.get("content") or "")} for m in found
        ]
    return [{"role": "user", "content": prompt.get("text") or ""}]


def reviews(db: Database, trace_id: str) -> list[dict[str, Any]]:
    """Return every word on a trace, newest first, those of this minute included."""
    if not db.store.has("reviews"):
        return []
    frame = db.store.table("reviews").read(
        ["trace_id", "review", "note", "author", "created_at", "review_id"]
    )
    return (
        frame.filter(frame["trace_id"] == trace_id)
        .sort("created_at", "review_id", descending=True)
        .to_dicts()
    )


def siblings(db: Database, prompt_id: str) -> list[dict[str, Any]]:
    """Return the traces of a prompt in short."""
    return db.ask(
        "SELECT trace_id, status, model, sample_index, n_completion_tokens, extracted "
        "FROM catalog.wide WHERE prompt_id = ? ORDER BY model, sample_index, trace_id LIMIT 200",
        [prompt_id],
    ).dicts()


def decisions(db: Database, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what every release decided about a trace: its filters and the columns they read."""
    trace = [row["trace_id"]]
    found = db.ask(
        "SELECT r.release, r.version, r.is_latest, d.is_kept, d.dropped_by, d.undefined_by, "
        "m.trace_id IS NOT NULL AS is_row FROM releases r LEFT JOIN "
        "(FROM release_decisions WHERE trace_id = ?) d USING (release, version) LEFT JOIN "
        "(FROM release_rows WHERE trace_id = ?) m USING (release, version) "
        "WHERE d.trace_id IS NOT NULL OR m.trace_id IS NOT NULL "
        "ORDER BY r.created_at DESC, r.release LIMIT 40",
        [*trace, *trace],
    ).dicts()
    if not found:
        return []
    filters = db.ask(
        "SELECT release, version, filter, predicate, is_on FROM release_filters ORDER BY position"
    ).dicts()
    for release in found:
        name = (release["release"], release["version"])
        mine = [f for f in filters if (f["release"], f["version"]) == name]
        dropped, undefined = release["dropped_by"] or [], release["undefined_by"] or []
        release["filters"] = [
            {
                **f,
                "says": _says(f, dropped, undefined),
                "reads": [(c, row[c]) for c in _columns_in(f["predicate"], row)],
            }
            for f in mine
        ]
    return found


def _says(item: Mapping[str, Any], dropped: Sequence[str], undefined: Sequence[str]) -> str:
    if not item["is_on"]:
        return "off"
    if item["filter"] in undefined:
        return "undefined"
    return "drops" if item["filter"] in dropped else "keeps"


def _columns_in(predicate: str | None, row: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys(w.lower() for w in _WORD.findall(predicate or ""))
    by_name = {c.lower(): c for c in row}
    return [by_name[n] for n in names if n in by_name]


def verdicts(db: Database, trace_id: str) -> list[dict[str, Any]]:
    """Return every verdict of every version on a trace."""
    return db.ask(
        "SELECT verifier, version, status, reward, reason, extracted, decided_by, seconds, run_id "
        "FROM verdicts WHERE trace_id = ? ORDER BY verifier, version DESC, run_id DESC",
        [trace_id],
    ).dicts()


def neighbours(db: Database, view: View, row: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of the traces before and after one in a view."""
    out = {}
    mark, condition = view.mark_of(row), condition_of(db, view)
    for name, back in (("previous", True), ("next", False)):
        rows = ask(
            db,
            f"SELECT trace_id FROM wide WHERE {condition} "
            f"AND ({view.beyond(mark, db.columns, back=back)}) "
            f"ORDER BY {view.order(back=back)} LIMIT 1",
        )
        out[name] = rows[0]["trace_id"] if rows else ""
    return out


def side_by_side(db: Database, prompt_id: str, *, limit: int = 12) -> dict[str, Any]:
    """Return a prompt's traces with their texts."""
    if not _KEY.fullmatch(prompt_id):
        raise UsageError(f"{prompt_id[:40]!r} is no prompt", "a prompt_id has 32 digits")
    rows = wide_rows(
        db,
        f"prompt_id = {literal(prompt_id)} ORDER BY model, sample_index, trace_id LIMIT {limit}",
    )
    for row in rows:
        text = trace_text(**text_of(db, row["trace_id"]))
        row["thinking"], row["answer"] = halves(text, row)
    prompt = prompt_texts(db, {prompt_id})
    return {"rows": rows, "prompt": prompt.get(prompt_id, ""), "prompt_id": prompt_id}


def known_keys(db: Database, trace_ids: Sequence[str]) -> set[str]:
    """Return those of the keys that are traces of the store.

    Raises:
        UsageError: one of them is no key at all.
    """
    for key in trace_ids:
        if not _KEY.fullmatch(key):
            raise UsageError(f"{key[:40]!r} is no trace", "a trace_id has 32 hexadecimal digits")
    keys = ", ".join(literal(k) for k in trace_ids)
    rows = db.ask(f"SELECT trace_id FROM catalog.wide WHERE trace_id IN ({keys})").rows
    return {r[0] for r in rows}
