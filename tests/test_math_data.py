"""Math against public rows: agreement with their labels, no false accepts across problems."""

from __future__ import annotations

import asyncio
import gzip
import json
import multiprocessing
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from factory.records import Item
from factory.verifiers import math
from factory.verifiers.math.text import plain_number, without_delimiters

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
GOLDEN = json.loads((Path(__file__).parent / "golden" / "math_differences.json").read_text())
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason="needs the public rows in ../shared/data beside the repository"
)


def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def differences(found: list[dict[str, Any]], *, text: str, label: str) -> set[str]:
    """Ids of the rows whose label our verdict does not follow."""
    return {
        row["id"]
        for row in found
        if (status(Item(text=row[text], gold=row["gold"])) == "pass") != row[label]
    }


def status(item: Item) -> str:
    return (math.quick(item, mode="auto") or math.verify(item, mode="auto")).status


@needs_data
def test_agreement_on_model_outputs() -> None:
    labelled = [r for r in rows("math_model_outputs") if r["label"] is not None]
    wrong = differences(labelled, text="output", label="label")
    assert len(wrong) <= 0.005 * len(labelled)
    assert wrong == set(GOLDEN["math_model_outputs"])


@pytest.mark.slow
@needs_data
def test_agreement_on_the_cases_of_ten_graders() -> None:
    cases = [r for r in rows("math_grade_cases") if r["kind"] == "math"]
    plain = [r for r in cases if not r["dispute"] and not r["options"]]
    wrong = differences(plain, text="prediction", label="expected")
    assert len(wrong) <= 0.03 * len(plain)
    assert wrong == set(GOLDEN["math_grade_cases"])
    policy = [r for r in cases if r["dispute"] or r["options"]]
    assert differences(policy, text="prediction", label="expected") == set(
        GOLDEN["math_grade_cases_policy"]
    )


@needs_data
def test_agreement_on_r1_traces_as_audited() -> None:
    found = rows("traces_r1_math500")
    for row in found:
        row["truth"] = row["label"] if row["audit_label"] is None else row["audit_label"]
    assert differences(found, text="raw", label="truth") == set(GOLDEN["traces_r1_math500"])


def golds() -> list[str]:
    names = ("prompts_math_en", "prompts_math_zh", "math_model_outputs", "math_grade_cases")
    found = {
        str(r["gold"])
        for n in names
        for r in rows(n)
        if r.get("gold") and r.get("kind", "math") == "math" and "boxed{}" not in r["gold"]
    }
    return sorted(found)


@needs_data
def test_every_gold_passes_itself() -> None:
    failing = [g for g in golds() if status(Item(text=math.as_completion(g), gold=g)) != "pass"]
    assert failing == []


@needs_data
@pytest.mark.parametrize("n_pairs", [4000, pytest.param(24_000, marks=pytest.mark.slow)])
def test_the_gold_of_another_problem_is_not_accepted(n_pairs: int) -> None:
    """Golds of two problems may be one answer written twice: about 1 pair in 2,500 here."""
    everything = golds()
    hard = [g for g in everything if plain_number(without_delimiters(g)) is None]
    rng = random.Random(0)
    accepted = []
    for _ in range(n_pairs):
        gold, other = rng.choice(hard), rng.choice(hard if rng.random() < 0.7 else everything)
        verdict = math.quick(Item(text=math.as_completion(other), gold=gold))
        if gold != other and verdict is not None and verdict.status == "pass":
            accepted.append((gold, other))
    assert len(accepted) <= max(4, n_pairs / 1000)


def _mixed() -> list[Item]:
    answers = (r"\frac{1}{2}", "0.5", "3,5", r"\sqrt{8}", "(1,2]", "x>2", "", r"9^{9^9}", "x^2-1")
    gold_list = ("1/2", "{3,5}", r"2\sqrt2", r"(2,\infty)", "(x-1)(x+1)", "5", "see figure")
    return [Item(text=f"\\boxed{{{a}}}", gold=g) for g in gold_list for a in answers]


def _statuses(_: object = None) -> list[tuple[str, str | None]]:
    verdicts = [math.quick(i) or math.verify(i) for i in _mixed()]
    return [(v.status, v.decided_by) for v in verdicts]


def test_verdicts_are_the_same_from_threads_and_asyncio() -> None:
    here = _statuses()
    with ThreadPoolExecutor(8) as pool:
        assert all(found == here for found in pool.map(_statuses, range(8)))

    async def run() -> list[list[tuple[str, str | None]]]:
        return await asyncio.gather(*(asyncio.to_thread(_statuses) for _ in range(4)))

    assert all(found == here for found in asyncio.run(run()))


@pytest.mark.slow
def test_verdicts_are_the_same_in_a_spawned_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_statuses) == _statuses()
