"""Judged tasks: win rates from recorded judgements, and ratings of Codeforces' kind.

Formulas alone, on rows that somebody's judge wrote; nothing is asked here.

- **Win rate**: each pair of answers judged in both orders; a prompt's value is the mean of the two
  (1 win, ½ tie, 0 loss), so that a judge who always prefers the first gives ½.
- **Length control** (AlpacaEval 2, arXiv:2404.04475): a logistic model of the preference,
  logit p = θ + φ·tanh(Δlength ÷ s) + γ, with s the standard deviation of the length differences and
  γ the prompt's difficulty where it is known; the length-controlled rate is its mean at Δlength 0.
- **Rating**: of a contest, the rating at which the expected rank, 1 + Σ 1 ÷ (1 + 10^((r − q)/400))
  over the others' ratings q, is the rank that was reached; of problems, the most likely r where a
  problem of rating d is solved with probability 1 ÷ (1 + 10^((d − r)/400)).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.errors import UsageError
from factory.metrics import Interval, mean_interval

_VALUES = {
    "[[A>>B]]": (1.0, 3.0), "[[A>B]]": (1.0, 1.0), "[[A=B]]": (0.5, 1.0), "[[B>A]]": (0.0, 1.0),
    "[[B>>A]]": (0.0, 3.0), "A": (1.0, 1.0), "B": (0.0, 1.0), "tie": (0.5, 1.0),
}  # fmt: skip
"""Verdict → value for the answer shown first, and its weight (Arena-Hard counts a much better one
three times)."""
_RANGE = (-10_000.0, 10_000.0)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One judgement of a model's answer against a baseline's.

    Attributes:
        prompt: what names the prompt.
        is_first: whether the model's answer was shown first.
        first: 1 where the judge prefers the answer shown first, 0 the other, ½ none; or its
            probability.
        weight: how often it counts.
        n_chars: length of the model's answer; ``n_chars_baseline``: of the other.
        difficulty: of the prompt, in the model of length control.
    """

    prompt: str
    is_first: bool
    first: float
    weight: float = 1.0
    n_chars: float | None = None
    n_chars_baseline: float | None = None
    difficulty: float = 0.0

    @property
    def value(self) -> float:
        """1 where the model's answer is preferred."""
        return self.first if self.is_first else 1 - self.first


def read_judgements(rows: Iterable[Mapping[str, Any]], model: str) -> list[Judgement]:
    """Read rows with ``prompt``, ``a``, ``b`` (models as shown), ``verdict``, and lengths.

    Args:
        rows: ``verdict`` is a word of Arena-Hard's (``[[A>B]]`` …), ``A``, ``B``, ``tie``, or the
            probability that the first is better; ``len_a`` and ``len_b`` are optional.
        model: whose win rate is asked; it is ``a`` or ``b`` of every row that counts.

    Raises:
        UsageError: a row without these columns, or none of that model.
    """
    out = []
    for number, row in enumerate(rows, start=1):
        try:
            names, verdict = (str(row["a"]), str(row["b"])), row["verdict"]
            if model not in names:
                continue
            known = isinstance(verdict, str) and verdict in _VALUES
            first, weight = _VALUES[str(verdict)] if known else (float(verdict), 1.0)
            if not 0 <= first <= 1 or names[0] == names[1]:
                raise ValueError(f"verdict {verdict!r}")
            is_first = names[0] == model
            lengths = [row.get("len_a"), row.get("len_b")]
            own, other = lengths if is_first else lengths[::-1]
            out.append(
                Judgement(
                    prompt=str(row["prompt"]), is_first=is_first, first=first, weight=weight,
                    n_chars=None if own is None else float(own),
                    n_chars_baseline=None if other is None else float(other),
                    difficulty=float(row.get("difficulty") or 0.0),
                )
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"row {number} is no judgement ({type(error).__name__}: {error})",
                "it needs prompt, a, b and verdict (A, B, tie, [[A>B]] …, or a probability)",
            ) from None
    if not out:
        raise UsageError(f"no judgement of {model!r}", "name a model of the columns a and b")
    return out


