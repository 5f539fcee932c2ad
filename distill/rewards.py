r"""Rewards: one callable for TRL's GRPOTrainer that combines rule parts of the factory.

Why one callable: TRL leaves a completion out of its group only where *every* reward function gives
None for it. Accuracy and format as two functions would let a bad gold count as "right form, no
answer". Here any part that is unscored makes the whole reward None.

What TRL 1.16 then does (read in its source and held by ``tests/test_rewards.py``): None becomes
NaN, the group's mean and standard deviation are taken over the other completions, and the
advantage of the None row is set to 0. With ``beta`` > 0 such a row still feels the KL term, and it
still counts among the tokens that the loss is divided by; its reward moves nothing. A group with
fewer than two scored completions has no spread: all its advantages are 0. ``scale_rewards`` may
be ``group``, ``batch`` or ``none``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from distill.devices import cores
from factory import plugins
from factory.dialects import join_reasoning
from factory.errors import FactoryError, UsageError
from factory.records import Item, message_list
from factory.stages.checker import Checker
from factory.stages.scorer import Scorer, frame_of

_LOG = logging.getLogger(__name__)

Route = Literal["reasoning", "helpful", "safety"]
SAFETY_DOMAINS = ("safety", "harmlessness")
"""Domains of prompts whose answers the safety model judges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a reward: a verdict, a score's column or a reward model's output, times a weight.

    Attributes:
        name: under which the part is logged.
        weight: factor of the part in the sum.
        verifier: name of a verifier; ``*`` takes that of each row's ``verifier`` column, and
            the one that fits its gold where a row names none.
        score: name of a score.
        model: folder of a reward model; exactly one of ``verifier``, ``score`` and ``model`` is
            given.
        rows: kinds of rows that the part is for (``route_of``); None: all. To other rows it adds
            nothing, and hides nothing.
        column: the score's column that is the part's value.
        options: the verifier's options or the score's parameters. Where the verifier is ``*``,
            each verifier is given those that it takes, and a row's own ``options`` column goes
            over them.
    """

    name: str
    weight: float = 1.0
    verifier: str | None = None
    score: str | None = None
    column: str | None = None
    model: str | None = None
    rows: tuple[Route, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plugins.allow(self.verifier)
        n_given = sum(v is not None for v in (self.verifier, self.score, self.model))
        if n_given != 1 or (self.score is not None and self.column is None):
            raise UsageError(
                f"reward part {self.name!r} is not one verifier, one score or one reward model",
                "give verifier=…, or score=… and column=…, or model=…",
            )

    def is_for(self, route: Route) -> bool:
        """Whether the part counts for rows of a kind."""
        return self.rows is None or route in self.rows


def route_of(gold: Any, domain: Any) -> Route:
    """Return the kind of a row: what its reward comes from.

    A row with a gold is scored by its verifier, whatever its domain; others by the safety model
    where their domain says so, else by the helpful model (DeepSeek-R1 v2, eq. 8 to 10).

    >>> route_of("4", "math"), route_of(None, "safety"), route_of(None, "writing")
    ('reasoning', 'safety', 'helpful')
    """
    if gold is not None and str(gold).strip():
        return "reasoning"
    return "safety" if domain in SAFETY_DOMAINS else "helpful"


class RuleReward:
    """Weighted sum of rule parts, as a reward function of TRL; None where any part is unscored.

    A class and no closure, so that it can be pickled to rollout workers; worker processes start
    with the first answer that needs one.

    Args:
        parts: at least one.
        prefill: text that the chat template has already written of each completion (such as
            ``<think>\\n``); a column ``prefill`` of the dataset goes over it.
        name: under which TRL logs the reward.
        n_workers: processes for what is not cheap; default: this process's part of the cores.

    Completions are text or messages, whose content may be parts and whose thinking may stand in a
    field of its own. Columns of the dataset that are read, where present: ``gold``, ``verifier``,
    ``options`` (a mapping or its JSON text), ``target_language``, ``domain``, ``prefill``.

    >>> reward = r1_zero()
    >>> reward(prompts=["1+1?"], completions=["<think>easy</think>\\\\boxed{2}"], gold=["2"])
    [2.0]
    >>> reward(prompts=["1+1?"], completions=["<think>easy</think>\\\\boxed{2}"], gold=[None])
    [None]
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        prefill: str = "",
        name: str = "rule_reward",
        n_workers: int | None = None,
    ) -> None:
        if not parts or len({p.name for p in parts}) != len(parts):
            raise UsageError("a reward needs parts of different names", "name each part once")
        self.parts = tuple(parts)
        self.prefill = prefill
        self.n_workers = n_workers or cores()
        self.__name__ = name  # TRL names its metrics by it
        self._checkers: dict[tuple[str, str], Checker | str] = {}
        self._scorers: dict[str, Scorer] = {}
        self._models: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_checkers": {}, "_scorers": {}, "_models": {}}

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Any] | None = None,
        *,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Return one reward per completion, shape (N,).

        Args:
            prompts: text or messages, shape (N,).
            completions: text or assistant messages, shape (N,).
            completion_ids: not read.
            log_extra: TRL's sink of per-completion columns.
            log_metric: TRL's sink of scalars; a part's mean is over its scored completions.
            columns: the dataset's columns, each of shape (N,), and whatever else TRL passes.
        """
        del completion_ids
        n = len(completions)
        prefills = [
            str(own) if own is not None else self.prefill for own in _column(columns, "prefill", n)
        ]
        batch = _Batch(
            prompts=[_prompt_messages(p) for p in prompts],
            texts=[_whole(pre, c) for pre, c in zip(prefills, completions, strict=True)],
            prefills=prefills,
            golds=_column(columns, "gold", n),
            verifiers=_column(columns, "verifier", n),
            options=_column(columns, "options", n),
            target_languages=_column(columns, "target_language", n),
            domains=_column(columns, "domain", n),
        )
        values = {part.name: self._values(part, batch) for part in self.parts}
        rewards = [
            self._sum([(p, values[p.name][i]) for p in self.parts if p.is_for(batch.routes[i])])
            for i in range(n)
        ]
        self._log(values, rewards, log_extra, log_metric)
        return rewards

    def _sum(self, values: Sequence[tuple[Part, float | None]]) -> float | None:
        total = 0.0
        for part, value in values:
            if value is None:
                return None
            total += part.weight * value
        # A row that no part is for would be paid nothing at all, as if it were bad.
        return total if values and math.isfinite(total) else None

    def _values(self, part: Part, batch: _Batch) -> list[float | None]:
        """Return a part's values; None for rows that it is not for."""
        measure = (
            self._verified if part.verifier else self._scored if part.score else self._modelled
        )
        own = [i for i, route in enumerate(batch.routes) if part.is_for(route)]
        if len(own) == len(batch.texts):
            return measure(part, batch)
        out: list[float | None] = [None] * len(batch.texts)
        if own:
            for i, value in zip(own, measure(part, batch.take(own)), strict=True):
                out[i] = value
        return out

    def _modelled(self, part: Part, batch: _Batch) -> list[float | None]:
        """Return what a reward model says; it is loaded with the first rows that it is for.

        Between two rollouts it lies in main memory: one model at a time is beside the policy.
        """
        from factory.scores.reward_model import RewardModel

        if part.name not in self._models:
            self._models[part.name] = RewardModel.load(str(part.model))
        model = self._models[part.name]
        try:
            return list(model.rewards(batch.prompts, batch.texts))
        finally:
            model.rest()

    def _verified(self, part: Part, batch: _Batch) -> list[float | None]:
        """Return the rewards of the verdicts; rows of one verifier are checked together."""
        rows: dict[str, list[int]] = {}
        for i, own in enumerate(batch.verifiers):
            name = str(part.verifier)
            if name == "*":
                name = str(own or plugins.verifier_of_gold(batch.golds[i]))
            rows.setdefault(name, []).append(i)
        out: list[float | None] = [None] * len(batch.texts)
        for name, indices in rows.items():
            checker = self._checker(name, part, n_rows=len(indices))
            if checker is None:
                continue
            own_options = [batch.options[i] if part.verifier == "*" else None for i in indices]
            options = [_options(name, own) for own in own_options]
            verdicts = checker.check([batch.item(i) for i in indices], options)
            for i, verdict in zip(indices, verdicts, strict=True):
                out[i] = verdict.reward
        return out

    def _checker(self, name: str, part: Part, *, n_rows: int) -> Checker | None:
        """Return the checker; None (said once) where the verifier is unknown or cannot work."""
        key = (name, part.name)
        if key not in self._checkers:
            try:
                wanted = _wanted_options(part, name)
                self._checkers[key] = Checker(name, wanted, n_workers=self.n_workers)
            except FactoryError as error:
                # A row that cannot be scored must not end a training run; it is masked and named.
                self._checkers[key] = str(error)
                _LOG.warning("%d completions unscored: %s", n_rows, error)
        found = self._checkers[key]
        return found if isinstance(found, Checker) else None

    def _scored(self, part: Part, batch: _Batch) -> list[float | None]:
        """Return a score's column.

        A language reward is undefined where there is nothing to measure. Where the target is
        known, that is the candidate's doing (an empty thinking) and counts 0, or else writing
        nothing would escape the comparison; where no target is known, it is ours: None.
        """
        assert part.score is not None
        assert part.column is not None
        if part.name not in self._scorers:
            self._scorers[part.name] = Scorer([part.score], {part.score: dict(part.options)})
        frame = frame_of(
            [t.encode("utf-8", "replace").decode() for t in batch.texts],
            prompts=batch.prompt_texts,
            target_languages=[str(t) if t else None for t in batch.target_languages],
        )
        scores = self._scorers[part.name].score(frame)
        values: list[float | None] = scores[part.column].to_list()
        if "target_language" not in scores.columns:
            return [None if v is None else float(v) for v in values]
        targets = scores["target_language"].to_list()
        return [
            float(v) if v is not None else (None if target is None else 0.0)
            for v, target in zip(values, targets, strict=True)
        ]

    def _log(
        self,
        values: Mapping[str, list[float | None]],
        rewards: list[float | None],
        log_extra: Callable[[str, list[Any]], None] | None,
        log_metric: Callable[[str, float], None] | None,
    ) -> None:
        if log_extra is not None:
            for name, column in values.items():
                log_extra(name, column)
        if log_metric is None:
            return
        for name, column in values.items():
            scored = [v for v in column if v is not None]
            if scored:
                log_metric(f"reward_parts/{name}", sum(scored) / len(scored))
        if rewards:
            unscored = sum(r is None for r in rewards) / len(rewards)
            log_metric("reward_parts/unscored_fraction", unscored)


