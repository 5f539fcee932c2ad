"""Rejection sampling: the RL stage's checkpoint answers, what is right and readable is kept.

    python -m pipelines.r1 RECIPE --only rejection_sampling

Several samples per prompt, verified by rule (and what no rule scores by a judge that was measured
against the rules), R1's three filters on the thinking (mixed languages,
long paragraphs, code blocks), a cap per prompt; the pass rate of every prompt is a query away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from factory.cli.common import say
from factory.engines.base import Engine
from factory.stages.export import export
from factory.stages.release import Release, release
from factory.stages.select import Selected
from factory.store import Store
from pipelines.common import Pair
from pipelines.sample_and_select import Sampled, sampled, say_funnel


class RejectionSampling(Sampled):
    """Values of the stage; R1's three filters are among ``filters``."""


def rejection_sampling(
    store: Store,
    values: RejectionSampling,
    pairs: Sequence[Pair],
    engine: Engine,
    *,
    name: str,
    out: Path,
    judge: Callable[[], Engine] | None = None,
) -> tuple[Release, Selected]:
    """Run the stage; what is done already is not made again.

    Args:
        store: where everything goes.
        values: of the recipe.
        pairs: reasoning prompts with golds.
        engine: of the RL stage's checkpoint.
        name: of the release.
        out: folder of the exported rows.
        judge: gives the judge's engine, where ``values.judging`` asks for one.
    """
    selected, n_sampled = sampled(store, values, pairs, engine, judge=judge)
    dataset = release(store, name, selected, recipe=values.model_dump(mode="json"))
    out.mkdir(parents=True, exist_ok=True)
    export(store, dataset, form="trl", out=str(out / f"{name}.jsonl"))
    say(
        f"rejection sampling: {dataset.manifest['rows']} traces of {dataset.manifest['prompts']} "
        f"prompts kept, out of {n_sampled}"
    )
    say_funnel(selected)
    return dataset, selected