@dataclass(frozen=True)
class WinRate:
    """What judgements say of a model against a baseline.

    Attributes:
        rate: over prompts, with its interval; ``controlled``: with length controlled, None where
            lengths are not known.
        n_both: prompts judged in both orders; ``n_flipped``: of those, whose verdict turns round
            with the order; ``first_rate``: how often the answer shown first is preferred.
        n_ties: judgements that are ties.
    """

    rate: Interval
    controlled: float | None
    n_both: int
    n_flipped: int
    first_rate: float
    n_ties: int

    def lines(self) -> Iterator[str]:
        """Yield it as text."""
        low, high = (100 * (v or 0) for v in (self.rate.low, self.rate.high))
        yield f"win rate {100 * (self.rate.mean or 0):.2f} % [{low:.2f}, {high:.2f}]"
        if self.controlled is not None:
            yield f"win rate at equal length {100 * self.controlled:.2f} %"
        yield (
            f"{self.rate.n} prompts, {self.n_both} judged in both orders, {self.n_flipped} of them "
            f"turn round with it; the first is preferred in {100 * self.first_rate:.1f} %; "
            f"{self.n_ties} ties"
        )
        if self.n_both < self.rate.n:
            yield f"{self.rate.n - self.n_both} prompts have one order: position is not cancelled"


def win_rate(judgements: Sequence[Judgement]) -> WinRate:
    """Return the win rate over prompts, each the mean of its two orders.

    >>> both = [Judgement(prompt="p", is_first=f, first=1.0) for f in (True, False)]
    >>> win_rate([*both, Judgement(prompt="q", is_first=True, first=1.0)]).rate.mean
    0.75
    """
    by_prompt: dict[str, list[Judgement]] = {}
    for one in judgements:
        by_prompt.setdefault(one.prompt, []).append(one)
    values, n_both, n_flipped = [], 0, 0
    for mine in by_prompt.values():
        orders = [[j for j in mine if j.is_first is order] for order in (True, False)]
        known = [(_mean(o), sum(j.weight for j in o) / len(o)) for o in orders if o]
        values.append(sum(v * w for v, w in known) / sum(w for _, w in known))
        if len(known) == 2:
            n_both += 1
            n_flipped += (known[0][0] - 0.5) * (known[1][0] - 0.5) < 0
    has_lengths = all(j.n_chars is not None and j.n_chars_baseline is not None for j in judgements)
    return WinRate(
        rate=mean_interval(values),
        controlled=length_controlled(judgements) if has_lengths else None,
        n_both=n_both,
        n_flipped=n_flipped,
        first_rate=float(np.mean([j.first for j in judgements])),
        n_ties=sum(j.first == 0.5 for j in judgements),
    )


def _mean(mine: Sequence[Judgement]) -> float:
    return sum(j.value * j.weight for j in mine) / sum(j.weight for j in mine)


def length_controlled(judgements: Sequence[Judgement], *, penalty: float = 1e-6) -> float:
    """Return the win rate at equal length (AlpacaEval 2), from a logistic fit by Newton's method.

    Args:
        judgements: with lengths of both answers.
        penalty: of θ² and φ², so that a model that always wins has a finite fit.

    >>> always = [Judgement(prompt=str(i), is_first=True, first=float(i % 4 > 0), n_chars=9,
    ...                     n_chars_baseline=9) for i in range(8)]
    >>> round(length_controlled(always), 4)
    0.75
    """
    apart = np.array([float(j.n_chars or 0) - float(j.n_chars_baseline or 0) for j in judgements])
    spread = float(apart.std())
    bent = np.tanh(apart / spread) if spread else np.zeros(len(apart))
    wanted = np.array([j.value for j in judgements])
    weight = np.array([j.weight for j in judgements])
    offset = np.array([j.difficulty for j in judgements])
    design = np.stack([np.ones(len(apart)), bent], axis=1)
    fit = np.zeros(2)

    def loss(at: Any) -> float:
        logit = design @ at + offset
        terms = weight * (np.logaddexp(0, logit) - wanted * logit)
        return float(terms.sum() + penalty * (at @ at) / 2)

    for _ in range(200):
        p = _logistic(design @ fit + offset)
        slope = design.T @ (weight * (p - wanted)) + penalty * fit
        bend = (design * (weight * p * (1 - p))[:, None]).T @ design + penalty * np.eye(2)
        step, size = np.linalg.solve(bend, slope), 1.0
        while loss(fit - size * step) > loss(fit) and size > 1e-9:
            size /= 2  # far from the optimum a whole step overshoots
        fit = fit - size * step
        if float(np.abs(size * step).max()) < 1e-10:
            break
    return float(np.average(_logistic(fit[0] + offset), weights=weight))


