"""The loop of a generate run: who waits for what.

Everything here happens on the caller's thread, except commits (``commit``) and verification
(``checks``). One thread decides what is asked, so that nothing about a prompt needs a lock; what it
waits for, a disk that syncs and a verifier that computes, is elsewhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from factory.engines.base import STOPPED, Engine, Failure, OnPartial, Request
from factory.errors import FactoryError
from factory.records import TABLES, Sampling, Trace, ids
from factory.stages.generate.budget import CLOSED_AT, Budgeted
from factory.stages.generate.checks import Checks, SampleState
from factory.stages.generate.commit import COMMIT_ROWS, Committed, Committer
from factory.stages.generate.policy import Policy
from factory.stages.generate.price import Price
from factory.stages.generate.progress import Progress
from factory.stages.generate.scoring import Scores
from factory.store import Store
from factory.store.claims import Claims
from factory.store.forgotten import Forgotten

MAX_ATTEMPTS = 3
"""Of a request whose fault was the engine's; what fails more often is left to the next run."""
REPORT_S = 0.2
TURN_TRACES = COMMIT_ROWS // 2
"""Finished traces after which the loop looks at its other threads, where answers come fast."""
TURN_S = 0.005
"""Seconds after which it does so anyhow."""
ELSEWHERE_S = 0.2
"""Seconds between two looks at prompts that another run is at work on."""

