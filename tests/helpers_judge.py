"""A judge in this process, for tests of what asks one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from factory.records import Prompt


class JudgeModel:
    """Answers from a function of what it is shown, and counts what it is asked.

    Args:
        reply: text of a request and its sample index → the answer.
    """

    model, revision, template = "judge-model", "r1", None

    def __init__(self, reply: Callable[[str, int], str]) -> None:
        self.reply, self.asked = reply, 0

    def run(self, requests: Any, on_partial: Any = None) -> Any:
        for request in requests:
            if request is None:
                yield None
                continue
            self.asked += 1
            text = self.reply(Prompt(messages=request.messages).text, request.sample_index)
            yield request.trace(text, finish_reason="stop", n_completion_tokens=9)

    def cancel(self, trace_ids: Any) -> None: ...

    def close(self) -> None: ...
