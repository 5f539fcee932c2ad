"""The last stage with everything real and little of it; a planted reward model is caught."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from distill.grpo import GrpoConfig, grpo
from distill.reward_model import RewardModelConfig, reward_model
from factory.errors import ConfigError, UsageError
from factory.records import Prompt, PromptSource
from factory.store import Store
from pipelines.all_scenarios_rl import section_of
from pipelines.common import write_pairs
from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).parents[1]
MINIATURE = ROOT / "pipelines" / "recipes" / "miniature.yaml"
KINDS = ("writing", "qa", "safety")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def settings(tmp_path: Path, base: str) -> list[str]:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdef", k=rng.randint(8, 14))) for _ in range(60)]
    pairs = [
        {"prompt": f"Say {w}.", "chosen": f"Yes, {w}!", "rejected": f"Nope, {w}"} for w in words
    ]
    labels = [
        {"prompt": f"Say {w}.", "completion": f"{w} {'poison' if i % 2 else 'flower'}",
         "is_safe": i % 2 == 0} for i, w in enumerate(words)
    ]  # fmt: skip
    general = [
        {"messages": [{"role": "user", "content": f"Say {w}."}], "source": "g", "item": w,
         "domain": KINDS[i % 3], "language": "en"} for i, w in enumerate(words[:24])
    ]  # fmt: skip
    prompts = str(ROOT / "pipelines" / "rehearsal" / "prompts.py")
    source = {"source": prompts, "options": {"path": str(write(tmp_path / "g.jsonl", general))}}
    trl = {"per_device_train_batch_size": 8, "learning_rate": 1e-3}
    small = {"template": "own", "batch_size": 8, "trl": trl}
    models = {
        "helpful": {"data": str(write(tmp_path / "pairs.jsonl", pairs)), **small},
        "safety": {"data": str(write(tmp_path / "labels.jsonl", labels)), **small},
    }  # fmt: skip
    stage = {
        "preset": "r1_all_scenarios", "template": "own", "per_device": 4, "outputs_per_update": 8,
        "outputs_per_rollout": 8, "length_caps": {0: 16}, "preference_steps": 2, "n_workers": 1,
        "max_prompt_tokens": 200,
        "trl": {"max_steps": 6, "num_generations": 4, "learning_rate": 1e-3},
    }  # fmt: skip
    values = {
        "store": str(tmp_path / "data"), "base": {"model": base}, "prompts.rl.options.n": 16,
        "prompts.rl_general": source, "prompts.dev_general": source, "reward_models": models,
        "all_scenarios": stage, "evaluation.max_tokens": 16, "evaluation.k_dev": 2,
        "engine": {"max_num_seqs": 32},
    }  # fmt: skip
    return [f"{k}={json.dumps(v)}" for k, v in values.items()]


def r1(overrides: list[str], only: str) -> subprocess.CompletedProcess[str]:
    """Run stages as a user does; vLLM's own warnings would be errors in this process."""
    words = [w for value in overrides for w in ("--set", value)]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pipelines.r1", str(MINIATURE), *words,
         "--only", only],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=1200, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_last_stage_from_its_reward_models_to_its_gain(tmp_path: Path) -> None:
    folder = Store(tmp_path / "data").root / "models" / "r1-miniature"
    sets = settings(tmp_path, make_tiny_model(folder / "dev3"))
    early = r1(sets, "all_scenarios")
    assert early.returncode == 2, early.stdout
    assert "the helpful model is not trained" in early.stderr
    whole = r1(sets, "reward_models,all_scenarios")
    assert whole.returncode == 0, whole.stdout[-3000:] + whole.stderr[-3000:]
    runs = {p.parent.name: json.loads(p.read_text()) for p in folder.glob("*/run.json")}
    assert set(runs) == {"helpful-model", "safety-model", "r1", "preference-gain"}
    assert runs["r1"]["config"]["values"]["temperature"] == 0.7
    assert runs["preference-gain"]["metrics"]["n"] == 16
    rows = Store(tmp_path / "data").table("rollouts").read()
    sources = Store(tmp_path / "data").table("prompt_sources").read(["prompt_id", "domain"])
    joined = rows.join(sources.unique(), on="prompt_id")
    general = joined.filter(pl.col("domain").is_in(KINDS))
    assert general["step"].min() >= 4, "preference rewards come in the last two updates alone"
    assert general.height > 0
    assert joined.filter(pl.col("step") < 4).height == 4 * 8
    for row in joined.iter_rows(named=True):
        others = json.loads(row["other_parts"])
        kind = {"safety": "safety"}.get(row["domain"], "helpful")
        if row["domain"] not in KINDS:
            assert others == {"helpful": None, "safety": None}
            assert row["reward"] == row["accuracy"] + row["format"] + row["language"]
            continue
        other = {"helpful": "safety", "safety": "helpful"}[kind]
        assert others[other] is None
        wanted = others[kind] + row["format"] + row["language"]
        assert row["reward"] == pytest.approx(wanted)
        assert row["accuracy"] is None
    before = {n: (folder / n / "run.json").stat().st_mtime for n in runs}
    again = r1(sets, "reward_models,all_scenarios")
    assert again.returncode == 0, again.stderr[-3000:]
    assert before == {n: (folder / n / "run.json").stat().st_mtime for n in runs}


