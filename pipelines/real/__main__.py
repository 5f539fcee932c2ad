"""A real pretrained model through the whole chain, on a laptop.

    make real                                       two seeds side by side, one core each
    python -m pipelines.real [RECIPE] [--set k=v]   one seed
    python -m pipelines.real --seeds 0,1 --lanes 2  several, and a table over them

The base answers story sums; right, finished traces become a release, and as many unchosen ones
another; the base is fine-tuned on each; GRPO goes on from the first, and, with R1-Zero's printed
prompt, from the base itself; all answer fresh problems. Run it again and nothing is made twice;
kill it anywhere, run it again, and it goes on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from factory.cli.arguments import add_common
from factory.cli.common import run_parsed, say, step
from factory.config import Config
from factory.errors import UsageError

HERE = Path(__file__).parent


class Recipe(Config):
    """Values of a run; control flow is in ``main``.

    Attributes:
        store: store directory.
        name: of releases and of the models' folder; a seed's number is added.
        seed: of problems, sampling and training.
        base: ``smollm2`` (out of its package), a folder, or ``name@revision`` of the hub.
        template: chat template of all but R1-Zero (``distill.templates``).
        engine: options of the vLLM engine.
        problems: options of ``pipelines/real/problems.py``.
        n_dev, n_train, n_eval: problems of each split.
        n_samples: traces per training problem.
        temperature, max_tokens: of all sampling.
        filters: name → SQL predicate over wide, of the curated release.
        cap_per_prompt, max_rows: of both releases.
        sft: ``student`` (file in ``distill/students``) and ``overrides``.
        grpo: section of the GRPO run that starts from the curated SFT.
        zero: section of the GRPO run that starts from the base; None leaves it out.
        k_eval: samples per evaluation problem.
    """

    store: Path
    name: str
    seed: int
    base: str
    template: str
    engine: dict[str, Any]
    problems: dict[str, Any]
    n_dev: int
    n_train: int
    n_eval: int
    n_samples: int
    temperature: float
    max_tokens: int
    filters: dict[str, str | None]
    cap_per_prompt: int
    max_rows: int
    sft: dict[str, Any]
    grpo: dict[str, Any]
    zero: dict[str, Any] | None
    k_eval: int


def main(recipe: Recipe) -> None:
    """Run everything of one seed that is not done yet, from top to bottom."""
    from factory.engines.vllm_start import prepare_environment
    from factory.stages.select import check_filters
    from factory.store import Store
    from pipelines.common import SCORES, Engines, run_grpo, run_sft
    from pipelines.real import report, weights
    from pipelines.real.problems import prompts
    from pipelines.real.traces import Measured, releases

    check_filters(recipe.filters, verifiers=["math", "format"], scores=SCORES)
    say(f"real {recipe.name}, seed {recipe.seed}: {prepare_environment()}, store {recipe.store}")
    store, seed = Store(recipe.store), recipe.seed
    folder = folder_of(recipe)
    engines = Engines(options=recipe.engine)

    def load(split: str, n: int) -> list[Any]:
        return list(prompts(n=n, seed=seed, split=split, **recipe.problems))

    train, dev, test = (
        load(split, n)
        for split, n in (("train", recipe.n_train), ("dev", recipe.n_dev), ("eval", recipe.n_eval))
    )
    measure = Measured(store, recipe, engines, folder)

    # 1. The base, as it reads the problems and as it reads R1-Zero's prompt; its pass rate.
    step("the base")
    source = weights.local(recipe.base, recipe.store / "models")
    base = weights.with_template(source, folder / "base", recipe.template)
    zero_base = weights.with_template(source, folder / "base-zero", "r1_zero")
    say(f"{weights.described(source)}: {weights.n_parameters(base) / 1e6:.0f}M parameters")
    measure.difficulty(base, dev)

    # 2. Its own traces, verified while they are sampled: a curated release, and an unchosen one.
    step(f"{recipe.n_samples} traces for each of {len(train)} problems")
    curated, unchosen = releases(store, recipe, train, base, engines, folder=folder)

    # 3. SFT of the base on each; GRPO from the first, and from the base with R1-Zero's prompt.
    trained = {}
    for name, rows in (("sft", curated), ("sft-uncurated", unchosen)):
        step(f"{name}: SFT of the base on {rows.name}")
        trained[name] = run_sft(
            **recipe.sft, base=base, data=rows, out=folder / name, seed=seed, launch=None,
            engines=engines,
        )  # fmt: skip
    arms = {"grpo": (recipe.grpo, str(trained["sft"])), "zero": (recipe.zero, zero_base)}
    for name, (section, start) in arms.items():
        if section is None:
            continue
        step(f"{name}: GRPO from {Path(start).name}")
        trained[name] = run_grpo(
            section, base=start, out=folder / name, pairs=train, store=store, engines=engines,
            launch=None, seed=seed,
        )  # fmt: skip

    # 4. All of them on problems whose numbers none has seen.
    step(f"{len(test)} fresh problems")
    models = {"base": base, **{name: str(path) for name, path in trained.items()}}
    if "zero" in models:
        models["base-zero"] = zero_base
    measure.all(models, test)
    engines.close()
    report.of_seed(recipe, folder, head=weights.described(source))


def folder_of(recipe: Recipe) -> Path:
    """Return the folder of a seed's models."""
    return recipe.store / "models" / f"{recipe.name}-{recipe.seed}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    recipe = Recipe.load(args.recipe, overrides=args.overrides)
    try:
        seeds = [int(word) for word in args.seeds.split(",")] if args.seeds else [recipe.seed]
    except ValueError:
        raise UsageError(f"--seeds {args.seeds!r}", "write numbers, as in 0,1") from None
    if len(seeds) == 1:
        main(recipe.model_copy(update={"seed": seeds[0]}))
        return
    side_by_side(args, recipe, seeds)


def side_by_side(args: argparse.Namespace, recipe: Recipe, seeds: list[int]) -> None:
    """Run the seeds in lanes, each a process of its own, then write the table over them."""
    from factory.store import Store
    from pipelines.parallel_jobs import Job, python, run_jobs
    from pipelines.real import report, weights

    # A store is made in an empty folder, so it comes before the models that stand in it. One
    # process converts the base; the others find it.
    Store(recipe.store)
    weights.local(recipe.base, recipe.store / "models")

    def command(seed: int, job: Job) -> list[str]:
        sets = [word for s in [*args.overrides, f"seed={seed}"] for word in ("--set", s)]
        return [*python(), "pipelines.real", args.recipe, *sets]

    run_jobs(seeds, [Job("real", ())], command, lanes=args.lanes, say=say)
    report.over_seeds(
        recipe, [folder_of(recipe.model_copy(update={"seed": seed})) for seed in seeds]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    default = HERE.parent / "recipes" / "real.yaml"
    parser.add_argument("recipe", nargs="?", default=str(default))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--seeds", metavar="N,…", help="several seeds and a table over them")
    parser.add_argument("--lanes", type=int, default=1, metavar="N", help="processes side by side")
    add_common(parser)
    sys.exit(run_parsed("real", parser.parse_args(), run))
