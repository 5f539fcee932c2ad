"""What a verifier declares is read alike by files, imports and rewards; a user's own has it too."""

from __future__ import annotations

import json
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.rewards import Part, RuleReward
from factory import plugins
from factory.cli.main import main
from factory.errors import PluginError, UsageError
from factory.records import Item
from factory.stages.checker import Checker
from factory.stages.generate import Policy, generate
from factory.stages.importing import import_rows
from factory.stages.verify import check_golds, verify
from factory.store import Store
from tests.helpers_run import SAMPLING, problems, replay

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


EVIL = """
from pathlib import Path
Path(__file__).with_name("was_run").touch()
from factory.records import Verdict
VERSION = 1
def verify(item):
    return Verdict.passed(decided_by="evil")
def score(*a): ...
"""


def test_a_relative_path_is_that_of_the_folder_where_it_was_named(
    tmp_path: Path, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plugins.allow("own_check.py")
    checker = Checker("own_check.py", n_workers=1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    items = [Item(text=text, gold="4") for text in ("4", "5")]
    for one in (checker, pickle.loads(pickle.dumps(checker))):
        found = one.check(items, [{}, {"mode": "lenient"}])
        assert [(v.status, v.decided_by) for v in found] == [
            ("pass", "strict"), ("fail", "lenient"),
        ]  # fmt: skip


LENIENT = """
from factory.records import Verdict

VERSION = 1


def verify(item):
    right = item.gold in ("all", item.text) or (item.gold == "some" and bool(item.text))
    return Verdict.passed(decided_by="x") if right else Verdict.failed("wrong", decided_by="x")


def as_completion(gold):
    return gold
"""


def test_a_gold_that_passes_everything_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lenient_check.py"
    path.write_text(LENIENT)
    plugins.allow(str(path))
    store = Store(tmp_path / "s")
    golds = {
        "all": str(path), "some": str(path), "7": str(path), "1/2": "math", "B": "choice",
        "anything": "format",
    }  # fmt: skip
    import_rows(store, [
        ("x", i, {"id": g, "prompt": g, "completion": "c", "gold": g, "verifier": verifier})
        for i, (g, verifier) in enumerate(golds.items())
    ])  # fmt: skip
    n, failing = check_golds(store)
    assert n == len(golds)
    assert {f["item"]: f["reason"] for f in failing} == {
        "all": "bad_gold: it passes an empty answer",
        "some": "bad_gold: it passes all 2 wrong answers",
    }


@pytest.fixture(params=["evil.py", "math.py"])
def evil(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / str(request.param)
    path.write_text(EVIL)
    return path


def evil_row(evil: Path) -> dict[str, Any]:
    return {"id": "1", "prompt": "p", "completion": "wrong", "gold": "1", "verifier": str(evil)}


def test_a_row_of_a_file_runs_nothing(tmp_path: Path, evil: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    relative = evil_row(evil) | {"verifier": os.path.relpath(evil)}
    source.write_text("".join(json.dumps(r) + "\n" for r in (evil_row(evil), relative)))
    assert main(["verify", str(source), "--out", str(out)]) == 1
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["status"], r["reason"][:16]) for r in found] == [
        ("unscored", "unknown_verifier")
    ] * 2
    assert not (tmp_path / "was_run").exists()


def test_a_row_of_a_store_runs_nothing(tmp_path: Path, evil: Path) -> None:
    assert options_stored(tmp_path / "s", evil_row(evil)) == {}
    store = Store(tmp_path / "s")
    counts = verify(store, skip_unready=True)
    assert list(counts.unready) == [str(evil)]
    assert counts.by_status.total() == 0
    _, failing = check_golds(store)
    assert ["data row names" in f["reason"] for f in failing] == [True]
    assert RuleReward([Part(name="right", verifier="*")])(
        ["p"], ["wrong"], gold=["1"], verifier=[str(evil)]
    ) == [None]
    with pytest.raises(PluginError, match="data row names"):
        Checker(str(evil))
    assert not (tmp_path / "was_run").exists()


def test_one_row_of_an_unknown_verifier_does_not_end_a_generate(
    tmp_path: Path, evil: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = problems(3)
    strange = [replace_verifier(pairs[0], str(evil)), replace_verifier(pairs[1], "nothing")]
    store = Store(tmp_path / "s")
    generate(
        store,
        [*strange, pairs[2]],
        replay(3, 1),
        sampling=SAMPLING,
        policy=Policy(kind="fixed", n=1),
    )
    assert store.table("traces").keys().len() == 3
    assert "unknown verifier 'nothing'" in caplog.text
    assert not (tmp_path / "was_run").exists()


def replace_verifier(pair: Any, name: str) -> Any:
    return pair[0], replace(pair[1], verifier=name)


def test_a_file_of_a_built_in_name_takes_no_label_of_it(tmp_path: Path, own: str) -> None:
    plugins.allow(own)
    assert re.fullmatch(r"own_check@1\+[0-9a-f]{8}", plugins.label("verifiers", own))
    impostor = tmp_path / "math.py"
    impostor.write_text(OWN)
    plugins.allow(str(impostor))
    with pytest.raises(PluginError, match="bears the name"):
        Checker(str(impostor))


@pytest.mark.parametrize(("own_options", "ours", "wanted"), [
    ({"cpu_s": 100_000}, {}, {"cpu_s": 60}),
    ({"cpu_s": 100_000}, {"cpu_s": 2}, {"cpu_s": 2}),
    ({"cpu_s": 1}, {"cpu_s": 2}, {"cpu_s": 1}),
    ({"cpu_s": -1}, {}, {"cpu_s": 60}),
    ({"cpu_s": float("nan")}, {"cpu_s": 3}, {"cpu_s": 3}),
    ({"float_tolerance": 1e9}, {}, {"float_tolerance": 1e-2}),
    ({"float_tolerance": "1e9"}, {}, {"float_tolerance": 1e-2}),
    ({"float_tolerance": 1e-6}, {}, {"float_tolerance": 1e-6}),
    ({"memory_mb": 10**9, "wall_s": 10**9}, {}, {"memory_mb": 4096, "wall_s": 600}),
    ({"prelude": False}, {}, {"prelude": False}),
])  # fmt: skip
def test_a_rows_options_stay_within_ours(own_options: Any, ours: Any, wanted: Any) -> None:
    assert plugins.bounded("code", own_options, ours) == wanted
    assert {**Checker("format").options, **wanted} == wanted


def test_a_row_cannot_buy_itself_a_tolerance(tmp_path: Path) -> None:
    gold = {"test_cases": [{"type": "fn_call", "fn_name": "f", "input": [1], "output": 2.0}]}
    row = {"completion": "def f(x): return 900.0", "gold": gold, "verifier": "code"}
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [row | {"float_tolerance": 1e9}, row | {"options": {"float_tolerance": 1e9}}]
    source.write_text("".join(json.dumps(r) + "\n" for r in rows))
    main(["verify", str(source), "--out", str(out)])
    found = [json.loads(line)["status"] for line in out.read_text().splitlines()]
    assert "pass" not in found
    stored = options_stored(tmp_path / "s", rows[1] | {"gold": json.dumps(gold)})
    assert stored == {"float_tolerance": 1e-2}
    with pytest.raises(UsageError, match="out of bounds"):
        options_stored(tmp_path / "t", row, options={"float_tolerance": 1e9})


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
    assert reward(["p", "p"], ["it is 4", "it is 4"], **columns) == [None, None]
    plugins.allow(own)  # as a recipe's --verifier does
    reward = RuleReward([Part(name="right", verifier="*", options=options)])
    assert reward(["p", "p"], ["it is 4", "it is 4"], **columns) == [1.0, 0.0]


def test_an_option_that_no_verifier_takes_is_not_left_aside(own: str) -> None:
    plugins.allow(own)
    reward = RuleReward([Part(name="right", verifier="*", options={"mood": "lenient"})])
    assert reward(["p"], ["4"], gold=["4"], verifier=[own]) == [None]


def test_an_unknown_verifier_declares_nothing() -> None:
    with pytest.raises(PluginError, match="unknown verifier 'nothing'"):
        plugins.file_options("verifiers", "nothing")
