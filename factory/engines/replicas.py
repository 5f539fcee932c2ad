"""Several engines as one: requests are shared out, a dead engine is replaced, none is lost.

A replica is anything that takes requests and puts events into a queue: a child process
(``replica_process``) or a Ray actor (``ray``). When one dies, what it had under way is asked again.
What was under way at two deaths is suspected of having caused them: it is asked again in halves,
alone on a fresh engine, and halved again at each further death, until the one that kills is found
and set aside as a failure ``poison``. So a poison prompt costs two deaths and log2(suspects) more.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from factory.engines import base
from factory.engines.base import STOPPED, Failure, Incoming, OnPartial, Request
from factory.errors import EngineError
from factory.records import Trace

Event = tuple[int, int, str, Any]
"""(replica, its life, what: ready | answer | beat | dead, value)."""

MAX_STARTS = 3
MAX_DEATHS = 24
BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
_WAIT_S = 0.05


class Replica(Protocol):
    """One engine somewhere else. Events carry the life in which they were sent."""

    def start(self, life: int, on_partial: OnPartial | None) -> None:
        """Begin to start; ``ready`` (with ``slots``) or ``dead`` follows as an event."""

    def send(self, requests: list[Request]) -> None:
        """Ask; every request is followed by one ``answer`` event, or by ``dead``."""

    def cancel(self, trace_ids: list[str]) -> None:
        """Forget requests; nothing follows for them."""

    def drain(self) -> None:
        """Note that the run ends: its engine gives back what waits, as failures."""

    def kill(self) -> None:
        """End it at once."""


@dataclass
class _State:
    """What is known of one replica."""

    replica: Replica
    number: int
    life: int = 0
    is_ready: bool = False
    slots: int = 0
    n_failed_starts: int = 0
    start_at: float | None = 0.0
    heard_at: float = 0.0
    in_flight: dict[str, Request] = field(default_factory=dict)
    trial: bool = False
    """Whether what it has under way is a group of suspects."""


class Replicas(base.Engine):
    """An engine made of replicas.

    Args:
        replicas: how many.
        make: (number, events) → a replica that puts its events there.
        model: as it enters the keys; likewise ``revision`` and ``template``. A replica that says
            otherwise is refused.
        n_devices: accelerators in use, all replicas together.
        hang_s: a replica that has work and gives no sign of life for so long is replaced.
        backoff_s: wait before a replica is started again; doubles with each death in a row.
    """

    def __init__(
        self,
        *,
        replicas: int,
        make: Callable[[int, queue.SimpleQueue[Event]], Replica],
        model: str,
        revision: str,
        template: str | None,
        n_devices: int = 0,
        hang_s: float = 900.0,
        backoff_s: float = BACKOFF_S,
    ) -> None:
        self.model, self.revision, self.template = model, revision, template
        self.n_devices = n_devices
        self.n_deaths = 0
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._states = [_State(make(n, self._events), n) for n in range(replicas)]
        self._hang_s, self._backoff_s = hang_s, backoff_s
        self._on_partial: OnPartial | None = None
        self._deaths: dict[str, int] = {}
        self._n_in_a_row = 0
        self._again: deque[Request] = deque()
        self._trials: deque[list[Request]] = deque()
        self._last_error = ""
        self._is_draining = False

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer requests as replicas have room; yield None when idle."""
        self._on_partial = on_partial
        self._is_draining = False
        incoming = Incoming(requests)
        # A run that ends asks nothing more, and must not wait for a replica that never starts.
        while self._n_open or (incoming.more and not self._is_draining):
            yield from self._supervise()
            yield from self._given_back()
            self._hand_out(incoming)
            try:
                event = self._events.get(timeout=_WAIT_S)
            except queue.Empty:
                yield None
                continue
            yield from self._handle(event)

    def waits_for(self) -> str | None:
        """Say how many replicas have started, until all have."""
        n_ready, n = sum(state.is_ready for state in self._states), len(self._states)
        return None if n_ready == n else f"replicas ready: {n_ready} of {n}"

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way."""
        gone = set(trace_ids)
        self._again = deque(r for r in self._again if r.trace_id not in gone)
        self._trials = deque(
            kept for t in self._trials if (kept := [r for r in t if r.trace_id not in gone])
        )
        for state in self._states:
            here = [t for t in gone if state.in_flight.pop(t, None) is not None]
            if here:
                state.replica.cancel(here)

    def drain(self) -> None:
        """Give back what waits, here and in the replicas; what one is answering is finished."""
        self._is_draining = True
        for state in self._states:
            if state.is_ready:
                state.replica.drain()

    def close(self) -> None:
        """End all replicas."""
        for state in self._states:
            state.replica.kill()
            state.life += 1
            state.is_ready, state.start_at = False, 0.0
            state.in_flight.clear()

    # ---- inside

    @property
    def _n_open(self) -> int:
        return (
            sum(len(s.in_flight) for s in self._states)
            + len(self._again)
            + sum(len(t) for t in self._trials)
        )

    def _supervise(self) -> Iterator[Failure]:
        """Start what is due, and end what hangs; yield what is set aside for it."""
        now = time.monotonic()
        for state in self._states:
            if state.start_at is not None and now >= state.start_at:
                state.start_at, state.heard_at = None, now
                state.life += 1
                state.replica.start(state.life, self._on_partial)
            elif state.in_flight and now - state.heard_at > self._hang_s:
                state.replica.kill()
                yield from self._replace(state, f"no sign of life for {self._hang_s:.0f} s")
        if all(s.start_at is None and not s.is_ready and s.n_failed_starts >= MAX_STARTS
               for s in self._states):  # fmt: skip
            raise EngineError(
                f"no replica of {self.model} starts ({self._last_error})",
                "see `factory doctor`; what was committed is kept",
            )
        if self._n_in_a_row >= MAX_DEATHS:
            raise EngineError(
                f"the engine of {self.model} died {self._n_in_a_row} times without an answer "
                f"({self._last_error})",
                "what was committed is kept",
            )

    def _given_back(self) -> Iterator[Failure]:
        """Once the run ends, yield what no replica has; it stays missing."""
        if not self._is_draining:
            return
        waiting = [*self._again, *(r for trial in self._trials for r in trial)]
        self._again.clear()
        self._trials.clear()
        for request in waiting:
            yield Failure(trace_id=request.trace_id, kind=STOPPED, message="the run ends")

    def _hand_out(self, incoming: Incoming) -> None:
        """Send what is to be asked to the replicas that have room: suspects alone."""
        for state in self._states:
            if state.is_ready and not state.in_flight and self._trials:
                state.trial = True
                self._send(state, self._trials.popleft())
        batches: dict[int, list[Request]] = {}
        for request in self._next(incoming):
            state = min(self._with_room(), key=lambda s: len(s.in_flight) / s.slots)
            state.in_flight[request.trace_id] = request
            batches.setdefault(state.number, []).append(request)
        for number, batch in batches.items():
            self._send(self._states[number], batch)

    def _next(self, incoming: Incoming) -> Iterator[Request]:
        """Yield requests while a replica has room, those of dead replicas first."""
        while self._again and self._with_room():
            yield self._again.popleft()
        yield from incoming.take(lambda: bool(self._with_room()))

    def _with_room(self) -> list[_State]:
        return [
            s for s in self._states if s.is_ready and not s.trial and s.slots > len(s.in_flight)
        ]

    def _send(self, state: _State, batch: list[Request]) -> None:
        if len(state.in_flight) == len(batch) or not state.in_flight:
            state.heard_at = time.monotonic()  # it was idle: silence until now was no hang
        for request in batch:
            state.in_flight[request.trace_id] = request
        state.replica.send(batch)

    def _handle(self, event: Event) -> Iterator[Trace | Failure]:
        number, life, what, value = event
        state = self._states[number]
        if life != state.life:
            return  # of an engine that is gone
        state.heard_at = time.monotonic()
        if what == "ready":
            self._check(value)
            state.is_ready, state.slots, state.n_failed_starts = True, value["slots"], 0
        elif what == "dead":
            yield from self._replace(state, str(value))
        elif what == "answer" and state.in_flight.pop(value.trace_id, None) is not None:
            self._n_in_a_row = 0
            self._deaths.pop(value.trace_id, None)
            state.trial = state.trial and bool(state.in_flight)
            yield value

    def _check(self, told: dict[str, Any]) -> None:
        for name in ("model", "revision", "template"):
            if told[name] != getattr(self, name):
                raise EngineError(
                    f"a replica has {name} {told[name]!r}, not {getattr(self, name)!r}",
                    "all replicas must run the same model",
                )

    def _replace(self, state: _State, why: str) -> list[Failure]:
        """Replace a replica; ask again for what it had, and set aside what kills."""
        self.n_deaths += 1
        self._n_in_a_row += 1
        self._last_error = why[:300]
        was_ready, state.is_ready = state.is_ready, False
        state.life += 1  # whatever it still says is not heard
        if not was_ready:
            state.n_failed_starts += 1
        if state.n_failed_starts < MAX_STARTS and not self._is_draining:
            wait = self._backoff_s * 2 ** min(state.n_failed_starts, 6)
            state.start_at = time.monotonic() + min(MAX_BACKOFF_S, wait)
        lost, state.in_flight = list(state.in_flight.values()), {}
        state.trial = False
        for request in lost:
            self._deaths[request.trace_id] = self._deaths.get(request.trace_id, 0) + 1
        suspects = [r for r in lost if self._deaths[r.trace_id] >= 2]
        self._again.extend(r for r in lost if self._deaths[r.trace_id] < 2)
        if len(suspects) == 1:
            return [self._poison(suspects[0], why)]
        if suspects:
            half = len(suspects) // 2
            self._trials += [suspects[:half], suspects[half:]]
        return []

    def _poison(self, request: Request, why: str) -> Failure:
        n = self._deaths.pop(request.trace_id)
        return Failure(
            trace_id=request.trace_id,
            kind="poison",
            message=f"the engine died {n} times with it: {why}"[:300],
            retriable=False,
        )
