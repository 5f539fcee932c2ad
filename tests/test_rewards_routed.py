"""RL for all scenarios: each kind of row gets exactly its parts of equations 8 to 10."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from distill.grpo import GrpoConfig
from distill.grpo.reward import HackingMonitor, Payer, Rewarded, signs_of_length
from distill.grpo.trainer import prompt_order
from distill.rewards import all_scenarios, route_of
from factory.errors import ConfigError
from factory.records import Prompt, PromptSource
from factory.scores.reward_model import RewardModel
from tests.tiny_model import make_tiny_reward_model

THOUGHT = "<think>\nWe add one and one, so the sum is two.\n</think>\n\n"
MIXED = "<think>\n我们把一和一相加，所以总和是二。\n</think>\n\n"
BARE = "The answer is two."


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models that always say 0: helpful 0, safe with probability a half."""
    root = tmp_path_factory.mktemp("models")
    reads = {"helpful": "answer", "safety": "whole"}
    return {
        k: make_tiny_reward_model(root / k, kind=k, reads=r, is_zero=True) for k, r in reads.items()
    }


# Kind of row, completion → what it is paid, computed by hand:
# with a gold: accuracy + format + language; general: 0 + format + language; safety: .5 + both.
TABLE = [
    ("2", "math", THOUGHT + "\\boxed{2}", 1 + 1 + 1),
    ("2", "math", THOUGHT + "\\boxed{3}", 0 + 1 + 1),
    ("2", "safety", THOUGHT + "\\boxed{2}", 1 + 1 + 1),
    ("2", "math", MIXED + "\\boxed{2}", 1 + 1 + 0),
    ("2", "math", "\\boxed{2}", 1 + 0 + 0),
    (None, "writing", THOUGHT + "Two.", 0 + 1 + 1),
    (None, "writing", MIXED + "Two.", 0 + 1 + 0),
    (None, None, BARE, 0 + 0 + 1),
    (None, "safety", THOUGHT + "Two.", 0.5 + 1 + 1),
    (None, "harmlessness", THOUGHT + "Two.", 0.5 + 1 + 1),
    (None, "safety", BARE, 0.5 + 0 + 1),
]


def test_each_kind_of_row_gets_its_parts_and_no_other(folders: dict[str, str]) -> None:
    reward = pickle.loads(pickle.dumps(all_scenarios(**folders)))
    parts: dict[str, list[Any]] = {}
    rewards = reward(
        prompts=["What is 1+1?"] * len(TABLE), completions=[t for _, _, t, _ in TABLE],
        gold=[g for g, _, _, _ in TABLE], domain=[d for _, d, _, _ in TABLE],
        target_language=["en"] * len(TABLE), log_extra=parts.__setitem__,
    )  # fmt: skip
    assert rewards == pytest.approx([total for *_, total in TABLE])
    routes = [route_of(g, d) for g, d, _, _ in TABLE]
    for name, route in (("accuracy", "reasoning"), ("helpful", "helpful"), ("safety", "safety")):
        known = [i for i, v in enumerate(parts[name]) if v is not None]
        assert known == [i for i, r in enumerate(routes) if r == route]


def test_a_row_whose_model_is_not_given_is_left_out_and_others_are_not(
    folders: dict[str, str],
) -> None:
    reward = all_scenarios(helpful=folders["helpful"])
    rewards = reward(
        prompts=["?"] * 3, completions=[THOUGHT + "\\boxed{2}"] * 3, gold=["2", None, None],
        domain=["math", "safety", "qa"], target_language=["en"] * 3,
    )  # fmt: skip
    assert rewards == [3.0, None, 2.0]


def test_the_payer_of_a_run_adds_the_same(tmp_path: Path) -> None:
    made = {
        k: make_tiny_reward_model(tmp_path / k, kind=k, reads=r, seed=3)
        for k, r in (("helpful", "answer"), ("safety", "whole"))
    }
    weights = {"accuracy": 1.0, "format": 0.5, "language": 0.0, "helpful": 2.0, "safety": 4.0}
    payer = Payer(weights, n_workers=1, models=made)
    assert payer.is_routed
    rows = [("2", "math"), (None, "writing"), (None, "safety")]
    pairs, text = [], THOUGHT + "\\boxed{2}"
    for gold, domain in rows:
        prompt = Prompt.of(f"What is 1+1, {domain}?")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source="t", item="0", gold=gold, domain=domain,
            verifier="math" if gold else None, language="en",
        )  # fmt: skip
        pairs.append((prompt, source))
    found = payer.rewards(pairs, [text] * 3)
    (helpful,) = RewardModel.load(made["helpful"]).rewards([pairs[1][0].messages], ["\\boxed{2}"])
    (safe,) = RewardModel.load(made["safety"]).rewards([pairs[2][0].messages], [text])
    assert helpful is not None and safe is not None and abs(helpful) > 1e-4  # noqa: PT018
    assert found[0].total == pytest.approx(1.0 + 0.5)
    assert found[1].total == pytest.approx(2 * helpful + 0.5, abs=1e-4)
    assert found[2].total == pytest.approx(4 * safe + 0.5, abs=1e-4)
    assert [r.status for r in found] == ["pass", "unscored", "unscored"]


