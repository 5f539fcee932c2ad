"""The program that a rehearsal starts and kills: the recipe's own script, with right answers.

    python -m pipelines.rehearsal RECIPE.yaml [--only STAGE,…] [--forked]

``RECIPE.yaml`` is what ``pipelines.rehearsal.recipe`` made.
"""

from __future__ import annotations

import argparse
import sys

from factory.cli.common import run_script
from pipelines.r1 import main
from pipelines.r1_recipe import STAGES, Recipe
from pipelines.r1_stages import Stages
from pipelines.rehearsal.engine import wrapped
from pipelines.rehearsal.forked import Forked


def run(args: argparse.Namespace) -> None:
    """Run the rehearsed recipe; what is finished is not done again."""
    recipe = Recipe.load(args.recipe)
    if args.forked and recipe.launch is not None:
        launch = Forked.make(recipe.launch.model_dump())
        recipe = recipe.model_copy(update={"launch": launch})
    only = tuple(args.only.split(",")) if args.only else STAGES
    stages = Stages(recipe)
    prompts = {name: stages.prompts(name) for name in recipe.prompts}
    # The cold start samples R1-Zero in its own form; all others think in the usual one.
    dialects = {"zero": recipe.cold_start.dialect}
    stages.engines.wrap = wrapped(prompts, dialects)
    main(recipe, only=only, stages=stages)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("--only", metavar="STAGE,…")
    parser.add_argument("--forked", action="store_true", help="ranks are forked from one process")
    sys.exit(run_script("rehearsal", lambda: run(parser.parse_args())))
