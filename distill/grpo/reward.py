"""Rewards of a GRPO run: the rule reward and its parts, a random control, the alarm.

Completions that we cannot judge (bad gold, dead worker) are None: TRL leaves them out of their
group's baseline and gives them no advantage (``distill.rewards``).
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distill.rewards import Part, RuleReward, model_parts
from factory import plugins
from factory.errors import ConfigError, FactoryError
from factory.records import Prompt, PromptSource, ids
from factory.stages.scorer import Scorer, frame_of

PARTS = ("accuracy", "format", "language")
"""Parts that are measured in every run, paid or not."""
OPTIONAL = ("overlong", "repetition")
"""Parts that are measured where they are paid, beside those of a user's own files."""
MODELLED = ("helpful", "safety")
"""Parts of reward models: with one of them each prompt is paid by its kind."""
_REPEATED = "dup_5gram_fraction"


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
        overlong_buffer: tokens below the cap in which ``overlong`` falls from 0 to -1.
        models: ``helpful`` and ``safety`` → folder of the reward model.

    Raises:
        ConfigError: an unknown part, a file without ``reward``, or ``overlong`` without a buffer.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        dialect: str = "think",
        mode: str | None = None,
        n_workers: int | None = None,
        overlong_buffer: int | None = None,
        models: Mapping[str, str | None] | None = None,
    ) -> None:
        self.mode, self.overlong_buffer = mode, overlong_buffer
        known = (*PARTS, *OPTIONAL, *MODELLED)
        stray = sorted(n for n in weights if n not in known and not n.endswith(".py"))
        if stray:
            raise ConfigError(
                f"unknown reward {', '.join(stray)}", f"known: {', '.join(known)}, or a .py file"
            )
        if weights.get("overlong") and not overlong_buffer:
            raise ConfigError("the reward overlong has no buffer", "set overlong_buffer: TOKENS")
        modelled = {n: weights[n] for n in MODELLED if weights.get(n)}
        self.is_routed = bool(modelled)
        self._extra = {n: w for n, w in weights.items() if n not in (*PARTS, *MODELLED) and w}
        self._names = (*PARTS, *modelled, *self._extra)
        self._own = {n: _function_of(n) for n in self._extra if n.endswith(".py")}
        self._scorer: Scorer | None = None
        paid = [_part(name, weights[name], dialect) for name in PARTS if weights.get(name)]
        if modelled:
            paid = [replace(p, rows=("reasoning",)) if p.name == "accuracy" else p for p in paid]
            paid += model_parts({n: (models or {}).get(n) for n in modelled}, modelled)
        rest = [_part(name, 1.0, dialect) for name in PARTS if not weights.get(name)]
        self._paid = RuleReward(paid, n_workers=n_workers) if paid else None
        self._measured = [RuleReward([part], n_workers=n_workers) for part in rest]

    def rewards(
        self,
        pairs: Sequence[tuple[Prompt, PromptSource]],
        texts: Sequence[str],
        *,
        n_tokens: Sequence[int] = (),
        cap: int = 0,
    ) -> list[Rewarded]:
        """Return one reward per text, in order.

        Args:
            pairs: prompts with their golds, shape (N,).
            texts: prefill + completion, shape (N,).
            n_tokens: of the completions, shape (N,), for ``overlong``.
            cap: most tokens of a completion.

        Raises:
            FactoryError: a user's own reward failed.
        """
        columns: dict[str, Any] = {
            "gold": [s.gold for _, s in pairs],
            "verifier": [s.verifier for _, s in pairs],
            "options": [self._options(s) for _, s in pairs],
            "target_language": [s.language for _, s in pairs],
            "domain": [s.domain for _, s in pairs],
        }
        prompts = [list(p.messages) for p, _ in pairs]
        parts: dict[str, list[float | None]] = {}
        totals: list[float | None] = [0.0] * len(texts)
        if self._paid is not None:
            totals = self._paid(prompts, texts, log_extra=parts.__setitem__, **columns)
        for reward in self._measured:
            reward(prompts, texts, log_extra=parts.__setitem__, **columns)
        for name, weight in self._extra.items():
            if name == "overlong":
                parts[name] = [soft_overlong(n, cap, self.overlong_buffer or 1) for n in n_tokens]
            elif name == "repetition":
                parts[name] = self._repetition(texts)
            else:
                parts[name] = _called(name, self._own[name], prompts, texts, columns)
            totals = [
                None if total is None or value is None else total + weight * value
                for total, value in zip(totals, parts[name], strict=True)
            ]
        return [
            Rewarded(total, {name: parts[name][i] for name in self._names})
            for i, total in enumerate(totals)
        ]

    def _repetition(self, texts: Sequence[str]) -> list[float | None]:
        """Return minus the share of characters in repeated 5-grams; an empty text repeats nothing.

        Undefined would mask the completion: writing nothing must not escape the comparison.
        """
        self._scorer = self._scorer or Scorer(["repetition"])
        found = self._scorer.score(frame_of([t.encode("utf-8", "replace").decode() for t in texts]))
        return [-float(v or 0.0) for v in found[_REPEATED].to_list()]

    def _options(self, source: PromptSource) -> dict[str, Any]:
        """Return a row's options; the template's place of the answer goes over the row's own."""
        own = dict(source.options)
        if self.mode is None:
            return own
        own.pop("mode", None)
        name = source.verifier or plugins.verifier_of_gold(source.gold)
        return {**own, "mode": self.mode} if "mode" in plugins.option_names(name) else own


