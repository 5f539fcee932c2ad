"""Dynamics of an RL run: what changes over its steps, from its rollouts in the store.

Reward and its parts, groups without variance, truncation, lengths, the ten reflective words per
1,000 tokens, and candidate "aha" corrections: right answers whose thinking says "wait" (or its
Chinese counterparts). A candidate is no proof, and a base model has some: step 0 is the base rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

import polars as pl

from factory.stages.score import score, score_table
from factory.stages.scorer import Scorer
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
    # Groups that others were drawn in place of taught nothing, and are not of the step.
    rollouts = rollouts.filter(pl.col("is_used"))
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


def accuracy_by_level(store: Store, rl_run: str, *, parts: int = 8) -> pl.DataFrame:
    """Return the accuracy of each level of the prompts over a run (DeepSeek-R1 v2, C.1).

    Args:
        store: where the run recorded its rollouts.
        rl_run: its name in table ``rollouts``.
        parts: of the run, of equal length, over which accuracy is averaged.

    Returns:
        Rows of ``from_step``, ``level``, ``n`` rollouts and ``accuracy``; none where no prompt has
        a level. Rollouts that could not be judged do not count.
    """
    empty = {"from_step": pl.Int64, "level": pl.String, "n": pl.Int64, "accuracy": pl.Float64}
    if not store.has("rollouts") or not store.has("prompt_sources"):
        return pl.DataFrame(schema=empty)
    rollouts = store.table("rollouts").read().filter(pl.col("rl_run") == rl_run)
    rollouts = rollouts.filter(pl.col("attempt") == pl.col("attempt").max().over("step"))
    sources = store.table("prompt_sources").read(["prompt_id", "level"]).drop_nulls()
    levels = sources.unique("prompt_id", keep="first", maintain_order=True)
    known = rollouts.drop_nulls("accuracy").join(levels, on="prompt_id")
    if not known.height:
        return pl.DataFrame(schema=empty)
    width = max(1, -(-(int(rollouts["step"].max() or 0) + 1) // parts))  # type: ignore[arg-type]
    out = known.group_by((pl.col("step") // width * width).alias("from_step"), "level").agg(
        pl.len().cast(pl.Int64).alias("n"), pl.col("accuracy").mean()
    )
    return out.sort("from_step", "level").select(list(empty))


def _measured(store: Store, trace_ids: pl.Series) -> pl.DataFrame:
    """Return reflective words and lengths of the rollouts, computing what the store lacks."""
    names = ["dynamics", "length"]
    score(store, names, trace_ids=trace_ids)
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


TITLES = {
    "reward": "mean reward",
    "accuracy": "share of right rollouts",
    "format": "share of well-formed rollouts",
    "language": "language consistency of the thinking",
    "zero_variance_fraction": "share of groups whose rewards are all equal",
    "truncated_fraction": "share of truncated rollouts",
    "completion_tokens": "tokens per rollout",
    "reasoning_words": "words of thinking per rollout",
    "reflective_per_1k_tokens": "reflective words per 1,000 tokens",
    "wait_per_1k_tokens": '"wait" per 1,000 tokens',
    "aha_fraction": 'share of right rollouts that say "wait" (step 0: base rate)',
}
"""What a plot of each of ``SERIES`` shows."""


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
            (folder / f"{name}.svg").write_text(svg(TITLES[name], series), encoding="utf-8")
            lines.append(f"![{TITLES[name]}, over steps]({folder.name}/{name}.svg)")
    return lines


_COLOURS = ("#0060b0", "#c04000", "#008050", "#8030a0", "#806000", "#a00040", "#404040", "#0090a0")
_WIDE, _HIGH, _LEFT, _TOP = 480, 240, 56, 30


def _ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Return round numbers from ``low`` to ``high``, at most about ``n``.

    >>> _ticks(0.0, 21.0), _ticks(18.9, 45.9)
    ([0.0, 5.0, 10.0, 15.0, 20.0], [20.0, 30.0, 40.0])
    """
    size = 10.0 ** math.floor(math.log10((high - low) / n))
    width = next(size * m for m in (1, 2, 5, 10, 20) if (high - low) / (size * m) <= n)
    first = math.ceil(low / width - 1e-9)
    return [i * width for i in range(first, math.floor(high / width + 1e-9) + 1)]


def svg(title: str, series: Mapping[str, list[tuple[int, float | None]]]) -> str:
    """Return a line chart with round ticks on both axes.

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
    if y1 == y0:
        y0, y1 = y0 - 0.5, y1 + 0.5

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x0) / max(x1 - x0, 1) * _WIDE
        return across, _TOP + (1 - (y - y0) / (y1 - y0)) * _HIGH

    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='760' height='{_HIGH + 74}' "
        "font-family='sans-serif' font-size='12'>",
        f"<rect width='760' height='{_HIGH + 74}' fill='#fff'/>",
        f"<text x='{_LEFT}' y='18' font-weight='bold'>{escape(title)}</text>",
        f"<text x='{_LEFT + _WIDE / 2}' y='{_TOP + _HIGH + 36}' text-anchor='middle'>step</text>",
    ]
    for y in _ticks(y0, y1):
        _, up = at(x0, y)
        parts.append(f"<path d='M{_LEFT} {up:.1f}h{_WIDE}' stroke='#ddd'/>")
        parts.append(f"<text x='{_LEFT - 6}' y='{up + 4:.1f}' text-anchor='end'>{y:.4g}</text>")
    for x in _ticks(x0, max(x1, x0 + 1)):
        across, _ = at(x, y0)
        place = f"x='{across:.1f}' y='{_TOP + _HIGH + 18}' text-anchor='middle'"
        parts.append(f"<text {place}>{x:.4g}</text>")
    for number, (run, pairs) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in pairs if y is not None)
        parts.append(
            f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='1.5'/>"
        )
        place = f"x='{_LEFT + _WIDE + 10}' y='{_TOP + 10 + 16 * number}'"
        parts.append(f"<text {place} fill='{colour}'>{escape(run)}</text>")
    return "\n".join([*parts, "</svg>\n"])
