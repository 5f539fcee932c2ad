"""Preference pairs of a recipe: Dev3 answers each prompt twice, a judge compares the answers.

    python -m pipelines.r1 RECIPE --only preferences,reward_models

The helpful model is trained on them where its section names no ``data`` of its own (DeepSeek-R1 v2,
3.1: 66,000 pairs, four judgements each, in both orders). How pairs are judged and which of them
are kept is ``distill.preferences``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from distill.preferences import Candidates, judged_pairs, write_pairs
from distill.rewards import route_of
from factory.cli.common import say
from factory.config import Config
from factory.engines.base import Engine
from factory.errors import UsageError
from factory.records import Sampling
from factory.records.text import trace_text
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.reading import texts_of
from factory.store import Store
from pipelines.common import Pair


class PreferencePairs(Config):
    """How a recipe makes its pairs; prompts are ``prompts.preferences``, or else ``rl_general``.

    Attributes:
        n_answers: of Dev3 to a prompt; each next two are a pair.
        temperature, top_p, max_tokens: of the answers.
        judge_temperature, judge_tokens: of the judge; at temperature 0 the second judgement of an
            order would repeat the first.
        n_judgements: of a pair, half of them in each order.
        min_delta: a pair is kept where its mean judgement is further from 0, on a scale of ±2.
        balance: how far the mean lengths of chosen and rejected answers may be apart.
    """

    n_answers: int = Field(default=2, ge=2, multiple_of=2)
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 4096
    judge_temperature: float = 0.7
    judge_tokens: int = 4096
    n_judgements: int = Field(default=4, ge=2, multiple_of=2)
    min_delta: float = Field(default=1.0, ge=0, lt=2)
    balance: float = Field(default=0.05, gt=0)


def preference_rows(
    store: Store,
    values: PreferencePairs,
    pairs: Sequence[Pair],
    engine: Callable[[], Engine],
    judge: Callable[[], Engine],
    *,
    out: Path,
) -> dict[str, Any]:
    """Write the pairs of ``distill reward-model``; return how many came and went.

    Args:
        store: answers and judgements go there: asked once, and kept.
        values: of the recipe.
        pairs: prompts; those that the helpful model is for count.
        engine: gives the engine that answers.
        judge: gives the judge's; it is asked for when the answers are there.
        out: file of the pairs.

    Raises:
        UsageError: no pair is left.
    """
    prompts = [(p, s) for p, s in pairs if route_of(s.gold, s.domain) == "helpful"]
    sampling = Sampling(
        temperature=values.temperature, top_p=values.top_p, max_tokens=values.max_tokens
    )
    made = generate(
        store, prompts, engine(), sampling=sampling, verify=False,
        policy=Policy(kind="fixed", n=values.n_answers),
    )  # fmt: skip
    keys = made.universe.sort("sample_index")["trace_id"].to_list()
    rows = {row["trace_id"]: row for row in texts_of(store, keys)}
    answers: dict[str, list[str]] = defaultdict(list)
    for row in (rows[key] for key in keys):
        text = trace_text(row["prefill"], row["completion"])
        if text not in answers[row["prompt_id"]]:
            answers[row["prompt_id"]].append(text)
    candidates = [
        Candidates(tuple(p.messages), found[i], found[i + 1])
        for p, _ in prompts
        for found in [answers[p.prompt_id]]
        for i in range(0, len(found) - 1, 2)
    ]
    judged = judged_pairs(
        store, candidates, judge(),
        sampling=Sampling(temperature=values.judge_temperature, max_tokens=values.judge_tokens),
        n_judgements=values.n_judgements, min_delta=values.min_delta, balance=values.balance,
    )  # fmt: skip
    for line in judged.lines():
        say(f"preferences: {line}")
    if not judged.pairs:
        raise UsageError(
            f"the judge has no clear preference in any of {judged.n_candidates} pairs",
            "take another judge, more prompts, or a smaller preferences.min_delta",
        )
    write_pairs(out, judged.pairs)
    return {
        "n_sampled": len(made.universe), "rows": len(judged.pairs), "n_close": judged.n_close,
        "n_missing": judged.n_missing, "n_for_length": judged.n_for_length,
        "first_share": judged.first_share,
    }  # fmt: skip
