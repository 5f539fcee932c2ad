"""General data, the mixture, and training sets without benchmarks: what goes, and who says so."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from factory.errors import UsageError
from factory.records import Prompt, PromptSource
from factory.sets.mixtures import R1_TABLE_5
from factory.store import Store
from pipelines.common import Pair
from pipelines.decontamination import Decontamination, Guard, report_lines
from pipelines.general import (
    General,
    Mixture,
    composition_lines,
    general_rows,
    is_trivial,
    row_of,
    table_domain,
    write_mixture,
)

THINKING = "<think>\nThe person wants a colour. Blue is one.\n</think>\n\nBlue."


def pair(text: str, **fields: Any) -> Pair:
    prompt = Prompt.of(text)
    own = {"source": "t", "item": text, **fields}
    return prompt, PromptSource(prompt_id=prompt.prompt_id, **own)


class Model:
    """Answers in this process, and remembers what it was asked."""

    model, revision, template = "teacher", "r1", None

    def __init__(self, reply: Any) -> None:
        self.reply, self.asked = reply, []

    def run(self, requests: Any, on_partial: Any = None) -> Any:
        for request in requests:
            if request is None:
                yield None
                continue
            text = Prompt(messages=request.messages).text
            self.asked.append(text)
            answer, reason = self.reply(text)
            yield request.trace(answer, finish_reason=reason)

    def cancel(self, trace_ids: Any) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("text", "trivial"),
    [
        ("hello", True), ("Hi!", True), ("Thank you.", True), ("你好！", True), ("谢谢", True),
        ("who are you?", True), ("ok then", True), ("Why?", False), ("你是谁写的", False),
        ("Write a poem about the sea.", False), ("解释黑洞", False),
        ("hi there, fix my code", False),
    ],
)  # fmt: skip
def test_a_trivial_query_is_a_greeting_or_next_to_nothing(text: str, trivial: bool) -> None:
    assert is_trivial(text, max_words=2) is trivial


def test_a_model_thinks_where_it_helps_and_not_about_hello(tmp_path: Path) -> None:
    def reply(text: str) -> tuple[str, str]:
        if "cut" in text:
            return "<think>\nand on and on", "length"
        return ("" if "nothing" in text else THINKING), "stop"

    pairs = [
        pair("Name a colour that is cold.", domain="qa"), pair("hello", domain="qa"),
        pair("Translate 'blue' into German.", domain="translation"),
        pair("Please cut this.", domain="qa"), pair("Say nothing at all.", domain="qa"),
    ]  # fmt: skip
    model, store = Model(reply), Store(tmp_path / "data")
    rows, dropped = general_rows(General(), pairs, store=store, engine=lambda: model)
    said = {r["prompt"][-1]["content"]: r["completion"][0]["content"] for r in rows}
    assert said == {
        "Name a colour that is cold.": THINKING,
        "hello": "Blue.",
        "Translate 'blue' into German.": THINKING,
    }, "the row holds the prompt itself, not how the teacher was asked"
    assert dropped == Counter({"cut off": 1, "empty": 1})
    thought = [text for text in model.asked if "<think>" in text]
    assert len(thought) == 3
    assert "hello" in model.asked
    assert "Translate 'blue' into German." in model.asked
    general_rows(General(), pairs, store=store, engine=lambda: model)
    assert len(model.asked) == 5, "nothing is asked twice"


def test_an_own_set_is_taken_with_its_domains_and_without_doubles(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    own = [
        {"prompt": "Name a cold colour.", "completion": THINKING, "domain": "writing"},
        {"prompt": "Name a cold colour.", "completion": THINKING},
        {"prompt": "hi", "completion": [{"role": "assistant", "content": THINKING}]},
        {"prompt": "Tell me all.", "completion": "word " * 50},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in own))
    values = General(rows=path, max_words=20)
    rows, dropped = general_rows(
        values, [], store=Store(tmp_path / "data"), engine=lambda: pytest.fail("asked")
    )
    assert [(r["domain"], r["completion"][0]["content"]) for r in rows] == [
        ("writing", THINKING), ("general", "Blue."),
    ]  # fmt: skip
    assert dropped == Counter({"double": 1, "too long": 1})
    with pytest.raises(UsageError, match="no general data"):
        general_rows(General(), [], store=Store(tmp_path / "data"), engine=lambda: Model(None))


@pytest.mark.parametrize(
    ("fields", "domain"),
    [
        ({"gold": "4", "verifier": "math"}, "math"), ({"gold": "C"}, "stem"),
        ({"gold": '{"test_cases": []}'}, "code"), ({"gold": "x", "verifier": "logic"}, "logic"),
        ({"domain": "writing"}, "general"), ({"gold": "A", "domain": "logic"}, "logic"),
        ({"gold": "x", "verifier": "own.py"}, "general"),
    ],
)  # fmt: skip
def test_a_prompts_domain_in_table_5(fields: dict[str, Any], domain: str) -> None:
    assert table_domain(pair("?", **fields)[1]) == domain


def test_the_mixture_has_table_5s_shares_and_says_what_it_holds(tmp_path: Path) -> None:
    verifiers = {"math": "math", "code": "code", "stem": "choice", "logic": "logic"}
    pairs = [
        pair(f"{d} {i}", gold="4", verifier=v)
        for d, v in verifiers.items() for i in range(400 if d in ("stem", "logic") else 3000)
    ]  # fmt: skip
    sets = {"reasoning": tmp_path / "r.jsonl", "general": tmp_path / "g.jsonl"}
    reasoning = [row_of(p.messages, "x" * 7, None) for p, _ in pairs]
    general = [row_of(Prompt.of(f"say {i}").messages, "xyz", "writing") for i in range(3000)]
    for path, rows in ((sets["reasoning"], reasoning), (sets["general"], general)):
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    out = tmp_path / "mixed.jsonl"
    made = write_mixture(Mixture(total=5000), sets, pairs, out=out, count=len, seed=0)
    whole = sum(n for n, _ in R1_TABLE_5.values())
    shares = {r["domain"]: r["share"] for r in made}
    assert made[-1]["rows"] == 5000
    for domain, (n, _) in R1_TABLE_5.items():
        assert shares[domain] == pytest.approx(n / whole, abs=0.005)
    assert {r["domain"]: r["tokens"] for r in made}["general"] == 3
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert Counter(r["domain"] for r in rows) == {r["domain"]: r["rows"] for r in made[:-1]}
    text = "\n".join(composition_lines(made))
    assert "804,745" in text
    assert "5,355.3" in text
    # Without code the others keep their proportions.
    no_code = [p for p in pairs if not p[0].text.startswith("code")]
    sets["reasoning"].write_text(
        "".join(json.dumps(r) + "\n" for r in reasoning if "code" not in r["prompt"][0]["content"])
    )
    rest = write_mixture(Mixture(total=1000), sets, no_code, out=out, count=len, seed=0)
    found = {r["domain"]: r["share"] for r in rest}
    assert found["math"] / found["general"] == pytest.approx(395_285 / 177_812, rel=0.02)


PLANTED = (
    "A farmer walks forty two miles along the river before noon and then turns back toward home"
)


def test_planted_benchmark_problems_are_gone_from_every_set_and_named(tmp_path: Path) -> None:
    extra = tmp_path / "extra.jsonl"
    extra.write_text(
        json.dumps({"problem": "Seven green lanterns hang above the old stone bridge of the town."})
    )
    evaluated = {"eval": [pair(f"{PLANTED}; how far is it?")], "dev": [pair("What is 3 + 4 × 5?")]}
    guard = Guard(Decontamination(against=(str(extra),)), evaluated, folder=tmp_path / "found")
    clean = [pair(f"Problem {i}: add {i} and {i + 1} apples in a basket.") for i in range(20)]
    planted = [
        pair(f"Last year: {PLANTED}. When?"),
        pair("What is 3 + 4 × 5?"),
        pair("Seven green lanterns hang above the old stone bridge of the town. Why?"),
    ]
    for name in ("rl", "cold_start", "rejection", "general"):
        kept = guard.pairs(name, [*clean[:7], *planted, *clean[7:]])
        assert kept == clean, name
    rows = tmp_path / "m-reasoning.jsonl"
    good = row_of(Prompt.of("Add 2 and 2.").messages, "<think>\nfour\n</think>\n\n4", "math")
    bad = row_of(Prompt.of("Remember.").messages, f"<think>\n{PLANTED}\n</think>\n\n42", "math")
    rows.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    guard.rows(rows)
    assert [json.loads(line) for line in rows.read_text().splitlines()] == [good]
    report = "\n".join(report_lines(tmp_path / "found"))
    for name in ("rl", "cold_start", "rejection", "general"):
        assert f"{name}: 3 of 23 rows hold a part of a benchmark" in report
    assert "m-reasoning: 1 of 2 rows" in report
    assert "1 of eval" in report
    assert f"1 of {extra}" in report


def test_what_is_dated_too_late_goes_and_what_has_no_date_is_counted(tmp_path: Path) -> None:
    values = Decontamination(before=date(2023, 1, 1))
    guard = Guard(values, {"eval": [pair("What is 3 + 4 × 5?")]}, folder=tmp_path)
    dates = ["2022-12-31", "2023-01-01", "2024-05", None, "unknown", "2024-05-06T10:00:00"]
    pairs = [pair(f"Question {i}", meta={"date": d}) for i, d in enumerate(dates)]
    kept = [p.text for p, _ in guard.pairs("rl", pairs)]
    assert kept == ["Question 0", "Question 2", "Question 3", "Question 4"]
    (line,) = [x for x in report_lines(tmp_path) if x.startswith("- rl")]
    assert "2 dated too late, 3 without a date stay" in line
