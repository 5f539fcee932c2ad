"""Math: which answer counts, and when two answers are the same."""

from __future__ import annotations

import pytest

from factory.records import Item
from factory.verifiers import math

BOXES = [
    ("5", r"\boxed{3} then \boxed{5}", "pass", None, "the last box counts"),
    ("5", r"\boxed{5} then \boxed{3}", "fail", "wrong", "the last box counts"),
    ("5", r"5 is a number. \boxed{}", "fail", "empty_box", "an empty box is no answer"),
    ("5", r"\boxed{5} and then \boxed{7", "fail", "unterminated_box", "the last box never ends"),
    ("5", "The question mentions 5", "fail", "no_box", "no box in mode boxed"),
    ("5", r"<think>\boxed{5}</think> I refuse.", "fail", "no_box", "a box only in the thinking"),
    ("5", r"<think>\boxed{5}", "fail", "no_box", "the thinking never ended"),
    ("5", r"\boxed{1,2,3,4,5}", "fail", "wrong", "a list of guesses"),
    ("1, 2", r"\boxed{2} and \boxed{1}", "pass", None, "boxes in a row are a set"),
    ("5", r"\boxed{1}, \boxed{5}", "fail", "wrong", "two boxes are two answers"),
    ("5", r"\boxed{4} <!-- \boxed{5} -->", "fail", "wrong", "a comment is not shown"),
    ("5", r"\boxed{5} <!-- \boxed{4} -->", "pass", None, "a comment is not shown"),
    ("5", "\\boxed{5}\n% \\boxed{4}", "pass", None, "a comment of LaTeX is not shown"),
    ("5", r"Give a box, e.g. $\boxed{5}$. I cannot.", "fail", "no_box", "a box as an example"),
    ("5", "\\boxed{4}\n\nQuestion: 2+3?\n\\boxed{5}", "fail", "wrong", "the next question"),
    ("5", "Question: 2+3?\nIt is \\boxed{5}", "pass", None, "the question said again"),
    ("5", r"<think>a</think>\boxed{4}<think>\boxed{5}", "fail", "wrong", "thinking once more"),
    ("5", r"<think>a</think>\boxed{5}<|im_end|>\boxed{4}", "pass", None, "behind the end"),
    ("5", r"[THINK]\boxed{5}[/THINK] done", "fail", "no_box", "thinking of another dialect"),
]


@pytest.mark.parametrize(("gold", "text", "status", "reason", "why"), BOXES)
def test_which_box_counts(gold: str, text: str, status: str, reason: str | None, why: str) -> None:
    verdict = math.verify(Item(text=text, gold=gold), mode="boxed")
    assert (verdict.status, verdict.reason) == (status, reason), why


@pytest.mark.parametrize(
    ("question", "gold", "answer", "status"),
    [
        ("Give $6_8 \\cdot 7_8$ in base $8.$", "52_8", "52", "pass"),
        ("Give $6_8 \\cdot 7_8$ in base $8.$", "52", "52_{\\text{eight}}", "pass"),
        ("Give $6_8 \\cdot 7_8$ in base $8.$", "52_8", "42", "fail"),
        ("Give $6_8 \\cdot 7_8$ in base $8.$", "52_8", "52_9", "fail"),
        ("The binary number 10101001110 in base eight?", "2516_8", "2516", "pass"),
        ("What is the base six equivalent of $999_{10}$?", "4343_6", "4343", "pass"),
        ("Give it in hexadecimal.", "\\text{1A}_{16}", "1A", "pass"),
        ("What is $1212_3$ in base 3, negative?", "-221_3", "-221", "pass"),
        ("What is $64_8$?", "52", "52_8", "fail"),  # decimal, nothing else is asked for
        ("What is the base-8 number 64 in base 10?", "52", "52_8", "fail"),
        ("", "52_8", "52", "fail"),
        ("Which term of base 2?", "x_2", "x", "fail"),
    ],
)
def test_digits_are_in_the_base_that_the_question_asks_for(
    question: str, gold: str, answer: str, status: str
) -> None:
    asked = ({"role": "user", "content": question},)
    verdict = math.verify(Item(text=f"\\boxed{{{answer}}}", gold=gold, messages=asked))
    assert verdict.status == status


