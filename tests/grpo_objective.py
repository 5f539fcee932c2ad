r"""GRPO's objective in a few lines of arithmetic: what presets are held against.

Training itself is TRL's. These functions state what the papers print, item by item, so that a test
can compare TRL's loss with them (``tests/test_presets.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Scale = Literal["group", "none"]
Aggregation = Literal["grpo", "dapo", "dr_grpo", "cispo"]
Level = Literal["token", "sequence"]
TRL_STD_EPS = 1e-4


def advantages(
    rewards_G: Sequence[float | None],
    *,
    scale: Scale = "group",
    ddof: int = 1,
    eps: float = TRL_STD_EPS,
) -> list[float]:
    """Return the group-relative advantages of one group (DeepSeek-R1 v1, eq. 3).

    Args:
        rewards_G: rewards of one group, shape (G,); None is masked: it neither counts in the
            baseline nor moves the policy.
        scale: ``group`` divides by the group's standard deviation, ``none`` does not (Dr. GRPO).
        ddof: 1 as TRL computes it; 0 is the population's. The papers do not say which.
        eps: added to the deviation; a group without variance gets zeros.

    >>> [round(a, 4) for a in advantages([1, 0, 0, 0], ddof=0, eps=0.0)]
    [1.7321, -0.5774, -0.5774, -0.5774]
    >>> [round(a, 4) for a in advantages([1, 0, 0, 0], ddof=1, eps=0.0)]
    [1.5, -0.5, -0.5, -0.5]
    >>> advantages([1, 1, None])
    [0.0, 0.0, 0.0]
    """
    known = [r for r in rewards_G if r is not None]
    if not known:
        return [0.0] * len(rewards_G)
    mean = sum(known) / len(known)
    deviation = 1.0
    if scale == "group":
        if len(known) <= ddof:
            return [0.0] * len(rewards_G)
        variance = sum((r - mean) ** 2 for r in known) / (len(known) - ddof)
        if variance == 0.0:
            return [0.0] * len(rewards_G)
        deviation = math.sqrt(variance) + eps
    return [0.0 if r is None else (r - mean) / deviation for r in rewards_G]


def surrogate(ratio: float, advantage: float, *, low: float, high: float) -> float:
    """Return the clipped surrogate min(ρA, clip(ρ, 1−low, 1+high)·A) (v1, eq. 1).

    >>> surrogate(12, 1, low=10, high=10), surrogate(12, -1, low=10, high=10)
    (11, -12)
    >>> surrogate(0.5, -1, low=0.2, high=0.2), surrogate(1.5, 1, low=0.2, high=0.2)
    (-0.8, 1.2)
    """
    return min(ratio * advantage, max(1 - low, min(1 + high, ratio)) * advantage)


def kl(logprob: float, reference: float) -> float:
    """Return the k3 estimate of KL(π‖π_ref) at one token: r − log r − 1, r = π_ref/π (v1, eq. 2).

    >>> kl(0.0, 0.0), round(kl(0.0, math.log(2)), 5), round(kl(0.0, math.log(0.5)), 5)
    (0.0, 0.30685, 0.19315)
    """
    log_r = reference - logprob
    return math.exp(log_r) - log_r - 1


def weight(old: float, sampler: float, *, truncated_at: float) -> float:
    """Return a token's weight: trainer over sampler at sampling time, truncated (token-level TIS).

    Sampler and trainer compute a policy's probabilities with other kernels and precisions; the
    expectation under the sampler is made one under the trainer by this ratio, whose variance the
    truncation bounds (Ionides 2008; "Your Efficient RL Framework Secretly Brings You Off-Policy
    RL Training", 2025). It multiplies the surrogate and not the KL term.

    >>> round(weight(-1.0, -1.3, truncated_at=3.0), 3), weight(0.0, -2.0, truncated_at=3.0)
    (1.35, 3.0)
    """
    return min(math.exp(old - sampler), truncated_at)


def loss(
    logprobs: Sequence[Sequence[float]],
    old: Sequence[Sequence[float]],
    reference: Sequence[Sequence[float]],
    advantages_N: Sequence[float],
    *,
    low: float,
    high: float,
    beta: float,
    aggregation: Aggregation,
    max_length: int = 1,
    level: Level = "token",
    sampler: Sequence[Sequence[float]] | None = None,
    truncated_at: float = 3.0,
) -> float:
    """Return the loss (the negated objective) over N outputs of their own lengths.

    Args:
        logprobs: of each output's tokens under the policy, shape (N, T_i).
        old: under the policy that sampled them, same shape.
        reference: under the reference model, same shape.
        advantages_N: one per output.
        low: the ratio is clipped at 1 − low.
        high: the ratio is clipped at 1 + high.
        beta: weight of the KL term, a part of the loss and not of the reward.
        aggregation: ``grpo`` mean over tokens, then over outputs; ``dapo`` mean over all tokens;
            ``dr_grpo`` sum over tokens ÷ (N × ``max_length``); ``cispo`` (MiniMax-M1, eq. 4) as
            ``dapo``, of log probabilities weighted by the ratio cut at ``high``.
        max_length: constant of ``dr_grpo``.
        level: ``sequence`` takes for all tokens of an output the exponential of the mean of its
            log ratios (GSPO, eq. 7).
        sampler: what the sampler said of the same tokens; None: the same as ``old``.
        truncated_at: the weight of a token is at most this.
    """
    outputs = []
    for new, before, ref, advantage, drawn in zip(
        logprobs, old, reference, advantages_N, sampler or old, strict=True
    ):
        logs = [n - o for n, o in zip(new, before, strict=True)]
        if level == "sequence":
            logs = [sum(logs) / len(logs)] * len(logs)
        outputs.append(
            [
                -weight(o, d, truncated_at=truncated_at)
                * (
                    min(math.exp(log), high) * advantage * n
                    if aggregation == "cispo"
                    else surrogate(math.exp(log), advantage, low=low, high=high)
                )
                + beta * kl(n, r)
                for n, o, r, d, log in zip(new, before, ref, drawn, logs, strict=True)
            ]
        )
    if aggregation == "grpo":
        return sum(sum(o) / max(1, len(o)) for o in outputs) / len(outputs)
    total = sum(sum(o) for o in outputs)
    if aggregation in ("dapo", "cispo"):
        return total / sum(len(o) for o in outputs)
    return total / (len(outputs) * max_length)
