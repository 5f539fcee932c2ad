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


SAID = (Path(__file__).parent / "golden" / "math_said.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line", [line for line in SAID.splitlines() if line and not line.startswith("#")]
)
def test_an_answer_that_is_said_without_a_box(line: str) -> None:
    gold, rest = line.split(" | ", 1)
    text, wanted = rest.rsplit(" | ", 1)
    item = Item(text=text.replace("⏎", "\n"), gold=gold)
    verdict = math.quick(item, mode="auto") or math.verify(item, mode="auto")
    assert verdict.status == wanted


def test_the_table_has_positives_and_near_misses() -> None:
    assert sum(same == "1" for _, _, same in CASES) >= 300
    assert sum(same == "0" for _, _, same in CASES) >= 100
