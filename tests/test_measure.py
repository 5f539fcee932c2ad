"""What is measured is what is trained, and needs no more than the training libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.measure import PHASES, Work
from distill.measure.training import LOSS
from distill.presets import preset
from distill.runs import device_s_of, device_time, write_run
from factory.errors import ConfigError
from pipelines.r1_plan import plan_lines, rates
from pipelines.r1_recipe import STAGES, Recipe, folder_of

ROOT = Path(__file__).parents[1]
# Finders that do not find what a bare machine does not have.
BARE = """
import sys
ABSENT = {"polars", "duckdb", "pydantic", "factory", "vllm", "numba"}
class Bare:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        absent = name.partition(".")[0] in ABSENT
        return None if absent else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
"""


def test_the_objective_is_that_of_the_preset() -> None:
    values = preset("r1_zero").trl
    assert {name: values[name] for name in LOSS} == LOSS


def test_a_model_of_unknown_shape_is_named() -> None:
    with pytest.raises(ValueError, match="'own/thing' is not known"):
        _ = Work(model="own/thing").shape


@pytest.mark.slow
def test_the_script_for_one_gpu_runs_on_a_bare_machine(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BARE)
    out = tmp_path / "prove.json"
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests/gpu/prove.py"), "--tiny", "--out", str(out)]
    command += ["--only", "sft", "grpo"]
    done = subprocess.run(command, cwd=tmp_path, env=env, text=True, capture_output=True,
                          timeout=900, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    found = json.loads(out.read_text())["phases"]
    assert {values["phase"] for values in found.values()} <= set(PHASES)
    for name in ("sft", "grpo"):
        # Of so small a model the libraries' own blocks count, so that the bound is a wide one.
        ratio = found[name]["planned_gib"] / found[name]["peak_gib"]
        assert 0.5 < ratio < 1.5, found[name]


def test_the_verb_names_a_model_that_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    from distill.cli import main

    assert main(["measure", "own/thing"]) == 2
    assert "the shape of 'own/thing' is not known" in capsys.readouterr().err


MEASURED = {"device": "H", "model": "m", "n_parameters": 7.6e9, "train_tokens_per_gpu_s": 1000.0,
            "grpo_tokens_per_gpu_s": 500.0, "generate_tokens_per_gpu_s": 2000.0}  # fmt: skip


def test_a_plan_takes_measured_rates_and_says_what_is_spent(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(MEASURED))
    sets = [f"plan.measured={path}", f"store={tmp_path}", "base.n_parameters=15.2e9"]
    recipe = Recipe.load(ROOT / "pipelines/recipes/one-gpu.yaml", overrides=sets)
    # Twice as many weights as were measured: half the rate.
    assert rates(recipe).sample == 1000.0
    assert rates(recipe).reinforce == 250.0
    write_run(folder_of(recipe) / "dev1", kind="sft", inputs="", config={},
              metrics={"device_s": 7200.0})  # fmt: skip
    lines = {line.split()[0]: line.split() for line in plan_lines(recipe, STAGES)}
    assert lines["sft1"][4] == lines["total"][2] == "2.00"
    assert lines["sft2"][4] == "-"
    path.write_text(json.dumps({**MEASURED, "grpo_tokens_per_gpu_s": None}))
    with pytest.raises(ConfigError, match="each of its three rates"):
        rates(recipe)


def test_devices_are_counted_over_attempts_and_a_kill_loses_little(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with device_time(run, 8) as first:
        time.sleep(0.05)
        noted = first.total_s
        assert noted >= 0.4
    # An attempt that is killed leaves its note; the next one goes on from there.
    with device_time(run, 2) as second:
        assert second.total_s >= noted
        total = second.total_s
    assert device_s_of(run) >= total
    write_run(run, kind="sft", inputs="", config={}, metrics={"device_s": 5.0})
    assert device_s_of(run) == 5.0
    assert [p.name for p in run.iterdir()] == ["run.json"]
