"""The ledger: tokens, seconds, GPU-seconds and money per accepted trace, per filter, per stage.

A run's seconds and money are shared out over its traces by their completion tokens. What was not
measured is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from factory.store import Store

BANDS = ("0", "(0, 0.25]", "(0.25, 0.5]", "(0.5, 0.75]", "(0.75, 1)", "1", "unscored")


@dataclass(frozen=True, kw_only=True)
class Price:
    """What tokens and devices cost, in any one currency.

    >>> Price(per_million_completion_tokens=2.0).of(completion_tokens=500_000)
    1.0
    """

    per_million_prompt_tokens: float = 0.0
    per_million_completion_tokens: float = 0.0
    per_gpu_hour: float = 0.0

    def of(
        self, *, prompt_tokens: int = 0, completion_tokens: int = 0, gpu_seconds: float = 0.0
    ) -> float:
        """Return the money for so much."""
        return (
            prompt_tokens * self.per_million_prompt_tokens / 1e6
            + completion_tokens * self.per_million_completion_tokens / 1e6
            + gpu_seconds * self.per_gpu_hour / 3600
        )


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What a decision cost.

    Attributes:
        n_traces: traces of the universe; n_accepted: those kept.
        totals: tokens, seconds, gpu_seconds, cost of the universe; None where not measured.
        per_accepted: the same divided by ``n_accepted``; None where nothing was accepted.
        by_filter: columns filter, n_dropped, completion_tokens, cost.
        by_stage: columns stage, n_runs, seconds, completion_tokens, gpu_seconds, cost; all runs of
            the store.
    """

    n_traces: int
    n_accepted: int
    totals: Mapping[str, float | None]
    per_accepted: Mapping[str, float | None]
    by_filter: pl.DataFrame
    by_stage: pl.DataFrame


def ledger(
    store: Store,
    universe: pl.Series,
    accepted: pl.Series,
    dropped_by: Mapping[str, pl.Series] | None = None,
) -> Ledger:
    """Return what the traces of a universe cost.

    Args:
        store: where traces and runs are recorded.
        universe: wanted trace ids, shape (N,).
        accepted: those that were kept.
        dropped_by: filter's name → ids of the traces that it drops (each filter alone).
    """
    costs = trace_costs(store, universe)
    totals = {name: _sum(costs[name]) for name in MEASURES}
    n = len(accepted)
    filters = [
        {
            "filter": name,
            "n_dropped": len(gone),
            **{
                m: _sum(costs.filter(pl.col("trace_id").is_in(gone.implode()))[m])
                for m in ("completion_tokens", "cost")
            },
        }
        for name, gone in (dropped_by or {}).items()
    ]
    return Ledger(
        n_traces=costs.height,
        n_accepted=n,
        totals=totals,
        per_accepted={k: v / n if v is not None and n else None for k, v in totals.items()},
        by_filter=pl.DataFrame(
            filters,
            schema={
                "filter": pl.String, "n_dropped": pl.Int64, "completion_tokens": pl.Float64,
                "cost": pl.Float64,
            },
        ),
        by_stage=stages(store),
    )  # fmt: skip


MEASURES = ("prompt_tokens", "completion_tokens", "seconds", "gpu_seconds", "cost")


def trace_costs(store: Store, trace_ids: pl.Series) -> pl.DataFrame:
    """Return one row per stored trace with its share of its run, columns trace_id and MEASURES."""
    wanted = pl.DataFrame({"trace_id": trace_ids.cast(pl.String)})
    columns = ["trace_id", "n_prompt_tokens", "n_completion_tokens", "run_id"]
    frames = [
        f.join(wanted, on="trace_id", how="semi") for f in store.table("traces").batches(columns)
    ]
    schema = {"trace_id": pl.String, "n_prompt_tokens": pl.Int64, "n_completion_tokens": pl.Int64,
              "run_id": pl.String}  # fmt: skip
    traces = pl.concat([pl.DataFrame(schema=schema), *frames])
    runs = pl.DataFrame(
        [_rates(run) for run in store.runs() if run["kind"] == "generate"],
        schema={"run_id": pl.String, "s": pl.Float64, "g": pl.Float64, "c": pl.Float64},
    )
    tokens = pl.col("n_completion_tokens").cast(pl.Float64)
    return traces.join(runs, on="run_id", how="left").select(
        "trace_id",
        pl.col("n_prompt_tokens").cast(pl.Float64).alias("prompt_tokens"),
        tokens.alias("completion_tokens"),
        (tokens * pl.col("s")).alias("seconds"),
        (tokens * pl.col("g")).alias("gpu_seconds"),
        (tokens * pl.col("c")).alias("cost"),
    )


