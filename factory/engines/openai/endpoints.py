"""Base URLs of one model: how many requests each is given, and when it is left alone.

Additive increase, multiplicative decrease, per URL: the number under way doubles with every full
round of answers until the server first says that it is too much, and grows by one per round
after that; each such answer halves it, once per round. A server that is down is probed by one
request at a time, so that an outage is not followed by a storm.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

START = 16.0


@dataclass(eq=False)
class Endpoint:
    """One base URL."""

    url: str
    limit: float = START
    n_active: int = 0
    resume_at: float = 0.0
    is_down: bool = False
    last_token_at: float = 0.0
    n_done: int = 0
    _is_starting: bool = field(default=True)
    _cut_at: float = -1.0
    _n_down: int = 0

    def answered(self, *, most: float) -> None:
        """Note one whole answer."""
        if self.is_down:
            self.is_down, self._n_down, self._is_starting = False, 0, True
        self.n_done += 1
        self.limit = min(most, self.limit + (1.0 if self._is_starting else 1.0 / self.limit))

    def congested(self, *, now: float, begun: float, retry_after_s: float | None) -> None:
        """Note that the server has too much to do."""
        if begun >= self._cut_at:  # what was sent before the last cut says nothing about it
            self.limit = max(1.0, self.limit / 2)
            self._is_starting = False
            self._cut_at = now
        if retry_after_s:
            self.resume_at = max(self.resume_at, now + retry_after_s)

    def down(self, *, now: float, backoff_s: float, most_s: float) -> None:
        """Note that nobody listens."""
        self.limit, self.is_down = 1.0, True
        self.resume_at = now + jitter(min(most_s, backoff_s * 2 ** min(self._n_down, 10)))
        self._n_down += 1


class Endpoints:
    """Hands out places; used on one event loop only."""

    def __init__(self, urls: Sequence[str], *, most: int) -> None:
        self.all = [Endpoint(u, limit=min(START, most)) for u in urls]
        self.most = most
        self._changed = asyncio.Condition()

    @property
    def limit(self) -> int:
        """Requests that may be under way now, all URLs together."""
        return min(self.most, sum(int(e.limit) for e in self.all))

    async def acquire(self, *, avoid: Endpoint | None = None) -> Endpoint:
        """Wait for a place; the URL with the greatest free share is taken.

        Args:
            avoid: URL that has just failed this request; taken only where there is no other.
        """
        loop = asyncio.get_running_loop()
        async with self._changed:
            while True:
                now = loop.time()
                free = [e for e in self.all if e.resume_at <= now and e.n_active < int(e.limit)]
                if free:
                    best = min(free, key=lambda e: (e is avoid, e.n_active / e.limit))
                    best.n_active += 1
                    return best
                waits = [e.resume_at - now for e in self.all if e.resume_at > now]
                try:
                    async with asyncio.timeout(min(waits) if waits else None):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def release(self, endpoint: Endpoint) -> None:
        """Give a place back."""
        endpoint.n_active -= 1
        async with self._changed:
            self._changed.notify_all()


def jitter(seconds: float) -> float:
    """Return a wait between half of and all of ``seconds``, so that clients spread out."""
    return seconds * (0.5 + random.random() / 2)
