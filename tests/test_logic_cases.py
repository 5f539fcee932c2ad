"""Logic: how models answer, and how they try to give several answers, in both modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory.records import Item
from factory.verifiers import logic

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
TABLE = (Path(__file__).parent / "golden" / "logic_cases.txt").read_text(encoding="utf-8")


def cases() -> list[tuple[str, str, str, str, str]]:
    out = []
    for line in TABLE.splitlines():
        if line and not line.startswith("#"):
            prompt, gold, rest = line.split(" | ", 2)
            text, boxed, auto = rest.rsplit(" | ", 2)
            out.append((prompt, gold, text.replace("⏎", "\n").replace("\\|", "|"), boxed, auto))
    return out


@pytest.mark.parametrize(("prompt", "gold", "text", "boxed", "auto"), cases())
def test_an_answer(prompt: str, gold: str, text: str, boxed: str, auto: str) -> None:
    messages = ({"role": "user", "content": PROMPTS[prompt]},)
    item = Item(text=text, gold=GOLDS.get(gold, gold), messages=messages)
    found = [logic.verify(item, mode=mode).status for mode in ("boxed", "auto")]
    assert found == [boxed, auto]


def test_the_table_has_positives_and_traps() -> None:
    autos = [case[-1] for case in cases()]
    assert len(set(cases())) == len(cases())
    assert autos.count("pass") >= 120
    assert autos.count("fail") >= 80
