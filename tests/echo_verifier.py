"""A verifier from outside the package: right when the answer's box holds the gold, as text."""

from __future__ import annotations

from factory.records import Item, Verdict

VERSION = 1


def verify(item: Item, *, mode: str = "boxed") -> Verdict:
    found = item.answer.rpartition("\\boxed{")[2].partition("}")[0]
    if found == item.gold:
        return Verdict.passed(decided_by="text", extracted=found)
    return Verdict.failed("wrong", decided_by="text", extracted=found)
