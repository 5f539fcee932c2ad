"""Plans of memory: what fits, what does not, and what to change; sizes that are known elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from distill.memory import LIBRARIES, Memory, Training, fits_engine, sampling, shape_of, training
from factory.errors import UsageError
from pipelines import r1
from pipelines.r1_memory import memory_lines, needs, refusals, samplers
from pipelines.r1_recipe import STAGES, Recipe

RECIPES = Path(__file__).parents[1] / "pipelines" / "recipes"


# Weights as their makers print them, in thousand millions.
@pytest.mark.parametrize(
    ("model", "n"),
    [
        ("Qwen/Qwen2.5-0.5B", 0.49), ("Qwen/Qwen2.5-Math-1.5B", 1.54), ("Qwen/Qwen2.5-7B", 7.61),
        ("Qwen/Qwen2.5-14B", 14.7), ("Qwen/Qwen2.5-32B@abc", 32.5), ("Qwen/Qwen2.5-72B", 72.7),
        ("meta-llama/Llama-3.1-8B", 8.03), ("meta-llama/Llama-3.3-70B-Instruct", 70.6),
    ],
)  # fmt: skip
def test_a_shape_has_the_weights_that_its_makers_print(model: str, n: float) -> None:
    shape = shape_of(model)
    assert shape is not None
    assert shape.n / 1e9 == pytest.approx(n, rel=0.015)


def test_a_folders_own_configuration_is_read_and_experts_are_not_guessed(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        '{"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "vocab_size": 100,'
        ' "num_attention_heads": 4, "tie_word_embeddings": true}'
    )
    shape = shape_of(str(tmp_path))
    assert shape is not None
    assert (shape.key_heads, shape.head, shape.n) == (
        4,
        16,
        2 * (64 * (4 * 64 + 3 * 128 + 2)) + 6400,
    )
    config.write_text('{"num_local_experts": 8, "num_hidden_layers": 2}')
    assert shape_of(str(tmp_path)) is None
    assert shape_of("own/thing") is None


def of_7b(**how: Any) -> Memory:
    shape = shape_of("Qwen/Qwen2.5-7B")
    assert shape is not None
    return training(shape, Training(tokens=8192, **how))


def test_sixteen_bytes_a_weight_are_divided_and_adapters_need_few() -> None:
    alone, divided = of_7b(), of_7b(processes=8, shards=8)
    state = alone.gradients + alone.optimiser
    assert state == pytest.approx(12 * 7.62e9 / 2**30, rel=0.01)
    assert divided.gradients + divided.optimiser == pytest.approx(state / 8)
    # DDP holds gradients twice: once in its buckets.
    assert of_7b(processes=8).gradients == pytest.approx(2 * alone.gradients)
    adapters = of_7b(dtype_bytes=2, rank=64)
    assert adapters.weights + adapters.gradients + adapters.optimiser < 20
    with_reference = of_7b(processes=8, shards=8, has_reference=True)
    assert with_reference.reference == pytest.approx(4 * 7.62e9 / 2**30 / 8, rel=0.01)
    assert of_7b(is_checkpointed=False).activations > 4 * alone.activations


def test_an_engine_must_hold_one_longest_sequence() -> None:
    llama = shape_of("meta-llama/Llama-3.1-8B")
    assert llama is not None
    # 131,072 tokens of 128 KiB are 16 GiB: more than .35 of 80 GiB leaves beside the weights.
    assert not fits_engine(llama, longest=131_072, share=0.35, device_gib=80)
    assert fits_engine(llama, longest=16_384, share=0.35, device_gib=80)
    found = sampling(llama, longest=131_072, share=0.9, device_gib=80)
    assert found.weights == pytest.approx(15.0, abs=0.1)
    assert found.cache > 16


# Public recipes that ran on GPUs of 80 GB: open-r1's OpenR1-Distill-7B (one node of eight, ZeRO-3,
# two rows of 32,768 tokens) and s1-32B (FSDP, a row of 32,768; two nodes, and one is too small).
@pytest.mark.parametrize(
    ("model", "tokens", "devices", "fits"),
    [
        ("qwen2.5-math-7b", 2 * 32_768, 8, True),
        ("qwen2.5-32b-instruct", 32_768, 16, True),
        ("qwen2.5-32b-instruct", 32_768, 8, False),
        ("qwen2.5-math-7b", 2 * 32_768, 1, False),
    ],
)
def test_public_recipes_fit_where_they_ran(
    model: str, tokens: int, devices: int, *, fits: bool
) -> None:
    shape = shape_of(model)
    assert shape is not None
    found = training(shape, Training(tokens=tokens, processes=devices, shards=devices))
    # 80 GB as the devices say it: 79.6 GiB.
    assert (found.total + LIBRARIES <= 79.6) == fits


@pytest.mark.parametrize("scale", ["one-gpu", "node", "cluster"])
def test_every_training_of_a_shipped_recipe_fits(scale: str) -> None:
    recipe = Recipe.load(RECIPES / f"{scale}.yaml")
    assert refusals(recipe, STAGES) == []
    named = {need.stage.split()[0] for need in needs(recipe, STAGES)}
    last = {"all_scenarios"} if recipe.all_scenarios is not None else set()
    last |= set(recipe.reward_models.sections) if recipe.reward_models is not None else set()
    assert named == last | {"zero", "control", "zero_language", "sft1", "reasoning", "sft2",
                            "distill", "direct_rl"}  # fmt: skip
    lines = list(memory_lines(recipe, STAGES))
    assert lines[0].startswith("GiB of one device (it has 80)")


@pytest.mark.parametrize(
    ("scale", "override", "says"),
    [
        ("node", "launch.file=ddp", "fsdp2-sharded"),
        ("node", "zero.per_device=64", "lower per_device"),
        ("node", "plan.gpu_gib=24", "zero needs"),
        ("one-gpu", "zero.trl.vllm_gpu_memory_utilization=0.1", "raise the engine's share"),
        ("node", "refiner=Qwen/Qwen2.5-32B-Instruct", "cold_start refiner: weights of 61 GiB"),
        ("cluster", "engine.options.tensor_parallel_size=1", "evaluate llama-70b: weights of 131"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_change(
    scale: str, override: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(RECIPES / f"{scale}.yaml")
    monkeypatch.setattr(sys, "argv", ["r1", path, "--plan", "--set", override])
    with pytest.raises(UsageError, match=says):
        r1.run(r1.arguments())


def test_a_sampling_stage_holds_weights_and_the_cache_of_its_longest_answers() -> None:
    recipe = Recipe.load(RECIPES / "node.yaml")
    found = {s.stage: s for s in samplers(recipe, STAGES)}
    base, refiner = found["cold_start"], found["cold_start refiner"]
    # 7.6e9 weights of 2 bytes; of 56 KiB a token 16,384 are .875 GiB.
    assert base.memory.weights == pytest.approx(14.2, abs=0.1)
    assert base.memory.weights + base.memory.cache + 2 == pytest.approx(0.85 * 80)
    assert base.at_once == int(base.memory.cache / 0.875) == 59
    assert base.disk > 0
    # A draft and as much again; weights of four bits with their scales.
    assert refiner.longest == 2 * 15_360 + 1024
    assert refiner.memory.weights == pytest.approx(0.6 * 32.5e9 / 2**30, rel=0.02)
    # The recipe's judge reads a row and replies.
    assert found["safety_review judge"].longest == 16_384 + 512
    assert found["safety_review judge"].memory.weights == refiner.memory.weights
    # The student's context was raised, and is not the longest answer's bound.
    assert found["evaluate qwen-1.5b"].longest == 16_384
    # Two devices hold half of each.
    wide = Recipe.load(RECIPES / "node.yaml", overrides=["engine.tensor_parallel_size=8"])
    divided = {s.stage: s for s in samplers(wide, STAGES)}["cold_start"]
    # 28 heads divide by 4 and not by 8.
    assert divided.memory.weights == pytest.approx(base.memory.weights / 4)
    assert divided.at_once > 3 * base.at_once


def test_rows_that_are_filled_up_have_masks_that_grow_with_the_square() -> None:
    shape = shape_of("Qwen/Qwen2.5-7B")
    assert shape is not None

    def masks(tokens: int) -> float:
        how = {"tokens": tokens, "processes": 8, "shards": 8}
        with_masks = training(shape, Training(**how, mask_rows=4))
        return with_masks.total - training(shape, Training(**how)).total

    # Four rows of 2,048 tokens squared, a truth value and a number of bf16 each; what grows with
    # the tokens alone falls out of the difference.
    squares = 4 * 2048**2 * (1 + 2) / 2**30
    assert masks(16_384) - 2 * masks(8192) == pytest.approx(2 * squares, rel=0.01)


def test_a_recipe_without_a_devices_memory_is_not_held_against_it() -> None:
    recipe = Recipe.load(RECIPES / "miniature.yaml")
    assert list(memory_lines(recipe, STAGES)) == []
    assert refusals(recipe, STAGES) == []
