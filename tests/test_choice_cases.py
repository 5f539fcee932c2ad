"""Choice: how models write an option, and how they try to name several, in both modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory.records import Item
from factory.verifiers import choice

OPTIONS: dict[str, Any] = {
    "-": None,
    "4": 4,
    "cities": ["Paris", "Rome", "Berlin", "Oslo"],
    "numbers": ["3", "5", "8", "15"],
    "ten": [
        "alfa", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett",
    ],
    "sums": ["A and B", "all of the above", "none of the above", "both A and C"],
}  # fmt: skip
LINES = (Path(__file__).parent / "golden" / "choice_cases.txt").read_text(encoding="utf-8")


def cases() -> list[tuple[str, str, str, str, str]]:
    out = []
    for line in LINES.splitlines():
        if line and not line.startswith("#"):
            name, gold, rest = line.split(" | ", 2)
            text, boxed, auto = rest.rsplit(" | ", 2)
            out.append((name, gold, text.replace("⏎", "\n"), boxed, auto))
    return out


@pytest.mark.parametrize(("name", "gold", "text", "boxed", "auto"), cases())
def test_an_option(name: str, gold: str, text: str, boxed: str, auto: str) -> None:
    item = Item(text=text, gold=gold)
    found = [choice.verify(item, mode=m, options=OPTIONS[name]).status for m in ("boxed", "auto")]
    assert found == [boxed, auto]


def test_the_table_has_positives_and_traps() -> None:
    autos = [case[-1] for case in cases()]
    assert len(set(cases())) == len(cases())
    assert autos.count("pass") >= 200
    assert autos.count("fail") >= 150
