"""Preference pairs within the recipe: Dev3 answers, the judge compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill.preferences import Candidates, judged_pairs
from factory.engines.replay import Engine
from factory.errors import UsageError
from factory.records import Prompt, PromptSource, Sampling
from factory.store import Store
from pipelines.preference_pairs import PreferencePairs, preference_rows
from pipelines.rehearsal.engine import judged
from tests.helpers_judge import JudgeModel

VALUES = PreferencePairs(max_tokens=16, balance=1.0)


def prompts() -> list[Any]:
    out = []
    for i, (domain, gold) in enumerate([("qa", None)] * 3 + [("safety", None), ("math", "4")]):
        prompt = Prompt.of(f"Question {i}?")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source="t", item=str(i), domain=domain, gold=gold
        )
        out.append((prompt, source))
    return out


def answers(pairs: list[Any], second: str = "worse") -> Engine:
    texts = {"0": "better", "1": second}
    return Engine(
        "dev3",
        answers={f"{p.prompt_id}:{k}": {"completion": t, "n_completion_tokens": 1}
                 for p, _ in pairs for k, t in texts.items()},
    )  # fmt: skip


def prefers(text: str) -> str:
    """Better goes before worse, wherever it stands."""
    return "[[A>>B]]" if text.index("better") < text.index("worse") else "[[B>>A]]"


def test_the_judge_makes_pairs_of_what_dev3_answers_and_is_asked_once(tmp_path: Path) -> None:
    store, pairs, judge = Store(tmp_path / "data"), prompts(), JudgeModel(lambda t, _: prefers(t))
    out = tmp_path / "pairs.jsonl"
    found = preference_rows(store, VALUES, pairs, lambda: answers(pairs), lambda: judge, out=out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["chosen"], r["rejected"], r["delta"]) for r in rows] == [
        ("better", "worse", 2.0)
    ] * 3
    assert (found["n_sampled"], found["rows"], judge.asked) == (6, 3, 12)
    # Neither rows with a gold nor those of the safety model are compared.
    asked = {r["prompt"][0]["content"] for r in rows}
    assert asked == {f"Question {i}?" for i in range(3)}
    preference_rows(store, VALUES, pairs, lambda: answers(pairs), lambda: judge, out=out)
    assert judge.asked == 12


def test_a_judge_who_always_says_a_leaves_no_pair_and_that_is_an_error(tmp_path: Path) -> None:
    judge, pairs = JudgeModel(lambda *_: "[[A>>B]]"), prompts()
    with pytest.raises(UsageError, match="no clear preference in any of 3 pairs"):
        preference_rows(
            Store(tmp_path / "data"), VALUES, pairs, lambda: answers(pairs), lambda: judge,
            out=tmp_path / "pairs.jsonl",
        )  # fmt: skip
    assert not (tmp_path / "pairs.jsonl").exists()


def test_a_rehearsals_judge_has_one_mind_in_both_orders(tmp_path: Path) -> None:
    judge = JudgeModel(lambda text, _: judged(text) or "")
    ask = ({"role": "user", "content": "?"},)
    made = judged_pairs(
        Store(tmp_path / "data"),
        [Candidates(ask, "<b> & a", "<b> & z"), Candidates(ask, "s", "s ")],
        judge, sampling=Sampling(temperature=0.7, max_tokens=9), balance=1.0,
    )  # fmt: skip
    assert [(p.chosen, p.delta) for p in made.pairs] == [("<b> & z", 2.0)]
    assert (made.n_close, made.n_missing) == (1, 0)
    assert judged("Reply with the JSON object.") == '{"reason": "rehearsed", "standards": []}'
    assert judged("What is 2+2?") is None
