"""Choice: one option letter, out of the last box or out of what was plainly said."""

from __future__ import annotations

import pytest

from factory.records import Item
from factory.verifiers import choice

BOXED = [
    ("A", r"\boxed{A}", "pass", None),
    ("A", r"\boxed{a}", "pass", None),
    ("A", r"\boxed{(A)}", "pass", None),
    ("A", r"\boxed{A.}", "pass", None),
    ("A", r"\boxed{\text{(A)}}", "pass", None),
    ("(B)", r"\boxed{\textbf{B}}", "pass", None),
    (r"\text{(B)}", r"\boxed{B}", "pass", None),
    ("B", r"\boxed{B. Paris}", "pass", None),
    ("B", r"\boxed{B: the capital of A land}", "pass", None),
    ("Ｂ", r"\boxed{（B）}", "pass", None),
    ("J", r"\boxed{J}", "pass", None),
    ("A", r"\boxed{B} no, \boxed{A}", "pass", None),
    ("A", r"\boxed{A} no, \boxed{B}", "fail", "wrong"),
    ("A", r"\boxed{A,B,C,D}", "fail", "several_options"),
    ("A", r"\boxed{A, B, C, D}", "fail", "several_options"),
    ("A", r"\boxed{A or B}", "fail", "several_options"),
    ("A", r"\boxed{A and B}", "fail", "several_options"),
    ("A", r"\boxed{A/B}", "fail", "several_options"),
    ("A", r"\boxed{AB}", "fail", "no_option"),
    ("A", r"\boxed{BA}", "fail", "no_option"),
    ("A", r"\boxed{Alpha}", "fail", "no_option"),
    ("A", r"\boxed{}", "fail", "empty_box"),
    ("A", r"\boxed{A} \boxed{B", "fail", "empty_box"),
    ("A", "The answer is A.", "fail", "no_box"),
    ("A", r"<think>\boxed{A}</think> I refuse.", "fail", "no_box"),
    ("A", r"\boxed{5}", "fail", "no_option"),
    ("A", r"\boxed{А}", "fail", "no_option"),
]


@pytest.mark.parametrize(("gold", "text", "status", "reason"), BOXED)
def test_the_last_box_names_one_option(
    gold: str, text: str, status: str, reason: str | None
) -> None:
    verdict = choice.verify(Item(text=text, gold=gold))
    assert (verdict.status, verdict.reason) == (status, reason)


SAID = [
    ("D", "The answer is for sure D, it can't be A or B", "pass"),
    ("D", "D. it can't be A or B", "pass"),
    ("C", "So the answer is (C).", "pass"),
    ("C", "**Answer: C**", "pass"),
    ("C", "Let us see.\n\nC", "pass"),
    ("C", "<answer>C</answer>", "pass"),
    ("C", "经过分析，故选C。", "pass"),
    ("C", "答案是 C", "pass"),
    ("C", "the answer is a matter of taste", "fail"),
    ("C", "A or C", "fail"),
    ("C", "Option C looks good, but the answer is B", "fail"),
    ("A", "A simple question deserves thought", "fail"),
    ("I", "I think so", "fail"),
    ("C", "The answer is A, B, C or D", "fail"),
]


@pytest.mark.parametrize(("gold", "text", "status"), SAID)
def test_mode_auto_reads_what_was_said(gold: str, text: str, status: str) -> None:
    assert choice.verify(Item(text=text, gold=gold), mode="auto").status == status


def test_a_gold_may_carry_the_name_of_its_option() -> None:
    for gold in ("C Cecile", "C. Cecile", "(C) Cecile", "Alina and the answer is\n(C) Cecile"):
        assert choice.verify(Item(text="C", gold=gold), mode="auto").status == "pass"
        assert choice.verify(Item(text="B", gold=gold), mode="auto").status == "fail"


def test_option_texts_stand_for_their_letters() -> None:
    options = ["Paris", "Rome", "Berlin", "Oslo"]
    for gold in ("B", "Rome", "B. Rome"):
        for text in (r"\boxed{B}", r"\boxed{Rome}", r"\boxed{\text{rome}}", r"\boxed{B. Rome}"):
            assert choice.verify(Item(text=text, gold=gold), options=options).status == "pass"
    assert choice.verify(Item(text=r"\boxed{Paris}", gold="B"), options=options).status == "fail"
    assert choice.verify(Item(text=r"\boxed{E}", gold="B"), options=options).reason == "no_option"
    named = {"A": "yes", "B": "no"}
    assert choice.verify(Item(text=r"\boxed{no}", gold="B"), options=named).status == "pass"


@pytest.mark.parametrize("gold", [None, "", "Z", "see figure", 3, "AB"])
def test_a_gold_that_is_no_option_is_unscored(gold: object) -> None:
    assert choice.verify(Item(text=r"\boxed{A}", gold=gold)).status == "unscored"


def test_a_gold_whose_option_stands_twice_or_is_another_ones_text_is_bad() -> None:
    twice = ["4", "5", "$5$", "6"]
    verdict = choice.verify(Item(text=r"\boxed{B}", gold="B"), options=twice)
    assert (verdict.status, verdict.reason) == (
        "unscored",
        "bad_gold: options B and C are the same",
    )
    assert choice.verify(Item(text=r"\boxed{A}", gold="A"), options=twice).status == "pass"
    assert choice.verify(Item(text=r"\boxed{B}", gold="5"), options=twice).status == "unscored"
    cities = ["Paris", "Rome", "Berlin", "Oslo"]
    for gold in ("B. Paris", "(B) Paris", "B Paris", "B: Paris"):
        verdict = choice.verify(Item(text=r"\boxed{B}", gold=gold), options=cities)
        assert verdict.status == "unscored", gold
    for gold in ("B. Rome", "B Rome", "(B) Rome"):
        assert choice.verify(Item(text=r"\boxed{B}", gold=gold), options=cities).status == "pass"


def test_options_that_cannot_be_read_are_unscored() -> None:
    for options in ("A", [], ["one"], {"one": "x"}, 1, True):
        verdict = choice.verify(Item(text=r"\boxed{A}", gold="A"), options=options)
        assert verdict.status == "unscored"


def test_a_gold_passes_itself() -> None:
    for letter in "ABCDEFGHIJ":
        item = Item(text=choice.as_completion(letter), gold=letter)
        assert choice.verify(item).status == "pass"
