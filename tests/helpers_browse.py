"""A store for the tests of the browser: releases, a curve of RL with its rollouts, trainings."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl

from distill.grpo.record import ROLLOUTS, STEPS
from factory.records import PromptSource, Verdict, ids
from factory.store import Store
from factory.store.durable import write_json
from tests import helpers_catalog as made

RL_RUN = "zero-math"
N_STEPS, N_GROUPS, GROUP = 24, 2, 4
RL_ID = "20261121t090000-bbbbbb"


def reward_at(step: int, name: str) -> float:
    """A curve that rises, and falls once at step 16."""
    rise = 1 - math.exp(-step / (8 if name == RL_RUN else 14))
    return round(max(0.0, rise - (0.45 if step in (16, 17) and name == RL_RUN else 0)), 4)


def add_rl(store: Store, name: str = RL_RUN, run_id: str = RL_ID, *, is_open: bool = False) -> None:
    """Record a run of RL as ``distill.grpo`` does; ``is_open`` leaves its writers open."""
    write_json(
        store.root / "runs" / run_id / "run.json",
        {"run_id": run_id, "kind": "grpo", "started_at": "2026-11-21T09:00:00+00:00",
         "details": {"rl_run": name, "attempt": 1, "model": "policy"}},
    )  # fmt: skip
    traces, rollouts, steps, verdicts = [], [], [], []
    for step in range(N_STEPS):
        mean = reward_at(step + 1, name)
        for group, prompt in enumerate(made.prompts()[:N_GROUPS]):
            for k in range(GROUP):
                right = (k + 1) / GROUP <= mean + 0.01
                answer = 2 * (group + 1) if right else 9
                trace = made.trace(prompt, step * 10 + k, f"{answer}</think>\\boxed{{{answer}}}",
                                   model=f"policy-{name}")  # fmt: skip
                row = {**trace.row(run_id), "revision": f"{name}@{step}#1"}
                traces.append(row)
                verdict = (
                    Verdict.passed(decided_by="number", extracted=str(answer))
                    if right
                    else Verdict.failed("wrong", decided_by="number", extracted=str(answer))
                )
                verdicts.append(
                    made.verdict_row(trace.trace_id, str(2 * (group + 1)), verdict, run_id)
                )
                reward = None if (step, k) == (3, 3) else float(right)
                rollouts.append(
                    {"trace_id": trace.trace_id, "rl_run": name, "prompt_id": prompt.prompt_id,
                     "status": "pass" if right else "fail", "step": step, "attempt": 1,
                     "group_index": group, "sample_index": k, "reward": reward,
                     "accuracy": reward, "format": 1.0, "language": 1.0,
                     "n_completion_tokens": 100 + 9 * step + k, "is_truncated": False,
                     "run_id": run_id}
                )  # fmt: skip
        steps.append(
            {**dict.fromkeys(STEPS.columns),
             "step_id": ids.key_of([name, step, 1]), "rl_run": name, "step": step + 1,
             "attempt": 1, "reward": mean, "accuracy": mean, "format": 1.0, "language": 1.0,
             "loss": 0.01 * math.cos(step), "kl": 0.001 * step, "entropy": 1.2 - 0.03 * step,
             "learning_rate": 1e-6, "completion_tokens": 100.0 + 9 * step, "is_alarm": step == 16,
             "run_id": run_id}
        )  # fmt: skip
    for table, form, rows in (
        ("traces", None, traces), ("rollouts", ROLLOUTS, rollouts), ("rl_steps", STEPS, steps)
    ):  # fmt: skip
        writer = store.table(table, form).writer(run_id)
        writer.append(rows)
        if is_open:
            _OPEN.append(writer)
        else:
            writer.close()
    store.table("verdicts.math@1").add(pl.DataFrame(verdicts, infer_schema_length=None))


_OPEN: list[object] = []


def add_training(folder: Path, *, data: str, seed: int = 0, is_finished: bool = True) -> None:
    """A folder as ``distill.sft`` leaves it, or as it is while it trains."""
    log = [
        {"step": s, "loss": 2.2 * math.exp(-s / (15 + 5 * seed)) + 0.4, "learning_rate": 1e-5,
         "grad_norm": 1.0 + 0.1 * math.sin(s), "epoch": s / 20}
        for s in range(2, 61, 2)
    ]  # fmt: skip
    config = {"student": "miniature", "data": data, "seed": seed}
    if is_finished:
        metrics = {"steps": 60, "first_loss": log[0]["loss"], "last_loss": log[-1]["loss"],
                   "log": log}  # fmt: skip
        write_json(folder / "run.json", {"kind": "sft", "config": config, "metrics": metrics})
        return
    checkpoint = folder / "checkpoints" / "checkpoint-30"
    checkpoint.mkdir(parents=True)
    state = {"global_step": 30, "log_history": log[:15]}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    (checkpoint / "whole").write_text(json.dumps({"inputs": "x", "settings": config}))


def make_store(root: Path) -> Store:
    """The store of ``helpers_catalog`` with two releases, two RL runs and three trainings."""
    store = made.make_store(root)
    folder = made.make_release(store)
    manifest = json.loads((folder / "manifest.json").read_text())
    second = folder.with_name("v2")
    second.mkdir()
    kept = pl.read_parquet(folder / "part-00000.parquet")["trace_id"].to_list()[:-3]
    pl.DataFrame({"trace_id": kept}).write_parquet(second / "part-00000.parquet")
    decided = pl.read_parquet(folder / "decisions.parquet").with_columns(
        pl.col("trace_id").is_in(kept).alias("is_kept"),
        pl.when(pl.col("is_kept") & ~pl.col("trace_id").is_in(kept))
        .then(pl.lit(["short"]))
        .otherwise(pl.col("dropped_by"))
        .alias("dropped_by"),
    )
    decided.write_parquet(second / "decisions.parquet")
    counts = {"n_in": 13, "n_dropped_here": 3, "n_dropped": 9, "n_dropped_only": 3,
              "n_undefined": 0}  # fmt: skip
    short = {
        "name": "short",
        "sql": "completion_words < 9",
        "is_on": True,
        "n_undefined": 0,
        **counts,
    }
    manifest |= {
        "version": "v2", "rows": len(kept), "filters": [*manifest["filters"][:2], short],
        "created_at": "2026-11-21T12:02:00+00:00", "sequence": 2,
        "parts": [{"name": "part-00000.parquet", "rows": len(kept)}],
    }  # fmt: skip
    write_json(second / "manifest.json", manifest)
    add_rl(store)
    add_rl(store, "zero-again", "20261121t100000-cccccc")
    models = store.root / "models"
    add_training(models / "student", data=f"{models}/sums-v1.jsonl")
    add_training(models / "student-b", data=f"{models}/sums-v2.jsonl", seed=1)
    add_training(models / "student-c", data=f"{models}/sums-v2.jsonl", seed=2, is_finished=False)
    store.table("prompt_sources").add(
        pl.DataFrame(
            [PromptSource(prompt_id=made.prompts()[0].prompt_id, source="sums", item="again",
                          gold="2", verifier="math").row(made.RUN)]
        )
    )  # fmt: skip
    return store
