"""What is measured is what is trained, and needs no more than the training libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.measure import LOSS, PHASES, Work
from distill.presets import preset

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
