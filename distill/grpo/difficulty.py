"""Difficulty bands: which prompts teach something, by what was sampled of them before.

A prompt that all samples of a model solve, or none, gives no advantage in GRPO and so no gradient.
Their pass rates are facts of the store: ``factory generate`` with the run's base measures them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from distill.grpo.config import GrpoConfig, Pair
from distill.student import split_revision
from factory import model_files, plugins
from factory.errors import FactoryError, UsageError
from factory.sets.bands import in_band, pass_rates
from factory.stages.checker import Checker, verdict_key
from factory.store import Store


def banded(
    config: GrpoConfig, pairs: Sequence[Pair], store: Store, *, say: Callable[[str], None]
) -> list[Pair]:
    """Return the prompts whose pass rate lies in the run's band; all where it has none.

    Args:
        config: of the run: ``pass_rate``, ``pass_rate_of``, ``pass_rate_samples``.
        pairs: prompts with their golds.
        store: what was sampled, and its verdicts.
        say: takes a line with the counts.

    Raises:
        UsageError: the model was not sampled, or no prompt lies in the band.
    """
    if config.pass_rate is None:
        return list(pairs)
    low, high = config.pass_rate
    who = config.pass_rate_of or model_files.name_of(split_revision(config.base)[0])
    revision = None
    if config.pass_rate_of is None:
        revision = model_files.revision_of(*split_revision(config.base))
    rates = pass_rates(statuses(store, pairs, model=who, revision=revision), status="status")
    if not rates.height:
        raise UsageError(
            f"no prompt of the run was sampled from {who}",
            "run factory generate with it on these prompts first, or name pass_rate_of",
        )
    found = in_band(rates, low=low, high=high, min_scored=config.pass_rate_samples)
    inside = set(found.filter(pl.col("is_in_band"))["prompt_id"])
    n_known = int(found["is_in_band"].is_not_null().sum())
    kept = [p for p in pairs if p[0].prompt_id in inside]
    say(
        f"grpo {config.out.name}: {len(kept)} of {len(pairs)} prompts have a pass rate of {low} to "
        f"{high} under {who} ({len(pairs) - n_known} without enough samples)"
    )
    if not kept:
        raise UsageError("no prompt lies in the band of pass_rate", "widen it, or sample more")
    return kept


def statuses(
    store: Store, pairs: Sequence[Pair], *, model: str, revision: str | None
) -> pl.DataFrame:
    """Return ``prompt_id`` and ``status`` of each verdict on a model's samples of these prompts.

    Args:
        store: holds both.
        pairs: prompts; of each its own verifier, gold and options count.
        model: its name in the store.
        revision: None: all of them.
    """
    sources = {prompt.prompt_id: source for prompt, source in pairs}
    columns = ["trace_id", "prompt_id", "model", "revision"]
    checkers: dict[str, Checker | None] = {}
    wanted: dict[str, dict[str, str]] = {}
    for frame in store.table("traces").batches(columns) if store.has("traces") else ():
        frame = frame.filter(pl.col("model") == model)
        if revision is not None:
            frame = frame.filter(pl.col("revision") == revision)
        for trace_id, prompt_id in frame.select("trace_id", "prompt_id").iter_rows():
            source = sources.get(prompt_id)
            if source is None:
                continue
            name = source.verifier or plugins.verifier_of_gold(source.gold)
            checker = _checker(name, checkers)
            if checker is not None:
                key = verdict_key(trace_id, source, checker)
                wanted.setdefault(f"verdicts.{checker.label}", {})[key] = prompt_id
    rows: list[tuple[str, str]] = []
    for table, prompt_of in wanted.items():
        if not store.has(table):
            continue
        for frame in store.table(table).batches(["verdict_id", "status"]):
            for key, status in frame.iter_rows():
                if key in prompt_of:
                    rows.append((prompt_of[key], status))
    schema = {"prompt_id": pl.String, "status": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _checker(name: str, known: dict[str, Checker | None]) -> Checker | None:
    if name not in known:
        try:
            known[name] = Checker(name)
        except FactoryError:  # a verifier that is gone has no verdicts that count
            known[name] = None
    return known[name]
