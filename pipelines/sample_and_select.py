"""What cold start and rejection sampling share: sample a model, measure, keep by filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import polars as pl

from factory import plugins
from factory.cli.common import funnel_lines, say
from factory.config import Config
from factory.engines.base import Engine
from factory.errors import UsageError
from factory.records import Sampling
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.judge import Judging, Measure, judge_store
from factory.stages.score import score
from factory.stages.select import Selected, Selection, Universe, select
from factory.stages.verify import verify_shape
from factory.store import Store
from pipelines.common import SCORES, Pair


class JudgingOf(Config):
    """How the recipe's judge is asked.

    Attributes:
        temperature, max_tokens: of its replies.
        measure: how far it has to agree with the rules before it is used.
    """

    temperature: float = 0.6
    max_tokens: int = 2048
    measure: Measure = Measure()


class Sampled(Config):
    """Values of a stage that samples a model and keeps what passes.

    Attributes:
        n_samples: samples per prompt.
        temperature: of the sampling.
        top_p: of the sampling.
        max_tokens: of a completion.
        prefill: text that every completion begins with.
        dialect: of the format verdict.
        filters: name → SQL predicate over wide.
        exact_duplicates: as in ``Selection``.
        cap_per_prompt: traces kept per prompt.
        prefer: SQL order in which a prompt's traces are taken.
        max_rows: traces kept in all.
        judging: the judge's verdict on what no rule could score (``judge_status`` in filters), as
            DeepSeek-V3's in the paper; None: there is none.
    """

    n_samples: int
    temperature: float
    top_p: float = 1.0
    max_tokens: int
    prefill: str = ""
    dialect: str = "think"
    filters: dict[str, str | None]
    exact_duplicates: Literal["set", "prompt"] | None = "prompt"
    cap_per_prompt: int
    prefer: str = "sample_index"
    max_rows: int | None = None
    judging: JudgingOf | None = None


def sampled(
    store: Store, values: Sampled, pairs: Sequence[Pair], engine: Engine,
    *, judge: Callable[[], Engine] | None = None,
) -> tuple[Selected, int]:  # fmt: skip
    """Sample what is missing, measure it, and decide; returns the decision and the universe's size.

    Args:
        store: where everything goes.
        values: of the recipe.
        pairs: prompts with golds.
        engine: of the model that answers.
        judge: gives the judge's engine; asked for where ``values.judging`` is set, when everything
            is sampled and measured.

    Raises:
        UsageError: a judge is asked for and there is none.
        Refused: it agrees too seldom with the rules.
    """
    sampling = Sampling(
        temperature=values.temperature, top_p=values.top_p, max_tokens=values.max_tokens,
        prefill=values.prefill,
    )  # fmt: skip
    made = generate(store, pairs, engine, sampling=sampling, policy=Policy(n=values.n_samples))
    universe = made.universe["trace_id"]
    measured(store, universe, dialect=values.dialect)
    if values.judging is not None:
        if judge is None:
            raise UsageError("nobody judges the samples", "give judge, or drop judging")
        whose = Universe(
            models=[f"{engine.model}@{engine.revision}"], samplings=[sampling.sampling_id]
        )
        _judged(store, values.judging, judge(), whose)
    selection = Selection(
        filters=values.filters, exact_duplicates=values.exact_duplicates,
        cap_per_prompt=values.cap_per_prompt, prefer=values.prefer, max_rows=values.max_rows,
    )  # fmt: skip
    return decided(store, selection, universe, pairs), len(universe)


def _judged(store: Store, values: JudgingOf, judge: Engine, universe: Universe) -> None:
    """Measure the judge on what rules decided, and ask it about what they did not."""
    made = judge_store(
        store, judge, recipe=Judging(universe=universe, measure=values.measure),
        sampling=Sampling(temperature=values.temperature, max_tokens=values.max_tokens),
    )  # fmt: skip
    by = ", ".join(f"{n} {status}" for status, n in sorted(made.by_status.items())) or "none"
    say(f"judge: agrees with the rules on {made.measured.agreement} of {made.measured.n}; {by}")


def measured(store: Store, trace_ids: pl.Series, *, dialect: str) -> None:
    """Give traces their verdict on form and their scores, where they lack them."""
    verify_shape(store, "format", options={"dialect": dialect}, trace_ids=trace_ids)
    score(store, SCORES, trace_ids=trace_ids)


def decided(
    store: Store, selection: Selection, trace_ids: pl.Series, pairs: Sequence[Pair]
) -> Selected:
    """Apply filters to traces whose verdicts and scores are there.

    ``status`` in a filter is the verdict of whichever verifier a prompt names.
    """
    named = {s.verifier or plugins.verifier_of_gold(s.gold) for _, s in pairs if s.gold}
    used = sorted({*named, "math", "format"})
    return select(store, selection, trace_ids=trace_ids, verifiers=used, scores=SCORES)


def say_funnel(selected: Selected) -> None:
    """Say what each filter drops, and what it alone does."""
    for line in funnel_lines(selected.funnel, kept=selected.keys.height):
        say(f"  {line}")
