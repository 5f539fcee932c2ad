"""Engine ``openai``: any server that speaks the OpenAI API, hosted or one's own, or several.

The key is read from an environment variable, sent as a header, and nowhere else: no log, no
message, no record of a run holds it, nor the user, password and query of a URL.

Every request ends as a trace or as a failure that says why. Within the engine it is tried
``tries`` times, with jitter; a server that nobody answers at is waited for (``wait_s``), and so is
a rate limit (``rate_limit_wait_s``): neither uses up a try. The same refusal of the first requests
(a wrong key, a field that the server does not take), or ``give_up_after`` requests in a row that
all failed, end the run with the server's own words.

What a server sends is read in every form that is known of (``answers``): thinking in fields of
its own or as parts of the content, finish reasons by several names, counts of tokens as text or
not at all; these are then estimated, and ``meta`` of the trace says ``tokens_estimated``.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from factory import model_files
from factory.engines import base
from factory.engines.base import STOPPED, Failure, Incoming, OnPartial, Request
from factory.engines.openai.addresses import Address
from factory.engines.openai.connection import Connection
from factory.engines.openai.protocol import body_of
from factory.engines.openai.settings import Api, Settings
from factory.engines.server import served
from factory.errors import EngineError, UsageError
from factory.records import Trace

DEFAULT_KEY = "OPENAI_API_KEY"
"""Variable whose key is sent to https servers, where ``key_env`` names no other."""


class Engine(base.Engine):
    """Requests to one model behind one or more base URLs.

    Args:
        model: the name that enters the keys.
        base_url: address up to and with ``/v1``; several are balanced. It may hold a user and
            password or a query, which are sent and never said.
        revision: label that enters the keys: what version of the model this is.
        serve: start a vLLM server for this run instead, on this machine: ``model`` (folder or hub
            name; default: ``model``), ``args`` of the server, ``start_s``, ``restarts``, ``log``,
            ``env``, or another ``command`` with ``{port}`` in it (healthy where ``/health`` gives
            200). Model, revision and template then enter the keys as with the engine ``vllm``.
            A prompt that kills its server is set aside only with ``replicas``.
        served_as: the model's name on the server; default: ``model``.
        template: hash of the chat template, where known; enters the keys.
        key_env: environment variable that holds the API key; empty text sends none. Default:
            ``OPENAI_API_KEY``, where it is set and all URLs are https.
        api: ``chat``, or ``completions`` with the messages joined as plain text; default:
            ``chat``, but ``completions`` where ``serve`` starts a model without a template.
        options: those of ``Settings`` with a default: ``max_concurrency``, ``stream``, the times
            and tries, ``requests_per_minute``, ``tokens_per_minute``, ``fields``, ``drop``,
            ``rename``, ``extra_body``, ``prefill``, ``logprobs``, ``fail_on``, ``strict_model``.

    Raises:
        UsageError: an option that cannot be, or a key's variable that is not set.
        TypeError: an option that there is not.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | Sequence[str] = (),
        revision: str | None = None,
        serve: Mapping[str, Any] | None = None,
        served_as: str | None = None,
        template: str | None = None,
        key_env: str | None = None,
        api: Api | None = None,
        **options: Any,
    ) -> None:
        urls = [base_url] if isinstance(base_url, str) else list(base_url)
        self._served = served(model, serve) if serve is not None else None
        if self._served is not None and serve is not None:
            if urls:
                raise UsageError("both base_url and serve are given", "leave one out")
            urls = [f"{self._served.url}/v1"]
            path = str(serve.get("model", model))
            served_as = served_as or path
            if revision is None:
                revision, model = model_files.revision_of(path), model_files.name_of(path)
            if "command" not in serve:  # then it is vLLM that we start
                options.setdefault("fields", "all")
            if template is None and model_files.is_local(path):
                own = model_files.chat_template(path)
                api = api or ("completions" if own is None else "chat")
                template = model_files.template_hash(None if api == "completions" else own)
        if revision is None:
            raise UsageError(
                "no revision is given", "give revision: a label of the model's version"
            )
        self.model, self.revision, self.template = model, revision, template
        if not urls:
            raise UsageError("no base_url is given", "give http(s)://host:port/v1, or serve")
        addresses = tuple(Address.of(u) for u in urls)
        name, key = _key(key_env, addresses)
        settings = Settings(
            addresses=addresses,
            served_as=served_as or model,
            key=key,
            key_env=name,
            api=api or "chat",
            **options,
        )
        if self._served is not None:  # a server that starts is no outage
            wait_s = max(settings.wait_s, self._served.start_s)
            settings = dataclasses.replace(settings, wait_s=wait_s)
        self._settings = settings
        self.can_continue = settings.prefill == "continue"
        self.knows_template = api == "completions"
        self._connection: Connection | None = None
        self._is_draining = False
        for name in ("httpx", "httpcore"):  # they write URLs and headers
            logging.getLogger(name).setLevel(logging.WARNING)

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer requests as the servers have room; yield None when idle."""
        self._is_draining = False
        if self._served is not None:
            for _ in self._served.starting():
                yield None
                if self._is_draining:
                    return
        connection = self._connection = Connection(self._settings, on_partial)
        incoming = Incoming(requests)
        n_failed = 0
        try:
            while incoming.more or connection.n_open:
                for request in incoming.take(lambda: connection.n_open < connection.limit):
                    connection.send(request)
                if self._served is not None:
                    self._served.check()
                answer = connection.take()
                n_failed = _count_failures(n_failed, answer)
                if isinstance(answer, Failure) and n_failed >= self._settings.give_up_after:
                    raise EngineError(
                        f"{n_failed} requests in a row failed, the last with {answer.kind}: "
                        f"{answer.message}",
                        "see the server; what was committed is kept, run the same command again",
                    )
                yield answer
        finally:
            connection.close()
            self._connection = None

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way."""
        if self._connection is not None:
            self._connection.cancel(list(trace_ids))

    def drain(self) -> None:
        """Give back the requests that wait: for a server, a rate limit or their next try."""
        self._is_draining = True
        if self._connection is not None:
            self._connection.drain()

    def waits_for(self) -> str | None:
        """Say that the server starts, or that nobody answers, and for how long."""
        starts = self._served.waits_for() if self._served is not None else None
        return starts or (self._connection.waits_for() if self._connection is not None else None)

    def close(self) -> None:
        """End the server where one was started."""
        if self._served is not None:
            self._served.close()

    def body(self, request: Request) -> dict[str, Any]:
        """Return the JSON that is sent for a request."""
        return body_of(request, self._settings)

    def rendered_text(self, request: Request) -> str:
        """Return the messages as they are sent: the template is the server's."""
        body = self.body(request)
        if "prompt" in body:
            return str(body["prompt"])
        return "\n".join(f"[{m['role']}] {m.get('content')}" for m in body["messages"])


