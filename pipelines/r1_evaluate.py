"""Evaluation of the recipe's models, the choice of direct RL's rate, and the report of a seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.evaluate import Evaluation, evaluate, paired
from distill.grpo.dynamics import accuracy_by_level, dynamics, plots
from distill.runs import read_run
from factory import model_files
from factory.cli.common import say
from factory.metrics import Interval
from factory.records import Sampling
from factory.store import Store
from factory.store.durable import replacing
from pipelines.common import Engines, Pair, keys_of, once, room
from pipelines.decontamination import report_lines
from pipelines.general import composition_lines
from pipelines.r1_catalog import catalog_lines, spread
from pipelines.r1_tables import (
    COLUMNS,
    DIFFERENCES,
    cost_lines,
    of_seed,
    over_seeds,
    pairs_of,
    shown,
)


class Evaluator:
    """Evaluates models, each of them once.

    Args:
        store: where traces go.
        values: of the recipe's section ``evaluation``.
        engines: by model.
        prompt_tokens: of a model's context that are kept for prompts.
    """

    def __init__(self, store: Store, values: Any, engines: Engines, *, prompt_tokens: int) -> None:
        self.store, self.values, self.engines = store, values, engines
        self.prompt_tokens = prompt_tokens

    def one(self, model: str, pairs: Sequence[Pair], *, k: int, benchmark: str) -> Evaluation:
        """Evaluate one model, its answers kept to its context."""
        values = self.values
        sampling = Sampling(
            temperature=values.temperature, top_p=values.top_p, prefill=values.prefill,
            max_tokens=room(model, values.max_tokens, prompt_tokens=self.prompt_tokens),
        )  # fmt: skip
        engine = self.engines.get(model, longest=sampling.max_tokens + self.prompt_tokens)
        return evaluate(
            self.store, pairs, engine, benchmark=benchmark, k=k, sampling=sampling,
            dialect=values.dialect,
        )  # fmt: skip

    def choose(self, runs: Sequence[Path], pairs: Sequence[Pair], *, out: Path) -> None:
        """Note which run is best on development prompts (``run.json`` of ``out``: ``best``)."""

        def work() -> dict[str, Any]:
            scores = {}
            for run in runs:
                found = self.one(str(run), pairs, k=self.values.k_dev, benchmark="dev")
                scores[run.name] = found.pass_at_1 or 0.0
                say(f"  dev {run.name}: {scores[run.name]:.3f}")
            return {"best": max(scores, key=lambda name: scores[name]), "scores": scores}

        inputs = self._inputs([str(r) for r in runs], pairs)
        once(out, kind="choice", inputs=inputs, work=work, n_devices=self.engines.n_devices)

    def all(self, labels: Mapping[str, str], pairs: Sequence[Pair], *, out: Path) -> None:
        """Evaluate models on the same prompts; ``results.json`` of ``out`` holds what was found."""

        def work() -> dict[str, Any]:
            found = {}
            for label, model in labels.items():
                found[label] = self.one(model, pairs, k=self.values.k, benchmark="eval")
                say(f"  {label}: {shown(_triple(found[label].metrics['pass@1']))}")
            with replacing(out / "results.json") as part:
                part.write_text(json.dumps(_results(found), indent=1), encoding="utf-8")
            n_samples = sum(e.n_samples for e in found.values())
            return {"n_models": len(found), "n_samples": n_samples}

        inputs = self._inputs(list(labels.values()), pairs) | {"labels": list(labels)}
        once(out, kind="evaluation", inputs=inputs, work=work, n_devices=self.engines.n_devices)

    def _inputs(self, of: Sequence[str], pairs: Sequence[Pair]) -> dict[str, Any]:
        return {
            "models": [model_files.revision_of(model) for model in of],
            "prompts": keys_of(pairs),
            "values": self.values.model_dump(mode="json"),
        }


def _triple(interval: Interval) -> list[float | None]:
    return [interval.mean, interval.low, interval.high]


def _results(found: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Return figures per model and paired differences, as plain data."""
    students = [label.removesuffix(" distilled") for label in found if label.endswith(" distilled")]
    differences = {}
    for before, after in pairs_of(students):
        if before in found and after in found:
            pair = paired(found[before], found[after], metrics=list(DIFFERENCES))
            differences[f"{before} -> {after}"] = {
                name: _triple(interval) for name, interval in pair.differences.items()
            }
    return {
        "n_prompts": max(e.per_prompt.height for e in found.values()),
        "models": {
            label: {name: _triple(e.metrics[name]) for name in (*COLUMNS, "truncated")}
            | {"n_samples": e.n_samples, "n_unscored": e.n_unscored}
            for label, e in found.items()
        },
        "differences": differences,
    }


