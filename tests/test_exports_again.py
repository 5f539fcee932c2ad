"""Each form of export imports to what the store held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory.sources import files as file_source
from factory.stages.export import FORMS, export
from factory.stages.importing import import_rows
from factory.stages.release import release
from factory.stages.select import Selection, select
from factory.stages.verify import verify
from factory.store import Store
from tests.test_shapes import ASK, CHAT, OPTIONS, REPLY, USER, as_expected


def released(folder: Path) -> tuple[Store, Any]:
    system = {"role": "system", "content": "Be brief."}
    rows: list[dict[str, Any]] = [
        {"messages": [system, *CHAT], "gold": "54", "model": "R1", "finish_reason": "stop",
         "id": "a", "license": "mit", "domain": "math", "level": 3, "split": "train"},
        {"messages": [USER, CHAT[1], {"role": "user", "content": "And half of that?"},
                      {"role": "assistant", "content": "<think>\nx\n</think>\n\n\\boxed{27}"}],
         "gold": "27", "model": "R1"},
        {"question": OPTIONS[0], "options": OPTIONS[1], "gold": "B", "response": "\\boxed{B}"},
        {"messages": [system, USER, {"role": "assistant", "content": "\\boxed{7}"}], "gold": "54",
         "id": "a"},
    ]  # fmt: skip
    store = Store(folder / "data")
    import_rows(store, [("set", i, row) for i, row in enumerate(rows)])
    verify(store)
    return store, release(store, "all", select(store, Selection()))


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Any]:
    return released(tmp_path_factory.mktemp("exports"))


EXPORTED = ("user", "system", "thinking", "answer", "gold", "verifier", "options", "model", "item",
            "finish_reason", "domain", "level", "split", "language", "meta")  # fmt: skip


@pytest.mark.parametrize(
    ("form", "ending"),
    [*((form, "jsonl") for form in FORMS), ("messages", "parquet"), ("hf", "parquet")],
)
def test_an_export_imports_to_what_the_store_held(
    held: tuple[Store, Any], tmp_path: Path, form: str, ending: str
) -> None:
    store, made = held
    out = tmp_path / ("hub" if form == "hf" else f"out.{ending}")
    export(store, made, form=form, out=str(out))
    again = Store(tmp_path / "again")
    done = import_rows(again, file_source.rows(str(out)))
    assert (done.new, done.skipped) == (4, {})
    before, after = all_of(store), all_of(again)
    assert before.keys() == after.keys()  # the same prompts, models and texts have the same keys
    for trace_id, row in before.items():
        for name in EXPORTED:
            assert after[trace_id][name] == row[name], name


def test_a_preference_export_imports_to_both_completions(
    held: tuple[Store, Any], tmp_path: Path
) -> None:
    store, made = held
    export(store, made, form="dpo", out=str(tmp_path / "out.jsonl"))
    again = Store(tmp_path / "again")
    import_rows(again, file_source.rows(str(tmp_path / "out.jsonl")))
    held = {(r["prompt_id"], r["completion"], r["gold"]) for r in all_of(store).values()}
    found = {(r["prompt_id"], r["completion"], r["gold"]) for r in all_of(again).values()}
    assert found < held
    assert len(found) == 2


def all_of(store: Store) -> dict[str, dict[str, Any]]:
    frame = (
        store.table("traces").read()
        .join(store.table("prompts").read().select("prompt_id", "messages", "text"), on="prompt_id")
        .join(store.table("prompt_sources").read().drop("run_id", "meta"), on="prompt_id")
    )  # fmt: skip
    return {row["trace_id"]: as_expected(row) for row in frame.iter_rows(named=True)}


def test_a_release_holds_the_corrected_gold(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    row = {"id": "a", "prompt": ASK, "response": REPLY, "gold": "55"}
    import_rows(store, [("x", 0, row)])
    import_rows(store, [("x", 0, {**row, "gold": "54"})])
    made = release(store, "all", select(store, Selection()))
    assert made.read(["gold"])["gold"].to_list() == ["54"]