def test_an_answer_cut_off_by_our_own_limit_may_be_left_unscored() -> None:
    cut = Item(text="<think>I begin", gold="5", finish_reason="length")
    assert math.verify(cut).status == "fail"
    assert math.verify(cut, truncated="unscored").status == "unscored"
    stopped = Item(text="<think>I begin</think>", gold="5", finish_reason="stop")
    assert math.verify(stopped, truncated="unscored").status == "fail"
    done = Item(text="\\boxed{4} and", gold="5", finish_reason="length")
    assert math.verify(done, truncated="unscored").status == "fail"


AUTO = [
    ("25", "It rises by 25%.\nA: 25", "pass", "GSM8K verifier form"),
    ("72", "so 48+24 = 72\n#### 72", "pass", "GSM8K form"),
    ("15", "Therefore, Ingrid drinks #### 15 gallons of water in 30 days.", "pass", "first number"),
    ("1/2", "The answer is $\\frac{1}{2}$, as wanted.", "pass", "formula after a cue"),
    ("9", "Thus, 196 has **9** positive divisors.", "pass", "bold in a conclusion"),
    ("192", "因此，开始之前的体重是192公斤。", "pass", "a concluding sentence"),
    ("14", '{"reasoning": "2 times 7", "answer": "14"}', "pass", "JSON"),
    ("4", "<answer>4</answer>", "pass", "answer tags"),
    ("4", "<Thought>2+2</Thought>\n<Output>4</Output>", "pass", "another family's tags"),
    (r"\frac{10}{9}", r"\frac{10}{9}", "pass", "a bare formula"),
    ("1000.99", "1,000.99€", "pass", "a bare amount"),
    (r"2\sqrt{2}", "We see that\n\\[\n\\sqrt{8} = 2\\sqrt{2}\n\\]", "pass", "worked out"),
    ("5", "The question mentions 5", "fail", "a number that concludes nothing"),
    ("5", r"the answer is 5. \boxed{}", "fail", "an empty box decides in every mode"),
    ("5", r"<think>the answer is 5</think>", "fail", "only in the thinking"),
    ("5", "<think>the answer is 5", "fail", "the thinking never ended"),
    ("5", "I cannot answer that.", "fail", "a refusal"),
    ("5", "#### Step 5: the rest", "fail", "a Markdown heading"),
    ("3", "The answer is 3 or 4.", "fail", "two answers"),
]


@pytest.mark.parametrize(("gold", "text", "status", "why"), AUTO)
def test_mode_auto_reads_a_final_answer(gold: str, text: str, status: str, why: str) -> None:
    assert math.verify(Item(text=text, gold=gold), mode="auto").status == status, why


@pytest.mark.parametrize("gold", [None, "", "  ", "see figure", r"\boxed{}", r"\frac{1}{", {}, "?"])
def test_a_gold_that_is_none_is_never_scored(gold: object) -> None:
    for text in (r"\boxed{5}", r"\boxed{see figure}", ""):
        verdict = math.verify(Item(text=text, gold=gold))
        assert verdict.status == "unscored"
        assert verdict.reward is None


OPINIONS = [
    ("off", r"\sqrt{8}", r"2\sqrt{2}", "pass", "value"),
    ("agree", r"\sqrt{8}", r"2\sqrt{2}", "pass", "value"),
    ("agree", "12", "12.0", "pass", "number"),
    ("agree", "(2,4)", "3", "fail", "type"),
    ("agree", "5 \\text{ m}", "500 \\text{ cm}", "unscored", "second_opinion"),
    ("lift", r"\frac{1}{3}", "0.3333333333333333", "pass", "second_opinion"),
    ("lift", r"\frac{1}{3}", "0.34", "fail", "value"),
    ("lift", "x + 1", "x + 2", "fail", "value"),
    ("lift", "5", "9^{9^{9^9}}", "fail", "caps"),
    ("lift", "5", "", "fail", "extract"),
    ("sure", "5", "5", "unscored", None),
]


@pytest.mark.parametrize(("option", "gold", "answer", "status", "step"), OPINIONS)
def test_a_second_opinion_is_an_option(
    option: str, gold: str, answer: str, status: str, step: str | None
) -> None:
    item = Item(text=f"\\boxed{{{answer}}}", gold=gold)
    verdict = math.verify(item, second_opinion=option)
    assert (verdict.status, verdict.decided_by) == (status, step)
    cheap = math.quick(item, second_opinion=option)
    assert cheap is None or cheap == verdict
