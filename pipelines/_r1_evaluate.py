"""Evaluation of the recipe's models, and its report: stages, students, differences, dynamics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.dynamics import dynamics, plots
from distill.evaluate import Evaluation, evaluate, paired, shown
from distill.runs import read_run
from factory.durable import replacing
from factory.records import Sampling
from factory.store import Store
from pipelines._r1_common import Engines, Pair, say

# Pairs whose difference answers a question of the recipe: what gains over what, by how much.
QUESTIONS = (
    ("R1-Zero over its base", "base", "zero"),
    ("coin instead of reward over the base", "base", "zero with coin"),
    ("the language reward's cost to R1-Zero", "zero", "zero + language"),
    ("cold start over the base", "base", "dev1"),
    ("reasoning RL over the cold start", "dev1", "dev2"),
    ("rejection-sampled SFT of the base over the RL teacher", "dev2", "dev3"),
)


class Evaluator:
    """Evaluates models on development and on evaluation prompts, once each.

    Args:
        store: where traces go.
        values: of the recipe's section ``evaluation``.
        engines: by model.
        test: evaluation prompts.
        dev: development prompts, on which settings are chosen.
        folder: of the models.
    """

    def __init__(
        self, store: Store, values: Any, engines: Engines, *, test: Sequence[Pair],
        dev: Sequence[Pair], folder: Path,
    ) -> None:  # fmt: skip
        self.store, self.values, self.engines = store, values, engines
        self.test, self.dev, self.folder = test, dev, folder
        self.sampling = Sampling(
            temperature=values.temperature, top_p=values.top_p, max_tokens=values.max_tokens,
            prefill=values.prefill,
        )  # fmt: skip

    def one(self, model: str, pairs: Sequence[Pair], *, k: int, benchmark: str) -> Evaluation:
        """Evaluate one model."""
        return evaluate(
            self.store, pairs, self.engines.get(model), benchmark=benchmark, k=k,
            sampling=self.sampling, dialect=self.values.dialect,
        )  # fmt: skip

    def best(self, models: Sequence[Path]) -> Path | None:
        """Return the model that is best on development prompts; None where none is trained."""
        scores: dict[Path, float] = {}
        for model in models:
            if read_run(model) is not None:
                found = self.one(str(model), self.dev, k=self.values.k_dev, benchmark="dev")
                scores[model] = found.pass_at_1 or 0.0
                say(f"  dev {model.name}: {scores[model]:.3f}")
        return max(scores, key=lambda m: scores[m]) if scores else None

    def all(self, labels: Mapping[str, str]) -> dict[str, Evaluation]:
        """Evaluate the models that are there, each on the same prompts."""
        out = {}
        for label, model in labels.items():
            if Path(model).parent == self.folder and read_run(Path(model)) is None:
                say(f"  {label}: not trained, left out")
                continue
            found = self.one(model, self.test, k=self.values.k, benchmark="eval")
            out[label] = found
            say(f"  {label}: {shown(found.metrics['pass@1'])}")
        return out


def table(results: Mapping[str, Evaluation]) -> list[str]:
    """Return the table of models, as Markdown."""
    lines = [
        "| model | pass@1 (95 % interval) | language consistency | format | truncated | tokens |",
        "|---|---|---|---|---|---|",
    ]
    for label, found in results.items():
        m = found.metrics
        cells = [
            shown(m["pass@1"]), *(
                "-" if m[n].mean is None else f"{m[n].mean:.3f}"
                for n in ("language_consistency", "format", "truncated")
            ),
            "-" if m["completion_tokens"].mean is None else f"{m['completion_tokens'].mean:.1f}",
        ]  # fmt: skip
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def answers(results: Mapping[str, Evaluation], students: Sequence[str]) -> list[str]:
    """Return the recipe's questions with paired differences, as Markdown."""
    questions = list(QUESTIONS)
    for name in students:
        questions.append(
            (f"{name}: distillation over its base", f"{name} base", f"{name} distilled")
        )
        questions.append(
            (f"{name}: distillation over direct RL", f"{name} direct RL", f"{name} distilled")
        )
    lines = ["| difference | pass@1 | language consistency |", "|---|---|---|"]
    for title, before, after in questions:
        if before in results and after in results:
            metrics = ("pass_rate", "language_consistency")
            found = paired(results[before], results[after], metrics=metrics).differences
            lines.append(f"| {title} | {shown(found[metrics[0]])} | {shown(found[metrics[1]])} |")
    return lines


def costs(folder: Path) -> list[str]:
    """Return what each training took, as Markdown."""
    lines = ["| run | steps | CPU-s | wall s |", "|---|---|---|---|"]
    for path in sorted(folder.glob("*/run.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        m = run["metrics"]
        lines.append(
            f"| {path.parent.name} | {m.get('steps', '-')} | {m.get('cpu_s', '-')} | "
            f"{m.get('wall_s', '-')} |"
        )
    return lines


def write_report(
    store: Store, recipe: Any, results: Mapping[str, Evaluation], *, folder: Path
) -> Path:
    """Write ``report.md`` with its plots, and say its tables."""
    first = next(iter(results.values()))
    lines = [f"# {recipe.name}, seed {recipe.seed}", "", first.lines()[0].partition(" of ")[0], ""]
    lines += [*table(results), "", *answers(results, list(recipe.students)), ""]
    lines += [f"- {text}" for text in recipe.contrivances] + [""]
    lines += costs(folder)
    runs = {}
    for path in sorted(folder.glob("*/run.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["kind"] == "grpo":
            runs[path.parent.name] = run["metrics"]["rl_run"]
    frames = {name: dynamics(store, rl_run) for name, rl_run in runs.items()}
    lines += ["", "## Dynamics", ""]
    for name, frame in frames.items():
        if frame.height:
            lines += [f"### {name}", "", *_dynamics(frame), ""]
    lines += plots(frames, folder / "plots")
    for line in lines:
        say(line)
    path = folder / "report.md"
    with replacing(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _dynamics(frame: Any) -> list[str]:
    """Return five rows spread over the run, as Markdown."""
    columns = ["step", "reward", "accuracy", "format", "language", "completion_tokens",
               "reflective_per_1k_tokens", "aha_fraction", "zero_variance_fraction"]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    at = sorted({round(i * (frame.height - 1) / 5) for i in range(6)})
    for row in frame[at].select(columns).iter_rows():
        cells = ["-" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in row]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
