"""Import: existing traces become prompts, sources and traces of a named model.

Any file or hub data set whose shape is known (``factory/sources/shapes/``) or mapped. All other
columns are kept as the trace's ``meta``.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from factory.records import Sampling, ids
from factory.sources import columns
from factory.sources.shape import named
from factory.stages.earlier import Earlier
from factory.stages.gold_faults import GoldCounter
from factory.stages.origins import Origins
from factory.stages.reading import OnCount
from factory.store import Store

COMMIT_CHARS = 64 << 20
COMMIT_ROWS = 50_000
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
    origins = Origins(store)
    earlier = Earlier(store)
    gone = store.forgotten()
    golds = GoldCounter()
    seen: set[str] = set()
    tables = ("prompts", "prompt_sources", "traces", "trace_updates")
    waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in tables}
    size = 0

    def commit() -> None:
        # Straight to parts: what a kill loses is read again, and a log would be written twice.
        for name in tables:  # prompts before their traces
            if waiting[name]:
                table = store.table(name)
                table.add(pl.DataFrame(waiting[name], schema=table.form.polars_schema()))
            waiting[name] = []

    for reader, _, _, found in itertools.chain([first] if first else [], read):
        result.rows += 1
        if on_count is not None and result.rows % COUNT_ROWS == 1:
            on_count("rows", result.rows, 0)
        result.shapes.setdefault(reader.label, reader.shape.name)
        prompt, origin = found.prompt, found.source
        if prompt is None or origin is None or not found.replies:
            result.skipped[found.why or "no_completion"] += 1
            continue
        if gone.has_prompt(origin.prompt_id, prompt.text):
            result.skipped["forgotten"] += 1
            continue
        result.with_gold += origin.gold is not None
        golds.note(prompt, origin)
        waiting["prompts"].append(prompt.row(run_id))
        fact = origins.changed(origin)
        if fact is not None:
            result.corrected += fact.correction > 0
            waiting["prompt_sources"].append(fact.row(run_id))
        for reply in found.replies:
            result.traces += 1
            trace = columns.trace_of(
                origin.prompt_id, reply, model=model or reply.model or "unknown", item=origin.item
            )
            digest = ids.text_hash(trace.completion) if gone else ""
            if gone.has_trace(trace.trace_id, prompt.text, digest):
                result.skipped["forgotten"] += 1
                continue
            result.cut_tokens += bool(reply.ending)
            if trace.trace_id in seen:
                result.duplicates += 1
                continue
            seen.add(trace.trace_id)
            known = earlier.known_as(trace)
            if known is not None:
                result.known += 1
                result.trace_ids.append(known)
                update = earlier.update(known, trace, run_id)
                if update is not None:
                    result.updated += 1
                    waiting["trace_updates"].append(update)
                continue
            old = earlier.superseded(trace, origins, origin.source, origin.item)
            if old is not None:
                result.replaced += 1
                waiting["trace_updates"].append(earlier.replace(old, trace.trace_id, run_id))
            result.new += 1
            result.trace_ids.append(trace.trace_id)
            waiting["traces"].append(trace.row(run_id))
            size += len(trace.completion)
        if size >= COMMIT_CHARS or len(waiting["prompts"]) >= COMMIT_ROWS:
            commit()
            size = 0
    commit()
    result.bad_golds = golds.counts
    counts = {k: v for k, v in vars(result).items() if k not in ("trace_ids", "run_id")}
    counts |= {"skipped": dict(result.skipped), "bad_golds": dict(result.bad_golds)}
    store.end_run(run_id, counts)
    return result
