"""A verifier from outside the package: right when the completion holds the gold's letter."""

from __future__ import annotations

from factory.records import Item, Verdict

VERSION = 1


def verify(item: Item) -> Verdict:
    if str(item.gold) in item.text:
        return Verdict.passed(decided_by="text", extracted=item.gold)
    return Verdict.failed("wrong", decided_by="text")
