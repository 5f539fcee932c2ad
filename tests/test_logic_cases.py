"""Logic: how models answer, and how they try to give several answers, in both modes."""

from __future__ import annotations

from typing import Any

import pytest

from factory.records import Item
from factory.verifiers import logic
from tests.helpers_golden import golden_rows

PROMPTS = {
    "-": "",
    "BOOKS": "Which one?\nOptions:\n(A) the red book\n(B) the gray book\n(C) the blue book\n"
    "(D) both A and B",
}
GOLDS: dict[str, Any] = {
    "TRIO": {
        "names": ["Ella", "Bob", "Zoey"],
        "statements": "(('lying', 1), ('not', ('telling-truth', 0)), ('telling-truth', 0))",
    },
    "LINES": "(1) Ella is a knight\n(2) Bob is a knave\n(3) Zoey is a knight",
    "EITHER": {"names": ["Ann", "Ben"], "statements": (("telling-truth", 1), ("telling-truth", 0))},
}
CASES = [
    (prompt, gold, text.replace("\\|", "|"), boxed, auto)
    for prompt, gold, text, boxed, auto in golden_rows("logic_cases.txt", before=2, after=2)
]


@pytest.mark.parametrize(("prompt", "gold", "text", "boxed", "auto"), CASES)
def test_an_answer(prompt: str, gold: str, text: str, boxed: str, auto: str) -> None:
    messages = ({"role": "user", "content": PROMPTS[prompt]},)
    item = Item(text=text, gold=GOLDS.get(gold, gold), messages=messages)
    found = [logic.verify(item, mode=mode).status for mode in ("boxed", "auto")]
    assert found == [boxed, auto]


def test_the_table_has_positives_and_traps() -> None:
    autos = [case[-1] for case in CASES]
    assert len(set(CASES)) == len(CASES)
    assert autos.count("pass") >= 120
    assert autos.count("fail") >= 80