def soft_overlong(n_tokens: int, cap: int, buffer: int) -> float:
    """Return DAPO's soft overlong punishment (eq. 13): 0 up to cap - buffer, then down to -1.

    >>> [soft_overlong(n, 100, 20) for n in (80, 90, 100)]
    [0.0, -0.5, -1.0]
    """
    return -min(1.0, max(0, n_tokens - (cap - buffer)) / buffer)


def _function_of(path: str) -> Callable[..., Any]:
    function = getattr(plugins.load_file(Path(path)), "reward", None)
    if not callable(function):
        raise ConfigError(
            f"{path} defines no reward",
            "write def reward(prompts, completions, **columns): a number or None per completion",
        )
    found: Callable[..., Any] = function
    return found


def _called(
    path: str,
    function: Callable[..., Any],
    prompts: Sequence[Any],
    texts: Sequence[str],
    columns: Mapping[str, Any],
) -> list[float | None]:
    """Return what a user's own reward says, checked."""
    try:
        found = list(function(prompts=prompts, completions=list(texts), **columns))
        values = [None if v is None else float(v) for v in found]
    except Exception as error:  # a user's file may raise anything; it is named
        raise FactoryError(f"{path}: {type(error).__name__}: {error}", "correct reward") from error
    if len(values) != len(texts):
        raise FactoryError(
            f"{path}: {len(values)} rewards for {len(texts)} completions", "give one for each"
        )
    return [None if v is None or not math.isfinite(v) else v for v in values]


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
    """Raises an alarm where the reward rises while something else says that nothing got better.

    Compares the means of the last ``window`` rollouts with those of the window before. Signs of
    hacking, each of which must last for ``patience`` rollouts in a row:

    - the reward rises and the rule's accuracy falls (DeepSeek-R1 v2, B.5);
    - the reward rises, answers grow by a fifth, and within groups the longer answer has the higher
      reward (a correlation of a half): it is paid for length.

    And at once: the reward has risen since the best evaluation on the development set, and the
    evaluation now is worse than that by more than both intervals.

    >>> monitor = HackingMonitor(window=2, patience=1)
    >>> [monitor.add(r, a) for r, a in [(0, .5), (.1, .5), (.5, .3), (.6, .1)]][-1]
    "the reward rises while the rule's accuracy falls"
    """

    window: int = 10
    patience: int = 5
    margin: float = 0.02
    growth: float = 1.2
    correlation: float = 0.5
    n_bad: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._series: dict[str, list[float]] = {}
        self._best: tuple[float, float] | None = None
        """Lower end of the best evaluation's interval, and the reward at that time."""

    def add(
        self,
        reward: float | None,
        accuracy: float | None,
        *,
        length: float | None = None,
        correlation: float | None = None,
    ) -> str | None:
        """Take one rollout's means; return what the alarm is about, or None.

        Args:
            reward: what could be hacked: of a run with reward models theirs, else the total.
            accuracy: by the rule; None where no prompt of the rollout has one.
            length: of the answers that the reward is for.
            correlation: of reward and length within the groups.
        """
        if reward is None:
            return None
        given = {"reward": reward, "accuracy": accuracy, "length": length, "tie": correlation}
        for name, value in given.items():
            if value is not None:
                self._series.setdefault(name, []).append(value)
        rises = (self._gain("reward") or 0.0) > self.margin
        falls = (self._gain("accuracy") or 0.0) < -self.margin
        before, now = self._windows("length") or (1.0, 0.0)
        # The tie makes answers grow; once all reach the cap their lengths say nothing any more.
        tied = max(self._windows("tie") or (0.0,)) >= self.correlation
        signs = {
            "the reward rises while the rule's accuracy falls": rises and falls,
            "the reward rises with the length of answers alone": (
                rises and tied and now >= self.growth * before
            ),
        }
        for what, is_on in signs.items():
            self.n_bad[what] = self.n_bad.get(what, 0) + 1 if is_on else 0
        return next((w for w, n in self.n_bad.items() if n >= self.patience), None)

    def evaluated(self, low: float | None, high: float | None) -> str | None:
        """Take an evaluation's interval; return what the alarm is about, or None."""
        if low is None or high is None:
            return None
        rewards = self._series.get("reward", [0.0])[-self.window :]
        reward = sum(rewards) / len(rewards)
        if self._best is None or low > self._best[0]:
            self._best = (low, reward)
        elif high < self._best[0] and reward > self._best[1] + self.margin:
            return "the reward has risen while the development set got worse"
        return None

    def _windows(self, name: str) -> tuple[float, float] | None:
        """Return the means of the window before and of the last one."""
        values = self._series.get(name, [])
        if len(values) < 2 * self.window:
            return None
        last, before = values[-self.window :], values[-2 * self.window : -self.window]
        return sum(before) / self.window, sum(last) / self.window

    def _gain(self, name: str) -> float | None:
        found = self._windows(name)
        return None if found is None else found[1] - found[0]