def _rates(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's seconds, GPU-seconds and money per completion token; None if unknown."""
    results = run.get("results") or {}
    tokens = results.get("n_completion_tokens")

    def rate(name: str) -> float | None:
        value = results.get(name)
        return value / tokens if tokens and value is not None else None

    return {
        "run_id": run["run_id"], "s": rate("seconds"), "g": rate("gpu_seconds"), "c": rate("cost")
    }  # fmt: skip


def stages(store: Store) -> pl.DataFrame:
    """Return what each kind of run has cost, over all ended runs of the store."""
    rows = []
    for run in store.runs():
        results = run.get("results") or {}
        rows.append(
            {
                "stage": run["kind"],
                **{
                    m: results.get(n)
                    for m, n in (
                        ("seconds", "seconds"), ("completion_tokens", "n_completion_tokens"),
                        ("gpu_seconds", "gpu_seconds"), ("cost", "cost"),
                    )
                },
            }
        )  # fmt: skip
    schema = {"stage": pl.String, "seconds": pl.Float64, "completion_tokens": pl.Int64,
              "gpu_seconds": pl.Float64, "cost": pl.Float64}  # fmt: skip
    measured = [c for c in schema if c != "stage"]
    return (
        pl.DataFrame(rows, schema=schema)
        .group_by("stage")
        .agg(
            pl.len().alias("n_runs"),
            *[
                pl.when(pl.col(c).is_not_null().any()).then(pl.col(c).sum()).alias(c)
                for c in measured
            ],
        )
        .sort("stage")
    )


def coverage(traces: pl.DataFrame) -> pl.DataFrame:
    """Return coverage by pass-rate band, so that a bias against hard prompts is seen.

    Args:
        traces: columns prompt_id, status, is_kept; optionally n_completion_tokens.

    Returns:
        One row per band: prompts, covered (with at least one kept trace), covered_fraction (None
        without prompts), traces, kept, completion_tokens.

    >>> frame = pl.DataFrame({"prompt_id": ["a", "a", "b"], "status": ["pass", "fail", "fail"],
    ...     "is_kept": [True, False, False]})
    >>> coverage(frame).filter(pl.col("prompts") > 0).select("band", "prompts", "covered").rows()
    [('0', 1, 0), ('(0.25, 0.5]', 1, 1)]
    """
    if "n_completion_tokens" not in traces.columns:
        traces = traces.with_columns(pl.lit(None, dtype=pl.Int64).alias("n_completion_tokens"))
    is_pass = (pl.col("status") == "pass").sum()
    scored = pl.col("status").is_in(["pass", "fail"]).sum()
    prompts = traces.group_by("prompt_id").agg(
        pl.when(scored > 0).then(is_pass / scored).alias("rate"),
        pl.len().alias("traces"),
        pl.col("is_kept").sum().alias("kept"),
        pl.col("n_completion_tokens").sum().alias("completion_tokens"),
    )
    rate = pl.col("rate")
    band = pl.when(rate.is_null()).then(pl.lit("unscored"))
    for name, is_in in (
        ("0", rate == 0), ("1", rate == 1), ("(0, 0.25]", rate <= 0.25),
        ("(0.25, 0.5]", rate <= 0.5), ("(0.5, 0.75]", rate <= 0.75),
    ):  # fmt: skip
        band = band.when(is_in).then(pl.lit(name))  # type: ignore[assignment]
    grouped = prompts.group_by(band.otherwise(pl.lit("(0.75, 1)")).alias("band")).agg(
        pl.len().alias("prompts"),
        (pl.col("kept") > 0).sum().alias("covered"),
        pl.col("traces", "kept", "completion_tokens").sum(),
    )
    order = pl.DataFrame({"band": list(BANDS)})
    out = order.join(grouped, on="band", how="left", maintain_order="left").fill_null(0)
    fraction = pl.when(pl.col("prompts") > 0).then(pl.col("covered") / pl.col("prompts"))
    return out.with_columns(fraction.alias("covered_fraction")).select(
        "band", "prompts", "covered", "covered_fraction", "traces", "kept", "completion_tokens"
    )


def _sum(column: pl.Series) -> float | None:
    known = column.drop_nulls()
    return float(known.sum()) if len(known) else None