def _logistic(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(np.asarray(x) / 2))


def expected_rank(rating: float, ratings: Sequence[float]) -> float:
    """Return the rank that somebody of a rating expects among others (Codeforces' seed).

    >>> expected_rank(1500, [1500, 1500])
    2.0
    """
    return 1 + sum(_beaten_by(other, rating) for other in ratings)


def _beaten_by(other: float, rating: float) -> float:
    return 1 / (1 + 10 ** ((rating - other) / 400))


def contest_rating(rank: float, ratings: Sequence[float]) -> float | None:
    """Return the rating at which a rank is the expected one; None for the first and the last.

    Args:
        rank: reached among all, 1 is the best; ties count half.
        ratings: of the others.

    Whoever is before all others, or behind all, has no finite one.

    >>> round(contest_rating(2.0, [1500, 1500]))
    1500
    """
    if not ratings or not 1 < rank < len(ratings) + 1:
        return None
    return _root(lambda r: expected_rank(r, ratings) - rank)


def problem_rating(solved: Sequence[float], difficulty: Sequence[float]) -> float | None:
    """Return the most likely rating of who solves problems of known ratings.

    Args:
        solved: share of samples that solve each.
        difficulty: each problem's rating.

    Returns:
        None where all or none are solved: any high, or low, rating fits as well.

    >>> round(problem_rating([0.5, 0.5], [1200, 1200]))
    1200
    """
    total = sum(solved)
    if not 0 < total < len(solved):
        return None
    return _root(lambda r: total - sum(_beaten_by(r, d) for d in difficulty))


def _root(falling: Any) -> float:
    low, high = _RANGE
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def percentile(rating: float, ratings: Sequence[float]) -> float:
    """Return the share of people whose rating is lower, equal ones by half.

    >>> percentile(1500, [1400, 1500, 1600, 1700])
    0.375
    """
    if not ratings:
        return math.nan
    below = sum(r < rating for r in ratings) + sum(r == rating for r in ratings) / 2
    return below / len(ratings)


@dataclass(frozen=True)
class Ratings:
    """Ratings of contests and of problems, None where undefined.

    Attributes:
        n_contests: contests; ``n_ends``: those of a first or last rank, which have no finite one.
        of_contests: mean of the others; ``percentile``: share of those there that it is above.
        n_problems: problems; ``of_problems``: the most likely rating by them.
    """

    n_contests: int
    n_ends: int
    of_contests: float | None
    percentile: float | None
    n_problems: int
    of_problems: float | None

    def lines(self) -> Iterator[str]:
        """Yield them as text."""
        if self.n_contests:
            shown = "undefined"
            if self.of_contests is not None and self.percentile is not None:
                above = f"above {100 * self.percentile:.1f} % of those there"
                shown = f"{self.of_contests:.0f}, {above}"
            ends = f"; {self.n_ends} first or last: no finite one" if self.n_ends else ""
            yield f"{self.n_contests} contests: rating {shown}{ends}"
        if self.n_problems:
            one = self.of_problems
            shown = "undefined (all or none solved)" if one is None else f"{one:.0f}"
            yield f"{self.n_problems} problems: rating {shown}"


def ratings(rows: Iterable[Mapping[str, Any]]) -> Ratings:
    """Return ratings of contests (``rank``, ``ratings``) and problems (``rating``, ``solved``).

    Raises:
        UsageError: rows of neither form.
    """
    contests, problems = [], []
    for number, row in enumerate(rows, start=1):
        if isinstance(row.get("ratings"), list) and row.get("rank") is not None:
            others = [float(r) for r in row["ratings"]]
            contests.append((float(row["rank"]), others))
        elif row.get("rating") is not None and row.get("solved") is not None:
            problems.append((float(row["solved"]), float(row["rating"])))
        else:
            raise UsageError(
                f"row {number} is neither a contest nor a problem",
                "it needs rank and ratings (of the others), or rating and solved (0 to 1)",
            )
    found = [contest_rating(rank, others) for rank, others in contests]
    known = [r for r in found if r is not None]
    mean = sum(known) / len(known) if known else None
    everybody = [r for _, others in contests for r in others]
    return Ratings(
        n_contests=len(contests),
        n_ends=len(contests) - len(known),
        of_contests=mean,
        percentile=None if mean is None else percentile(mean, everybody),
        n_problems=len(problems),
        of_problems=problem_rating([s for s, _ in problems], [d for _, d in problems]),
    )
