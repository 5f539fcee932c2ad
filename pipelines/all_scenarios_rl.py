"""RL for all scenarios: the recipe's last stage, its reward models, and what it gained.

    python -m pipelines.r1 RECIPE --only reward_models,all_scenarios

DeepSeek-R1 v2, 3.2.2: prompts with a gold are paid by rule, the others by the helpful or the safety
model, at temperature .7; general prompts and preference rewards come in the last 400 of 1,700
updates only, since a reward model is hacked where it pays for long. The stage starts from Dev3, the
reward models too.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill.rewards import route_of
from factory.cli.common import say
from factory.config import Config
from factory.engines.base import Engine
from factory.errors import UsageError
from factory.metrics import Interval, paired_difference
from factory.records import Sampling
from factory.records.text import trace_text
from factory.scores.reward_model import RewardModel
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.reading import texts_of
from factory.store import Store
from pipelines.common import Pair

KINDS = ("helpful", "safety")


class RewardModelsOf(Config):
    """Reward models of a recipe, each trained from Dev3; at least one.

    Attributes:
        helpful: keys of ``distill reward-model`` (``data``, ``template`` …); None: there is none.
        safety: the same.
    """

    helpful: dict[str, Any] | None = None
    safety: dict[str, Any] | None = None

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """Kind → keys, of those that there are."""
        found = {"helpful": self.helpful, "safety": self.safety}
        return {kind: {**keys, "kind": kind} for kind, keys in found.items() if keys is not None}


def section_of(grpo: dict[str, Any], folders: dict[str, Path]) -> dict[str, Any]:
    """Return the GRPO section of the last stage, with the reward models' folders.

    Raises:
        UsageError: a reward model is not trained.
    """
    for kind, folder in folders.items():
        if not (folder / "run.json").is_file():
            raise UsageError(f"the {kind} model is not trained", "run the stage reward_models")
    return {**grpo, "reward_models": {kind: str(folder) for kind, folder in folders.items()}}


def preference_gain(
    store: Store,
    engines: Sequence[Callable[[], Engine]],
    pairs: Sequence[Pair],
    model: RewardModel,
    *,
    k: int,
    sampling: Sampling,
) -> Interval:
    """Return what the helpful model says of one model's answers more than of another's.

    Args:
        store: where the answers go: sampled once, and kept.
        engines: give the engine of the model before, and of the one after.
        pairs: prompts; those that the helpful model is for count.
        model: the helpful model.
        k: answers to a prompt; its value is their mean.
        sampling: of the answers.

    Returns:
        The mean difference, after minus before, over prompts, with its interval.
    """
    general = [(p, s) for p, s in pairs if route_of(s.gold, s.domain) == "helpful"]
    means: list[list[float | None]] = []
    for engine in engines:
        made = generate(
            store, general, engine(), sampling=sampling, verify=False,
            policy=Policy(kind="fixed", n=k),
        )  # fmt: skip
        rows = list(texts_of(store, made.universe["trace_id"].to_list()))
        messages = {p.prompt_id: p.messages for p, _ in general}
        values = model.rewards(
            [messages[r["prompt_id"]] for r in rows],
            [trace_text(r["prefill"], r["completion"]) for r in rows],
        )
        by: dict[str, list[float]] = defaultdict(list)
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                by[row["prompt_id"]].append(value)
        found = (by.get(p.prompt_id) for p, _ in general)
        means.append([sum(v) / len(v) if v else None for v in found])
    gain = paired_difference(*means)
    with contextlib.suppress(TypeError):  # undefined with fewer than two prompts
        say(f"  preference reward: {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")
    return gain
