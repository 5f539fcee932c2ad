"""Two evaluations side by side, on the same prompts, from what the store recorded of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from distill.evaluate import summarise
from distill.evaluate.results import joined_prompts
from factory import model_files
from factory.errors import UsageError
from factory.metrics import Interval, mean_interval, paired_difference, smallest_difference
from factory.store import Store

METRICS = ("pass_rate", "cons", "reward", "truncated", "format", "language_consistency",
           "readability", "completion_tokens")  # fmt: skip
_UNBOUNDED = ("completion_tokens",)


@dataclass(frozen=True)
class Recorded:
    """An evaluation as the store has it: its row, and one row per prompt."""

    row: Mapping[str, Any]
    per_prompt: pl.DataFrame

    @property
    def name(self) -> str:
        """Model and how it was sampled, as far as they tell two apart."""
        return f"{self.row['model']} k={self.row['k']}"


@dataclass(frozen=True)
class Difference:
    """One figure of two models: each mean, the difference, and what could have been seen."""

    metric: str
    before: float | None
    after: float | None
    gain: Interval
    smallest: float | None

    @property
    def verdict(self) -> str:
        """``higher``, ``lower``, or that so many prompts do not tell them apart."""
        if self.gain.low is None or self.gain.high is None:
            return "undefined"
        if self.gain.low > 0:
            return "higher"
        return "lower" if self.gain.high < 0 else "not told apart"


def recorded(store: Store, which: str, *, benchmark: str | None = None) -> Recorded:
    """Return the latest evaluation of a model, or that of an evaluation_id.

    Args:
        store: with table ``evaluations``.
        which: model (its folder, or as its table names it, or the end of that), or the beginning
            of an id.
        benchmark: of the evaluation, where the model has several.

    Raises:
        UsageError: there is none, or there are several benchmarks.
    """
    if not store.has("evaluations"):
        raise UsageError("the store has no evaluation", "run `distill evaluate`")
    found = store.table("evaluations").read().sort("created_at")
    mine = found.filter(
        (pl.col("model") == model_files.name_of(which))
        | pl.col("model").str.ends_with("/" + which)
        | (pl.col("evaluation_id").str.starts_with(which) & (len(which) >= 6))
    )
    if benchmark is not None:
        mine = mine.filter(pl.col("benchmark") == benchmark)
    if mine.is_empty():
        known = ", ".join(sorted(set(found["model"]))[:8])
        raise UsageError(f"no evaluation of {which!r}", f"models: {known}")
    if mine["benchmark"].n_unique() > 1:
        raise UsageError(
            f"{which!r} was evaluated on {', '.join(sorted(set(mine['benchmark'])))}",
            "name one with --benchmark",
        )
    row = mine.row(mine.height - 1, named=True)
    samples = (
        store.table("evaluation_samples")
        .read()
        .filter(pl.col("evaluation_id") == row["evaluation_id"])
        .sort("prompt_id", "sample_index")
        .to_dicts()
    )
    prompts = list(dict.fromkeys(s["prompt_id"] for s in samples))
    return Recorded(row, summarise(samples, prompts=prompts, k=row["k"])[0])


def compare(before: Recorded, after: Recorded) -> list[Difference]:
    """Return every figure of two evaluations on the same prompts.

    Raises:
        UsageError: the prompts differ.
    """
    joined = joined_prompts(before.per_prompt, after.per_prompt)
    out = []
    for metric in METRICS:
        left, right = joined[metric].to_list(), joined[f"{metric}_after"].to_list()
        out.append(
            Difference(
                metric,
                mean_interval(left, bounded=metric not in _UNBOUNDED).mean,
                mean_interval(right, bounded=metric not in _UNBOUNDED).mean,
                paired_difference(left, right),
                smallest_difference(left, right),
            )
        )
    return out


def lines(before: Recorded, after: Recorded, differences: Sequence[Difference]) -> Iterator[str]:
    """Yield a comparison as text; ``differences`` are those of ``compare``."""
    joined = joined_prompts(before.per_prompt, after.per_prompt)
    gains = (joined["pass_rate_after"] - joined["pass_rate"]).drop_nulls()
    yield f"{before.name} -> {after.name} on {joined.height} prompts of {after.row['benchmark']}"
    yield (
        f"  prompts solved more often: {(gains > 0).sum()}, less often: {(gains < 0).sum()}, "
        f"equally: {(gains == 0).sum()}"
    )
    yield (
        f"  {'':20} {'before':>9} {'after':>9} {'gain':>9} {'95 % interval':>21} {'could show':>10}"
    )
    for d in differences:
        ends = "" if d.gain.low is None else f"[{d.gain.low:+.3f}, {d.gain.high:+.3f}]"
        yield (
            f"  {d.metric:20} {_n(d.before):>9} {_n(d.after):>9} {_n(d.gain.mean, '+'):>9} "
            f"{ends:>21} {_n(d.smallest):>10}  {d.verdict}"
        )
    yield "  could show: the smallest difference that so many prompts show in 4 of 5 cases"


def _n(value: float | None, sign: str = "") -> str:
    return "undefined" if value is None else f"{value:{sign}.3f}"
