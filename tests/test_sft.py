"""SFT with TRL: what is trained is what the rows say, once, and a killed run goes on."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.sft import SftConfig, Student, load_student, sft
from distill.training import last_checkpoint, mark_of, require_weights
from distill.training_rows import read_rows
from factory.errors import ConfigError, FactoryError, Refused, UsageError

ROOT = Path(__file__).parent.parent
PAPER_TABLE_6 = {
    "r1-distill-qwen-1.5b": ("Qwen/Qwen2.5-Math-1.5B", 1e-4, "qwen"),
    "r1-distill-qwen-7b": ("Qwen/Qwen2.5-Math-7B", 8e-5, "qwen"),
    "r1-distill-qwen-14b": ("Qwen/Qwen2.5-14B", 7e-5, "qwen"),
    "r1-distill-qwen-32b": ("Qwen/Qwen2.5-32B", 6e-5, "qwen"),
    "r1-distill-llama-8b": ("meta-llama/Llama-3.1-8B", 5e-5, "llama"),
    "r1-distill-llama-70b": ("meta-llama/Llama-3.3-70B-Instruct", 2e-5, "llama"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has read next to nothing: enough to be trained on."""
    from pipelines.miniature.grow import SHAPES, GrowConfig, grow

    out = tmp_path_factory.mktemp("base") / "base"
    return grow(GrowConfig(shape=SHAPES["base"], out=out, n_documents=300, seed=0), say=_silent)


def _silent(_: str) -> None:
    pass


def rows(n: int) -> list[dict[str, Any]]:
    import random

    from pipelines.miniature.corpus import scratchpad
    from pipelines.miniature.problems import problems

    rng = random.Random(0)
    out = []
    for problem in problems(n=n, seed=0, split="train"):
        pad, value = scratchpad(rng, problem, style="own", careful=True)
        text = f"<think>\n{pad}\n</think>\n\n\\boxed{{{value}}}"
        out.append(
            {
                "prompt": [{"role": "user", "content": problem.text}],
                "completion": [{"role": "assistant", "content": text}],
            }
        )
    return out


def write(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(v) + "\n" for v in values), encoding="utf-8")
    return path


def config(tmp_path: Path, base: Path, *, n: int = 48, **options: Any) -> SftConfig:
    data = write(tmp_path / "rows.jsonl", rows(n))
    settings = {"student": "miniature", "data": data, "out": tmp_path / "out", "base": str(base)}
    return SftConfig.make({**settings, **options})


def test_student_files_hold_the_papers_table() -> None:
    for name, (model, rate, template) in PAPER_TABLE_6.items():
        student = load_student(name)
        assert (student.base, student.template) == (model, template)
        assert student.trl["learning_rate"] == rate
        assert student.max_length == 32768
        assert student.trl["num_train_epochs"] in (2, 3)
        # Over all devices: the launcher divides it.
        assert student.batch_size == 64


@pytest.mark.slow
def test_every_student_file_is_accepted_by_trl(tmp_path: Path) -> None:
    from distill.sft import trl_arguments

    for path in sorted((ROOT / "distill/students").glob("*.yaml")):
        student = load_student(path.stem)
        settings = SftConfig(student=path.stem, data=tmp_path, out=tmp_path)
        arguments = trl_arguments(settings, student, cuda=False)
        assert arguments.lr_scheduler_kwargs == {"min_lr_rate": 0.1}
        assert arguments.max_length == student.max_length
        assert not arguments.gradient_checkpointing


