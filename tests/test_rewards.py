"""Rewards: parts add up, what is unscored is masked, and TRL leaves such a row out of its group."""
# ruff: noqa: E501 - one case, one line

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from distill.rewards import Part, RuleReward, r1_zero, reasoning_rl
from factory.dialects import DIALECTS
from factory.errors import UsageError

GOOD = "<think>\nOne and one is two.\n</think>\n\\boxed{2}"
WRONG = "<think>\nOne and one is three.\n</think>\n\\boxed{3}"
BARE = "\\boxed{2}"


def call(reward: RuleReward, completions: list[Any], **columns: Any) -> list[float | None]:
    n = len(completions)
    columns.setdefault("gold", ["2"] * n)
    return reward(prompts=["What is 1+1?"] * n, completions=completions, **columns)


def test_accuracy_and_format_weigh_the_same() -> None:
    assert call(r1_zero(), [GOOD, WRONG, BARE, "2"]) == [2.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("gold", [None, "", "see figure", r"\frac{1}{", {"no": "text"}])
def test_a_row_without_a_usable_gold_is_none_whatever_its_form(gold: object) -> None:
    assert call(r1_zero(), [GOOD, BARE], gold=[gold, gold]) == [None, None]


def test_a_hanging_answer_earns_nothing_and_the_rest_goes_on() -> None:
    bomb = "<think>x</think>\\boxed{9^{9^{9^9}}}"
    assert call(r1_zero(), [bomb, GOOD]) == [1.0, 2.0]


def test_an_unknown_verifier_or_option_masks_its_rows_only() -> None:
    rewards = call(r1_zero(), [GOOD] * 3, verifier=["math", "no_such", None])
    assert rewards == [2.0, None, 2.0]
    rewards = call(r1_zero(), [GOOD] * 3, options=['{"mode": "auto"}', '{"x": 1}', "{torn"])
    assert rewards == [2.0, None, None]


def test_language_joins_the_sum_and_an_empty_thinking_does_not_escape_it() -> None:
    english = "<think>\nWe add one and one, so the sum is two.\n</think>\n\\boxed{2}"
    chinese = "<think>\n我们把一和一相加，所以总和是二。\n</think>\n\\boxed{2}"
    empty = "<think></think>\n\\boxed{2}"
    rewards = call(reasoning_rl(), [english, chinese, empty], target_language=["en"] * 3)
    assert rewards[0] == pytest.approx(3.0)
    assert rewards[1] is not None
    assert rewards[1] < 2.2
    assert rewards[2] == pytest.approx(1.0)


def forms_of(dialect: str) -> dict[str, tuple[str, float]]:
    """Return completions of a dialect to the gold 2, with what is paid: accuracy + format."""
    marks = DIALECTS[dialect]
    begin, end = marks.think
    first, last = marks.answer or ("", "")
    middle = f"{end}{marks.between}{first}"
    return {
        "right": (f"{begin}\nIt is two.\n{middle}\\boxed{{2}}{last}", 2.0),
        "right, an end token": (f"{begin}\nIt is two.\n{middle}\\boxed{{2}}{last}<|im_end|>", 2.0),
        "wrong": (f"{begin}\nIt is two.\n{middle}\\boxed{{3}}{last}", 1.0),
        "only in the thinking": (f"{begin}\n\\boxed{{2}}\n{middle}done{last}", 1.0),
        "empty thinking": (f"{begin}{middle}\\boxed{{2}}{last}", 1.0),
        "no answer": (f"{begin}It is two{middle}{last}", 0.0),
        "cut off": (f"{begin}\nso \\boxed{{2}}", 0.0),
        "cut off behind words": (f"Okay. {begin}\nso \\boxed{{2}}", 0.0),
        "cut off behind a cue": (f"{begin}\nThe answer is 2.", 0.0),
        "thinking again, cut off": (f"{begin}a{middle}hm{last}{begin}\\boxed{{2}}", 0.0),
        "thinking again": (f"{begin}a{middle}\\boxed{{3}}{last}{begin}\\boxed{{2}}{end}", 0.0),
    }


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_every_dialect_is_paid_and_thinking_never_is(dialect: str) -> None:
    forms = forms_of(dialect)
    texts = [text for text, _ in forms.values()]
    expected = {name: paid for name, (_, paid) in forms.items()}
    for mode in ("boxed", "auto"):
        paid = call(r1_zero(dialect=dialect, mode=mode), texts)
        assert dict(zip(forms, paid, strict=True)) == expected, mode
    begin = DIALECTS[dialect].think[0]
    rest = [text.removeprefix(begin) for text in texts if text.startswith(begin)]
    wanted = [paid for text, paid in forms.values() if text.startswith(begin)]
    assert call(r1_zero(dialect=dialect, prefill=begin), rest) == wanted


def test_thinking_of_another_dialect_is_not_paid_either() -> None:
    for mark in (d.think[0] for d in DIALECTS.values()):
        assert call(r1_zero(mode="auto"), [f"{mark}so \\boxed{{2}}", f"Hm. {mark}2"]) == [0.0, 0.0]
    told = "<reasoning>\\boxed{2}</reasoning><answer>3</answer>"
    assert call(r1_zero(mode="auto"), [told]) == [0.0]


@pytest.mark.parametrize(
    ("verifier", "gold", "options", "answer", "paid"),
    [
        ("choice", "B", {"options": ["Paris", "London"]}, "\\boxed{London}", 2.0),
        ("choice", "B", '{"options": ["Paris", "London"]}', "\\boxed{(B) Paris}", 1.0),
        ("choice", "B", {"options": ["a", "b"], "mode": None, "loose": None}, "\\boxed{B}", 2.0),
        ("choice", "B", {"options": ["a", "b"], "mode": "auto"}, "The answer is B.", 2.0),
        ("choice", "B", None, "The answer is B.", 1.0),
        ("choice", "B", {"options": None}, "\\boxed{B}", 2.0),
        (None, "B", None, "\\boxed{B}", 2.0),
        ("math", "2", {"mode": "auto"}, "The answer is 2.", 2.0),
        ("math", "2", {"mode": "anything"}, "\\boxed{2}", None),
        ("math", "2", {"options": ["a", "b"]}, "\\boxed{2}", None),
        ("choice", "C", {"options": ["a", "b"]}, "\\boxed{C}", None),
        (None, {"instruction_ids": ["punctuation:no_comma"], "kwargs": [{}]}, None, "a b", 2.0),
        (None, '{"instruction_ids": ["punctuation:no_comma"], "kwargs": [{}]}', None, "a, b", 1.0),
        ("constraints", {"instruction_ids": [], "kwargs": []}, None, "a b", None),
        ("logic", {"names": ["Ann", "Ben"], "statements": "(('lying', 0), ('lying', 1))"}, None, "\\boxed{x}", None),
        (None, '{"task": "countdown", "answer": "3*7+5", "metadata": {"numbers": [3, 5, 7], "target": 26}}', None, "\\boxed{5+3*7=26}", 2.0),
    ],
)  # fmt: skip
def test_a_row_has_its_own_verifier_and_options(
    verifier: str | None, gold: object, options: object, answer: str, paid: float | None
) -> None:
    text = f"<think>\nSo it is.\n</think>\n{answer}"
    rewards = call(
        r1_zero(),
        [GOOD, text],
        verifier=["math", verifier],
        gold=["2", gold],
        options=[None, options],
    )
    assert rewards == [2.0, paid]


def test_halves_that_trl_took_apart_are_joined_again() -> None:
    said = {"role": "assistant", "content": "\\boxed{2}", "reasoning_content": "One and one."}
    parts = {"role": "assistant", "content": [{"type": "text", "text": GOOD}]}
    cut = {"role": "assistant", "content": None, "reasoning_content": "so \\boxed{2}"}
    tool = {"role": "tool", "content": "\\boxed{2}"}
    completions = [[said], [parts], [cut], [tool]]
    assert call(r1_zero(), completions) == [2.0, 2.0, 0.0, 0.0]
    assert call(r1_zero(prefill="<think>\n"), [[said], [cut]]) == [2.0, 0.0]


def test_a_prefill_that_the_template_wrote_counts() -> None:
    rest = "One and one is two.\n</think>\n\\boxed{2}"
    assert call(r1_zero(), [rest]) == [1.0]
    assert call(r1_zero(prefill="<think>\n"), [rest]) == [2.0]
    assert call(r1_zero(), [rest, rest], prefill=["<think>\n", None]) == [2.0, 1.0]


def test_messages_are_read_as_text_is() -> None:
    reward = r1_zero()
    told = reward(
        prompts=[[{"role": "user", "content": "1+1?"}]],
        completions=[[{"role": "assistant", "content": GOOD}]],
        completion_ids=[[1, 2]],
        gold=["2"],
        trainer_state=None,
    )
    assert told == [2.0]


def test_parts_are_logged() -> None:
    extra: dict[str, list[Any]] = {}
    metrics: dict[str, float] = {}
    call(
        r1_zero(),
        [GOOD, WRONG, BARE, GOOD],
        gold=["2", "2", "2", None],
        log_extra=extra.__setitem__,
        log_metric=metrics.__setitem__,
    )
    assert extra == {"accuracy": [1.0, 0.0, 1.0, None], "format": [1.0, 1.0, 0.0, 1.0]}
    assert metrics["reward_parts/accuracy"] == pytest.approx(2 / 3)
    assert metrics["reward_parts/unscored_fraction"] == 0.25


def test_it_survives_pickling_with_its_name() -> None:
    reward = reasoning_rl(prefill="<think>\n")
    call(reward, [GOOD])
    again = pickle.loads(pickle.dumps(reward))
    assert again.__name__ == "reasoning_rl"
    assert again.prefill == "<think>\n"
    assert call(r1_zero(), [GOOD]) == call(pickle.loads(pickle.dumps(r1_zero())), [GOOD])


def test_a_part_is_one_verifier_or_one_score() -> None:
    with pytest.raises(UsageError):
        Part(name="x")
    with pytest.raises(UsageError):
        Part(name="x", score="language")
    with pytest.raises(UsageError):
        RuleReward([])


class _Recorded(RuleReward):
    """Gives rewards by row number; keeps what TRL passed."""

    def __init__(self, rewards: list[float | None]) -> None:
        super().__init__([Part(name="format", verifier="format")], name="recorded")
        self.rewards = rewards

    def __call__(self, prompts: Any, completions: Any, *args: Any, **kwargs: Any) -> Any:
        return self.rewards[: len(completions)]


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_trl_leaves_a_none_row_out_of_its_group(tmp_path: Path, scale: str) -> None:
    """Advantages of the other rows are those of the group without the None row; its own is 0."""
    rewards: list[float | None] = [1.0, 0.0, None, 1.0, 2.0, 0.0, 1.0, None]
    advantages, gradients = _one_step(tmp_path, rewards, scale)
    expected: list[float] = []
    scored_all = [r for r in rewards if r is not None]
    for group in (rewards[:4], rewards[4:]):
        scored = [r for r in group if r is not None]
        mean = sum(scored) / len(scored)
        spread = {"group": _std(scored), "batch": _std(scored_all), "none": 1.0}[scale]
        slack = 0.0 if scale == "none" else 1e-4
        expected += [0.0 if r is None else (r - mean) / (spread + slack) for r in group]
    assert advantages == pytest.approx(expected, abs=1e-5)
    assert all(math.isfinite(g) for g in gradients)


@pytest.mark.slow
def test_trl_does_nothing_with_a_group_of_none_rows(tmp_path: Path) -> None:
    rewards: list[float | None] = [None] * 4 + [0.0, 1.0, None, None]
    advantages, gradients = _one_step(tmp_path, rewards, "group")
    assert advantages[:4] == [0.0] * 4
    assert advantages[4] == pytest.approx(-advantages[5])
    assert advantages[6:] == [0.0, 0.0]
    assert all(math.isfinite(g) for g in gradients)


def _std(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _one_step(
    tmp_path: Path, rewards: list[float | None], scale: str
) -> tuple[list[float], list[float]]:
    """Run one GRPO step of two prompts with four completions each on a tiny random model."""
    pytest.importorskip("trl")
    import warnings

    from tests.tiny_model import make_tiny_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from trl import GRPOConfig, GRPOTrainer

        folder = make_tiny_model(tmp_path / "model")
        arguments = GRPOConfig(
            output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, report_to="none",
            gradient_checkpointing=False, per_device_train_batch_size=8, num_generations=4,
            max_completion_length=8, max_steps=1, logging_steps=1, scale_rewards=scale,
            learning_rate=1e-3, save_strategy="no", shuffle_dataset=False, disable_tqdm=True,
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder),
            reward_funcs=_Recorded(rewards),
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": ["a", "b"], "gold": ["1", "2"]}),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        trainer.train()
    gradients = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    return list(trainer._logs["advantages"])[:8], gradients
