"""Thinking budgets: a completion in two parts, the second after thinking that we have closed.

The first part may take ``Sampling.thinking_budget`` tokens. Where it ends for want of tokens while
it still thinks, ``Sampling.thinking_end`` is appended and the answer is asked for, with all of it
as its prefill; where the thinking was over, it just goes on. Every engine that honours a prefill
can do it, and the same sampling gives the same on all of them. The second part has a seed of its
own, so a trace is as repeatable as any other. ``meta`` of the trace says where the thinking was
closed.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator

import orjson

from factory.dialects import THINK_CLOSE, THINK_OPEN
from factory.engines import base
from factory.engines.base import Engine, Failure, OnPartial, Request
from factory.errors import UsageError
from factory.records import Sampling, Trace

CLOSED_AT = "thinking_closed_at"
"""Key of ``Trace.meta``: offset in ``completion`` at which our text begins."""


def check_budget(sampling: Sampling, engine: Engine | None) -> None:
    """Refuse a thinking budget that cannot be kept.

    Args:
        sampling: with or without a thinking budget.
        engine: None where it is not known yet; it is then not looked at.

    Raises:
        UsageError: it leaves no token for an answer, or the engine cannot go on from a prefill.
    """
    budget = sampling.thinking_budget
    if budget is None:
        return
    need = budget + _reserve(sampling.thinking_end) + 1
    if budget < 1 or sampling.max_tokens < need:
        raise UsageError(
            f"thinking_budget {budget} leaves no answer within max_tokens {sampling.max_tokens}",
            f"raise max_tokens to more than {need}, or lower the budget",
        )
    if THINK_CLOSE not in sampling.thinking_end:
        raise UsageError(
            f"thinking_end {sampling.thinking_end!r} does not close the thinking",
            f"it must hold {THINK_CLOSE}",
        )
    if engine is not None and not engine.can_continue:
        raise UsageError(
            "this engine cannot keep a thinking budget: it does not go on from a given beginning",
            "set the engine's `prefill: continue`, or leave thinking_budget out",
        )


class Budgeted(base.Engine):
    """An engine that keeps the thinking budget of its requests.

    Args:
        engine: answers the parts.
        sampling: of all requests, with a thinking budget.
    """

    def __init__(self, engine: Engine, sampling: Sampling) -> None:
        assert sampling.thinking_budget is not None
        self.model, self.revision, self.template = engine.model, engine.revision, engine.template
        self._engine, self._sampling, self._budget = engine, sampling, sampling.thinking_budget
        self._thinking = dataclasses.replace(
            sampling, max_tokens=self._budget, min_tokens=min(sampling.min_tokens, self._budget)
        )
        self._opened: bool | None = None
        self._first: dict[str, Request] = {}
        self._second: dict[str, tuple[Request, Trace, str]] = {}
        self._again: deque[Request] = deque()

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer requests as slots free; yield None when idle."""
        for answer in self._engine.run(self._parts(requests), on_partial):
            if isinstance(answer, Trace):
                yield self._take(answer)
            else:
                if answer is not None:
                    self._forget(answer.trace_id)
                yield answer

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way."""
        gone = set(trace_ids)
        for trace_id in gone:
            self._forget(trace_id)
        self._again = deque(r for r in self._again if r.trace_id not in gone)
        self._engine.cancel(gone)

    def drain(self) -> None:
        """Note that the run ends."""
        self._engine.drain()

    # ---- inside

    def _parts(self, requests: Iterator[Request | None]) -> Iterator[Request | None]:
        while True:
            if self._again:  # before anything new: its beginning is still in the prefix cache
                yield self._again.popleft()
                continue
            try:
                request = next(requests)
            except StopIteration:
                return
            if request is not None:
                self._first[request.trace_id] = request
                request = dataclasses.replace(request, sampling=self._thinking, part="thinking")
            yield request

    def _take(self, trace: Trace) -> Trace | None:
        """Return the whole trace; None where its second part is asked for."""
        begun = self._second.pop(trace.trace_id, None)
        if begun is not None:
            return self._joined(*begun, trace)
        request = self._first.pop(trace.trace_id)
        n = trace.n_completion_tokens
        # A record of a run with a budget holds the whole already.
        if trace.finish_reason != "length" or (n is not None and n > self._budget):
            return trace
        if self._opened is None:
            self._opened = _opened(self._engine, request)
        # A character that was cut in its middle comes as U+FFFD, and would stay one.
        trace = dataclasses.replace(trace, completion=trace.completion.rstrip("\ufffd"))
        text = trace.prefill + trace.completion
        end = closing(text, self._sampling.thinking_end, opened=self._opened)
        left = self._sampling.max_tokens - self._budget - _reserve(end)
        sampling = dataclasses.replace(
            self._sampling,
            max_tokens=left,
            min_tokens=min(left, max(0, self._sampling.min_tokens - self._budget)),
            prefill=text + end,
        )
        self._second[trace.trace_id] = (request, trace, end)
        self._again.append(dataclasses.replace(request, sampling=sampling, part="answer"))
        return None

    def _joined(self, request: Request, first: Trace, end: str, second: Trace) -> Trace:
        counts = (first.n_completion_tokens, second.n_completion_tokens)
        n = None if None in counts else sum(c for c in counts if c is not None)
        if n is not None and end and first.n_prompt_tokens and second.n_prompt_tokens:
            # What stands between the two prompts is the first part and our text.
            ours = second.n_prompt_tokens - first.n_prompt_tokens - (counts[0] or 0)
            n += min(max(0, ours), _reserve(end))
        seconds = [s for s in (first.seconds, second.seconds) if s is not None]
        return request.trace(
            first.completion + end + second.completion,
            finish_reason=second.finish_reason,
            stop_reason=second.stop_reason,
            n_prompt_tokens=first.n_prompt_tokens,
            n_completion_tokens=n,
            seconds=sum(seconds) if seconds else None,
            meta=_joined_meta(first, second, {CLOSED_AT: len(first.completion)} if end else {}),
        )

    def _forget(self, trace_id: str) -> None:
        self._first.pop(trace_id, None)
        self._second.pop(trace_id, None)


def closing(text: str, end: str, *, opened: bool = False) -> str:
    r"""Return what closes the thinking of a text; nothing where it does not think, or no longer.

    A tag of which the text has a beginning already is completed.

    Args:
        text: prefill and completion so far.
        end: what closes the thinking.
        opened: whether the prompt has opened the thinking already (R1's own template does).

    >>> end = "\n</think>\n\n"
    >>> closing("<think>\nI add", end), closing("I add</think", end, opened=True)
    ('\n</think>\n\n', '>\n\n')
    >>> closing("<think>\nI add</think>\nIt is", end), closing("It is", end)
    ('', '')
    """
    opens = opened or text.lstrip().startswith(THINK_OPEN)
    if THINK_CLOSE in text or not opens:
        return ""
    for n in range(len(THINK_CLOSE) - 1, 1, -1):
        if text.endswith(THINK_CLOSE[:n]):
            return end[end.index(THINK_CLOSE) + n :]
    return end


def _joined_meta(first: Trace, second: Trace, further: dict[str, int]) -> str | None:
    """Return the facts of both parts; log probabilities are those of one text."""
    metas = [orjson.loads(trace.meta) if trace.meta else {} for trace in (first, second)]
    joined = {**metas[0], **metas[1], **further}
    if "logprobs" in joined:
        joined["logprobs"] = [row for meta in metas for row in meta.get("logprobs", [])]
    return orjson.dumps(joined).decode() if joined else None


def _opened(engine: Engine, request: Request) -> bool:
    """Tell whether the prompt opens the thinking; yes where only the server knows its template."""
    if not engine.knows_template:
        return True
    return str(engine.rendered_text(request)).rstrip().endswith(THINK_OPEN)


def _reserve(text: str) -> int:
    """Return the most tokens that a text can have: one per byte."""
    return len(text.encode())