@pytest.mark.slow
def test_the_rate_falls_by_a_cosine_to_a_tenth() -> None:
    import torch
    from transformers import get_scheduler

    from distill.sft import TRL_DEFAULTS

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=8e-5)
    schedule = get_scheduler(
        TRL_DEFAULTS["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=0,
        num_training_steps=100,
        scheduler_specific_kwargs=TRL_DEFAULTS["lr_scheduler_kwargs"],
    )
    rates = []
    for _ in range(101):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(8e-5)
    assert rates[50] == pytest.approx(4.4e-5)
    assert rates[100] == pytest.approx(8e-6)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.slow
def test_a_run_trains_once_and_leaves_an_ordinary_model(tmp_path: Path, base: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    said: list[str] = []
    settings = config(tmp_path, base, overrides=["trl.num_train_epochs=2"])
    out = sft(settings, say=said.append)
    run = json.loads((out / "run.json").read_text())
    assert run["metrics"]["last_loss"] < run["metrics"]["first_loss"]
    assert run["metrics"]["n_rows_kept"] == 48
    assert run["config"]["template"]["name"] == "own"
    assert sorted(p.suffix for p in out.iterdir() if p.suffix in (".bin", ".safetensors")) == [
        ".safetensors"
    ]
    assert not (out / "checkpoints").exists()
    assert any("loss" in line and "\n" not in line for line in said)
    tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=False)
    assert model.generation_config.eos_token_id in (
        tokenizer.eos_token_id,
        [tokenizer.eos_token_id],
    )
    said.clear()
    assert sft(settings, say=said.append) == out
    assert said == []
    with pytest.raises(UsageError, match="other inputs"):
        sft(settings.model_copy(update={"seed": 5}), say=_silent)


@pytest.mark.slow
def test_the_same_run_gives_the_same_weights(tmp_path: Path, base: Path) -> None:
    weights = []
    for name in ("a", "b"):
        settings = config(tmp_path, base, n=16, out=tmp_path / name)
        sft(settings, say=_silent)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_packed_rows_do_not_see_each_other(base: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=False).eval()
    texts = [r["completion"][0]["content"] for r in rows(3)]
    first, other, second = (tokenizer(t).input_ids for t in texts)
    collator = DataCollatorForLanguageModeling(
        pad_token_id=tokenizer.pad_token_id, padding_free=True
    )

    def logits_of_second(neighbour: list[int]) -> Any:
        ids = neighbour + second
        packed = {"input_ids": ids, "labels": ids, "seq_lengths": [len(neighbour), len(second)]}
        batch = collator([packed])
        with torch.no_grad():
            # As the trainer calls it: positions, no mask, no cache.
            out = model(
                input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
            )
        return out.logits[0, len(neighbour) :]

    alone = model(input_ids=torch.tensor([second])).logits[0]
    assert torch.allclose(logits_of_second(first), alone, atol=1e-5)
    assert torch.allclose(logits_of_second(other), alone, atol=1e-5)


@pytest.mark.slow
def test_lora_trains_with_packing_and_is_merged(tmp_path: Path, base: Path) -> None:
    from transformers import AutoModelForCausalLM

    settings = config(tmp_path, base, n=32, overrides=["lora={r: 4, alpha: 8}", "trl.packing=true"])
    out = sft(settings, say=_silent)
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    after = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert before.keys() == after.keys()
    name = "model.layers.0.mlp.up_proj.weight"
    assert not (before[name] == after[name]).all()
    assert (before["model.norm.weight"] == after["model.norm.weight"]).all()


@pytest.mark.slow
def test_long_rows_are_left_out_and_counted(tmp_path: Path, base: Path) -> None:
    values = rows(16)
    values[3]["completion"][0]["content"] = f"<think>\n{'7' * 300}\n</think>\n\n4"
    settings = config(tmp_path, base, overrides=["max_over_fraction=0.1"])
    write(settings.data, values)
    said: list[str] = []
    out = sft(settings, say=said.append)
    assert json.loads((out / "run.json").read_text())["metrics"]["n_rows_kept"] == 15
    assert any("1 rows over max_length left out" in line for line in said)


def test_a_row_that_loses_its_thinking_stops_the_run_before_it_begins(
    tmp_path: Path, base: Path
) -> None:
    values = rows(16)
    values[9]["completion"][0]["content"] = "<think>\nnever closed"
    settings = config(tmp_path, base)
    write(settings.data, values)
    with pytest.raises(Refused, match="row 10: </think> never comes"):
        sft(settings, say=_silent)
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, base: Path) -> None:
    settings = config(
        tmp_path,
        base,
        overrides=["trl.learning_rate=1e38", "trl.max_grad_norm=0", "trl.logging_steps=1"],
    )
    with pytest.raises(FactoryError, match="the loss is nan at step"):
        sft(settings, say=_silent)
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trl.lerning_rate=1", "unknown key 'lerning_rate'"),
        ("trl.trust_remote_code=true", "trust_remote_code set by the factory"),
        ("trl.output_dir=x", "output_dir set by the factory"),
        ("tempalte=own", "unknown key 'tempalte'"),
        ("template=llama", "does not have"),
        ("base=no/such/folder", "base model 'no/such/folder' is neither a folder"),
        ("trl.lr_scheduler_type=zigzag", "trl block of miniature"),
    ],
)
def test_mistakes_are_named_in_one_line(
    tmp_path: Path, base: Path, override: str, says: str
) -> None:
    settings = config(tmp_path, base, overrides=[override])
    if override.startswith("base"):
        settings = settings.model_copy(update={"base": None})
    with pytest.raises(UsageError, match=says) as caught:
        sft(settings, say=_silent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [("nobody", "known: miniature, r1-distill"), ("no/such.yaml", "no file")],
)
def test_an_unknown_student_is_named(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_student(name)


def test_a_short_context_is_raised_to_the_longest_row() -> None:
    from types import SimpleNamespace

    from distill.sft import raise_context

    short, long = (SimpleNamespace(max_position_embeddings=n) for n in (4096, 131072))
    assert raise_context(short, 32768)
    assert not raise_context(long, 32768)
    assert (short.max_position_embeddings, long.max_position_embeddings) == (32768, 131072)


def test_a_rate_without_a_point_is_a_number() -> None:
    assert (
        load_student("miniature", overrides=["trl.learning_rate=1e-4"]).trl["learning_rate"] == 1e-4
    )


def test_a_student_needs_base_template_and_length() -> None:
    with pytest.raises(ConfigError, match="missing key 'base'"):
        Student.make(yaml.safe_load("trl: {}"))


def test_preflight_on_the_command_line_prints_lengths_or_one_line(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from distill.cli import main

    data = write(tmp_path / "rows.jsonl", rows(8))
    assert main(["preflight", "miniature", str(data), "--base", str(base), "--example"]) == 0
    out = capsys.readouterr().out
    assert "preflight: 8 rows, 0 over 256 tokens" in out
    assert "--- completion, with loss\n<think>\n" in out
    words = ["preflight", "miniature", str(data), "--base", str(base)]
    assert main([*words, "--json", "--example"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["over"]) == (8, 0)
    assert found["example"]["completion"].startswith("<think>\n")
    assert main([*words, "-q"]) == 0
    assert "preflight: 8 rows" in capsys.readouterr().out, "what was asked for is no remark"
    values = rows(2)
    values[1]["completion"] = "<think>\nno end"
    write(data, values)
    assert main(["preflight", "miniature", str(data), "--base", str(base)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("distill preflight: row 2: </think> never comes")
    assert error.count("\n") == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", "folder"])
def test_rows_are_read_from_every_export(tmp_path: Path, suffix: str) -> None:
    values = rows(5)
    text = "".join(json.dumps(v) + "\n" for v in values).encode()
    path = tmp_path / f"rows{suffix}"
    if suffix == ".jsonl":
        path.write_bytes(text)
    elif suffix == ".jsonl.gz":
        path.write_bytes(gzip.compress(text))
    elif suffix == ".jsonl.zst":
        import zstandard

        path.write_bytes(zstandard.compress(text))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if suffix == "folder":
            path.mkdir()
            (path / "manifest.json").write_text("{}")
            path = path / "part-0.parquet"
        pq.write_table(pa.Table.from_pylist([{**v, "extra": 1} for v in values]), path)
        path = path.parent if suffix == "folder" else path
    if suffix == ".parquet":
        path = tmp_path / "rows.parquet"
    read = read_rows(path, max_rows=4)
    assert [r.completion for r in read] == [v["completion"][0]["content"] for v in values[:4]]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.xml", "x", "unknown ending"),
        ("a.jsonl", "{oops", "line 1: no JSON"),
        ("a.jsonl", "[1]", "line 1: a JSON int, not an object"),
        ("a.jsonl", '{"prompt": "x"}', "a.jsonl row 1"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(FactoryError, match=says):
        read_rows(tmp_path / name)


def _checkpoints(folder: Path, marks: dict[int, str | None]) -> None:
    for step, mark in marks.items():
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        if mark:
            (folder / f"checkpoint-{step}" / "whole").write_text(mark)


def test_half_written_checkpoints_are_not_loaded(tmp_path: Path) -> None:
    mine = mark_of("mine", {"seed": 0})
    _checkpoints(tmp_path, {10: mine, 20: None})
    assert last_checkpoint(tmp_path, mark=mine) == tmp_path / "checkpoint-10"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-10"]


def test_checkpoints_of_other_settings_are_kept_and_the_difference_is_said(tmp_path: Path) -> None:
    before = mark_of("a", {"seed": 0, "trl": {"logging_steps": 10, "beta": 0.1}})
    now = mark_of("b", {"seed": 0, "trl": {"logging_steps": 20, "beta": 0.1}})
    _checkpoints(tmp_path, {40: before, 80: before})
    with pytest.raises(UsageError, match=r"trl.logging_steps 10 -> 20.*--restart") as caught:
        last_checkpoint(tmp_path, mark=now)
    assert "beta" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-40", "checkpoint-80"]
    assert last_checkpoint(tmp_path, mark=now, restart=True) is None
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_changed_setting_does_not_delete_a_stopped_run(tmp_path: Path, base: Path) -> None:
    settings = config(tmp_path, base)
    _checkpoints(settings.out / "checkpoints", {4: mark_of("other", {"seed": 7})})
    with pytest.raises(UsageError, match="seed 7 -> 0"):
        sft(settings, say=_silent)
    assert (settings.out / "checkpoints" / "checkpoint-4" / "whole").is_file()


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (None, "no weights were written"),
        ({"a": (2, 2), "b": (0,)}, "b in model.safetensors is empty"),
    ],
)
def test_a_training_that_wrote_no_weights_is_an_error(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]] | None, says: str
) -> None:
    import torch
    from safetensors.torch import save_file

    if tensors:
        values = {name: torch.zeros(shape) for name, shape in tensors.items()}
        save_file(values, str(tmp_path / "model.safetensors"))
    with pytest.raises(FactoryError, match=f"{says}.*checkpoints are kept"):
        require_weights(tmp_path)


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, str(tmp_path / "model-1.safetensors"))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FactoryError, match=r"model-2.safetensors is missing"):
        require_weights(tmp_path)


