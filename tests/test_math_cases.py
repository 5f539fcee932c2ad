"""Math: notations of many authors, positives and near misses, through the whole cascade."""

from __future__ import annotations

import pytest

from factory.records import Item
from factory.verifiers import math
from tests.helpers_golden import golden_rows

CASES = golden_rows("math_cases.txt", before=1, after=1)
CASES += golden_rows("math_conditions.txt", before=1, after=1)


def status(gold: str, answer: str) -> str:
    item = Item(text=f"So the answer is $\\boxed{{{answer}}}$.", gold=gold)
    return (math.quick(item) or math.verify(item)).status


@pytest.mark.parametrize(("gold", "answer", "same"), CASES)
def test_the_same_answer_in_another_notation(gold: str, answer: str, same: str) -> None:
    wanted = "pass" if same[0] == "1" else "fail"
    assert status(gold, answer) == wanted
    if not same.endswith(">"):  # an equation answers a question for a value, and not the other way
        assert status(answer, gold) == wanted


@pytest.mark.parametrize(
    ("gold", "text", "wanted"), golden_rows("math_said.txt", before=1, after=1)
)
def test_an_answer_that_is_said_without_a_box(gold: str, text: str, wanted: str) -> None:
    item = Item(text=text, gold=gold)
    verdict = math.quick(item, mode="auto") or math.verify(item, mode="auto")
    assert verdict.status == wanted


def test_the_table_has_positives_and_near_misses() -> None:
    assert sum(same[0] == "1" for _, _, same in CASES) >= 300
    assert sum(same[0] == "0" for _, _, same in CASES) >= 100


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"f(x)=kx+b, k>0, b>0", r"f(x)=kx+b, k>0"),
        (r"x^2, x+y>0, y<x", r"x^2, x+y>0, x>y+1"),
        (r"x=k\pi, k \in \mathbb{Z}", r"x=k\pi, k \in \mathbb{Z}, x>0"),
    ],
)
def test_conditions_that_cannot_be_compared_are_never_accepted(gold: str, answer: str) -> None:
    assert status(gold, answer) == "unscored"
    assert status(answer, gold) == "unscored"
