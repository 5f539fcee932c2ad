"""The recipe of DeepSeek-R1 in one straight script; the scale is a recipe file.

    python -m pipelines.r1 pipelines/recipes/miniature.yaml
    python -m pipelines.r1 RECIPE --only zero,evaluate      some stages (others must be finished)
    python -m pipelines.r1 RECIPE --plan                    what it would do and cost
    python -m pipelines.r1 RECIPE --lanes 2 --seeds 0,1,2   side by side; one table over the seeds

R1-Zero on a base model; its samples refined into a cold start; SFT of the base on it; reasoning RL
with the language reward; rejection sampling; SFT of the base again; distillation into smaller
students; direct RL of those students with the same compute; everything evaluated on problems that
no stage has seen. Each stage's data, rollouts, rewards and checkpoints are in one store. What is
finished is not repeated: kill it anywhere and run it again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from factory.cli.common import run_script
from factory.config import Config
from factory.errors import UsageError
from pipelines.cold_start import ColdStart, cold_start, model_refiner
from pipelines.common import (
    Engines,
    ModelOf,
    PromptSet,
    grown,
    keys_of,
    once,
    run_grpo,
    run_sft,
    say,
    step,
)
from pipelines.rejection_sampling import RejectionSampling, rejection_sampling

STAGES = (
    "bases", "zero", "control", "zero_language", "cold_start", "sft1", "reasoning",
    "rejection_sampling", "sft2", "distill", "direct_rl", "evaluate",
)  # fmt: skip


class StudentOf(Config):
    """A student: its base, its file in ``distill/students``, and overrides."""

    base: ModelOf
    student: str
    overrides: tuple[str, ...] = ()


class SftOf(Config):
    """An SFT stage: a file in ``distill/students`` with overrides."""

    student: str
    overrides: tuple[str, ...] = ()


class DirectRl(Config):
    """RL of a student without distillation, the best of several rates on development problems.

    Attributes:
        rates: learning rates to try; each has the whole budget.
        grpo: section of a GRPO run.
        share_of_distillation: a run's CPU seconds, rollouts included, over those of the student's
            own distillation: the sampling of its traces and its SFT. None: as many steps as the
            section says.
    """

    rates: tuple[float, ...]
    grpo: dict[str, Any]
    share_of_distillation: float | None = None


class Evaluation(Config):
    """How models are evaluated; the prompts are in ``prompts`` under ``eval`` and ``dev``."""

    k: int
    k_dev: int
    temperature: float
    top_p: float
    max_tokens: int
    prefill: str = ""
    dialect: str = "think"


class PlanFigures(Config):
    """What ``--plan`` assumes; measured figures of one's own machine belong here."""

    mean_completion_tokens: int
    generate_tokens_per_gpu_s: float
    train_tokens_per_gpu_s: float
    unit: str = "GPU-hours"


class Recipe(Config):
    """Values of a scale; control flow is in the script."""

    store: Path
    name: str
    seed: int
    contrivances: tuple[str, ...] = ()
    """What must be said under the table of results."""
    launch: tuple[str, ...] = ()
    """How a training is started (``accelerate launch …``); empty trains in this process."""
    engine: dict[str, Any]
    """Options of the vLLM engine."""
    base: ModelOf
    prompts: dict[str, PromptSet]
    """``rl``, ``cold_start``, ``rejection``, ``dev``, ``eval``."""
    zero: dict[str, Any]
    zero_language_rewards: dict[str, float]
    cold_start: ColdStart
    refiner: str | None = None
    """Model that refines (``cold_start.refiner: model``)."""
    sft1: SftOf
    reasoning: dict[str, Any]
    rejection_sampling: RejectionSampling
    sft2: SftOf
    students: dict[str, StudentOf]
    direct_rl: DirectRl
    evaluation: Evaluation
    plan: PlanFigures


