"""How the answers of OpenAI-compatible servers are read: one form out of many.

Nothing here does I/O, and nothing that a server can say raises anything but ``Fault``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from factory.dialects import THINK_OPEN, join_reasoning
from factory.engines.base import Request
from factory.engines.openai.faults import Fault, fault_of_error, words_of
from factory.records import Trace, whole
from factory.records.text import clean_text

_STOP = (
    "stop eos eos_token stop_sequence stop_token end_turn end_of_turn end complete completed done "
    "endoftext end_of_text finish_reason_stop"
)
_LENGTH = (
    "length max_tokens model_length max_length max_output_tokens max_new_tokens token_limit "
    "max_completion_tokens context_length model_context_window_exceeded error_limit"
)
_FILTER = (
    "content_filter content_filtered safety recitation blocklist prohibited_content spii "
    "sensitive refusal error_toxic guardrail_intervened"
)
_BROKEN = (
    "error abort aborted cancel canceled cancelled network_error internal_error engine_error "
    "insufficient_system_resource malformed_response"
)
FINISH_REASONS: Mapping[str, str] = {
    word: meaning
    for meaning, words in (
        ("stop", _STOP), ("length", _LENGTH), ("filter", _FILTER), ("broken", _BROKEN)
    )
    for word in words.split()
}  # fmt: skip
"""A server's word, in lower case → ``stop``, ``length``, ``filter`` (withheld), ``broken``."""

_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks")
"""Where a server puts the thinking; several of them hold the same text, so one is read."""
_INNER = ("text", "thinking", "reasoning", "content", "summary", "output_text", "value", "refusal")
MAX_COUNT = 2**31
"""What no count of tokens reaches."""
BYTES_PER_TOKEN = 4
"""Of UTF-8, about; for what nobody has counted."""