def identify(model: str, **options: Any) -> base.Identity:
    """Return model, revision and template as they enter the keys, without connecting."""
    engine = Engine(model, **options)
    return base.Identity(engine.model, engine.revision, engine.template)


def _key(key_env: str | None, addresses: Sequence[Address]) -> tuple[str | None, str | None]:
    """Return the variable that was looked at and the key in it."""
    has_login = any(a.headers for a in addresses)
    name = key_env
    if key_env is None:
        if has_login or not all(a.is_https for a in addresses):
            return None, None
        name = DEFAULT_KEY
    if not name:
        return None, None
    if has_login:
        raise UsageError("both base_url and key_env say who asks", "leave one out")
    key = os.environ.get(name, "").strip()
    if not key and key_env is not None:
        raise UsageError(f"the environment variable {name} is not set", "put the API key there")
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"the environment variable {name} holds no API key", "correct it")
    return name, key or None


def _count_failures(n: int, answer: Trace | Failure | None) -> int:
    if answer is None:
        return n
    # What is the request's own fault says nothing about the server.
    if isinstance(answer, Failure):
        return n if answer.kind in _OF_THE_REQUEST else n + 1
    return 0


_OF_THE_REQUEST = (
    "too_long", "http_400", "http_422", "content_filter", "unwanted_finish", "bad_request", STOPPED
)  # fmt: skip
