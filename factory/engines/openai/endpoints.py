"""Base URLs of one model: how many requests each is given, and when it is left alone.

Additive increase, multiplicative decrease, per URL: the number under way doubles with every full
round of answers until the server first says that it is too much, and grows by one per round
after that; each such answer halves it, once per round. A server that is down is probed by one
request at a time, so that an outage is not followed by a storm; one that sets a rate limit is
left alone for as long as it asks, or for longer and longer where it does not say.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from factory.engines.openai.addresses import Address

START = 16.0


@dataclass(eq=False)
class Endpoint:
    """One base URL."""

    address: Address
    limit: float = START
    n_active: int = 0
    resume_at: float = 0.0
    is_down: bool = False
    last_token_at: float = 0.0
    answered_at: float = 0.0
    n_done: int = 0
    why_down: str = ""
    is_vllm: bool | None = None
    """Whether the server says so; None where it was not asked yet."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _is_starting: bool = field(default=True)
    _cut_at: float = -1.0
    _n_down: int = 0
    _n_limits: int = 0

    @property
    def name(self) -> str:
        """The URL as messages say it."""
        return self.address.name

    def answered(self, *, now: float, most: float) -> None:
        """Note one whole answer."""
        if self.is_down:
            self.is_down, self._n_down, self._is_starting = False, 0, True
        self.n_done += 1
        self._n_limits, self.answered_at = 0, now
        self.limit = min(most, self.limit + (1.0 if self._is_starting else 1.0 / self.limit))

    def congested(self, *, now: float, begun: float, retry_after_s: float | None) -> None:
        """Note that the server has too much to do."""
        if begun >= self._cut_at:  # what was sent before the last cut says nothing about it
            self.limit = max(1.0, self.limit / 2)
            self._is_starting = False
            self._cut_at = now
        if retry_after_s:
            self.resume_at = max(self.resume_at, now + retry_after_s)

    def limited(
        self, *, now: float, begun: float, retry_after_s: float | None, backoff_s: float,
        most_s: float,
    ) -> None:  # fmt: skip
        """Note that a rate limit is reached: nothing is asked for a while."""
        is_news = begun >= self._cut_at
        self.congested(now=now, begun=begun, retry_after_s=retry_after_s)
        if not retry_after_s and is_news:
            wait = jitter(min(most_s, backoff_s * 2 ** min(self._n_limits, 10)))
            self.resume_at = max(self.resume_at, now + wait)
            self._n_limits += 1

    def down(self, why: str, *, now: float, backoff_s: float, most_s: float) -> None:
        """Note that nobody listens."""
        self.limit, self.is_down, self.why_down = 1.0, True, why
        self.resume_at = now + jitter(min(most_s, backoff_s * 2 ** min(self._n_down, 10)))
        self._n_down += 1


class Pace:
    """So much per minute at most, evenly spaced: a burst at its beginning counts as too much.

    >>> pace = Pace(60)
    >>> pace.take(1, now=0.0), pace.take(1, now=0.0), pace.ready_at
    (None, None, 2.0)
    """

    def __init__(self, per_minute: float | None) -> None:
        self._s_each = 60.0 / per_minute if per_minute else 0.0
        self.ready_at = 0.0
        """When the next may begin, on the clock of ``now``."""

    def take(self, n: float, *, now: float) -> None:
        """Note that ``n`` were taken; a negative number gives back."""
        if self._s_each:
            self.ready_at = max(self.ready_at, now if n > 0 else 0.0) + n * self._s_each


class Endpoints:
    """Hands out places; used on one event loop only.

    Args:
        addresses: of the servers.
        most: requests under way at most, all together.
        requests_per_minute: begun at most, all together; None: no limit. Likewise
            ``tokens_per_minute``.
    """

    def __init__(
        self, addresses: Sequence[Address], *, most: int,
        requests_per_minute: float | None = None, tokens_per_minute: float | None = None,
    ) -> None:  # fmt: skip
        self.all = [Endpoint(a, limit=min(START, most)) for a in addresses]
        self.most = most
        self._requests, self._tokens = Pace(requests_per_minute), Pace(tokens_per_minute)
        self._changed = asyncio.Condition()

    @property
    def limit(self) -> int:
        """Requests that may be under way now, all URLs together."""
        return min(self.most, sum(int(e.limit) for e in self.all))

    def are_paused(self, *, now: float) -> bool:
        """Tell whether no URL is asked at the moment."""
        return all(e.resume_at > now for e in self.all)

    async def acquire(self, *, n_tokens: float = 0, avoid: Endpoint | None = None) -> Endpoint:
        """Wait for a place; the URL with the greatest free share is taken.

        Args:
            n_tokens: that the request is expected to take.
            avoid: URL that has just failed this request; taken only where there is no other.
        """
        loop = asyncio.get_running_loop()
        async with self._changed:
            while True:
                now = loop.time()
                paced = max(self._requests.ready_at, self._tokens.ready_at)
                free = [e for e in self.all if e.resume_at <= now and e.n_active < int(e.limit)]
                if free and paced <= now:
                    best = min(free, key=lambda e: (e is avoid, e.n_active / e.limit))
                    best.n_active += 1
                    self._requests.take(1, now=now)
                    self._tokens.take(n_tokens, now=now)
                    return best
                waits = [e.resume_at - now for e in self.all if e.resume_at > now]
                waits += [paced - now] if free else []
                try:
                    async with asyncio.timeout(min(waits) if waits else None):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def release(self, endpoint: Endpoint, *, n_tokens_more: float = 0) -> None:
        """Give a place back.

        Args:
            endpoint: whose.
            n_tokens_more: tokens taken beyond those expected; may be negative.
        """
        endpoint.n_active -= 1
        self._tokens.take(n_tokens_more, now=asyncio.get_running_loop().time())
        async with self._changed:
            self._changed.notify_all()


def jitter(seconds: float) -> float:
    """Return a wait between half of and all of ``seconds``, so that clients spread out."""
    return seconds * (0.5 + random.random() / 2)
