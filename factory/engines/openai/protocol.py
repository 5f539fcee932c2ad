"""What goes over the wire to an OpenAI-compatible server, and how its answers are read.

Nothing here does I/O. A ``Fault`` is anything that is not exactly one whole answer.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from factory.dialects import THINK_OPEN, join_reasoning
from factory.engines.base import Request
from factory.engines.openai.settings import Settings
from factory.records import Trace, whole

_CONGESTED = (408, 425, 429, 503, 529)
_RETRIABLE = (*_CONGESTED, 409, 500, 502, 504)
_TOO_LONG = ("maximum context length", "context_length_exceeded", "maximum model length")


class Fault(Exception):
    """An attempt that gave no answer.

    Attributes:
        kind: short snake_case word, as in ``Failure``.
        retriable: whether the next attempt could succeed.
        congested: the server has too much to do; ask less of it.
        is_down: nobody listens there; waiting for it uses up no attempt.
        retry_after_s: what the server asked for.
        fatal: every request would meet it (a refused key): the run ends.
    """

    def __init__(
        self,
        kind: str,
        message: str = "",
        *,
        retriable: bool = True,
        congested: bool = False,
        is_down: bool = False,
        retry_after_s: float | None = None,
        fatal: bool = False,
    ) -> None:
        super().__init__(kind, message)
        self.kind, self.message, self.retriable = kind, message, retriable
        self.congested, self.is_down, self.fatal = congested, is_down, fatal
        self.retry_after_s = retry_after_s


def body_of(request: Request, settings: Settings) -> dict[str, Any]:
    """Return the JSON body of a request.

    ``all`` sends every sampling field, even those at their default: a vLLM server fills absent
    ones from the model's own ``generation_config.json``. ``standard`` sends those of the OpenAI
    API, and the others only where they are not at their default. ``extra_body`` comes last.
    """
    s, sends_all = request.sampling, settings.fields == "all"
    body: dict[str, Any] = {
        "model": settings.served_as, "n": 1, "stream": settings.stream,
        "temperature": s.temperature, "top_p": s.top_p, "max_tokens": s.max_tokens,
        "seed": request.seed, "presence_penalty": s.presence_penalty,
        "frequency_penalty": s.frequency_penalty,
    }  # fmt: skip
    if s.stop:
        body["stop"] = list(s.stop)
    further = {
        "top_k": (s.top_k, 0), "min_p": (s.min_p, 0.0), "min_tokens": (s.min_tokens, 0),
        "repetition_penalty": (s.repetition_penalty, 1.0),
    }  # fmt: skip
    body |= {k: v for k, (v, default) in further.items() if sends_all or v != default}
    if sends_all:
        body |= {"skip_special_tokens": False, "spaces_between_special_tokens": False}
    if settings.stream:
        body["stream_options"] = {"include_usage": True}
    messages = [dict(m) for m in request.messages]
    text = s.prefill if settings.prefill == "continue" else ""
    if settings.api == "completions":
        body["prompt"] = "\n\n".join(str(m.get("content") or "") for m in messages) + text
    else:
        if text:
            messages.append({"role": "assistant", "content": text})
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        body["messages"] = messages
    return body | dict(settings.extra_body or {})


@dataclass
class Answer:
    """An answer as it comes in, whole or in pieces."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    n_pieces: int = 0

    def feed(self, data: Mapping[str, Any]) -> bool:
        """Take a piece (or a whole response); tell whether it held text.

        Raises:
            Fault: it is an error, or has another number of choices than one.
        """
        if data.get("error"):
            raise fault_of_error(data["error"])
        if isinstance(data.get("usage"), Mapping):
            self.usage = data["usage"]
        choices = data.get("choices")
        if not choices:
            return False
        if len(choices) != 1 or choices[0].get("index", 0) != 0:
            raise Fault("wrong_n", f"{len(choices)} choices where one was asked for")
        choice = choices[0]
        part = choice.get("delta") or choice.get("message") or {}
        content = part.get("content") or choice.get("text") or ""
        # Two names for one thing: vLLM renamed ``reasoning_content``; others keep it.
        reasoning = part.get("reasoning") or part.get("reasoning_content") or ""
        if content:
            self.content.append(content)
        if reasoning:
            self.reasoning.append(reasoning)
        if choice.get("finish_reason"):
            self.finish_reason = str(choice["finish_reason"])
        if choice.get("stop_reason") is not None:
            self.stop_reason = str(choice["stop_reason"])
        self.n_pieces += bool(content or reasoning)
        return bool(content or reasoning)

    def text(self, prefill: str) -> str:
        """Return the completion so far: halves joined by the one rule, without the prefill."""
        content, reasoning = "".join(self.content), "".join(self.reasoning)
        if not reasoning:
            return content
        reasoning = reasoning.strip("\n")
        if content:
            joined = join_reasoning(reasoning, content.lstrip("\n"))
        elif self.finish_reason == "stop":
            joined = join_reasoning(reasoning, "")
        else:
            joined = f"{THINK_OPEN}\n{reasoning}"  # cut off while it was thinking
        return joined[len(prefill) :] if prefill and joined.startswith(prefill) else joined

    def check(self) -> None:
        """Refuse what is not a whole answer.

        Raises:
            Fault: half an answer, none, or one that the host withheld.
        """
        if self.finish_reason is None:
            kind = "half_answer" if self.n_pieces else "empty_choices"
            raise Fault(kind, "the answer ended without a finish_reason")
        if self.finish_reason == "content_filter":
            raise Fault("content_filter", "the host withheld the answer", retriable=False)
        if self.finish_reason not in ("stop", "length", "eos"):
            raise Fault("bad_finish", f"finish_reason {self.finish_reason[:80]!r}")
        if not self.n_pieces and not self.usage.get("completion_tokens"):
            raise Fault("empty_answer", "neither text nor tokens")

    def trace(self, request: Request, *, seconds: float, rule: str | None = None) -> Trace:
        """Return the trace; ``rule`` is the abort rule that ended it."""
        usage = self.usage
        return request.trace(
            self.text(request.sampling.prefill),
            finish_reason="abort"
            if rule
            else "length"
            if self.finish_reason == "length"
            else "stop",
            stop_reason=rule or self.stop_reason,
            n_prompt_tokens=whole(usage.get("prompt_tokens")),
            # Of an aborted stream no usage comes: its pieces are its tokens, or nearly so.
            n_completion_tokens=whole(usage.get("completion_tokens"))
            or (self.n_pieces if rule else None),
            seconds=seconds,
        )


