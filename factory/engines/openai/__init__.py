"""Engine ``openai``: any server that speaks the OpenAI API, hosted or one's own, or several.

The key is read from an environment variable, sent as a header, and nowhere else: no log, no
message, no record of a run holds it.

Every request ends as a trace or as a failure that says why. Within the engine it is tried
``tries`` times, with jitter; a server that nobody answers at is waited for (``wait_s``), and that
uses up no try. A refused key, or ``give_up_after`` requests in a row that all failed, end the run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from factory import model_files
from factory.engines.base import Failure, OnPartial, Request
from factory.engines.openai.connection import Line
from factory.engines.openai.protocol import Api, Fields, Prefill, body_of
from factory.engines.server import served
from factory.errors import EngineError, UsageError
from factory.records import Trace


class Engine:
    """Requests to one model behind one or more base URLs.

    Args:
        model: the name that enters the keys.
        base_url: address up to and with ``/v1``; several are balanced.
        revision: label that enters the keys: what version of the model this is.
        serve: start a vLLM server for this run instead, on this machine: ``model`` (folder or hub
            name; default: ``model``), ``args`` of the server, ``start_s``, ``restarts``, ``log``,
            ``env``, or another ``command`` with ``{port}`` in it (healthy where ``/health`` gives
            200). Model, revision and template then enter the keys as with the engine ``vllm``.
            A prompt that kills its server is set aside only with ``replicas``.
        served_as: the model's name on the server; default: ``model``.
        template: hash of the chat template, where known; enters the keys.
        key_env: environment variable that holds the API key; None sends none.
        max_concurrency: most requests under way, all URLs together; reached step by step.
        stream: read answers token by token: a stall is seen, and loops can be ended.
        deadline_s: longest time of one attempt.
        stall_s: longest time without a token (streams only). Before its first token a request
            may be queued, so it counts as stalled only when the whole server gives none.
        connect_s: longest time to connect.
        wait_s: longest time that servers may all be unreachable, at the start or on the way.
        tries: attempts per request.
        backoff_s: wait before the second attempt; doubles, at most ``max_backoff_s``.
        give_up_after: requests in a row that fail for good before the run ends.
        api: ``chat``, or ``completions`` with the messages joined as plain text; default:
            ``chat``, but ``completions`` where ``serve`` starts a model without a template.
        fields: ``all`` sampling fields (vLLM and alike) or the ``standard`` ones.
        prefill: ``continue`` sends ``Sampling.prefill`` as the answer's beginning (vLLM and
            alike); ``native``: the server's template writes it already.
        extra_body: further fields of every request; what shapes the text belongs into the
            revision's label.

    Raises:
        UsageError: an option that cannot be, or a key's variable that is not set.
    """

    n_devices = 0

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
        max_concurrency: int = 256,
        stream: bool = True,
        deadline_s: float = 3600.0,
        stall_s: float = 300.0,
        connect_s: float = 10.0,
        wait_s: float = 300.0,
        tries: int = 5,
        backoff_s: float = 1.0,
        max_backoff_s: float = 60.0,
        give_up_after: int = 50,
        api: Api | None = None,
        fields: Fields = "all",
        prefill: Prefill = "continue",
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        urls = [base_url] if isinstance(base_url, str) else list(base_url)
        self._served = served(model, serve) if serve is not None else None
        if self._served is not None and serve is not None:
            if urls:
                raise UsageError("both base_url and serve are given", "leave one out")
            urls = [f"{self._served.url}/v1"]
            wait_s = max(wait_s, self._served.start_s)
            path = str(serve.get("model", model))
            served_as = served_as or path
            if revision is None:
                revision, model = model_files.revision_of(path), model_files.name_of(path)
            if template is None and model_files.is_local(path):
                own = model_files.chat_template(path)
                api = api or ("completions" if own is None else "chat")
                template = model_files.template_hash(None if api == "completions" else own)
        if revision is None:
            raise UsageError(
                "no revision is given", "give revision: a label of the model's version"
            )
        self.model, self.revision, self.template = model, revision, template
        if not urls or any(not u.startswith(("http://", "https://")) for u in urls):
            raise UsageError(f"base_url {urls!r}", "give http(s)://host:port/v1")
        self._urls = [u.rstrip("/") for u in urls]
        self._key = _key(key_env)
        self._served_as = served_as or model
        self._most = max_concurrency
        self._deadline_s, self._stall_s, self._connect_s = deadline_s, stall_s, connect_s
        self._wait_s, self._tries, self._give_up_after = wait_s, tries, give_up_after
        self._backoff_s, self._max_backoff_s = backoff_s, max_backoff_s
        self._api: Api = api or "chat"
        self._fields, self._prefill, self._stream = fields, prefill, stream
        self.can_continue, self.knows_template = prefill == "continue", api == "completions"
        self._extra = dict(extra_body or {})
        self._line: Line | None = None
        logging.getLogger("httpx").setLevel(logging.WARNING)

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer requests as the servers have room; yield None when idle."""
        if self._served is not None:
            self._served.ensure()
        line = self._line = Line(self, on_partial)
        more = True
        n_failed = 0
        try:
            while more or line.n_open:
                while more and line.n_open < line.limit:
                    try:
                        request = next(requests)
                    except StopIteration:
                        more = False
                        break
                    if request is None:
                        break
                    line.send(request)
                if self._served is not None:
                    self._served.check()
                answer = line.take()
                n_failed = _count_failures(n_failed, answer)
                if isinstance(answer, Failure) and n_failed >= self._give_up_after:
                    raise EngineError(
                        f"{n_failed} requests in a row failed, the last with {answer.kind}: "
                        f"{answer.message}",
                        "see the server; what was committed is kept, run the same command again",
                    )
                yield answer
        finally:
            line.close()
            self._line = None

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way."""
        if self._line is not None:
            self._line.cancel(list(trace_ids))

    def close(self) -> None:
        """End the server where one was started."""
        if self._served is not None:
            self._served.close()

    def body(self, request: Request) -> dict[str, Any]:
        """Return the JSON that is sent for a request."""
        body = body_of(
            request,
            served_as=self._served_as,
            api=self._api,
            fields=self._fields,
            prefill=self._prefill,
            stream=self._stream,
        )
        return body | self._extra

    def rendered_text(self, request: Request) -> str:
        """Return the messages as they are sent: the template is the server's."""
        body = self.body(request)
        if "prompt" in body:
            return str(body["prompt"])
        return "\n".join(f"[{m['role']}] {m.get('content')}" for m in body["messages"])


def identify(model: str, **options: Any) -> tuple[str, str, str | None]:
    """Return model, revision and template as they enter the keys, without connecting."""
    engine = Engine(model, **options)
    return engine.model, engine.revision, engine.template


def _key(key_env: str | None) -> str | None:
    if key_env is None:
        return None
    key = os.environ.get(key_env)
    if not key:
        raise UsageError(f"the environment variable {key_env} is not set", "put the API key there")
    return key


def _count_failures(n: int, answer: Trace | Failure | None) -> int:
    if answer is None:
        return n
    # What is the request's own fault says nothing about the server.
    if isinstance(answer, Failure):
        return n if answer.kind in ("too_long", "http_400", "content_filter") else n + 1
    return 0
