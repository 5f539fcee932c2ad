"""Trainings in several processes on a CPU: how tests start them, and what they train on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def write_rows(path: Path, n: int) -> Path:
    """Write ``n`` rows of a length that differs, as SFT reads them."""
    lines = []
    for i in range(n):
        text = f"<think>\n{i} and {i}: {'I add. ' * (i % 5)}{2 * i}\n</think>\n\n{2 * i}"
        row = {"prompt": [{"role": "user", "content": f"{i}+{i}?"}],
               "completion": [{"role": "assistant", "content": text}]}  # fmt: skip
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_prompts(path: Path, n: int = 12) -> Path:
    """Write ``n`` prompts with golds, as ``distill grpo --prompts`` reads them."""
    rows = [
        {"messages": [{"role": "user", "content": f"{i}+{i}?"}], "source": "sums", "item": str(i),
         "gold": str(2 * i), "verifier": "math", "language": "en"}
        for i in range(n)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def distill(*words: str, ranks: int = 1, file: str = "ddp", timeout_s: float = 400) -> str:
    """Run ``distill`` in so many processes by a launch file; returns what it said.

    Raises:
        AssertionError: it failed.
    """
    process = start(*words, ranks=ranks, file=file)
    said = process.communicate(timeout=timeout_s)[0]
    assert process.returncode == 0, said[-4000:]
    return said


def start(*words: str, ranks: int = 1, file: str = "ddp") -> subprocess.Popen[str]:
    """Start ``distill`` in so many processes by a launch file."""
    command = [sys.executable, "-W", "ignore", "-m"]
    if ranks > 1:
        path = ROOT / "distill" / "launch" / f"{file}.yaml"
        command += ["distill.launch.cpu_fsdp", "--config_file", str(path)]
        command += ["--num_processes", str(ranks), "--num_machines", "1", "-m"]
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    return subprocess.Popen(
        [*command, "distill.cli", *words], cwd=ROOT, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def run_of(folder: Path) -> dict[str, Any]:
    """Return the manifest of a finished run."""
    values: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return values
