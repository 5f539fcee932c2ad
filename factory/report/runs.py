"""A page of trainings: the curves of RL and SFT, and evaluations, in one file that fetches nothing.

The same figures as on the browser's pages of runs, drawn as plain SVG: what is sent to somebody
needs no server. The caller reads them (``factory.browse.runs``), since a report stands below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.report.html import environment, page_style
from factory.rows.answers import Answer
from factory.store.durable import replacing

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 170, 44, 20, 8
SMOOTH = 2


def write_runs(
    path: Path, store: str, runs: Sequence[Mapping[str, Any]], evaluations: Sequence[Any]
) -> Path:
    """Write the page.

    Args:
        path: of the file; its folder is made where absent.
        store: named at the top.
        runs: ``name``, ``says`` (one line), ``facts`` (pairs), and ``curves`` as
            ``factory.browse.runs.rl_curves`` gives them, of one run each.
        evaluations: rows of the table ``evaluations``.

    Raises:
        StoreError: it cannot be written.
    """
    names = ("model", "benchmark", "n_prompts", "k", "pass_at_1", "pass_at_1_low",
             "pass_at_1_high", "truncated_fraction")  # fmt: skip
    table = Answer(names, [tuple(row.get(n) for n in names) for row in evaluations])
    text = (
        environment()
        .get_template("runs.html.j2")
        .render(
            store=store,
            evaluations=table,
            runs=[{**run, "curves": [_drawn(c) for c in run["curves"]]} for run in runs],
            policy="default-src 'none'; style-src 'unsafe-inline'",
            style=page_style(),
        )
    )
    with replacing(path) as tmp:
        tmp.write_text(text, encoding="utf-8")
    return path


def _drawn(curve: Mapping[str, Any]) -> dict[str, Any]:
    """Return the points of a curve, its moving mean and its band as SVG has them."""
    points = curve["points"]
    values = [p["value"] for p in points]
    bands = [p for p in points if p.get("low") is not None and p.get("high") is not None]
    low = min([*values, *(p["low"] for p in bands)])
    high = max([*values, *(p["high"] for p in bands)])
    begin, end = points[0]["step"], points[-1]["step"]
    # A constant series has no range: it is drawn in the middle.
    span = (high - low) or 1.0
    floor = low if high > low else low - 0.5

    def at(step: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - 4) * (step - begin) / max(1, end - begin)
        y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - floor) / span
        return f"{x:.1f},{y:.1f}"

    def mean(i: int) -> float:
        near = values[max(0, i - SMOOTH) : i + SMOOTH + 1]
        return float(sum(near) / len(near))

    upper = [at(p["step"], p["high"]) for p in bands]
    lower = [at(p["step"], p["low"]) for p in reversed(bands)]
    return {
        "name": curve["name"], "first": values[0], "last": values[-1], "low": low, "high": high,
        "begin": begin, "end": end, "band": " ".join(upper + lower),
        "raw": " ".join(at(p["step"], p["value"]) for p in points),
        "smooth": " ".join(at(p["step"], mean(i)) for i, p in enumerate(points)),
    }  # fmt: skip
