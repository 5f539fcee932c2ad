"""What an import finds of itself in the store: the same completions, known less well before.

A trace never changes. What a later import knows besides (a model, a finish reason, further
columns) is a row of the table ``trace_updates``, and of several the last one counts. A completion
whose prompt was read better this time (a system text that was missed) is a new trace, and the
update of the old one names it: ``wide`` then shows the new one alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import polars as pl

from factory.records import Trace, ids
from factory.stages.origins import Origins
from factory.store import Store

_UPDATED = ("model", "finish_reason", "n_completion_tokens", "meta")
_NOTHING = {"model": "unknown", "finish_reason": "imported"}


class Earlier:
    """The imported traces of a store, by prompt and text.

    Args:
        store: read once, without texts.
    """

    def __init__(self, store: Store) -> None:
        columns = ["trace_id", "prompt_id", "text_hash", "revision", *_UPDATED]
        frame = store.table("traces").read(columns).filter(pl.col("revision") == "imported")
        self._said: dict[str, Mapping[str, Any]] = {}
        self._by_text: dict[str, list[tuple[str, str]]] = {}
        for row in frame.iter_rows(named=True):
            self._said[row["trace_id"]] = {name: row[name] for name in _UPDATED}
            pair = (row["prompt_id"], row["trace_id"])
            self._by_text.setdefault(row["text_hash"], []).append(pair)
        self._gone: set[str] = set()
        self._corrections: dict[str, int] = {}
        if self._said:
            updates = store.table("trace_updates").read().sort("correction")
            for row in updates.iter_rows(named=True):
                self._corrections[row["trace_id"]] = row["correction"]
                self._said[row["trace_id"]] = {name: row[name] for name in _UPDATED}
                if row["superseded_by"]:
                    self._gone.add(row["trace_id"])

    def known_as(self, trace: Trace) -> str | None:
        """Return the id under which the store has this completion of this prompt."""
        if trace.trace_id in self._said and trace.trace_id not in self._gone:
            return trace.trace_id
        for prompt_id, trace_id in self._by_text.get(ids.text_hash(trace.completion), ()):
            model = self._said[trace_id]["model"]
            # Two models may well write the same text; one that was unknown is now named.
            if (prompt_id == trace.prompt_id and trace_id not in self._gone
                    and (model == trace.model or "unknown" in (model, trace.model))):  # fmt: skip
                return trace_id
        return None

    def update(self, trace_id: str, trace: Trace, run_id: str) -> dict[str, Any] | None:
        """Return the row that says what is new of a known trace; None where nothing is."""
        before = self._said[trace_id]
        now: dict[str, Any] = {}
        for name in _UPDATED:
            value = getattr(trace, name)
            is_empty = value is None or value == _NOTHING.get(name)
            now[name] = before[name] if is_empty else value
        now["meta"] = _merged(before["meta"], trace.meta)
        if now == dict(before):
            return None
        self._said[trace_id] = now
        return self._row(trace_id, None, run_id)

    def superseded(self, trace: Trace, origins: Origins, source: str, item: str) -> str | None:
        """Return the earlier trace of the same row and text whose prompt was read less well."""
        for prompt_id, trace_id in self._by_text.get(ids.text_hash(trace.completion), ()):
            if (trace_id not in self._gone and prompt_id != trace.prompt_id
                    and origins.has(source, prompt_id, item)):  # fmt: skip
                return trace_id
        return None

    def replace(self, trace_id: str, by: str, run_id: str) -> dict[str, Any]:
        """Return the row that lets a new trace stand in for an earlier one."""
        self._gone.add(trace_id)
        return self._row(trace_id, by, run_id)

    def _row(self, trace_id: str, by: str | None, run_id: str) -> dict[str, Any]:
        # The order of runs is not enough: two may begin within one second.
        correction = self._corrections[trace_id] = self._corrections.get(trace_id, 0) + 1
        return {
            "update_id": ids.key_of([trace_id, correction]), "trace_id": trace_id,
            **self._said[trace_id], "superseded_by": by, "correction": correction, "run_id": run_id,
        }  # fmt: skip


def _merged(before: str | None, now: str | None) -> str | None:
    if not before or not now or before == now:
        return now or before
    old, new = orjson.loads(before), orjson.loads(now)
    return before if {**old, **new} == old else orjson.dumps({**old, **new}).decode()
