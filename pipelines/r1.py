"""The recipe of DeepSeek-R1 in one straight script; the scale is a recipe file.

    python -m pipelines.r1 pipelines/recipes/miniature.yaml
    python -m pipelines.r1 RECIPE --only zero,evaluate      some stages (others must be finished)
    python -m pipelines.r1 RECIPE --plan                    what it would do and cost
    python -m pipelines.r1 RECIPE --rehearse                the whole of it with tiny models
    python -m pipelines.r1 RECIPE --lanes 2 --seeds 0,1,2   side by side; one table over the seeds

R1-Zero on a base model; its samples refined into a cold start; SFT of the base on it; reasoning RL
with the language reward; rejection sampling and general data; SFT of the base again; reward models
and RL for all scenarios, where the recipe has them; distillation into smaller students; direct RL
of those students with the same compute; everything evaluated on problems that no stage has seen.
Each stage's data, rollouts, rewards and checkpoints are in one store. What is finished is not
repeated: kill it anywhere and run it again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from factory.cli.arguments import add_common
from factory.cli.common import run_parsed, say, step
from factory.errors import UsageError
from pipelines.r1_recipe import STAGES, Recipe, folder_of, seeded

if TYPE_CHECKING:
    from pipelines.r1_stages import Stages


def main(
    recipe: Recipe, *, only: tuple[str, ...] = STAGES, student: str | None = None,
    stages: Stages | None = None,
) -> None:  # fmt: skip
    """Run the wanted stages that are not done yet, from top to bottom.

    Args:
        recipe: of a scale.
        only: stages to run; what they read must be finished.
        student: distillation and direct RL of this student alone; None: of all.
        stages: of the recipe, with engines of one's own; None makes them.
    """
    from pipelines.r1_stages import Stages

    run = stages or Stages(recipe)
    zero, dev1, dev2 = (str(run.folder / name) for name in ("zero", "dev1", "dev2"))
    say(f"r1 {recipe.name}, seed {recipe.seed}: {run.device}, store {recipe.store}, "
        f"{', '.join(only)}")  # fmt: skip
    step("bases")
    base = run.base()
    students: dict[str, str] = {}
    if {"bases", "distill", "direct_rl", "evaluate"} & set(only):
        students = run.student_bases()

    # R1-Zero: RL on the base, without any SFT; the control pays by the toss of a coin.
    if "zero" in only:
        run.reinforce("zero", base, recipe.zero)
    if "control" in only:
        run.reinforce("control", base, {**recipe.zero, "control": "random"})
    if "zero_language" in only:
        rewards = {"rewards": recipe.zero_language_rewards}
        run.reinforce("zero-language", base, {**recipe.zero, **rewards})

    # Cold start: R1-Zero's samples, refined; the base is fine-tuned on them (Dev1).
    if "cold_start" in only:
        step("cold start: samples of R1-Zero, refined")
        run.make_cold_start(zero)
    if "sft1" in only:
        step("dev1: SFT of the base on the cold start")
        run.fine_tune("dev1", recipe.sft1, base, run.cold_rows)

    # Reasoning RL with the language reward (Dev2), and what it answers, filtered.
    if "reasoning" in only:
        run.reinforce("dev2", dev1, recipe.reasoning)
    if "rejection_sampling" in only:
        step("rejection sampling from dev2")
        run.make_reasoning_rows(dev2)

    # Rows that no rule can score; what both SFT stages below read is mixed of both kinds.
    if "general" in only and recipe.general is not None:
        step("general data")
        run.make_general_rows()

    if "mixture" in only and recipe.general is not None:
        step("mixture of reasoning and general rows")
        run.mixed_rows(base)
    if "safety_review" in only and recipe.safety is not None:
        step("safety review of the second SFT set")
        run.training_rows(base)

    # Both from their bases: the teacher once more (Dev3), and the students.
    if "sft2" in only:
        step("dev3: SFT of the base on the rejection-sampled traces and the general rows")
        run.fine_tune("dev3", recipe.sft2, base, run.training_rows(base))

    # The last stage, from Dev3: rules where there is a gold, reward models where there is none.
    if "preferences" in only and recipe.preferences is not None:
        step("preferences: the judge compares answers of dev3")
        run.make_preferences(str(run.folder / "dev3"))
    if "reward_models" in only and recipe.reward_models is not None:
        step("reward models")
        run.train_reward_models(str(run.folder / "dev3"))
    if "all_scenarios" in only and recipe.all_scenarios is not None:
        run.reinforce_for_all(str(run.folder / "dev3"))
    for name, how in recipe.students.items():
        if student not in (None, name):
            continue
        if "distill" in only:
            step(f"student {name}: distillation")
            run.fine_tune(f"distilled-{name}", how, students[name], run.training_rows(base))
        if "direct_rl" in only:
            run.reinforce_directly(name, students[name])

    # Everything on the same fresh problems; what was chosen was chosen on others.
    if "evaluate" in only:
        step("evaluation")
        run.evaluate(base, students)
    run.close()


def side_by_side(args: argparse.Namespace, recipe: Recipe, seeds: list[int]) -> None:
    """Run all jobs of the seeds in lanes, then write the table over seeds."""
    from pipelines.parallel_jobs import Job, jobs, python, run_jobs
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


def one_process(
    recipe: Recipe, only: tuple[str, ...], student: str | None, *, restart: bool
) -> None:  # fmt: skip
    """Run stages here, and note what they took."""
    from distill.runs import cpu_s
    from pipelines.r1_stages import Stages

    began = time.time()
    main(recipe, only=only, student=student, stages=Stages(recipe, restart=restart))
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
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="the whole recipe with tiny models, killed in every stage",
    )
    parser.add_argument("--ranks", type=int, default=2, metavar="N", help="of a rehearsal")
    parser.add_argument("--launch", metavar="FILE", help="of a rehearsal, instead of the recipe's")
    parser.add_argument(
        "--kill",
        default="all",
        metavar="FOLDER,…",
        help="stages that a rehearsal kills: all, none, or names such as dev1 or dev1:rank",
    )
    parser.add_argument(
        "--kill-kind",
        default="program",
        choices=("program", "rank", "save"),
        help="what is killed: the program, one rank, the program while it saves",
    )
    parser.add_argument("--restart", action="store_true", help="stopped trainings begin anew")
    parser.add_argument("--seeds", metavar="N,…", help="several seeds and a table over them")
    parser.add_argument("--lanes", type=int, default=1, metavar="N", help="processes side by side")
    add_common(parser)
    return parser.parse_args()


def rehearsal(args: argparse.Namespace, recipe: Recipe, only: tuple[str, ...]) -> int:
    """Rehearse the recipe in a folder of its own beside the store."""
    from pipelines.rehearsal.drive import rehearse

    if args.student is not None:
        students = {args.student: recipe.students[args.student]}
        recipe = recipe.model_copy(update={"students": students})
    folder = recipe.store.parent / "rehearsals" / f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return rehearse(
        recipe, only=only, ranks=args.ranks, launch=args.launch, kills=args.kill.split(","),
        kill_kind=args.kill_kind, folder=folder, say=say,
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from pipelines.r1_memory import memory_lines, refusals
    from pipelines.r1_plan import gold_lines, plan_lines

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
    if args.rehearse:
        return rehearsal(args, recipe, only)
    if args.plan:
        for line in (*memory_lines(recipe, only), *gold_lines(recipe), *plan_lines(recipe, only)):
            say(line)
        if stray := refusals(recipe, only):
            raise UsageError(f"the recipe does not fit: {'; '.join(stray)}", "nothing was started")
    elif args.restart and (seeds or args.lanes > 1):
        raise UsageError("--restart with several jobs", "name the seed and the stages: --only")
    elif args.only:
        one_process(recipe, only, args.student, restart=args.restart)
    elif seeds or args.lanes > 1:
        side_by_side(args, recipe, seeds or [recipe.seed])
    else:
        one_process(recipe, only, args.student, restart=args.restart)
    return 0


if __name__ == "__main__":
    sys.exit(run_parsed("r1", arguments(), run))
