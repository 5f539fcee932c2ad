"""Traces on a terminal: ``factory sample`` and ``factory show TRACE``.

Texts are written by models: control characters, terminal escapes and marks of direction are printed
as their codes, and nothing but our own colours is sent to the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from catalogs import build, query
from catalogs.marks import Half, halves
from factory.errors import UsageError
from factory.records.text import trace_text
from factory.rows.answers import Format, printable
from factory.store import Store
from factory.store.wide import literal

SHOWN_CHARS = 1600
_COLOURS = {"pass": "32", "fail": "31", "unscored": "33", "mixed": "45;97", "loop": "43;30",
            "tag": "41;97", "answer": "42;30", "soft": "2"}  # fmt: skip
_LEAST_KEY = 4


def sample(
    store: Store,
    name: str,
    *,
    n: int = 3,
    dropped_by: str | None = None,
    where: str | None = None,
    seed: int = 0,
    full: bool = False,
    colour: bool = False,
    form: Format = "table",
) -> str:
    """Show some traces of a release, or some that one of its filters dropped.

    Args:
        store: the store.
        name: ``release``, ``release/version``, or ``wide`` for all traces.
        n: traces.
        dropped_by: name of a filter of the release.
        where: a predicate over ``wide``; it runs as ``factory sql`` does.
        seed: chooses which; the same seed shows the same ones.
        full: whether long texts are printed whole.
        colour: whether verdicts and marked stretches are coloured.
        form: ``table`` prints readable blocks, ``json`` whole texts.

    Raises:
        UsageError: no such release or filter, or a predicate that cannot be read.
    """
    if n < 1:
        raise UsageError(f"-n {n}", "give at least 1")
    build.ensure(store)
    universe = _universe(store, name, dropped_by)
    if where is not None:
        # The line break ends a comment that the predicate may end with.
        universe = f"SELECT trace_id FROM wide WHERE ({where}\n) AND trace_id IN ({universe})"
    text = f"FROM ({universe}) ORDER BY md5(trace_id || {literal(str(seed))}) LIMIT {n}"
    if where is None:
        rows = build.asked(store, f"SELECT trace_id {text}").rows
    else:
        rows = query.run(store, f"SELECT trace_id {text}", refresh=False).rows
    shown = print_traces(
        store, [r[0] for r in rows], form=form, full=full, colour=colour,
        release=name, dropped_by=dropped_by,
    )  # fmt: skip
    if rows or form != "table":
        return shown
    return f"no trace of {name} was dropped by {dropped_by}\n" if dropped_by else "no traces\n"


def find_trace(store: Store, prefix: str) -> str | None:
    """Return the key of the trace that begins so; None: none does.

    Raises:
        UsageError: several do.
    """
    if not re.fullmatch(f"[0-9a-f]{{{_LEAST_KEY},32}}", prefix):
        return None
    rows = build.asked(
        store, f"SELECT trace_id FROM wide WHERE starts_with(trace_id, {literal(prefix)}) LIMIT 6"
    ).rows
    if len(rows) > 1:
        raise UsageError(
            f"several traces begin with {prefix}",
            f"give more of the key: {', '.join(r[0][:12] for r in rows[:5])} …",
        )
    return str(rows[0][0]) if rows else None


def print_traces(
    store: Store,
    trace_ids: Sequence[str],
    *,
    form: Format = "table",
    full: bool = False,
    colour: bool = False,
    release: str = "",
    dropped_by: str | None = None,
) -> str:
    """Print traces with their prompts, golds, and what releases decided.

    Args:
        store: the store, its catalog up to date.
        trace_ids: keys, at most some hundred.
        form: ``table`` prints readable blocks.
        full: whether long texts are printed whole.
        colour: whether they are coloured.
        release: whose decisions are shown; empty: those of all.
        dropped_by: a filter of the release that was asked for.
    """
    keys = ", ".join(literal(k) for k in trace_ids) or "''"
    why = "NULL::VARCHAR[]"
    if dropped_by is not None:
        where = _where(store, release)
        decided = f"FROM release_decisions d WHERE {where} AND d.trace_id = w.trace_id"
        why = f"(SELECT dropped_by {decided})"
    answer = build.asked(
        store,
        f"SELECT w.trace_id, model, source, item, status, reason, {why} AS dropped_by, extracted, "
        "n_completion_tokens, "
        "(SELECT gold FROM golds g WHERE g.prompt_id = w.prompt_id AND gold IS NOT NULL "
        "ORDER BY source_id LIMIT 1) AS gold, p.text AS prompt, t.prefill, t.completion "
        f"FROM wide w JOIN (SELECT * FROM trace_texts WHERE trace_id IN ({keys})) t "
        "USING (trace_id) LEFT JOIN prompt_texts p ON p.prompt_id = w.prompt_id "
        f"WHERE w.trace_id IN ({keys}) ORDER BY w.trace_id",
    )
    if form != "table":
        return answer.render(form)
    marks = _marked(store, keys) if colour else {}
    blocks = []
    for i, row in enumerate(answer.dicts(), 1):
        said = [] if release else list(_decisions(store, row["trace_id"]))
        spans = marks.get(row["trace_id"], {})
        blocks.append(_block(i, len(answer.rows), row, said, spans, full=full, colour=colour))
    return "\n".join(blocks)


def _universe(store: Store, name: str, dropped_by: str | None) -> str:
    if name in ("wide", "traces"):
        if dropped_by is not None:
            raise UsageError("--dropped-by needs a release", "name one: `factory ls` lists them")
        return "SELECT trace_id FROM wide"
    where = _where(store, name)
    if dropped_by is None:
        return f"SELECT trace_id FROM release_rows WHERE {where}"
    _check_filter(store, where, name, dropped_by)
    return (
        f"SELECT trace_id FROM release_decisions WHERE {where} "
        f"AND list_contains(dropped_by, {literal(dropped_by)})"
    )


def _where(store: Store, name: str) -> str:
    found = build.find_release(store, name)
    if found is None:
        raise UsageError(
            f"no release {name[:80]!r}", "`factory ls` lists them; `wide` samples all traces"
        )
    return f"release = {literal(found[0])} AND version = {literal(found[1])}"


def _check_filter(store: Store, where: str, release: str, name: str) -> None:
    known = [
        r[0] for r in build.asked(store, f"SELECT filter FROM release_filters WHERE {where}").rows
    ]
    if name not in known:
        raise UsageError(
            f"release {release} has no filter {name[:60]!r}",
            f"it has {', '.join(known) or 'none'}",
        )
    decided = build.asked(store, f"SELECT count(*) FROM release_decisions WHERE {where}").rows[0][0]
    if not decided:
        raise UsageError(f"release {release} was written without its decisions", "release it again")


def _decisions(store: Store, trace_id: str) -> Iterator[str]:
    rows = build.asked(
        store,
        "SELECT release, version, is_kept, dropped_by FROM release_decisions JOIN releases "
        f"USING (release, version) WHERE trace_id = {literal(trace_id)} ORDER BY created_at DESC",
    ).rows
    for release, version, is_kept, dropped in rows:
        how = "kept" if is_kept else "dropped by " + ", ".join(dropped or ["?"])
        yield f"{release}/{version[:12]}: {how}"


def _marked(store: Store, keys: str) -> dict[str, dict[str, Any]]:
    """Rows of ``wide``, for the offsets of what is to be coloured."""
    rows = build.asked(store, f"SELECT * FROM wide WHERE trace_id IN ({keys})").dicts()
    return {r["trace_id"]: r for r in rows}


def _block(
    number: int,
    of: int,
    row: dict[str, Any],
    decisions: Sequence[str],
    marks: dict[str, Any],
    *,
    full: bool,
    colour: bool,
) -> str:
    status = row["status"] or "unverified"
    words = [row["reason"]]
    if row["dropped_by"]:
        words.append("dropped by " + ", ".join(row["dropped_by"]))
    words += [row["model"], f"{row['source']}/{row['item']}" if row["source"] else None]
    if row["n_completion_tokens"] is not None:
        words.append(f"{row['n_completion_tokens']} tokens")
    shown = _painted(status, status if colour else "")
    head = " · ".join([shown, *(printable(str(w)) for w in words if w)])
    lines = [f"━━ {number} of {of} · {head}", f"trace  {row['trace_id']}"]
    lines += [f"       {printable(d)}" for d in decisions]
    lines += [f"prompt {_shortened(row['prompt'] or '', None if full else 400)}"]
    lines += (
        [f"gold   {_shortened(row['gold'], None if full else 200)}"]
        if row["gold"] is not None
        else []
    )
    text = trace_text(row["prefill"], row["completion"])
    body = _shortened(text, None if full else SHOWN_CHARS)
    if colour and (full or len(text) <= SHOWN_CHARS):
        body = _coloured(text, marks)
    lines += [f"  │ {line}".rstrip() for line in body.split("\n")]
    return "\n".join(lines) + "\n"


def _coloured(text: str, marks: dict[str, Any]) -> str:
    """Return all of a text with its marks in colours; a line break ends a colour and begins it."""
    thinking, answer = halves(text, marks)
    begin = text.find(thinking.pieces[0].text) if thinking.pieces else 0
    before = text[:begin] if thinking.n_chars else ""
    between = text[begin + thinking.n_chars : len(text) - answer.n_chars]
    if not thinking.n_chars:
        between = text[: len(text) - answer.n_chars]
    return _safe(before) + _half(thinking) + _safe(between) + _half(answer)


def _half(half: Half) -> str:
    return "".join(_painted(_safe(p.text), p.kind.split(" ")[0]) for p in half.pieces)


def _painted(text: str, kind: str) -> str:
    code = _COLOURS.get(kind)
    if not code or not text:
        return text
    return "\n".join(f"\x1b[{code}m{line}\x1b[0m" if line else "" for line in text.split("\n"))


def _safe(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def _shortened(text: str, limit: int | None) -> str:
    lines = _safe(text)
    if limit is None or len(lines) <= limit:
        return lines
    left = len(lines) - limit
    return f"{lines[: limit // 2]}\n[… {left:,} characters …]\n{lines[-limit // 2 :]}"
