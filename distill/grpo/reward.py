"""Rewards of a GRPO run: the rule reward and its parts, a random control, the alarm.

Completions that we cannot judge (bad gold, dead worker) are None: TRL leaves them out of their
group's baseline and gives them no advantage (``distill.rewards``).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.rewards import Part, RuleReward
from factory import plugins
from factory.errors import ConfigError
from factory.records import Prompt, PromptSource, ids

PARTS = ("accuracy", "format", "language")


@dataclass(frozen=True)
class Rewarded:
    """Reward of one completion.

    Attributes:
        total: weighted sum of the parts, or None where a part that counts is undefined by our own
            doing.
        parts: part → value, or None. Parts without weight are measured all the same.
    """

    total: float | None
    parts: Mapping[str, float | None]

    @property
    def status(self) -> str:
        """Of the accuracy part, as a verdict."""
        value = self.parts.get("accuracy")
        return "unscored" if value is None else "pass" if value >= 1.0 else "fail"


class Payer:
    """The rule reward of ``distill.rewards`` with its parts per completion.

    Args:
        weights: part → weight; of ``PARTS``. A part of weight 0 is measured and never masks.
        dialect: of the format.
        mode: where the answer stands, as the prompt's template asked for it: ``boxed``, or ``auto``
            (a box or ``<answer>`` tags). None leaves it to each row, ``boxed`` where it is silent.
        n_workers: processes for what is not cheap to verify.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        dialect: str = "think",
        mode: str | None = None,
        n_workers: int | None = None,
    ) -> None:
        self.mode = mode
        stray = sorted(set(weights) - set(PARTS))
        if stray:
            raise ConfigError(f"unknown reward {', '.join(stray)}", f"known: {', '.join(PARTS)}")
        paid = [_part(name, weights[name], dialect) for name in PARTS if weights.get(name)]
        rest = [_part(name, 1.0, dialect) for name in PARTS if not weights.get(name)]
        self._paid = RuleReward(paid, n_workers=n_workers)
        self._measured = [RuleReward([part], n_workers=n_workers) for part in rest]

    def rewards(
        self, pairs: Sequence[tuple[Prompt, PromptSource]], texts: Sequence[str]
    ) -> list[Rewarded]:
        """Return one reward per text (prefill + completion), in order."""
        columns: dict[str, Any] = {
            "gold": [s.gold for _, s in pairs],
            "verifier": [s.verifier for _, s in pairs],
            "options": [self._options(s) for _, s in pairs],
            "target_language": [s.language for _, s in pairs],
        }
        prompts = [list(p.messages) for p, _ in pairs]
        parts: dict[str, list[float | None]] = {}
        totals = self._paid(prompts, texts, log_extra=parts.__setitem__, **columns)
        for reward in self._measured:
            reward(prompts, texts, log_extra=parts.__setitem__, **columns)
        return [
            Rewarded(total, {name: parts[name][i] for name in PARTS})
            for i, total in enumerate(totals)
        ]

    def _options(self, source: PromptSource) -> dict[str, Any]:
        """Return a row's options; the template's place of the answer goes over the row's own."""
        own = dict(source.options)
        if self.mode is None:
            return own
        own.pop("mode", None)
        name = source.verifier or plugins.verifier_of_gold(source.gold)
        return {**own, "mode": self.mode} if "mode" in plugins.option_names(name) else own


def _part(name: str, weight: float, dialect: str) -> Part:
    if name == "accuracy":
        return Part(name=name, weight=weight, verifier="*", options={"mode": "boxed"})
    if name == "format":
        return Part(name=name, weight=weight, verifier="format", options={"dialect": dialect})
    return Part(name=name, weight=weight, score="language", column="language_consistency")


def tossed(rewarded: Sequence[Rewarded], keys: Sequence[str], *, seed: int) -> list[Rewarded]:
    """Return the control's rewards: totals by the toss of a coin, parts as they were measured.

    Args:
        rewarded: by the rule, shape (N,).
        keys: of the rollouts, shape (N,).
        seed: of the run.
    """
    return [
        Rewarded(random_reward(key, seed=seed), r.parts)
        for key, r in zip(keys, rewarded, strict=True)
    ]


def random_reward(trace_id: str, *, seed: int) -> float:
    """Return 0 or 1 by the toss of a coin that depends on the trace's key alone.

    The control of Spurious Rewards: what a run with it gains, no reward taught.

    >>> random_reward("ab", seed=0) == random_reward("ab", seed=0)
    True
    """
    return float(random.Random(ids.seed_of(base=seed, trace_id=trace_id)).random() < 0.5)


@dataclass
class HackingMonitor:
    """Raises an alarm where the reward rises while the rule's accuracy falls.

    Compares the means of the last ``window`` steps with those of the window before it; the alarm
    comes when that has been so for ``patience`` steps in a row.

    >>> monitor = HackingMonitor(window=2, patience=1)
    >>> [monitor.add(r, a) for r, a in [(0, .5), (.1, .5), (.5, .3), (.6, .1)]]
    [False, False, False, True]
    """

    window: int = 10
    patience: int = 5
    margin: float = 0.02
    n_bad: int = 0

    def __post_init__(self) -> None:
        self._rewards: list[float] = []
        self._accuracies: list[float] = []

    def add(self, reward: float | None, accuracy: float | None) -> bool:
        """Take one step's means; return whether the alarm is on."""
        if reward is None or accuracy is None:
            return False
        self._rewards.append(reward)
        self._accuracies.append(accuracy)
        if len(self._rewards) < 2 * self.window:
            return False
        rises = _gain(self._rewards, self.window) > self.margin
        falls = _gain(self._accuracies, self.window) < -self.margin
        self.n_bad = self.n_bad + 1 if rises and falls else 0
        return self.n_bad >= self.patience


def _gain(values: Sequence[float], window: int) -> float:
    last, before = values[-window:], values[-2 * window : -window]
    return sum(last) / window - sum(before) / window


def means(rewarded: Sequence[Rewarded]) -> dict[str, float | None]:
    """Return the mean of the total and of each part over those where it is defined."""
    columns: dict[str, Any] = {"reward": [r.total for r in rewarded]}
    for name in PARTS:
        columns[name] = [r.parts[name] for r in rewarded]
    out: dict[str, float | None] = {}
    for name, values in columns.items():
        known = [v for v in values if v is not None]
        out[name] = sum(known) / len(known) if known else None
    return out
