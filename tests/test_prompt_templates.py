"""Prompt templates: what is asked for is what the options of the verifier look for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from distill.templates import R1_ZERO
from factory.errors import ConfigError, UsageError
from factory.records import Item, Prompt, PromptSource
from factory.sources import template
from factory.stages.checker import Checker


def pair(verifier: str, gold: str, **options: Any) -> tuple[Prompt, PromptSource]:
    prompt = Prompt.of("What is 2+2?", system="You are terse.")
    source = PromptSource(
        prompt_id=prompt.prompt_id, source="s", item="1", gold=gold, verifier=verifier,
        options=options,
    )  # fmt: skip
    return prompt, source


OBEDIENT = [
    # template, verifier, gold, options, an answer as the template demands it, a wrong one
    ("plain", "math", "4", {}, "The answer is 4.", "The answer is 5."),
    ("boxed", "math", "4", {}, "So \\boxed{4}", "So \\boxed{5}"),
    ("boxed", "choice", "B", {"options": ["1", "4"]}, "\\boxed{B}", "\\boxed{A}"),
    ("r1", "math", "4", {}, "<think>\n2+2\n</think>\n\n\\boxed{4}",
     "<think>\n\\boxed{4}\n</think>"),
    ("r1_zero", "math", "4", {}, "<think> 2+2 </think> <answer> 4 </answer>",
     "<think> 4 </think> <answer> 5 </answer>"),
    ("answer_line", "math", "4", {}, "I add.\nAnswer: 4", "I add.\nAnswer: 5"),
    ("choice", "choice", "B", {"options": ["1", "4"]}, "I think.\nANSWER: B", "ANSWER: A"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "verifier", "gold", "options", "right", "wrong"), OBEDIENT)
def test_an_obedient_answer_passes_and_a_wrong_one_fails(
    name: str, verifier: str, gold: str, options: dict[str, Any], right: str, wrong: str
) -> None:
    prompt, source = template.load(name).apply(*pair(verifier, gold, **options))
    assert source.prompt_id == prompt.prompt_id
    assert "What is 2+2?" in prompt.text
    checker = Checker(verifier)
    items = [Item(text=t, gold=gold, messages=prompt.messages) for t in (right, wrong)]
    found = checker.check(items, [source.options] * 2)
    assert [v.status for v in found] == ["pass", "fail"]


def test_every_template_loads_and_serves_a_verifier() -> None:
    for name in template.names():
        made = template.load(name)
        assert made.about
        assert made.verifiers


def test_choices_are_asked_for_by_as_many_letters_as_there_are() -> None:
    prompt, _ = template.load("choice").apply(*pair("choice", "E", options=list("vwxyz")))
    assert "one of ABCDE." in prompt.text


def test_the_r1_zero_template_is_the_papers() -> None:
    prompt, _ = template.load("r1_zero").apply(*pair("math", "4"))
    assert prompt.text == R1_ZERO.replace("{prompt}", "What is 2+2?")


def test_a_template_that_does_not_serve_the_verifier_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not ask for what the verifier 'code'"):
        template.load("boxed").apply(*pair("code", "{}"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prompt: hello\nverifiers: {math: {}}", "has no {prompt}"),
        ("dialect: martian\nverifiers: {math: {}}", "unknown dialect 'martian'"),
        ("verifiers: math", "write {math"),
        ("colour: red\nverifiers: {math: {}}", "colour"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        template.load(str(path))


def test_an_unknown_template_names_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="known: answer_line, boxed"):
        template.load("boxd")


def test_a_source_of_files_is_asked_by_a_template(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(orjson.dumps({"question": "2+2?", "answer": "4", "verifier": "math"}))
    found = list(template.open_source("files", {"paths": str(path), "template": "boxed"}))
    assert found[0][0].text.endswith("within \\boxed{}.")
    assert found[0][1].options["mode"] == "boxed"
    with pytest.raises(UsageError, match="see its docstring"):
        list(template.open_source("files", {"pathz": "x"}))
