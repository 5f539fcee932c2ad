"""Scores of stored traces: what is wanted and missing is computed, and appended.

Scores can be computed again at any time, so an interrupted run loses at most a few batches.
"""

from __future__ import annotations

import functools
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson
import polars as pl

from factory.records import ids, polars_schema, score_form
from factory.records.text import trace_text
from factory.stages.reading import (
    OnCount,
    batches_of_texts,
    extracted_of,
    languages_of,
    prompt_texts,
)
from factory.stages.scorer import Scorer, frame_of, too_long
from factory.store import Store, Table
from factory.workers import Pool

ADD_ROWS = 20_000
"""Rows that are written at once: scores can be computed again, so few and large parts are best."""
BATCH_ROWS = 2048
FEW_ROWS = 8 * BATCH_ROWS
"""Fewer are scored in this process: workers start in about three seconds, each for itself."""
_TARGET = "factory.stages.score:measure_here"
_DEADLINE_S = 3600.0


@dataclass
class ScoreCounts:
    """What a score run did, by ``score@VERSION``.

    Attributes:
        present: scores that were there before; new: scores appended.
        too_long: traces over ``scorer.MAX_TEXT_BYTES``, which were not measured.
    """

    run_id: str
    present: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    too_long: Counter[str] = field(default_factory=Counter)


def score(
    store: Store,
    scores: Sequence[str],
    *,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    trace_ids: pl.Series | None = None,
    n_workers: int | None = None,
    on_count: OnCount | None = None,
) -> ScoreCounts:
    """Give every stored trace the scores that it lacks.

    Args:
        store: where traces are and scores go.
        scores: names or paths of scores.
        params: score → its parameters; they become part of the table's name.
        trace_ids: only these; None means all.
        n_workers: processes; default: the cores that this process may use, for ``FEW_ROWS`` and
            more, else 1.
        on_count: called after every batch.
    """
    scorer = Scorer(scores, params)
    counts = ScoreCounts(
        store.start_run("score", {"scores": list(scores), "params": scorer.params})
    )
    present = store.table("traces").keys()
    if trace_ids is not None:
        present = present.filter(present.is_in(trace_ids.implode()))
    # Scores that lack the same traces go over them together: the texts are read once, and a score
    # that reads another's columns finds them made.
    groups: list[tuple[pl.Series, dict[str, Table]]] = []
    for name in scorer.modules:
        table = score_table(store, scorer, name)
        wanted = table.missing(present)
        counts.present[_label(table)] += len(present) - len(wanted)
        for other, tables in groups:
            if other.equals(wanted):
                tables[name] = table
                break
        else:
            groups.append((wanted, {name: table}))
    for wanted, tables in groups:
        if len(wanted):
            # Each worker would load a model of its own beside the others'.
            one = any(hasattr(scorer.modules[name], "identify") for name in tables)
            n = n_workers or (len(os.sched_getaffinity(0)) if len(wanted) >= FEW_ROWS else 1)
            n = 1 if one else n
            _score_group(store, scorer, wanted, tables, counts, on_count, n)
    store.end_run(counts.run_id, {"new": dict(counts.new), "failures": scorer.failures})
    return counts


def _score_group(
    store: Store,
    scorer: Scorer,
    wanted: pl.Series,
    tables: Mapping[str, Table],
    counts: ScoreCounts,
    on_count: OnCount | None,
    n_workers: int,
) -> None:
    """Give the wanted traces the scores of several tables, batch by batch."""
    prompts, languages = prompt_texts(store), languages_of(store)
    extracted = extracted_of(store) if "extracted" in scorer.inputs else {}
    waiting: dict[str, list[pl.DataFrame]] = {name: [] for name in tables}

    def write(name: str) -> None:
        if waiting[name]:
            counts.new[_label(tables[name])] += tables[name].add(pl.concat(waiting[name]))
            waiting[name].clear()

    def batches() -> Iterator[tuple[list[str], list[list[str | None]]]]:
        for rows in batches_of_texts(store, wanted, batch=BATCH_ROWS):
            texts: list[str | None] = [trace_text(r["prefill"], r["completion"]) for r in rows]
            of_prompt = [[d.get(r["prompt_id"]) for r in rows] for d in (prompts, languages)]
            out = [extracted.get(r["trace_id"]) for r in rows]
            yield [r["trace_id"] for r in rows], [texts, *of_prompt, out]

    done = 0
    if on_count is not None:
        on_count("scores", done, len(wanted))
    for keys, n_too_long, scored in _measured(batches(), scorer, list(tables), n_workers):
        done += len(keys)
        for name, frame in scored.items():
            label = _label(tables[name])
            counts.too_long[label] += n_too_long
            own = pl.Series("trace_id", keys).to_frame().hstack(frame)
            waiting[name].append(own.with_columns(pl.lit(counts.run_id).alias("run_id")))
            if sum(f.height for f in waiting[name]) >= ADD_ROWS:
                write(name)
        if on_count is not None:
            on_count("scores", done, len(wanted))
    for name in waiting:
        write(name)


