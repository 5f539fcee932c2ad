"""What a user is told while a run waits: one line each, once, and never a secret in it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Sequence

from factory.engines.base import Request
from factory.engines.openai.addresses import hidden
from factory.engines.openai.endpoints import Endpoint
from factory.engines.openai.faults import Fault
from factory.engines.openai.settings import Settings
from factory.records import Trace

LOG = logging.getLogger("factory.engines.openai")
NOBODY_S = 2.0
"""Seconds without any connection after which it is said that nobody answers."""
SILENT_S = 30.0
"""Seconds without a token from a server that has requests, after which that is said."""
LIMITS_S = 60.0
"""Seconds between two lines about the rate limit of a server."""
_LOOK_S = 0.5
_SHORT_CHARS = 32
_ENDS = "Ctrl-C ends the run"


class _SameSamples:
    """Counts samples that are equal to the first one of their prompt, of 4,096 prompts at most.

    Short answers, which are equal by right, are left out.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._n = self._n_same = 0

    def of(self, request: Request, trace: Trace) -> str | None:
        """Return "n of m" once nearly all of several prompts' samples are the same."""
        if not request.sampling.temperature or len(trace.completion) < _SHORT_CHARS:
            return None
        mine, first = hash(trace.completion), self._first.get(request.prompt_id)
        if first is None:
            if len(self._first) < 4096:
                self._first[request.prompt_id] = mine
            return None
        self._n += 1
        self._n_same += first == mine
        is_said = self._n >= 4 and len(self._first) >= 2 and self._n_same >= 0.9 * self._n
        return f"{self._n_same} of {self._n}" if is_said else None


class Notices:
    """Lines about servers; written as warnings of the logger ``factory.engines.openai``.

    Args:
        endpoints: the servers.
        settings: of the engine.
        secrets: what no line may hold.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], settings: Settings, secrets: Iterable[str]
    ) -> None:
        self._endpoints, self._settings, self._secrets = endpoints, settings, list(secrets)
        self._loop = asyncio.get_running_loop()
        self._waits_since: float | None = None
        self._silent_since: float | None = None
        self._said: set[str] = set()
        self._limit_said_at: dict[str, float] = {}
        self._last_words = ""
        self._n_sent = 0
        self._same = _SameSamples()

    async def watch(self, counts: Callable[[], tuple[int, int]]) -> None:
        """Look after the run until it ends.

        Args:
            counts: gives the requests that wait for something, and those that a server has.
        """
        while True:
            await asyncio.sleep(_LOOK_S)
            now = self._loop.time()
            n_waiting, self._n_sent = counts()
            is_paused = all(e.resume_at > now and not e.is_down for e in self._endpoints)
            has_contact = self._n_sent > 0 or n_waiting == 0 or is_paused
            has_contact = has_contact or any(e.n_done and not e.is_down for e in self._endpoints)
            self._waits_since = None if has_contact else self._waits_since or now
            if self._waits_since is not None and now - self._waits_since >= NOBODY_S:
                self._say_nobody()
            self._look_for_silence(now)

    def reached(self) -> None:
        """Note that a server has taken a request."""
        self._waits_since = None
        self._said.discard("nobody")

    def nobody(self, words: str) -> None:
        """Note that a server was not to be reached, and why."""
        self._last_words = words
        if self._waits_since is None and all(e.is_down for e in self._endpoints):
            self._waits_since = self._loop.time()

    def limited(self, endpoint: Endpoint, fault: Fault, *, until: float) -> None:
        """Say that a rate limit is waited for, now and then."""
        now = self._loop.time()
        last = self._limit_said_at.get(endpoint.name)
        if last is not None and now - last < LIMITS_S:
            return
        self._limit_said_at[endpoint.name] = now
        self._say(
            f"{endpoint.name} limits the rate ({fault.kind}: {fault.message[:150]}); "
            f"asking again in {max(0.0, until - now):.1f} s, no try is used up"
        )

    def long_wait(self, endpoint: Endpoint, seconds: float) -> None:
        """Say that a server wants to be left alone for longer than we do so."""
        most = self._settings.max_retry_after_s
        self._once(
            f"wait {endpoint.name}",
            f"{endpoint.name} asks to wait for {seconds:,.0f} s; asking again after {most:,.0f} s "
            f"(max_retry_after_s); {_ENDS}",
        )

    def other_model(self, endpoint: Endpoint, model: str) -> None:
        """Say that another model answers than was asked."""
        served_as = self._settings.served_as
        self._once(
            f"model {model[:200]}",
            f"{endpoint.name} answers as {model[:200]!r} where {served_as!r} was asked; it is kept "
            "in the traces' meta as answered_by (strict_model: true refuses it)",
        )

    def sampled(self, endpoint: Endpoint, request: Request, trace: Trace) -> None:
        """Look whether the samples of a prompt differ; say so once where they do not."""
        same = self._same.of(request, trace)
        if same is not None:
            self._once(
                "same",
                f"{endpoint.name}: {same} samples are, to the letter, the first of their prompt at "
                f"temperature {request.sampling.temperature:g}: it may ignore the seed or answer "
                "from a cache; pass@k and majorities of such samples are not what they seem",
            )

    def given_up(self, kind: str, message: str) -> None:
        """Say why a request was given up, once for each kind of failure."""
        self._once(f"kind {kind}", f"a request was given up, {kind}: {message}")

    def prefill(self, endpoint: Endpoint) -> None:
        """Say that a prefill may be lost on a server that is not vLLM."""
        self._once(
            "prefill",
            f"{endpoint.name} does not say that it is vLLM: whether it goes on from "
            "sampling.prefill is not known (prefill: native, where its template writes it)",
        )

    def _say_nobody(self) -> None:
        names = ", ".join(e.name for e in self._endpoints)
        why = f" ({self._last_words[:150]})" if self._last_words else ""
        wait = self._settings.wait_s
        self._once("nobody", f"nobody answers at {names}{why}; waiting up to {wait:.0f} s, {_ENDS}")

    def _look_for_silence(self, now: float) -> None:
        if not self._n_sent or not self._settings.stream:
            self._silent_since = None
            return
        last = max(e.last_token_at for e in self._endpoints)
        if self._silent_since is None or last > self._silent_since:
            self._silent_since = max(last, self._silent_since or now)
            self._said.discard("silent")
        if now - self._silent_since >= SILENT_S:
            self._once(
                "silent",
                f"{self._n_sent} requests are with the server, which has given no token for "
                f"{SILENT_S:.0f} s; they are asked again after {self._settings.stall_s:.0f} s",
            )

    def _once(self, what: str, text: str) -> None:
        if what not in self._said and len(self._said) < 100:
            self._said.add(what)
            self._say(text)

    def _say(self, text: str) -> None:
        # In a terminal the cursor may stand behind the line of progress.
        begin = "\n" if sys.stderr.isatty() else ""
        LOG.warning("%s%s", begin, hidden(" ".join(text.split()), self._secrets))
