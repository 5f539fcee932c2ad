"""Rehearsals: models keep their family, recipes their form, and an empty cell is a failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from distill.grpo import GrpoConfig, trl_values
from distill.grpo.reward import Payer
from distill.rehearsal import SHARE, is_replaced, right_answer
from distill.student import load_student
from distill.templates import template_for
from factory.engines.replay import Engine
from factory.errors import FactoryError, UsageError
from factory.records import Prompt, PromptSource, Sampling
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.store import Store
from pipelines.r1_recipe import STAGES, Recipe
from pipelines.rehearsal.drive import moment, planned_kills, rehearse
from pipelines.rehearsal.engine import Rehearsing
from pipelines.rehearsal.families import known
from pipelines.rehearsal.models import family_tokenizer
from pipelines.rehearsal.recipe import GENERAL, rehearsed
from pipelines.rehearsal.table import Row, names_of, rows_of, table_lines

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "pipelines" / "recipes"


@pytest.mark.parametrize(
    ("name", "family", "is_chat", "context", "begins", "end"),
    [
        ("Qwen/Qwen2.5-7B", "qwen2", False, 32_768, None, "<|endoftext|>"),
        ("Qwen/Qwen2.5-Math-1.5B@abc", "qwen2", False, 4096, None, "<|endoftext|>"),
        ("Qwen/Qwen2.5-32B-Instruct-AWQ", "qwen2", True, 32_768, None, "<|im_end|>"),
        ("Qwen/Qwen3-8B", "qwen3", True, 32_768, None, "<|im_end|>"),
        ("meta-llama/Llama-3.1-8B", "llama3", False, 131_072, "<|begin_of_text|>",
         "<|end_of_text|>"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama3", True, 131_072, "<|begin_of_text|>",
         "<|eot_id|>"),
        ("deepseek-ai/DeepSeek-V3", "deepseek", False, 163_840, "<｜begin▁of▁sentence｜>",
         "<｜end▁of▁sentence｜>"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "qwen2", True, 32_768, None, "<|im_end|>"),
    ],
)  # fmt: skip
def test_a_tiny_model_has_its_familys_tokens_and_begins_texts_as_the_family_does(
    name: str, family: str, is_chat: bool, context: int, begins: str | None, end: str
) -> None:
    found = known(name)
    assert (found.family.name, found.is_chat, found.context) == (family, is_chat, context)
    tokenizer = family_tokenizer(found.family, is_chat=is_chat, texts=["How many pens now?"])
    first = tokenizer("How many")["input_ids"][0]
    assert (first == tokenizer.bos_token_id) is (begins is not None)
    assert (tokenizer.bos_token, tokenizer.eos_token) == (begins, end)
    text = "How many pens? <think>\n二\n</think>\n\n\\boxed{42}"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    if family in ("qwen2", "qwen3", "llama3"):
        # The templates that students are trained with find their tokens.
        template_for(tokenizer, "llama" if family == "llama3" else "qwen")
    # Llama's base models come without a chat template.
    assert (tokenizer.chat_template is None) is (family == "llama3" and not is_chat)


def test_a_name_of_no_known_family_is_said() -> None:
    with pytest.raises(UsageError, match="no family is known for the model 'own/thing'"):
        known("own/thing")


def source(gold: str | None, verifier: str = "math") -> PromptSource:
    return PromptSource(prompt_id="p", source="s", item="0", gold=gold, verifier=verifier)


@pytest.mark.parametrize("dialect", ["think", "think_answer", "harmony", "mistral"])
@pytest.mark.parametrize(("gold", "verifier"), [("\\frac{1}{2}", "math"), ("B", "choice")])
def test_a_right_answer_passes_its_verifier_and_the_format(
    dialect: str, gold: str, verifier: str
) -> None:
    text = right_answer(source(gold, verifier), dialect=dialect)
    assert text is not None
    asked = PromptSource(prompt_id="p", source="s", item="0", gold=gold, verifier=verifier,
                         options={"mode": "boxed"})  # fmt: skip
    payer = Payer({"accuracy": 1.0, "format": 1.0}, dialect=dialect, n_workers=1)
    (paid,) = payer.rewards([(Prompt.of("q"), asked)], [text])
    assert (paid.parts["accuracy"], paid.parts["format"]) == (1.0, 1.0)


@pytest.mark.slow
def test_a_rehearsal_has_rows_of_every_domain_and_their_right_answers_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = Recipe.load(RECIPES / "node.yaml")
    values = rehearsed(recipe, ranks=2, launch=None, folder=tmp_path, say=lambda _: None)
    pairs = Recipe.make(values).prompts["rejection"].pairs()
    assert {s.domain for _, s in pairs} == {"arithmetic", "stem", "logic", "code"}
    one = list({s.domain: (p, s) for p, s in pairs}.values())
    texts = [right_answer(s, dialect="think") or "" for _, s in one]
    payer = Payer({"accuracy": 1.0, "format": 1.0}, n_workers=1)
    assert [r.total for r in payer.rewards(one, texts)] == [2.0] * 4


def test_what_no_gold_tells_is_left_to_the_model() -> None:
    assert right_answer(source(None), dialect="think") is None
    assert right_answer(source("[]", "code"), dialect="think") is None
    with_prefill = right_answer(source("4"), dialect="think", prefill="<think>\n")
    assert with_prefill is not None
    assert not with_prefill.startswith("<think>")


def test_a_quarter_of_an_engines_answers_is_replaced_and_marked(tmp_path: Path) -> None:
    pairs, answers = [], {}
    for i in range(8):
        prompt = Prompt.of(f"Question {i}?")
        pairs.append((prompt, PromptSource(prompt_id=prompt.prompt_id, source="t", item=str(i),
                                           gold=str(i), verifier="math")))  # fmt: skip
        for k in range(4):
            answers[f"{prompt.prompt_id}:{k}"] = {"completion": "noise", "n_completion_tokens": 1}
    engine = Rehearsing(Engine("zero", answers=answers), pairs, {"zero": "think_answer"})
    store = Store(tmp_path / "data")
    generate(store, pairs, engine, sampling=Sampling(temperature=1.0, max_tokens=64),
             policy=Policy(n=4))  # fmt: skip
    traces = store.table("traces").read(["completion", "meta", "sample_index", "prompt_id"])
    marked = traces.filter(pl.col("meta").is_not_null())
    assert traces.height == 32
    assert marked.height == 32 // SHARE
    assert marked["prompt_id"].n_unique() == 8
    assert all("<answer>" in text for text in marked["completion"])
    assert set(traces.filter(pl.col("meta").is_null())["completion"]) == {"noise"}


@pytest.mark.parametrize("scale", ["one-gpu", "node", "cluster"])
def test_a_rehearsed_recipe_keeps_its_form(
    scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = Recipe.load(RECIPES / f"{scale}.yaml")
    said: list[str] = []
    values = rehearsed(recipe, ranks=2, launch=None, folder=tmp_path, say=said.append)
    small = Recipe.make(values)
    assert small.launch is not None
    assert recipe.launch is not None
    assert (small.launch.file, small.launch.processes) == (recipe.launch.file, 2)
    for name in ("cold_start", "rejection_sampling"):
        assert getattr(small, name).filters == getattr(recipe, name).filters
    assert small.cold_start.refined_filters == recipe.cold_start.refined_filters
    for before, after in ((recipe.zero, small.zero), (recipe.reasoning, small.reasoning)):
        config = GrpoConfig.make({**after, "base": "b", "out": "o", "n_devices": 2})
        assert config.rehearsal
        values = trl_values(config)
        assert (values["max_steps"], values["num_generations"]) == (3, 4)
        for key in ("preset", "template", "lora", "dtype", "rewards"):
            assert after.get(key) == before.get(key)
        assert after["trl"].get("learning_rate") == before["trl"].get("learning_rate")
    for before_s, after_s in zip(recipe.students.values(), small.students.values(), strict=True):
        of = load_student(after_s.student, overrides=after_s.overrides, base="b")
        was = load_student(before_s.student, overrides=before_s.overrides, base="b")
        assert (of.template, of.lora, of.dtype) == (was.template, was.lora, was.dtype)
        assert after_s.base.context == before_s.base.context
    # Without the hub sums stand in for the prompts, and that is said; they ask for a box.
    assert sum("stand in" in line for line in said) == len(recipe.prompts)
    for name, prompts in small.prompts.items():
        pairs = prompts.pairs()
        if name in GENERAL:
            assert {s.domain for _, s in pairs if not s.gold} == {"writing", "safety"}
        else:
            assert all(s.gold for _, s in pairs)
            assert all("\\boxed{}" in p.text for p, s in pairs if s.verifier != "code")
    assert set(names_of(small, STAGES)) >= {
        "zero", "dev1", "rejection-sampling", "general", "mixture", "safety-review", "preferences",
        "helpful-model", "safety-model", "r1", "preference-gain", "evaluation",
    }  # fmt: skip


def test_rollouts_replace_one_of_each_four_samples_of_a_prompt() -> None:
    for prompt in range(5):
        assert sum(is_replaced(prompt, i) for i in range(4)) == 1


# ---- the table


@pytest.mark.parametrize(
    ("metrics", "empty"),
    [
        ({}, ["read by"]),
        ({"wrapper": "DDP"}, ["wrapper", "read by"]),
        ({"processes": 1}, ["wrapper", "read by"]),
        ({"n_rows_kept": 0}, ["rows out", "read by"]),
        ({"resumed_from": None}, ["read by", "resumed"]),
    ],
)
def test_what_a_stage_cannot_show_is_an_empty_cell(
    metrics: dict[str, Any], empty: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import save_file

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = Recipe.load(RECIPES / "node.yaml", overrides=[f"store={tmp_path}/data", "name=r",
                                                           "launch.processes=2"])  # fmt: skip
    Store(tmp_path / "data")
    folder = tmp_path / "data" / "models" / "r" / "dev1"
    folder.mkdir(parents=True)
    import numpy as np

    save_file({"w": np.ones(2, dtype=np.float32)}, str(folder / "model.safetensors"))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "config.json").write_text("{}")
    own = {"processes": 2, "wrapper": "FSDP2", "n_rows": 8, "n_rows_kept": 8,
           "resumed_from": "checkpoint-1", **metrics}  # fmt: skip
    (folder / "run.json").write_text(json.dumps({"kind": "sft", "inputs": "", "metrics": own}))
    # Nobody has sampled it: transformers would have to load it, and its files are no model.
    monkeypatch.setattr("pipelines.rehearsal.table.readable", lambda _: False)
    (row,) = rows_of(recipe, {"dev1": "sft"}, {"dev1": "checkpoint-1 whole"})
    assert row.empty == empty
    assert "EMPTY" in list(table_lines([row]))[-1]


def test_a_stage_that_never_ran_shows_nothing(tmp_path: Path) -> None:
    recipe = Recipe.load(RECIPES / "node.yaml", overrides=[f"store={tmp_path}/data"])
    (row,) = rows_of(recipe, {"zero": "grpo"}, {})
    assert row == Row(stage="zero")
    assert len(row.empty) == 7


def test_a_rehearsal_that_ends_with_an_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # dev1 reads rows that no stage has made.
    recipe = Recipe.load(RECIPES / "one-gpu.yaml", overrides=["launch=null"])
    with pytest.raises(FactoryError, match="the rehearsal ended with status"):
        rehearse(recipe, only=["sft1"], ranks=1, launch=None, kills=["none"],
                 kill_kind="program", folder=tmp_path / "r", say=lambda _: None)  # fmt: skip


STAGES_OF = {"zero": "grpo", "cold-start": "cold_start", "dev1": "sft", "dev2": "grpo"}


@pytest.mark.parametrize(
    ("kills", "found"),
    [
        (["none"], {}),
        (["dev2:save", "dev1"], {"dev1": "rank", "dev2": "save"}),
        # What does not train has no ranks and saves nothing.
        (["all"], {"zero": "rank", "cold-start": "program", "dev1": "rank", "dev2": "rank"}),
        (["all", "zero:save"], {"zero": "save", "cold-start": "program", "dev1": "rank",
                                "dev2": "rank"}),
    ],
)  # fmt: skip
def test_kills_are_those_that_are_asked_for(kills: list[str], found: dict[str, str]) -> None:
    planned = planned_kills(STAGES_OF, kills, kill_kind="rank")
    assert [(k.stage, k.kind) for k in planned] == list(found.items())


@pytest.mark.parametrize(("kill", "why"), [("dev3", "no stage dev3"), ("dev1:half", "a kill is")])
def test_a_kill_that_cannot_be_is_refused(kill: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        planned_kills(STAGES_OF, [kill], kill_kind="program")


def test_a_stage_that_samples_is_killed_between_its_first_traces_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sets = [f"store={tmp_path}/data", "name=r"]
    recipe = Recipe.load(RECIPES / "one-gpu.yaml", overrides=sets)
    (kill,) = planned_kills({"cold-start": "cold_start"}, ["all"], kill_kind="program")
    store = Store(tmp_path / "data")
    row = dict.fromkeys(("trace_id", "prompt_id", "sampling_id"), 32 * "a")
    row |= {"model": "m", "revision": "1", "sample_index": 0, "completion": "c"}
    with store.table("traces").writer("before") as writer:
        writer.append([row])
        assert moment(kill, recipe) is None, "the stage has not begun"
    store.table("traces").seal()
    (tmp_path / "data" / "models" / "r" / "cold-start").mkdir(parents=True)
    assert moment(kill, recipe) is None, "those are of the stage before"
    with store.table("traces").writer("own") as writer:
        writer.append([row | {"trace_id": 32 * "b"}])
        assert moment(kill, recipe) == "samples half made"
    store.table("traces").seal()
    assert moment(kill, recipe) == "samples half made", "it has not ended"
    (tmp_path / "data" / "models" / "r" / "cold-start" / "run.json").write_text("{}")
    assert moment(kill, recipe) is None


_RANK = """
import os, sys, time
import torch.distributed as dist
from distill.devices import world
rank = int(os.environ["RANK"])
if sys.argv[1] == "fails":
    sys.exit(3) if rank else time.sleep(600)
