"""What an evaluation found: its figures and its stored rows."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from distill.evaluate.contamination import Contamination
from factory.errors import UsageError
from factory.metrics import Interval, mean_interval, paired_difference
from factory.records import EVALUATIONS, ids

FORM = EVALUATIONS["evaluations"]
SAMPLES = EVALUATIONS["evaluation_samples"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model's samples say.

    Attributes:
        per_prompt: one row per prompt: prompt_id, n, n_pass, n_unscored, pass_rate, cons, reward,
            language consistency and lengths as means over its samples; null where undefined.
        metrics: name → mean over prompts with its interval.
        pass_at: k' → unbiased pass@k', None where no prompt has k' scored samples.
        n_missing: wanted samples that do not exist (only where they were allowed).
        samples: every wanted sample, the missing ones included.
        gaps: (``missing`` or ``unscored``, reason) → samples.
        seeds: mean over runs, each of one sample per prompt; ``seed_sd``: how far single runs of
            the benchmark lie apart.
        cost: money for the samples' tokens, where a price was given.
        trained_on: contamination of training data by the benchmark, where that was named.
    """

    benchmark: str
    model: str
    revision: str
    sampling_id: str
    k: int
    n_samples: int
    n_unscored: int
    n_missing: int
    per_prompt: pl.DataFrame
    metrics: Mapping[str, Interval]
    pass_at: Mapping[int, float | None]
    run_id: str = ""
    samples: Sequence[Mapping[str, Any]] = ()
    gaps: Mapping[tuple[str, str], int] = field(default_factory=Counter)
    seeds: Interval | None = None
    seed_sd: float | None = None
    cost: float | None = None
    trained_on: Contamination | None = None

    @property
    def pass_at_1(self) -> float | None:
        """Mean over prompts of the share of right samples."""
        return self.metrics["pass@1"].mean

    @property
    def n_tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens of all samples, as far as they are known."""
        names = ("n_prompt_tokens", "n_completion_tokens")
        prompt, completion = (sum(s[n] or 0 for s in self.samples) for n in names)
        return prompt, completion

    @property
    def evaluation_id(self) -> str:
        """Key of what was found: another verdict, sample or setting gives another."""
        counted = [[s["trace_id"], s["status"], s["reward"], s["vote"]] for s in self.samples]
        return ids.key_of(
            [self.model, self.revision, self.sampling_id, self.k, self._prompts, counted,
             None if self.trained_on is None else self.trained_on.data]
        )  # fmt: skip

    @property
    def _prompts(self) -> str:
        return ids.key_of(sorted(self.per_prompt["prompt_id"].to_list()))

    def lines(self) -> list[str]:
        """Return the report, as plain short lines: the counts first, then what is not counted."""
        out = [
            f"{self.benchmark}: {self.per_prompt.height} prompts x k={self.k} = {self.n_samples} "
            f"samples of {self.model}@{self.revision[:12]}"
            + (f", {self.n_missing} MISSING" if self.n_missing else "")
            + (f", {self.n_unscored} unscored" if self.n_unscored else "")
        ]
        for (status, reason), n in sorted(self.gaps.items()):
            out.append(f"  {status:22} {n:,} {reason}")
        for name, interval in self.metrics.items():
            out.append(f"  {name:22} {shown(interval)}")
        if self.seeds is not None and self.seed_sd is not None:
            apart = f"; one run of the benchmark lies {self.seed_sd:.3f} (sd) from it"
            out.append(f"  {'pass@1 over seeds':22} {shown(self.seeds)}{apart}")
        pairs = "  ".join(f"@{k} {_number(v)}" for k, v in self.pass_at.items())
        out.append(f"  {'pass@k (unbiased)':22} {pairs}")
        prompt, completion = self.n_tokens
        money = "" if self.cost is None else f"; they cost {self.cost:,.2f}"
        out.append(f"  {'tokens':22} {prompt:,} of prompts, {completion:,} of answers{money}")
        if self.trained_on is not None:
            out.append(f"  {'contamination':22} {self.trained_on.line(self.per_prompt.height)}")
        return out

    def row(self) -> dict[str, object]:
        """Return the stored form (table ``evaluations``)."""
        main = self.metrics["pass@1"]
        prompt, completion = self.n_tokens
        clean = self.metrics.get("pass@1 uncontaminated")
        return {
            "evaluation_id": self.evaluation_id,
            "benchmark": self.benchmark,
            "model": self.model,
            "revision": self.revision,
            "sampling_id": self.sampling_id,
            "k": self.k,
            "n_prompts": self.per_prompt.height,
            "n_samples": self.n_samples,
            "n_unscored": self.n_unscored,
            "n_missing": self.n_missing,
            "pass_at_1": main.mean,
            "pass_at_1_low": main.low,
            "pass_at_1_high": main.high,
            "pass_at_1_seed_sd": self.seed_sd,
            "pass_at_k": self.pass_at.get(self.k),
            "cons_at_k": self.metrics["cons@k"].mean,
            "mean_reward": self.metrics["reward"].mean,
            "truncated_fraction": self.metrics["truncated"].mean,
            "format_fraction": self.metrics["format"].mean,
            "language_consistency": self.metrics["language_consistency"].mean,
            "readability": self.metrics["readability"].mean,
            "mean_completion_tokens": self.metrics["completion_tokens"].mean,
            "mean_reasoning_chars": self.metrics["reasoning_chars"].mean,
            "n_prompt_tokens": prompt,
            "n_completion_tokens": completion,
            "cost": self.cost,
            "trained_on": None if self.trained_on is None else self.trained_on.data,
            "n_contaminated": None if self.trained_on is None else len(self.trained_on.prompts),
            "pass_at_1_clean": None if clean is None else clean.mean,
            "prompts_hash": self._prompts,
            "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "run_id": self.run_id,
        }

    def sample_rows(self) -> list[dict[str, object]]:
        """Return the stored form of the samples (table ``evaluation_samples``)."""
        own = self.evaluation_id
        hit = None if self.trained_on is None else self.trained_on.prompts
        return [
            {
                **{name: sample.get(name) for name in SAMPLES.columns},
                "sample_id": ids.key_of([own, sample["trace_id"]]),
                "evaluation_id": own,
                "is_contaminated": None if hit is None else sample["prompt_id"] in hit,
                "run_id": self.run_id,
            }
            for sample in self.samples
        ]


def shown(interval: Interval) -> str:
    """Return an interval as text.

    >>> shown(Interval(0.5, 0.25, 0.75, 4, 0))
    '0.500 [0.250, 0.750]'
    >>> shown(Interval(None, None, None, 0, 4))
    'undefined'
    """
    if interval.mean is None:
        return "undefined"
    ends = f" [{_number(interval.low)}, {_number(interval.high)}]"
    left = f"  ({interval.n_undefined} undefined)" if interval.n_undefined else ""
    return _number(interval.mean) + (ends if interval.low is not None else "") + left


def _number(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


@dataclass(frozen=True)
class Paired:
    """Two models on the same prompts: after − before, per metric."""

    before: str
    after: str
    differences: Mapping[str, Interval] = field(default_factory=dict)


def paired(
    before: Evaluation, after: Evaluation, *, metrics: Sequence[str] = ("pass_rate",)
) -> Paired:
    """Return the difference per metric with its interval, prompt by prompt.

    Args:
        before: a model's evaluation.
        after: another's, on the same prompts.
        metrics: columns of ``per_prompt``.

    Raises:
        UsageError: the prompts differ.
    """
    joined = joined_prompts(before.per_prompt, after.per_prompt)
    out = {
        m: paired_difference(joined[m].to_list(), joined[f"{m}_after"].to_list()) for m in metrics
    }
    return Paired(before.model, after.model, out)


def joined_prompts(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Return one row per prompt with the columns of both, the second's with ``_after``.

    Raises:
        UsageError: the prompts differ.
    """
    left, right = before["prompt_id"].to_list(), after["prompt_id"].to_list()
    if sorted(left) != sorted(right):
        shared = len({*left} & {*right})
        raise UsageError(
            f"the two evaluations have different prompts ({len(left)} and {len(right)}, "
            f"{shared} in common)",
            "evaluate both on one set",
        )
    return before.join(after, on="prompt_id", suffix="_after", maintain_order="left")


def clean_interval(per_prompt: pl.DataFrame, hit: frozenset[str]) -> Interval:
    """Return pass@1 over the prompts that training data do not hold."""
    kept = per_prompt.filter(~pl.col("prompt_id").is_in(list(hit)))
    return mean_interval(kept["pass_rate"].to_list())
