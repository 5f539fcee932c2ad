"""A mixture of experts: its weights reach vLLM under the names of its files."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distill.grpo.rollout import under_file_names, whole_weights
from tests.tiny_model import make_tiny_model

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                  "head_dim": 32},
    "mixtral": {"num_local_experts": 4},
    "deepseek_v3": {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 16,
                    "qk_nope_head_dim": 16, "v_head_dim": 16, "n_routed_experts": 4,
                    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
                    "moe_intermediate_size": 32, "first_k_dense_replace": 1,
                    "num_key_value_heads": 2},
    "qwen2": {},
}  # fmt: skip


def made(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 64}  # fmt: skip
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **{**values, **SHAPES[kind]})
    )


def files_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {n: t for path in folder.glob("*.safetensors") for n, t in load_file(str(path)).items()}


@pytest.mark.parametrize("kind", SHAPES)
def test_weights_have_the_names_and_values_of_files(tmp_path: Path, kind: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = made(kind)
    model.save_pretrained(tmp_path)
    expected = files_of(tmp_path)
    for loaded in (model, AutoModelForCausalLM.from_pretrained(tmp_path)):
        found = dict(under_file_names(loaded, whole_weights(loaded)))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    if kind != "qwen2":
        assert any(".experts.3." in name for name in found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trl_hands_experts_over_under_the_names_of_files(tmp_path: Path) -> None:
    from trl.generation.vllm_generation import VLLMGeneration

    from distill.grpo.rollout import ColocatedSampler

    model = made("qwen3_moe")
    model.save_pretrained(tmp_path)
    generation = object.__new__(VLLMGeneration)
    whole = SimpleNamespace(is_fsdp=False, gather_params=lambda _: nullcontext())
    vars(generation).update(model=model, _dist=whole, mode="colocate")
    trainer = SimpleNamespace(vllm_generation=generation)
    ColocatedSampler().follow(trainer)
    names = {name for name, _ in trainer.vllm_generation._iter_named_params()}
    assert names == files_of(tmp_path).keys()
    # What is changed later is changed for both: it is the same object's state.
    trainer.vllm_generation.temperature = 0.5
    assert generation.temperature == 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_vllm_takes_the_experts_of_a_trainer(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from distill.grpo.rollout import CpuSampler

    first, other = (
        make_tiny_model(tmp_path / str(seed), family="qwen3_moe", tied=False, seed=seed)
        for seed in (0, 5)
    )
    sampler = CpuSampler(first, max_model_len=128, max_num_seqs=4)
    try:
        for folder in (other, first):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            # With experts of the other model it is .013.
            assert sampler.take(model, range(5, 37)) < 1e-4
    finally:
        sampler.close()
