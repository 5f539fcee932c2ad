"""Groups without variance: before and after a band of difficulty, and before and after resampling.

    python -m tests.bench.bench_variance --model BASE [--prompts 400] [--updates 12]
        [--rate 1e-7] [--ranks 2]

``BASE`` is a miniature's base (``python -m pipelines.quickstart`` leaves one). It is sampled once
(``factory generate``, eight of a prompt); then ``distill grpo`` trains from it on all prompts, on
those that it passes a tenth to nine tenths of the time (``pass_rate``), and on all prompts again
with flat groups drawn again (``resample``) in one process and in ``--ranks`` of them. At the
rate that it has by default all of them sample the base.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from factory.records import Sampling
from factory.store import Store
from tests.helpers_ranks import distill

GROUP = 8
BAND = [0.1, 0.9]


def main() -> None:
    """Sample, train four times, and say the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sampled(args.model, work, args.prompts)
        for name, own, ranks in (
            ("all prompts", {}, 1), (f"pass_rate {BAND}", {"pass_rate": BAND}, 1),
            ("resample 3", {"resample": 3}, 1), ("resample 3", {"resample": 3}, args.ranks),
        ):  # fmt: skip
            began = time.monotonic()
            own = {**own, "rate": args.rate}
            said = trained(args.model, work, own, updates=args.updates, ranks=ranks)
            took = time.monotonic() - began
            print(f"{name}, {ranks} process{'es' * (ranks > 1)}: {said}; {took:.0f} s, "
                  f"load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip


def sampled(model: str, work: Path, n: int) -> None:
    """Sample the base, and write the prompts."""
    from factory.engines.vllm import Engine
    from factory.engines.vllm_start import prepare_environment
    from factory.stages.generate import generate
    from factory.stages.generate.policy import Policy
    from pipelines.common import write_pairs
    from pipelines.miniature.problems import prompts

    prepare_environment()
    found = list(prompts(n=n, seed=0, split="train"))
    write_pairs(found, work / "prompts.jsonl")
    engine = Engine(model)
    generate(Store(work / "data"), found, engine, policy=Policy(n=GROUP),
             sampling=Sampling(temperature=0.7, max_tokens=96))  # fmt: skip
    engine.close()


def trained(model: str, work: Path, own: dict[str, Any], *, updates: int, ranks: int) -> str:
    """Train a few updates and say what its groups were."""
    rate = own.pop("rate")
    name = "-".join([*own, str(ranks)])
    config = {
        "base": model, "out": str(work / name), "preset": "r1_zero", "template": "own",
        "dialect": "think", "rewards": {"accuracy": 1.0}, "outputs_per_update": 16 * GROUP,
        "outputs_per_rollout": 16 * GROUP, "per_device": 8 * GROUP, "max_prompt_tokens": 160,
        "length_caps": {0: 96}, "n_workers": 1, "trainable": "mlp", **own,
        "trl": {"max_steps": updates, "num_generations": GROUP, "learning_rate": rate,
                "temperature": 0.7, "beta": 0.0, "sync_ref_model": False, "save_strategy": "no"},
    }  # fmt: skip
    path = work / f"{name}.json"
    path.write_text(json.dumps(config))
    distill("grpo", str(path), "--prompts", str(work / "prompts.jsonl"), "--store",
            str(work / "data"), ranks=ranks)  # fmt: skip
    store = Store(work / "data")
    run = json.loads((work / name / "run.json").read_text())["metrics"]
    rows = store.table("rollouts").read().filter(pl.col("rl_run") == run["rl_run"])
    groups = rows.filter(pl.col("is_used")).group_by("step", "group_index")
    flat = groups.agg((pl.col("reward").n_unique() <= 1).alias("flat"))["flat"]
    steps = store.table("rl_steps").read().filter(pl.col("rl_run") == run["rl_run"])
    drawn = steps["zero_variance_drawn"].mean()
    before = "" if drawn is None else f"{drawn:.3f} as drawn, "
    assert rows["trace_id"].n_unique() == rows.height, "a key stands twice"
    return (
        f"{before}{flat.mean():.3f} of {flat.len()} groups trained on without variance; "
        f"{run['n_prompts']} prompts, {rows.height} rollouts, no key twice"
    )


if __name__ == "__main__":
    main()
