"""Every verifier that reads text settles hostile answers in under a second, and pays none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from factory import plugins
from factory.records import Item
from tests.hostile import ANSWERS, PIECES

LONG = {
    "instruction_ids": [
        "length_constraints:number_sentences", "length_constraints:number_words",
        "length_constraints:nth_paragraph_first_word", "length_constraints:number_paragraphs",
        "detectable_format:number_highlighted_sections", "detectable_format:multiple_sections",
        "detectable_format:number_bullet_lists", "detectable_content:number_placeholders",
        "detectable_content:postscript", "detectable_format:title", "combination:two_responses",
        "change_case:capital_word_frequency", "keywords:existence", "keywords:frequency",
        "keywords:letter_frequency", "detectable_format:json_format", "startend:quotation",
        "startend:end_checker", "language:response_language", "change_case:english_capital",
    ],
    "kwargs": [
        {"relation": "at least", "num_sentences": 3}, {"relation": "at least", "num_words": 9},
        {"num_paragraphs": 7, "nth_paragraph": 7, "first_word": "zebra"}, {"num_paragraphs": 7},
        {"num_highlights": 7}, {"section_spliter": "SECTION", "num_sections": 7},
        {"num_bullets": 7}, {"num_placeholders": 7}, {"postscript_marker": "P.P.S"}, {}, {},
        {"capital_relation": "at least", "capital_frequency": 7}, {"keywords": ["zebra"]},
        {"keyword": "zebra", "frequency": 7, "relation": "at least"},
        {"letter": "z", "let_frequency": 7, "let_relation": "at least"}, {}, {},
        {"end_phrase": "That is all."}, {"language": "en"}, {},
    ],
}  # fmt: skip
TRIO = {
    "names": ["Ella", "Bob", "Zoey"],
    "statements": "(('lying', 1), ('not', ('telling-truth', 0)), ('telling-truth', 0))",
}
COUNTDOWN = {
    "task": "countdown", "answer": "3*7+5", "metadata": {"numbers": [3, 5, 7], "target": 26},
}  # fmt: skip
CITIES = ["Madrid", "Lisbon", "Athens", "Vienna"]
CASES: list[tuple[str, object, dict[str, Any]]] = [
    ("choice", "J", {"mode": "auto"}),
    ("choice", "D", {"mode": "auto", "options": CITIES}),
    ("choice", "D", {"mode": "boxed"}),
    ("logic", TRIO, {"mode": "auto"}),
    ("logic", COUNTDOWN, {"mode": "auto"}),
    ("logic", "(K)", {"mode": "auto"}),
    ("logic", "uncertain", {"mode": "auto"}),
    ("logic", "17", {"mode": "auto"}),
    ("logic", "apple pear", {"mode": "boxed"}),
    ("constraints", LONG, {}),
    ("constraints", LONG, {"loose": True}),
    ("format", None, {"box": True}),
    ("format", None, {"dialect": "harmony"}),
    ("spans", [["zebra"]], {}),
    ("math", "17", {"mode": "auto"}),
    ("math", r"\frac{\sqrt{17}}{3}", {"mode": "boxed"}),
    ("math", r"x < 2 \text{ and } y > 2", {"mode": "auto"}),
]


def slowest(
    verifier: str, gold: object, options: dict[str, Any], texts: list[str]
) -> tuple[float, str]:
    """Judge all, and return the most CPU seconds that one took and how it began."""
    module = plugins.load("verifiers", verifier)
    # what the cheap steps of math leave goes to a process that is killed (test_math_hostile)
    judge: Callable[..., Any] = module.quick if verifier == "math" else module.verify
    judge(Item(text="warm", gold=gold), **options)
    worst = (0.0, "")
    for text in texts:
        begun = time.process_time()
        verdict = judge(Item(text=text, gold=gold), **options)
        worst = max(worst, (time.process_time() - begun, f"{len(text)} {text[:40]!r}"))
        assert verdict is None or verdict.status == "fail", (text[:60], verdict)
    return worst


def test_there_are_a_thousand() -> None:
    assert len(set(ANSWERS)) >= 1000


@pytest.mark.parametrize(("verifier", "gold", "options"), CASES)
def test_a_part_of_them(verifier: str, gold: object, options: dict[str, Any]) -> None:
    # one wrapping of each piece in turn
    part = [ANSWERS[4 * i + i % 4] for i in range(0, len(PIECES), 11)]
    seconds, text = slowest(verifier, gold, options, part)
    assert seconds < 1, text


# Four minutes for all: a quarter of them, another one for each case, stands for the rest in CI.
@pytest.mark.parametrize(
    "step", [pytest.param(4, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.bench)]
)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_all_of_them(case: int, step: int) -> None:
    verifier, gold, options = CASES[case]
    seconds, text = slowest(verifier, gold, options, ANSWERS[case % step :: step])
    assert seconds < 1, text
