"""Rules that end a trace while it is sampled, from its text so far.

A rule's name is part of ``Sampling.abort`` and so of every key: it shapes the text. A trace that a
rule ended is a fact with ``finish_reason="abort"`` and the rule's name as its ``stop_reason``.
"""

from __future__ import annotations

from collections.abc import Mapping

from factory.engines.base import OnPartial
from factory.errors import UsageError

_ANCHOR = 32
# A period may hold its own end more than once ("aab aab"), so the nearest occurrence is not enough.
_CANDIDATES = 8


class Loops:
    """Ends a text that has begun to repeat itself word for word.

    Only the tail that grew is looked at: the end of the text is searched for backwards, and the
    distance to an earlier occurrence is the period. Cost: a few backward searches in at most
    ``window`` characters.

    Args:
        min_chars: length of the repeating stretch, characters, copies together.
        min_copies: copies of the period in it.
        max_period: longest period that is looked for, characters.

    >>> rule = Loops(min_chars=200, min_copies=4)
    >>> rule("a", "A proof: " + "Wait, let me check again. " * 20)
    'loops@1'
    >>> rule("a", "A proof: " + ", ".join(str(n) for n in range(900))) is None
    True
    """

    NAME = "loops@1"

    def __init__(
        self, *, min_chars: int = 1500, min_copies: int = 4, max_period: int = 3000
    ) -> None:
        self.min_chars, self.min_copies, self.max_period = min_chars, min_copies, max_period
        self.window = max_period * min_copies + _ANCHOR

    def __call__(self, trace_id: str, text: str) -> str | None:
        """Return the rule's name where the text is to be ended."""
        del trace_id
        if len(text) < self.min_chars:
            return None
        tail = text[-max(self.window, self.min_chars + self.max_period) :]
        end = len(tail) - 1
        for _ in range(_CANDIDATES):
            at = tail.rfind(tail[-_ANCHOR:], 0, end)
            period = len(tail) - _ANCHOR - at
            need = max(self.min_chars, period * self.min_copies)
            if at < 0 or period > self.max_period or need > len(tail):
                return None
            # The stretch repeats itself exactly where it equals itself one period earlier.
            if tail[-need + period :] == tail[-need:-period]:
                return self.NAME
            end = at + _ANCHOR - 1
        return None


RULES: Mapping[str, OnPartial] = {Loops.NAME: Loops()}


def rule_of(name: str | None) -> OnPartial | None:
    """Return the rule of that name; None for None.

    Raises:
        UsageError: there is none.
    """
    if name is None:
        return None
    if name not in RULES:
        raise UsageError(f"unknown abort rule {name!r}", f"known: {', '.join(RULES)}")
    return RULES[name]
