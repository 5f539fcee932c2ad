"""Scoring beside the engine: traces are measured in batches, in a process of their own.

Not on a thread: one that computes in Python beside an in-process engine takes the interpreter from
it at every step. Scores can be computed again, so they wait in memory and are written many at
once. What a kill takes, or what comes faster than it can be measured, is scored at the end.
"""

from __future__ import annotations

import base64
import io
import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from factory.records.text import trace_text
from factory.stages.checker import shared_pool
from factory.stages.generate.checks import SampleState
from factory.stages.reading import languages_of
from factory.stages.score import ADD_ROWS, score, score_table
from factory.stages.scorer import Scorer, frame_of
from factory.store import Store

BATCH = 512
MOST_WAITING = 64
"""Batches that wait for the thread; what comes beyond is scored when the run has ended."""

DEADLINE_S = 600.0
_TARGET = "factory.stages.generate.scoring:measure"
_Work = list[tuple[SampleState, dict[str, Any], str | None]]


class Scores:
    """Measures the traces of a run.

    Args:
        names: scores by name or path.
        params: score → its parameters.

    Raises:
        PluginError: no such score.
        UsageError: a parameter that a score does not take.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        names: Sequence[str],
        params: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._store, self._run_id, self._names, self._params = store, run_id, names, params
        self._scorer = Scorer(names, params)
        self._tables = {name: score_table(store, self._scorer, name) for name in names}
        self._languages = languages_of(store)
        self._batch: _Work = []
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._scored: dict[str, list[pl.DataFrame]] = {name: [] for name in names}
        self._n_scored = 0
        self._done: set[str] = set()
        """Traces of this run that are measured."""
        self._error: BaseException | None = None
        self._pool = shared_pool(1, 0)
        self._thread = threading.Thread(target=self._run, name="score", daemon=True)
        self._thread.start()

    def submit(self, state: SampleState, row: dict[str, Any], extracted: str | None) -> None:
        """Take one committed trace and what its verifier took out of its answer."""
        self._batch.append((state, row, extracted))
        if len(self._batch) >= BATCH:
            self._flush()

    def finish(self, universe: pl.Series) -> None:
        """Measure what is left, and those of the universe that have no score yet; write it all."""
        self._flush()
        self._stop()
        if self._error is not None:
            raise self._error
        if set(universe) <= self._done:
            return  # the usual case: nothing has to be looked up in tables that may be long
        if any(len(table.missing(universe)) for table in self._tables.values()):
            score(self._store, self._names, params=self._params, trace_ids=universe)

    def abandon(self) -> None:
        """Forget what is not measured: an error is on its way."""
        self._work.put(None)

    def _flush(self) -> None:
        if self._batch and self._work.qsize() < MOST_WAITING:
            self._work.put(self._batch)
        self._batch = []

    def _stop(self) -> None:
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (work := self._work.get()) is not None:
                self._measure(work)
            self._write()
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            self._error = error

    def _measure(self, work: _Work) -> None:
        columns = {
            "completions": [trace_text(row["prefill"], row["completion"]) for _, row, _ in work],
            "prompts": [state.prompt.text for state, _, _ in work],
            "target_languages": [self._languages.get(state.prompt_id) for state, _, _ in work],
            "extracted": [extracted for _, _, extracted in work],
        }
        options = {"names": list(self._names), "params": self._scorer.params}
        outcome = self._pool.map(_TARGET, [columns], options=options, deadline_s=DEADLINE_S)[0]
        if outcome.fate != "done":
            return  # measured at the end, where an error shows itself
        ids = pl.Series("trace_id", [row["trace_id"] for _, row, _ in work])
        for name, packed in outcome.value.items():
            frame = pl.read_ipc_stream(base64.b64decode(packed))
            run_id = pl.lit(self._run_id).alias("run_id")
            self._scored[name].append(frame.with_columns(ids, run_id))
        self._done.update(row["trace_id"] for _, row, _ in work)
        self._n_scored += len(work)
        if self._n_scored >= ADD_ROWS:
            self._write()

    def _write(self) -> None:
        for name, frames in self._scored.items():
            if frames:
                self._tables[name].add(pl.concat(frames))
                frames.clear()
        self._n_scored = 0


def measure(
    columns: dict[str, list[str | None]], *, names: list[str], params: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Return every score's columns for the texts, in a worker: Arrow streams, in base 64.

    As lists of numbers they would be made anew, one by one, in the process of the engine.
    """
    texts = dict(columns)
    frame = frame_of(texts.pop("completions"), **texts)
    scorer = Scorer(names, params)
    return {name: _packed(scored) for name, scored in scorer.each(frame)}


def _packed(frame: pl.DataFrame) -> str:
    out = io.BytesIO()
    frame.write_ipc_stream(out)
    return base64.b64encode(out.getvalue()).decode()
