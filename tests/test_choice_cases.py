"""Choice: how models write an option, and how they try to name several, in both modes."""

from __future__ import annotations

from typing import Any

import pytest

from factory.records import Item
from factory.verifiers import choice
from tests.helpers_golden import golden_rows

OPTIONS: dict[str, Any] = {
    "-": None,
    "4": 4,
    "cities": ["Paris", "Rome", "Berlin", "Oslo"],
    "numbers": ["3", "5", "8", "15"],
    "ten": [
        "alfa", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett",
    ],
    "london": ["Paris", "London", "Berlin", "Rome"],
    "map": {"A": "Paris", "B": "London", "C": "Berlin", "D": "Rome"},
    "dec": ["1.5", "15", "150", "0.15"],
    "units": ["5 m", "5 km", "5 cm", "5 mm"],
    "xy": ["x", "y", "z", "w"],
    "perm": ["B", "C", "D", "A"],
    "sent": ["It rises.", "It falls.", "It stays the same.", "It cannot be determined."],
    "sums": ["A and B", "all of the above", "none of the above", "both A and C"],
}  # fmt: skip
CASES = golden_rows("choice_cases.txt", before=2, after=2)


@pytest.mark.parametrize(("name", "gold", "text", "boxed", "auto"), CASES)
def test_an_option(name: str, gold: str, text: str, boxed: str, auto: str) -> None:
    item = Item(text=text, gold=gold)
    found = [choice.verify(item, mode=m, options=OPTIONS[name]).status for m in ("boxed", "auto")]
    assert found == [boxed, auto]


def test_the_table_has_positives_and_traps() -> None:
    autos = [case[-1] for case in CASES]
    assert len(set(map(tuple, CASES))) == len(CASES)
    assert autos.count("pass") >= 500
    assert autos.count("fail") >= 300