def labelled(folder: Path, base: str, students: dict[str, str]) -> dict[str, str]:
    """Return the models to evaluate that are there: label in the tables → folder or name."""
    out = {
        "base": base, "R1-Zero": "zero", "R1-Zero, coin": "control",
        "R1-Zero + language": "zero-language", "Dev1": "dev1", "Dev2": "dev2", "Dev3": "dev3",
    }  # fmt: skip
    for name, start in students.items():
        out |= {f"{name} base": start, f"{name} distilled": f"distilled-{name}"}
        choice = read_run(folder / f"choice-{name}")
        if choice is not None:
            out[f"{name} direct RL"] = choice["metrics"]["best"]
    if read_run(folder / "r1") is not None:
        out["R1"] = "r1"
    found = {}
    for label, model in out.items():
        trained = folder / model
        if label == "base" or label.endswith(" base"):
            found[label] = model
        elif read_run(trained) is not None:
            found[label] = str(trained)
        else:
            say(f"  {label}: not trained, left out")
    return found


def read_results(folder: Path, *, seed: int) -> dict[str, Any] | None:
    """Return what the evaluation of a seed found; None where it has not finished."""
    if read_run(folder / "evaluation") is None:
        return None
    values = json.loads((folder / "evaluation" / "results.json").read_text(encoding="utf-8"))
    return {**values, "seed": seed}


def _head(recipe: Any, results: Mapping[str, Any]) -> str:
    values = recipe.evaluation
    return (
        f"{results['n_prompts']:,} evaluation problems x {values.k} at T={values.temperature:g}; "
        "95 % intervals over problems; differences on the same problems"
    )


