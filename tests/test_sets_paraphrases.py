"""The second stage of decontamination: neighbours are proposed, the rule or a judge decides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from factory.errors import PluginError
from factory.sets.paraphrases import Vectors, by_rule, judge_of, paraphrases
from factory.stages.importing import import_rows
from factory.stages.select import Selection, select
from factory.store import Store

ITEM = "A farmer keeps 9 grey geese and seven brown hens in a yard; how many legs are there?"
SAME = [
    "In somebody's yard there live seven hens of brown colour and nine grey geese. Count the legs.",
    "Ein Bauer hält neun graue Gänse und 7 braune Hennen im Hof. Wie viele Beine sind das?",
    "农夫在院子里养了九只灰鹅和七只棕色母鸡，请问院子里有多少条腿？",
    "Un granjero tiene nueve gansos grises y siete gallinas marrones. ¿Cuántas patas hay?",
]
OTHER = [
    "A farmer keeps 9 grey geese and 8 brown hens in a yard; how many legs are there?",
    "A farmer keeps 9 grey geese, 7 brown hens and 2 pigs in a yard; how many legs are there?",
    "A baker sells 9 round loaves before noon and 20 after it; how many is that?",
    "Why is the sky blue?",
]


@pytest.mark.parametrize("text", SAME)
def test_the_same_task_in_other_words(text: str) -> None:
    assert by_rule(text, ITEM, 0.85)


@pytest.mark.parametrize("text", OTHER)
def test_another_task_however_near(text: str) -> None:
    assert not by_rule(text, ITEM, 0.999)


def test_without_numbers_only_what_lies_very_near_is_one() -> None:
    pair = "Why is the sky blue?", "For what reason does the sky look blue?"
    assert (by_rule(*pair, 0.9), by_rule(*pair, 0.98)) == (False, True)


def along(*angles: float) -> Vectors:
    return np.array([[np.cos(a), np.sin(a)] for a in angles], dtype=np.float32)


def test_the_nearest_items_are_proposed_and_the_judge_may_overrule() -> None:
    at = {ITEM: 0.0, SAME[0]: 0.1, OTHER[0]: 0.1, SAME[1]: 1.5}

    def embed(texts: Sequence[str]) -> Vectors:
        return along(*[at[t] for t in texts])

    texts = [OTHER[0], SAME[0], SAME[1]]
    found = paraphrases(texts, {"bench": [ITEM]}, embed, similarity=0.9)
    assert found["row"].to_list() == [1], "the third lies too far away"
    assert found["similarity"][0] == pytest.approx(np.cos(0.1), abs=1e-5)
    found = paraphrases(texts, {"bench": [ITEM]}, embed, judge=lambda text, item: text == OTHER[0])
    assert found["row"].to_list() == [0]
    assert paraphrases(texts, {"bench": [ITEM]}, embed, judge=lambda *_: None)["row"].to_list() == [
        1
    ]
    assert paraphrases([], {"bench": [ITEM]}, embed).height == 0


def test_a_file_without_a_judge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "judge.py"
    path.write_text("def same(text, item): return True\n")
    with pytest.raises(PluginError, match="same_task"):
        judge_of(str(path))


@pytest.mark.slow
def test_a_selection_asks_a_model_of_ones_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.tiny_model import make_tiny_model

    store = Store(tmp_path / "data")
    other = "There stand 9 geese, all of them grey, and 8 hens in the yard. Count their legs."
    prompts = [SAME[0], SAME[1], other, OTHER[2]]
    rows = [("x", i, {"prompt": p, "response": f"It is {i}."}) for i, p in enumerate(prompts)]
    import_rows(store, rows)
    bench = tmp_path / "bench.jsonl"
    bench.write_text(json.dumps({"problem": ITEM}) + "\n")
    judge = tmp_path / "judge.py"
    judge.write_text("def same_task(text, item):\n    return True if 'baker' in text else None\n")
    model = make_tiny_model(tmp_path / "encoder")  # untrained: it can propose, not tell apart

    def kept(**second: object) -> int:
        asked: dict[str, object] = {"against": [str(bench)]}
        if second:
            asked["paraphrases"] = {"model": model, "similarity": 0.0, **second}
        return select(store, Selection.make({"decontaminate": asked})).keys.height

    assert kept() == 4, "no run of words is shared, and the second stage is off"
    assert kept(neighbours=1) == 2
    assert "same task as an item" in caplog.text
    assert kept(judge=str(judge)) == 1
