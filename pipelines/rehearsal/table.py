"""What a rehearsal found, stage by stage, read from what the stages left on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from distill.runs import file_digest, read_run
from factory import model_files
from factory.errors import FactoryError
from factory.store import Store
from pipelines.r1_recipe import Recipe, folder_of, stages_of

_WRAPPERS = {"ddp": "DDP", "fsdp2": "FSDP2", "fsdp2-sharded": "FSDP2"}
NOT_ASKED = "not asked"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A stage of the table; an empty cell is a failure."""

    stage: str
    rows_in: str = ""
    rows_out: str = ""
    ranks: str = ""
    wrapper: str = ""
    saved: str = ""
    read_by: str = ""
    resumed: str = ""

    @property
    def empty(self) -> list[str]:
        """Names of the empty cells."""
        return [f.name.replace("_", " ") for f in fields(self) if not getattr(self, f.name)]


TRAINED = ("grpo", "sft", "reward_model")
_MADE = {
    "cold_start": "cold-start", "rejection_sampling": "reasoning", "general": "general",
    "mixture": "mixture", "safety_review": "reviewed", "preferences": "preferences",
}  # fmt: skip
"""Kind of a stage that makes rows → name of their file."""
SAMPLE = ("cold_start", "rejection_sampling", "general", "preferences", "preference", "choice",
            "evaluation")  # fmt: skip
"""Kinds of stages that sample; the others rewrite rows."""


def names_of(recipe: Recipe, only: Sequence[str]) -> dict[str, str]:
    """Return the folders that the wanted stages make, in order, and the kind of each."""
    out: dict[str, str] = {}
    plain = (
        ("zero", "zero", "grpo"), ("control", "control", "grpo"),
        ("zero_language", "zero-language", "grpo"), ("cold_start", "cold-start", "cold_start"),
        ("sft1", "dev1", "sft"), ("reasoning", "dev2", "grpo"),
        ("rejection_sampling", "rejection-sampling", "rejection_sampling"),
        ("general", "general", "general"), ("mixture", "mixture", "mixture"),
        ("safety_review", "safety-review", "safety_review"), ("sft2", "dev3", "sft"),
        ("preferences", "preferences", "preferences"),
    )  # fmt: skip
    has = stages_of(recipe)
    out |= {folder: kind for stage, folder, kind in plain if stage in only and stage in has}
    if "reward_models" in only and recipe.reward_models is not None:
        out |= {f"{kind}-model": "reward_model" for kind in recipe.reward_models.sections}
    if "all_scenarios" in only and recipe.all_scenarios is not None:
        out["r1"] = "grpo"
        if "helpful-model" in out and "dev_general" in recipe.prompts:
            out["preference-gain"] = "preference"
    for name in recipe.students:
        if "distill" in only:
            out[f"distilled-{name}"] = "sft"
        if "direct_rl" in only:
            out |= {f"direct-{name}-{rate:g}": "grpo" for rate in recipe.direct_rl.rates}
            out[f"choice-{name}"] = "choice"
    return out | ({"evaluation": "evaluation"} if "evaluate" in only else {})


def rows_of(
    recipe: Recipe, stages: Mapping[str, str], kills: Mapping[str, str | None]
) -> list[Row]:
    """Return the table.

    Args:
        recipe: of the rehearsal.
        stages: of ``names_of``.
        kills: stage → what was on disk when it was killed; None: it never was, although asked.
    """
    reader = _Reader(recipe)
    return [reader.row(name, kind, kills) for name, kind in stages.items()]


