"""Benchmarks: an obedient answer in each one's own words passes, a wrong one fails."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from factory.errors import UsageError
from factory.records import Item, PromptSource
from factory.sources import benchmark
from factory.sources.benchmarks import NOT_OFFERED, load, names
from factory.stages.checker import Checker
from factory.stages.overlap import benchmark_items
from tests.helpers_benchmarks import CHOICE, CODE, JUDGED, MATH, OTHERS, packed

ALL = {n: rows for table in (MATH, CHOICE, OTHERS, CODE) for n, (rows, _) in table.items()} | JUDGED


def _file(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    return path


def _pairs(tmp_path: Path, name: str, rows: list[dict[str, Any]], **options: Any) -> list[Any]:
    return list(benchmark.prompts(name, path=_file(tmp_path, rows), **options))


def _statuses(sources: list[PromptSource], texts: list[str]) -> list[str]:
    checker = Checker(sources[0].verifier or "", n_workers=1)
    items = [Item(text=t, gold=s.gold) for s, t in zip(sources, texts, strict=True)]
    return [v.status for v in checker.check(items, [s.options for s in sources])]


def test_every_benchmark_has_its_table() -> None:
    assert set(ALL) == set(names())
    assert all(len(rows) == 10 for rows in ALL.values())


def test_the_papers_twenty_one_are_all_named() -> None:
    here = [n for n in names() if load(n).of_paper]
    assert len(here) + len(NOT_OFFERED) == 21
    for name, why in NOT_OFFERED.items():
        with pytest.raises(UsageError, match="is not offered"):
            load(name)
        assert why


@pytest.mark.parametrize("name", [*MATH, *OTHERS, *CODE])
def test_an_obedient_answer_passes_and_a_wrong_one_fails(tmp_path: Path, name: str) -> None:
    rows, answer = ({**MATH, **OTHERS, **CODE})[name]
    pairs = _pairs(tmp_path, name, rows)
    sources = [source for _, source in pairs]
    answers = [answer(row, i) for i, row in enumerate(rows)]
    assert _statuses(sources, [right for right, _ in answers]) == ["pass"] * 10
    assert _statuses(sources, [wrong for _, wrong in answers]) == ["fail"] * 10
    assert _statuses(sources, [""] * 10) == ["fail"] * 10
    assert len({prompt.prompt_id for prompt, _ in pairs}) == 10


@pytest.mark.parametrize("name", CHOICE)
def test_a_letter_in_the_demanded_form_passes(tmp_path: Path, name: str) -> None:
    rows, answer = CHOICE[name]
    sources = [source for _, source in _pairs(tmp_path, name, rows)]
    golds = [str(s.gold) for s in sources]
    others = ["B" if g == "A" else "A" for g in golds]
    said = [answer(g, o, i) for i, (g, o) in enumerate(zip(golds, others, strict=True))]
    assert _statuses(sources, [right for right, _ in said]) == ["pass"] * 10
    assert _statuses(sources, [wrong for _, wrong in said]) == ["fail"] * 10


@pytest.mark.parametrize("name", ALL)
def test_the_prompt_asks_for_what_is_checked(tmp_path: Path, name: str) -> None:
    b = load(name)
    (prompt, source), *_ = _pairs(tmp_path, name, ALL[name])
    (bare, _), *_ = _pairs(tmp_path, name, ALL[name], asked=False)
    assert bare.text in prompt.text
    asks = {"r1": "\\boxed{}", "r1_zh": "\\boxed{}", "choice": "'ANSWER: $LETTER'",
            "choice_is": '"The answer is (X)"', "choice_json": '"answer": "___"',
            "choice_zh": "“答案：X”", "answer_line": '"Answer: $ANSWER"', "code": "```python",
            "plain": bare.text}  # fmt: skip
    assert asks[b.template] in prompt.text
    assert (source.verifier is None) == b.needs_judge
    # The paper's number of samples and room are on record for each.
    assert b.k in (4, 8, 16, 64)


def test_options_are_shuffled_by_a_seed_that_is_part_of_the_key(tmp_path: Path) -> None:
    rows, _ = CHOICE["gpqa-diamond"]
    golds = set()
    for seed in range(8):
        ((prompt, source),) = _pairs(tmp_path, "gpqa-diamond", rows[:1], seed=seed)
        again = _pairs(tmp_path, "gpqa-diamond", [rows[3], rows[0]], seed=seed)[1][0]
        assert prompt.prompt_id == again.prompt_id  # whatever the row's place
        assert source.options["options"]["ABCD".index(source.gold)] == "red"
        assert f"{source.gold}) red" in prompt.text
        assert source.source.endswith(f"@seed{seed}")
        golds.add(source.gold)
    assert len(golds) > 1


def test_a_window_of_dates_takes_the_problems_of_those_days(tmp_path: Path) -> None:
    rows = ALL["livecodebench"]
    found = _pairs(tmp_path, "livecodebench", rows, since="2024-03-01", until="2024-05-31")
    assert [s.item for _, s in found] == ["2", "3", "4"]
    with pytest.raises(UsageError, match="no rows, 10 outside of the dates"):
        _pairs(tmp_path, "livecodebench", rows, since="2030-01-01")
    with pytest.raises(UsageError, match="have no dates"):
        _pairs(tmp_path, "math500", ALL["math500"], since="2024-01-01")


def test_a_release_is_its_files(tmp_path: Path) -> None:
    for number, file_name in enumerate(("test.jsonl", "test2.jsonl", "test3.jsonl")):
        row = ALL["livecodebench"][number]
        (tmp_path / file_name).write_text(json.dumps(row) + "\n")
    found = list(benchmark.prompts("livecodebench", path=tmp_path, release="release_v2"))
    assert [s.source for _, s in found] == [
        f"livecodebench:{tmp_path.name}/test.jsonl", f"livecodebench:{tmp_path.name}/test2.jsonl"
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no release 'release_v9'"):
        list(benchmark.prompts("livecodebench", path=tmp_path, release="release_v9"))


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("ran",))


def test_a_pickle_that_would_run_code_is_never_loaded(
    tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {**ALL["livecodebench"][1], "private_test_cases": packed(_Evil())}
    monkeypatch.setattr(pickle, "loads", lambda *a: pytest.fail("a pickle was loaded"))
    ((_, source),) = _pairs(tmp_path, "livecodebench", [row])
    assert _statuses([source], ["```python\nprint(1)\n```"]) == ["unscored"]
    assert "ran" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("mmlu-redux", {"error_type": "wrong_groundtruth"}, "wrong_groundtruth"),
        ("codeforces", {"generated_checker": "def check(): ..."}, "needs_a_checker"),
        ("codeforces", {"interaction_format": "Ask."}, "interactive"),
        ("codeforces", {"official_tests_complete": False}, "tests_are_cut"),
    ],
)
def test_what_is_left_out_is_counted_by_reason(
    tmp_path: Path, name: str, change: dict[str, Any], why: str
) -> None:
    first, *rest = ALL[name]
    left_out: Counter[str] = Counter()
    assert len(_pairs(tmp_path, name, [{**first, **change}, *rest], left_out=left_out)) == 9
    assert left_out == {why: 1}


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [
        ("nope", {}, "unknown benchmark 'nope': known: aime24"),
        ("math500", {"text": "?"}, "row 0 is no row of math500"),
        ("mmlu", {"question": "?", "choices": ["a", "b"], "answer": 7}, "option 7 of 2"),
        ("cluewsc", {"text": "?", "target": {}, "label": -1}, "label -1"),
        ("drop", {"passage": "p", "question": "?", "answer": {"number": ""}}, "no answer"),
    ],
)
def test_a_wrong_name_or_shape_is_named(
    tmp_path: Path, name: str, row: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        _pairs(tmp_path, name, [row])


# The official metric of DROP by hand: words in common, numbers first, spans one to one.
@pytest.mark.parametrize(
    ("gold", "answer", "status", "reward"),
    [
        ([["Denver Broncos"]], "the Broncos", "fail", 0.67),
        ([["12"], ["twelve men"]], "twelve", "fail", 0.67),
        ([["12 yards"]], "13 yards", "fail", 0.0),
        ([["Ann", "Bob"]], "Bob, Ann", "pass", 1.0),
        ([["Ann", "Bob"]], "Ann", "fail", 0.5),
        ([["1,000"]], "1000", "pass", 1.0),
        ([["3"]], "three", "fail", 0.0),
    ],
)
def test_spans_give_the_f1_of_words(
    gold: list[list[str]], answer: str, status: str, reward: float
) -> None:
    (verdict,) = Checker("spans").check([Item(text=f"Answer: {answer}", gold=json.dumps(gold))])
    assert (verdict.status, verdict.reward) == (status, reward)


def test_decontamination_looks_for_questions_without_their_instructions(tmp_path: Path) -> None:
    path = _file(tmp_path, ALL["humaneval"])
    found = benchmark_items(f"benchmark:humaneval={path}")
    assert len(found) == 10
    assert all("Complete this" in t and "Think step by step" not in t for t in found)
    worked = "We count the three apples and then the seven pears of the two baskets.\n#### 10"
    path = _file(tmp_path, [{"question": "How many?", "answer": worked}])
    assert benchmark_items(f"benchmark:gsm8k={path}") == ["How many?", worked]


def test_the_command_lists_and_shows(tmp_path: Path, capsys: Any) -> None:
    from distill.cli import main

    assert main(["benchmarks"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in (*names(), *NOT_OFFERED))
    path = _file(tmp_path, ALL["gpqa-diamond"])
    assert main(["benchmarks", "gpqa-diamond", "--show", "--file", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "cc-by-4.0" in shown
    assert "'ANSWER: $LETTER'" in shown
    assert "questions       10" in shown
    assert main(["benchmarks", "gpqa-diamond", "--show", "--file", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["questions"] == 10
    assert found["licence"].startswith("cc-by-4.0 (gated")
    assert "ANSWER: $LETTER" in found["first"]["prompt"]
    assert main(["benchmarks", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [b["benchmark"] for b in listed["benchmarks"]] == list(names())