def write_report(store: Store, recipe: Any, *, folder: Path) -> Path | None:
    """Write ``report.md`` of a seed with its plots, and say its tables."""
    results = read_results(folder, seed=recipe.seed)
    if results is None:
        return None
    tables = [f"# {recipe.name}, seed {recipe.seed}", "", _head(recipe, results), ""]
    tables += of_seed(results, list(recipe.students))
    tables += ["", *(f"- {text}" for text in recipe.contrivances), "", *costs(folder), ""]
    tables += cost_lines([folder])
    for line in tables:
        say(line)
    runs = {}
    for path in sorted(folder.glob("*/run.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["kind"] == "grpo":
            runs[path.parent.name] = run["metrics"]["rl_run"]
    frames = {name: dynamics(store, rl_run) for name, rl_run in runs.items()}
    lines = [*tables, "", "## Dynamics", ""]
    for name, frame in frames.items():
        if frame.height:
            levels = accuracy_by_level(store, runs[name])
            lines += [f"### {name}", "", *_dynamics(frame), "", *_levels(levels), ""]
    # Runs of the teacher have few steps and direct RL has many: each group has plots of its own.
    chosen = [read_run(folder / f"choice-{name}") for name in recipe.students]
    direct = [run["metrics"]["best"] for run in chosen if run is not None]
    teacher = {n: f for n, f in frames.items() if not n.startswith("direct-")}
    lines += plots(teacher, folder / "plots")
    lines += ["", "Direct RL of the students, at the rate that was chosen:", ""]
    lines += plots({n: frames[n] for n in direct if n in frames}, folder / "plots-students")
    lines += [*report_lines(folder / "decontamination"), *mixture_lines(folder)]
    lines += catalog_lines(store, list(runs.values()))
    path = folder / "report.md"
    with replacing(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    say(f"\nreport: {path}")
    return path


def mixture_lines(folder: Path) -> Iterator[str]:
    """Yield the second SFT set's composition and review, pairs, and the last stage's gain."""
    mixed, gain = read_run(folder / "mixture"), read_run(folder / "preference-gain")
    if mixed is not None:
        yield from ("", "## Composition of the second SFT set", "")
        yield from composition_lines(mixed["metrics"]["composition"])
    yield from _review_lines(folder)
    if gain is not None and gain["metrics"]["gain"] is not None:
        found = gain["metrics"]
        yield from ("", "## Preference reward on general prompts", "")
        yield (
            f"R1 over Dev3: {found['gain']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}], "
            f"{found['n']} prompts"
        )


def _review_lines(folder: Path) -> Iterator[str]:
    reviewed, judged = read_run(folder / "safety-review"), read_run(folder / "preferences")
    if reviewed is not None:
        found = reviewed["metrics"]
        yield from ("", "## Safety review of the second SFT set", "")
        yield (
            f"{found['n_dropped']} of {found['n_sampled']} rows left out; {found['n_unknown']} "
            "without a readable judgement count as violating."
        )
        yield from ("", "| standard | rows with its words | violate it by the judge |")
        yield "|---|---:|---:|"
        for name, n in sorted(found["by_words"].items(), key=lambda item: -item[1]):
            judge = found["by_judge"].get(name, 0) if reviewed["config"]["judge"] else "-"
            yield f"| {name} | {n} | {judge} |"
    if judged is not None:
        found = judged["metrics"]
        share = found["first_share"]
        first = "-" if share is None else f"{100 * share:.1f} %"
        yield from ("", "## Preference pairs", "")
        yield (
            f"{found['rows']} kept; {found['n_close']} too close, {found['n_missing']} without "
            f"judgements in both orders, {found['n_for_length']} for length; the answer shown "
            f"first was preferred in {first}."
        )


def write_seeds(recipe: Any, folders: Mapping[int, Path], out: Path) -> Path:
    """Write the table over seeds, and say it."""
    found = [read_results(folder, seed=seed) for seed, folder in folders.items()]
    seeds = [f for f in found if f is not None]
    lines = [f"# {recipe.name}, seeds {', '.join(str(s['seed']) for s in seeds)}", ""]
    lines += [_head(recipe, seeds[0]) + "; spread: largest - smallest", ""]
    lines += over_seeds(seeds, list(recipe.students))
    lines += ["", *(f"- {text}" for text in recipe.contrivances), ""]
    lines += cost_lines(list(folders.values()))
    for line in lines:
        say(line)
    with replacing(out) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    say(f"\nreport: {out}")
    return out


def costs(folder: Path) -> list[str]:
    """Return what each stage took, as Markdown."""
    lines = ["| stage | steps | CPU-s | wall s |", "|---|---|---|---|"]
    for path in sorted(folder.glob("*/run.json")):
        m = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        cells = (str(m.get(name, "-")) for name in ("steps", "cpu_s", "wall_s"))
        lines.append(f"| {path.parent.name} | {' | '.join(cells)} |")
    return lines


def _levels(frame: Any) -> Iterator[str]:
    """Yield the accuracy of each level of the prompts over a run, as Markdown."""
    if not frame.height:
        return
    steps = sorted(set(frame["from_step"].to_list()))
    yield f"| accuracy by level, from step | {' | '.join(map(str, steps))} |"
    yield "|---|" + "---:|" * len(steps)
    for level in sorted(set(frame["level"].to_list())):
        own = dict(frame.filter(level=level).select("from_step", "accuracy").iter_rows())
        yield f"| {level} | {' | '.join(f'{own[s]:.3f}' if s in own else '-' for s in steps)} |"


def _dynamics(frame: Any) -> list[str]:
    """Return five rows spread over the run, as Markdown."""
    columns = ["step", "reward", "accuracy", "format", "language", "completion_tokens",
               "reflective_per_1k_tokens", "aha_fraction", "zero_variance_fraction"]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in spread(list(frame.select(columns).iter_rows())):
        cells = ["-" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in row]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