def r1_zero(
    *, prefill: str = "", mode: str = "boxed", dialect: str = "think", n_workers: int | None = None
) -> RuleReward:
    """Make R1-Zero's reward: accuracy + format with equal weight (Nature 2025, suppl., eq. 4)."""
    return RuleReward(
        [_accuracy(mode), _format(dialect)], prefill=prefill, name="r1_zero", n_workers=n_workers
    )


def reasoning_rl(
    *,
    prefill: str = "",
    mode: str = "boxed",
    dialect: str = "think",
    language_weight: float = 1.0,
    n_workers: int | None = None,
) -> RuleReward:
    """Make the first R1 stage's reward: accuracy + format + language consistency, a direct sum."""
    language = Part(
        name="language", weight=language_weight, score="language", column="target_fraction"
    )
    return RuleReward(
        [_accuracy(mode), _format(dialect), language],
        prefill=prefill,
        name="reasoning_rl",
        n_workers=n_workers,
    )


def all_scenarios(
    *,
    helpful: str | None = None,
    safety: str | None = None,
    prefill: str = "",
    mode: str = "boxed",
    dialect: str = "think",
    n_workers: int | None = None,
) -> RuleReward:
    """Make the last R1 stage's reward, by row (DeepSeek-R1 v2, eq. 8 to 10).

    A row with a gold: accuracy + format + language. A row without: what a reward model says +
    format + language; the safety model where the row's ``domain`` is one of ``SAFETY_DOMAINS``,
    else the helpful one. A row whose model is not given is left out of its group.

    Args:
        helpful: folder of the helpful model.
        safety: folder of the safety model.
        prefill: of ``RuleReward``.
        mode: where the answer of a row with a gold stands.
        dialect: of the format.
        n_workers: of ``RuleReward``.
    """
    language = Part(name="language", score="language", column="target_fraction")
    accuracy = replace(_accuracy(mode), rows=("reasoning",))
    parts = [accuracy, *model_parts({"helpful": helpful, "safety": safety}), _format(dialect)]
    return RuleReward(
        [*parts, language], prefill=prefill, name="all_scenarios", n_workers=n_workers
    )


