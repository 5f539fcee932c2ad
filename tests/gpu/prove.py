"""Prove on one GPU what no CPU can: speed, share of the arithmetic, and memory against the plan.

    python tests/gpu/prove.py [--out prove.json]

Trains a Qwen2.5-1.5B of random weights by SFT (packs of 8,192 tokens) and by GRPO (groups of rows
of 4,096 tokens, with reference and sampler's correction), the 7B by adapters, and samples the 1.5B
where vLLM is installed. Made for one H100 or H200; about ten minutes. It needs torch, transformers,
accelerate, trl and datasets (peft for the adapters), reads no data and writes one file. Exit status
0: every goal is met; 1: one is missed, or could not be measured. ``--tiny`` runs the same lines on
a CPU with a model of a few weights, and says nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from distill.measure import Work, device_name, measured

GOALS = {"sft": 0.45, "grpo": 0.30}
"""Share of the device's arithmetic that is to be reached, all weights trained."""
OFF = 0.15
"""Share of the measured peak that the plan may be off."""
WORK = {
    "sft": ("sft", {"model": "qwen2.5-1.5b", "length": 8192}),
    "grpo": ("grpo", {"model": "qwen2.5-1.5b", "length": 4096}),
    "sft, adapters": ("sft", {"model": "qwen2.5-7b", "length": 8192, "lora": 64}),
    "sample": ("sample", {"model": "qwen2.5-1.5b", "length": 4096}),
}
TINY = {
    "num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256, "vocab_size": 512,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip


def goals(name: str, found: dict[str, Any], *, tiny: bool) -> list[dict[str, Any]]:
    """Return what a phase was to reach, and whether it did."""
    if "error" in found:
        return [{"what": f"{name} runs", "found": found["error"], "is_met": False}]
    if tiny:
        return [{"what": f"{name} runs", "found": found["tokens_per_s"], "is_met": True}]
    out = []
    if name in GOALS:
        share = found["mfu"]
        out.append({"what": f"{name} uses {GOALS[name]:.0%} of the arithmetic", "found": share,
                    "is_met": share is not None and share >= GOALS[name]})  # fmt: skip
    if found["peak_gib"]:
        ratio = found["planned_gib"] / found["peak_gib"]
        out.append({"what": f"{name} planned memory within {OFF:.0%}", "found": ratio,
                    "is_met": abs(ratio - 1) <= OFF})  # fmt: skip
    return out


def main() -> int:
    """Measure, write the file, say what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("prove.json"))
    parser.add_argument("--tiny", action="store_true", help="the same lines on a CPU")
    parser.add_argument("--only", nargs="+", choices=list(WORK), default=list(WORK))
    args = parser.parse_args()
    if not args.tiny and device_name() == "cpu":
        print("prove: there is no GPU; --tiny runs the same lines on a CPU", file=sys.stderr)
        return 2
    began, phases, reached = time.monotonic(), {}, []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(TINY))
        small = {"model": folder, "length": 64, "rows": 2, "per_device": 2, "group": 2, "steps": 1}
        for name in args.only:
            phase, values = WORK[name]
            if args.tiny:
                values = {**values, **small, "lora": min(8, int(str(values.get("lora", 0))))}
            found = measured(phase, Work(**values), timeout_s=240 if not args.tiny else 900)  # type: ignore[arg-type]
            phases[name] = {"work": values, **found}
            reached += goals(name, found, tiny=args.tiny)
            print(f"{time.monotonic() - began:5.0f} s  {name}: {json.dumps(found)}", flush=True)
            # What was found is kept whatever comes later.
            write(args.out, phases, reached, seconds=time.monotonic() - began)
    for goal in reached:
        print(f"{'met   ' if goal['is_met'] else 'MISSED'} {goal['what']}: {goal['found']}")
    return 0 if all(goal["is_met"] for goal in reached) else 1


def write(out: Path, phases: dict[str, Any], reached: list[Any], *, seconds: float) -> None:
    """Write what is known so far."""
    versions = {}
    for name in ("torch", "transformers", "accelerate", "trl", "peft", "vllm"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    values = {"device": device_name(), "seconds": round(seconds, 1), "versions": versions,
              "goals": reached, "phases": phases}  # fmt: skip
    out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
