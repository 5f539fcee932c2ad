"""One run of the engine ``openai``: an event loop on a thread, and two queues to it and from it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time

from factory.engines.base import Failure, OnPartial, Request
from factory.engines.openai.endpoints import Endpoint, Endpoints, jitter
from factory.engines.openai.protocol import Answer, Fault, body_of, fault_of_status, read_json
from factory.engines.openai.settings import Settings
from factory.errors import EngineError
from factory.records import Trace

PARTIAL_EVERY_PIECES = 128
_IDLE_S = 0.02


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
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ready = threading.Event()
        self._unreachable_since: float | None = None
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

    def cancel(self, trace_ids: list[str]) -> None:
        """Break requests off; for each, ``take`` returns None once."""

        def forget() -> None:
            for trace_id in trace_ids:
                if trace_id in self._tasks:
                    self._tasks[trace_id].cancel()

        self._loop.call_soon_threadsafe(forget)

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
        self._endpoints = Endpoints(settings.urls, most=most)
        headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
        # Times are kept here and not by the client: bytes are no progress, tokens are.
        async with httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(None, connect=settings.connect_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=most),
        ) as client:
            self._client = client
            self._ready.set()
            await self._closing.wait()
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, request: Request) -> None:
        task = self._loop.create_task(self._answer(request))
        self._tasks[request.trace_id] = task
        task.add_done_callback(lambda t: self._ended(request, t))

    def _ended(self, request: Request, task: asyncio.Task[None]) -> None:
        self._tasks.pop(request.trace_id, None)
        if task.cancelled():
            self._answers.put(None)
        elif (error := task.exception()) is not None:
            self._answers.put(error)

    async def _answer(self, request: Request) -> None:
        """Try until there is an answer or no try is left."""
        settings = self._settings
        avoid: Endpoint | None = None
        n_tried = 0
        while True:
            endpoint = await self._endpoints.acquire(avoid=avoid)
            begun = self._loop.time()
            try:
                trace = await self._attempt(request, endpoint)
                endpoint.answered(most=settings.max_concurrency)
                self._unreachable_since = None
                self._answers.put(trace)
                return
            except Fault as error:
                fault = error
                self._note(endpoint, fault, begun)
            finally:
                await self._endpoints.release(endpoint)
            avoid = endpoint
            if fault.fatal:
                raise EngineError(
                    f"{endpoint.url} refuses every request with {fault.kind}: "
                    f"{self._scrubbed(fault.message)}",
                    "check the address, the model's name and the key",
                )
            if fault.is_down:
                self._check_wait(endpoint)
                continue
            n_tried += 1
            if not fault.retriable or n_tried >= settings.tries:
                tried = f" ({n_tried} tries)" if n_tried > 1 else ""
                self._answers.put(
                    Failure(
                        trace_id=request.trace_id,
                        kind=fault.kind,
                        message=self._scrubbed(fault.message)[:300] + tried,
                        retriable=False,  # the tries of this run are used up
                    )
                )
                return
            wait = jitter(min(settings.max_backoff_s, settings.backoff_s * 2 ** (n_tried - 1)))
            await asyncio.sleep(max(wait, fault.retry_after_s or 0.0))

    def _note(self, endpoint: Endpoint, fault: Fault, begun: float) -> None:
        settings, now = self._settings, self._loop.time()
        if fault.is_down:
            endpoint.down(
                now=now, backoff_s=settings.backoff_s, most_s=min(10.0, settings.max_backoff_s)
            )
        elif fault.congested:
            endpoint.congested(now=now, begun=begun, retry_after_s=fault.retry_after_s)

    def _check_wait(self, endpoint: Endpoint) -> None:
        now = self._loop.time()
        if self._unreachable_since is None or not all(e.is_down for e in self._endpoints.all):
            self._unreachable_since = now
        if now - self._unreachable_since > self._settings.wait_s:
            raise EngineError(
                f"nobody has answered at {endpoint.url} for {self._settings.wait_s:.0f} s",
                "start the server; what was committed is kept, run the same command again",
            )

    def _scrubbed(self, message: str) -> str:
        key = self._settings.key
        return message.replace(key, "***") if key else message

    async def _attempt(self, request: Request, endpoint: Endpoint) -> Trace:
        import httpx

        answer = Answer()
        watch = _Watch(self._settings, endpoint)
        begun = time.monotonic()
        try:
            async with asyncio.timeout(None) as clock:
                watch.start(clock)
                rule = await self._exchange(request, endpoint, answer, watch)
        except TimeoutError:
            raise Fault(
                watch.why, f"after {time.monotonic() - begun:.0f} s", congested=True
            ) from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Fault("unreachable", str(error)[:200], is_down=True) from None
        except httpx.HTTPError as error:
            raise Fault("broken_off", f"{type(error).__name__}: {error}"[:200]) from None
        finally:
            watch.stop()
        return answer.trace(request, seconds=time.monotonic() - begun, rule=rule)

    async def _exchange(
        self, request: Request, endpoint: Endpoint, answer: Answer, watch: _Watch
    ) -> str | None:
        """Send the request and read its answer; return the rule that ended it, if one did."""
        settings = self._settings
        path = "/chat/completions" if settings.api == "chat" else "/completions"
        body = body_of(request, settings)
        async with self._client.stream("POST", endpoint.url + path, json=body) as response:
            if response.status_code != 200:
                raise fault_of_status(
                    response.status_code, response.headers, await response.aread()
                )
            # Some servers do not stream although they are asked to.
            kind = response.headers.get("content-type", "")
            if not body.get("stream") or "event-stream" not in kind:
                answer.feed(read_json(await response.aread()))
                watch.token()
                answer.check()
                return None
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue  # comments keep a connection open and are no progress
                data = line[5:].strip()
                if data == "[DONE]":
                    break
                if not answer.feed(read_json(data.encode())):
                    continue
                watch.token()
                if self._on_partial is not None and answer.n_pieces % PARTIAL_EVERY_PIECES == 0:
                    rule = self._on_partial(request.trace_id, answer.text(request.sampling.prefill))
                    if rule:
                        return rule
        answer.check()
        return None


class _Watch:
    """The clock of one attempt: ends it when no token has come for too long."""

    def __init__(self, settings: Settings, endpoint: Endpoint) -> None:
        self._settings, self._endpoint = settings, endpoint
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._last: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.why = "deadline"

    def start(self, clock: asyncio.Timeout) -> None:
        """Begin to watch; ``clock`` is what ends the attempt."""
        self._clock = clock
        self._look()

    def token(self) -> None:
        """Note that a token came."""
        self._last = self._endpoint.last_token_at = self._loop.time()

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        settings, now = self._settings, self._loop.time()
        end = self._begun + settings.deadline_s
        if settings.stream:
            last = self._last or max(self._begun, self._endpoint.last_token_at)
            if last + settings.stall_s < end:
                end, self.why = last + settings.stall_s, "stalled"
            else:
                self.why = "deadline"
        if now >= end:
            self._clock.reschedule(now)
        else:
            self._timer = self._loop.call_at(end, self._look)
