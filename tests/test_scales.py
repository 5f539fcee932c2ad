"""What stopped or falsified the recipes beyond the miniature, case by case."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from distill.devices import cores
from distill.grpo import GrpoConfig, trl_values
from distill.grpo.config import inputs_of
from distill.grpo.reward import Payer
from distill.prepare import wait_for
from distill.rewards import r1_zero
from distill.sft import attention_for
from distill.student import Student, load_student, local_folder
from factory.engines.replay import Engine
from factory.errors import UsageError
from factory.records import Prompt, PromptSource
from factory.sources import template
from factory.store import Store
from pipelines.common import ModelOf, PromptSet, fitting, grown, room
from pipelines.r1_recipe import Recipe
from pipelines.rehearsal.recipe import GENERAL
from pipelines.rejection_sampling import RejectionSampling, rejection_sampling

RECIPES = Path(__file__).parents[1] / "pipelines" / "recipes"
GPU_RECIPES = ["one-gpu", "node", "cluster"]


def model(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    values = {"max_position_embeddings": 4096, "num_attention_heads": 12, **config}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return folder


# a seed for sources that take none, and options that the source does not have.
def test_files_take_no_seed_and_a_wrong_option_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "1+1?", "gold": "2"}\n')
    ((prompt, source),) = PromptSet(
        source="files", options={"paths": str(path)}, template="boxed"
    ).pairs(seed=3)
    assert prompt.text == "1+1?\n\nPut your final answer within \\boxed{}."
    assert source.options["mode"] == "boxed"
    assert source.prompt_id == prompt.prompt_id
    with pytest.raises(UsageError, match="source 'files' takes no path"):
        PromptSet(source="files", options={"path": str(path)}).pairs(seed=3)


@pytest.mark.parametrize("scale", GPU_RECIPES)
def test_every_source_of_a_gpu_recipe_takes_its_options(scale: str) -> None:
    import inspect

    from factory import plugins

    recipe = Recipe.load(RECIPES / f"{scale}.yaml")
    for name, prompts in recipe.prompts.items():
        of_benchmark = prompts.source == "benchmark"
        load = plugins.load("sources", prompts.source).prompts
        assert set(prompts.options) <= set(inspect.signature(load).parameters)
        for each in (prompts, *prompts.more):
            load = plugins.load("sources", each.source).prompts
            assert of_benchmark or set(each.options) <= set(inspect.signature(load).parameters)
        asked = prompts.template
        names = asked.values() if isinstance(asked, dict) else [asked or "plain"]
        # The reward pays for a box: the prompt asks for one.
        # No rule scores general prompts.
        assert (
            of_benchmark
            or name in GENERAL
            or any("\\boxed{}" in template.load(name).prompt for name in names)
        )


# contexts, and heads that eight devices do not divide.
@pytest.mark.parametrize(
    ("heads", "wanted", "expected"), [(12, 8, (4, 2)), (28, 8, (4, 2)), (32, 8, (8, None))]
)
def test_tensor_parallelism_divides_the_heads_and_frees_devices_for_replicas(
    heads: int, wanted: int, expected: tuple[int, int | None], tmp_path: Path
) -> None:
    folder = model(tmp_path / "m", num_attention_heads=heads)
    found = fitting({"tensor_parallel_size": wanted}, folder)
    assert (found["tensor_parallel_size"], found.get("replicas")) == expected


def test_an_engine_is_never_asked_for_more_than_the_models_context(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    assert fitting({"max_model_len": 34_816}, folder)["max_model_len"] == 4096
    assert fitting({}, folder, longest=2048)["max_model_len"] == 2048


def test_answers_as_long_as_the_context_leave_room_for_the_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(model(tmp_path / "m"))
    assert room(folder, 4096, prompt_tokens=1024) == 3072
    assert "at most 3,072 tokens" in capsys.readouterr().out
    assert room(folder, 1000, prompt_tokens=1024) == 1000
    with pytest.raises(UsageError, match="holds no prompt of 8192"):
        room(folder, 100, prompt_tokens=8192)


def test_a_base_with_a_longer_context_is_linked_and_said_in_its_configuration(
    tmp_path: Path,
) -> None:
    folder = model(tmp_path / "m", rope_parameters={"rope_theta": 10_000})
    what = ModelOf(model=str(folder), context=32_768, rope={"rope_type": "yarn", "factor": 8.0})
    out = Path(grown(what, out=tmp_path / "run" / "base", seed=0))
    config = json.loads((out / "config.json").read_text())
    assert config["max_position_embeddings"] == 32_768
    assert config["rope_parameters"] == {"rope_theta": 10_000, "rope_type": "yarn", "factor": 8.0}
    assert (out / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == 4096


# Memory of the cache, batches, pinned revisions.
@pytest.mark.parametrize("scale", GPU_RECIPES)
def test_vllm_holds_prompt_and_completion_and_no_more(scale: str) -> None:
    recipe = Recipe.load(RECIPES / f"{scale}.yaml")
    for section in (recipe.zero, recipe.reasoning, recipe.direct_rl.grpo, recipe.all_scenarios):
        assert section is not None
        config = GrpoConfig.make({**section, "base": "b", "out": "o"})
        longest = config.max_prompt_tokens + max(config.caps.values())
        assert trl_values(config)["vllm_max_model_length"] == longest
        assert config.dtype == "float32" or config.lora is not None


@pytest.mark.parametrize("scale", GPU_RECIPES)
def test_batches_are_global_and_divide_by_the_processes_of_the_recipe(scale: str) -> None:
    recipe = Recipe.load(RECIPES / f"{scale}.yaml")
    assert recipe.launch is not None
    n = recipe.launch.processes
    for section in (recipe.zero, recipe.reasoning, recipe.direct_rl.grpo, recipe.all_scenarios):
        assert section is not None
        trl_values(GrpoConfig.make({**section, "base": "b", "out": "o", "n_devices": n}))
    for how in (recipe.sft1, recipe.sft2, *recipe.students.values()):
        student = load_student(how.student, overrides=how.overrides, base="b")
        assert (student.batch_size or 0) % (student.trl["per_device_train_batch_size"] * n) == 0


def test_how_devices_divide_a_batch_shapes_no_result(tmp_path: Path) -> None:
    base = str(model(tmp_path / "m"))
    values = {"base": base, "out": "o", "preset": "r1_zero", "outputs_per_update": 64}

    def inputs(per_device: int, n_devices: int) -> str:
        config = GrpoConfig.make({**values, "per_device": per_device, "n_devices": n_devices})
        return inputs_of(config, [], trl_values(config))

    assert inputs(8, 1) == inputs(2, 8)


def test_a_pinned_revision_is_one_folder_for_policy_reference_and_sampler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        if name != "own/tiny":
            raise OSError("not found")
        assert "*.bin" not in allow_patterns, "pickled weights run code"
        return str(model(tmp_path / str(revision)))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert Path(local_folder("own/tiny@old")).name == "old"
    with pytest.raises(UsageError, match="base model 'own/absent' is neither"):
        local_folder("own/absent")


# what the template asked for is what is paid.
@pytest.mark.parametrize(
    ("text", "mode", "accuracy"),
    [
        ("<think>2+2</think> <answer> 4 </answer>", "auto", 1.0),
        ("<think>2+2</think> <answer> 5 </answer>", "auto", 0.0),
        ("<think>2+2</think> <answer>\\boxed{4}</answer>", "auto", 1.0),
        ("<think>2+2</think> <answer> 4 </answer>", None, 0.0),
    ],
)
def test_r1_zero_pays_for_answer_tags(text: str, mode: str | None, accuracy: float) -> None:
    prompt = Prompt.of("2+2?")
    source = PromptSource(
        prompt_id=prompt.prompt_id, source="t", item="1", gold="4", verifier="math",
        options={"mode": "boxed"},
    )  # fmt: skip
    payer = Payer({"accuracy": 1.0}, dialect="think_answer", mode=mode, n_workers=1)
    (out,) = payer.rewards([(prompt, source)], [text])
    assert out.parts["accuracy"] == accuracy


# rejection sampling keeps whatever its own verifier passes.
def test_rejection_sampling_keeps_right_answers_of_any_verifier(tmp_path: Path) -> None:
    pairs, answers = [], {}
    for i, (gold, verifier, said) in enumerate(
        [("4", "math", "\\boxed{4}"), ("C", "choice", "\\boxed{C}"), ("C", "choice", "\\boxed{A}")]
    ):
        prompt = Prompt.of(f"Question {i}?")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source="t", item=str(i), gold=gold, verifier=verifier,
            options={"mode": "boxed"}, language="en",
        )  # fmt: skip
        pairs.append((prompt, source))
        text = f"<think>\nI look at it with care.\n</think>\n\n{said}"
        answers[f"{prompt.prompt_id}:0"] = {"completion": text, "n_completion_tokens": 9}
    values = RejectionSampling(
        n_samples=1, temperature=1.0, max_tokens=64, cap_per_prompt=1,
        filters={"right": "status = 'pass'", "formed": "format_status = 'pass'"},
    )  # fmt: skip
    made, _ = rejection_sampling(
        Store(tmp_path / "data"), values, pairs, Engine("m", answers=answers), name="kept",
        out=tmp_path / "out",
    )  # fmt: skip
    assert set(made.read()["prompt_id"]) == {pairs[0][0].prompt_id, pairs[1][0].prompt_id}


@pytest.mark.parametrize(("trainers", "share"), [(None, 16), ("1", 16), ("8", 2), ("64", 1)])
def test_trainers_of_one_machine_share_its_cores(
    trainers: str | None, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if trainers is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", trainers)
    assert cores() == r1_zero().n_workers == share
    assert r1_zero(n_workers=5).n_workers == 5


@pytest.mark.parametrize(
    ("attention", "packed", "cuda", "flash", "found"),
    [
        (None, True, True, True, "flash_attention_2"),
        (None, True, True, False, "flex_attention"),
        (None, False, True, True, None),
        (None, True, False, False, None),
        ("eager", True, True, True, "eager"),
    ],
)
def test_rows_of_a_pack_are_computed_by_themselves_on_a_gpu(
    attention: str | None, *, packed: bool, cuda: bool, flash: bool, found: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("distill.sft.find_spec", lambda _: object() if flash else None)
    student = Student(base="b", template="qwen", max_length=8, attention=attention, trl={})
    assert attention_for(student, packed=packed, cuda=cuda) == found


def test_processes_that_do_not_prepare_wait_for_the_file_and_for_nothing_else(
    tmp_path: Path,
) -> None:
    waiting = threading.Thread(
        target=wait_for, args=(tmp_path,), kwargs={"poll_s": 0.01}, daemon=True
    )
    waiting.start()
    (tmp_path / "tokens-00000.bin").write_bytes(b"")
    waiting.join(0.05)
    assert waiting.is_alive()
    (tmp_path / "prepared.json").write_text("{}")
    waiting.join(5)
    assert not waiting.is_alive()
