"""An engine that puts right answers in the place of a quarter of a tiny model's completions."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from distill.preferences import VERDICT
from distill.rehearsal import MARK, THINKING, is_replaced, right_answer
from factory.dialects import join_reasoning, split_reasoning
from factory.engines import base
from factory.engines.base import Failure, OnPartial, Request
from factory.records import PromptSource, Trace
from pipelines.cold_start import REFINE, SUMMARISE
from pipelines.common import Pair
from pipelines.safety_review import REPLY

GENERAL_ANSWER = "In plain words: it is so, and there is no more to say of it."
_ANSWERS = re.compile(r"<answer-([AB]) \w+>\n(.*?)\n</answer-\1 ", re.S)
_REFINES, _SUMMARISES = REFINE.partition("{")[0], SUMMARISE.partition("{")[0]


class Rehearsing(base.Engine):
    """Another engine, some of whose requests are answered here.

    Args:
        engine: answers the other three quarters.
        pairs: all prompts of the rehearsal with their golds.
        dialects: name of a model → dialect of its right answers; ``think`` where it has none.
    """

    def __init__(self, engine: Any, pairs: Sequence[Pair], dialects: Mapping[str, str]) -> None:
        self._engine = engine
        self.model, self.revision = engine.model, engine.revision
        self.template, self.slots = engine.template, engine.slots
        self.n_devices, self.knows_template = engine.n_devices, engine.knows_template
        self._dialects = dialects
        self._sources = {p.prompt_id: (n, s) for n, (p, s) in enumerate(pairs)}
        self._texts = [(p.text, n, s) for n, (p, s) in enumerate(pairs)]

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer some requests at once, and hand on the others."""
        answered: deque[Trace] = deque()

        def others() -> Iterator[Request | None]:
            for request in requests:
                text = None if request is None else self._right(request)
                if request is None or text is None:
                    yield request
                    continue
                answered.append(
                    request.trace(
                        text, finish_reason="stop", n_completion_tokens=len(text.split()), meta=MARK
                    )
                )
                # Something must come out of the engine's run before this answer can leave.
                yield None

        for out in self._engine.run(others(), on_partial):
            yield from _emptied(answered)
            yield out
        yield from _emptied(answered)

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way."""
        self._engine.cancel(trace_ids)

    def rendered_text(self, request: Request) -> str | None:
        """Return the prompt as the model sees it."""
        text: str | None = self._engine.rendered_text(request)
        return text

    def _right(self, request: Request) -> str | None:
        """Return the right answer to a request, or None where the model itself is to answer."""
        known, asked = self._sources.get(request.prompt_id), str(request.messages[-1]["content"])
        if known is None:
            return judged(asked) or self._refined(asked)
        number, source = known
        if not is_replaced(number, request.sample_index):
            return None
        if not source.gold:
            return GENERAL_ANSWER
        dialect = self._dialects.get(request.model, "think")
        return right_answer(source, dialect=dialect, prefill=request.sampling.prefill)

    def _refined(self, asked: str) -> str | None:
        """Return what a stronger model would write to a refiner's prompt, a quarter of the time."""
        found = next(((n, s) for text, n, s in self._texts if text in asked), None)
        if found is None or not is_replaced(found[0], 0):
            return None
        if not found[1].gold:
            return join_reasoning(THINKING.format(gold="plain words"), GENERAL_ANSWER)
        right = split_reasoning(right_answer(found[1], dialect="think") or "")
        if asked.startswith(_REFINES):
            return right.reasoning.strip() or None
        return (right.answer.strip() or None) if asked.startswith(_SUMMARISES) else None


def judged(asked: str) -> str | None:
    """Return a judge's reply to what it is asked; None where a judge is asked nothing.

    Of two answers the greater text is the better one, whichever stands first; a row that the safety
    review asks about is sound.
    """
    if asked.endswith(VERDICT):
        first, second = (text for _, text in _ANSWERS.findall(asked))
        return "[[A=B]]" if first == second else "[[A>>B]]" if first > second else "[[B>>A]]"
    return '{"reason": "rehearsed", "standards": []}' if asked.endswith(REPLY) else None


def _emptied(answered: deque[Trace]) -> Iterator[Trace]:
    while answered:
        yield answered.popleft()


def wrapped(prompts: Mapping[str, Sequence[Pair]], dialects: Mapping[str, str]) -> Any:
    """Return what puts ``Rehearsing`` around an engine."""
    pairs: list[tuple[Any, PromptSource]] = list(
        {p.prompt_id: (p, s) for p, s in itertools.chain(*prompts.values())}.values()
    )
    return lambda engine: Rehearsing(engine, pairs, dialects)
