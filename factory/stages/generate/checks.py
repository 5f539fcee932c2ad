"""Verification beside the engine: traces go to verifiers as they come, verdicts come back."""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.errors import PluginError
from factory.records import Item, Prompt, PromptSource, Verdict, ids
from factory.stages.checker import (
    Checker,
    is_no_fact,
    item_of,
    verdict_hashes,
    verdict_row,
)
from factory.store import Store

_LOG = logging.getLogger(__name__)
BATCH = 64
WRITE_ROWS = 256
N_THREADS = 2


@dataclass(slots=True)
class SampleState:
    """One prompt's samples: their verdicts so far and what was asked."""

    prompt: Prompt
    prompt_id: str
    source: PromptSource
    trace_ids: list[str]
    statuses: list[str | None]
    asked: int = 0
    have: set[int] = field(default_factory=set)
    is_done: bool = False
    sources: list[PromptSource] = field(default_factory=list)
    """All places that the prompt comes from; ``source`` is the one that its verdicts are from."""
    n_known: int = 0
    """Samples from the first up to the first whose status is not known; ``n_pass`` of them pass."""
    n_pass: int = 0
    hashes: tuple[str, str] | None = None
    """Hashes of gold and options, the parts of a verdict's key that the samples share."""

    def advance(self) -> None:
        """Count the statuses that have become known from the first on."""
        statuses, n = self.statuses, self.n_known
        while n < len(statuses) and (status := statuses[n]) is not None:
            self.n_pass += status == "pass"
            n += 1
        self.n_known = n


@dataclass(slots=True)
class Known:
    """A sample's verdict.

    Attributes:
        state: whose; index: which of its samples.
        status: of the verdict; extracted: what the verifier took out of the answer.
        row: the stored trace.
        is_fresh: whether the sample is of this run.
    """

    state: SampleState
    index: int
    status: str
    extracted: str | None
    row: dict[str, Any]
    is_fresh: bool


