"""What an evaluation found: its figures, its stored row, and the difference of two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from factory.errors import UsageError
from factory.metrics import Interval, paired_difference
from factory.records import TableForm, ids

FORM = TableForm(
    "evaluation_id",
    {
        **dict.fromkeys(("evaluation_id", "benchmark", "model", "revision", "sampling_id"), "text"),
        **dict.fromkeys(("k", "n_prompts", "n_samples", "n_unscored", "n_missing"), "int"),
        **dict.fromkeys(
            ("pass_at_1", "pass_at_1_low", "pass_at_1_high", "pass_at_k", "cons_at_k",
             "truncated_fraction", "format_fraction", "language_consistency", "readability",
             "mean_completion_tokens", "mean_reasoning_chars"),
            "float",
        ),
        "prompts_hash": "text",
        "run_id": "text",
    },
)  # fmt: skip
"""Table ``evaluations``: one row per model, sampling, set of prompts and k."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model's samples say.

    Attributes:
        per_prompt: one row per prompt: prompt_id, n, n_pass, n_unscored, pass_rate, cons, language
            consistency and lengths as means over its samples; null where undefined.
        metrics: name → mean over prompts with its interval.
        pass_at: k' → unbiased pass@k', None where no prompt has k' scored samples.
        n_missing: wanted samples that do not exist (only where they were allowed).
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

    @property
    def pass_at_1(self) -> float | None:
        """Mean over prompts of the share of right samples."""
        return self.metrics["pass@1"].mean

    def lines(self) -> list[str]:
        """Return the report, as plain short lines: the counts first."""
        out = [
            f"{self.benchmark}: {self.per_prompt.height} prompts x k={self.k} = {self.n_samples} "
            f"samples of {self.model}@{self.revision[:12]}"
            + (f", {self.n_missing} MISSING" if self.n_missing else "")
            + (f", {self.n_unscored} unscored" if self.n_unscored else "")
        ]
        for name, interval in self.metrics.items():
            out.append(f"  {name:22} {shown(interval)}")
        pairs = "  ".join(f"@{k} {_number(v)}" for k, v in self.pass_at.items())
        out.append(f"  {'pass@k (unbiased)':22} {pairs}")
        return out

    def row(self) -> dict[str, object]:
        """Return the stored form (table ``evaluations``)."""
        main = self.metrics["pass@1"]
        prompts = ids.key_of(sorted(self.per_prompt["prompt_id"].to_list()))
        return {
            "evaluation_id": ids.key_of(
                [self.model, self.revision, self.sampling_id, self.k, prompts, self.n_samples]
            ),
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
            "pass_at_k": self.pass_at.get(self.k),
            "cons_at_k": self.metrics["cons@k"].mean,
            "truncated_fraction": self.metrics["truncated"].mean,
            "format_fraction": self.metrics["format"].mean,
            "language_consistency": self.metrics["language_consistency"].mean,
            "readability": self.metrics["readability"].mean,
            "mean_completion_tokens": self.metrics["completion_tokens"].mean,
            "mean_reasoning_chars": self.metrics["reasoning_chars"].mean,
            "prompts_hash": prompts,
            "run_id": self.run_id,
        }


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
    left = f"  ({interval.n_undefined} prompts undefined)" if interval.n_undefined else ""
    return _number(interval.mean) + (ends if interval.low is not None else "") + left


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


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
    left, right = before.per_prompt, after.per_prompt
    if sorted(left["prompt_id"]) != sorted(right["prompt_id"]):
        raise UsageError("the two evaluations have different prompts", "evaluate both on one set")
    joined = left.join(right, on="prompt_id", suffix="_after", maintain_order="left")
    out = {
        m: paired_difference(joined[m].to_list(), joined[f"{m}_after"].to_list()) for m in metrics
    }
    return Paired(before.model, after.model, out)
