"""What the pages of runs show: executions, RL curves with the rollouts behind them, trainings.

Steps and rollouts are read from the store's tables themselves, open segments included, so that a
run that is going on is shown as far as it is.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from factory.browse.database import Database
from factory.browse.releases import trainings
from factory.errors import UsageError
from factory.store import Store

CURVES = (
    "reward", "accuracy", "format", "language", "completion_tokens", "truncated_fraction", "kl",
    "entropy", "zero_variance_fraction", "clip_fraction", "loss", "grad_norm", "learning_rate",
    "weights_apart_nats",
)  # fmt: skip
SFT_CURVES = ("loss", "mean_token_accuracy", "entropy", "grad_norm", "learning_rate")
BANDS = ("reward", "accuracy", "format", "language", "n_completion_tokens")
"""Columns of rollouts whose spread within a step is drawn around a curve."""
MAX_POINTS = 2000
MAX_ROLLOUTS = 512


def executions(db: Database) -> list[dict[str, Any]]:
    """Return the store's runs, newest first, from the records on disk."""
    alive = set(db.store.living_runs())
    revoked = set(db.store.excluded_runs())
    out = []
    for record in reversed(db.store.runs()):
        key = record.get("run_id")
        ended = record.get("ended_at")
        state = "finished" if ended else "running" if key in alive else "killed or running"
        out.append(
            {
                **record,
                "state": "revoked" if key in revoked else state,
                "details": record.get("details") or {},
                "results": record.get("results") or {},
            }
        )
    return out


def execution(db: Database, run_id: str) -> dict[str, Any]:
    """Return one run with its failures by message.

    Raises:
        UsageError: no such run.
    """
    for record in executions(db):
        if record.get("run_id") == run_id:
            break
    else:
        raise UsageError(f"no run {run_id[:60]!r}", "the page of runs lists them")
    failures: list[dict[str, Any]] = []
    if db.store.has("failures"):
        frame = db.store.table("failures").read(["run_id", "kind", "message", "trace_id"])
        failures = (
            frame.filter(pl.col("run_id") == run_id)
            .group_by("kind", pl.col("message").str.slice(0, 300))
            .agg(pl.len().alias("n"))
            .sort("n", descending=True)
            .head(50)
            .to_dicts()
        )
    n_traces = db.ask("SELECT count(*) FROM catalog.wide WHERE run_id = ?", [run_id]).rows[0][0]
    return {"run": record, "failures": failures, "n_traces": n_traces}


# ---- reinforcement learning


def rl_runs(store: Store) -> list[dict[str, Any]]:
    """Return the RL runs that have steps, newest first."""
    if not store.has("rl_steps"):
        return []
    frame = store.table("rl_steps").read(
        ["rl_run", "step", "attempt", "reward", "accuracy", "is_alarm", "wall_s", "run_id"]
    )
    alive = set(store.living_runs())
    out = []
    for (name,), rows in _latest(frame).group_by("rl_run", maintain_order=True):
        rows = rows.sort("step")
        rewards = rows["reward"].drop_nulls()
        out.append(
            {
                "rl_run": name,
                "steps": rows["step"].max(),
                "attempts": rows["attempt"].max(),
                "first_reward": rewards[0] if len(rewards) else None,
                "last_reward": rewards[-1] if len(rewards) else None,
                "alarms": int(rows["is_alarm"].fill_null(False).sum()),
                "state": "running" if alive & set(rows["run_id"]) else "ended",
                "run_id": rows["run_id"].max(),
            }
        )
    return sorted(out, key=lambda r: str(r["run_id"]), reverse=True)


def _latest(frame: pl.DataFrame) -> pl.DataFrame:
    """Of a step that several attempts made, the last attempt counts."""
    return frame.filter(pl.col("attempt") == pl.col("attempt").max().over("rl_run", "step"))


