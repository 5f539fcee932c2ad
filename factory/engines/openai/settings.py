"""How the engine ``openai`` asks: what it sends with every request, and how long it waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Api = Literal["chat", "completions"]
Fields = Literal["all", "standard"]
Prefill = Literal["continue", "native"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that one run of requests needs to know; the options of the engine, checked.

    Attributes:
        urls: addresses up to and with ``/v1``; requests are balanced over them.
        served_as: the model's name on the server.
        key: the API key, or None to send none; it is in no printed form of this object.
        api: ``chat``, or ``completions`` with the messages joined as plain text.
        max_concurrency: most requests under way, all URLs together; reached step by step.
        stream: read answers token by token: a stall is seen, and loops can be ended.
        deadline_s: longest time of one attempt.
        stall_s: longest time without a token (streams only). Before its first token a request
            may be queued, so it counts as stalled only when the whole server gives none.
        connect_s: longest time to connect.
        wait_s: longest time that servers may all be unreachable, at the start or on the way.
        tries: attempts per request.
        backoff_s: wait before the second attempt; doubles, at most ``max_backoff_s``.
        max_backoff_s: longest wait between two attempts.
        give_up_after: requests in a row that fail for good before the run ends.
        fields: ``all`` sampling fields (vLLM and alike) or the ``standard`` ones.
        prefill: ``continue`` sends ``Sampling.prefill`` as the answer's beginning (vLLM and
            alike); ``native``: the server's template writes it already.
        extra_body: further fields of every request; what shapes the text belongs into the
            revision's label.
    """

    urls: tuple[str, ...]
    served_as: str
    key: str | None = field(default=None, repr=False)
    api: Api = "chat"
    max_concurrency: int = 256
    stream: bool = True
    deadline_s: float = 3600.0
    stall_s: float = 300.0
    connect_s: float = 10.0
    wait_s: float = 300.0
    tries: int = 5
    backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    give_up_after: int = 50
    fields: Fields = "all"
    prefill: Prefill = "continue"
    extra_body: Mapping[str, Any] | None = None
