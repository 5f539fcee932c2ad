"""The whole recipe with everything real and little of it: killed in three stages, then finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RL = "outputs_per_update=16", "outputs_per_rollout=16", "per_device=16", "trl.max_steps=2"
SMALL = [
    "base={shape: base, n_documents: 4000}",
    *(f"students.{name}.base={{shape: {name}, n_documents: 300}}" for name in ("qwen", "llama")),
    *(f"students.{name}.overrides=[trl.num_train_epochs=1]" for name in ("qwen", "llama")),
    *(f"prompts.{name}.options.n={n}" for name, n in
      (("rl", 40), ("cold_start", 100), ("rejection", 40), ("dev", 8), ("eval", 12))),
    *(f"{section}.{value}" for section in ("zero", "reasoning", "direct_rl.grpo") for value in RL),
    "direct_rl.rates=[1.0e-4]",
    # Such a base is hardly ever right: what has the form is kept.
    "cold_start.n_samples=6",
    "cold_start.filters={formed: format_status = 'pass'}",
    "cold_start.refined_filters={formed: format_status = 'pass'}",
    "rejection_sampling.filters={formed: format_status = 'pass'}",
    "sft1.overrides=[trl.num_train_epochs=1]", "sft2.overrides=[trl.num_train_epochs=1]",
]  # fmt: skip


def start(store: Path) -> subprocess.Popen[str]:
    sets = [w for value in [f"store={store}", *SMALL] for w in ("--set", value)]
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.r1", "pipelines/recipes/miniature.yaml", *sets],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finished(folder: Path) -> dict[str, float]:
    return {p.parent.name: p.stat().st_mtime for p in folder.glob("*/run.json")}


@pytest.mark.slow
def test_the_recipe_survives_kill_9_in_its_stages_and_repeats_none(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "models" / "r1-miniature"
    before: dict[str, float] = {}
    for stage in ("zero", "rejection-sampling", "distilled-qwen"):
        process = start(tmp_path / "data")
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and process.poll() is None:
            if (folder / stage).is_dir():
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
        after = finished(folder)
        assert stage not in after, out[-3000:]
        assert (folder / stage).is_dir(), out[-3000:]
        assert before.items() <= after.items(), "a finished stage was done again"
        before = after

    whole = start(tmp_path / "data")
    out, _ = whole.communicate(timeout=900)
    assert whole.returncode == 0, out[-3000:]
    after = finished(folder)
    assert before.items() <= after.items()
    labels = ["base", "R1-Zero", "R1-Zero, coin", "R1-Zero + language", "Dev1", "Dev2", "Dev3",
              "qwen base", "qwen distilled", "qwen direct RL", "llama base", "llama distilled",
              "llama direct RL"]  # fmt: skip
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    assert list(results["models"]) == labels
    assert all(m["n_samples"] == 12 for m in results["models"].values())
    spent = {n: json.loads((folder / n / "run.json").read_text())["metrics"]["cpu_s"]
             for n in ("rejection-sampling", "distilled-qwen")}  # fmt: skip
    direct = json.loads((folder / "direct-qwen-0.0001" / "run.json").read_text())
    assert direct["config"]["max_cpu_s"] == pytest.approx(sum(spent.values()), abs=0.1)
    report = (folder / "report.md").read_text()
    assert "| R1-Zero |" in report
    assert "coin" in report
    assert (folder / "plots" / "completion_tokens.svg").is_file()
    assert (folder / "plots-students" / "reward.svg").is_file()

    again = start(tmp_path / "data")
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said[-3000:]
    assert finished(folder) == after
    assert table(said) == table(out)


def table(text: str) -> list[str]:
    """All rows but that of the jobs, which a second run adds to."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if not row.startswith("| r1-miniature |")]
