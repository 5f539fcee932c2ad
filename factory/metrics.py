"""Metrics over counts of samples: pass rate, pass@k, cons@k, intervals. Undefined is None.

Everything is per prompt first, then a mean over prompts; the interval resamples prompts, because
samples of one prompt are not independent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Interval:
    """A mean over prompts with its bootstrap interval.

    Attributes:
        mean: of the prompts where the metric is defined; None where there is none.
        low: lower end; None with fewer than two prompts, where nothing can be resampled.
        high: upper end, likewise.
        n: prompts that count.
        n_undefined: prompts left out because their value is None.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    n_undefined: int


def pass_rate(*, n: int, c: int) -> float | None:
    """Return passes ÷ scored samples; None without any scored sample.

    Args:
        n: scored samples of a prompt (status ``pass`` or ``fail``).
        c: those that passed.

    >>> pass_rate(n=4, c=3), pass_rate(n=0, c=0)
    (0.75, None)
    """
    _check_counts(n, c)
    return c / n if n else None


def pass_at_k(*, n: int, c: int, k: int) -> float | None:
    """Return the unbiased pass@k of one prompt; None where n < k, never 0.

    1 − C(n−c, k) / C(n, k): the chance that k samples drawn without replacement from the n hold a
    right one (Chen et al. 2021, arXiv:2107.03374, eq. 1, in its product form).

    Args:
        n: scored samples.
        c: right ones among them.
        k: samples drawn, at least 1.

    Raises:
        ValueError: c outside 0…n, or k < 1.

    >>> pass_at_k(n=4, c=1, k=2)
    0.5
    >>> pass_at_k(n=4, c=1, k=8) is None
    True
    """
    _check_counts(n, c)
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    if n < k:
        return None
    if n - c < k:
        return 1.0
    wrong = 1.0
    for i in range(n - c + 1, n + 1):
        wrong *= 1.0 - k / i
    return 1.0 - wrong


def cons_at_k(
    answers: Sequence[Hashable | None], correct: Sequence[bool], *, k: int
) -> float | None:
    """Return whether the majority of the first k canonical answers is right; None where n < k.

    Ties: the answers with the most votes share the point, so that the order of samples does not
    matter (two tied, one of them right: 0.5). None (no answer) never votes; where nobody votes the
    result is 0. A class of equal answers is right where most of its votes are marked right.

    Args:
        answers: shape (n,), canonical form of each answer, in sample order.
        correct: shape (n,), whether each passed.
        k: samples taken, at least 1.

    >>> cons_at_k(["4", "5", "4"], [True, False, True], k=3)
    1.0
    >>> cons_at_k(["4", "5"], [True, False], k=2)
    0.5
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    if len(answers) != len(correct):
        raise ValueError(f"{len(answers)} answers but {len(correct)} marks")
    if len(answers) < k:
        return None
    pairs = [(a, c) for a, c in zip(answers[:k], correct[:k], strict=True) if a is not None]
    votes = Counter(answer for answer, _ in pairs)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [answer for answer, count in votes.items() if count == most]
    marks = Counter(answer for answer, right in pairs if right)
    return sum(2 * marks[winner] > most for winner in winners) / len(winners)


def mean_interval(
    values: Sequence[float | None], *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the mean over prompts and its bootstrap percentile interval.

    Args:
        values: shape (P,), one per prompt; None is undefined: left out and counted.
        level: mass of the interval.
        n_resamples: resamples of the prompts.
        seed: of the resampling; the same input gives the same interval.

    >>> mean_interval([1.0, 0.0, None, 1.0, 0.0]).mean
    0.5
    """
    defined = np.array([v for v in values if v is not None], dtype=np.float64)
    n_undefined = len(values) - len(defined)
    if len(defined) == 0:
        return Interval(None, None, None, 0, n_undefined)
    mean = float(defined.mean())
    if len(defined) == 1:
        return Interval(mean, None, None, 1, n_undefined)
    tail = (1 - level) / 2
    low, high = np.quantile(_resampled_means(defined, n_resamples, seed), [tail, 1 - tail])
    return Interval(mean, float(low), float(high), len(defined), n_undefined)


def paired_difference(
    before: Sequence[float | None],
    after: Sequence[float | None],
    *,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the mean of after − before over the same prompts, with its interval.

    Prompts are resampled in pairs: how hard a prompt is cancels out.

    Args:
        before: shape (P,), in the same order of prompts as ``after``.
        after: shape (P,). A prompt undefined on either side is left out and counted.
        level: mass of the interval.
        n_resamples: resamples of the prompts.
        seed: of the resampling.

    Raises:
        ValueError: the two have different lengths.

    >>> paired_difference([0.0, 0.5], [0.5, 1.0]).mean
    0.5
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} prompts before but {len(after)} after: pair them first")
    gains = [None if b is None or a is None else a - b for b, a in zip(before, after, strict=True)]
    return mean_interval(gains, level=level, n_resamples=n_resamples, seed=seed)


def _resampled_means(
    values: npt.NDArray[np.float64], n_resamples: int, seed: int
) -> npt.NDArray[np.float64]:
    """Means of resamples, shape (n_resamples,).

    Values of few kinds (rates over the same few samples) are drawn as counts of their kinds: the
    same distribution as drawing prompts one by one, at a cost that does not grow with P.
    """
    generator = np.random.default_rng(seed)
    kinds, counts = np.unique(values, return_counts=True)
    if len(kinds) <= 256:
        drawn = generator.multinomial(len(values), counts / len(values), size=n_resamples)
        means: npt.NDArray[np.float64] = drawn @ kinds / len(values)
        return means
    rows = max(1, 4_000_000 // len(values))  # 32 MB at a time
    parts = []
    for start in range(0, n_resamples, rows):
        size = (min(rows, n_resamples - start), len(values))
        parts.append(values[generator.integers(len(values), size=size)].mean(axis=1))
    return np.concatenate(parts)


def _check_counts(n: int, c: int) -> None:
    if not 0 <= c <= n:
        raise ValueError(f"{c} right out of {n} samples")