def model_parts(
    folders: Mapping[str, str | None], weights: Mapping[str, float] | None = None
) -> list[Part]:
    """Return the parts of reward models, each for the rows of its kind.

    Args:
        folders: kind → folder of its model; None: rows of that kind are left out.
        weights: kind → weight; 1 where it says nothing.
    """
    out = []
    for kind, folder in folders.items():
        weight = (weights or {}).get(kind, 1.0)
        if folder is None:
            # No verifier scores a row without a gold: it is left out, and named in the log.
            out.append(Part(name=kind, weight=weight, verifier="*", rows=_ROUTES[kind]))
        else:
            out.append(Part(name=kind, weight=weight, model=str(folder), rows=_ROUTES[kind]))
    return out


_ROUTES: dict[str, tuple[Route, ...]] = {"helpful": ("helpful",), "safety": ("safety",)}


def _accuracy(mode: str) -> Part:
    return Part(name="accuracy", verifier="*", options={"mode": mode})


def _format(dialect: str) -> Part:
    return Part(name="format", verifier="format", options={"dialect": dialect})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """The columns of one call, each of shape (N,)."""

    prompts: list[list[Mapping[str, Any]]]
    texts: list[str]
    prefills: list[str]
    golds: list[Any]
    verifiers: list[Any]
    options: list[Any]
    target_languages: list[Any]
    domains: list[Any]

    @property
    def routes(self) -> list[Route]:
        """The kind of each row."""
        return [route_of(g, d) for g, d in zip(self.golds, self.domains, strict=True)]

    def take(self, rows: Sequence[int]) -> _Batch:
        """Return some of the rows."""
        every = {f.name: getattr(self, f.name) for f in fields(self)}
        return _Batch(**{name: [values[i] for i in rows] for name, values in every.items()})

    def item(self, i: int) -> Item:
        return Item(
            text=self.texts[i],
            gold=self.golds[i],
            messages=tuple(self.prompts[i]),
            prefill=self.prefills[i],
        )

    @property
    def prompt_texts(self) -> list[str | None]:
        """The last user message of each prompt."""
        return [
            next((_said(m.get("content")) for m in reversed(p) if m.get("role") == "user"), None)
            for p in self.prompts
        ]


