"""Verification beside the engine: traces go to verifiers as they come, verdicts come back."""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory import ids
from factory.records import Item, Prompt, PromptSource
from factory.stages.verify import Checker
from factory.store import Store

BATCH = 64
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

    def known(self) -> list[str]:
        """Statuses of the samples from the first up to the first that is not known."""
        out: list[str] = []
        for status in self.statuses:
            if status is None:
                break
            out.append(status)
        return out


Known = tuple[SampleState, int, str, bool]
"""A sample's verdict: whose, which, its status, whether the sample is of this run."""
Done = list[Known]


class Checks:
    """Verification beside the engine: batches go to threads that wait for the pool.

    Daemon threads: a second Ctrl-C leaves without waiting for a verifier's deadline.
    """

    def __init__(self, store: Store, run_id: str, n_workers: int | None) -> None:
        self.n_pending = 0
        self.seconds = 0.0
        """Wall seconds of checking, summed over the threads."""
        self._store, self._run_id, self._n_workers = store, run_id, n_workers
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done | BaseException] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._waiting: dict[str, list[tuple[SampleState, int, dict[str, Any], bool]]] = {}
        self._checkers: dict[str, Checker] = {}
        self._writers: dict[str, Any] = {}

    def load(self, states: Sequence[SampleState]) -> dict[str, tuple[SampleState, int]]:
        """Fill in stored verdicts; return the present traces that have none but could."""
        wanted: dict[str, dict[str, tuple[SampleState, int]]] = {}
        for state in states:
            checker = self._checker(state.source)
            if checker is None:
                for index in state.have:
                    state.statuses[index] = "unscored"
                continue
            hashes = verdict_hashes(state.source, checker)
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
        """Queue one committed trace; False where nothing can check it."""
        checker = self._checker(state.source)
        if checker is None:
            return False
        self.n_pending += 1
        waiting = self._waiting.setdefault(checker.name, [])
        waiting.append((state, index, row, fresh))
        if len(waiting) >= BATCH:
            self._flush(checker.name)
        return True

    def results(self, *, wait: bool, enough: int | None = None) -> Iterator[Known]:
        """Yield verdicts that are done.

        Args:
            wait: wait until none is pending, or until ``enough`` verdicts have come.
            enough: see ``wait``.
        """
        for name in [n for n, items in self._waiting.items() if items]:
            self._flush(name)
        n_taken = 0
        while self.n_pending:
            try:
                batch = self._done.get(block=wait and (enough is None or n_taken < enough))
            except queue.Empty:
                return
            if isinstance(batch, BaseException):
                raise batch
            self.n_pending -= len(batch)
            n_taken += len(batch)
            yield from batch

    def close(self) -> None:
        """Let what is under way end (unless an error or Ctrl-C is on its way) and release."""
        for _ in self._threads:
            self._work.put(None)
        if not self.n_pending:
            for thread in self._threads:
                thread.join()
        for writer in self._writers.values():
            writer.close()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _checker(self, source: PromptSource) -> Checker | None:
        if source.verifier is None or source.gold is None:
            return None
        if source.verifier not in self._checkers:
            self._checkers[source.verifier] = Checker(source.verifier, n_workers=self._n_workers)
        return self._checkers[source.verifier]

    def _flush(self, name: str) -> None:
        items, self._waiting[name] = self._waiting[name], []
        checker = self._checkers[name]
        if checker.label not in self._writers:
            writer = self._store.table(f"verdicts.{checker.label}").writer(self._run_id)
            self._writers[checker.label] = writer
        if not self._threads:
            for n in range(N_THREADS):
                thread = threading.Thread(target=self._serve, name=f"check-{n}", daemon=True)
                thread.start()
                self._threads.append(thread)
        writer = self._writers[checker.label]
        self._work.put(functools.partial(self._check, checker, writer, items))

    def _check(
        self,
        checker: Checker,
        writer: Any,
        items: list[tuple[SampleState, int, dict[str, Any], bool]],
    ) -> None:
        begun = time.monotonic()
        try:
            verdicts = checker.check(
                [item_of(state.prompt, state.source, row) for state, _, row, _ in items],
                [state.source.options for state, _, _, _ in items],
            )
            rows = [
                verdict_row(row["trace_id"], state.source, checker, verdict, self._run_id)
                for (state, _, row, _), verdict in zip(items, verdicts, strict=True)
            ]
            # Our own faults are no facts: they are tried again by the next run.
            writer.append([r for r in rows if not is_no_fact(r["reason"])])
            done: Done = [
                (state, index, verdict.status, fresh)
                for (state, index, _, fresh), verdict in zip(items, verdicts, strict=True)
            ]
            self.seconds += time.monotonic() - begun
            self._done.put(done)
        except BaseException as error:  # noqa: BLE001 - it is raised again on the caller's thread
            self._done.put(error)


def is_no_fact(reason: str | None) -> bool:
    """Tell whether a verdict is our own fault for now: not stored, so the next run tries again."""
    return (reason or "").startswith("dead_worker")


def item_of(prompt: Prompt, source: PromptSource, row: dict[str, Any]) -> Item:
    """Return what a verifier sees of a stored trace."""
    return Item(
        text=(row.get("prefill") or "") + (row.get("completion") or ""),
        gold=source.gold,
        messages=prompt.messages,
        finish_reason=row.get("finish_reason"),
        prefill=row.get("prefill") or "",
    )


def verdict_hashes(source: PromptSource, checker: Checker) -> tuple[str, str]:
    """Return the hashes of gold and options, the parts of a verdict's key that traces share."""
    options = {**checker.options, **source.options}
    return ids.text_hash(source.gold or ""), ids.key_of(options)


def verdict_key(trace_id: str, source: PromptSource, checker: Checker) -> str:
    """Return the key of the verdict on a trace by this source's gold and options."""
    return ids.verdict_id_of(trace_id, verdict_hashes(source, checker))


def verdict_row(
    trace_id: str, source: PromptSource, checker: Checker, verdict: Any, run_id: str
) -> dict[str, Any]:
    """Return the stored form of a verdict."""
    hashes = verdict_hashes(source, checker)
    return {
        "verdict_id": ids.verdict_id_of(trace_id, hashes),
        "trace_id": trace_id,
        "gold_hash": hashes[0],
        "options_hash": hashes[1],
        **verdict.to_dict(),
        "seconds": None,
        "run_id": run_id,
    }
