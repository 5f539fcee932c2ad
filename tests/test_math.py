"""Math: which answer counts, and when two answers are the same."""

from __future__ import annotations

import pytest

from factory.records import Item
from factory.verifiers import math

BOXES = [
    ("5", r"\boxed{3} then \boxed{5}", "pass", None, "the last box counts"),
    ("5", r"\boxed{5} then \boxed{3}", "fail", "wrong", "the last box counts"),
    ("5", r"5 is a number. \boxed{}", "fail", "empty_box", "an empty box is no answer"),
    ("5", r"\boxed{5} and then \boxed{7", "fail", "unterminated_box", "the last box never ends"),
    ("5", "The question mentions 5", "fail", "no_box", "no box in mode boxed"),
    ("5", r"<think>\boxed{5}</think> I refuse.", "fail", "no_box", "a box only in the thinking"),
    ("5", r"<think>\boxed{5}", "fail", "no_box", "the thinking never ended"),
    ("5", r"\boxed{1,2,3,4,5}", "fail", "wrong", "a list of guesses"),
    ("1, 2", r"\boxed{2} and \boxed{1}", "pass", None, "boxes in a row are a set"),
    ("5", r"\boxed{1}, \boxed{5}", "fail", "wrong", "two boxes are two answers"),
]


@pytest.mark.parametrize(("gold", "text", "status", "reason", "why"), BOXES)
def test_which_box_counts(gold: str, text: str, status: str, reason: str | None, why: str) -> None:
    verdict = math.verify(Item(text=text, gold=gold), mode="boxed")
    assert (verdict.status, verdict.reason) == (status, reason), why


@pytest.mark.parametrize("gold", [None, "", "  ", "see figure", r"\boxed{}", r"\frac{1}{", {}, "?"])
def test_a_gold_that_is_none_is_never_scored(gold: object) -> None:
    for text in (r"\boxed{5}", r"\boxed{see figure}", ""):
        verdict = math.verify(Item(text=text, gold=gold))
        assert verdict.status == "unscored"
        assert verdict.reward is None
