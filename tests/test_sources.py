"""Sources and import: any of the field's usual layouts becomes prompts, golds and traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory import plugins
from factory.errors import UsageError
from factory.model_files import hub_commit
from factory.sources import files as file_source
from factory.sources import hub, procedural
from factory.stages.importing import import_rows
from factory.store import Store

LAYOUTS: list[tuple[dict[str, Any], str, str | None, list[str], str]] = [
    ({"prompt": "2+2?", "completion": "4", "gold": "4"}, "2+2?", "4", ["4"], "plain"),
    ({"question": "2+2?", "output": "4"}, "2+2?", None, ["4"], "no gold"),
    ({"prompt": [{"role": "user", "content": "2+2?"}],
      "completion": [{"role": "assistant", "content": "4"}]},
     "2+2?", None, ["4"], "TRL conversational"),
    ({"prompt": "2+2?", "reasoning": "add", "answer": "4", "gold": "4"},
     "2+2?", "4", ["<think>\nadd\n</think>\n\n4"], "halves are joined; answer is no gold"),
    ({"problem": "2+2?", "answer": "4", "generations": ["a", "b"],
      "correctness_math_verify": [True, False]},
     "2+2?", "4", ["a", "b"], "OpenR1-Math-220k"),
    ({"problem": "2+2?", "deepseek_reasoning": "add", "deepseek_solution": "4"},
     "2+2?", None, ["<think>\nadd\n</think>\n\n4"], "OpenThoughts"),
    ({"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
     "2+2?", None, ["4"], "ShareGPT"),
    ({"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]},
     "2+2?", None, ["4"], "chat"),
    ({"question": "2+2?", "gold": {"test_cases": []}, "completion": "x"},
     "2+2?", '{"test_cases":[]}', ["x"], "a structured gold is JSON text"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "prompt", "gold", "completions", "why"), LAYOUTS, ids=[x[4] for x in LAYOUTS]
)
def test_usual_layouts_are_read(
    tmp_path: Path,
    row: dict[str, Any],
    prompt: str,
    gold: str | None,
    completions: list[str],
    why: str,
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    store = Store(tmp_path / "data")
    done = import_rows(store, file_source.rows(str(path)))
    assert done.traces == len(completions), why
    assert store.table("prompts").read()["text"].to_list() == [prompt]
    assert store.table("prompt_sources").read()["gold"].to_list() == [gold]
    assert sorted(store.table("traces").read()["completion"].to_list()) == sorted(completions)


def test_earlier_verdicts_are_kept_per_completion(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    import_rows(store, [("x", 0, LAYOUTS[4][0])])
    meta = dict(store.table("traces").read(["completion", "meta"]).iter_rows())
    assert json.loads(meta["a"])["correctness_math_verify"] is True
    assert json.loads(meta["b"])["correctness_math_verify"] is False


def test_exact_duplicates_are_counted_and_a_second_import_adds_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    rows = [("x", i, {"prompt": "p", "completion": "same", "model": "m"}) for i in range(3)]
    rows.append(("x", 3, {"prompt": "p", "completion": "", "model": "m"}))
    rows.append(("x", 4, {"completion": "no prompt"}))
    first = import_rows(store, rows)
    assert (first.traces, first.new, first.duplicates) == (3, 1, 2)
    assert first.skipped == {"no_completion": 1, "no_prompt": 1}
    second = import_rows(store, rows)
    assert (second.new, second.known) == (0, 1)
    assert second.trace_ids == first.trace_ids


def test_lone_surrogates_do_not_stop_an_import(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "p \\ud800", "completion": "c \\udfff"}\n')
    store = Store(tmp_path / "data")
    assert import_rows(store, file_source.rows(str(path))).new == 1


def test_a_file_without_prompts_says_what_it_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"aufgabe": "2+2?"}\n')
    with pytest.raises(UsageError, match="--map prompt=COLUMN"):
        list(file_source.prompts(str(path)))
    found = list(file_source.prompts(str(path), mapping={"prompt": "aufgabe"}))
    assert found[0][0].text == "2+2?"


def test_a_dataset_of_the_hub_is_read_from_a_local_copy_of_its_shape(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    folder = tmp_path / "OpenR1-Math-220k"
    folder.mkdir()
    frame = pl.DataFrame({"problem": ["2+2?", "3+3?"], "answer": ["4", "6"], "level": [1, 2]})
    frame.write_parquet(folder / "train-00000.parquet")
    found = list(hub.prompts(str(folder), limit=1, verifier="math", options={"mode": "boxed"}))
    assert len(found) == 1
    prompt, source = found[0]
    assert (prompt.text, source.gold, source.level) == ("2+2?", "4", "1")
    assert source.source == "OpenR1-Math-220k"


def test_procedural_tasks_come_from_their_seed() -> None:
    first = list(procedural.prompts("chain_sum", n=3, seed=1))
    assert [p.text for p, _ in first] == [
        p.text for p, _ in procedural.prompts("chain_sum", n=3, seed=1)
    ]
    assert first[0][0].text != next(procedural.prompts("chain_sum", n=1, seed=2))[0].text
    assert json.loads(first[0][1].gold or "")["task"] == "chain_sum"
    with pytest.raises(UsageError, match="no_such_task"):
        next(procedural.prompts("no_such_task", n=1))


def test_every_source_has_prompts() -> None:
    assert set(plugins.names("sources")) >= {"files", "hub", "procedural"}
    assert all(hasattr(plugins.load("sources", n), "prompts") for n in plugins.names("sources"))


@pytest.mark.parametrize(("kind", "file"), [("model", "config.json"), ("dataset", "README.md")])
def test_without_the_hub_the_commit_is_the_cached_one(
    kind: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit, folder = 40 * "a", tmp_path / f"{kind}s--owner--name"
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / file).write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    assert hub_commit("owner/name", kind=kind) == commit
    assert hub_commit("owner/name", 40 * "b", kind=kind) == 40 * "b"
    for name, revision in (("owner/name", "other"), ("owner/unknown", None), ("no name", None)):
        with pytest.raises(UsageError, match=f"{kind} '{name}' is neither a folder nor found"):
            hub_commit(name, revision, kind=kind)
