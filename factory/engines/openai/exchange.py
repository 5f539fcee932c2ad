"""One attempt: a request goes out, and its answer comes in, token by token or whole."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from factory.engines.base import OnPartial, Request
from factory.engines.openai.answers import Answer
from factory.engines.openai.endpoints import Endpoint
from factory.engines.openai.faults import Fault, fault_of_status
from factory.engines.openai.protocol import body_of
from factory.engines.openai.settings import Settings
from factory.engines.openai.stream import MAX_BYTES, Events, read_json

if TYPE_CHECKING:
    import httpx

PARTIAL_EVERY_PIECES = 128
ASK_WHAT_S = 5.0
"""Seconds that a server may take to say what it is."""


class Exchange:
    """Asks servers, one attempt at a time.

    Args:
        client: of the run.
        settings: of the engine.
        on_partial: rule that ends loops early.
    """

    def __init__(
        self, client: httpx.AsyncClient, settings: Settings, on_partial: OnPartial | None
    ) -> None:
        self._client, self._settings, self._on_partial = client, settings, on_partial

    async def ask(
        self, request: Request, endpoint: Endpoint, answer: Answer, sent: Callable[[], None]
    ) -> str | None:
        """Ask, and read what comes into ``answer``; return the rule that ended it, if one did.

        Args:
            request: what to ask.
            endpoint: whom.
            answer: filled, piece by piece.
            sent: called when the request is on its way: the server may work on it from then on.

        Raises:
            Fault: what came is not one whole answer.
        """
        import httpx

        begun = time.monotonic()
        watch = _Watch(self._settings, endpoint)
        try:
            if self._settings.fields == "auto" and endpoint.is_vllm is None:
                async with endpoint.asking:
                    await self._learn(endpoint)
            async with asyncio.timeout(None) as clock:
                watch.start(clock)
                return await self._exchange(request, endpoint, answer, watch, sent)
        except TimeoutError:
            after = f"after {time.monotonic() - begun:.0f} s, {answer.n_pieces} pieces"
            raise Fault(watch.why, after, congested=True) from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _unreachable(error, self._settings.connect_s) from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise Fault("broken_off", f"{type(error).__name__}: {error}"[:200]) from None
        finally:
            watch.stop()

    async def _exchange(
        self, request: Request, endpoint: Endpoint, answer: Answer, watch: _Watch,
        sent: Callable[[], None],
    ) -> str | None:  # fmt: skip
        settings = self._settings
        path = "/chat/completions" if settings.api == "chat" else "/completions"
        body = body_of(request, settings, is_vllm=bool(endpoint.is_vllm))

        async def trace(name: str, info: dict[str, Any]) -> None:
            if name.endswith("send_request_headers.started"):
                sent()

        async with self._client.stream(
            "POST", endpoint.address.at(path), content=_json(body),
            headers={"Content-Type": "application/json", **endpoint.address.headers},
            extensions={"trace": trace},
        ) as response:  # fmt: skip
            if response.status_code != 200:
                said = await _read(response)
                headers = {k.lower(): v for k, v in response.headers.items()}
                has_answered = endpoint.n_done > 0
                raise fault_of_status(
                    response.status_code, headers, said, has_answered=has_answered
                )
            kind = response.headers.get("content-type", "")
            if "event-stream" in kind:
                rule = await self._read_stream(request, response, answer, watch)
            else:
                rule = None
                said = await _read(response)
                watch.token()
                # Some servers do not stream although they are asked to, or do not say that they do.
                if said.lstrip()[:1] in (b"d", b"e", b":"):
                    events = Events()
                    for data in (*events.feed(said), *events.end()):
                        answer.feed(data)
                    answer.is_whole = events.is_done
                else:
                    answer.feed(read_json(said))
                    answer.is_whole = True
        if rule is None:
            answer.check(settings.fail_on)
        return rule

    async def _read_stream(
        self, request: Request, response: httpx.Response, answer: Answer, watch: _Watch
    ) -> str | None:
        events, n_bytes = Events(), 0
        async for chunk in response.aiter_bytes():
            n_bytes += len(chunk)
            if n_bytes > MAX_BYTES:
                raise _too_big()
            for data in events.feed(chunk):
                if not answer.feed(data):
                    continue
                watch.token()
                if self._on_partial is not None and answer.n_pieces % PARTIAL_EVERY_PIECES == 0:
                    text = answer.text(request.sampling.prefill)
                    if rule := self._on_partial(request.trace_id, text):
                        return rule
            if events.is_done:
                break
        if not events.is_done:
            for data in events.end():
                answer.feed(data)
        answer.is_whole = events.is_done
        return None

    async def _learn(self, endpoint: Endpoint) -> None:
        """Ask a server, once, whether it is vLLM, which is sent more fields than the standard's."""
        import httpx

        if endpoint.is_vllm is not None:
            return
        if endpoint.is_down and endpoint.resume_at > asyncio.get_running_loop().time():
            raise Fault("unreachable", endpoint.why_down, is_down=True)
        try:
            models = (await self._get(endpoint, "/models")).get("data") or ()
            owners = {model.get("owned_by") for model in models if isinstance(model, dict)}
            is_known = any(isinstance(owner, str) for owner in owners)
            version = None if is_known else (await self._get(endpoint, "/version")).get("version")
            endpoint.is_vllm = "vllm" in owners or isinstance(version, str)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except (httpx.HTTPError, httpx.StreamError, TimeoutError, Fault, TypeError):
            endpoint.is_vllm = False

    async def _get(self, endpoint: Endpoint, path: str) -> dict[str, Any]:
        address = endpoint.address
        url = address.root(path) if path == "/version" else address.at(path)
        async with asyncio.timeout(ASK_WHAT_S):
            async with self._client.stream("GET", url, headers=dict(address.headers)) as response:
                if response.status_code != 200:
                    return {}
                return dict(read_json(await _read(response)))


def _unreachable(error: Exception, connect_s: float) -> Fault:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):  # waiting does not help: a wrong scheme, a certificate
            return Fault("tls", str(error)[:200], refuses="all")
        cause = cause.__cause__ or cause.__context__
    words = str(error)[:200] or f"no connection within {connect_s:.0f} s"
    return Fault("unreachable", words, is_down=True)


def _too_big() -> Fault:
    return Fault("too_big", f"an answer of more than {MAX_BYTES >> 20} MiB", retriable=False)


async def _read(response: httpx.Response) -> bytes:
    parts, n_bytes = [], 0
    async for chunk in response.aiter_bytes():
        parts.append(chunk)
        n_bytes += len(chunk)
        if n_bytes > MAX_BYTES:
            raise _too_big()
    return b"".join(parts)


def _json(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise Fault("bad_request", f"the request is no JSON: {error}", retriable=False) from None


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