# A device with a number is one to which torch restores no optimiser of a checkpoint.
device = str(world().device)
found = [None] * dist.get_world_size()
dist.all_gather_object(found, (rank, device, os.environ["LOCAL_WORLD_SIZE"], os.getppid()))
open(f"{sys.argv[1]}.{rank}", "w").write(str(found))
"""
_FORKS = """
import os, sys
from pipelines.rehearsal.forked import forked, waited
program = [sys.argv[1], sys.argv[2]]
assert waited(forked(program, dict(os.environ), processes=2)) == 0
print(os.getpid(), waited(forked([sys.argv[1], "fails"], dict(os.environ), processes=2)))
"""


@pytest.mark.slow
def test_forked_ranks_form_a_world_and_end_with_the_first_that_fails(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(_RANK)
    words = [sys.executable, "-c", _FORKS, str(tmp_path / "rank.py"), str(tmp_path / "said")]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, timeout=120, check=True)
    pid, status = done.stdout.split()
    assert status == "3"
    world = str([(rank, "cpu", "2", int(pid)) for rank in range(2)])
    assert [(tmp_path / f"said.{rank}").read_text() for rank in range(2)] == [world] * 2


@pytest.mark.slow
def test_one_gpu_is_rehearsed_on_two_sharded_ranks_through_a_kill(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "pipelines.r1", str(RECIPES / "one-gpu.yaml"), "--rehearse",
        "--launch", "fsdp2-sharded", "--only", "zero,cold_start,sft1,evaluate", "--kill", "dev1",
        "--set", f"store={tmp_path}/data",
    ]  # fmt: skip
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    cells = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")] for line in table}
    for stage in ("zero", "dev1"):
        assert cells[stage][4:6] == ["2", "FSDP2"]
    assert cells["dev1"][8].startswith("checkpoint-")
    assert "dev1 killed (program)" in done.stdout
    (store,) = tmp_path.glob("rehearsals/*/store")
    rollouts = Store(store).table("traces").read(["meta", "model"])
    marks = rollouts.filter(pl.col("model") == "zero")["meta"].fill_null("").to_list()
    assert any("rehearsal" in mark for mark in marks)


def test_the_last_stages_are_rehearsed_where_a_recipe_has_them(tmp_path: Path) -> None:
    prompts = {"source": "files", "options": {"paths": ["missing.jsonl"]}, "template": "r1"}
    sections = {
        "prompts.general": prompts, "prompts.rl_general": prompts,
        "general": {"rows": "missing-too.jsonl"},
        "reward_models": {"helpful": {"data": "no.jsonl", "template": "own"},
                          "safety": {"data": "no.jsonl", "template": "own", "batch_size": 64}},
        "all_scenarios": {"preset": "r1_all_scenarios", "template": "own", "per_device": 4},
    }  # fmt: skip
    sets = [f"{name}={json.dumps(value)}" for name, value in sections.items()]
    recipe = Recipe.load(RECIPES / "miniature.yaml", overrides=sets)
    values = rehearsed(recipe, ranks=1, launch=None, folder=tmp_path, say=lambda _: None)
    small = Recipe.make(values)
    found = names_of(small, STAGES)
    names = ("general", "mixture", "helpful-model", "safety-model", "r1")
    new = {n: k for n, k in found.items() if n in names}
    assert new == {"general": "general", "mixture": "mixture", "helpful-model": "reward_model",
                   "safety-model": "reward_model", "r1": "grpo"}  # fmt: skip
    assert small.all_scenarios is not None
    config = GrpoConfig.make({**small.all_scenarios, "base": "b", "out": "o"})
    assert (config.is_routed, config.last_steps, config.rehearsal) == (True, 1, True)
    kinds = [s.domain for _, s in small.prompts["rl_general"].pairs() if s.gold is None]
    assert kinds == ["writing", "safety"] * 8
    assert small.general is not None and small.reward_models is not None  # noqa: PT018
    files = [Path(m["data"]) for m in small.reward_models.sections.values()]
    for path in (small.general.rows, *files):
        assert path is not None
        assert len(path.read_text().splitlines()) == 32
    without = ["general=null", "reward_models=null", "all_scenarios=null"]
    plain = names_of(Recipe.load(RECIPES / "miniature.yaml", overrides=without), STAGES)
    assert not new.keys() & plain.keys()
