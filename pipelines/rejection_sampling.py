"""Rejection sampling: the RL stage's checkpoint answers, what is right and readable is kept.

    python -m pipelines.r1 RECIPE --only rejection_sampling

Several samples per prompt, verified by rule, R1's three filters on the thinking (mixed languages,
long paragraphs, code blocks), a cap per prompt; the pass rate of every prompt is a query away.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from factory.config import Config
from factory.records import Sampling
from factory.requests import Engine
from factory.stages.export import export
from factory.stages.facts import score_store
from factory.stages.generate import generate
from factory.stages.policy import Policy
from factory.stages.release import Release, release
from factory.stages.select import Selected, Selection, select
from factory.store import Store
from pipelines._r1_common import SCORES, Pair, format_verdicts, say


class RejectionSampling(Config):
    """Values of the stage."""

    n_samples: int
    temperature: float
    top_p: float = 1.0
    max_tokens: int
    prefill: str = ""
    dialect: str = "think"
    filters: dict[str, str]
    """Name → SQL predicate over wide; R1's three among them."""
    cap_per_prompt: int
    prefer: str = "sample_index"
    max_rows: int | None = None


def rejection_sampling(
    store: Store,
    values: RejectionSampling,
    pairs: Sequence[Pair],
    engine: Engine,
    *,
    name: str,
    out: Path,
) -> tuple[Release, Selected]:
    """Run the stage; what is done already is not made again.

    Args:
        store: where everything goes.
        values: of the recipe.
        pairs: reasoning prompts with golds.
        engine: of the RL stage's checkpoint.
        name: of the release.
        out: folder of the exported rows.
    """
    sampling = Sampling(
        temperature=values.temperature, top_p=values.top_p, max_tokens=values.max_tokens,
        prefill=values.prefill,
    )  # fmt: skip
    made = generate(
        store, pairs, engine, sampling=sampling, policy=Policy(kind="fixed", n=values.n_samples)
    )
    universe = made.universe["trace_id"]
    format_verdicts(store, universe, run_id=made.run_id, dialect=values.dialect)
    score_store(store, SCORES, trace_ids=universe)
    selected = select(
        store,
        Selection(
            filters=values.filters,
            cap_per_prompt=values.cap_per_prompt,
            prefer=values.prefer,
            max_rows=values.max_rows,
        ),
        trace_ids=universe,
        verifiers=["math", "format"],
        scores=SCORES,
    )
    dataset = release(store, name, selected, recipe=values.model_dump(mode="json"))
    out.mkdir(parents=True, exist_ok=True)
    export(store, dataset, form="trl", out=str(out / f"{name}.jsonl"))
    say(
        f"rejection sampling: {dataset.manifest['rows']} traces of {dataset.manifest['prompts']} "
        f"prompts kept, out of {len(universe)}"
    )
    for line in selected.funnel:
        say(f"  {line['name']:16} drops {line['n_dropped']:6} ({line['n_dropped_only']} alone)")
    return dataset, selected