def rl_curves(store: Store, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the curves of RL runs: one entry per column that any of them has values of.

    Returns:
        ``{"name", "points": [{"run", "step", "value", "low", "high"}, …]}``; low and high are the
        quartiles of the rollouts of that step, where the column is one of theirs.
    """
    if not store.has("rl_steps"):
        raise UsageError("the store has no RL run", "`distill grpo` makes one")
    steps = _latest(store.table("rl_steps").read(["rl_run", "step", "attempt", *CURVES]))
    steps = steps.filter(pl.col("rl_run").is_in(list(names)))
    if steps.is_empty():
        raise UsageError(f"no RL run {', '.join(names)[:80]}", "the page of runs lists them")
    bands = _bands(store, names)
    out = []
    for name in CURVES:
        rows = steps.select("rl_run", "step", pl.col(name).alias("value")).drop_nulls("value")
        rows = rows.filter(pl.col("value").is_finite())
        if rows.is_empty():
            continue
        column = {"completion_tokens": "n_completion_tokens"}.get(name, name)
        if column in BANDS and bands is not None:
            shown = bands.select(
                "rl_run", "step", pl.col(f"{column}_low").alias("low"),
                pl.col(f"{column}_high").alias("high"),
            )  # fmt: skip
            rows = rows.join(shown, on=["rl_run", "step"], how="left")
        rows = _thinned(rows.sort("rl_run", "step"))
        points = rows.rename({"rl_run": "run"}).to_dicts()
        out.append({"name": name, "points": points, "has_band": "low" in rows.columns})
    return out


def _bands(store: Store, names: Sequence[str]) -> pl.DataFrame | None:
    """Quartiles of the rollouts of each step; a step's rollout is that of the update behind it."""
    if not store.has("rollouts"):
        return None
    frames = [
        b.filter(pl.col("rl_run").is_in(list(names)))
        for b in store.table("rollouts").batches(["rl_run", "step", "attempt", *BANDS])
    ]
    if not frames:
        return None
    quartiles = [
        pl.col(c).quantile(q, "linear").alias(f"{c}_{end}")
        for c in BANDS
        for q, end in ((0.25, "low"), (0.75, "high"))
    ]
    return (
        _latest(pl.concat(frames))
        .with_columns((pl.col("step") + 1).alias("step"))
        .group_by("rl_run", "step")
        .agg(quartiles)
    )


def _thinned(rows: pl.DataFrame) -> pl.DataFrame:
    step = -(-rows.height // MAX_POINTS)
    return rows if step <= 1 else rows.gather_every(step)


def groups(store: Store, name: str, step: int) -> list[dict[str, Any]]:
    """Return the groups of the rollout behind a step, with rewards and advantages.

    Args:
        store: the store.
        name: of the RL run.
        step: update that it was made for, from 1.

    Returns:
        One entry per group: its prompt, mean reward, and rollouts; an advantage is a reward minus
        the group's mean, beside it the same over the group's standard deviation (None where that
        is 0). A rollout without a reward has none and does not count in the mean.
    """
    if not store.has("rollouts"):
        return []
    table = store.table("rollouts")
    names = list(table.form.columns)
    frames = [b.filter(pl.col("rl_run") == name) for b in table.batches(names)]
    rows = pl.concat(frames) if frames else pl.DataFrame(schema=table.form.polars_schema())
    # The rollout of an update was sampled at or before it: several updates may share one.
    before = rows.filter(pl.col("step") < step)["step"].max()
    rows = _latest(rows.filter(pl.col("step") == before)) if before is not None else rows.clear()
    out = []
    for _, group in rows.sort("group_index", "sample_index").group_by(
        "attempt", "group_index", maintain_order=True
    ):
        rewards = group["reward"].drop_nulls()
        mean = float(rewards.mean()) if len(rewards) else None  # type: ignore[arg-type]
        std = float(rewards.std()) if len(rewards) > 1 else 0.0  # type: ignore[arg-type]
        members = group.head(MAX_ROLLOUTS).to_dicts()
        for member in members:
            reward = member["reward"]
            apart = None if reward is None or mean is None else reward - mean
            member["advantage"] = apart
            member["normalised"] = apart / std if apart is not None and std else None
        out.append(
            {"prompt_id": members[0]["prompt_id"], "index": members[0]["group_index"],
             "mean": mean, "std": std, "rollouts": members}
        )  # fmt: skip
    return out


def drops(points: Sequence[Mapping[str, Any]], *, n: int = 3) -> list[dict[str, Any]]:
    """Return the steps before which a curve fell most: places to look at.

    >>> points = [{"run": "a", "step": s, "value": v} for s, v in enumerate((1, 2, 0, 1))]
    >>> drops(points)
    [{'run': 'a', 'step': 2, 'fall': 2}]
    """
    falls = [
        {"run": b["run"], "step": b["step"], "fall": a["value"] - b["value"]}
        for a, b in itertools.pairwise(points)
        if a["run"] == b["run"] and b["value"] < a["value"]
    ]
    return sorted(falls, key=lambda f: -f["fall"])[:n]


# ---- supervised fine-tuning


def sft_curves(trainings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the curves of trainings, as ``rl_curves`` does, from the trainer's own log."""
    out = []
    for name in SFT_CURVES:
        points = [
            {"run": training["folder"].name, "step": entry["step"], "value": float(entry[name])}
            for training in trainings
            for entry in training["log"]
            if _is_number(entry.get(name)) and isinstance(entry.get("step"), int)
        ]
        if points:
            out.append({"name": name, "points": points, "has_band": False})
    return out


def _is_number(value: object) -> bool:
    try:
        return math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def evaluations(store: Store) -> list[dict[str, Any]]:
    """Return the rows of the table ``evaluations``, newest first."""
    if not store.has("evaluations"):
        return []
    rows = store.table("evaluations").read().to_dicts()
    return sorted(rows, key=lambda r: str(r.get("run_id")), reverse=True)


def all_runs(store: Store, roots: list[Path]) -> list[dict[str, Any]]:
    """Return every run of RL and every training with its curves, for a page of its own.

    Args:
        store: whose runs of RL.
        roots: folders under which trainings lie.
    """
    out: list[dict[str, Any]] = [
        {"name": run["rl_run"], "facts": [], "curves": rl_curves(store, [run["rl_run"]]),
         "says": f"reinforcement learning, {run['steps']} steps, alarms: {run['alarms']}, "
                 f"{run['state']}"}
        for run in rl_runs(store)
    ]  # fmt: skip
    for training in trainings(roots):
        ended = "finished" if training["is_finished"] else "not finished"
        facts = {**training["config"], **training["metrics"]}
        facts.pop("log", None)
        out.append(
            {"name": training["folder"].name, "facts": list(facts.items()),
             "curves": sft_curves([training]), "says": f"{training['kind']}, {ended}"}
        )  # fmt: skip
    return out


# ---- charts


def chart(curve: Mapping[str, Any], *, smooth: int, height: int = 190) -> str:
    """Return a curve as a Vega-Lite specification: raw points, their smoothing, and their band.

    Args:
        curve: of ``rl_curves`` or ``sft_curves``.
        smooth: points on each side of the moving mean; 0 draws the points alone.
        height: of the plot, in pixels.
    """
    values = [p["value"] for p in curve["points"]]
    low, high = min(values), max(values)
    # A constant series has no range: without a domain the axis would run from below nothing.
    pad = (high - low) * 0.06 or max(abs(high) * 0.1, 0.05)
    lows = [p["low"] for p in curve["points"] if p.get("low") is not None]
    highs = [p["high"] for p in curve["points"] if p.get("high") is not None]
    low, high = min([low - pad, *lows]), max([high + pad, *highs])
    if min([*values, *lows]) >= 0:
        low = max(low, 0.0)
    x = {"field": "step", "type": "quantitative", "title": "step",
         "axis": {"tickMinStep": 1, "grid": False}}  # fmt: skip
    y = {"type": "quantitative", "title": None, "scale": {"domain": [low, high], "zero": False}}
    legend = {"orient": "top"} if len({p["run"] for p in curve["points"]}) > 1 else None
    color = {"field": "run", "type": "nominal", "title": None, "legend": legend}
    tooltip = [{"field": f, "type": "quantitative", "format": ",.4~g"} for f in ("step", "value")]
    layers: list[dict[str, Any]] = []
    if curve["has_band"]:
        layers.append(
            {"mark": {"type": "area", "opacity": 0.15, "clip": True},
             "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"},
                          "color": color}}
        )  # fmt: skip
    layers.append(
        {
            "mark": {"type": "line", "strokeWidth": 1 if smooth else 2,
                     "opacity": 0.4 if smooth else 1, "clip": True},
            "encoding": {"x": x, "y": {**y, "field": "value"}, "color": color},
        }
    )  # fmt: skip
    if smooth:
        layers.append(
            {
                "transform": [
                    {"window": [{"op": "mean", "field": "value", "as": "smooth"}],
                     "frame": [-smooth, smooth], "sort": [{"field": "step"}], "groupby": ["run"]}
                ],
                "mark": {"type": "line", "strokeWidth": 2.2, "clip": True},
                "encoding": {"x": x, "y": {**y, "field": "smooth"}, "color": color},
            }
        )  # fmt: skip
    layers.append(
        {
            "mark": {"type": "point", "filled": True, "size": 46, "cursor": "pointer",
                     "opacity": 0.001 if len(values) > 60 else 0.75, "clip": True},
            "encoding": {"x": x, "y": {**y, "field": "value"}, "color": color,
                         "tooltip": [{"field": "run", "type": "nominal"}, *tooltip]},
        }
    )  # fmt: skip
    spec = {
        "width": "container",
        "height": height,
        "data": {"values": curve["points"]},
        "layer": layers,
    }
    return json.dumps(spec, allow_nan=False)
