"""The loop of a generate run: who waits for what.

Everything here happens on the caller's thread, except verification (``_checks``).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from factory import ids
from factory.records import Sampling, Trace
from factory.requests import Engine, Failure, OnPartial, Request
from factory.stages._checks import Checks, SampleState
from factory.stages.policy import Policy
from factory.store import Store

COMMIT_ROWS = 64
COMMIT_S = 0.5
MAX_ATTEMPTS = 3


@dataclass
class Progress:
    """Live figures of a run, handed to ``on_progress`` after every commit.

    Attributes:
        n_prompts: prompts in the job; n_prompts_done: those that want no further sample.
        n_have: wanted traces that were there before; n_new: made in this run.
        n_pass, n_fail, n_unscored: verdicts of this run's traces.
        n_in_flight: requests with the engine; n_checking: traces with the verifiers.
        n_failed: requests given up.
        n_prompt_tokens, n_completion_tokens: of this run.
        seconds: wall seconds since the start.
    """

    n_prompts: int = 0
    n_prompts_done: int = 0
    n_have: int = 0
    n_new: int = 0
    n_pass: int = 0
    n_fail: int = 0
    n_unscored: int = 0
    n_in_flight: int = 0
    n_checking: int = 0
    n_failed: int = 0
    n_wanted_at_most: int = 0
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    seconds: float = 0.0


class Loop:
    """State of one run."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        states: list[SampleState],
        sampling: Sampling,
        policy: Policy,
        run_id: str,
        verify: bool,
        n_workers: int | None,
        max_tokens: int | None,
        stop: threading.Event | None,
    ) -> None:
        self.engine, self.states, self.sampling, self.policy = engine, states, sampling, policy
        self.run_id, self.max_tokens, self.stop = run_id, max_tokens, stop
        self.stopped: str | None = None
        self.progress = Progress(n_prompts=len(states), n_wanted_at_most=len(states) * policy.limit)
        self._store = store
        self._sampling_id = sampling.sampling_id
        self._begun = time.monotonic()
        self._traces = store.table("traces")
        self._writer = self._traces.writer(run_id)
        self._failures = store.table("failures").writer(run_id)
        self._by_trace: dict[str, tuple[SampleState, int]] = {
            t: (s, i) for s in states for i, t in enumerate(s.trace_ids)
        }
        self._checks = Checks(store, run_id, n_workers) if verify else None
        self._buffer: list[Trace] = []
        self._buffered_at = 0.0
        self._ready: deque[SampleState] = deque(states)
        self._again: deque[tuple[SampleState, int]] = deque()
        self._attempts: dict[str, int] = {}
        self._in_flight: set[str] = set()

    # ---- what was there before

    def load(self) -> None:
        """Take up what the store has: traces, then their verdicts (computing those that lack)."""
        table = self._traces
        wanted = pl.Series("trace_id", list(self._by_trace), dtype=pl.String)
        missing = set(table.missing(wanted).to_list())
        for trace_id, (state, index) in self._by_trace.items():
            if trace_id not in missing:
                state.have.add(index)
        self.progress.n_have = len(self._by_trace) - len(missing)
        if self._checks is None or self.progress.n_have == 0:
            for state in self.states:
                for index in state.have:
                    state.statuses[index] = "unscored"
            return
        lacking = self._checks.load(self.states)
        if not lacking:
            return
        columns = ["trace_id", "completion", "prefill", "finish_reason"]
        for frame in table.batches(columns):
            for row in frame.filter(pl.col("trace_id").is_in(lacking)).iter_rows(named=True):
                state, index = self._by_trace[row["trace_id"]]
                self._checks.submit(state, index, row, fresh=False)
        self._take_verdicts(wait=True)

    # ---- the run

    def run(
        self, on_partial: OnPartial | None, on_progress: Callable[[Progress], None] | None
    ) -> None:
        """Feed the engine until nothing more is wanted."""
        for answer in self.engine.run(self._requests(), on_partial):
            if isinstance(answer, Trace):
                if not self._buffer:
                    self._buffered_at = time.monotonic()
                self._buffer.append(answer)
            elif isinstance(answer, Failure):
                self._failed(answer)
            else:
                self._commit()
                self._take_verdicts(wait=self._checks is not None and not self._in_flight)
            if self._commit_due():
                self._commit()
                self._report(on_progress)
        self._commit()
        self._take_verdicts(wait=True)
        self._report(on_progress)

    def close(self) -> None:
        """Commit what is left and release the segments."""
        try:
            self._commit()
        finally:
            self._writer.close()
            self._failures.close()
            if self._checks is not None:
                self._checks.close()

    def universe(self) -> tuple[pl.DataFrame, int]:
        """Return the wanted traces that exist, and the number of those that do not."""
        rows = []
        missing = 0
        for state in self.states:
            statuses: list[str] = []
            while self.policy.wants(statuses):
                index = len(statuses)
                if index in state.have:
                    rows.append((state.trace_ids[index], state.prompt_id, index))
                else:
                    missing += 1
                    if self.policy.needs_verdicts:
                        break  # what comes after it depends on it
                statuses.append(state.statuses[index] or "unscored")
        schema = {"trace_id": pl.String, "prompt_id": pl.String, "sample_index": pl.Int64}
        return pl.DataFrame(rows, schema=schema, orient="row"), missing

    def _requests(self) -> Iterator[Request | None]:
        while True:
            if self._commit_due():
                self._commit()
            self._take_verdicts(wait=False)
            if self._must_stop():
                if not self._in_flight:
                    return
                yield None
                continue
            request = self._next_request()
            if request is None and not self._open():
                return
            yield request

    def _next_request(self) -> Request | None:
        if self._again:
            return self._request(*self._again.popleft())
        while self._ready:
            index = self._next_index(self._ready[0])
            if index is not None:
                return self._request(self._ready[0], index)
            # Nothing to ask now; a verdict puts the prompt back.
            self._ready.popleft()
        return None

    def _next_index(self, state: SampleState) -> int | None:
        known = state.known() if self.policy.needs_verdicts else None
        if known is not None and not self.policy.wants(known):
            return None
        while state.asked in state.have:
            state.asked += 1
        index = state.asked
        if index >= self.policy.limit:
            return None
        if known is not None and index >= len(known) + self.policy.ahead:
            return None
        state.asked += 1
        return index

    def _request(self, state: SampleState, index: int) -> Request:
        trace_id = state.trace_ids[index]
        self._in_flight.add(trace_id)
        return Request(
            trace_id=trace_id,
            prompt_id=state.prompt_id,
            messages=state.prompt.messages,
            model=self.engine.model,
            revision=self.engine.revision,
            sampling=self.sampling,
            sampling_id=self._sampling_id,
            sample_index=index,
        )

    def _open(self) -> bool:
        return bool(self._in_flight or (self._checks is not None and self._checks.n_pending))

    def _must_stop(self) -> bool:
        if self.stop is not None and self.stop.is_set():
            self.stopped = "interrupted"
        elif self.max_tokens and self.progress.n_completion_tokens >= self.max_tokens:
            self.stopped = "max_tokens"
        return self.stopped is not None

    def _commit_due(self) -> bool:
        return len(self._buffer) >= COMMIT_ROWS or (
            bool(self._buffer) and time.monotonic() - self._buffered_at >= COMMIT_S
        )

    def _commit(self) -> None:
        """Make the buffered traces durable; only now are they acted on."""
        if not self._buffer:
            return
        traces, self._buffer = self._buffer, []
        rows = [t.row(self.run_id) for t in traces]
        self._writer.append(rows)
        progress = self.progress
        for trace, row in zip(traces, rows, strict=True):
            state, index = self._by_trace[trace.trace_id]
            self._in_flight.discard(trace.trace_id)
            state.have.add(index)
            progress.n_new += 1
            progress.n_prompt_tokens += trace.n_prompt_tokens or 0
            progress.n_completion_tokens += trace.n_completion_tokens or 0
            if self._checks is None or not self._checks.submit(state, index, row, fresh=True):
                self._known(state, index, "unscored")

    def _failed(self, failure: Failure) -> None:
        attempt = self._attempts.get(failure.trace_id, 0) + 1
        self._attempts[failure.trace_id] = attempt
        self._failures.append([failure_row(failure, attempt, self.run_id)])
        self._in_flight.discard(failure.trace_id)
        state, index = self._by_trace[failure.trace_id]
        if failure.retriable and attempt < MAX_ATTEMPTS:
            self._again.append((state, index))
            return
        self.progress.n_failed += 1

    def _take_verdicts(self, *, wait: bool) -> None:
        if self._checks is None:
            return
        for state, index, status, fresh in self._checks.results(wait=wait):
            if fresh:
                self.progress.n_pass += status == "pass"
                self.progress.n_fail += status == "fail"
                self.progress.n_unscored += status == "unscored"
            self._known(state, index, status)

    def _known(self, state: SampleState, index: int, status: str) -> None:
        state.statuses[index] = status
        if self.policy.needs_verdicts:
            self._ready.append(state)

    def _report(self, on_progress: Callable[[Progress], None] | None) -> None:
        progress = self.progress
        progress.seconds = time.monotonic() - self._begun
        progress.n_in_flight = len(self._in_flight)
        progress.n_checking = self._checks.n_pending if self._checks is not None else 0
        if on_progress is not None:
            on_progress(progress)


def failure_row(failure: Failure, attempt: int, run_id: str) -> dict[str, Any]:
    """Return the stored form of a failure."""
    return {
        "failure_id": ids.key_of([failure.trace_id, run_id, attempt]),
        "trace_id": failure.trace_id,
        "attempt": attempt,
        "kind": failure.kind,
        "message": failure.message,
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "run_id": run_id,
    }
