"""The recipe of DeepSeek-R1 in one straight script; the scale is a recipe file.

    python -m pipelines.r1 pipelines/recipes/miniature.yaml
    python -m pipelines.r1 RECIPE --only zero,evaluate      some stages (others must be finished)
    python -m pipelines.r1 RECIPE --plan                    what it would do and cost
    python -m pipelines.r1 RECIPE --lanes 2                 controls and baselines beside the rest

R1-Zero on a base model; its samples refined into a cold start; SFT of the base on it; reasoning RL
with the language reward; rejection sampling; SFT of the base again; distillation into smaller
students; direct RL of those students with the same compute; everything evaluated on problems that
no stage has seen. Each stage's data, rollouts, rewards and checkpoints are in one store. What is
finished is not repeated: kill it anywhere and run it again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from factory.config import Config
from pipelines._r1_common import (
    Engines,
    ModelOf,
    PromptSet,
    grown,
    guarded,
    run_grpo,
    run_sft,
    say,
    step,
)
from pipelines.cold_start import ColdStart, cold_start, model_refiner
from pipelines.rejection_sampling import RejectionSampling, rejection_sampling

STAGES = (
    "bases", "zero", "control", "zero_language", "cold_start", "sft1", "reasoning",
    "rejection_sampling", "sft2", "distill", "direct_rl", "evaluate",
)  # fmt: skip
SIDE = ("bases", "control", "zero_language", "direct_rl")
"""Stages of the second lane: controls and baselines, which nothing else waits for."""


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
    """RL of a student without distillation, the best of several rates on development problems."""

    rates: tuple[float, ...]
    grpo: dict[str, Any]


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


def main(recipe: Recipe, *, only: tuple[str, ...] = STAGES) -> None:
    """Run the wanted stages that are not done yet, from top to bottom."""
    from factory.engines.vllm import prepare_environment
    from factory.records import Sampling
    from factory.store import Store
    from pipelines._r1_evaluate import Evaluator, write_report

    device = prepare_environment()
    store = Store(recipe.store)
    folder = recipe.store / "models" / recipe.name
    seed, launch = recipe.seed, recipe.launch
    engines = Engines(options=recipe.engine)
    say(f"r1 {recipe.name}: {device}, store {recipe.store}, stages {', '.join(only)}")

    step("bases")
    if "zero" not in only:
        grow_students(recipe, folder)  # the second lane begins with these, the first with the base
    base = grown(recipe.base, out=folder / "base", seed=seed)
    dev, test = recipe.prompts["dev"].load(seed=seed), recipe.prompts["eval"].load(seed=seed)
    rl_prompts = recipe.prompts["rl"].load(seed=seed)
    evaluator = Evaluator(store, recipe.evaluation, engines, test=test, dev=dev, folder=folder)

    def rl(name: str, start: str, section: dict[str, Any]) -> Path:
        step(f"{name}: reinforcement learning from {Path(start).name}")
        return run_grpo(
            section, base=start, out=folder / name, pairs=rl_prompts, store=store,
            engines=engines, launch=launch, seed=seed,
        )  # fmt: skip

    # R1-Zero: RL on the base, without any SFT; the control pays by the toss of a coin.
    if "zero" in only:
        rl("zero", base, recipe.zero)
    if "control" in only:
        rl("control", base, {**recipe.zero, "control": "random"})
    if "zero_language" in only:
        rl("zero-language", base, {**recipe.zero, "rewards": recipe.zero_language_rewards})

    # Cold start: R1-Zero's samples, refined; the base is fine-tuned on them (Dev1).
    data = folder / "data"
    if "cold_start" in only:
        step("cold start: samples of R1-Zero, refined")
        refine = None
        if recipe.refiner is not None:
            sampling = Sampling(temperature=0.6, max_tokens=recipe.cold_start.max_tokens)
            refine = model_refiner(store, engines.get(recipe.refiner), sampling=sampling)
        cold_start(
            store, recipe.cold_start, recipe.prompts["cold_start"].load(seed=seed),
            engines.get(str(folder / "zero")), name=f"{recipe.name}-cold-start", out=data,
            refine=refine,
        )  # fmt: skip
    if "sft1" in only:
        step("dev1: SFT of the base on the cold start")
        run_sft(
            student=recipe.sft1.student, overrides=recipe.sft1.overrides, base=base, seed=seed,
            data=data / f"{recipe.name}-cold-start.jsonl", out=folder / "dev1", launch=launch,
        )  # fmt: skip

    # Reasoning RL with the language reward (Dev2), and what it answers, filtered.
    if "reasoning" in only:
        rl("dev2", str(folder / "dev1"), recipe.reasoning)
    if "rejection_sampling" in only:
        step("rejection sampling from dev2")
        rejection_sampling(
            store, recipe.rejection_sampling, recipe.prompts["rejection"].load(seed=seed),
            engines.get(str(folder / "dev2")), name=f"{recipe.name}-reasoning", out=data,
        )  # fmt: skip

    students = grow_students(recipe, folder)
    # Both from their bases: the teacher once more (Dev3), and the students.
    rows = data / f"{recipe.name}-reasoning.jsonl"
    if "sft2" in only:
        step("dev3: SFT of the base on the rejection-sampled traces")
        run_sft(
            student=recipe.sft2.student, overrides=recipe.sft2.overrides, base=base, seed=seed,
            data=rows, out=folder / "dev3", launch=launch,
        )  # fmt: skip
    for name, student in recipe.students.items():
        if "distill" in only:
            step(f"student {name}: distillation")
            run_sft(
                student=student.student, overrides=student.overrides, base=students[name],
                seed=seed, data=rows, out=folder / f"distilled-{name}", launch=launch,
            )  # fmt: skip
        for rate in recipe.direct_rl.rates if "direct_rl" in only else ():
            section = {**recipe.direct_rl.grpo}
            section["trl"] = {**section.get("trl", {}), "learning_rate": rate}
            rl(f"direct-{name}-{rate:g}", students[name], section)

    # Everything on the same fresh problems; what was chosen was chosen on others.
    if "evaluate" in only:
        step("evaluation")
        labels = {"base": base, "zero": folder / "zero", "zero with coin": folder / "control",
                  "zero + language": folder / "zero-language", "dev1": folder / "dev1",
                  "dev2": folder / "dev2", "dev3": folder / "dev3"}  # fmt: skip
        for name in recipe.students:
            labels[f"{name} base"] = students[name]
            labels[f"{name} distilled"] = folder / f"distilled-{name}"
            runs = [folder / f"direct-{name}-{rate:g}" for rate in recipe.direct_rl.rates]
            labels[f"{name} direct RL"] = evaluator.best(runs)
        results = evaluator.all({k: str(v) for k, v in labels.items() if v is not None})
        write_report(store, recipe, results, folder=folder)
    engines.close()


def grow_students(recipe: Recipe, folder: Path) -> dict[str, str]:
    """Return each student's base, grown where the recipe says so."""
    return {
        name: grown(student.base, out=folder / f"base-{name}", seed=recipe.seed + 100)
        for name, student in recipe.students.items()
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--only", metavar="STAGE,…", help=f"of: {', '.join(STAGES)}")
    parser.add_argument("--plan", action="store_true", help="print every stage and its cost")
    parser.add_argument("--lanes", type=int, default=1, choices=(1, 2))
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from factory.errors import FactoryError, UsageError
    from pipelines._r1_plan import plan_lines

    recipe = Recipe.load(args.recipe, overrides=args.overrides)
    only = tuple(args.only.split(",")) if args.only else STAGES
    stray = sorted(set(only) - set(STAGES))
    if stray:
        raise UsageError(f"unknown stage {', '.join(stray)}", f"known: {', '.join(STAGES)}")
    if args.plan:
        for line in plan_lines(recipe, only):
            say(line)
        return
    side = None
    if args.lanes == 2 and not args.only:
        sets = [word for s in args.overrides for word in ("--set", s)]
        command = [sys.executable, "-m", "pipelines.r1", args.recipe, *sets]
        side = subprocess.Popen([*command, "--only", ",".join(SIDE)])
        only = tuple(s for s in STAGES if s == "bases" or s not in (*SIDE, "evaluate"))
    try:
        main(recipe, only=only)
        if side is not None:
            if side.wait() != 0:
                raise FactoryError("the second lane failed", "its last lines stand above")
            main(recipe, only=("bases", "evaluate"))
    finally:
        if side is not None and side.poll() is None:
            side.terminate()
            side.wait()


if __name__ == "__main__":
    sys.exit(guarded("r1", lambda: run(arguments())))