def _column(columns: Mapping[str, Any], name: str, n: int) -> list[Any]:
    found = columns.get(name)
    return list(found) if found is not None else [None] * n


def _prompt_messages(prompt: Any) -> list[Mapping[str, Any]]:
    try:
        return message_list(prompt)
    except ValueError:
        return []


def _whole(prefill: str, completion: Any) -> str:
    """Return prefill and completion as one text: itself, or what its assistant messages say.

    Where TRL has read the thinking of a message into a field of its own, the two halves are joined
    again; the tag that the template had written is a part of that.
    """
    if isinstance(completion, str):
        return prefill + completion
    messages = [m for m in completion if m.get("role") == "assistant"]
    answer = "".join(_said(m.get("content")) for m in messages)
    thoughts = [_said(next((m[k] for k in _THOUGHTS if m.get(k)), None)) for m in messages]
    if not any(thoughts):
        return prefill + answer
    return join_reasoning("\n".join(filter(None, thoughts)), answer)


_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def _said(content: Any) -> str:
    """Return the text of a message's content, which may be a list of parts."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        return "".join(
            str(p.get("text") or "") if isinstance(p, Mapping) else str(p) for p in content
        )
    return str(content or "")


def _wanted_options(part: Part, name: str) -> dict[str, Any]:
    """Return the part's options for a verifier; of a part for all, those that it takes.

    What no verifier takes stays, so that it is refused by name.
    """
    takes = plugins.option_names(name)
    others = plugins.all_option_names().difference(takes) if part.verifier == "*" else ()
    return {k: v for k, v in part.options.items() if k not in others}


def _options(name: str, own: Any) -> Mapping[str, Any]:
    """Read a row's options; what cannot be read becomes an unknown option: unscored."""
    try:
        return plugins.row_options(name, own, strict=True)
    except ValueError as error:
        return {str(error): True}