@dataclass
class Answer:
    """An answer as it comes in, whole or in pieces.

    Attributes:
        keeps_logprobs: whether log probabilities are kept.
        is_whole: whether the server has said that this was all, by ``[DONE]`` or one whole body.
    """

    keeps_logprobs: bool = False
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    logprobs: list[list[Any]] = field(default_factory=list)
    n_pieces: int = 0
    is_whole: bool = False
    _reasoning_in: str | None = None
    _has_delta: bool = False

    def feed(self, data: Mapping[str, Any]) -> bool:
        """Take a piece (or a whole response); tell whether it held text.

        Raises:
            Fault: it is an error, no answer that can be read, or more than one choice.
        """
        if data.get("error"):
            raise fault_of_error(data["error"])
        if data.get("object") == "error":
            raise fault_of_error(data)
        self._count(data)
        if isinstance(data.get("model"), str):
            self.model = data["model"]
        choices = data.get("choices")
        if not choices:
            if "choices" not in data and ("message" in data or "detail" in data):
                raise fault_of_error(words_of(orjson.dumps(data, default=str)))
            return False
        if not isinstance(choices, list):
            raise Fault("bad_answer", f"choices is a {type(choices).__name__}")
        if len(choices) != 1 or not isinstance(choices[0], Mapping):
            if all(isinstance(c, Mapping) for c in choices):
                raise Fault("wrong_n", f"{len(choices)} choices where one was asked for")
            raise Fault("bad_answer", f"a choice is {orjson.dumps(choices, default=str)[:80]!r}")
        return self._choice(choices[0])

    def _choice(self, choice: Mapping[str, Any]) -> bool:
        if choice.get("index") not in (0, None, "0"):
            raise Fault("wrong_n", "a choice where one was asked for has another number than 0")
        part = self._part(choice)
        content, thought = _content(part.get("content"))
        content = content or _content(choice.get("text"))[0] or _content(part.get("refusal"))[0]
        thought = self._thought(part) or self._thought(choice) or thought
        if content:
            self.content.append(content)
        if thought:
            self.reasoning.append(thought)
        reason = choice.get("finish_reason")
        if isinstance(reason, Mapping):
            reason = reason.get("type") or reason.get("reason")
        if reason and str(reason).lower() not in ("null", "none"):
            self.finish_reason = str(reason)[:80]
        stop = choice.get("stop_reason")
        if isinstance(stop, str | int) and not isinstance(stop, bool):
            self.stop_reason = str(stop)[:200]
        if self.keeps_logprobs:
            self.logprobs += _logprobs(choice.get("logprobs"))
        self.n_pieces += bool(content or thought)
        return bool(content or thought)

    def _part(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the piece or the message of a choice."""
        for name in ("delta", "message"):
            part = choice.get(name)
            if name == "message" and self._has_delta:
                return {}  # some streams end with the whole once more
            if isinstance(part, Mapping):
                self._has_delta = self._has_delta or name == "delta"
                return part
            if part is not None:
                raise Fault("bad_answer", f"{name} is {str(part)[:80]!r}")
        return {}

    def _thought(self, part: Mapping[str, Any]) -> str:
        for name in _REASONING if self._reasoning_in is None else (self._reasoning_in,):
            if text := _text_in(part.get(name)):
                self._reasoning_in = name
                return text
        return ""

    def _count(self, data: Mapping[str, Any]) -> None:
        further = data.get("x_groq")
        usage = data.get("usage") or (isinstance(further, Mapping) and further.get("usage"))
        if not isinstance(usage, Mapping):
            return
        names = {"prompt": "input_tokens", "completion": "output_tokens"}
        for name, other in names.items():
            count = count_of(usage.get(f"{name}_tokens"))
            count = count_of(usage.get(other)) if count is None else count
            if count is not None:
                self.usage[name] = count

    def text(self, prefill: str) -> str:
        """Return the completion so far: halves joined by the one rule, without the prefill."""
        content, reasoning = clean_text("".join(self.content)), clean_text("".join(self.reasoning))
        if not reasoning:
            return content
        reasoning = reasoning.strip("\n")
        if content:
            joined = join_reasoning(reasoning, content.lstrip("\n"))
        elif self.meaning == "stop":
            joined = join_reasoning(reasoning, "")
        else:
            joined = f"{THINK_OPEN}\n{reasoning}"  # cut off while it was thinking
        return joined[len(prefill) :] if prefill and joined.startswith(prefill) else joined

    @property
    def meaning(self) -> str | None:
        """What the finish reason means, one word for all servers; one that is not known as it is.

        None where there is none.
        """
        if self.finish_reason is None:
            return None
        return FINISH_REASONS.get(self.finish_reason.lower(), self.finish_reason)

    def check(self, fail_on: tuple[str, ...] = ()) -> None:
        """Refuse what is not a whole answer.

        Args:
            fail_on: finish reasons that are failures, too; the server's word or ours.

        Raises:
            Fault: half an answer, none, or one that the host withheld.
        """
        reason, meaning = self.finish_reason, self.meaning
        if reason is None and not (self.is_whole and self.n_pieces):
            kind = "half_answer" if self.n_pieces else "empty_choices"
            raise Fault(kind, "the answer ended without a finish_reason")
        if meaning == "filter":
            words = "the host withheld the answer"
            raise Fault("content_filter", f"{words} ({reason})", retriable=False)
        if meaning == "broken":
            raise Fault("bad_finish", f"finish_reason {reason!r}")
        if reason is not None and {reason, reason.lower(), meaning} & set(fail_on):
            raise Fault("unwanted_finish", f"finish_reason {reason!r}", retriable=False)
        if not self.n_pieces and not self.usage.get("completion"):
            raise Fault("empty_answer", f"neither text nor tokens (finish_reason {reason!r})")

    def trace(
        self, request: Request, *, seconds: float, rule: str | None = None, asked: str = ""
    ) -> Trace:
        """Return the trace.

        Args:
            request: what was asked.
            seconds: that it took.
            rule: the abort rule that ended it, or None.
            asked: the model's name on the server; another one that answers is kept in ``meta``.
        """
        text, meta = self.text(request.sampling.prefill), dict[str, Any]()
        if self.model is not None and self.model != asked:
            meta["answered_by"] = self.model[:200]
        n_completion = self.usage.get("completion")
        n_prompt = self.usage.get("prompt") or None
        if rule or (n_completion or 0) < bool(text):  # none, or a 0 that cannot be
            n_completion = self._estimate(request)
            meta["tokens_estimated"] = True
        if n_prompt is None:
            n_prompt = estimate_of_prompt(request)
            meta["tokens_estimated"] = True
        values = [float(value) for _, value, *_ in self.logprobs]
        total = sum(values) if values else math.nan
        if self.logprobs:
            meta["logprobs"] = self.logprobs
        raw, meaning = self.finish_reason, self.meaning
        return request.trace(
            text,
            finish_reason="abort" if rule else meaning,
            stop_reason=rule or self.stop_reason or (raw if raw != meaning else None),
            n_prompt_tokens=n_prompt,
            n_completion_tokens=n_completion,
            seconds=seconds,
            cumulative_logprob=total if math.isfinite(total) else None,
            meta=orjson.dumps(meta).decode() if meta else None,
        )

    def _estimate(self, request: Request) -> int:
        """Count about: a stream's pieces are its tokens or several of them."""
        n_bytes = sum(len(t.encode("utf-8", "replace")) for t in (*self.content, *self.reasoning))
        most = request.sampling.max_tokens
        if self.meaning == "length":
            return most
        return min(most, max(self.n_pieces, -(-n_bytes // BYTES_PER_TOKEN)))


def estimate_of_prompt(request: Request) -> int:
    """Return about how many tokens the messages of a request have."""
    texts = [str(m.get("content") or "") for m in request.messages]
    return sum(4 + len(t.encode("utf-8", "replace")) // BYTES_PER_TOKEN for t in texts)


def count_of(value: object) -> int | None:
    """Return a count as a server may write it; None where it is none.

    >>> [count_of(v) for v in (12, 12.0, "12", True, 2**63, -1, None, "x", 1.5)]
    [12, 12, 12, None, None, None, None, None, None]
    """
    count = whole(value)
    return count if count is not None and count < MAX_COUNT else None


def _content(value: object) -> tuple[str, str]:
    """Return the text and the thinking of a content: text, a part, or a list of parts."""
    if value is None or isinstance(value, str):
        return value or "", ""
    if isinstance(value, list):
        halves = [_content(part) for part in value]
        return "".join(c for c, _ in halves), "".join(r for _, r in halves)
    if isinstance(value, Mapping):
        kind = str(value.get("type") or "text").lower()
        text = _text_in(value)
        return ("", text) if "think" in kind or "reason" in kind else (text, "")
    raise Fault("bad_answer", f"content is a {type(value).__name__}: {str(value)[:80]!r}")


def _text_in(value: object) -> str:
    """Return the text of a part, whatever it is wrapped in."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text_in(v) for v in value)
    if isinstance(value, Mapping):
        return next((text for name in _INNER if (text := _text_in(value.get(name)))), "")
    return ""


def _logprobs(value: object) -> list[list[Any]]:
    """Return [token, log probability] of each token, and the likeliest others where given."""
    if not isinstance(value, Mapping):
        return []
    tokens = value.get("content")
    if isinstance(tokens, list):  # chat
        found = [
            (t.get("token"), t.get("logprob"), t.get("top_logprobs"))
            for t in tokens
            if isinstance(t, Mapping)
        ]
    else:
        columns = [value.get(n) or [] for n in ("tokens", "token_logprobs", "top_logprobs")]
        names, values, others = (c if isinstance(c, list) else [] for c in columns)
        found = list(zip(names, values, [*others, *([None] * len(names))], strict=False))
    out = []
    for token, number, likeliest in found:
        if isinstance(number, int | float) and math.isfinite(number):
            row: list[Any] = [clean_text(str(token)), float(number)]
            if isinstance(likeliest, list):
                likeliest = {
                    str(o.get("token")): o.get("logprob")
                    for o in likeliest
                    if isinstance(o, Mapping)
                }
            if isinstance(likeliest, Mapping) and likeliest:
                row.append(
                    {
                        clean_text(str(k)): v
                        for k, v in likeliest.items()
                        if isinstance(v, int | float)
                    }
                )
            out.append(row)
    return out