_TRACE_FIELDS = tuple(f.name for f in dataclasses.fields(Trace))

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What ends a run before its work is done.

    Attributes:
        max_tokens: completion tokens of this run.
        max_cost: money of this run, by ``price``.
        stop: set by somebody else, such as the first Ctrl-C.
    """

    max_tokens: int | None = None
    max_cost: float | None = None
    price: Price | None = None
    stop: threading.Event | None = None


class Loop:
    """State of one run.

    Args:
        states: the prompts with the keys of all samples that they may get.
        limits: what ends the run early; what is in flight is then finished and kept.
        gone: forgotten records, whose traces are not made again.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        states: list[SampleState],
        sampling: Sampling,
        policy: Policy,
        *,
        run_id: str,
        verify: bool,
        scores: Scores | None,
        n_workers: int | None,
        limits: Limits,
        gone: Forgotten,
    ) -> None:
        self.engine, self.states, self.sampling, self.policy = engine, states, sampling, policy
        self.run_id, self.limits, self._gone = run_id, limits, gone
        self.stopped: str | None = None
        self.progress = Progress(n_prompts=len(states), n_wanted_at_most=len(states) * policy.limit)
        self._sampling_id = sampling.sampling_id
        self._limit, self._needs_verdicts = policy.limit, policy.needs_verdicts
        self._turned_at = 0.0
        self._begun = time.monotonic()
        self._traces = store.table("traces")
        self._segments = (self._traces.writer(run_id), store.table("failures").writer(run_id))
        self._committer = Committer(*self._segments, run_id)
        self._checks = Checks(store, run_id, n_workers) if verify else None
        self._scores = scores
        self._n_spent = [0, 0]
        """Prompt and completion tokens of this run's answers, on disk or not: for the limits."""
        self._by_trace: dict[str, tuple[SampleState, int]] = {}
        self._ready: deque[SampleState] = deque(states)
        self._again: deque[tuple[SampleState, int]] = deque()
        self._claims = Claims(store.root / "claims", run_id)
        self._done: list[str] = []
        self._mine: set[str] = set()
        """Prompts that this run has claimed, by the key of their first sample."""
        self._elsewhere: list[SampleState] = []
        """Prompts that another run is at work on, or was since this one began."""
        self._attempts: dict[str, int] = {}
        self._running: Engine | None = None
        self._is_draining = False
        self._reported_at = 0.0
        self._on_progress: OnProgress | None = None

    # ---- what was there before

    def load(self) -> None:
        """Take up what the store has: traces, then their verdicts (computing those that lack)."""
        self._load(self.states)
        self.progress.n_prompts_done_before = self.progress.n_prompts_done

    def _load(self, states: list[SampleState]) -> None:
        width = self.policy.limit
        wanted = pl.Series("trace_id", [t for s in states for t in s.trace_ids], dtype=pl.String)
        frame = wanted.to_frame().with_row_index("n")
        missing = self._traces.missing_frame(frame)["n"]
        present = frame["n"].filter(~frame["n"].is_in(missing.implode()))
        for n in present:
            states[n // width].have.add(n % width)
        self.progress.n_have += len(present)
        if self._checks is None or not len(present):
            for state in states:
                for index in state.have:
                    state.statuses[index] = "unscored"
        else:
            self._load_verdicts(self._checks, states)
        for state in states:
            for index, key in enumerate(state.trace_ids if self._gone else ()):
                if self._gone.has(key):
                    state.have.add(index)
                    state.statuses[index] = "unscored"
            self._note_done(state)

    def _load_verdicts(self, checks: Checks, states: list[SampleState]) -> None:
        lacking = checks.load(states)
        if not lacking:
            return
        columns = ["trace_id", "completion", "prefill", "finish_reason"]
        keys = pl.DataFrame({"trace_id": list(lacking)})
        for frame in self._traces.batches(columns):
            for row in frame.join(keys, on="trace_id", how="semi").iter_rows(named=True):
                state, index = lacking[row["trace_id"]]
                checks.submit(state, index, row, fresh=False)
            self._take_verdicts(wait=False)
        self._take_verdicts(wait=True)

    # ---- the run

    def run(self, on_partial: OnPartial | None, on_progress: OnProgress | None) -> None:
        """Feed the engine until nothing more is wanted."""
        self._on_progress = on_progress
        engine = self.engine
        if self.sampling.thinking_budget is not None:
            engine = Budgeted(engine, self.sampling)
        self._running = engine
        for given in engine.run(self._requests(), on_partial):
            answer = _fitting(given)
            if isinstance(answer, Trace):
                self._committer.put(answer)
                self._n_spent[0] += answer.n_prompt_tokens or 0
                self._n_spent[1] += answer.n_completion_tokens or 0
            elif isinstance(answer, Failure):
                self._failed(answer)
            elif not self._committer.n_waiting and not self._n_with_engine:
                # Idle until a verdict says what to ask next.
                self._take_verdicts(wait=True, enough=1)
            elif not self._n_with_engine:
                self._take_commits(all_of_them=True)
            if (
                answer is None
                or self._committer.n_waiting >= TURN_TRACES
                or time.monotonic() - self._turned_at >= TURN_S
            ):
                self._turn()
        self._take_commits(all_of_them=True)
        self._take_verdicts(wait=True)
        self._report()

    @property
    def _n_with_engine(self) -> int:
        return len(self._by_trace) - self._committer.n_waiting

    def close(self) -> None:
        """Commit what is left and release the segments."""
        try:
            self._committer.close()
        finally:
            for segment in self._segments:
                segment.close()
            self._claims.close()
            if self._checks is not None:
                self._checks.close()

    def universe(self) -> tuple[pl.DataFrame, int]:
        """Return the wanted traces that exist, and the number of those that do not."""
        keys: list[str] = []
        prompts: list[str] = []
        indices: list[int] = []
        missing = 0
        for state in self.states:
            index = n_pass = 0
            while self.policy.wants_after(index, n_pass):
                if self._gone.has(state.trace_ids[index]):
                    pass  # neither there nor missing: it is not made again
                elif index in state.have:
                    keys.append(state.trace_ids[index])
                    prompts.append(state.prompt_id)
                    indices.append(index)
                else:
                    missing += 1
                    if self.policy.needs_verdicts:
                        break  # what comes after it depends on it
                n_pass += state.statuses[index] == "pass"
                index += 1
        schema = {"trace_id": pl.String, "prompt_id": pl.String, "sample_index": pl.Int64}
        columns = dict(zip(schema, (keys, prompts, indices), strict=True))
        return pl.DataFrame(columns, schema=schema), missing

    # ---- what to ask

    def _requests(self) -> Iterator[Request | None]:
        while True:
            if self._must_stop():
                self._turn()
                if not self._by_trace:
                    return
                yield None
                continue
            request = self._next_request()
            if request is None:
                self._turn()  # what has been done since may give something to ask
                request = self._next_request()
            if request is None and self._elsewhere and not self._is_busy():
                self._look_again()
                request = self._next_request()
            if request is None and not self._is_busy() and not self._elsewhere:
                return
            yield request

    def first_request(self) -> Request | None:
        """Return the request that would be asked first, without asking it."""
        for state in self.states:
            if not state.is_done:
                return self._request(state, min(set(range(self.policy.limit)) - state.have))
        return None

    def _next_request(self) -> Request | None:
        if self._again:
            return self._ask(*self._again.popleft())
        while self._ready:
            if not self._is_mine(self._ready[0]):
                self._elsewhere.append(self._ready.popleft())
                continue
            index = self._next_index(self._ready[0])
            if index is not None:
                return self._ask(self._ready[0], index)
            # Nothing to ask now; a verdict puts the prompt back.
            self._ready.popleft()
        return None

    def _next_index(self, state: SampleState) -> int | None:
        policy, index = self.policy, state.asked
        if state.is_done:
            return None
        while index in state.have:
            index += 1
        state.asked = index
        if index >= self._limit:
            return None
        if self._needs_verdicts and index >= state.n_known + policy.ahead:
            return None
        state.asked = index + 1
        return index

    def _ask(self, state: SampleState, index: int) -> Request:
        request = self._request(state, index)
        self._by_trace[request.trace_id] = (state, index)
        return request

    def _request(self, state: SampleState, index: int) -> Request:
        return Request(
            trace_id=state.trace_ids[index],
            prompt_id=state.prompt_id,
            messages=state.prompt.messages,
            model=self.engine.model,
            revision=self.engine.revision,
            sampling=self.sampling,
            sampling_id=self._sampling_id,
            sample_index=index,
        )

    def _is_busy(self) -> bool:
        return bool(self._by_trace or (self._checks is not None and self._checks.n_pending))

    def _is_mine(self, state: SampleState) -> bool:
        """Claim a prompt before its first request, so that two runs never pay for it twice."""
        key = state.trace_ids[0]
        if state.is_done or key in self._mine:
            return True
        if not self._claims.take(key):
            return False
        self._mine.add(key)
        return True

    def _look_again(self) -> None:
        """Take over what others have finished, or left when they ended; wait a little if nothing.

        Nothing of this run is under way then. It first gives up all of its own claims, so that two
        runs never wait for each other; what it lacks itself (requests that failed) is the others'.
        """
        self._claims.release(self._mine)
        self._mine.clear()
        waiting = {state.trace_ids[0]: state for state in self._elsewhere}
        freed = self._claims.freed(waiting)
        if not freed:
            time.sleep(ELSEWHERE_S)
            return
        states = [waiting.pop(key) for key in freed]
        self._mine.update(freed)
        self._elsewhere = list(waiting.values())
        self._load(states)
        self._ready.extend(state for state in states if not state.is_done)

    def _must_stop(self) -> bool:
        limits = self.limits
        if limits.stop is not None and limits.stop.is_set():
            self.stopped = "interrupted"
        elif limits.max_tokens and self._n_spent[1] >= limits.max_tokens:
            self.stopped = "max_tokens"
        elif limits.max_cost is not None and self._cost() >= limits.max_cost:
            self.stopped = "max_cost"
        return self.stopped is not None

    def _cost(self) -> float:
        price = self.limits.price
        if price is None:
            return 0.0
        return price.of(
            prompt_tokens=self._n_spent[0],
            completion_tokens=self._n_spent[1],
            gpu_seconds=(time.monotonic() - self._begun) * self.engine.n_devices,
        )

    # ---- what came back

    def _turn(self) -> None:
        """Take what the other threads have done, and report now and then."""
        self._turned_at = time.monotonic()
        self._take_commits(all_of_them=False)
        self._take_verdicts(wait=False)
        if self._done:
            self._claims.release(self._mine.intersection(self._done))
            self._done.clear()
        # An engine whose server is gone pulls no request, and would wait for it all the same.
        if not self._is_draining and self._running is not None and self._must_stop():
            self._is_draining = True
            self._running.drain()
        if self._turned_at - self._reported_at >= REPORT_S:
            self._report()

    def _take_commits(self, *, all_of_them: bool) -> None:
        for committed in self._committer.take(all_of_them=all_of_them):
            self._committed(committed)

    def _committed(self, committed: Committed) -> None:
        """Act on traces that are on disk."""
        progress, checks = self.progress, self._checks
        n_prompt = n_completion = 0
        for trace, row in committed:
            state, index = self._by_trace.pop(trace.trace_id)
            state.have.add(index)
            if trace.finish_reason != "stop":
                progress.n_truncated += trace.finish_reason == "length"
                progress.n_aborted += trace.finish_reason == "abort"
            if trace.meta is not None:
                progress.n_thinking_closed += CLOSED_AT in trace.meta
            n_prompt += trace.n_prompt_tokens or 0
            n_completion += trace.n_completion_tokens or 0
            if checks is None or not checks.submit(state, index, row, fresh=True):
                self._known(state, index, "unscored")
                if self._scores is not None:
                    self._scores.submit(state, row, None)
        progress.n_new += len(committed)
        progress.n_prompt_tokens += n_prompt
        progress.n_completion_tokens += n_completion

    def _failed(self, failure: Failure) -> None:
        if failure.kind == STOPPED:
            self._by_trace.pop(failure.trace_id)
            return
        attempt = self._attempts.get(failure.trace_id, 0) + 1
        self._attempts[failure.trace_id] = attempt
        self._committer.put_failure(failure_row(failure, attempt, self.run_id))
        state, index = self._by_trace.pop(failure.trace_id)
        if failure.retriable and attempt < MAX_ATTEMPTS:
            self.progress.n_retried += 1
            self._again.append((state, index))
            return
        self.progress.n_failed += 1
        known = self.progress.failures
        known[failure.kind] = known.get(failure.kind, 0) + 1

    def _take_verdicts(self, *, wait: bool, enough: int | None = None) -> None:
        if self._checks is None:
            return
        progress = self.progress
        for known in self._checks.results(wait=wait, enough=enough):
            if known.is_fresh:
                progress.n_pass += known.status == "pass"
                progress.n_fail += known.status == "fail"
                progress.n_unscored += known.status == "unscored"
                if self._scores is not None:
                    self._scores.submit(known.state, known.row, known.extracted)
            self._known(known.state, known.index, known.status)

    def _known(self, state: SampleState, index: int, status: str) -> None:
        state.statuses[index] = status
        if index == state.n_known:  # else one before it is still open
            self._note_done(state)
            if self._needs_verdicts and not state.is_done:
                self._ready.append(state)

    def _note_done(self, state: SampleState) -> None:
        state.advance()
        if not state.is_done and not self.policy.wants_after(state.n_known, state.n_pass):
            state.is_done = True
            self._done.append(state.trace_ids[0])
            self.progress.n_prompts_done += 1

    def _report(self) -> None:
        now = time.monotonic()
        self._reported_at = now
        progress = self.progress
        progress.seconds = now - self._begun
        progress.gpu_seconds = progress.seconds * self.engine.n_devices
        progress.n_in_flight = max(0, self._n_with_engine)
        progress.waits_for = self.engine.waits_for()
        if self._checks is not None:
            progress.n_checking = self._checks.n_pending
            progress.check_seconds = self._checks.seconds
        if self.limits.price is not None:
            progress.cost = self._cost()
        if self._on_progress is not None:
            self._on_progress(progress)

    def results(self) -> dict[str, Any]:
        """Return what the run's record keeps."""
        with contextlib.suppress(FactoryError):
            self._on_progress = None
            self._report()
        return {**vars(self.progress), "stopped": self.stopped}


def _fitting(answer: Trace | Failure | None) -> Trace | Failure | None:
    """Turn a trace that the store cannot hold into a failure: one odd answer must not end a run."""
    if not isinstance(answer, Trace):
        return answer
    misfit = TABLES["traces"].misfit([{n: getattr(answer, n) for n in _TRACE_FIELDS}])
    if misfit is None:
        return answer
    return Failure(trace_id=answer.trace_id, kind="bad_answer", message=misfit, retriable=False)


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
