"""Import: existing traces become prompts, sources and traces of a named model.

Any file or hub data set whose shape is known (``factory/sources/shapes/``) or mapped. All other
columns are kept as the trace's ``meta``.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from factory.records import Prompt, PromptSource, Sampling, ids
from factory.sources import columns
from factory.sources.shape import named
from factory.stages.earlier import Earlier
from factory.stages.gold_faults import GoldCounter
from factory.stages.origins import Origins
from factory.stages.reading import OnCount
from factory.store import Store
from factory.store.addition import Addition

PIECE_CHARS = 8 << 20
PIECE_ROWS = 8192
"""What waits in memory of one table."""
COMMIT_CHARS = 512 << 20
COMMIT_ROWS = 1_000_000
"""What comes into force at once, of all tables."""
COUNT_ROWS = 256


@dataclass
class Imported:
    """What an import did.

    Attributes:
        rows: rows read; traces: completions found in them.
        new: traces appended; duplicates: exact repeats in the input; known: in the store before.
        with_gold: rows with a gold; cut_tokens: completions that ended with special tokens.
        corrected: sources whose gold, verifier or other facts were corrected.
        updated: known traces of which more is known now; replaced: traces in whose place a new
            one stands, because its prompt was read better.
        shapes: file → its shape.
        skipped: reason → rows without a trace.
        bad_golds: reason → rows whose gold leaves every answer unscored.
        trace_ids: the universe: every distinct trace of the input.
    """

    run_id: str
    rows: int = 0
    traces: int = 0
    new: int = 0
    duplicates: int = 0
    known: int = 0
    with_gold: int = 0
    cut_tokens: int = 0
    corrected: int = 0
    updated: int = 0
    replaced: int = 0
    shapes: dict[str, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    bad_golds: Counter[str] = field(default_factory=Counter)
    trace_ids: list[str] = field(default_factory=list)


def import_rows(
    store: Store,
    rows: Iterable[tuple[str, int, columns.Row]],
    *,
    source: str | None = None,
    model: str | None = None,
    shape: str | None = None,
    mapping: Mapping[str, str] | None = None,
    verifier: str | None = None,
    options: Mapping[str, Any] | None = None,
    split: str | None = None,
    language: str | None = None,
    on_count: OnCount | None = None,
) -> Imported:
    """Store every completion of the rows, each exact text once.

    Args:
        store: where facts go.
        rows: (label, row number, row), as the sources ``files`` and ``hub`` yield them.
        source: name of the source; default: each row's label.
        model: model of all traces; default: what each row says, else ``unknown``.
        shape: name of a shape, or path of one's own; default: the one that fits each file.
        mapping: name that we read → path, template or constant (``factory.rows.paths``).
        verifier: verifier of all golds; default: each row's, else one that fits the gold.
        options: options of that verifier.
        split: split of all prompts; default: what each row says.
        language: ISO 639-1 code of all prompts.
        on_count: called every ``COUNT_ROWS`` rows; nobody knows how many there are.

    Raises:
        UsageError: no shape and no mapping explains a file, or it holds no completions.
    """
    wishes = columns.Wishes(
        source=source, shape=named(shape) if shape else None, mapping=mapping or {},
        verifier=verifier, options=options or {}, split=split, language=language, traces=True,
    )  # fmt: skip
    read = columns.reading(rows, wishes)
    first = next(read, None)  # what cannot be read is refused before the store is touched
    result = Imported(store.start_run("import", {"source": source, "model": model}))
    run_id = result.run_id
    sampling = Sampling(temperature=1.0, max_tokens=1).row(run_id) | {
        "sampling_id": ids.key_of("imported"), "temperature": None, "top_p": None,
        "max_tokens": None, "fields": '"imported"',
    }  # fmt: skip
    store.table("samplings").add(pl.DataFrame([sampling], infer_schema_length=None))
    with contextlib.closing(_Import(store, result, model)) as work:
        for reader, _, _, found in itertools.chain([first] if first else [], read):
            result.rows += 1
            if on_count is not None and result.rows % COUNT_ROWS == 1:
                on_count("rows", result.rows, 0)
            result.shapes.setdefault(reader.label, reader.shape.name)
            work.take(found)
        work.commit()
        result.bad_golds = work.golds.counts
    counts = {k: v for k, v in vars(result).items() if k not in ("trace_ids", "run_id")}
    counts |= {"skipped": dict(result.skipped), "bad_golds": dict(result.bad_golds)}
    store.end_run(run_id, counts)
    return result


class _Import:
    """What rows hold, on its way into the store, and counted.

    Straight to parts: what a kill loses is read again, and a log would be written twice.
    """

    def __init__(self, store: Store, result: Imported, model: str | None) -> None:
        self._result, self._model, self._run_id = result, model, result.run_id
        self._gone = store.forgotten()
        self._origins = Origins(store)
        self._earlier = Earlier(store)
        self._seen: set[str] = set()
        self._prompt_id = ""
        self.golds = GoldCounter()
        names = ("prompts", "prompt_sources", "traces", "trace_updates")  # prompts before traces
        self._tables = {name: Addition(store.table(name)) for name in names}
        self._waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        self._waiting_chars = dict.fromkeys(names, 0)
        self._chars = self._rows = 0

    def take(self, found: columns.Found) -> None:
        """Take what one row holds."""
        result, prompt, origin = self._result, found.prompt, found.source
        if prompt is None or origin is None or not found.replies:
            result.skipped[found.why or "no_completion"] += 1
            return
        if self._gone.has_prompt(origin.prompt_id, prompt.text):
            result.skipped["forgotten"] += 1
            return
        result.with_gold += origin.gold is not None
        self.golds.note(prompt, origin)
        if origin.prompt_id != self._prompt_id:
            self._prompt_id = origin.prompt_id
            self._add("prompts", prompt.row(self._run_id), len(prompt.text))
        fact = self._origins.changed(origin)
        if fact is not None:
            result.corrected += fact.correction > 0
            self._add("prompt_sources", fact.row(self._run_id), len(fact.gold or ""))
        for reply in found.replies:
            self._take_reply(prompt, origin, reply)
        if self._chars >= COMMIT_CHARS or self._rows >= COMMIT_ROWS:
            self.commit()

    def _take_reply(self, prompt: Prompt, origin: PromptSource, reply: columns.Reply) -> None:
        result, earlier = self._result, self._earlier
        result.traces += 1
        trace = columns.trace_of(
            origin.prompt_id,
            reply,
            model=self._model or reply.model or "unknown",
            item=origin.item,
        )
        digest = ids.text_hash(trace.completion) if self._gone else ""
        if self._gone.has_trace(trace.trace_id, prompt.text, digest):
            result.skipped["forgotten"] += 1
            return
        result.cut_tokens += bool(reply.ending)
        if trace.trace_id in self._seen:
            result.duplicates += 1
            return
        self._seen.add(trace.trace_id)
        known = earlier.known_as(trace)
        if known is not None:
            result.known += 1
            result.trace_ids.append(known)
            update = earlier.update(known, trace, self._run_id)
            if update is not None:
                result.updated += 1
                self._add("trace_updates", update, len(update["meta"] or ""))
            return
        old = earlier.superseded(trace, self._origins, origin.source, origin.item)
        if old is not None:
            result.replaced += 1
            self._add("trace_updates", earlier.replace(old, trace.trace_id, self._run_id), 0)
        result.new += 1
        result.trace_ids.append(trace.trace_id)
        n_chars = len(trace.completion) + len(trace.meta or "")
        self._add("traces", trace.row(self._run_id), n_chars)

    def _add(self, name: str, row: dict[str, Any], n_chars: int) -> None:
        waiting = self._waiting[name]
        waiting.append(row)
        self._waiting_chars[name] += n_chars
        if self._waiting_chars[name] >= PIECE_CHARS or len(waiting) >= PIECE_ROWS:
            self._write(name)

    def _write(self, name: str) -> None:
        self._tables[name].append(self._waiting[name])
        self._chars += self._waiting_chars[name]
        self._rows += len(self._waiting[name])
        self._waiting[name], self._waiting_chars[name] = [], 0

    def commit(self) -> None:
        """Put what was taken into force."""
        for name, table in self._tables.items():
            self._write(name)
            table.commit()
        self._chars = self._rows = 0

    def close(self) -> None:
        """Drop what is not in force."""
        for table in self._tables.values():
            table.close()