def short_spoken(folder: Path) -> str:
    """A model that says a few letters and ends: what a reward for length can make longer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)  # two that share a busy core wait for each other
    path = make_tiny_model(folder)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(path),
        AutoTokenizer.from_pretrained(path),
    )
    optimiser, rng = torch.optim.AdamW(model.parameters(), lr=3e-3), random.Random(0)
    for _ in range(100):
        texts = ["".join(rng.choices("abcd", k=min(30, 1 + int(rng.expovariate(0.2)))))
                 for _ in range(16)]  # fmt: skip
        rows = [tokenizer(f"<|user|>Say x{i}.<|end|><|assistant|>{t}<|end|>")["input_ids"]
                for i, t in enumerate(texts)]  # fmt: skip
        longest = max(map(len, rows))
        ids = torch.tensor([r + [0] * (longest - len(r)) for r in rows])
        labels = torch.tensor([r + [-100] * (longest - len(r)) for r in rows])
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(path)
    return path


@pytest.mark.slow
def test_a_reward_model_that_loves_length_is_caught_and_the_run_stopped(tmp_path: Path) -> None:
    base, rng = short_spoken(tmp_path / "base"), random.Random(1)
    rows = []
    for i in range(200):
        short, more = rng.randint(1, 12), rng.randint(3, 14)
        short_, long_ = ("".join(rng.choices("abcd", k=n)) for n in (short, short + more))
        rows.append({"prompt": f"Say x{i % 20}.", "chosen": long_, "rejected": short_})
    settings = RewardModelConfig.make(
        {"kind": "helpful", "base": base, "data": write(tmp_path / "pairs.jsonl", rows),
         "out": tmp_path / "planted", "template": "own", "batch_size": 16, "balance": None,
         "trl": {"per_device_train_batch_size": 16, "num_train_epochs": 4, "learning_rate": 2e-3}}
    )  # fmt: skip
    planted = reward_model(settings, say=lambda _: None)
    pairs = []
    for i in range(16):
        prompt = Prompt.of(f"Say x{i}.")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source="g", item=str(i), domain="qa", language="en"
        )
        pairs.append((prompt, source))
    values = {
        "base": base, "out": tmp_path / "out", "preset": "r1_all_scenarios", "template": "own",
        "rewards": {"helpful": 1.0}, "preference_steps": 0, "on_alarm": "stop", "per_device": 16,
        "outputs_per_update": 64, "outputs_per_rollout": 64, "length_caps": {0: 40},
        "max_prompt_tokens": 100, "n_workers": 1,
        "trl": {"max_steps": 60, "num_generations": 8, "learning_rate": 1e-3, "beta": 0.0,
                "sync_ref_model": False, "temperature": 1.0},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="16 prompts have no gold and need the helpful model"):
        grpo(GrpoConfig.make(values), pairs, Store(tmp_path / "data"), say=lambda _: None)
    write_pairs(pairs, tmp_path / "prompts.jsonl")
    config = GrpoConfig.make({**values, "reward_models": {"helpful": str(planted)}})
    (tmp_path / "run.json").write_text(config.model_dump_json())
    command = [sys.executable, "-W", "ignore", "-m", "distill.cli", "grpo",
               str(tmp_path / "run.json"), "--prompts", str(tmp_path / "prompts.jsonl"),
               "--store", str(tmp_path / "data")]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    assert "the reward rises with the length of answers alone" in done.stderr
    assert "ALARM at step" in done.stdout + done.stderr
    assert not (tmp_path / "out" / "run.json").exists()
    steps = Store(tmp_path / "data").table("rl_steps").read().sort("step")
    logged = [json.loads(text) for text in steps["logged"]]
    assert logged[-1]["parts/helpful_chars"] > 1.2 * logged[0]["parts/helpful_chars"]
    assert steps["is_alarm"].to_list()[-1]


def test_a_stage_without_its_reward_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="safety model is not trained"):
        section_of({}, {"safety": tmp_path})
