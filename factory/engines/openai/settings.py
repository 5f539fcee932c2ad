"""How the engine ``openai`` asks: what it sends with every request, and how long it waits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from factory.engines.openai.addresses import Address
from factory.errors import UsageError

Api = Literal["chat", "completions"]
Fields = Literal["auto", "all", "standard"]
Prefill = Literal["continue", "native"]
_CHOICES = {"api": Api, "fields": Fields, "prefill": Prefill}
_COUNTS = ("max_concurrency", "tries", "give_up_after")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that one run of requests needs to know; the options of the engine, checked.

    Attributes:
        addresses: of the servers; requests are balanced over them.
        served_as: the model's name on the server.
        key: the API key, or None to send none; it is in no printed form of this object.
        key_env: the variable that held it, for messages; None where none was looked at.
        api: ``chat``, or ``completions`` with the messages joined as plain text.
        max_concurrency: most requests under way, all URLs together; reached step by step.
        requests_per_minute: most requests begun in a minute, all URLs together, evenly spaced.
        tokens_per_minute: the same for tokens, prompt and completion together; what an answer
            will take is estimated from those before it, and corrected when it is there.
        stream: read answers token by token: a stall is seen, and loops can be ended.
        deadline_s: longest time of one attempt.
        stall_s: longest time without a token (streams only). Before its first token a request
            may be queued, so it counts as stalled only when the whole server gives none.
        connect_s: longest time to connect.
        wait_s: longest time that servers may all be unreachable, at the start or on the way.
        rate_limit_wait_s: longest time that a request is put off with 429 while the server
            answers nothing else; being put off uses up no try.
        max_retry_after_s: longest wait that a server may ask for.
        tries: attempts per request.
        backoff_s: wait before the second attempt; doubles, at most ``max_backoff_s``.
        max_backoff_s: longest wait between two attempts.
        give_up_after: requests in a row that fail for good before the run ends.
        fields: ``standard`` sends the sampling fields of the OpenAI API, and further ones only
            where they are not at their default; ``all`` sends those of vLLM, always; ``auto``
            asks the server what it is, and sends ``all`` where it is vLLM.
        drop: names of fields that are not sent (``temperature``, ``stream_options``, ``seed``).
        rename: fields that are sent under another name (``max_tokens: max_completion_tokens``).
        prefill: ``continue`` sends ``Sampling.prefill`` as the answer's beginning (vLLM and
            alike); ``native``: the server's template writes it already.
        extra_body: further fields of every request; what shapes the text belongs into the
            revision's label.
        logprobs: keep the log probability of each token (0), or that and those of so many
            likeliest ones: in ``meta`` of the trace, their sum in ``cumulative_logprob``.
        fail_on: finish reasons (the server's word or ours) that count as failures.
        strict_model: refuse an answer that names another model than was asked.
    """

    addresses: tuple[Address, ...]
    served_as: str
    key: str | None = field(default=None, repr=False)
    key_env: str | None = None
    api: Api = "chat"
    max_concurrency: int = 256
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    stream: bool = True
    deadline_s: float = 3600.0
    stall_s: float = 300.0
    connect_s: float = 10.0
    wait_s: float = 300.0
    rate_limit_wait_s: float = 3600.0
    max_retry_after_s: float = 600.0
    tries: int = 5
    backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    give_up_after: int = 50
    fields: Fields = "auto"
    drop: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    prefill: Prefill = "continue"
    extra_body: Mapping[str, Any] | None = None
    logprobs: int | None = None
    fail_on: tuple[str, ...] = ()
    strict_model: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            self._require(name, getattr(self, name) in get_args(allowed), get_args(allowed))
        for name in _COUNTS:
            value = getattr(self, name)
            self._require(name, _is_count(value) and value >= 1, "a whole number of 1 or more")
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.name.endswith("_s"):
                fits = _is_number(value) and value >= 0
                self._require(f.name, fits, "seconds, 0 or more")
            elif f.name.endswith("_per_minute") and value is not None:
                self._require(f.name, _is_number(value) and value > 0, "a number above 0")
        for name in ("stream", "strict_model"):
            self._require(name, isinstance(getattr(self, name), bool), "true or false")
        if self.logprobs is not None:
            if isinstance(self.logprobs, bool):  # the API's own word for "of the chosen tokens"
                object.__setattr__(self, "logprobs", 0 if self.logprobs else None)
            else:
                fits = _is_count(self.logprobs) and self.logprobs >= 0
                self._require("logprobs", fits, "a whole number of 0 or more")
        for name in ("drop", "fail_on"):
            value = getattr(self, name)
            words = (value,) if isinstance(value, str) else tuple(value or ())
            self._require(name, all(isinstance(w, str) for w in words), "a list of names")
            object.__setattr__(self, name, words)
        self._check_fields()

    def _check_fields(self) -> None:
        for name in ("rename", "extra_body"):
            value = getattr(self, name)
            self._require(name, value is None or isinstance(value, Mapping), "name: value pairs")
        renamed = dict(self.rename or {})
        object.__setattr__(self, "rename", renamed)
        fits = all(isinstance(v, str) and v for v in renamed.values())
        self._require("rename", fits, "pairs of names; drop leaves a field out")
        for name in ("messages", "prompt", "model"):
            if name in self.drop:
                raise UsageError(f"drop names {name}", "no request can be made without it")

    def _require(self, name: str, fits: bool, form: object) -> None:
        if not fits:
            text = " or ".join(form) if isinstance(form, tuple) else str(form)
            raise UsageError(f"engine.{name} is {getattr(self, name)!r}", f"it must be {text}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and not math.isnan(float(value))  # type: ignore[arg-type]
