"""What a machine's devices do: tokens a second, share of their arithmetic, peak of memory.

Weights are random ones of a model's shape, so that nothing is fetched; what training does with them
costs the same. Each phase runs in a process of its own (``measured``), since memory that one has
held would be counted for the next. A phase needs torch, transformers, accelerate, trl and datasets
(and peft with adapters) and nothing else of the project than ``distill.memory``: a bare machine
will do. Sampling needs vLLM and the whole project.

The settings are those of ``distill sft`` and ``distill grpo``: fp32 weights computed in bf16, or
adapters over bf16 weights; layers computed again in the backward pass; rows packed. ``training``
and ``sampling`` hold the phases, ``random_models`` what they run on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.memory import Shape, shape_of

PHASES = ("sft", "grpo", "sample")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is measured.

    Attributes:
        model: folder with a ``config.json``, or a name whose shape is known.
        length: tokens of a pack of SFT, and of prompt and completion of GRPO.
        rows: rows of a pack (attention is within rows).
        per_device: completions of a forward pass of GRPO.
        group: completions of a prompt.
        lora: rank of adapters over bf16 weights; 0 trains all weights in fp32.
        seconds: of a phase after the warm-up; at least one update is timed.
        steps: updates that are timed at most.
        slots: sequences that are sampled at once.
        gpu_share: of the device's memory that the sampler may take.
        bf16: compute in bf16; None: where there is a GPU.
        checkpointed: compute layers again in the backward pass; None: where there is a GPU.
    """

    model: str
    length: int = 8192
    rows: int = 4
    per_device: int = 4
    group: int = 4
    lora: int = 0
    seconds: float = 30.0
    steps: int = 8
    slots: int = 256
    gpu_share: float = 0.85
    bf16: bool | None = None
    checkpointed: bool | None = None

    @property
    def shape(self) -> Shape:
        """Numbers of the model.

        Raises:
            ValueError: they are not known.
        """
        found = shape_of(self.model)
        if found is None:
            raise ValueError(f"the shape of {self.model!r} is not known: give a folder")
        return found


@dataclass(kw_only=True)
class Found:
    """What a phase was measured to do on one device.

    Attributes:
        phase: of ``PHASES``.
        tokens_per_s: trained, or sampled.
        mfu: arithmetic of the model over what the device can do at most; None where that is not
            known. What is computed again in the backward pass does not count.
        peak_gib: most memory that was held, without what the libraries take.
        planned_gib: what ``distill.memory`` says.
        steps: that were timed.
        step_s: seconds of each.
        parts: planned GiB by what holds them.
    """

    phase: str
    tokens_per_s: float
    mfu: float | None = None
    peak_gib: float | None = None
    planned_gib: float | None = None
    steps: int = 0
    step_s: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)


def measured(phase: str, work: Work, *, timeout_s: float = 900) -> dict[str, Any]:
    """Measure a phase in a process of its own; returns ``Found``, or ``{"error": …}``.

    Args:
        phase: of ``PHASES``.
        work: what is measured.
        timeout_s: after which the phase is given up.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        words = [sys.executable, "-W", "ignore", "-m", "distill.measure", phase, str(out)]
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
        # Blocks over a MiB go back to the machine when they are freed, or its memory says nothing.
        env = {**os.environ, "PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
        try:
            done = subprocess.run(
                [*words, json.dumps(asdict(work))], env=env, timeout=timeout_s, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"phase": phase, "error": f"not done after {timeout_s:.0f} s"}
        if done.returncode or not out.is_file():
            lines = [line for line in done.stdout.splitlines() if line.strip()]
            return {"phase": phase, "error": " | ".join(lines[-3:])[-600:] or "killed"}
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found


def rates(work: Work, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure all phases; returns what ``plan.measured`` of a recipe reads.

    Args:
        work: what is measured.
        say: takes a line per phase.

    Raises:
        ValueError: the model's shape is not known.
    """
    phases, n = {}, work.shape.n
    for phase in PHASES:
        found = phases[phase] = measured(phase, work)
        if "error" in found:
            say(f"{phase}: not measured: {found['error']}")
            continue
        line = f"{phase}: {found['tokens_per_s']:,.0f} tokens/s"
        if found["mfu"] is not None:
            line += f", {found['mfu']:.0%} of the device's arithmetic"
        if found["peak_gib"] is not None:
            line += f", {found['peak_gib']:.1f} GiB (planned {found['planned_gib']:.1f})"
        say(line)
    names = {"sft": "train_tokens_per_gpu_s", "grpo": "grpo_tokens_per_gpu_s",
             "sample": "generate_tokens_per_gpu_s"}  # fmt: skip
    out = {name: phases[phase].get("tokens_per_s") for phase, name in names.items()}
    what = {"device": device_name(), "model": work.model, "n_parameters": n, "lora": work.lora}
    return {**what, **out, "phases": phases}


def device_name() -> str:
    """Return the name of the device that is measured."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
