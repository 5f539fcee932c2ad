"""One run of the engine ``openai``: an event loop on a thread, and two queues to it and from it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from dataclasses import dataclass

from factory.engines.base import STOPPED, Failure, OnPartial, Request
from factory.engines.openai.addresses import hidden
from factory.engines.openai.answers import Answer, estimate_of_prompt
from factory.engines.openai.endpoints import Endpoint, Endpoints, jitter
from factory.engines.openai.exchange import Exchange
from factory.engines.openai.faults import Fault
from factory.engines.openai.notices import Notices
from factory.engines.openai.refusals import Refusals
from factory.engines.openai.settings import Settings
from factory.errors import EngineError
from factory.records import Trace

_IDLE_S = 0.02


@dataclass(eq=False)
class _Asked:
    """A request and how far it is.

    Attributes:
        is_sent: whether a server has it now; else it waits for something.
        n_tried: attempts that counted.
        limited_since: when it was first put off by a rate limit.
    """

    request: Request
    is_sent: bool = False
    n_tried: int = 0
    limited_since: float | None = None
    task: asyncio.Task[None] | None = None


class Connection:
    """The servers during one run: requests go in, answers come out, in whatever order they end.

    Args:
        settings: of the engine.
        on_partial: rule that ends loops early, asked on the event loop's thread.

    Attributes:
        n_open: requests that were sent and whose answers were not taken.
    """

    def __init__(self, settings: Settings, on_partial: OnPartial | None) -> None:
        self._settings, self._on_partial = settings, on_partial
        self.n_open = 0
        self._answers: queue.SimpleQueue[Trace | Failure | BaseException | None]
        self._answers = queue.SimpleQueue()
        self._asked: dict[str, _Asked] = {}
        self._refusals = Refusals()
        self._is_draining = self._has_failed = False
        self._n_completions, self._n_completion_tokens = 0, 0
        self._unreachable_since: float | None = None
        secrets = [s for a in settings.addresses for s in a.secrets]
        self._secrets = [*secrets, settings.key] if settings.key else secrets
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="openai", daemon=True)
        self._thread.start()
        self._ready.wait()

    # ---- on the caller's thread

    @property
    def limit(self) -> int:
        """Requests that may be under way now; it follows what the servers can take."""
        return self._endpoints.limit

    def send(self, request: Request) -> None:
        """Begin to ask; one answer follows, or none when it is cancelled."""
        self.n_open += 1
        self._loop.call_soon_threadsafe(self._begin, request)

    def take(self) -> Trace | Failure | None:
        """Return the next answer, or None after a short while without one.

        Raises:
            EngineError: the servers refuse every request, or have been gone for too long.
        """
        try:
            answer = self._answers.get(timeout=_IDLE_S)
        except queue.Empty:
            return None
        if isinstance(answer, BaseException):
            raise answer
        self.n_open -= 1
        return answer

    def waits_for(self) -> str | None:
        """Say how long nobody has answered; None where somebody does."""
        since, servers = self._unreachable_since, self._endpoints.all
        if since is None or not all(server.is_down for server in servers):
            return None
        seconds, most = time.monotonic() - since, self._settings.wait_s
        return f"nobody answers at {servers[0].name}: {seconds:.0f} s of at most {most:.0f} s"

    def cancel(self, trace_ids: list[str]) -> None:
        """Break requests off; for each, ``take`` returns None once."""

        def forget() -> None:
            for trace_id in trace_ids:
                if trace_id in self._asked:
                    self._end(self._asked[trace_id])

        self._loop.call_soon_threadsafe(forget)

    def drain(self) -> None:
        """Give back what waits, now and from now on; what a server has is waited for."""

        def give_back() -> None:
            self._is_draining = True
            for asked in self._asked.values():
                if not asked.is_sent:
                    self._end(asked)

        self._loop.call_soon_threadsafe(give_back)

    def close(self) -> None:
        """Break off what is under way, and end the thread."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    # ---- on the event loop's thread

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        import httpx

        settings, most = self._settings, self._settings.max_concurrency
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._endpoints = Endpoints(
            settings.addresses, most=most, requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
        )  # fmt: skip
        self._notices = Notices(self._endpoints.all, settings, self._secrets)
        headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
        # Times are kept here and not by the client: bytes are no progress, tokens are.
        async with httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(None, connect=settings.connect_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=most),
            # No proxy of the environment stands between us and our own machine.
            mounts={f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")},
        ) as client:
            self._exchange = Exchange(client, settings, self._on_partial)
            watching = self._loop.create_task(self._notices.watch(self._counts))
            self._ready.set()
            await self._closing.wait()
            tasks = [a.task for a in self._asked.values() if a.task is not None]
            for task in (*tasks, watching):
                task.cancel()
            await asyncio.gather(*tasks, watching, return_exceptions=True)

    def _counts(self) -> tuple[int, int]:
        """Return the requests that wait for something, and those that a server has."""
        n_sent = sum(a.is_sent for a in self._asked.values())
        return len(self._asked) - n_sent, n_sent

    def _begin(self, request: Request) -> None:
        if self._has_failed:
            return
        if self._is_draining and self._endpoints.are_paused(now=self._loop.time()):
            self._answers.put(_given_back(request))
            return
        asked = self._asked[request.trace_id] = _Asked(request)
        asked.task = self._loop.create_task(self._answer(asked))
        asked.task.add_done_callback(lambda task: self._ended(request, task))

    def _end(self, asked: _Asked) -> None:
        if asked.task is not None:
            asked.task.cancel()

    def _ended(self, request: Request, task: asyncio.Task[None]) -> None:
        self._asked.pop(request.trace_id, None)
        if task.cancelled():
            self._answers.put(_given_back(request) if self._is_draining else None)
        elif (error := task.exception()) is not None:
            self._answers.put(error)
            self._has_failed = True  # the run ends: nothing more is asked
            for asked in self._asked.values():
                self._end(asked)

    async def _answer(self, asked: _Asked) -> None:
        """Try until there is an answer or no try is left."""
        request = asked.request
        avoid: Endpoint | None = None
        while True:
            expected = self._expected_tokens(request)
            endpoint = await self._endpoints.acquire(avoid=avoid, n_tokens=expected)
            n_taken, begun = 0.0, self._loop.time()
            try:
                trace = await self._attempt(asked, endpoint)
                n_taken = (trace.n_prompt_tokens or 0) + (trace.n_completion_tokens or 0)
                self._answered(endpoint, trace)
                return
            except Fault as error:
                fault = error
                self._note(endpoint, fault, begun)
            finally:
                asked.is_sent = False
                await self._endpoints.release(endpoint, n_tokens_more=n_taken - expected)
            avoid = endpoint
            wait_s = self._consider(asked, endpoint, fault)
            if wait_s is None:
                return
            if self._is_draining:
                self._answers.put(_given_back(request))
                return
            await asyncio.sleep(wait_s)

    async def _attempt(self, asked: _Asked, endpoint: Endpoint) -> Trace:
        """Ask once.

        Raises:
            Fault: what came is not one whole answer.
        """
        answer = Answer(keeps_logprobs=self._settings.logprobs is not None)
        begun = time.monotonic()

        def sent() -> None:
            asked.is_sent = True
            self._notices.reached()

        rule = await self._exchange.ask(asked.request, endpoint, answer, sent)
        settings = self._settings
        served_as = settings.served_as
        continues = asked.request.sampling.prefill and settings.prefill == "continue"
        if continues and settings.fields == "auto" and not endpoint.is_vllm:
            self._notices.prefill(endpoint)
        if answer.model not in (None, served_as):
            if settings.strict_model:
                words = f"{answer.model!r} answered where {served_as!r} was asked"
                raise Fault("other_model", words[:300], retriable=False, refuses="all")
            self._notices.other_model(endpoint, str(answer.model))
        trace = answer.trace(
            asked.request, seconds=time.monotonic() - begun, rule=rule, asked=served_as
        )
        self._notices.sampled(endpoint, asked.request, trace)
        return trace

    def _answered(self, endpoint: Endpoint, trace: Trace) -> None:
        endpoint.answered(now=self._loop.time(), most=self._settings.max_concurrency)
        self._refusals.has_answers = True
        self._unreachable_since = None
        self._n_completions += 1
        self._n_completion_tokens += trace.n_completion_tokens or 0
        self._answers.put(trace)

    def _expected_tokens(self, request: Request) -> float:
        """Return what a request will take, as those before it did."""
        if self._settings.tokens_per_minute is None:
            return 0.0
        n = self._n_completions
        mean = self._n_completion_tokens / n if n else request.sampling.max_tokens
        return estimate_of_prompt(request) + mean

    def _note(self, endpoint: Endpoint, fault: Fault, begun: float) -> None:
        """Let the endpoint know, so that other requests do not meet the same."""
        settings, now = self._settings, self._loop.time()
        wait = fault.retry_after_s
        if wait is not None and wait > settings.max_retry_after_s:
            self._notices.long_wait(endpoint, wait)
            wait = settings.max_retry_after_s
        if fault.is_down:
            endpoint.down(
                fault.message,
                now=now,
                backoff_s=settings.backoff_s,
                most_s=min(10.0, settings.max_backoff_s),
            )
        elif fault.is_limit:
            endpoint.limited(
                now=now, begun=begun, retry_after_s=wait, backoff_s=settings.backoff_s,
                most_s=settings.max_backoff_s,
            )  # fmt: skip
        elif fault.congested:
            endpoint.congested(now=now, begun=begun, retry_after_s=wait)

    def _consider(self, asked: _Asked, endpoint: Endpoint, fault: Fault) -> float | None:
        """Return the seconds to wait before the next attempt; None where there is none.

        Raises:
            EngineError: no request will be answered.
        """
        settings, now = self._settings, self._loop.time()
        if self._refusals.is_for_all(fault, asked.request, n_open=len(self._asked)):
            raise EngineError(
                f"{endpoint.name} refuses every request with {fault.kind}: "
                f"{self._hidden(fault.message)}",
                self._advice(fault.kind),
            )
        if fault.is_down:
            self._notices.nobody(fault.message)
            self._check_wait(endpoint, fault)
            return 0.0
        if fault.is_limit:
            asked.limited_since = asked.limited_since or now
            self._notices.limited(endpoint, fault, until=endpoint.resume_at)
            if now - max(asked.limited_since, endpoint.answered_at) < settings.rate_limit_wait_s:
                return 0.0
        else:
            asked.n_tried += 1
            if fault.retriable and asked.n_tried < settings.tries:
                backoff = settings.backoff_s * 2 ** min(asked.n_tried - 1, 30)
                asked_for = min(fault.retry_after_s or 0.0, settings.max_retry_after_s)
                return max(jitter(min(settings.max_backoff_s, backoff)), asked_for)
        tried = f" ({asked.n_tried} tries)" if asked.n_tried > 1 else ""
        message = self._hidden(fault.message)[:300] + tried
        self._notices.given_up(fault.kind, message)
        # Not retriable: the tries of this run are used up.
        self._answers.put(
            Failure(
                trace_id=asked.request.trace_id, kind=fault.kind, message=message, retriable=False
            )
        )
        return None

    def _check_wait(self, endpoint: Endpoint, fault: Fault) -> None:
        now = self._loop.time()
        if self._unreachable_since is None or not all(e.is_down for e in self._endpoints.all):
            self._unreachable_since = now
        if now - self._unreachable_since > self._settings.wait_s:
            raise EngineError(
                f"nobody has answered at {endpoint.name} for {self._settings.wait_s:.0f} s "
                f"({self._hidden(fault.message)[:200]})",
                "start the server; what was committed is kept, run the same command again",
            )

    def _advice(self, kind: str) -> str:
        settings = self._settings
        if kind == "http_401":
            if settings.key is None:
                return "no key was sent; name its environment variable in engine.key_env"
            return f"the key is that of the environment variable {settings.key_env}"
        if kind == "other_model":
            return "correct served_as, or leave strict_model out"
        if kind == "too_long":
            return "lower sampling.max_tokens, or take shorter prompts"
        if kind in ("http_400", "http_422"):
            return "engine.drop and engine.rename change the fields that are sent"
        return "check the address, the model's name and the key"

    def _hidden(self, message: str) -> str:
        return hidden(message, self._secrets)


def _given_back(request: Request) -> Failure:
    return Failure(trace_id=request.trace_id, kind=STOPPED, message="the run ends")
