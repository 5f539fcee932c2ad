"""Refusals that every request would meet: found after a few requests, not after all."""

from __future__ import annotations

import re

from factory.engines.base import Request
from factory.engines.openai.faults import Fault

FIRST = 5
"""Requests that are refused with the same words, before any was answered, until the run ends."""
_ATTEMPTS = 3
_VARIES = re.compile(r"\w*\d\w*")


class Refusals:
    """The refusals of a run so far, by what was said.

    A key or an address is everybody's, so any requests count. What a server says of one request
    (400, 422) may be that request's own fault, and all samples of a prompt share it: only
    different prompts count. Once anything was answered, nothing here ends a run any more.

    >>> refusals, fault = Refusals(), Fault("http_401", "no key 17", refuses="all")
    >>> request = lambda n: Request(trace_id=str(n), prompt_id="p", messages=(), model="m",
    ...     revision="r", sampling=None, sampling_id="s", sample_index=n)
    >>> [refusals.is_for_all(fault, request(n), n_open=9) for n in range(5)]
    [False, False, False, False, True]
    """

    def __init__(self) -> None:
        self.has_answers = False
        self._whose: dict[tuple[str, str], set[str]] = {}
        self._n_attempts: dict[tuple[str, str], int] = {}

    def is_for_all(self, fault: Fault, request: Request, *, n_open: int) -> bool:
        """Note a refusal; tell whether every request will meet it.

        Args:
            fault: with ``refuses``.
            request: that was refused.
            n_open: requests under way, this one included: where all of few are refused, too.
        """
        if self.has_answers or fault.refuses is None:
            return False
        said = (fault.kind, _VARIES.sub("#", fault.message)[:80])
        whose = self._whose.setdefault(said, set())
        whose.add(request.trace_id if fault.refuses == "all" else request.prompt_id)
        self._n_attempts[said] = self._n_attempts.get(said, 0) + 1
        if fault.refuses == "this":
            return len(whose) >= FIRST
        return len(whose) >= min(FIRST, n_open) and self._n_attempts[said] >= _ATTEMPTS