class _Reader:
    """Reads what the stages of a rehearsal left."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.folder = recipe, folder_of(recipe)
        self.store = Store(recipe.store)
        self.runs = {p.parent.name: read_run(p.parent) for p in self.folder.glob("*/run.json")}
        columns = ["trace_id", "revision"]
        self.traces = self.store.table("traces").read(columns) if self.store.has("traces") else None

    def row(self, name: str, kind: str, kills: Mapping[str, str | None]) -> Row:
        """Return a stage's row; what it cannot show is left empty."""
        run = self.runs.get(name)
        if run is None:
            return Row(stage=name)
        metrics = run["metrics"]
        trained = kind in TRAINED
        n_in, n_out = self._counts(kind, metrics)
        return Row(
            stage=name, rows_in=str(n_in or ""), rows_out=str(n_out or ""),
            ranks=str(metrics["processes"]) if trained else "1",
            wrapper=self._wrapper(metrics) if trained else "engine" if kind in SAMPLE else "rows",
            saved=self._saved(name, kind), read_by=self._read_by(name, kind),
            resumed=self._resumed(name, kills, metrics, trained=trained),
        )  # fmt: skip

    def _counts(self, kind: str, metrics: Mapping[str, Any]) -> tuple[int, int]:
        if kind == "sft":
            return metrics["n_rows"], metrics["n_rows_kept"]
        if kind == "reward_model":
            return metrics["n_rows"], metrics["n_rows"]
        if kind == "grpo":
            rollouts = self.store.table("rollouts").read(["rl_run", "reward", "trace_id"])
            own = rollouts.filter(pl.col("rl_run") == metrics["rl_run"])
            return metrics["n_prompts"], own.drop_nulls("reward").height
        if kind == "preference":
            return metrics["n"], int(metrics["gain"] is not None)
        if kind == "choice":
            return len(metrics["scores"]), int("best" in metrics)
        if kind == "evaluation":
            return metrics["n_models"], metrics["n_samples"]
        return metrics["n_sampled"], metrics["rows"]

    def _wrapper(self, metrics: Mapping[str, Any]) -> str:
        """Return the wrapper where it is the one that the launch file asks for."""
        launch, found = self.recipe.launch, str(metrics["wrapper"])
        if launch is None or launch.processes == 1:
            return found
        asked = _WRAPPERS.get(launch.file, found)
        return found if found == asked and metrics["processes"] == launch.processes else ""

    def _saved(self, name: str, kind: str) -> str:
        from distill.training import require_weights

        folder = self.folder / name
        if kind in TRAINED:
            try:
                require_weights(folder)
            except FactoryError:
                return ""
            return "weights" if (folder / "tokenizer_config.json").is_file() else ""
        if kind in _MADE:
            return "rows" if self._rows(kind).is_file() else ""
        is_run = kind in ("choice", "preference")
        return "results" if is_run or (folder / "results.json").is_file() else ""

    def _rows(self, kind: str) -> Path:
        return self.folder / "data" / f"{self.recipe.name}-{_MADE[kind]}.jsonl"

    def _read_by(self, name: str, kind: str) -> str:
        """Return what has read the stage's outcome: stages that came after it, as their own word.

        Where no later stage was asked for, transformers loads the model.
        """
        if kind == "evaluation":
            return "report" if (self.folder / "report.md").is_file() else ""
        if kind == "preference":
            return "report" if (self.folder / "report.md").is_file() else "run.json"
        if kind == "choice":
            return "evaluation" if "evaluation" in self.runs else "report"
        if kind == "reward_model":
            paid = (self.runs.get("r1") or {}).get("config", {}).get("reward_models") or {}
            return "r1" if str(self.folder / name) in paid.values() else "transformers"
        target = self._rows(kind) if kind in _MADE else None
        # Rows are named by their file or by what is in it, models by their folder.
        digest = file_digest(target) if target is not None and target.is_file() else None
        found = []
        for other, run in self.runs.items():
            config = (run or {}).get("config", {})
            if target is not None:
                is_read = config.get("data") == str(target) or str(digest) in json.dumps(config)
            else:
                is_read = config.get("base") == str(self.folder / name)
            if other != name and is_read:
                found.append(other)
        if target is not None:
            return ", ".join(sorted(found))
        revision = model_files.revision_of(str(self.folder / name))
        n = 0 if self.traces is None else self.traces.filter(pl.col("revision") == revision).height
        if n:
            found.append(f"vLLM ({n})")
        if not found and readable(self.folder / name):
            return "transformers"
        return ", ".join(found)

    def _resumed(
        self, name: str, kills: Mapping[str, str | None], metrics: Mapping[str, Any],
        *, trained: bool,
    ) -> str:  # fmt: skip
        if name not in kills:
            return NOT_ASKED
        if kills[name] is None:
            return ""
        if trained:
            return str(metrics.get("resumed_from") or "")
        # Nothing was asked twice: a second answer would have a key that is there already.
        traces = self.traces
        return (
            "no sample twice" if traces is not None and traces["trace_id"].is_unique().all() else ""
        )


def readable(folder: Path) -> bool:
    """Tell whether transformers loads a model."""
    from transformers import AutoModelForCausalLM

    try:
        AutoModelForCausalLM.from_pretrained(str(folder), use_safetensors=True)
    except (OSError, ValueError, RuntimeError):
        return False
    return True


def table_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table as Markdown; an empty cell says so."""
    names = [f.name for f in fields(Row)]
    cells = [[n.replace("_", " ") for n in names]]
    cells += [[getattr(row, n) or "EMPTY" for n in names] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for number, line in enumerate(cells):
        yield "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (w + 2) for w in widths) + "|"
