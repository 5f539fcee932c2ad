"""Tables of the real model: a seed's, and one over seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.cli.common import say
from factory.store.durable import replacing

NAMES = {
    "base": "base", "sft": "SFT on curated traces", "sft-uncurated": "SFT on as many, unchosen",
    "grpo": "GRPO after SFT", "base-zero": "base, R1-Zero's prompt", "zero": "R1-Zero (GRPO alone)",
}  # fmt: skip


def of_seed(recipe: Any, folder: Path, *, head: str) -> Path:
    """Write ``report.md`` of a seed, and say it."""
    results = _results(folder)
    lines = [f"# {recipe.name}, seed {recipe.seed}", "", head, "", *_tables(recipe, {"": results})]
    lines += ["", *_costs(folder)]
    return _written(lines, folder / "report.md")


def over_seeds(recipe: Any, folders: Sequence[Path]) -> Path:
    """Write the table over seeds beside their folders, and say it."""
    found = {folder.name.rpartition("-")[2]: _results(folder) for folder in folders}
    lines = [f"# {recipe.name}, seeds {', '.join(found)}", "", *_tables(recipe, found)]
    for folder in folders:
        lines += ["", f"{folder.name}:", "", *_costs(folder)]
    return _written(lines, folders[0].parent / f"{recipe.name}.md")


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "evaluation" / "results.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _tables(recipe: Any, seeds: dict[str, dict[str, Any]]) -> list[str]:
    first = next(iter(seeds.values()))
    heads = [f"seed {name}" if name else "pass@1" for name in seeds]
    lines = [
        f"{first['n_problems']:,} fresh problems × {recipe.k_eval} at T={recipe.temperature:g}; "
        "95 % intervals over problems",
        "",
        f"| model | {' | '.join(heads)} | tokens per answer |",
        "|---|" + "---|" * (len(seeds) + 1),
    ]
    for label in (name for name in NAMES if name in first["models"]):
        cells = [_shown(s["models"][label]["pass@1"]) for s in seeds.values()]
        tokens = [s["models"][label]["completion_tokens"][0] for s in seeds.values()]
        cells.append(", ".join("–" if t is None else f"{t:.1f}" for t in tokens))
        lines.append(f"| {NAMES[label]} | {' | '.join(cells)} |")
    lines += ["", f"| points gained, same problems | {' | '.join(heads)} |"]
    lines.append("|---|" + "---|" * len(seeds))
    for pair in first["differences"]:
        before, _, after = pair.partition(" → ")
        cells = [_shown(s["differences"][pair], points=True) for s in seeds.values()]
        lines.append(f"| {NAMES[before]} → {NAMES[after]} | {' | '.join(cells)} |")
    return lines


def _shown(triple: Sequence[float | None], *, points: bool = False) -> str:
    mean, low, high = triple
    if mean is None or low is None or high is None:
        return "undefined"
    if points:
        return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _costs(folder: Path) -> list[str]:
    lines = ["| stage | steps | CPU-s | wall s |", "|---|---|---|---|"]
    for path in sorted(folder.glob("*/run.json")):
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        cells = (str(metrics.get(name, "–")) for name in ("steps", "cpu_s", "wall_s"))
        lines.append(f"| {path.parent.name} | {' | '.join(cells)} |")
    return lines


def _written(lines: Sequence[str], path: Path) -> Path:
    for line in lines:
        say(line)
    with replacing(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    say(f"\nreport: {path}")
    return path
