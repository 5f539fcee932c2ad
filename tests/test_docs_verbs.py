"""Every verb of the documents runs as it stands there, on a small store and tiny models."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from factory.store import Store
from tests.helpers_benchmarks import CHOICE, MATH
from tests.helpers_docs import ROOT, parse, run, shows, take
from tests.test_docs_run import EXAMPLES, RECIPES, stand_in

(VERBS,) = take("README.md", "factory generate vllm.yaml --plan")
(JUDGE,) = take("README.md", "engine: {kind: openai, model: judge-model")
(TRAIN,) = take("README.md", "distill preflight")
(BROWSE,) = take("docs/browse.md", "$ factory browse")
(CURATE,) = take("docs/results.md", "python -m pipelines.curate_traces")
(CURATED,) = take("docs/results.md", "1213 rows")
DATA = ROOT.parent / "shared" / "data"

ENGINE = '''
"""An engine that answers as a judge does that knows everything."""
class Engine:
    def __init__(self, model):
        self.model, self.revision, self.template = model, "r1", None
    def run(self, requests, on_partial=None):
        for request in requests:
            if request is None:
                yield None
                continue
            text = request.messages[-1]["content"]
            yield request.trace(reply(text), finish_reason="stop", n_completion_tokens=9)
    def cancel(self, trace_ids): ...
'''
GRADES = """
def reply(text):
    candidate = text.rpartition("<candidate ")[2]
    said = "in" if "no idea" in candidate else ""
    return '{"analysis": "I read both.", "correctness": "' + said + 'correct"}'
"""
PREFERS = """
def reply(text):
    first = text.rpartition("<answer-A ")[2].partition("</answer-A")[0]
    return "[[A>>B]]" if "good" in first else "[[B>>A]]"
