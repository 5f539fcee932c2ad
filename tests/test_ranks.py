"""Several processes train what one trains: DDP, FSDP2 whole and in shards, over gloo on a CPU."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from distill.launch import Launch, require_wrapper
from factory.errors import ConfigError, FactoryError
from factory.store import Store
from tests.helpers_ranks import distill, run_of, start, write_prompts, write_rows

STUDENT = {
    "base": "given-by-the-run", "template": "own", "max_length": 256, "batch_size": 4,
    "trl": {"learning_rate": 1e-3, "max_steps": 20, "per_device_train_batch_size": 2,
            "packing": False, "logging_steps": 1, "save_steps": 10},
}  # fmt: skip


@pytest.mark.parametrize("file", ["ddp", "fsdp2", "fsdp2-sharded"])
def test_every_launch_file_is_one_that_accelerate_reads(file: str) -> None:
    launch = Launch(file=file, processes=8)
    values = yaml.safe_load(launch.path.read_text(encoding="utf-8"))
    assert values["distributed_type"] == ("MULTI_GPU" if file == "ddp" else "FSDP")
    words = launch.command(python="python", cuda=True)
    assert words[:3] == ["python", "-m", "accelerate.commands.launch"]
    assert words[words.index("--num_processes") + 1] == "8"
    assert "distill.launch.cpu_fsdp" in launch.command(python="python", cuda=False)


def test_an_unknown_launch_file_is_named() -> None:
    with pytest.raises(ConfigError, match="known: ddp, fsdp2, fsdp2-sharded"):
        Launch(file="zero3").command(python="python", cuda=True)


def test_plain_ddp_where_fsdp_was_asked_for_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(FactoryError, match="FSDP was asked for, but the model is wrapped by DDP"):
        require_wrapper("DDP", processes=2)
    require_wrapper("FSDP2", processes=2)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    require_wrapper("DDP", processes=2)


def losses(folder: Path) -> list[float]:
    return [e["loss"] for e in run_of(folder)["metrics"]["log"] if "loss" in e]


@pytest.mark.slow
def test_two_ranks_train_what_one_process_trains_and_the_next_stage_reads_it(
    tmp_path: Path,
) -> None:
    from tests.tiny_model import make_tiny_model

    student = tmp_path / "student.yaml"
    student.write_text(yaml.safe_dump(STUDENT), encoding="utf-8")
    rows = write_rows(tmp_path / "rows.jsonl", 80)
    base = make_tiny_model(tmp_path / "base", family="llama", tied=False)

    def train(name: str, *words: str, **how: Any) -> list[float]:
        said = distill("sft", str(student), str(rows), "--out", str(tmp_path / name), *words, **how)
        assert how.get("ranks", 1) == 1 or "2 processes, wrapper" in said
        return losses(tmp_path / name)

    one = train("one", "--base", base)
    assert len(one) == 20
    assert one[-1] < one[0] - 0.5
    for file, wrapper in (("ddp", "DDP"), ("fsdp2", "FSDP2"), ("fsdp2-sharded", "FSDP2")):
        two = train(file, "--base", base, ranks=2, file=file)
        metrics = run_of(tmp_path / file)["metrics"]
        assert (metrics["wrapper"], metrics["processes"]) == (wrapper, 2)
        assert two[0] == pytest.approx(one[0], abs=1e-5)
        assert two[-1] == pytest.approx(one[-1], abs=1e-3)
        assert same_weights(tmp_path / "one", tmp_path / file)
    # What was saved from shards is where the next stage starts.
    after = train("next", "--base", str(tmp_path / "fsdp2-sharded"), "--set", "trl.max_steps=1")
    assert after[0] < one[0] - 0.5


def same_weights(one: Path, other: Path) -> bool:
    from safetensors.torch import load_file

    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(a[n].allclose(b[n], atol=1e-4) for n in a)


def config(tmp_path: Path, base: str, *, ranks: int) -> str:
    # A group of 6 over three processes of 4 samples is split.
    values = {
        "base": base, "out": str(tmp_path / str(ranks) / "policy"), "preset": "r1_reasoning",
        "per_device": 12 // ranks, "outputs_per_update": 12, "outputs_per_rollout": 12,
        "length_caps": {0: 8}, "max_prompt_tokens": 60, "n_workers": 1,
        "rewards": {"accuracy": 1.0, "format": 1.0},
        "trl": {"max_steps": 4, "num_generations": 6, "learning_rate": 1e-3, "save_steps": 1,
                "beta": 0.01, "ref_model_sync_steps": 2},
    }  # fmt: skip
    path = tmp_path / f"grpo-{ranks}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(path)


@pytest.mark.slow
def test_one_two_and_three_ranks_leave_the_same_record_and_a_kill_loses_nothing(
    tmp_path: Path,
) -> None:
    from tests.tiny_model import make_tiny_model

    base = make_tiny_model(tmp_path / "base", family="qwen2")
    prompts = write_prompts(tmp_path / "prompts.jsonl")

    def words(ranks: int) -> list[str]:
        store = str(tmp_path / f"store-{ranks}")
        return ["grpo", config(tmp_path, base, ranks=ranks), "--prompts", str(prompts),
                "--store", store]  # fmt: skip

    distill(*words(1))
    distill(*words(2), ranks=2, file="fsdp2")
    # Three ranks, sharded, with a reference; killed after a checkpoint, and run again.
    process = start(*words(3), ranks=3, file="fsdp2-sharded")
    checkpoints = tmp_path / "3" / "policy" / "checkpoints"
    deadline = time.monotonic() + 400
    while not list(checkpoints.glob("checkpoint-*/whole")):
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    said = distill(*words(3), ranks=3, file="fsdp2-sharded")
    assert "going on from checkpoint-" in said

    records = {ranks: record(tmp_path / f"store-{ranks}") for ranks in (1, 2, 3)}
    assert records[1].height == 12
    for ranks, wrapper in ((2, "FSDP2"), (3, "FSDP2")):
        assert records[ranks].equals(records[1]), (records[1], records[ranks])
        metrics = run_of(tmp_path / str(ranks) / "policy")["metrics"]
        assert (metrics["wrapper"], metrics["processes"]) == (wrapper, ranks)
        assert metrics["steps"] == 4
    for ranks in (1, 2, 3):
        rollouts = Store(tmp_path / f"store-{ranks}").table("rollouts").read()
        assert rollouts["trace_id"].n_unique() == rollouts.height
        last = rollouts.filter(pl.col("attempt") == pl.col("attempt").max().over("step"))
        assert last.group_by("step").len()["len"].to_list() == [12] * 4
        steps = Store(tmp_path / f"store-{ranks}").table("rl_steps").read()
        for row in steps.iter_rows(named=True):
            assert row["reward"] == pytest.approx(json.loads(row["logged"])["reward"], abs=1e-5)


def record(store: Path) -> pl.DataFrame:
    """What the first rollout left, before any update: the same keys, texts and rewards."""
    columns = ["trace_id", "prompt_id", "sample_index", "group_index", "reward", "format",
               "n_completion_tokens"]  # fmt: skip
    rollouts = Store(store).table("rollouts").read().filter(pl.col("step") == 0)
    first = rollouts.filter(pl.col("attempt") == 1)
    return first.select(columns).sort("trace_id")
