"""Constraints: each IFEval type with answers that follow, that do not, and that nearly do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factory.records import Item
from factory.verifiers import constraints
from factory.verifiers._constraints_checks import CHECKS

TABLE = (Path(__file__).parent / "golden" / "constraint_cases.txt").read_text(encoding="utf-8")


def cases() -> list[tuple[str, str, str, str]]:
    out = []
    for line in TABLE.splitlines():
        if line and not line.startswith("#"):
            name, kwargs, rest = line.split(" | ", 2)
            text, wanted = rest.rsplit(" | ", 1)
            out.append((name, kwargs, text.replace("⏎", "\n"), wanted))
    return out


@pytest.mark.parametrize(("name", "kwargs", "text", "wanted"), cases())
def test_an_instruction(name: str, kwargs: str, text: str, wanted: str) -> None:
    gold: dict[str, Any] = {"instruction_ids": [name], "kwargs": [json.loads(kwargs)]}
    verdict = constraints.verify(Item(text=f"<think>\n{name}, a\n</think>\n{text}", gold=gold))
    assert verdict.status == wanted


def test_every_type_has_both() -> None:
    assert len(set(cases())) == len(cases())
    for name in CHECKS:
        assert {case[-1] for case in cases() if case[0] == name} == {"pass", "fail"}, name