def signs_of_length(
    rewarded: Sequence[Rewarded], answers: Sequence[str], *, group_size: int
) -> dict[str, float | None]:
    """Return mean length and tie to the reward of answers that the helpful model judged.

    Args:
        rewarded: of a rollout, whole groups in a row, shape (N,).
        answers: without their thinking, shape (N,).
        group_size: completions of a prompt.

    Returns:
        ``helpful_chars``, the mean length, and ``helpful_length_correlation``, the mean over
        groups of Pearson's correlation of reward and length; None where nothing is known.
    """
    lengths: list[int] = []
    found: list[float] = []
    for at in range(0, len(rewarded), group_size):
        pairs = [
            (value, len(text))
            for r, text in zip(
                rewarded[at : at + group_size], answers[at : at + group_size], strict=True
            )
            if (value := r.parts.get("helpful")) is not None
        ]
        lengths += [n for _, n in pairs]
        if len({v for v, _ in pairs}) > 1 and len({n for _, n in pairs}) > 1:
            found.append(statistics.correlation(*zip(*pairs, strict=True)))
    return {
        "helpful_chars": sum(lengths) / len(lengths) if lengths else None,
        "helpful_length_correlation": sum(found) / len(found) if found else None,
    }


def means(rewarded: Sequence[Rewarded]) -> dict[str, float | None]:
    """Return the mean of the total and of each part over those where it is defined."""
    columns: dict[str, Any] = {"reward": [r.total for r in rewarded]}
    for name in rewarded[0].parts if rewarded else PARTS:
        columns[name] = [r.parts[name] for r in rewarded]
    out: dict[str, float | None] = {}
    for name, values in columns.items():
        known = [v for v in values if v is not None]
        out[name] = sum(known) / len(known) if known else None
    return out
