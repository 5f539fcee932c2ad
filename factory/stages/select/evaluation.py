"""What is evaluation in a store: prompts of a test split, and the runs of ``distill evaluate``.

A prompt belongs to a split of evaluation when one of its sources says so: a problem that stands in
a training set and in a test set is a test problem.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from factory.errors import UsageError
from factory.records import Prompt, PromptSource
from factory.sets.splits import is_evaluation
from factory.stages.reading import current_sources
from factory.store import Store

Pair = tuple[Prompt, PromptSource]
RUN_KIND = "evaluate"
"""Kind of the runs whose traces are a model's answers to a benchmark."""
SAYS = "no split of evaluation (test, validation, dev …) and no run of an evaluation"


def splits_of(store: Store) -> pl.DataFrame:
    """Return prompt_id and split of every prompt source (several rows where there are several)."""
    return current_sources(store, ["split"]).select("prompt_id", "split")


def evaluation_prompts(store: Store, *, named: Sequence[str] = ()) -> pl.Series:
    """Return the prompts that one of their sources counts as evaluation.

    Args:
        store: where the sources are.
        named: splits that were asked for by name: they do not count.
    """
    found = splits_of(store).drop_nulls("split")
    out = [s for s in found["split"].unique() if s not in named and is_evaluation(s)]
    return found.filter(pl.col("split").is_in(out))["prompt_id"].unique()


def evaluation_runs(store: Store, *, named: Sequence[str] = ()) -> list[str]:
    """Return the runs whose traces are answers to a benchmark, without those named."""
    runs = {r["run_id"] for r in store.runs() if r.get("kind") == RUN_KIND}
    if store.has("evaluations"):
        runs |= set(store.table("evaluations").read(["run_id"])["run_id"].drop_nulls())
    return sorted(runs - set(named))


def not_evaluation(
    store: Store, frame: pl.DataFrame, *, splits: Sequence[str] = (), runs: Sequence[str] = ()
) -> pl.Series:
    """Return for each trace whether it may be trained on: Boolean, never null.

    Args:
        store: where sources and runs are.
        frame: traces with ``prompt_id`` and ``run_id``.
        splits: splits that were asked for by name.
        runs: runs that were asked for by name.
    """
    prompts = evaluation_prompts(store, named=splits)
    made = evaluation_runs(store, named=runs)
    is_out = pl.col("prompt_id").is_in(prompts.implode()) | pl.col("run_id").is_in(made)
    return frame.select((~is_out.fill_null(False)).alias("keep"))["keep"]


def training_pairs(
    store: Store, pairs: Sequence[Pair], *, splits: Sequence[str] = ()
) -> list[Pair]:
    """Return the prompts that a policy may be trained on.

    Args:
        store: whose sources are asked too: a prompt that stands in a test set there is left out.
        pairs: prompts with where they come from.
        splits: take the prompts of these splits and no others, whatever they are called.

    Raises:
        UsageError: nothing is left.
    """
    if splits:
        kept = [pair for pair in pairs if pair[1].split in splits]
    else:
        known = set(evaluation_prompts(store))
        known |= {p.prompt_id for p, source in pairs if is_evaluation(source.split)}
        kept = [pair for pair in pairs if pair[0].prompt_id not in known]
    if pairs and not kept:
        have = ", ".join(sorted({str(source.split) for _, source in pairs}))
        raise UsageError(
            f"none of {len(pairs)} prompts may be trained on: their splits are {have}",
            "name a split with --split to take it all the same",
        )
    return kept