"""


def write(path: str, rows: list[Mapping[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replaced(command: str, stand_ins: Mapping[str, str]) -> str:
    for ours, theirs in stand_ins.items():
        command = command.replace(ours, theirs)
    return command


@pytest.mark.slow
def test_every_verb_runs_in_its_order(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import polars as pl

    values = yaml.safe_load(RECIPES["vllm.yaml"])
    values["policy"]["n"] = 8  # so many that a judge can be measured on them
    with stand_in("vllm.yaml", values) as recipe:
        Path("vllm.yaml").write_text(yaml.safe_dump(recipe))
    Path("select.yaml").write_text(RECIPES["select.yaml"])
    pl.DataFrame(EXAMPLES).write_parquet("traces.parquet")
    essays = [
        {"prompt": f"Why does it rain? {i}", "completion": "<think>Clouds.</think>Air rises.",
         "gold": "Moist air rises and cools.", "source": "essays"} for i in range(4)
    ]  # fmt: skip
    write("essays.jsonl", essays)
    Path("judge_engine.py").write_text(ENGINE + GRADES)
    judge = yaml.safe_load(JUDGE.text)
    judge["engine"] = {"kind": "judge_engine.py", "model": judge["engine"]["model"]}
    Path("judge.yaml").write_text(yaml.safe_dump(judge))
    assert run("factory import essays.jsonl --source essays") == 0
    for command in VERBS.commands:
        if "--on ray" in command or command.startswith(("factory browse", "source ")):
            continue  # test_ray_scores.py, and the tests below
        store = Store("data")
        runs = store.runs() if Path("data").exists() else []
        releases = sorted(Path("data/releases/reasoning").glob("[0-9a-f]*"), key=os.path.getmtime)
        stand_ins = {"20261120t193455-5f3a9c": str(runs[0]["run_id"]) if runs else ""}
        if command.startswith("factory diff"):
            assert run("factory release reasoning select.yaml --set cap_per_prompt=1") == 0
            stand_ins["3f2a"] = releases[0].name[:4]
        if command.startswith("factory forget"):
            keys = store.table("prompts").keys().to_list()
            stand_ins["4a60495605d04d7180b67712c4501f12"] = keys[0]
        capsys.readouterr()
        assert run(replaced(command, stand_ins)) == 0, (command, capsys.readouterr().err)


@pytest.mark.slow
def test_the_shell_reads_what_completes_it() -> None:
    (command,) = [c for c in VERBS.commands if c.startswith("source ")]
    words = " ".join(shlex.split(command))
    program = words.replace("factory", f"{sys.executable} -m factory")
    shell = ["bash", "-c", f"{program} && complete -p factory"]
    done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "_shtab_factory" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_browser_prints_its_address_and_answers(here: Path) -> None:
    ((command, shown),) = BROWSE.sessions
    assert run("factory import docs/examples/traces.jsonl") == 0
    words = [sys.executable, "-m", *shlex.split(command)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline()
            pattern = re.escape(shown.strip()).replace("40217", r"\d+").replace("4mG1…", r"[\w-]+")
            assert re.fullmatch(pattern, address.strip())
            with urllib.request.urlopen(address.strip()) as page:
                assert "teacher-a" in page.read().decode()
        finally:
            server.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_real_traces_become_what_the_results_show(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not DATA.is_dir():
        pytest.skip(f"no {DATA}")
    (command,) = CURATE.commands
    parse(command)
    assert run(command.replace("traces_*", f"{DATA}/traces_*")) == 0
    printed = capsys.readouterr().out
    assert shows(printed, CURATED.text), printed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_training_and_evaluation_run_in_their_order(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.test_regrade import LINES
    from tests.tiny_model import make_tiny_model

    make_tiny_model(here / "models" / "base")
    rows = [
        {"prompt": f"{i}+1?", "completion": f"<think>\nI add.\n</think>\n\n\\boxed{{{i + 1}}}",
         "gold": str(i + 1), "verifier": "math"} for i in range(24)
    ]  # fmt: skip
    write("train.jsonl", rows)
    write("samples_gsm8k.jsonl", LINES)
    write("aime24.rows.jsonl", MATH["aime24"][0])
    write("gpqa.rows.jsonl", CHOICE["gpqa-diamond"][0])
    answers = [f"<think>\nhm\n</think>\n\n{word} colour, that is red" for word in ("good", "poor")]
    write("answers.jsonl", [{"prompt": f"A colour? {i}", "answers": answers} for i in range(12)])
    Path("preferring_engine.py").write_text(ENGINE + PREFERS)
    recipes = {
        "run": {
            "base": "models/base", "out": "models/policy", "preset": "r1_reasoning",
            "per_device": 8, "outputs_per_update": 8, "outputs_per_rollout": 8, "n_workers": 1,
            "length_caps": {0: 8}, "max_prompt_tokens": 40,
            "trl": {"max_steps": 1, "num_generations": 4, "max_completion_length": 8},
        },
        "pairs": {
            "data": "answers.jsonl", "out": "pairs.jsonl", "sampling": {"temperature": 0.7,
            "max_tokens": 64}, "engine": {"kind": "preferring_engine.py", "model": "judge"},
        },
        "helpful": {
            "kind": "helpful", "base": "models/base", "data": "pairs.jsonl",
            "out": "models/helpful", "template": "own", "trl": {"max_steps": 1},
        },
    }  # fmt: skip
    for name, values in recipes.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(values))
    assert run("factory import train.jsonl --source sums") == 0
    small = "--set trl.max_steps=2 --set trl.per_device_train_batch_size=4"
    evaluate = "--engine-option max_num_seqs=4 --max-tokens 8 --k 1 --limit 4"
    for line in TRAIN.commands:
        for command in line.replace("'&&'", "&&").split(" && "):
            stand_ins = {
                "r1-distill-qwen-7b": f"miniature --base models/base {small}",
                "--show": "--show --file gpqa.rows.jsonl",
                "data/releases/r1/VERSION": "train.jsonl",
                "--benchmark aime24": f"--benchmark aime24 --file aime24.rows.jsonl {evaluate}",
            }
            if "compare" in command:
                first = next(c for c in TRAIN.commands if "distill evaluate" in c)
                of_base = first.replace("models/student", "models/base")
                assert run(replaced(of_base, stand_ins)) == 0
            capfd.readouterr()
            assert run(replaced(command, stand_ins)) == 0, (command, capfd.readouterr().err)
