"""Constraints: each IFEval type with answers that follow, that do not, and that nearly do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from factory.records import Item
from factory.verifiers import constraints
from factory.verifiers.constraints.checks import CHECKS
from tests.helpers_golden import golden_rows

CASES = golden_rows("constraint_cases.txt", before=2, after=1)


@pytest.mark.parametrize(("name", "kwargs", "text", "wanted"), CASES)
def test_an_instruction(name: str, kwargs: str, text: str, wanted: str) -> None:
    gold: dict[str, Any] = {"instruction_ids": [name], "kwargs": [json.loads(kwargs)]}
    verdict = constraints.verify(Item(text=f"<think>\n{name}, a\n</think>\n{text}", gold=gold))
    assert verdict.status == wanted


def test_every_type_has_both() -> None:
    assert len(set(map(tuple, CASES))) == len(CASES)
    for name in CHECKS:
        assert {case[-1] for case in CASES if case[0] == name} == {"pass", "fail"}, name
