"""The verbs on a store, one after the other, as a user would call them."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest
import yaml

from factory.cli.main import main
from factory.rows.files import write_rows
from tests.helpers_run import answers, problems

N = 12


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with prompts, recorded answers and recipes; the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": p.text, "gold": s.gold, "verifier": "math", "options": dict(s.options),
         "language": "en", "id": s.item}
        for p, s in problems(N)
    ]  # fmt: skip
    write_rows("prompts.jsonl", [rows])
    recorded = [
        {**row, "prompt_id": key.split(":")[0], "sample_index": int(key.split(":")[1])}
        for key, row in answers(N, 4).items()
    ]
    write_rows("answers.jsonl", [recorded])
    recipe = {
        "source": {"kind": "files", "paths": ["prompts.jsonl"], "name": "sums"},
        "engine": {"kind": "replay", "model": "recorded", "answers": "answers.jsonl"},
        "sampling": {"temperature": 0.7, "max_tokens": 64, "prefill": "<think>\n"},
        "policy": {"kind": "fixed", "n": 4},
    }
    Path("generate.yaml").write_text(yaml.safe_dump(recipe))
    selection = {"filters": {"right": "status = 'pass'"}, "cap_per_prompt": 1}
    Path("select.yaml").write_text(yaml.safe_dump(selection))
    return tmp_path


def test_from_prompts_to_an_export(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*argv: str, status: int = 0) -> str:
        assert main(list(argv)) == status, capsys.readouterr().err
        return capsys.readouterr().out

    planned = call("generate", "generate.yaml", "--plan")
    assert "missing at most" in planned
    assert f"{N * 4:,}" in planned
    assert not Path("data").exists(), "a plan leaves nothing behind"
    call("generate", "generate.yaml")
    assert main(["generate", "generate.yaml"]) == 0
    assert "0 new traces, 48 were there" in capsys.readouterr().err
    call("score", "--scores", "length,language")
    call("verify")
    assert "kept" in call("select", "select.yaml")
    assert "release sums/" in call("release", "sums", "select.yaml")
    call("export", "sums", "--form", "trl", "--out", "train.jsonl")
    rows = [json.loads(line) for line in Path("train.jsonl").read_text().splitlines()]
    assert 0 < len(rows) <= N
    assert all(r["completion"][0]["content"].startswith("<think>") for r in rows)
    assert Path(call("report", "sums").strip()).is_file()
    assert "sums/" in call("ls")
    assert "right" in call("show", "sums")
    assert "boxed" in call("sample", "sums", "-n", "1")
    assert "boxed" in call("sample", "sums", "-n", "1", "--dropped-by", "right")
    found = json.loads(call("sql", "SELECT count(*) AS n FROM wide", "--json"))
    assert found == [{"n": N * 4}]
    assert "all is well" in call("check", "--gold", "--audit")
    assert "0 changed" in call("verify", "--diff")
    call("gc")


def test_rows_that_cannot_be_verified_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    golds = [
        ("math", "5"), ("math", "see figure"), ("code", '{"broken"'), ("mathh", "5"),
        ("constraints", '{"instruction_ids": ["be:nice"], "kwargs": [{}]}'),
    ]  # fmt: skip
    write_rows(
        "rows.jsonl",
        [
            [
                {"prompt": f"Question {i}?", "completion": r"\boxed{5}", "gold": g, "verifier": v}
                for i, (v, g) in enumerate(golds)
            ]
        ],
    )
    assert main(["import", "rows.jsonl", "--store", "data"]) == 0
    capsys.readouterr()
    assert main(["verify", "--store", "data"]) == 1
    told = capsys.readouterr().err
    assert "mathh: no verdicts: unknown verifier 'mathh'" in told
    assert "1 pass" in told
    assert main(["check", "--gold", "--store", "data"]) == 1
    told = capsys.readouterr().out
    for row, reason in (
        (1, "math: gold_unparsable"),
        (2, "code: bad_gold"),
        (4, "constraints: un"),
    ):
        assert f"gold of rows/{row} does not pass its own verifier {reason}" in told
    assert "gold of rows/3 does not pass its own verifier mathh: unknown verifier" in told
    assert "5 golds checked, 4 do not pass" in told
    assert main(["verify", "--diff", "--store", "data"]) == 0
    assert "math@" in capsys.readouterr().out


def test_a_revoked_run_is_made_again(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "generate.yaml"]) == 0
    capsys.readouterr()
    assert main(["sql", "SELECT run_id FROM runs WHERE kind = 'generate'", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)[0]["run_id"]
    assert main(["revoke", run, "--reason", "wrong template"]) == 0
    assert f"run {run} is revoked" in capsys.readouterr().err
    assert main(["revoke", run, "--reason", "wrong template"]) == 0
    assert "revoked before" in capsys.readouterr().err
    assert main(["sql", "SELECT count(*) AS n FROM wide", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"n": 0}]
    assert main(["generate", "generate.yaml"]) == 0
    assert "48 new traces, 0 were there" in capsys.readouterr().err


def test_what_is_missing_at_the_end_gives_exit_status_1(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "generate.yaml", "--set", "policy.n=5"]) == 1
    err = capsys.readouterr().err
    assert "12 missing" in err
    assert "12 requests were given up: 12 not_recorded" in err, "and why"


def test_a_cost_limit_stops_in_order(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    price = "price={per_million_completion_tokens: 1000000}"
    argv = ["generate", "generate.yaml", "--set", price, "--set", "engine.slots=2"]
    assert main([*argv, "--max-cost", "100"]) == 1, "something is missing"
    assert "stopped: max_cost" in capsys.readouterr().err
    assert main(argv) == 0


def test_a_plan_says_what_it_may_cost(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    price = "price={per_million_completion_tokens: 1000}"
    assert main(["generate", "generate.yaml", "--plan", "--set", price]) == 0
    told = {line[:28].strip(): line[28:].strip() for line in capsys.readouterr().out.splitlines()}
    tokens = int(told["completion tokens at most"].replace(",", ""))
    assert told["cost of these tokens at most"] == f"{tokens / 1000:,.2f}"


def test_ctrl_c_finishes_what_is_in_flight_and_the_next_run_goes_on(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = ["--set", "engine.seconds_per_token=0.002", "--set", "engine.slots=2"]
    threading.Timer(0.6, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert main(["generate", "generate.yaml", *slow]) == 130
    err = capsys.readouterr().err
    assert "press Ctrl-C again to leave at once" in err
    assert "stopped: interrupted" in err
    kept = int(re.search(r"(\d+) new traces", err).group(1))  # type: ignore[union-attr]
    assert main(["generate", "generate.yaml"]) == 0
    assert f"{48 - kept} new traces, {kept} were there" in capsys.readouterr().err