def main(recipe: Recipe, *, only: tuple[str, ...] = STAGES, student: str | None = None) -> None:
    """Run the wanted stages that are not done yet, from top to bottom.

    Args:
        recipe: of a scale.
        only: stages to run; what they read must be finished.
        student: distillation and direct RL of this student alone; None: of all.
    """
    from factory import model_files
    from factory.engines.vllm import prepare_environment
    from factory.records import Sampling
    from factory.store import Store
    from pipelines.r1_evaluate import Evaluator, write_report

    device = prepare_environment()
    store = Store(recipe.store)
    folder = folder_of(recipe)
    seed, launch = recipe.seed, recipe.launch
    engines = Engines(options=recipe.engine)
    evaluator = Evaluator(store, recipe.evaluation, engines)
    say(f"r1 {recipe.name}, seed {seed}: {device}, store {recipe.store}, {', '.join(only)}")

    def load(name: str) -> list[Any]:
        return recipe.prompts[name].load(seed=seed)

    def rl(name: str, start: str, section: dict[str, Any]) -> Path:
        step(f"{name}: reinforcement learning from {Path(start).name}")
        return run_grpo(
            section, base=start, out=folder / name, pairs=load("rl"), store=store,
            engines=engines, launch=launch, seed=seed,
        )  # fmt: skip

    step("bases")
    base = grown(recipe.base, out=folder / "base", seed=seed)
    if "bases" in only:
        students = grow_students(recipe, folder)

    # R1-Zero: RL on the base, without any SFT; the control pays by the toss of a coin.
    if "zero" in only:
        rl("zero", base, recipe.zero)
    if "control" in only:
        rl("control", base, {**recipe.zero, "control": "random"})
    if "zero_language" in only:
        rl("zero-language", base, {**recipe.zero, "rewards": recipe.zero_language_rewards})

    # Cold start: R1-Zero's samples, refined; the base is fine-tuned on them (Dev1).
    cold, kept = f"{recipe.name}-cold-start", f"{recipe.name}-reasoning"
    data = folder / "data"
    if "cold_start" in only:
        step("cold start: samples of R1-Zero, refined")
        prompts, zero, values = load("cold_start"), str(folder / "zero"), recipe.cold_start

        def make_cold_start() -> dict[str, Any]:
            refine = None
            if recipe.refiner is not None:
                sampling = Sampling(temperature=0.6, max_tokens=values.max_tokens)
                refine = model_refiner(store, engines.get(recipe.refiner), sampling=sampling)
            made, _ = cold_start(
                store, values, prompts, engines.get(zero), name=cold, out=data, refine=refine
            )
            return {"version": made.version, "rows": made.manifest["rows"]}

        inputs = {
            "values": values.model_dump(mode="json"), "prompts": keys_of(prompts),
            "model": model_files.revision_of(zero), "refiner": recipe.refiner,
            "review": values.review.read_text(encoding="utf-8") if values.review else None,
        }  # fmt: skip
        once(folder / "cold-start", kind="cold_start", inputs=inputs, work=make_cold_start)
    if "sft1" in only:
        step("dev1: SFT of the base on the cold start")
        run_sft(
            student=recipe.sft1.student, overrides=recipe.sft1.overrides, base=base, seed=seed,
            data=data / f"{cold}.jsonl", out=folder / "dev1", launch=launch,
        )  # fmt: skip

    # Reasoning RL with the language reward (Dev2), and what it answers, filtered.
    if "reasoning" in only:
        rl("dev2", str(folder / "dev1"), recipe.reasoning)
    if "rejection_sampling" in only:
        step("rejection sampling from dev2")
        asked, dev2 = load("rejection"), str(folder / "dev2")

        def reject() -> dict[str, Any]:
            made, _ = rejection_sampling(
                store, recipe.rejection_sampling, asked, engines.get(dev2), name=kept, out=data
            )
            return {"version": made.version, "rows": made.manifest["rows"]}

        inputs = {
            "values": recipe.rejection_sampling.model_dump(mode="json"),
            "prompts": keys_of(asked), "model": model_files.revision_of(dev2),
        }  # fmt: skip
        once(folder / "rejection-sampling", kind="rejection_sampling", inputs=inputs, work=reject)

    # Both from their bases: the teacher once more (Dev3), and the students.
    rows = data / f"{kept}.jsonl"
    if "sft2" in only:
        step("dev3: SFT of the base on the rejection-sampled traces")
        run_sft(
            student=recipe.sft2.student, overrides=recipe.sft2.overrides, base=base, seed=seed,
            data=rows, out=folder / "dev3", launch=launch,
        )  # fmt: skip
    if {"distill", "direct_rl", "evaluate"} & set(only):
        students = grow_students(recipe, folder)
    for name, values_of in recipe.students.items():
        if student not in (None, name):
            continue
        if "distill" in only:
            step(f"student {name}: distillation")
            run_sft(
                student=values_of.student, overrides=values_of.overrides, base=students[name],
                seed=seed, data=rows, out=folder / f"distilled-{name}", launch=launch,
            )  # fmt: skip
        if "direct_rl" in only:
            for rate in recipe.direct_rl.rates:
                section = direct_section(recipe, folder, name, rate)
                rl(f"direct-{name}-{rate:g}", students[name], section)
            step(f"student {name}: the rate of direct RL, on development problems")
            evaluator.choose(direct_runs(recipe, folder, name), load("dev"),
                             out=folder / f"choice-{name}")  # fmt: skip

    # Everything on the same fresh problems; what was chosen was chosen on others.
    if "evaluate" in only:
        step("evaluation")
        labels = labelled(recipe, folder, base, students)
        evaluator.all(labels, load("eval"), out=folder / "evaluation")
        write_report(store, recipe, folder=folder)
    engines.close()


def folder_of(recipe: Recipe) -> Path:
    """Return the folder of a recipe's models, with its seed's name."""
    return recipe.store / "models" / recipe.name


def grow_students(recipe: Recipe, folder: Path) -> dict[str, str]:
    """Return each student's base, grown where the recipe says so."""
    return {
        name: grown(student.base, out=folder / f"base-{name}", seed=recipe.seed + 100)
        for name, student in recipe.students.items()
    }


