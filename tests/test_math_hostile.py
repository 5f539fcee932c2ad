"""Math: hostile answers are settled in time and memory, and earn nothing."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from factory.records import Item
from factory.stages.checker import Checker
from factory.verifiers import math
from tests.hostile_math import ALL


def items(canary: Path, mode: str) -> list[Item]:
    form = "so \\boxed{%s}" if mode == "boxed" else "the answer is %s"
    return [
        Item(text=form.replace("%s", a.replace("{canary}", str(canary))), gold="5") for a in ALL
    ]


@pytest.mark.parametrize("mode", ["boxed", "auto"])
def test_the_cheap_steps_are_bounded_in_time_and_memory(tmp_path: Path, mode: str) -> None:
    math.quick(Item(text=r"\boxed{\sqrt{8}}", gold=r"2\sqrt{2}"))  # loads mpmath
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    left = 0
    for item in items(tmp_path / "canary", mode):
        begun = time.process_time()
        verdict = math.quick(item, mode=mode)
        assert time.process_time() - begun < 0.3, item.text[:60]
        left += verdict is None
        assert verdict is None or verdict.status == "fail", item.text[:60]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert left < len(ALL) / 4
    assert not (tmp_path / "canary").exists()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["boxed", "auto"])
def test_the_whole_cascade_gives_none_of_them_a_reward(tmp_path: Path, mode: str) -> None:
    """At least 100 answers; each costs less than a second of CPU once the worker is warm."""
    assert len(ALL) >= 150
    checker = Checker("math", {"mode": mode}, n_workers=1)
    checker.check([Item(text=r"\boxed{\sum_{k} k}", gold=r"\sum_{j} j")])  # warms the worker
    slowest = 0.0
    for item in items(tmp_path / "canary", mode):
        begun = time.monotonic()
        (verdict,) = checker.check([item])
        slowest = max(slowest, time.monotonic() - begun)
        assert verdict.status == "fail", item.text[:60]
        assert verdict.reward == 0.0
    assert slowest < 3  # wall seconds beside other work; CPU is limited to 0.8
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("answer", [a for a in ALL if "boxed" not in a])
def test_a_hostile_gold_is_never_a_reward_for_another_answer(answer: str) -> None:
    verdict = math.quick(Item(text=r"\boxed{41}", gold=answer))
    assert verdict is None or verdict.status != "pass"
