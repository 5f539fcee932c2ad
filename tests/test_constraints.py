"""Verdicts of the constraints verifier: every IFEval type, followed and not."""
# ruff: noqa: E501 - one case, one line

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from factory.records import Item, Verdict
from factory.verifiers import constraints
from factory.verifiers.constraints.checks import CHECKS

DATA = Path(__file__).parents[2] / "shared" / "data"
ENGLISH = "this is a plain sentence about the weather in the north"
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    # (type, kwargs, a text that follows, one that does not)
    ("keywords:existence", {"keywords": ["sun", "a.b"]}, "The Sun and a.b", "The sun and axb"),
    ("keywords:frequency", {"keyword": "war", "frequency": 2, "relation": "at least"}, "War, war.", "war"),
    ("keywords:frequency", {"keyword": "war", "frequency": 2, "relation": "less than"}, "war", "war war"),
    ("keywords:forbidden_words", {"forbidden_words": ["cook"]}, "He cooks.", "He will Cook it."),
    ("keywords:letter_frequency", {"letter": "!", "let_frequency": 2, "let_relation": "at least"}, "a! b!", "a!"),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 1, "let_relation": "less than"}, "none", "Quick"),
    ("language:response_language", {"language": "de"}, "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter.", "This is an ordinary English sentence."),
    ("language:response_language", {"language": "hi"}, "यह मौसम के बारे में एक साधारण हिंदी वाक्य है।", "Not Hindi at all, this one."),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 3}, "One. Two.", "One. Two! Three?"),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2}, "Dr. No paid 3.50. Then he left.", "Dr. No paid 3.50."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo", "One\n\nTwo"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\nOne\n***\nTwo\n***", "One\n***\n***\nTwo"),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "one two three", "one two"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}, "One.\n\n\"Then, two.", "One.\n\nTwo then."),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "one"}, "One\n\nTwo", "One\n\nTwo\n\nThree"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] and [address]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. More.", "Bye. PS more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S. More.", "Bye.\nP.S. More."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "My answer: maybe"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a b* and *c*", "*a* and **"),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2}, "SECTION 1\na\nSECTION 2\nb", "SECTION 1\na"),
    ("detectable_format:json_format", {}, "```json\n{\"a\": [1]}\n```", "{a: 1}"),
    ("detectable_format:title", {}, "<<A title>>\nText", "<< >> text"),
    ("combination:two_responses", {}, "One\n******\nTwo", "One\n******\nOne"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it.\nIt.", "It. Say it."),
    ("startend:end_checker", {"end_phrase": "Anything else?"}, "Done. Anything ELSE?", "Anything else? No."),
    ("startend:quotation", {}, '"All of it."', '"Not" all'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "NASA and ESA", "NASA and Esa"),
    ("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "less than"}, "none here", "ONE here"),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH.capitalize()),
    ("change_case:english_lowercase", {}, ENGLISH, ENGLISH.capitalize()),
    ("punctuation:no_comma", {}, "a b", "a, b"),
]  # fmt: skip


def judge(text: str, *pairs: tuple[str, Any], **options: Any) -> Verdict:
    gold = {"instruction_ids": [name for name, _ in pairs], "kwargs": [k for _, k in pairs]}
    return constraints.verify(Item(text=text, gold=gold), **options)


@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), CASES)
def test_type(name: str, kwargs: dict[str, Any], good: str, bad: str) -> None:
    assert judge(good, (name, kwargs)).status == "pass"
    verdict = judge(bad, (name, kwargs))
    assert (verdict.status, verdict.reason, verdict.extracted) == ("fail", "not_followed", name)


def test_every_type_has_a_case() -> None:
    assert {name for name, *_ in CASES} == set(CHECKS)
    assert len(CHECKS) == 25


def test_all_of_several_have_to_be_followed() -> None:
    two = (("punctuation:no_comma", {}), ("change_case:english_lowercase", {}))
    assert judge(ENGLISH, *two).status == "pass"
    assert judge(ENGLISH.upper(), *two).extracted == "change_case:english_lowercase"


def test_the_thinking_does_not_count() -> None:
    assert judge("<think>\na, b\n</think>\n\na b", ("punctuation:no_comma", {})).status == "pass"
    assert (
        judge("<think>\na b\n</think>\n\n", ("punctuation:no_comma", {})).reason == "empty_answer"
    )


def test_loose_takes_a_line_away() -> None:
    text = 'Sure, here it is:\n"All of it."'
    assert judge(text, ("startend:quotation", {})).status == "fail"
    assert judge(text, ("startend:quotation", {}), loose=True).status == "pass"


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        (None, "bad_gold"), ("", "bad_gold"), ("[]", "bad_gold"), ({"x": 1}, "bad_gold"),
        ({"instruction_ids": []}, "bad_gold"),
        ({"instruction_ids": ["punctuation:no_comma"], "kwargs": [{}, {}]}, "bad_gold"),
        ({"instruction_ids": ["keywords:existence"], "kwargs": [{}]}, "bad_gold"),
        ({"instruction_ids": ["length_constraints:number_words"], "kwargs": [{"relation": "about", "num_words": 5}]}, "bad_gold"),
        ({"instruction_ids": ["be:nice"], "kwargs": [{}]}, "unknown_instruction"),
    ],
)  # fmt: skip
def test_a_bad_gold_is_ours(gold: object, reason: str) -> None:
    verdict = constraints.verify(Item(text="some text", gold=gold))
    assert (verdict.status, verdict.reward, verdict.reason) == ("unscored", None, reason)


