"""Dynamics of an RL run: what changes over its steps, from its rollouts in the store.

Reward and its parts, groups without variance, truncation, lengths, the ten reflective words per
1,000 tokens, and candidate "aha" corrections: right answers whose thinking says "wait" (or its
Chinese counterparts). A candidate is no proof, and a base model has some: step 0 is the base rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from factory.stages.facts import score_store, score_table
from factory.stages.score import Scorer
from factory.store import Store

SERIES = (
    "reward", "accuracy", "format", "language", "zero_variance_fraction", "truncated_fraction",
    "completion_tokens", "reasoning_words", "reflective_per_1k_tokens", "wait_per_1k_tokens",
    "aha_fraction",
)  # fmt: skip


def dynamics(store: Store, rl_run: str) -> pl.DataFrame:
    """Return one row per step with ``step`` and the columns of ``SERIES``.

    Of a step that was sampled again after a kill, the last attempt counts.

    Args:
        store: where the run recorded its rollouts.
        rl_run: its name in table ``rollouts``.
    """
    if not store.has("rollouts"):
        return pl.DataFrame(schema={"step": pl.Int64, **dict.fromkeys(SERIES, pl.Float64)})
    rollouts = store.table("rollouts").read().filter(pl.col("rl_run") == rl_run)
    rollouts = rollouts.filter(pl.col("attempt") == pl.col("attempt").max().over("step"))
    measured = _measured(store, rollouts["trace_id"])
    frame = rollouts.join(measured, on="trace_id", how="left")
    groups = frame.group_by("step", "group_index").agg(
        (pl.col("reward").n_unique() <= 1).alias("flat")
    )
    flat = groups.group_by("step").agg(pl.col("flat").mean().alias("zero_variance_fraction"))
    tokens = pl.col("n_completion_tokens").sum()
    aha = (pl.col("n_wait") > 0) & (pl.col("status") == "pass")
    out = frame.group_by("step").agg(
        *(pl.col(name).mean() for name in ("reward", "accuracy", "format", "language")),
        pl.col("is_truncated").mean().alias("truncated_fraction"),
        pl.col("n_completion_tokens").mean().alias("completion_tokens"),
        pl.col("reasoning_words").mean(),
        (pl.col("n_reflective").sum() * 1000 / tokens).alias("reflective_per_1k_tokens"),
        (pl.col("n_wait").sum() * 1000 / tokens).alias("wait_per_1k_tokens"),
        aha.mean().alias("aha_fraction"),
    )
    joined = out.join(flat, on="step").sort("step")
    return joined.select("step", *(pl.col(name).cast(pl.Float64) for name in SERIES))


def _measured(store: Store, trace_ids: pl.Series) -> pl.DataFrame:
    """Return reflective words and lengths of the rollouts, computing what the store lacks."""
    names = ["dynamics", "length"]
    score_store(store, names, trace_ids=trace_ids)
    scorer = Scorer(names)
    out = pl.DataFrame({"trace_id": trace_ids})
    for name, columns in (
        ("dynamics", ["n_reflective", "n_wait"]),
        ("length", ["reasoning_words"]),
    ):
        table = score_table(store, scorer, name)
        parts = [
            frame.join(out.select("trace_id"), on="trace_id", how="semi")
            for frame in table.batches(["trace_id", *columns])
        ]
        if parts:
            out = out.join(pl.concat(parts), on="trace_id", how="left")
    return out


def plots(runs: Mapping[str, pl.DataFrame], folder: Path) -> list[str]:
    """Write one SVG per series with a line per run; return Markdown that shows them.

    Args:
        runs: name → frame of ``dynamics``.
        folder: where the files go; the Markdown lies beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in SERIES:
        series = {
            run: list(zip(f["step"].to_list(), f[name].to_list(), strict=True))
            for run, f in runs.items()
            if f.height > 1
        }
        if series:
            (folder / f"{name}.svg").write_text(svg(name, series), encoding="utf-8")
            lines.append(f"![{name} over steps]({folder.name}/{name}.svg)")
    return lines


_COLOURS = ("#0060b0", "#c04000", "#008050", "#8030a0", "#806000", "#a00040", "#404040", "#0090a0")


def svg(title: str, series: Mapping[str, list[tuple[int, float | None]]]) -> str:
    """Return a line chart.

    Args:
        title: above it.
        series: name → (step, value) pairs; None leaves a gap out.

    >>> svg("x", {"run": [(0, 0.0), (1, 1.0)]}).count("<polyline")
    1
    """
    points = [(x, y) for pairs in series.values() for x, y in pairs if y is not None]
    if not points:
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"
    x0, x1 = min(x for x, _ in points), max(x for x, _ in points)
    y0, y1 = min(y for _, y in points), max(y for _, y in points)
    wide, high = 480, 240

    def at(x: float, y: float) -> str:
        across = 50 + (x - x0) / max(x1 - x0, 1) * wide
        up = 30 + (1 - (y - y0) / ((y1 - y0) or 1.0)) * high
        return f"{across:.1f},{up:.1f}"

    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='760' height='{high + 60}' "
        "font-family='sans-serif' font-size='12'>",
        f"<text x='50' y='18'>{title}</text>",
        f"<path d='M50 30V{30 + high}H{50 + wide}' fill='none' stroke='#888'/>",
        f"<text x='4' y='36'>{y1:.3g}</text><text x='4' y='{30 + high}'>{y0:.3g}</text>",
        f"<text x='50' y='{46 + high}'>{x0}</text>",
        f"<text x='{30 + wide}' y='{46 + high}'>{x1}</text>",
    ]
    for number, (run, pairs) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = " ".join(at(x, y) for x, y in pairs if y is not None)
        parts.append(f"<polyline points='{line}' fill='none' stroke='{colour}'/>")
        parts.append(f"<text x='{60 + wide}' y='{40 + 16 * number}' fill='{colour}'>{run}</text>")
    return "\n".join([*parts, "</svg>\n"])
