"""Several engines as one: requests are shared out, a dead engine is replaced, none is lost.

A replica is anything that takes requests and puts events into a queue (a child process,
``_process``; a Ray actor, ``ray``). When one dies, what it had under way is asked again. What
was under way at two deaths is suspected of having caused them: it is asked again in halves, alone
on a fresh engine, and halved again at each further death, until the one that kills is found and
set aside as a failure ``poison``. So a poison prompt costs two deaths and log2(suspects) more.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from factory.engines.base import Failure, OnPartial, Request
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

    def kill(self) -> None:
        """End it at once."""


@dataclass
class _Seat:
    """A replica's place in the fleet."""

    replica: Replica
    number: int
    life: int = 0
    is_ready: bool = False
    slots: int = 0
    n_failed_starts: int = 0
    start_at: float | None = 0.0
    heard_at: float = 0.0
    flights: dict[str, Request] = field(default_factory=dict)
    trial: bool = False
    """Whether what it has under way is a group of suspects."""


class Fleet:
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
        self._seats = [_Seat(make(n, self._events), n) for n in range(replicas)]
        self._hang_s, self._backoff_s = hang_s, backoff_s
        self._on_partial: OnPartial | None = None
        self._deaths: dict[str, int] = {}
        self._n_in_a_row = 0
        self._again: deque[Request] = deque()
        self._trials: deque[list[Request]] = deque()
        self._last_error = ""

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer requests as replicas have room; yield None when idle."""
        self._on_partial = on_partial
        more = True
        while more or self._n_open:
            yield from self._care()
            more = self._feed(requests, more)
            try:
                event = self._events.get(timeout=_WAIT_S)
            except queue.Empty:
                yield None
                continue
            yield from self._take(event)

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way."""
        gone = set(trace_ids)
        self._again = deque(r for r in self._again if r.trace_id not in gone)
        self._trials = deque(
            kept for t in self._trials if (kept := [r for r in t if r.trace_id not in gone])
        )
        for seat in self._seats:
            here = [t for t in gone if seat.flights.pop(t, None) is not None]
            if here:
                seat.replica.cancel(here)

    def close(self) -> None:
        """End all replicas."""
        for seat in self._seats:
            seat.replica.kill()
            seat.life += 1
            seat.is_ready, seat.start_at = False, 0.0
            seat.flights.clear()

    # ---- inside

    @property
    def _n_open(self) -> int:
        return (
            sum(len(s.flights) for s in self._seats)
            + len(self._again)
            + sum(len(t) for t in self._trials)
        )

    def _care(self) -> Iterator[Failure]:
        """Start what is due, and end what hangs; yield what is set aside for it."""
        now = time.monotonic()
        for seat in self._seats:
            if seat.start_at is not None and now >= seat.start_at:
                seat.start_at, seat.heard_at = None, now
                seat.life += 1
                seat.replica.start(seat.life, self._on_partial)
            elif seat.flights and now - seat.heard_at > self._hang_s:
                seat.replica.kill()
                yield from self._died(seat, f"no sign of life for {self._hang_s:.0f} s")
        if all(s.start_at is None and not s.is_ready and s.n_failed_starts >= MAX_STARTS
               for s in self._seats):  # fmt: skip
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

    def _feed(self, requests: Iterator[Request | None], more: bool) -> bool:
        for seat in self._seats:
            if seat.is_ready and not seat.flights and self._trials:
                seat.trial = True
                self._send(seat, self._trials.popleft())
        batches: dict[int, list[Request]] = {}
        while True:
            free = [
                s for s in self._seats if s.is_ready and not s.trial and s.slots > len(s.flights)
            ]
            if not free:
                break
            if self._again:
                request: Request | None = self._again.popleft()
            elif not more:
                break
            else:
                try:
                    request = next(requests)
                except StopIteration:
                    more = False
                    break
            if request is None:
                break
            seat = min(free, key=lambda s: len(s.flights) / s.slots)
            seat.flights[request.trace_id] = request
            batches.setdefault(seat.number, []).append(request)
        for number, batch in batches.items():
            self._send(self._seats[number], batch)
        return more

    def _send(self, seat: _Seat, batch: list[Request]) -> None:
        if len(seat.flights) == len(batch) or not seat.flights:
            seat.heard_at = time.monotonic()  # it was idle: silence until now was no hang
        for request in batch:
            seat.flights[request.trace_id] = request
        seat.replica.send(batch)

    def _take(self, event: Event) -> Iterator[Trace | Failure]:
        number, life, what, value = event
        seat = self._seats[number]
        if life != seat.life:
            return  # of an engine that is gone
        seat.heard_at = time.monotonic()
        if what == "ready":
            self._check(value)
            seat.is_ready, seat.slots, seat.n_failed_starts = True, value["slots"], 0
        elif what == "dead":
            yield from self._died(seat, str(value))
        elif what == "answer" and seat.flights.pop(value.trace_id, None) is not None:
            self._n_in_a_row = 0
            self._deaths.pop(value.trace_id, None)
            seat.trial = seat.trial and bool(seat.flights)
            yield value

    def _check(self, told: dict[str, Any]) -> None:
        for name in ("model", "revision", "template"):
            if told[name] != getattr(self, name):
                raise EngineError(
                    f"a replica has {name} {told[name]!r}, not {getattr(self, name)!r}",
                    "all replicas must run the same model",
                )

    def _died(self, seat: _Seat, why: str) -> list[Failure]:
        """Replace a replica; ask again for what it had, and set aside what kills."""
        self.n_deaths += 1
        self._n_in_a_row += 1
        self._last_error = why[:300]
        was_ready, seat.is_ready = seat.is_ready, False
        seat.life += 1  # whatever it still says is not heard
        if not was_ready:
            seat.n_failed_starts += 1
        if seat.n_failed_starts < MAX_STARTS:
            wait = self._backoff_s * 2 ** min(seat.n_failed_starts, 6)
            seat.start_at = time.monotonic() + min(MAX_BACKOFF_S, wait)
        lost, seat.flights = list(seat.flights.values()), {}
        seat.trial = False
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