def direct_runs(recipe: Recipe, folder: Path, name: str) -> list[Path]:
    """Return the folders of a student's direct RL, one per rate."""
    return [folder / f"direct-{name}-{rate:g}" for rate in recipe.direct_rl.rates]


def direct_section(recipe: Recipe, folder: Path, name: str, rate: float) -> dict[str, Any]:
    """Return the GRPO section of a student's direct RL, with the compute of its distillation."""
    from distill.runs import read_run

    section = {**recipe.direct_rl.grpo}
    section["trl"] = {**section.get("trl", {}), "learning_rate": rate}
    share = recipe.direct_rl.share_of_distillation
    if share is not None:
        runs = [read_run(folder / part) for part in ("rejection-sampling", f"distilled-{name}")]
        if None in runs:
            raise UsageError(
                f"direct RL of {name} has the compute of its distillation, which is not finished",
                "run the stages rejection_sampling and distill first",
            )
        spent = sum(float(run["metrics"]["cpu_s"]) for run in runs if run is not None)
        section["max_cpu_s"] = round(share * spent, 1)
    return section


def labelled(recipe: Recipe, folder: Path, base: str, students: dict[str, str]) -> dict[str, str]:
    """Return the models to evaluate that are there: label in the tables → folder or name."""
    from distill.runs import read_run

    out = {
        "base": base, "R1-Zero": "zero", "R1-Zero, coin": "control",
        "R1-Zero + language": "zero-language", "Dev1": "dev1", "Dev2": "dev2", "Dev3": "dev3",
    }  # fmt: skip
    for name, start in students.items():
        out |= {f"{name} base": start, f"{name} distilled": f"distilled-{name}"}
        choice = read_run(folder / f"choice-{name}")
        if choice is not None:
            out[f"{name} direct RL"] = choice["metrics"]["best"]
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


def seeded(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe of a seed: a name and so a folder of its own, in the same store."""
    return recipe.model_copy(update={"seed": seed, "name": f"{recipe.name}-{seed}"})


def side_by_side(args: argparse.Namespace, recipe: Recipe, seeds: list[int]) -> None:
    """Run all jobs of the seeds in lanes, then write the table over seeds."""
    from pipelines.lanes import Job, jobs, python, run_jobs
    from pipelines.r1_evaluate import write_seeds

    def command(seed: int, job: Job) -> list[str]:
        sets = [*args.overrides, f"seed={seed}", f"name={recipe.name}-{seed}"]
        words = [w for s in sets for w in ("--set", s)]
        if job.student is not None:
            words += ["--student", job.student]
        return [*python(), "pipelines.r1", args.recipe, *words, "--only", ",".join(job.stages)]

    began = time.monotonic()
    run_jobs(seeds, jobs(list(recipe.students)), command, lanes=args.lanes, say=say)
    folders = {seed: folder_of(seeded(recipe, seed)) for seed in seeds}
    write_seeds(recipe, folders, recipe.store / "models" / f"{recipe.name}.md")
    say(f"{len(seeds)} seeds, {args.lanes} lanes: {time.monotonic() - began:.0f} s in this run")


def one_process(recipe: Recipe, only: tuple[str, ...], student: str | None) -> None:
    """Run stages here, and note what they took."""
    from distill.runs import cpu_s

    began = time.time()
    main(recipe, only=only, student=student)
    row = {"stages": only, "student": student, "began": round(began, 1),
           "ended": round(time.time(), 1), "cpu_s": round(cpu_s(), 1)}  # fmt: skip
    with (folder_of(recipe) / "jobs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--only", metavar="STAGE,…", help=f"of: {', '.join(STAGES)}")
    parser.add_argument("--student", metavar="NAME", help="distil and compare this student alone")
    parser.add_argument("--plan", action="store_true", help="print every stage and its cost")
    parser.add_argument("--seeds", metavar="N,…", help="several seeds and a table over them")
    parser.add_argument("--lanes", type=int, default=1, metavar="N", help="processes side by side")
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from pipelines.r1_plan import plan_lines

    recipe = Recipe.load(args.recipe, overrides=args.overrides)
    only = tuple(args.only.split(",")) if args.only else STAGES
    stray = sorted(set(only) - set(STAGES))
    if stray:
        raise UsageError(f"unknown stage {', '.join(stray)}", f"known: {', '.join(STAGES)}")
    if args.student is not None and args.student not in recipe.students:
        raise UsageError(
            f"unknown student {args.student!r}", f"known: {', '.join(recipe.students)}"
        )
    try:
        seeds = [int(word) for word in args.seeds.split(",")] if args.seeds else []
    except ValueError:
        raise UsageError(f"--seeds {args.seeds!r}", "write numbers, as in 0,1,2") from None
    if args.plan:
        for line in plan_lines(recipe, only):
            say(line)
    elif args.only:
        one_process(recipe, only, args.student)
    elif seeds or args.lanes > 1:
        side_by_side(args, recipe, seeds or [recipe.seed])
    else:
        one_process(recipe, only, args.student)


if __name__ == "__main__":
    sys.exit(run_script("r1", lambda: run(arguments())))
