"""The program that a rehearsal starts and kills: the recipe's own script, with right answers.

    python -m pipelines.rehearsal RECIPE.yaml [--only STAGE,…]

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


def run(args: argparse.Namespace) -> None:
    """Run the rehearsed recipe; what is finished is not done again."""
    recipe = Recipe.load(args.recipe)
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
    sys.exit(run_script("rehearsal", lambda: run(parser.parse_args())))