def read_json(data: bytes) -> Mapping[str, Any]:
    """Read a JSON object.

    Raises:
        Fault: it is none (half a body, a proxy's error page).
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Fault("half_answer", f"no JSON: {error}") from None
    if not isinstance(value, Mapping):
        raise Fault("half_answer", "no JSON object")
    return value


def fault_of_status(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    """Return what a status other than 200 means."""
    text = " ".join(body[:2000].decode("utf-8", "replace").split())
    lower = text.lower()
    if status in (401, 403):
        return Fault(f"http_{status}", text[:300], retriable=False, fatal=True)
    if status in (400, 413, 422) and any(phrase in lower for phrase in _TOO_LONG):
        return Fault("too_long", text[:300], retriable=False)
    return Fault(
        f"http_{status}",
        text[:300],
        retriable=status in _RETRIABLE,
        congested=status in _CONGESTED,
        retry_after_s=retry_after(headers.get("retry-after")),
        fatal=status == 404,
    )


def fault_of_error(error: object) -> Fault:
    """Return what an error object inside an answer with status 200 means."""
    fields = error if isinstance(error, Mapping) else {"message": str(error)}
    code = fields.get("code")
    text = orjson.dumps(fields, default=str)
    if isinstance(code, int) and 400 <= code < 600:
        fault = fault_of_status(code, {}, text)
        fault.fatal = False
        return fault
    return Fault("error_in_answer", text.decode("utf-8", "replace")[:300])


def retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Read a Retry-After header, in seconds or as an HTTP date; seconds from now, or None.

    >>> retry_after("3"), retry_after("Thu, 01 Jan 1970 00:01:00 GMT", now=50.0), retry_after("x")
    (3.0, 10.0, None)
    """
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError):
        return None
    return max(0.0, when - (time.time() if now is None else now))
