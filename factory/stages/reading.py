"""What the stages read of a store: prompts with their sources, texts in batches, languages.

Every function reads the columns that it needs and no others: texts are by far the largest, and
only ``batches_of_texts`` and ``texts_of`` read those of traces, a batch in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import polars as pl

from factory.records import Prompt, PromptSource
from factory.store import Store
from factory.store.key_sets import KeySet

OnCount = Callable[[str, int, int], None]
"""(label, done, wanted): called after every batch."""


def read_pairs(store: Store, source: str | None = None) -> list[tuple[Prompt, PromptSource]]:
    """Return stored prompts with their sources (of one source, or of all), in a stable order."""
    messages = prompt_messages(store)
    found = read_sources(store)
    return [
        (Prompt(messages=messages(s.prompt_id)), s)
        for s in found if source is None or s.source == source
    ]  # fmt: skip


def read_sources(store: Store) -> Iterator[PromptSource]:
    """Yield the sources of stored prompts, in a stable order."""
    rows = current_sources(store).sort("source", "item")
    return map(source_of, rows.iter_rows(named=True))


def current_sources(store: Store, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return what is said of prompts now: of corrected sources the last correction.

    Args:
        store: where the sources are.
        columns: what to read beside prompt_id, source, item and correction; None: all.
    """
    keys = ["prompt_id", "source", "item", "correction"]
    wanted = None if columns is None else list(dict.fromkeys([*keys, *columns]))
    found = store.table("prompt_sources").read(wanted)
    return found.sort("correction").unique(["prompt_id", "source", "item"], keep="last")


def source_of(row: Mapping[str, Any]) -> PromptSource:
    """Read a stored prompt source."""
    names = (
        "prompt_id", "source", "item", "split", "gold", "verifier", "domain", "level", "language",
    )  # fmt: skip
    fields = {name: row[name] for name in names}
    return PromptSource(
        **fields,
        options=orjson.loads(row["options"] or "{}"),
        meta=orjson.loads(row["meta"] or "{}"),
        correction=row["correction"] or 0,
    )


def prompt_messages(store: Store) -> Callable[[str], tuple[Any, ...]]:
    """Return a function from a prompt's id to its messages; none where it is unknown."""
    frame = store.table("prompts").read(["prompt_id", "messages"])
    texts = dict(frame.iter_rows())
    return lambda prompt_id: tuple(orjson.loads(texts.get(prompt_id, "[]")))


def languages_of(store: Store) -> dict[str, str]:
    """Return the language of each prompt that has one, by prompt id."""
    frame = current_sources(store).select("prompt_id", "language").drop_nulls()
    return dict(frame.sort("prompt_id", "language").iter_rows())


def prompt_texts(store: Store) -> dict[str, str]:
    """Return each prompt's last user message, by prompt id."""
    return dict(store.table("prompts").read(["prompt_id", "text"]).iter_rows())


def extracted_of(store: Store) -> dict[str, str]:
    """Return what the verifiers took out of each trace's answer, by trace id."""
    out: dict[str, str] = {}
    for name in store.tables():
        if name.startswith("verdicts."):
            out.update(store.table(name).read(["trace_id", "extracted"]).drop_nulls().iter_rows())
    return out


def texts_of(store: Store, trace_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the text columns of these traces, in the store's order, a batch in memory at a time."""
    for rows in batches_of_texts(store, trace_ids, batch=1024):
        yield from rows


def batches_of_texts(
    store: Store, trace_ids: Sequence[str] | pl.Series, *, batch: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield the wanted traces with their text, in batches bounded in rows and characters."""
    if not len(trace_ids):
        return
    wanted = KeySet(pl.Series(trace_ids, dtype=pl.String))
    rows: list[dict[str, Any]] = []
    size = 0
    columns = ["trace_id", "prompt_id", "completion", "prefill", "finish_reason"]
    for frame in store.table("traces").batches(columns):
        for row in frame.filter(wanted.has(frame["trace_id"])).iter_rows(named=True):
            rows.append(row)
            size += len(row["completion"] or "")
            if len(rows) >= batch or size > 16 << 20:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows
