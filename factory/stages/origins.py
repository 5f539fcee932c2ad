"""Where prompts come from, written so that it can be corrected: the last word counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import orjson
import polars as pl

from factory.records import PromptSource, ids
from factory.stages.reading import source_of
from factory.store import Store

_CHECK = ("gold", "verifier", "options")
_FACTS = ("split", "domain", "level", "language")


class Origins:
    """The sources of prompts that a store has, and what a new word on one of them changes.

    Args:
        store: read once per source name, when it is first asked for.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, dict[tuple[str, str], PromptSource]] = {}
        self._mine: dict[str, str | None] = {}

    def changed(self, source: PromptSource) -> PromptSource | None:
        """Return the fact to append: the source, its correction, or None where nothing is new.

        A gold goes with its verifier and options; what the new word leaves out stays as it was.
        """
        key = source.source_id
        if key in self._mine:
            # Two words of one run contradict each other: none is a correction, an audit finds both.
            if source.gold is None or source.gold == self._mine[key]:
                return None
            return self.changed(dataclasses.replace(source, item=f"{source.item} (other gold)"))
        self._mine[key] = source.gold
        before = self._of(source.source).get((source.prompt_id, source.item))
        if before is None:
            return source
        merged = _merged(before, source)
        self._mine[key] = merged.gold
        if merged == before:
            return None
        return dataclasses.replace(merged, correction=before.correction + 1)

    def has(self, name: str, prompt_id: str, item: str) -> bool:
        """Tell whether the store had, before this run, this prompt from this item of a source."""
        return (prompt_id, item) in self._of(name)

    def _of(self, name: str) -> dict[tuple[str, str], PromptSource]:
        if name not in self._known:
            frame = self._store.table("prompt_sources").read()
            mine = frame.filter(pl.col("source") == name).sort("correction")
            self._known[name] = {
                (row["prompt_id"], row["item"]): source_of(row)
                for row in mine.iter_rows(named=True)
            }
        return self._known[name]


def _merged(before: PromptSource, now: PromptSource) -> PromptSource:
    changes: dict[str, Any] = {n: getattr(now, n) or getattr(before, n) for n in _FACTS}
    said = now if now.gold is not None else before
    changes |= {name: getattr(said, name) for name in _CHECK}
    changes["options"] = orjson.loads(ids.canonical_json(said.options))
    changes["meta"] = {**before.meta, **_plain(now.meta)}
    return dataclasses.replace(before, **changes)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping as it comes back from the store."""
    return dict(orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)))