def test_the_preset_is_the_papers() -> None:
    config = GrpoConfig.make(
        {"base": "b", "out": "o", "preset": "r1_all_scenarios", "per_device": 1}
    )
    assert config.weights == {
        "accuracy": 1.0, "format": 1.0, "language": 1.0, "helpful": 1.0, "safety": 1.0,
    }  # fmt: skip
    assert config.is_routed
    assert config.last_steps == 400
    zero = config.model_copy(update={"preset": "r1_zero"})
    assert (zero.is_routed, zero.last_steps) == (False, None)


def test_general_prompts_come_in_the_last_rollouts_alone() -> None:
    # 1,700 updates, 16 a rollout, 400 of them at the end: from update 1,312 on.
    order = prompt_order(range(50), range(80), a_rollout=8, n_before=82, n_rollouts=107, seed=0)
    rollouts = [order[i : i + 8] for i in range(0, len(order), 8)]
    assert len(rollouts) == 107
    assert all(n < 50 for r in rollouts[:82] for n in r)
    late = [n for r in rollouts[82:] for n in r]
    assert {n >= 50 for n in late} == {True, False}
    assert all(len(set(r)) == 8 for r in rollouts), "no prompt twice in a rollout"
    counts = [sum(n == i for r in rollouts[:82] for n in r) for i in range(50)]
    assert max(counts) - min(counts) <= 1, "all have their turn"
    with pytest.raises(ConfigError, match="3 prompts for rollouts of 8"):
        prompt_order(range(3), range(80), a_rollout=8, n_before=1, n_rollouts=2, seed=0)


RISES = [i / 20 for i in range(20)]
FLAT = [0.5] * 20
LONGER = [100 * 1.1**i for i in range(20)]


@pytest.mark.parametrize(
    ("reward", "accuracy", "length", "tie", "alarm"),
    [
        (RISES, FLAT, LONGER, [0.9] * 20, "length"),
        (RISES, [None] * 20, LONGER, [0.9] * 20, "length"),
        # Longer answers that are not those with the higher reward, or rewards that do not rise.
        (RISES, FLAT, LONGER, [0.1] * 20, None),
        (FLAT, FLAT, LONGER, [0.9] * 20, None),
        (RISES, FLAT, [100.0] * 20, [0.9] * 20, None),
        (RISES, [0.9 - i / 40 for i in range(20)], [100.0] * 20, [0.0] * 20, "accuracy"),
        (RISES, RISES, [None] * 20, [None] * 20, None),
    ],
)
def test_the_monitor_knows_two_signs(
    reward: list[Any], accuracy: list[Any], length: list[Any], tie: list[Any], alarm: str | None
) -> None:
    monitor = HackingMonitor(window=5, patience=3)
    columns = zip(reward, accuracy, length, tie, strict=True)
    said = [monitor.add(r, a, length=n, correlation=c) for r, a, n, c in columns]
    assert (said[-1] is None) if alarm is None else (alarm in str(said[-1]))
    assert said[:9] == [None] * 9, "two windows are needed"


def test_the_monitor_sees_a_planted_run_that_reached_its_cap() -> None:
    # Reward, length and tie of a run with a model that loves length, as recorded; cap 40.
    reward = [-3.2, -2.2, -0.8, 0.6, 1.5, 1.8, 2.2, 3.1, 3.0, 2.8, 3.2, 2.4, 2.6]
    length = [3.2, 5.6, 8.8, 14.3, 19.3, 22.2, 25.0, 33.6, 35.0, 38.9, 38.2, 40.0, 40.2]
    tie = [0.91, 0.95, 0.94, 0.86, 0.71, 0.71, 0.63, -0.08, 0.63, 0.03, 0.31, 0.17, -0.09]
    monitor = HackingMonitor(window=5, patience=3)
    rows = zip(reward, length, tie, strict=True)
    said = [monitor.add(r, None, length=n, correlation=c) for r, n, c in rows]
    assert said[:11] == [None] * 11
    assert "length" in str(said[11])


def test_the_monitor_takes_evaluations() -> None:
    monitor = HackingMonitor(window=2, patience=1)
    monitor.add(0.1, None)
    assert monitor.evaluated(0.6, 0.7) is None
    assert monitor.evaluated(0.4, 0.5) is None, "the reward did not rise"
    monitor.add(0.9, None)
    monitor.add(0.9, None)
    assert monitor.evaluated(0.55, 0.65) is None, "the intervals overlap"
    assert "development set" in str(monitor.evaluated(0.4, 0.5))


def test_the_tie_to_length_is_taken_within_groups() -> None:
    # Groups differ in reward and in length; within each, the longer answer has less.
    rewarded, answers = [], []
    for group in range(6):
        for i in range(4):
            rewarded.append(Rewarded(0.0, {"helpful": group * 10 - i}))
            answers.append("x" * (group * 100 + i + 1))
    found = signs_of_length(rewarded, answers, group_size=4)
    assert found["helpful_length_correlation"] == pytest.approx(-1.0)
    none = [Rewarded(1.0, {"helpful": None})] * 4
    assert signs_of_length(none, ["x"] * 4, group_size=4) == {
        "helpful_chars": None, "helpful_length_correlation": None,
    }  # fmt: skip
