"""What a stage asks of an engine, and what it may get back instead of a trace.

An engine is a class ``Engine`` in ``factory/engines/x.py``::

    Engine(model, **options)          model: name or local path; options are the engine's own
    engine.model, engine.revision     as they enter the keys
    engine.template                   hash of the chat template in force, as it enters the keys
    engine.run(requests, on_partial=None) -> Iterator[Trace | Failure | None]
    engine.cancel(trace_ids)          forget requests; they end without a trace
    engine.close()
    engine.rendered_text(request)     optional: the prompt as the model sees it
    engine.knows_template             optional, True: that text is exact
    engine.can_continue               optional, False: it does not honour ``Sampling.prefill``

``requests`` yields a ``Request``, or None for "nothing at the moment"; the engine pulls as slots
free. Each request ends exactly once, as a trace, a failure or cancelled; one bad row never stops
the rest. ``run`` yields None when it is idle, so that its driver can act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from factory.records import Message, Sampling, Trace, ids

OnPartial = Callable[[str, str], str | None]
"""(trace_id, text so far) → name of the rule that ends it, or None to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion to be sampled; its key is the key of the trace that it will be."""

    trace_id: str
    prompt_id: str
    messages: tuple[Message, ...]
    model: str
    revision: str
    sampling: Sampling
    sampling_id: str
    sample_index: int
    part: Literal["whole", "thinking", "answer"] = "whole"
    """``thinking`` and ``answer``: the two parts of a completion with a thinking budget."""

    @property
    def seed(self) -> int:
        """Seed of this very sample, from the sampling's base and the key."""
        of_part = f"{self.trace_id}:answer" if self.part == "answer" else self.trace_id
        return ids.seed_of(base=self.sampling.seed, trace_id=of_part)

    def trace(
        self,
        completion: str,
        *,
        finish_reason: str | None,
        stop_reason: str | None = None,
        n_prompt_tokens: int | None = None,
        n_completion_tokens: int | None = None,
        seconds: float | None = None,
        cumulative_logprob: float | None = None,
        meta: str | None = None,
    ) -> Trace:
        """Return the trace that answers this request."""
        return Trace(
            trace_id=self.trace_id,
            prompt_id=self.prompt_id,
            model=self.model,
            revision=self.revision,
            sampling_id=self.sampling_id,
            sample_index=self.sample_index,
            completion=completion,
            prefill=self.sampling.prefill,
            finish_reason=finish_reason,
            stop_reason=stop_reason,
            n_prompt_tokens=n_prompt_tokens,
            n_completion_tokens=n_completion_tokens,
            seconds=seconds,
            cumulative_logprob=cumulative_logprob,
            meta=meta,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request that ended without a trace. No fact: its key stays missing.

    Attributes:
        kind: short snake_case word (``too_long``, ``http_500``, ``engine_dead`` …).
        retriable: whether trying again could help.
    """

    trace_id: str
    kind: str
    message: str
    retriable: bool = True


class Engine(Protocol):
    """The form that every engine has."""

    model: str
    revision: str
    template: str | None

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer requests as slots free; yield None when idle."""

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way."""

    def close(self) -> None:
        """Free what the engine holds."""
