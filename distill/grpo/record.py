"""What a GRPO run leaves in the store: rollouts as traces, their rewards, and its steps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from distill.grpo.reward import Rewarded
from factory.records import Prompt, PromptSource, Sampling, TableForm, Trace, ids
from factory.store import Store

ROLLOUTS = TableForm(
    "trace_id",
    {
        **dict.fromkeys(("trace_id", "rl_run", "prompt_id", "status"), "text"),
        **dict.fromkeys(("step", "attempt", "group_index", "sample_index"), "int"),
        **dict.fromkeys(("reward", "accuracy", "format", "language"), "float"),
        "n_completion_tokens": "int",
        "is_truncated": "bool",
        "run_id": "text",
    },
)
"""Table ``rollouts``: rewards and their parts, one row per rollout, beside its trace."""

STEPS = TableForm(
    "step_id",
    {
        **dict.fromkeys(("step_id", "rl_run"), "text"),
        **dict.fromkeys(("step", "attempt"), "int"),
        **dict.fromkeys(
            ("reward", "accuracy", "format", "language", "loss", "grad_norm", "kl", "entropy",
             "learning_rate", "zero_variance_fraction", "truncated_fraction", "completion_tokens",
             "clip_fraction", "weights_apart_nats", "cpu_s", "wall_s"),
            "float",
        ),
        "is_alarm": "bool",
        "logged": "text",
        "run_id": "text",
    },
)  # fmt: skip
"""Table ``rl_steps``: one row per logged step; ``logged`` holds everything that TRL said."""


@dataclass
class Recorder:
    """Writes a run's facts as they come; a killed run's are kept.

    Args:
        store: where they go.
        rl_run: stable name of the run, the same in every attempt.
        attempt: how many times the run was started, from 1.
        sampling: of the rollouts.
        model: name of the policy.
    """

    store: Store
    rl_run: str
    attempt: int
    sampling: Sampling
    model: str

    def __post_init__(self) -> None:
        details = {"rl_run": self.rl_run, "attempt": self.attempt, "model": self.model}
        self.run_id = self.store.start_run("grpo", details)
        self.sampling_id = self.sampling.sampling_id
        self.store.table("samplings").add(pl.DataFrame([self.sampling.row(self.run_id)]))
        self._traces = self.store.table("traces").writer(self.run_id)
        self._rollouts = self.store.table("rollouts", ROLLOUTS).writer(self.run_id)
        self._steps = self.store.table("rl_steps", STEPS).writer(self.run_id)

    def prompts(self, pairs: Sequence[tuple[Prompt, PromptSource]]) -> None:
        """Record the prompts that the run may draw."""
        self.store.table("prompts").add(pl.DataFrame([p.row(self.run_id) for p, _ in pairs]))
        sources = [s.row(self.run_id) for _, s in pairs]
        self.store.table("prompt_sources").add(pl.DataFrame(sources, infer_schema_length=None))

    def revision(self, step: int) -> str:
        """Return what stands for the policy in keys."""
        return f"{self.rl_run}@{step}#{self.attempt}"

    def trace_id(self, *, prompt_id: str, step: int, sample_index: int) -> str:
        """Return the key of a rollout."""
        return ids.trace_id(
            prompt_id=prompt_id,
            model=self.model,
            revision=self.revision(step),
            sampling_id=self.sampling_id,
            sample_index=sample_index,
        )

    def rollouts(
        self,
        *,
        step: int,
        pairs: Sequence[tuple[Prompt, PromptSource]],
        sample_indices: Sequence[int],
        groups: Sequence[int],
        texts: Sequence[str],
        n_tokens: Sequence[int],
        finished: Sequence[bool],
        rewarded: Sequence[Rewarded],
    ) -> None:
        """Append one rollout's traces and rewards; arguments have shape (N,)."""
        traces, rows = [], []
        for at, (prompt, _) in enumerate(pairs):
            prompt_id, index = prompt.prompt_id, sample_indices[at]
            key = self.trace_id(prompt_id=prompt_id, step=step, sample_index=index)
            trace = Trace(
                trace_id=key,
                prompt_id=prompt_id,
                model=self.model,
                revision=self.revision(step),
                sampling_id=self.sampling_id,
                sample_index=index,
                completion=texts[at],
                prefill=self.sampling.prefill,
                finish_reason="stop" if finished[at] else "length",
                n_completion_tokens=n_tokens[at],
                meta=json.dumps({"rl_run": self.rl_run, "step": step, "attempt": self.attempt}),
            )
            traces.append(trace.row(self.run_id))
            reward = rewarded[at]
            rows.append(
                {
                    "trace_id": key, "rl_run": self.rl_run, "prompt_id": prompt_id,
                    "status": reward.status, "step": step,
                    "attempt": self.attempt, "group_index": groups[at], "sample_index": index,
                    "reward": reward.total, **reward.parts,
                    "n_completion_tokens": n_tokens[at], "is_truncated": not finished[at],
                    "run_id": self.run_id,
                }
            )  # fmt: skip
        self._traces.append(traces)
        self._rollouts.append(rows)

    def step(self, step: int, values: Mapping[str, Any], *, logged: Mapping[str, Any]) -> None:
        """Append one step's figures."""
        row = dict.fromkeys(STEPS.columns) | dict(values)
        row |= {
            "step_id": ids.key_of([self.rl_run, step, self.attempt]),
            "rl_run": self.rl_run,
            "step": step,
            "attempt": self.attempt,
            "logged": json.dumps({k: v for k, v in logged.items() if isinstance(v, int | float)}),
            "run_id": self.run_id,
        }
        self._steps.append([row])

    def close(self, results: Mapping[str, Any]) -> None:
        """Seal what was written and record the end."""
        for writer in (self._traces, self._rollouts, self._steps):
            writer.close()
        for name in ("traces", "rollouts", "rl_steps"):
            self.store.table(name).seal()
        self.store.end_run(self.run_id, results)
