"""Math: notations of many authors, positives and near misses, through the whole cascade."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.records import Item
from factory.verifiers import math

LINES = (Path(__file__).parent / "golden" / "math_cases.txt").read_text(encoding="utf-8")
CASES = [
    tuple(part.strip() for part in (*line.rsplit(" | ", 1)[0].split(" | ", 1), line[-1]))
    for line in LINES.splitlines()
    if not line.startswith("#")
]


def status(gold: str, answer: str) -> str:
    item = Item(text=f"So the answer is $\\boxed{{{answer}}}$.", gold=gold)
    return (math.quick(item) or math.verify(item)).status


@pytest.mark.parametrize(("gold", "answer", "same"), CASES)
def test_the_same_answer_in_another_notation(gold: str, answer: str, same: str) -> None:
    wanted = "pass" if same == "1" else "fail"
    assert status(gold, answer) == wanted
    assert status(answer, gold) == wanted


def test_the_table_has_positives_and_near_misses() -> None:
    assert sum(same == "1" for _, _, same in CASES) >= 300
    assert sum(same == "0" for _, _, same in CASES) >= 100