@pytest.mark.slow
def test_a_run_that_ended_before_its_manifest_is_only_finished(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, base, n=16)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("distill.sft.write_run", fail)
        with pytest.raises(KeyboardInterrupt):
            sft(settings, say=_silent)
    weights = (settings.out / "model.safetensors").read_bytes()
    said: list[str] = []
    sft(settings, say=said.append)
    assert any("going on from checkpoint-" in line for line in said)
    assert (settings.out / "model.safetensors").read_bytes() == weights
    assert json.loads((settings.out / "run.json").read_text())["metrics"]["steps"] > 0


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, base: Path) -> None:
    settings = config(tmp_path, base, n=64, overrides=["trl.num_train_epochs=12"])
    arguments = [
        sys.executable, "-m", "distill.sft", "student=miniature", f"data={settings.data}",
        f"base={base}", "overrides=[trl.num_train_epochs=12]",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    undisturbed = [*arguments, f"out={tmp_path / 'whole'}"]
    subprocess.run(undisturbed, check=True, cwd=ROOT, env=environment)
    killed = [*arguments, f"out={settings.out}"]
    process = subprocess.Popen(killed, cwd=ROOT, env=environment)
    deadline = time.monotonic() + 120
    while not list(settings.out.glob("checkpoints/checkpoint-*/whole")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(
        killed, check=True, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert "going on from checkpoint-" in again.stdout
    name = "model.safetensors"
    assert (settings.out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
