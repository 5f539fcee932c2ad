"""Format: the thinking once, in order, not empty."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from factory.dialects import DIALECTS
from factory.records import Item
from factory.verifiers import format as form

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "format_cases.jsonl.gz"

CASES = [
    ("<think>a</think>b", "pass", None),
    ("\n <think>\na\n</think>\n\nb", "pass", None),
    ("<think>a <b> c</think>b", "pass", None),
    ("", "fail", "no_thinking"),
    ("b", "fail", "no_thinking"),
    ("<think>a", "fail", "unfinished_thinking"),
    ("a</think>b", "fail", "no_thinking_begin"),
    ("<think></think>b", "fail", "empty_thinking"),
    ("<think>\n \n</think>b", "fail", "empty_thinking"),
    ("<think>a</think>", "fail", "empty_answer"),
    ("<think>a</think> \n", "fail", "empty_answer"),
    ("x<think>a</think>b", "fail", "text_before_thinking"),
    ("</think>a<think>b", "fail", "tags_out_of_order"),
    ("<think><think>a</think>b", "fail", "repeated_thinking_tag"),
    ("<think>a</think>b</think>c", "fail", "repeated_thinking_tag"),
    ("<think>a</think>b<think>c</think>d", "fail", "repeated_thinking_tag"),
    ("<think>a<think>b</think></think>c", "fail", "repeated_thinking_tag"),
    ("<THINK>a</THINK>b", "fail", "no_thinking"),
    ("< think >a</ think >b", "fail", "no_thinking"),
]


@pytest.mark.parametrize(("text", "status", "reason"), CASES)
def test_the_thinking_stands_once(text: str, status: str, reason: str | None) -> None:
    verdict = form.verify(Item(text=text))
    assert (verdict.status, verdict.reason) == (status, reason)


def test_a_prefilled_tag_counts_once() -> None:
    prefill = "<think>\n"
    once = Item(text=prefill + "a</think>b", prefill=prefill)
    twice = Item(text=prefill + "<think>\na</think>b", prefill=prefill)
    assert form.verify(once).status == "pass"
    assert form.verify(twice).reason == "repeated_thinking_tag"


ANSWER = [
    ("<think>a</think><answer>b</answer>", "pass", None),
    ("<think>\na\n</think>\n<answer>\nb\n</answer>\n", "pass", None),
    ("<think>a</think>b", "fail", "no_answer"),
    ("<think>a</think><answer>b", "fail", "unfinished_answer"),
    ("<think>a</think><answer></answer>", "fail", "empty_answer"),
    ("<think>a<answer>b</answer></think>c", "fail", "tags_out_of_order"),
    ("<answer>b</answer><think>a</think>", "fail", "text_before_thinking"),
    ("<think>a</think>x<answer>b</answer>", "fail", "text_outside_tags"),
    ("<think>a</think><answer>b</answer>x", "fail", "text_outside_tags"),
    ("<think>a</think><answer>b</answer><answer>c</answer>", "fail", "repeated_answer_tag"),
]


@pytest.mark.parametrize(("text", "status", "reason"), ANSWER)
def test_the_answer_has_its_tags_too(text: str, status: str, reason: str | None) -> None:
    verdict = form.verify(Item(text=text), dialect="think_answer")
    assert (verdict.status, verdict.reason) == (status, reason)


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_each_dialect_accepts_its_own_writing_only(dialect: str) -> None:
    text = form.as_completion("4", dialect=dialect)
    assert form.verify(Item(text=text), dialect=dialect).status == "pass"
    others = [d for d in DIALECTS if DIALECTS[d].think != DIALECTS[dialect].think]
    assert all(form.verify(Item(text=text), dialect=d).status == "fail" for d in others)


def test_a_box_may_be_demanded() -> None:
    assert form.verify(Item(text="<think>a</think>\\boxed{4}"), box=True).status == "pass"
    assert form.verify(Item(text="<think>a</think>4"), box=True).reason == "no_box"
    assert form.verify(Item(text="<think>a</think>\\boxed{}"), box=True).reason == "no_box"
    assert form.verify(Item(text="<think>\\boxed{4}</think>4"), box=True).reason == "no_box"


def test_an_unknown_dialect_is_unscored() -> None:
    assert form.verify(Item(text="<think>a</think>b"), dialect="none").status == "unscored"


@pytest.mark.skipif(not DATA.exists(), reason="needs the public rows in ../shared/data")
def test_public_cases_of_two_libraries() -> None:
    with gzip.open(DATA, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    dialects = {"think_format": "think", "think_answer_tags": "think_answer"}
    wrong = [
        row["id"]
        for row in rows
        if row["check"] in dialects
        and form.verify(Item(text=row["text"]), dialect=dialects[row["check"]]).reward
        != row["expected_score"]
    ]
    assert wrong == []
