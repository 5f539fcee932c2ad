"""Coverage of 95 % intervals of pass@1 by simulation: ours beside Student's and a bootstrap.

Problems are drawn from Beta distributions (so many problems, k samples each); an interval holds
where it contains the distribution's mean. Usage: ``python tests/bench/bench_intervals.py``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from factory.metrics import mean_interval, student

KINDS = {
    "spread": (0.5, 0.5), "middle": (2.0, 2.0), "hard 15 %": (0.3, 1.7), "easy 89 %": (2.0, 0.25),
    "hard 5 %": (0.2, 3.8), "easy 97 %": (3.0, 0.1),
}  # fmt: skip
ROUNDS = 20_000
Rates = npt.NDArray[np.float64]


def _bootstrap(rates: Rates, generator: np.random.Generator) -> tuple[float, float]:
    means = rates[generator.integers(len(rates), size=(300, len(rates)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Print the table."""
    generator = np.random.default_rng(0)
    print(f"{'problems':>8} {'k':>3} {'rates':10} {'ours':>6} {'Student':>8} {'bootstrap':>10}")
    for n in (30, 200, 500):
        for k in (4, 64):
            for kind, (a, b) in KINDS.items():
                truth, held = a / (a + b), [0, 0, 0]
                for round_ in range(ROUNDS):
                    rates = generator.binomial(k, generator.beta(a, b, n)) / k
                    found = mean_interval(rates.tolist())
                    assert found.mean is not None
                    assert found.low is not None
                    assert found.high is not None
                    half = student(0.95, n - 1) * float(rates.std(ddof=1)) / n**0.5
                    held[0] += found.low <= truth <= found.high
                    held[1] += abs(found.mean - truth) <= half
                    if round_ < ROUNDS // 40:
                        low, high = _bootstrap(rates, generator)
                        held[2] += low <= truth <= high
                ours, by_t, by_b = held[0] / ROUNDS, held[1] / ROUNDS, held[2] / (ROUNDS // 40)
                print(f"{n:8} {k:3} {kind:10} {ours:6.3f} {by_t:8.3f} {by_b:10.3f}")


if __name__ == "__main__":
    main()