class Checks:
    """Verification beside the engine.

    What a verifier settles cheaply is settled on the caller's thread: a thread that computes in
    Python takes the interpreter from an in-process engine at every step. The rest goes in batches
    to threads that wait for the pool; they write all verdicts, too. Daemon threads: a second
    Ctrl-C leaves without waiting for a verifier's deadline.
    """

    def __init__(self, store: Store, run_id: str, n_workers: int | None) -> None:
        self.n_pending = 0
        self.seconds = 0.0
        """Wall seconds of checking, summed over the threads."""
        self._store, self._run_id, self._n_workers = store, run_id, n_workers
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[list[Known] | BaseException] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._settled: list[Known] = []
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._hard: dict[str, list[tuple[Known, Item]]] = {}
        self._checkers: dict[str, Checker] = {}
        self._unknown: set[str] = set()
        self._writers: dict[str, Any] = {}
        self._error: BaseException | None = None

    def load(self, states: Sequence[SampleState]) -> dict[str, tuple[SampleState, int]]:
        """Fill in stored verdicts; return the present traces that have none but could."""
        wanted: dict[str, dict[str, tuple[SampleState, int]]] = {}
        for state in states:
            checker = self._checker(state.source)
            if checker is None:
                for index in state.have:
                    state.statuses[index] = "unscored"
                continue
            hashes = state.hashes = verdict_hashes(state.source, checker)
            keys = wanted.setdefault(checker.label, {})
            for index in state.have:
                keys[ids.verdict_id_of(state.trace_ids[index], hashes)] = (state, index)
        lacking: dict[str, tuple[SampleState, int]] = {}
        for label, keys in wanted.items():
            table = self._store.table(f"verdicts.{label}")
            for frame in table.batches(["verdict_id", "status"]):
                for key, status in frame.iter_rows():
                    found = keys.pop(key, None)
                    if found is not None:
                        found[0].statuses[found[1]] = status
            lacking |= {state.trace_ids[i]: (state, i) for state, i in keys.values()}
        return lacking

    def submit(self, state: SampleState, index: int, row: dict[str, Any], *, fresh: bool) -> bool:
        """Take one committed trace; False where nothing can check it."""
        checker = self._checker(state.source)
        if checker is None:
            return False
        self.n_pending += 1
        known = Known(state, index, "unscored", None, row, fresh)
        item = item_of(state.prompt, state.source, row)
        begun = time.monotonic()
        verdict = checker.check_cheap(item, state.source.options)
        self.seconds += time.monotonic() - begun
        if verdict is None:
            hard = self._hard.setdefault(checker.name, [])
            hard.append((known, item))
            if len(hard) >= BATCH:
                self._flush(checker.name)
            return True
        rows = self._rows.setdefault(checker.name, [])
        rows += self._settle(checker, [known], [verdict])
        self._settled.append(known)
        if len(rows) >= WRITE_ROWS:
            self._write(checker.name)
        return True

    def results(self, *, wait: bool, enough: int | None = None) -> Iterator[Known]:
        """Yield verdicts that are done.

        Args:
            wait: wait until none is pending, or until ``enough`` verdicts have come.
            enough: see ``wait``.
        """
        for name in [n for n, items in self._hard.items() if items]:
            self._flush(name)
        batch: list[Known] | BaseException
        batch, self._settled = self._settled, []
        n_taken = 0
        while True:
            self.n_pending -= len(batch)
            n_taken += len(batch)
            yield from batch
            if self._error is not None:
                raise self._error
            if not self.n_pending:
                return
            try:
                batch = self._done.get(block=wait and (enough is None or n_taken < enough))
            except queue.Empty:
                return
            if isinstance(batch, BaseException):
                raise batch

    def close(self) -> None:
        """Let what is under way end (unless an error or Ctrl-C is on its way) and release."""
        for name in self._rows:
            self._write(name)
        for _ in self._threads:
            self._work.put(None)
        if not self.n_pending:
            for thread in self._threads:
                thread.join()
        for writer in self._writers.values():
            writer.close()
        if self._error is not None:
            raise self._error

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _submit(self, work: Callable[[], None]) -> None:
        if not self._threads:
            for n in range(N_THREADS):
                thread = threading.Thread(target=self._serve, name=f"check-{n}", daemon=True)
                thread.start()
                self._threads.append(thread)
        self._work.put(work)

    def _checker(self, source: PromptSource) -> Checker | None:
        if source.verifier is None or source.gold is None or source.verifier in self._unknown:
            return None
        if source.verifier not in self._checkers:
            try:
                checker = Checker(source.verifier, n_workers=self._n_workers)
            except PluginError as error:
                # One row may name what is not here; answers are being paid for, so the run goes on.
                _LOG.warning("%s/%s is not scored: %s", source.source, source.item, error)
                self._unknown.add(source.verifier)
                return None
            self._checkers[source.verifier] = checker
        return self._checkers[source.verifier]

    def _writer(self, checker: Checker) -> Any:
        if checker.label not in self._writers:
            writer = self._store.table(f"verdicts.{checker.label}").writer(self._run_id)
            self._writers[checker.label] = writer
        return self._writers[checker.label]

    def _write(self, name: str) -> None:
        rows, self._rows[name] = self._rows[name], []
        writer = self._writer(self._checkers[name])
        if rows:
            self._submit(functools.partial(self._append, writer, rows))

    def _append(self, writer: Any, rows: list[dict[str, Any]]) -> None:
        try:
            writer.append(rows)
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            self._error = error

    def _flush(self, name: str) -> None:
        items, self._hard[name] = self._hard[name], []
        checker = self._checkers[name]
        self._submit(functools.partial(self._check, checker, self._writer(checker), items))

    def _check(self, checker: Checker, writer: Any, items: list[tuple[Known, Item]]) -> None:
        begun = time.monotonic()
        try:
            known = [k for k, _ in items]
            verdicts = checker.check_hard(
                [item for _, item in items], [k.state.source.options for k in known]
            )
            writer.append(self._settle(checker, known, verdicts))
            self.seconds += time.monotonic() - begun
            self._done.put(known)
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            self._done.put(error)

    def _settle(
        self, checker: Checker, known: list[Known], verdicts: list[Verdict]
    ) -> list[dict[str, Any]]:
        """Note the verdicts; return the rows that are stored."""
        rows = []
        for k, verdict in zip(known, verdicts, strict=True):
            k.status, k.extracted = verdict.status, verdict.extracted
            if is_no_fact(verdict.reason):
                continue  # our own fault: it is tried again by the next run
            state = k.state
            if state.hashes is None:
                state.hashes = verdict_hashes(state.source, checker)
            trace_id = k.row["trace_id"]
            rows.append(
                verdict_row(
                    trace_id, state.source, checker, verdict, self._run_id, hashes=state.hashes
                )
            )
        return rows
