"""What a GRPO run leaves in the store: rollouts as traces, their rewards, and its steps."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import polars as pl

from distill.grpo.reward import PARTS, HackingMonitor, Rewarded
from distill.grpo.rollout import Keys, Sample
from distill.runs import Spent
from distill.training import eta
from factory.errors import FactoryError
from factory.records import TRAININGS, Prompt, PromptSource, Sampling, Trace, ids
from factory.store import Store

ROLLOUTS = TRAININGS["rollouts"]
STEPS = TRAININGS["rl_steps"]
EVALUATIONS = TRAININGS["rl_evaluations"]
_SAID_EVERY_S = 60.0


class Recorder:
    """Writes a run's facts as they come; a killed run's are kept. One process of a run has one.

    Args:
        store: where they go.
        keys: names of the rollouts.
        sampling: of the rollouts.
    """

    def __init__(self, store: Store, keys: Keys, sampling: Sampling) -> None:
        self.store, self.keys, self.sampling = store, keys, sampling
        details = {"rl_run": keys.rl_run, "attempt": keys.attempt, "model": keys.model}
        self.run_id = store.start_run("grpo", details)
        store.table("samplings").add(pl.DataFrame([sampling.row(self.run_id)]))
        self._traces = store.table("traces").writer(self.run_id)
        self._rollouts = store.table("rollouts", ROLLOUTS).writer(self.run_id)
        self._steps = store.table("rl_steps", STEPS).writer(self.run_id)
        self._evaluations: Any = None

    def prompts(self, pairs: Sequence[tuple[Prompt, PromptSource]]) -> None:
        """Record the prompts that the run may draw."""
        self.store.table("prompts").add(pl.DataFrame([p.row(self.run_id) for p, _ in pairs]))
        sources = [s.row(self.run_id) for _, s in pairs]
        self.store.table("prompt_sources").add(pl.DataFrame(sources, infer_schema_length=None))

    def rollouts(
        self,
        step: int,
        samples: Sequence[Sample],
        rewarded: Sequence[Rewarded],
        *,
        group_size: int,
        left_out: Sequence[tuple[Sample, Rewarded]] = (),
    ) -> None:
        """Append a whole rollout's traces and rewards, in the order of all processes.

        Args:
            step: updates before it.
            samples: shape (N,); each ``group_size`` of them in a row share a prompt.
            rewarded: shape (N,).
            group_size: completions of a prompt.
            left_out: whole groups that others were drawn in place of.
        """
        keys = self.keys
        traces, rows = [], []
        used = list(zip(samples, rewarded, strict=True))
        for at, (sample, reward) in enumerate([*used, *left_out]):
            trace = self._trace(keys, step, sample)
            traces.append(trace.row(self.run_id))
            others = {n: v for n, v in reward.parts.items() if n not in PARTS}
            rows.append(
                {
                    "trace_id": trace.trace_id, "rl_run": keys.rl_run,
                    "prompt_id": sample.prompt_id, "sample_index": sample.sample_index,
                    "status": reward.status, "round": sample.round, "is_used": at < len(used),
                    "step": step, "attempt": keys.attempt, "group_index": at // group_size,
                    "reward": reward.total, **{n: reward.parts[n] for n in PARTS},
                    "other_parts": json.dumps(others) if others else None,
                    "n_completion_tokens": sample.n_tokens,
                    "is_truncated": not sample.is_finished, "run_id": self.run_id,
                }
            )  # fmt: skip
        self._traces.append(traces)
        self._rollouts.append(rows)

    def _trace(self, keys: Keys, step: int, sample: Sample, **meta: Any) -> Trace:
        own = {"prompt_id": sample.prompt_id, "sample_index": sample.sample_index}
        about = {"rl_run": keys.rl_run, "step": step, "attempt": keys.attempt, **meta}
        if sample.is_rehearsed:
            about["rehearsal"] = True
        return Trace(
            trace_id=keys.trace_id(step=step, **own),  # type: ignore[arg-type]
            model=keys.model,
            revision=keys.revision(step),
            sampling_id=keys.sampling_id,
            completion=sample.text,
            prefill=self.sampling.prefill,
            finish_reason="stop" if sample.is_finished else "length",
            n_completion_tokens=sample.n_tokens,
            meta=json.dumps(about),
            **own,  # type: ignore[arg-type]
        )

    def evaluation(
        self,
        step: int,
        samples: Sequence[tuple[Sample, Rewarded]],
        sampling: Sampling,
        values: Mapping[str, Any],
    ) -> None:
        """Append an evaluation: its samples as traces, and what came out.

        Args:
            step: updates before it.
            samples: with their rewards, whose status the traces' ``meta`` holds.
            sampling: of these samples.
            values: of ``EVALUATIONS``.
        """
        keys = dataclasses.replace(self.keys, sampling_id=sampling.sampling_id)
        if self._evaluations is None:
            self.store.table("samplings").add(pl.DataFrame([sampling.row(self.run_id)]))
            table = self.store.table("rl_evaluations", EVALUATIONS)
            self._evaluations = table.writer(self.run_id)
        traces = [self._trace(keys, step, s, evaluation=r.status) for s, r in samples]
        self._traces.append([trace.row(self.run_id) for trace in traces])
        key = ids.key_of([keys.rl_run, "evaluation", step, keys.attempt])
        own = {"evaluation_id": key, "rl_run": keys.rl_run, "step": step}
        self._evaluations.append(
            [{**own, "attempt": keys.attempt, **values, "run_id": self.run_id}]
        )

    def step(self, step: int, values: Mapping[str, Any], *, logged: Mapping[str, Any]) -> None:
        """Append one step's figures."""
        row = dict.fromkeys(STEPS.columns) | dict(values)
        row |= {
            "step_id": ids.key_of([self.keys.rl_run, step, self.keys.attempt]),
            "rl_run": self.keys.rl_run,
            "step": step,
            "attempt": self.keys.attempt,
            "logged": json.dumps({k: v for k, v in logged.items() if isinstance(v, int | float)}),
            "run_id": self.run_id,
        }
        self._steps.append([row])

    def close(self, results: Mapping[str, Any]) -> None:
        """Seal what was written and record the end."""
        names = ["traces", "rollouts", "rl_steps"]
        for writer in (self._traces, self._rollouts, self._steps):
            writer.close()
        if self._evaluations is not None:
            self._evaluations.close()
            names.append("rl_evaluations")
        for name in names:
            self.store.table(name).seal()
        self.store.end_run(self.run_id, results)