_Scored = tuple[int, dict[str, pl.DataFrame]]


def _measured(
    batches: Iterable[tuple[list[str], list[list[str | None]]]],
    scorer: Scorer,
    names: list[str],
    n_workers: int,
) -> Iterator[tuple[list[str], int, dict[str, pl.DataFrame]]]:
    """Yield each batch's keys, its rows that are too long, and its scores by name.

    With several workers the batches are measured in processes of their own while the next ones are
    read; a batch whose worker dies is measured here.
    """
    if n_workers < 2:
        for keys, texts in batches:
            yield keys, *_scored(scorer, names, texts)
        return
    with (
        Pool(n_workers=n_workers, memory_bytes=0) as pool,
        ThreadPoolExecutor(n_workers) as threads,
    ):
        under_way: deque[tuple[list[str], list[list[str | None]], Future[Any]]] = deque()

        def ask(texts: list[list[str | None]]) -> Any:
            work = [[list(scorer.modules), scorer.params, names, texts]]
            return pool.map(_TARGET, work, deadline_s=_DEADLINE_S)[0]

        def first() -> tuple[list[str], int, dict[str, pl.DataFrame]]:
            keys, texts, future = under_way.popleft()
            outcome = future.result()
            if outcome.fate != "done":
                return keys, *_scored(scorer, names, texts)
            n_too_long, columns, failures = outcome.value
            scorer.failures.update(failures)
            forms = {n: polars_schema(scorer.modules[n].WRITES) for n in names}
            return keys, n_too_long, {n: pl.DataFrame(columns[n], schema=forms[n]) for n in names}

        for keys, texts in batches:
            under_way.append((keys, texts, threads.submit(ask, texts)))
            if len(under_way) > n_workers:
                yield first()
        while under_way:
            yield first()


def _scored(scorer: Scorer, names: Sequence[str], texts: Sequence[Sequence[str | None]]) -> _Scored:
    frame = frame_of(
        texts[0], prompts=texts[1], target_languages=texts[2], extracted=texts[3]
    )  # fmt: skip
    return int(too_long(frame).sum()), dict(scorer.each(frame, names))


def measure_here(payload: list[Any]) -> list[Any]:
    """Score one batch in a worker: rows that are too long, columns by score, failures."""
    names, params, wanted, texts = payload
    scorer = _scorer(orjson.dumps([names, params]))
    n_too_long, scored = _scored(scorer, wanted, texts)
    columns = {name: frame.to_dict(as_series=False) for name, frame in scored.items()}
    return [n_too_long, columns, scorer.failures]


@functools.cache
def _scorer(names_and_params: bytes) -> Scorer:
    return Scorer(*orjson.loads(names_and_params))


def _label(table: Table) -> str:
    return table.name.removeprefix("scores.")


def score_table(store: Store, scorer: Scorer, name: str) -> Table:
    """Return the table of a score; parameters other than the defaults are part of its name."""
    params = scorer.params[name]
    identify = getattr(scorer.modules[name], "identify", dict)
    suffix = f"+{ids.key_of(identify(params))[:8]}" if params else ""
    return store.table(
        f"scores.{scorer.labels[name]}{suffix}", score_form(scorer.modules[name].WRITES)
    )
