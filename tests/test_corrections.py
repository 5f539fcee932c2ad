"""Facts added later: golds corrected, models named, prompts read better; nothing stands twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalogs import query
from catalogs.show import audit
from factory.records import Prompt, PromptSource
from factory.stages.importing import Imported, import_rows
from factory.stages.origins import Origins
from factory.stages.reading import read_pairs
from factory.stages.verify import verify
from factory.store import Store

ROW: dict[str, Any] = {"id": "a", "prompt": "2+2?", "response": "It is \\boxed{4}.", "gold": "5"}


def put(store: Store, *rows: dict[str, Any], **options: Any) -> Imported:
    return import_rows(store, [("set", i, row) for i, row in enumerate(rows)], **options)


def wide(store: Store, columns: str) -> list[tuple[Any, ...]]:
    return list(query.run(store, f"SELECT {columns} FROM wide ORDER BY trace_id").rows)


def test_a_corrected_gold_supersedes_and_verdicts_follow(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    put(store, ROW)
    verify(store)
    assert wide(store, "status") == [("fail",)]
    assert put(store, ROW | {"gold": "4"}).corrected == 1
    verify(store)
    assert wide(store, "status") == [("pass",)]
    assert put(store, ROW | {"gold": "4"}).corrected == 0  # the same again is nothing new
    assert put(store, {k: v for k, v in ROW.items() if k != "gold"}).corrected == 0
    assert put(store, ROW).corrected == 1  # and back again
    assert [s.gold for _, s in read_pairs(store)] == ["5"]
    assert wide(store, "status, n_sources") == [("fail", 1)]
    assert audit(store) == []


def test_golds_that_differ_are_a_finding(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    put(store, ROW, ROW | {"id": "b", "gold": "4"})
    (found,) = audit(store)
    assert "2+2" not in str(found)
    assert {"4", "5"} <= set(str(found).replace("'", '"').split('"'))
    other = Store(tmp_path / "same")
    put(other, ROW, ROW | {"gold": "4"})  # of one item, in one file
    assert len(audit(other)) == 1


LATER: list[tuple[str, dict[str, Any], dict[str, Any], str, tuple[Any, ...]]] = [
    ("the model is named", {}, {"model": "R1"}, "model", ("R1",)),
    ("a finish reason", {}, {"finish_reason": "length"}, "finish_reason", ("length",)),
    ("further columns", {"license": "mit"}, {"quality": 3}, "meta->>'license', meta->>'quality'",
     ("mit", "3")),
    ("less is known now", {"model": "R1", "finish_reason": "stop"}, {}, "model, finish_reason",
     ("R1", "stop")),
    ("the system text was missed", {}, {"system_prompt": "Be brief."}, "count(*) OVER ()", (1,)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "first", "second", "columns", "expected"), LATER)
def test_a_second_import_adds_what_was_missed_and_doubles_nothing(
    tmp_path: Path, name: str, first: dict[str, Any], second: dict[str, Any], columns: str,
    expected: tuple[Any, ...],
) -> None:  # fmt: skip
    store = Store(tmp_path / "data")
    put(store, ROW | first)
    put(store, ROW | second)
    assert wide(store, columns) == [expected]
    done = put(store, ROW | second)
    assert (done.new, done.known, done.updated, done.replaced) == (0, 1, 0, 0)
    assert wide(store, columns) == [expected]


def test_two_models_may_write_the_same_text(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    assert put(store, ROW | {"model": "a"}, ROW | {"model": "b"}).new == 2
    assert put(store, ROW | {"model": "c"}).new == 1


def test_a_source_of_generation_can_be_corrected(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    prompt = Prompt.of("2+2?")
    source = PromptSource(
        prompt_id=prompt.prompt_id, source="s", item="1", gold="5", verifier="math",
        options={"mode": "boxed"}, meta={"year": 2024},
    )  # fmt: skip
    origins = Origins(store)
    assert origins.changed(source) == source
    assert origins.changed(source) is None