class StepLog:
    """Takes the figures of each update: records them, says them, and watches for reward hacking.

    Every process has one, since all must stop at the same step; the first alone records and says.

    Args:
        name: of the run, at the head of each line.
        record: None in all processes but the first.
        spent: seconds of the run.
        say: takes lines.
        on_alarm: whether an alarm stops the run.
        is_routed: whether reward models pay; theirs is then the reward that could be hacked.
    """

    def __init__(
        self,
        name: str,
        record: Recorder | None,
        spent: Spent,
        *,
        say: Callable[[str], None],
        on_alarm: Literal["warn", "stop"],
        is_routed: bool = False,
    ) -> None:
        self.name, self.record, self.spent = name, record, spent
        self.say = say if record is not None else lambda _: None
        self.on_alarm = on_alarm
        self._watched = "helpful" if is_routed else "reward"
        # The paper's preference rewards are paid in 25 rollouts: two windows must fit well in.
        self.monitor = HackingMonitor(window=5, patience=3) if is_routed else HackingMonitor()
        self.alarms: list[int] = []
        self._begun: tuple[int, float] | None = None
        self._said = 0.0

    def add(
        self,
        step: int,
        max_steps: int,
        logs: Mapping[str, Any],
        *,
        rewards: Mapping[str, float | None],
        nats: float | None,
    ) -> None:
        """Take one update's figures.

        Args:
            step: the update, from 1.
            max_steps: of the run.
            logs: what TRL logged.
            rewards: means of the rollout that this update is the first of; empty at the others.
            nats: how far the sampler was from the trainer at worst.

        Raises:
            FactoryError: the alarm is on and stops the run.
        """
        alarm = self.monitor.add(
            rewards.get(self._watched),
            rewards.get("accuracy"),
            length=rewards.get("helpful_chars"),
            correlation=rewards.get("helpful_length_correlation"),
        )
        row = {name: logs.get(key) for name, key in _LOGGED.items()}
        logs = {**logs, **{f"parts/{n}": v for n, v in rewards.items() if n not in STEPS.columns}}
        rewards = {n: v for n, v in rewards.items() if n in STEPS.columns}
        row |= {**rewards, "weights_apart_nats": nats, "is_alarm": alarm is not None,
                "cpu_s": round(self.spent.cpu_s, 2),
                "wall_s": round(self.spent.wall_s, 2)}  # fmt: skip
        if self.record is not None:
            self.record.step(step, row, logged=logs)
        now = time.monotonic()
        if self._begun is None:
            self._begun = (step, now)
        is_due = step % max(1, max_steps // 10) == 0 or step in (1, max_steps)
        if is_due or now - self._said > _SAID_EVERY_S:
            self._said = now
            left = eta(self._begun[0], step, max_steps, now - self._begun[1])
            self.say(f"grpo {self.name}: {progress_line(step, max_steps, row)}{left}")
        self._sound(step, alarm)

    def evaluated(self, step: int, values: Mapping[str, Any]) -> None:
        """Take an evaluation on the development set.

        Raises:
            FactoryError: the alarm is on and stops the run.
        """
        self._sound(step, self.monitor.evaluated(values["low"], values["high"]))

    def _sound(self, step: int, alarm: str | None) -> None:
        if alarm is None:
            return
        self.alarms.append(step)
        self.say(f"grpo {self.name}: ALARM at step {step}: {alarm}")
        if self.on_alarm == "stop":
            raise FactoryError(
                f"the reward-hacking monitor stopped the run at step {step}: {alarm}",
                "look at its rollouts; earlier checkpoints are kept",
            )


# Column of ``rl_steps`` → key of TRL's log.
_LOGGED = {
    "loss": "loss", "grad_norm": "grad_norm", "kl": "kl", "entropy": "entropy",
    "learning_rate": "learning_rate", "zero_variance_fraction": "frac_reward_zero_std",
    "truncated_fraction": "completions/clipped_ratio",
    "completion_tokens": "completions/mean_length", "clip_fraction": "clip_ratio/region_mean",
}  # fmt: skip


def progress_line(step: int, max_steps: int, row: Mapping[str, Any]) -> str:
    """Return one step as a short line.

    >>> progress_line(1, 10, {"reward": 0.5, "accuracy": 0.25, "cpu_s": 1.5})
    'step 1/10, reward 0.500, accuracy 0.250, 1.5 CPU-s'
    """
    names = {
        "reward": "reward", "accuracy": "accuracy", "format": "format", "language": "language",
        "completion_tokens": "tokens", "truncated_fraction": "truncated",
        "zero_variance_fraction": "without variance", "zero_variance_drawn": "of them drawn",
        "kl": "kl",
    }  # fmt: skip
    parts = [f"step {step}/{max_steps}"]
    for key, word in names.items():
        value = row.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            parts.append(f"{word} {value:.1f}" if key.endswith("tokens") else f"{word} {value:.3f}")
    if row.get("cpu_s") is not None:
        parts.append(f"{row['cpu_s']:.1f} CPU-s")
    return ", ".join(parts)