def test_nulls_of_other_types_are_left_out() -> None:
    gold = {
        "instruction_ids": ["punctuation:no_comma"],
        "kwargs": [{"num_words": None, "relation": None}],
    }
    assert constraints.verify(Item(text="a b", gold=json.dumps(gold))).status == "pass"


def test_every_real_prompt_can_be_judged() -> None:
    path = DATA / "prompts_ifeval.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the project")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    text = "Here is a short answer, in plain English. It has two sentences."
    statuses = {
        row["id"]: constraints.verify(
            Item(
                text=text, gold={"instruction_ids": row["instruction_ids"], "kwargs": row["kwargs"]}
            )
        ).status
        for row in rows
    }
    # each asks to repeat a request that holds what the same request forbids
    unscored = {key for key, status in statuses.items() if status == "unscored"}
    assert unscored == {"if-3369", "if-3371", "if-3718", "if-374"}
    assert "pass" in statuses.values()
    assert "fail" in statuses.values()


def words(relation: str, n: int) -> tuple[str, dict[str, object]]:
    return "length_constraints:number_words", {"relation": relation, "num_words": n}


PARAGRAPH = "length_constraints:nth_paragraph_first_word"
BAD = [
    ("vacuous", [words("at least", 0)]),
    ("vacuous", [("length_constraints:number_sentences", {"relation": "at least", "num_sentences": -1})]),
    ("vacuous", [("detectable_content:number_placeholders", {"num_placeholders": 0})]),
    ("vacuous", [("detectable_format:number_highlighted_sections", {"num_highlights": 0})]),
    ("vacuous", [("combination:repeat_prompt", {"prompt_to_repeat": " "})]),
    ("vacuous", [("startend:end_checker", {"end_phrase": ""})]),
    ("vacuous", [("keywords:existence", {"keywords": []})]),
    ("vacuous", [("keywords:existence", {"keywords": ["a", ""]})]),
    ("vacuous", [("keywords:forbidden_words", {"forbidden_words": []})]),
    ("vacuous", [("keywords:frequency", {"keyword": "", "frequency": 2, "relation": "at least"})]),
    ("vacuous", [("keywords:frequency", {"keyword": "a", "frequency": 0, "relation": "at least"})]),
    ("unreadable", [("keywords:letter_frequency", {"letter": "ab", "let_frequency": 1, "let_relation": "at least"})]),
    ("unreadable", [("language:response_language", {"language": "xx"})]),
    ("impossible", [words("less than", 1)]),
    ("impossible", [("length_constraints:number_paragraphs", {"num_paragraphs": 0})]),
    ("impossible", [(PARAGRAPH, {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"})]),
    ("impossible", [(PARAGRAPH, {"num_paragraphs": 2, "nth_paragraph": 0, "first_word": "a"})]),
    ("impossible", [(PARAGRAPH, {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a b"})]),
    ("contradictory", [words("at least", 100), words("less than", 50)]),
    ("contradictory", [words("less than", 50), words("at least", 50)]),
    ("contradictory", [("change_case:english_lowercase", {}), ("change_case:english_capital", {})]),
    ("contradictory", [("change_case:english_capital", {}), ("language:response_language", {"language": "de"})]),
    ("contradictory", [("keywords:existence", {"keywords": ["art"]}), ("keywords:forbidden_words", {"forbidden_words": ["Art"]})]),
    ("contradictory", [("punctuation:no_comma", {}), ("startend:end_checker", {"end_phrase": "Yes, please."})]),
    ("contradictory", [("keywords:existence", {"keywords": ["a,b"]}), ("punctuation:no_comma", {})]),
    ("contradictory", [("length_constraints:number_paragraphs", {"num_paragraphs": 2}), ("length_constraints:number_paragraphs", {"num_paragraphs": 3})]),
    (None, [words("at least", 50), words("less than", 100)]),
    (None, [("keywords:existence", {"keywords": ["party"]}), ("keywords:forbidden_words", {"forbidden_words": ["art"]})]),
    (None, [("detectable_format:number_bullet_lists", {"num_bullets": 0})]),
    (None, [("keywords:frequency", {"keyword": "a", "frequency": 1, "relation": "less than"})]),
    (None, [("change_case:english_capital", {}), ("language:response_language", {"language": "en"})]),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "instructions"), BAD)
def test_a_gold_that_asks_nothing_or_too_much_is_bad(
    fault: str | None, instructions: list[tuple[str, dict[str, object]]]
) -> None:
    gold = {"instruction_ids": [n for n, _ in instructions], "kwargs": [k for _, k in instructions]}
    verdict = constraints.verify(Item(text="Some words.", gold=gold))
    if fault is None:
        assert verdict.status in ("pass", "fail")
    else:
        assert (verdict.status, verdict.reward) == ("unscored", None)
        assert (verdict.reason or "").startswith(f"bad_gold: {fault}: ")
