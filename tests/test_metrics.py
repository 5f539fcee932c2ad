"""Metrics against values computed by hand and against simulation."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from math import comb

import numpy as np
import pytest

from factory.metrics import (
    cons_at_k,
    mean_interval,
    over_seeds,
    paired_difference,
    pass_at_k,
    pass_rate,
    smallest_difference,
    student,
)

PASS_AT_K = [  # n, c, k, value, why
    (1, 1, 1, 1.0, "one right sample"),
    (1, 0, 1, 0.0, "one wrong sample"),
    (4, 1, 2, 0.5, "1 - C(3,2)/C(4,2) = 1 - 3/6"),
    (10, 3, 5, 11 / 12, "1 - C(7,5)/C(10,5) = 1 - 21/252"),
    (5, 2, 4, 1.0, "three wrong ones cannot fill four draws"),
    (200, 0, 100, 0.0, "never right"),
    (200, 200, 1, 1.0, "always right"),
    (64, 1, 64, 1.0, "all drawn, one right"),
    (3, 1, 4, None, "fewer samples than k: undefined, not 0"),
    (0, 0, 1, None, "no sample at all"),
]


@pytest.mark.parametrize(("n", "c", "k", "value", "why"), PASS_AT_K)
def test_pass_at_k(n: int, c: int, k: int, value: float | None, why: str) -> None:
    found = pass_at_k(n=n, c=c, k=k)
    assert found == (value if value is None else pytest.approx(value, abs=1e-12)), why


def test_pass_at_k_is_the_exact_binomial_formula_for_every_small_case() -> None:
    for n, k in itertools.product(range(1, 17), range(1, 17)):
        for c in range(n + 1):
            exact = None if n < k else float(1 - Fraction(comb(n - c, k), comb(n, k)))
            found = pass_at_k(n=n, c=c, k=k)
            assert found == (None if exact is None else pytest.approx(exact, abs=1e-12)), (n, c, k)


def test_pass_at_k_is_unbiased_by_simulation() -> None:
    """With a true rate p the mean of the estimator is 1 - (1-p)^k, whatever n is."""
    generator = random.Random(7)
    p, k, n, rounds = 0.2, 4, 10, 20_000
    total = 0.0
    for _ in range(rounds):
        c = sum(generator.random() < p for _ in range(n))
        total += pass_at_k(n=n, c=c, k=k) or 0.0
    assert total / rounds == pytest.approx(1 - (1 - p) ** k, abs=0.01)


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"right out of|at least 1"):
        pass_at_k(n=n, c=c, k=k)


CONS = [  # answers, correct, k, value, why
    (["4", "4", "5"], [1, 1, 0], 3, 1.0, "majority right"),
    (["5", "5", "4"], [0, 0, 1], 3, 0.0, "majority wrong"),
    (["4", "5"], [1, 0], 2, 0.5, "tie: the point is shared"),
    (["4", "5", "6"], [1, 0, 0], 3, 1 / 3, "three-way tie"),
    (["5", "4"], [0, 1], 2, 0.5, "the order of samples does not matter"),
    ([None, None, "4"], [0, 0, 1], 3, 1.0, "no answer never votes"),
    ([None, None], [0, 0], 2, 0.0, "nobody votes: wrong, not undefined"),
    (["4", "5", "5"], [1, 0, 0], 1, 1.0, "only the first k count"),
    (["4"], [1], 2, None, "fewer samples than k: undefined"),
    (["4", "4", "4"], [1, 1, 0], 3, 1.0, "one verdict of the class differs: most marks win"),
    (["4", "4"], [1, 0], 2, 0.0, "half of the marks are not most of them"),
]


@pytest.mark.parametrize(("answers", "correct", "k", "value", "why"), CONS)
def test_cons_at_k(
    answers: list[str | None], correct: list[int], k: int, value: float | None, why: str
) -> None:
    found = cons_at_k(answers, [bool(c) for c in correct], k=k)
    assert found == (value if value is None else pytest.approx(value)), why


def test_cons_at_k_approaches_certainty_as_votes_grow_by_simulation() -> None:
    """Right with p = 0.4, two wrong answers with 0.3 each: P(majority right) by enumeration."""
    generator = random.Random(3)
    k, rounds = 5, 20_000
    share = {"a": 0.4, "b": 0.3, "c": 0.3}
    exact = 0.0
    for votes in itertools.product(share, repeat=k):
        chance = 1.0
        for vote in votes:
            chance *= share[vote]
        counts = {a: votes.count(a) for a in share}
        top = [a for a in share if counts[a] == max(counts.values())]
        exact += chance * ("a" in top) / len(top)
    total = 0.0
    for _ in range(rounds):
        drawn = generator.choices(list(share), list(share.values()), k=k)
        total += cons_at_k(drawn, [a == "a" for a in drawn], k=k) or 0.0
    assert total / rounds == pytest.approx(exact, abs=0.015)


def test_pass_rate_without_scored_samples_is_undefined() -> None:
    assert pass_rate(n=0, c=0) is None
    assert pass_rate(n=4, c=0) == 0.0


# Kinds of benchmarks: rates of problems spread, in the middle, hard, easy, nearly all wrong, nearly
# all right (Beta distributions).
KINDS = [(0.5, 0.5), (2.0, 2.0), (0.3, 1.7), (2.0, 0.25), (0.2, 3.8), (3.0, 0.1)]


@pytest.mark.parametrize("k", [4, 64])
@pytest.mark.parametrize("n_problems", [30, 200, 500])
def test_the_interval_holds_the_truth_as_often_as_it_says(n_problems: int, k: int) -> None:
    for a, b in KINDS if n_problems == 30 else KINDS[:4]:
        generator = np.random.default_rng([n_problems, k, int(10 * a)])
        held, rounds = 0, 1000 if n_problems > 30 else 2000
        for _ in range(rounds):
            rates = generator.binomial(k, generator.beta(a, b, n_problems)) / k
            found = mean_interval(rates.tolist())
            assert found.low is not None
            assert found.high is not None
            held += found.low <= a / (a + b) <= found.high
        assert 0.93 <= held / rounds <= 0.97, (a, b)


@pytest.mark.parametrize("n_problems", [30, 200])
def test_the_interval_of_a_difference_holds_it_as_often_as_it_says(n_problems: int) -> None:
    generator = np.random.default_rng(n_problems)
    held = shown = 0
    for _ in range(1000):
        easy = generator.beta(1.0, 1.0, n_problems)
        before = generator.binomial(4, easy * 0.9) / 4
        after = generator.binomial(4, easy * 0.9 + 0.1) / 4
        found = paired_difference(before.tolist(), after.tolist())
        least = smallest_difference(before.tolist(), after.tolist())
        assert found.low is not None
        assert found.high is not None
        assert least is not None
        held += found.low <= 0.1 <= found.high
        # Scaled to the smallest difference that it can show, it is shown four times in five.
        shown += found.low - 0.1 + least > 0
    assert 0.93 <= held / 1000 <= 0.97
    assert 0.76 <= shown / 1000 <= 0.84


def test_the_interval_over_seeds_holds_the_rate_of_these_problems() -> None:
    generator = np.random.default_rng(3)
    rates, held = generator.beta(0.5, 0.5, 30), 0
    for _ in range(1000):
        marks = (generator.random((30, 8)) < rates[:, None]).astype(float)
        found, apart = over_seeds(marks.tolist())
        assert found.low is not None
        assert found.high is not None
        assert apart is not None
        held += found.low <= rates.mean() <= found.high
    assert 0.93 <= held / 1000 <= 0.97
    assert over_seeds([[1.0, None], [None, None]])[0].mean == 1.0
    assert over_seeds([])[0].mean is None


def test_students_quantile_is_the_published_one() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 29: 2.045, 199: 1.972}
    for df, value in table.items():
        assert student(0.95, df) == pytest.approx(value, rel=0.005)


def test_the_interval_has_the_width_of_the_normal_one() -> None:
    values = [1.0] * 300 + [0.0] * 700
    found = mean_interval(values)
    half = 1.96 * (0.3 * 0.7 / 1000) ** 0.5
    assert found.low == pytest.approx(0.3 - half, abs=0.003)
    assert found.high == pytest.approx(0.3 + half, abs=0.003)


def test_undefined_prompts_are_left_out_and_counted() -> None:
    found = mean_interval([None, 1.0, None, 0.0])
    assert (found.mean, found.n, found.n_undefined) == (0.5, 2, 2)
    nothing = mean_interval([None])
    assert (nothing.mean, nothing.low, nothing.n) == (None, None, 0)
    assert mean_interval([1.0]).low is None, "one prompt shows no spread"


def test_pairing_cancels_how_hard_a_prompt_is() -> None:
    before = [i / 100 for i in range(100)]
    after = [b + 0.1 + (i % 2) * 0.02 for i, b in enumerate(before)]
    found = paired_difference(before, after)
    assert found.mean == pytest.approx(0.11)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low < 0.0055, "unpaired it would be 0.16 wide"
    assert paired_difference([1.0, None], [None, 1.0]).n_undefined == 2
    with pytest.raises(ValueError, match="pair them"):
        paired_difference([1.0], [1.0, 0.0])


def test_the_same_input_gives_the_same_interval() -> None:
    values = [float(i % 3 == 0) for i in range(50)]
    assert mean_interval(values) == mean_interval(values)
