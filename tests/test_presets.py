"""Presets equal the papers; formulas equal hand-computed values; TRL computes what they say."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from distill.presets import PRESETS, batching, cap_at, preset
from factory.errors import ConfigError
from tests.grpo_objective import advantages, kl, loss, surrogate


def test_r1_zero_is_what_the_paper_prints() -> None:
    p = preset("r1_zero")
    assert p.trl["learning_rate"] == 3e-6
    assert p.trl["beta"] == 0.001
    assert p.trl["temperature"] == 1.0
    assert p.trl["num_generations"] == 16
    assert p.trl["max_steps"] == 10_400
    assert p.trl["num_iterations"] == 1
    assert (p.trl["sync_ref_model"], p.trl["ref_model_sync_steps"]) == (True, 400)
    assert p.trl["ref_model_mixup_alpha"] == 1.0
    assert (p.outputs_per_update.value, p.outputs_per_rollout.value) == (512, 8192)
    assert {s: c.value for s, c in p.length_caps.items()} == {0: 32_768, 8200: 65_536}
    assert {n: w.value for n, w in p.rewards.items()} == {"accuracy": 1.0, "format": 1.0}
    assert (p.template, p.dialect) == ("r1_zero", "think_answer")


def test_the_later_stages_are_what_the_paper_prints() -> None:
    reasoning, everything = preset("r1_reasoning"), preset("r1_all_scenarios")
    assert reasoning.trl["epsilon"] == 10.0
    assert reasoning.rewards["language"].value == 1.0
    assert {s: c.value for s, c in reasoning.length_caps.items()} == {0: 32_768}
    assert (everything.trl["temperature"], everything.trl["max_steps"]) == (0.7, 1700)


def test_the_alternatives_are_what_their_papers_print() -> None:
    dapo, dr = preset("dapo").trl, preset("dr_grpo").trl
    assert (dapo["epsilon"], dapo["epsilon_high"], dapo["beta"]) == (0.2, 0.28, 0.0)
    assert (dapo["loss_type"], dapo["learning_rate"], dapo["num_generations"]) == ("dapo", 1e-6, 16)
    assert (dr["loss_type"], dr["scale_rewards"], dr["num_generations"]) == ("dr_grpo", "none", 8)
    assert dr["max_completion_length"] == 3000
    gspo, cispo = preset("gspo").trl, preset("cispo").trl
    assert gspo["importance_sampling_level"] == "sequence"
    assert (gspo["epsilon"], gspo["epsilon_high"], gspo["beta"]) == (3e-4, 4e-4, 0.0)
    assert preset("gspo").outputs_per_rollout.value == 4 * preset("gspo").outputs_per_update.value
    assert (cispo["loss_type"], cispo["epsilon_high"], cispo["beta"]) == ("cispo", 5.0, 0.0)
    dapo_rewards = {n: w.value for n, w in preset("dapo").rewards.items()}
    assert dapo_rewards == {"accuracy": 1.0, "overlong": 1.0}


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_value_names_its_source(name: str) -> None:
    p = preset(name)
    values = [*p.keys.values(), *p.length_caps.values(), *p.rewards.values()]
    values += [p.outputs_per_update, p.outputs_per_rollout]
    assert all(v.source for v in values)


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize(("per_device", "n_devices"), [(4, 8), (8, 16), (1, 1)])
def test_trl_takes_every_preset_and_splits_rollouts_as_the_paper(
    name: str, per_device: int, n_devices: int
) -> None:
    p = preset(name)
    keys = batching(
        outputs_per_update=p.outputs_per_update.value,
        outputs_per_rollout=p.outputs_per_rollout.value,
        per_device=per_device,
        n_devices=n_devices,
    )
    micro = per_device * n_devices
    assert keys["gradient_accumulation_steps"] * micro == p.outputs_per_update.value
    assert keys["steps_per_generation"] * micro == p.outputs_per_rollout.value
    if name.startswith("r1"):
        assert keys["steps_per_generation"] == 16 * keys["gradient_accumulation_steps"]


def test_numbers_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose numbers that divide"):
        batching(outputs_per_update=512, outputs_per_rollout=8192, per_device=3, n_devices=1)


def test_every_output_of_a_rollout_is_used_exactly_once() -> None:
    outputs = list(range(8192))
    random.Random(0).shuffle(outputs)
    minibatches = [outputs[i : i + 512] for i in range(0, 8192, 512)]
    assert len(minibatches) == 16
    assert sorted(o for m in minibatches for o in m) == list(range(8192))


def test_caps_flip_at_their_step() -> None:
    caps = {s: c.value for s, c in preset("r1_zero").length_caps.items()}
    assert [cap_at(caps, s) for s in (0, 8199, 8200, 10_399)] == [32_768, 32_768, 65_536, 65_536]


# ---- formulas


@pytest.mark.parametrize(
    ("ratio", "advantage", "eps", "expected"),
    [(12, 1, 10, 11), (12, -1, 10, -12), (0.5, -1, 0.2, -0.8), (1.5, 1, 0.2, 1.2), (-8, 1, 10, -8)],
)
def test_clipping(ratio: float, advantage: float, eps: float, expected: float) -> None:
    assert surrogate(ratio, advantage, low=eps, high=eps) == pytest.approx(expected)


def test_kl_estimates_the_exact_divergence() -> None:
    generator = random.Random(0)
    policy, reference = [0.5, 0.3, 0.2], [0.2, 0.5, 0.3]
    exact = sum(p * math.log(p / q) for p, q in zip(policy, reference, strict=True))
    drawn = generator.choices(range(3), policy, k=100_000)
    values = [kl(math.log(policy[i]), math.log(reference[i])) for i in drawn]
    assert min(values) >= 0
    assert sum(values) / len(values) == pytest.approx(exact, abs=0.005)


def test_advantages_ignore_shift_and_scale_and_masked_completions() -> None:
    base = advantages([1.0, 0.0, 0.5, 0.0], eps=0.0)
    assert advantages([3.0, 1.0, 2.0, 1.0], eps=0.0) == pytest.approx(base)
    masked = advantages([1.0, None, 0.0, 0.0])
    assert masked[1] == 0.0
    assert [masked[0], *masked[2:]] == advantages([1.0, 0.0, 0.0])
    assert advantages([1.0, 0.0], scale="none") == [0.5, -0.5]


def test_aggregations_by_hand() -> None:
    # Ratio 1 everywhere: the loss is minus the mean advantage, weighted as each paper weights.
    logprobs = [[-1.0], [-1.0, -1.0, -1.0]]
    for aggregation, expected in (("grpo", 0.0), ("dapo", 0.5), ("dr_grpo", 2 / 8)):
        found = loss(
            logprobs, logprobs, logprobs, [1.0, -1.0], low=0.2, high=0.2, beta=0.0,
            aggregation=aggregation, max_length=4,  # type: ignore[arg-type]
        )  # fmt: skip
        assert found == pytest.approx(expected)


def test_ratios_of_gspo_and_cispo_by_hand() -> None:
    # Log ratios .2 and -.4 of one output: a sequence's is their mean, -.1.
    new, old, advantage = [[-1.0, -2.0]], [[-1.2, -1.6]], [2.0]
    common: dict[str, Any] = {"low": 0.5, "beta": 0.0}
    found = loss(new, old, old, advantage, high=0.5, aggregation="grpo", level="sequence", **common)
    assert found == pytest.approx(-2 * math.exp(-0.1))
    # CISPO: ratio cut at 1.1, then times advantage and log probability; no token is lost.
    found = loss(new, old, old, advantage, high=1.1, aggregation="cispo", **common)
    assert found == pytest.approx((1.1 * 2 * 1 + math.exp(-0.4) * 2 * 2) / 2)


# ---- what TRL computes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of TRL's own imports
@pytest.mark.parametrize("name", ["r1_zero", "r1_reasoning", "dapo", "dr_grpo", "gspo", "cispo"])
def test_trl_computes_the_presets_loss(name: str, tmp_path: Any) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from tests.tiny_model import make_tiny_model

    path = make_tiny_model(tmp_path / "m")
    p = preset(name)
    values = {**p.trl, "max_steps": 1, "num_generations": 2, "max_completion_length": 8}
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(path),
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        args=GRPOConfig(
            output_dir=str(tmp_path / "o"), use_cpu=True, bf16=False, gradient_checkpointing=False,
            report_to="none", per_device_train_batch_size=2, **values,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["a", "b"]}),
        processing_class=AutoTokenizer.from_pretrained(path),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 60, (2, 4 + 6), generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    lengths = [6, 3]
    model = trainer.model.train()
    with torch.no_grad():
        new = trainer._get_per_token_logps_and_entropies(
            model, ids, torch.cat([torch.ones(2, 4, dtype=torch.long), mask], 1), 6
        )[0]
    old = new + 0.5 * torch.randn(2, 6, generator=generator)
    reference = new + 0.5 * torch.randn(2, 6, generator=generator)
    advantage = [1.3, -0.7]
    inputs = {
        "prompt_ids": ids[:, :4], "prompt_mask": torch.ones(2, 4, dtype=torch.long),
        "completion_ids": ids[:, 4:], "completion_mask": mask,
        "advantages": torch.tensor(advantage), "old_per_token_logps": old,
        "ref_per_token_logps": reference, "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    found = float(trainer._compute_loss(model, inputs))

    def rows(t: Any) -> list[list[float]]:
        return [t[i, : lengths[i]].tolist() for i in range(2)]

    low = float(values["epsilon"])
    expected = loss(
        rows(new), rows(old), rows(reference), advantage, low=low,
        high=float(values.get("epsilon_high", low)), beta=float(values["beta"]),
        aggregation=values["loss_type"], level=values["importance_sampling_level"], max_length=8,
    )  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-5)
