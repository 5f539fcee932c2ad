"""Planned memory of trainings against measured peaks, on a CPU.

usage: python tests/bench/bench_plan.py [--shapes smollm2-135m qwen2.5-0.5b] [--length 512]
           [--phases sft grpo] [--out FILE]

Each training is a process of its own: random weights of a shape, two updates of two forward
passes, with layers computed again in the backward pass and without. The peak is the kernel's
(VmHWM) from the moment when a model of a few weights has gone through the same trainer, which takes
what the libraries take. Freed blocks over a MiB go back at once. The bound is 15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from distill.measure import Work, measured

BOUND = 0.15


def main() -> None:
    """Measure, and print a line per training as it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["smollm2-135m", "qwen2.5-0.5b"])
    parser.add_argument("--phases", nargs="+", default=["sft", "grpo"])
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--how", nargs="+", default=["fp32", "fp32+checkpoints"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    worst = 0.0
    print(f"{'shape':16}{'phase':6}{'how':18}{'planned':>9}{'measured':>10}{'ratio':>7}  load")
    for shape in args.shapes:
        for phase in args.phases:
            for how in args.how:
                work = Work(
                    model=shape, length=args.length, rows=4, per_device=2, group=4, seconds=1,
                    steps=1, bf16="bf16" in how, checkpointed="checkpoints" in how,
                )  # fmt: skip
                began = time.monotonic()
                found = measured(phase, work, timeout_s=3600)
                line = f"{shape:16}{phase:6}{how:18}"
                if "error" in found:
                    print(line, found["error"], flush=True)
                    continue
                ratio = found["planned_gib"] / found["peak_gib"]
                worst = max(worst, abs(ratio - 1))
                line += f"{found['planned_gib']:9.3f}{found['peak_gib']:10.3f}{ratio:7.3f}"
                took = time.monotonic() - began
                print(f"{line}  {os.getloadavg()[0]:.1f} ({took:.0f} s)", flush=True)
                if args.out:
                    row = {"shape": shape, "how": how, "length": args.length, **found}
                    with args.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    print(f"worst {worst:.1%}; the bound is {BOUND:.0%}")


if __name__ == "__main__":
    main()
