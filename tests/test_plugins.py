"""What a verifier declares is read alike by files, imports and rewards; a user's own has it too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill.rewards import Part, RuleReward
from factory import plugins
from factory.cli.main import main
from factory.errors import PluginError
from factory.stages.importing import import_rows
from factory.store import Store

OWN = """
from factory.records import Verdict

VERSION = 1
FILE_OPTIONS = {"mode": "lenient"}


def verify(item, *, mode="strict", case="kept"):
    gold, said = item.gold, item.answer
    same = gold in said if mode == "lenient" else gold == said
    return Verdict.passed(decided_by=mode) if same else Verdict.failed("wrong", decided_by=mode)
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own_check.py"
    path.write_text(OWN)
    return str(path)


def test_files_take_the_defaults_that_a_users_own_verifier_declares(
    tmp_path: Path, own: str
) -> None:
    rows = [
        {"completion": "it is 4", "gold": "4"},
        {"completion": "it is 4", "gold": "4", "mode": "strict"},
        {"completion": "it is 4", "gold": "4", "options": {"mode": "strict"}},
    ]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main(["verify", str(source), "--out", str(out), "--verifier", own]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["decided_by"] for r in found] == ["lenient", "strict", "strict"]
    assert main(["verify", str(source), "--out", str(out), "--verifier", own,
                 "--mode", "strict"]) == 0  # fmt: skip
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["status"] for r in found] == ["fail"] * 3


def options_stored(folder: Path, row: dict[str, Any], **given: Any) -> Any:
    store = Store(folder)
    import_rows(store, [("x", 0, {"prompt": "p", "completion": "c", **row})], **given)
    return json.loads(store.table("prompt_sources").read()["options"][0])


def test_an_import_stores_the_defaults_that_a_users_own_verifier_declares(
    tmp_path: Path, own: str
) -> None:
    row = {"gold": "4"}
    assert options_stored(tmp_path / "a", row, verifier=own) == {"mode": "lenient"}
    row["options"] = {"mode": "strict"}
    assert options_stored(tmp_path / "b", row, verifier=own) == {"mode": "strict"}


def test_an_import_runs_no_file_that_a_row_names(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("raise SystemExit('was run')")
    assert options_stored(tmp_path / "a", {"gold": "4", "verifier": str(bad)}) == {}


AUTO = {"mode": "auto"}


@pytest.mark.parametrize(("row", "wanted"), [
    ({"gold": "1/2"}, AUTO),
    ({"gold": "C"}, AUTO),
    ({"gold": "yes", "verifier": "logic"}, AUTO),
    ({"gold": "yes", "verifier": "logic", "options": {"mode": "boxed"}}, {"mode": "boxed"}),
    ({"gold": "C", "options": ["x", "y", "z"]}, AUTO | {"options": ["x", "y", "z"]}),
    ({"gold": "C", "options": {"A": "x", "C": "z"}}, AUTO | {"options": {"A": "x", "C": "z"}}),
    ({"gold": '{"test_cases": []}'}, {}),
])  # fmt: skip
def test_what_an_import_stores(tmp_path: Path, row: dict[str, Any], wanted: Any) -> None:
    assert options_stored(tmp_path / "s", row) == wanted


@pytest.mark.parametrize(("name", "given", "wanted"), [
    ("choice", None, {}),
    ("choice", "", {}),
    ("choice", ["a", "b"], {"options": ["a", "b"]}),
    ("choice", '["a", "b"]', {"options": ["a", "b"]}),
    ("choice", {"A": "x", "B": "y", "C": None}, {"options": {"A": "x", "B": "y"}}),
    ("choice", {"mode": "auto", "options": ["a", "b"]}, {"mode": "auto", "options": ["a", "b"]}),
    ("choice", 4, {"options": 4}),
    ("math", '{"mode": "boxed", "truncated": null}', {"mode": "boxed"}),
    ("math", ["a", "b"], {}),
    ("math", "(A) 3 (B) 4", {}),
    ("math", "[" * 100_000, {}),
])  # fmt: skip
def test_a_rows_own_options(name: str, given: Any, wanted: Any) -> None:
    assert plugins.row_options(name, given) == wanted


def test_what_cannot_be_read_may_be_refused() -> None:
    with pytest.raises(ValueError, match="unreadable options: no JSON"):
        plugins.row_options("math", "no JSON", strict=True)


@pytest.mark.parametrize(("gold", "wanted"), [
    ("4", "math"), (" B ", "choice"), ("K", "math"), ("BC", "math"), ("", "math"), (None, "math"),
    (4, "math"), ({"test_cases": []}, "code"), ('{"test_cases": []}', "code"),
])  # fmt: skip
def test_the_verifier_that_fits_a_gold(gold: Any, wanted: str) -> None:
    assert plugins.verifier_of_gold(gold) == wanted


def test_a_reward_gives_each_verifier_the_options_that_it_takes(own: str) -> None:
    options = {"mode": "lenient", "truncated": "fail"}
    reward = RuleReward([Part(name="right", verifier="*", options=options)])
    columns: dict[str, Any] = {"gold": ["4", "4"], "verifier": [own, own]}
    columns["options"] = [None, {"mode": "strict"}]
    assert reward(["p", "p"], ["it is 4", "it is 4"], **columns) == [1.0, 0.0]


def test_an_option_that_no_verifier_takes_is_not_left_aside(own: str) -> None:
    reward = RuleReward([Part(name="right", verifier="*", options={"mood": "lenient"})])
    assert reward(["p"], ["4"], gold=["4"], verifier=[own]) == [None]


def test_an_unknown_verifier_declares_nothing() -> None:
    with pytest.raises(PluginError, match="unknown verifier 'nothing'"):
        plugins.file_options("verifiers", "nothing")
