"""Engine ``replay``: recorded answers instead of a model. The seam for tests and simulations.

Answers come from a file of traces (JSON Lines or Parquet with ``completion`` and either
``trace_id`` or ``prompt_id`` and ``sample_index``). An unknown request is a failure.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from factory.dialects import THINK_CLOSE
from factory.engines import base
from factory.engines.base import Failure, Incoming, OnPartial, Request
from factory.errors import UsageError
from factory.records import Trace
from factory.rows import files

Answers = dict[str, dict[str, Any]]


class Engine(base.Engine):
    """Answers from a record, ``slots`` at a time.

    Args:
        model: the name that enters the keys.
        answers: path of the record, or the record itself (key → row).
        revision: the revision that enters the keys.
        slots: requests under way at once.
        seconds_per_token: simulated decoding time; 0 answers at once.
        calls: file to which every request's key is appended before it is answered.
    """

    def __init__(
        self,
        model: str,
        *,
        answers: str | Answers,
        revision: str = "recorded",
        slots: int = 16,
        seconds_per_token: float = 0.0,
        calls: str | None = None,
    ) -> None:
        self.model = model
        self.revision = revision
        self._answers = read_answers(answers) if isinstance(answers, str) else answers
        self.slots = slots
        self._seconds_per_token = seconds_per_token
        self._calls = Path(calls) if calls else None
        self._cancelled: set[str] = set()

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer in the order in which the recorded answers would have ended."""
        busy: list[tuple[float, int, Request]] = []
        n_begun = 0
        incoming = Incoming(requests)
        while incoming.more or busy:
            for request in incoming.take(lambda: len(busy) < self.slots):
                n_begun += 1
                heapq.heappush(busy, (self._begin(request), n_begun, request))
            if not busy:
                if incoming.more:
                    yield None
                continue
            wait_s = busy[0][0] - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            request = heapq.heappop(busy)[2]
            if request.trace_id in self._cancelled:
                self._cancelled.discard(request.trace_id)
                yield None
                continue
            yield self._answer(request, on_partial)

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way."""
        self._cancelled.update(trace_ids)

    def _begin(self, request: Request) -> float:
        if self._calls is not None:
            with self._calls.open("a") as handle:
                handle.write(request.trace_id + "\n")
        row = self._find(request)
        n_tokens = int((row or {}).get("n_completion_tokens") or 0)
        return time.monotonic() + n_tokens * self._seconds_per_token

    def _find(self, request: Request) -> dict[str, Any] | None:
        return self._answers.get(request.trace_id) or self._answers.get(
            f"{request.prompt_id}:{request.sample_index}"
        )

    def _answer(self, request: Request, on_partial: OnPartial | None) -> Trace | Failure:
        row = self._find(request)
        if row is None:
            return Failure(
                trace_id=request.trace_id,
                kind="not_recorded",
                message="no recorded answer",
                retriable=False,
            )
        row = _part_of(row, request)
        text = str(row["completion"])
        finish, stop_reason = row.get("finish_reason") or "stop", row.get("stop_reason")
        rule = on_partial(request.trace_id, text) if on_partial else None
        return request.trace(
            text,
            finish_reason="abort" if rule else finish,
            stop_reason=rule or stop_reason,
            n_prompt_tokens=row.get("n_prompt_tokens"),
            n_completion_tokens=row.get("n_completion_tokens"),
            meta=row.get("meta"),
        )


def identify(model: str, *, revision: str = "recorded", **_: Any) -> base.Identity:
    """Return model, revision and template as they enter the keys: those that are given."""
    return base.Identity(model, str(revision), None)


def _part_of(row: dict[str, Any], request: Request) -> dict[str, Any]:
    """Return what a model with a thinking budget would have said: a simulation, by characters.

    A record of the very trace is the whole, whatever its budget was.
    """
    if request.part == "whole" or row.get("trace_id") == request.trace_id:
        return row
    text, n = str(row["completion"]), int(row.get("n_completion_tokens") or 0)
    if request.part == "thinking":
        budget = request.sampling.max_tokens
        if n <= budget:
            return row
        cut = text[: len(text) * budget // n]
        return {**row, "completion": cut, "n_completion_tokens": budget, "finish_reason": "length"}
    said = request.sampling.prefill
    answer = text.rpartition(THINK_CLOSE)[2].lstrip("\n")
    own = row.get("prefill") or ""
    if (own + text).startswith(said):  # nothing was closed: it just goes on
        answer = (own + text)[len(said) :]
    return {**row, "completion": answer, "n_completion_tokens": n * len(answer) // len(text)}


def read_answers(path: str) -> Answers:
    """Read a record of answers.

    Raises:
        UsageError: no such file, or no completion in it.
    """
    files.check_input(path)
    answers: Answers = {}
    for row in files.read_rows(path):
        if isinstance(row, files.Malformed) or not isinstance(row.get("completion"), str):
            continue
        if row.get("trace_id"):
            answers[str(row["trace_id"])] = row
        if row.get("prompt_id") is not None and row.get("sample_index") is not None:
            answers[f"{row['prompt_id']}:{row['sample_index']}"] = row
    if not answers:
        raise UsageError(
            f"{path!r} holds no recorded answers",
            "its rows need completion and trace_id, or prompt_id and sample_index",
        )
    return answers
