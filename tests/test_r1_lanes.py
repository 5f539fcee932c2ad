"""Lanes start what is ready and stop at a failure; tables over seeds are arithmetic."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factory.errors import FactoryError, UsageError
from pipelines import r1
from pipelines.parallel_jobs import Job, jobs, run_jobs
from pipelines.r1_recipe import STAGES, Recipe
from pipelines.r1_stages import direct_section
from pipelines.r1_tables import Claim, claim_lines, claims, cost_lines, of_seed, over_seeds


def logged(path: Path, *, seconds: float = 0.3) -> Callable[[int, Job], list[str]]:
    """A command that notes its begin and end."""

    def command(seed: int, job: Job) -> list[str]:
        code = (
            "import sys, time\n"
            f"note = lambda w: open({str(path)!r}, 'a').write(f'{{w}} {seed} {job.name}\\n')\n"
            f"note('begin'); time.sleep({seconds}); note('end'); print('said')"
        )
        return [sys.executable, "-c", code]

    return command


def test_jobs_wait_for_their_inputs_and_lanes_are_never_more(tmp_path: Path) -> None:
    log, said = tmp_path / "log", list[str]()
    wanted = jobs(["a", "b"])
    run_jobs([0, 1], wanted, logged(log), lanes=2, say=said.append)
    lines = log.read_text().splitlines()
    assert len(lines) == 2 * 2 * len(wanted)
    after = {job.name: job.after for job in wanted}
    under_way: set[str] = set()
    ended: set[str] = set()
    for line in lines:
        what, _, key = line.partition(" ")
        seed, _, name = key.partition(" ")
        if what == "begin":
            under_way.add(key)
            assert all(f"{seed} {other}" in ended for other in after[name])
        else:
            under_way.remove(key)
            ended.add(key)
        assert len(under_way) <= 2
    assert "[0 teacher] said" in said


def test_a_failed_job_stops_the_rest_and_says_which(tmp_path: Path) -> None:
    def command(seed: int, job: Job) -> list[str]:
        if job.name == "controls":
            return [sys.executable, "-c", "import sys; print('so it was'); sys.exit(3)"]
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    said = list[str]()
    began = time.monotonic()
    with pytest.raises(FactoryError, match="controls of seed 4 ended with status 3"):
        run_jobs([4], jobs(["a"]), command, lanes=2, say=said.append)
    assert time.monotonic() - began < 30
    assert said == ["[4 controls] so it was"]


@pytest.mark.parametrize("students", [["qwen"], ["qwen", "llama"]])
def test_the_jobs_of_a_seed_are_all_stages_once_per_student(students: list[str]) -> None:
    counts: dict[str, int] = {}
    for job in jobs(students):
        for stage in job.stages:
            counts[stage] = counts.get(stage, 0) + 1
    assert set(counts) == set(STAGES)
    assert counts.pop("distill") == counts.pop("direct_rl") == len(students)
    assert set(counts.values()) == {1}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"only": "zero,oops"}, "unknown stage oops"),
        ({"student": "gpt"}, "unknown student 'gpt'"),
        ({"seeds": "0,x"}, "write numbers"),
    ],
)
def test_wrong_words_on_the_command_line_are_named(options: dict[str, str], says: str) -> None:
    recipe = Path(r1.__file__).parent / "recipes" / "miniature.yaml"
    values = {"recipe": str(recipe), "overrides": [], "only": None, "student": None,
              "seeds": None, "plan": False, "lanes": 1}  # fmt: skip
    with pytest.raises(UsageError, match=says):
        r1.run(argparse.Namespace(**{**values, **options}))


# ---- equal compute


def test_direct_rl_has_the_compute_of_its_distillation(tmp_path: Path) -> None:
    from distill.runs import write_run

    path = Path(r1.__file__).parent / "recipes" / "miniature.yaml"
    recipe = Recipe.load(path, overrides=["direct_rl.share_of_distillation=2.0"])
    with pytest.raises(UsageError, match="not finished"):
        direct_section(recipe, tmp_path, "qwen", 1e-4)
    for name, cpu_s in (("rejection-sampling", 30.0), ("distilled-qwen", 20.5)):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, kind="x", inputs="x", config={}, metrics={"cpu_s": cpu_s})
    section = direct_section(recipe, tmp_path, "qwen", 1e-4)
    assert section["max_cpu_s"] == pytest.approx(101.0)
    assert section["trl"]["learning_rate"] == 1e-4
    assert section["trl"]["max_steps"] == recipe.direct_rl.grpo["trl"]["max_steps"]


# ---- tables


@pytest.mark.parametrize(
    ("rule", "margin", "found", "holds"),
    [
        ("at_least", 0.3, [0.30, 0.2, 0.4], True),
        ("at_least", 0.3, [0.299, 0.2, 0.4], False),
        ("within", 0.05, [-0.051, -0.1, 0.0], False),
        ("within", 0.05, [-0.05, -0.1, 0.0], True),
        ("above", 0.0, [0.1, 0.001, 0.2], True),
        ("above", 0.0, [0.1, -0.001, 0.2], False),
        ("not_below", 0.0, [-0.1, -0.2, -0.01], False),
        ("not_below", 0.0, [-0.1, -0.2, 0.0], True),
        ("at_least", 0.3, [None, None, None], None),
    ],
)
def test_claims_hold_by_their_rule(rule: Any, margin: float, found: Any, holds: bool) -> None:
    assert Claim("t", "a", "b", "pass_rate", rule, margin).holds(found) is holds


def _results(seed: int, gain: float) -> dict[str, Any]:
    figures = {n: [0.5, 0.4, 0.6] for n in ("language_consistency", "readability", "format")}
    models = {
        label: {"pass@1": [value, value - 0.02, value + 0.02], "completion_tokens": [40.0, 39, 41],
                **figures}
        for label, value in (("base", 0.2), ("R1-Zero", 0.2 + gain))
    }  # fmt: skip
    difference = {"pass_rate": [gain, gain - 0.03, gain + 0.03]}
    return {"seed": seed, "models": models, "differences": {"base -> R1-Zero": difference}}


def test_the_table_over_seeds_has_each_seed_the_mean_and_the_spread() -> None:
    lines = over_seeds([_results(0, 0.4), _results(1, 0.2)], [])
    assert "| R1-Zero | 0.600 | 0.400 | 0.500 (0.200) | 0.500 (0.000) | 0.500 (0.000) |" in lines
    (claim,) = [line for line in lines if line.startswith("| R1-Zero over its base")]
    assert claim.endswith("| +0.400 [+0.370, +0.430] | +0.200 [+0.170, +0.230] | 1 of 2 |")


def test_what_was_not_measured_is_no_row_and_no_zero() -> None:
    lines = claim_lines([_results(0, 0.4)], ["qwen"])
    assert len(lines) == 3, "head, rule and the one claim with figures"
    first = _results(0, 0.4)
    first["models"]["base"]["readability"] = [None, None, None]
    (row,) = [line for line in of_seed(first, []) if line.startswith("| base |")]
    assert row == "| base | 0.200 [0.180, 0.220] | 0.500 | - | 0.500 | 40.0 |"


def test_every_claim_is_about_models_that_the_recipe_makes() -> None:
    made = {"base", "R1-Zero", "R1-Zero, coin", "R1-Zero + language", "Dev1", "Dev2", "Dev3",
            "qwen base", "qwen distilled", "qwen direct RL"}  # fmt: skip
    assert {m for c in claims(["qwen"]) for m in (c.before, c.after)} <= made


def test_costs_are_summed_over_the_jobs(tmp_path: Path) -> None:
    rows = [
        {"began": 100.0, "ended": 160.0, "cpu_s": 50.0},
        {"began": 110, "ended": 200, "cpu_s": 7},
    ]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    (tmp_path / "jobs.jsonl").write_text(text)
    assert cost_lines([tmp_path])[-1] == f"| {tmp_path.name} | 2 | 57 | 100 |"


# ---- a killed script


_TRAINER = """
import os, sys, time
import distill.cli as cli
cli.run_cli = lambda *a: (open(sys.argv[1], "w").write(str(os.getpid())), time.sleep(120))
cli.main([])
"""
_LAUNCHER = """
import subprocess, sys
subprocess.run([sys.executable, {trainer!r}, {pid!r}])
"""


def test_a_launched_trainer_dies_with_the_script_whatever_stands_between(tmp_path: Path) -> None:
    trainer, launcher, pid = (tmp_path / n for n in ("trainer.py", "launcher.py", "pid"))
    trainer.write_text(_TRAINER)
    launcher.write_text(_LAUNCHER.format(trainer=str(trainer), pid=str(pid)))
    code = (
        "import sys; from types import SimpleNamespace; from distill.launch import Launch; "
        f"words = [sys.executable, {str(launcher)!r}]; "
        "Launch.run(SimpleNamespace(command=lambda **_: words), [])"
    )
    script = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    deadline = time.monotonic() + 90
    while not (pid.exists() and pid.read_text()):
        assert script.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    script.kill()
    script.wait()
    status = Path("/proc", pid.read_text(), "status")
    deadline = time.monotonic() + 10
    while status.exists() and "(zombie)" not in status.read_text():
        assert time.monotonic() < deadline, "the trainer outlived the script"
        time.sleep(0.05)
