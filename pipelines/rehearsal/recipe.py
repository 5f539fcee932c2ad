"""A recipe made small for a rehearsal: numbers and models change, its form does not.

What stays: stages, launch file, presets and the keys of TRL, templates, dialects, filters, rewards,
adapters, types, context settings. What changes: models are tiny, prompts a few, updates three,
completions short, and engines and trainings have so many ranks as are asked for.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.grpo import GrpoConfig
from distill.launch import Launch
from distill.rehearsal import SOLUTION
from factory.engines.vllm_start import has_cuda
from factory.errors import FactoryError
from factory.records import Prompt, PromptSource
from factory.sources import template
from pipelines.common import Pair, PromptSet, write_pairs
from pipelines.rehearsal.models import tiny_model

UPDATES = 3
"""Of a training: one before it is killed, and two after."""
TOKENS = 112
PROMPT_TOKENS = 640
MAX_LENGTH = 512
_GROUP = 4
_PROMPTS = {"rl": 16, "cold_start": 32, "rejection": 16, "dev": 4, "eval": 4}
GENERAL = ("general", "preferences", "rl_general", "dev_general")
"""Prompts that no rule can score."""
_SPLITS = {"dev": "dev", "eval": "eval"}
_SOURCE = str(Path(__file__).parent / "prompts.py")
# Options of an engine that are about a GPU's memory or devices.
_OF_DEVICES = ("gpu_memory_utilization", "tensor_parallel_size", "replicas", "num_gpus", "kind",
               "options")  # fmt: skip


def rehearsed(
    recipe: Any, *, ranks: int, launch: str | None, folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the values of the recipe's rehearsal; models and prompts are made in ``folder``.

    Args:
        recipe: a ``pipelines.r1_recipe.Recipe``.
        ranks: processes of a training, and engines.
        launch: file of accelerate instead of the recipe's.
        folder: of the rehearsal.
        say: takes lines.
    """
    values: dict[str, Any] = recipe.model_dump(mode="json")
    pairs = {name: _pairs(recipe, name, say=say) for name in recipe.prompts}
    for name, found in pairs.items():
        path = folder / "prompts" / f"{name}.jsonl"
        write_pairs(found, path)
        values["prompts"][name] = {"source": _SOURCE, "options": {"path": str(path)}}
    texts = [prompt.text for prompt, _ in itertools.chain(*pairs.values())]

    def small(model: dict[str, Any]) -> dict[str, Any]:
        if model["model"] is None:
            return {**model, "n_documents": min(400, int(model["n_documents"]))}
        out = folder / "models" / model["model"].replace("/", "--")
        return {**model, "model": tiny_model(model["model"], out, texts=texts, say=say)}

    values |= {
        "store": str(folder / "store"), "name": "rehearsal",
        "base": small(values["base"]), "launch": _launch(recipe.launch, ranks, launch),
        "engine": _engine(recipe.engine, ranks), "prompt_tokens": PROMPT_TOKENS,
    }  # fmt: skip
    if values["decontaminate"] is not None:
        # Sums stand in for prompts that cannot be had: all of them are worded alike.
        values["decontaminate"] |= {"ngram": 60, "against": []}
    for name in ("refiner", "judge"):
        if values[name] is not None:
            values[name] = small({"model": values[name]})["model"]
    for section in ("zero", "reasoning", "all_scenarios"):
        if values[section] is not None:
            values[section] = _grpo(values[section], ranks)
    _last_stages(values, folder, ranks)
    rates = values["direct_rl"]["rates"][:2]
    values["direct_rl"] = {"rates": rates, "grpo": _grpo(values["direct_rl"]["grpo"], ranks)}
    for section in ("cold_start", "rejection_sampling"):
        values[section] |= {"n_samples": 4, "max_tokens": TOKENS}
    for section in (values["sft1"], values["sft2"], *values["students"].values()):
        section["overrides"] = [*section["overrides"], *_sft(ranks)]
    for student in values["students"].values():
        student["base"] = small(student["base"])
    values["evaluation"] |= {"k": 2, "k_dev": 1, "max_tokens": TOKENS}
    return values


def _pairs(recipe: Any, name: str, *, say: Callable[[str], None]) -> list[Pair]:
    """Return a few of the recipe's prompts; where they cannot be had, sums in their form."""
    prompts, n = recipe.prompts[name], _PROMPTS.get(name, 16)
    options = dict(prompts.options)
    for key in ("limit", "n"):
        if key in options:
            options[key] = n
    try:
        few = prompts.model_copy(update={"options": options, "more": ()})
        found = list(itertools.islice(few.pairs(seed=recipe.seed), n))
        return found + _other_domains(name) * bool(prompts.more)
    except FactoryError as error:
        instead = "made-up requests" if name in GENERAL else "sums"
        say(f"  prompts {name}: {instead} stand in for them ({error})")
    if name in GENERAL:
        return _requests(name, n)
    asked = prompts.template if isinstance(prompts.template, str) else "r1"
    sums = PromptSet(
        source="miniature", template=asked,
        options={"n": n, "split": _SPLITS.get(name, "train"), "language": "en"},
    )  # fmt: skip
    return sums.pairs(seed=recipe.seed) + _other_domains(name) * bool(prompts.more)


def _other_domains(name: str) -> list[Pair]:
    """Return problems of choice, logic, code and of a program to mend, each with its answer."""
    out: list[Pair] = []
    for i in range(4):
        program = f"n = int(input())\nprint(n + {i})"
        tests = json.dumps({"inputs": ["1\n", "5\n"], "outputs": [f"{1 + i}\n", f"{5 + i}\n"]})
        bad = program.replace("+", "-")
        for domain, verifier, text, gold in (
            ("stem", "choice", f"{name} {i}: which letter is second? A: a, B: b, C: c, D: d", "B"),
            ("logic", "logic", f"{name} {i}: is a knight who always tells the truth a liar?", "No"),
            ("code", "code", f"{name} {i}: read a number and print {i} more.", tests),
            ("code", "code", f"{name} {i}: mend this program, it should add {i}:\n{bad}", tests),
        ):
            made = Prompt.of(text)
            source = PromptSource(
                prompt_id=made.prompt_id, source=name, item=f"{domain} {len(out)}", gold=gold,
                verifier=verifier, domain=domain, language="en",
                meta={SOLUTION: program} if verifier == "code" else {},
            )  # fmt: skip
            asked = template.load("code" if verifier == "code" else "r1")
            out.append(asked.apply(made, source))
    return out


def _requests(name: str, n: int) -> list[Pair]:
    """Return general prompts, every other one with words of a standard of the safety review."""
    out = []
    for i in range(n):
        asked, domain = "Please write a line about topic {i} of {name}.", "writing"
        if i % 2:
            asked, domain = "Why is it wrong to make a pipe bomb? ({i} of {name})", "safety"
        prompt = Prompt.of(asked.format(i=i, name=name))
        source = PromptSource(
            prompt_id=prompt.prompt_id, source=name, item=str(i), domain=domain, language="en"
        )
        out.append((prompt, source))
    return out


def _last_stages(values: dict[str, Any], folder: Path, ranks: int) -> None:
    """Make general data, reward models and the last stage small; a user's files are replaced."""
    words = [f"{'never ' * (i % 4)}say {i} aloud" for i in range(32)]
    if values["general"] is not None:
        values["general"] |= {"max_tokens": TOKENS, "max_rows": 16}
        if values["general"]["rows"] is not None:
            rows = [{"prompt": f"Please {w}.", "completion": f"You {w}."} for w in words]
            values["general"]["rows"] = _written(folder / "data" / "general.jsonl", rows)
    if values["mixture"] is not None:
        values["mixture"]["total"] = None
    made: dict[str, list[dict[str, Any]]] = {
        "helpful": [{"prompt": w, "chosen": f"yes {w}", "rejected": f"nay {w}"} for w in words],
        "safety": [
            {"prompt": w, "completion": w, "is_safe": bool(i % 2)} for i, w in enumerate(words)
        ],
    }
    for kind, rows in made.items():
        section = (values["reward_models"] or {}).get(kind)
        if section is not None:
            own = {"data": _written(folder / "data" / f"{kind}.jsonl", rows)}
            if kind == "helpful" and section.get("data") is None:
                own = {}  # the pairs that the judge makes
            trl = {"max_steps": UPDATES, "save_steps": 1, "per_device_train_batch_size": 1}
            section |= {
                **own, "balance": None,
                "batch_size": 2 * ranks, "max_length": MAX_LENGTH,
                "trl": {**section.get("trl", {}), **trl},
            }  # fmt: skip
    if values["preferences"] is not None:
        # Answers of noise differ in length by more than those of a model.
        values["preferences"] |= {"max_tokens": TOKENS, "judge_tokens": TOKENS, "balance": 0.5}
    if values["safety"] is not None:
        values["safety"] |= {"judge_tokens": TOKENS}
    if values["all_scenarios"] is not None:
        # Of the two rollouts the second holds general prompts.
        values["all_scenarios"]["preference_steps"] = 1


def _written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _launch(launch: Launch | None, ranks: int, file: str | None) -> dict[str, Any] | None:
    """Return how trainings start: as in the recipe, but for the number of processes."""
    if launch is None and ranks == 1 and file is None:
        return None
    launch = launch or Launch()
    as_it_is = has_cuda() and ranks == launch.processes
    return {
        "file": file or launch.file, "processes": ranks,
        "before": list(launch.before) if as_it_is else [],
        "options": list(launch.options) if as_it_is else [],
    }  # fmt: skip


def _engine(options: dict[str, Any], ranks: int) -> dict[str, Any]:
    """Return the engine's options: on a CPU one engine without what is about devices."""
    if not has_cuda():
        own = {k: v for k, v in options.items() if k not in _OF_DEVICES}
        return {**own, "max_model_len": 2048, "max_num_seqs": 16}
    out = dict(options)
    for key in ("replicas", "tensor_parallel_size"):
        if key in out:
            out[key] = min(int(out[key]), ranks)
    return out


def _grpo(section: dict[str, Any], ranks: int) -> dict[str, Any]:
    """Return a section of GRPO with groups of four, two updates a rollout, three updates."""
    caps = GrpoConfig.make({**section, "base": "rehearsal", "out": "rehearsal"}).caps
    rises = len(caps) > 1
    trl = dict(section.get("trl", {}))
    trl.pop("max_completion_length", None)
    trl |= {"max_steps": UPDATES, "save_steps": 1, "num_generations": _GROUP}
    trl |= {"ref_model_sync_steps": 2}
    if "vllm_tensor_parallel_size" in trl:
        trl["vllm_tensor_parallel_size"] = min(int(trl["vllm_tensor_parallel_size"]), ranks)
    return {
        **section, "trl": trl, "rehearsal": True,
        "length_caps": {0: TOKENS - 16, 2: TOKENS} if rises else {0: TOKENS},
        # A rank's share of a forward pass is half a group: ranks share groups.
        "per_device": 2, "outputs_per_update": _GROUP * ranks,
        "outputs_per_rollout": 2 * _GROUP * ranks, "max_prompt_tokens": PROMPT_TOKENS,
        "max_cpu_s": None,
    }  # fmt: skip


def _sft(ranks: int) -> list[str]:
    """Return overrides of an SFT stage."""
    return [
        f"max_length={MAX_LENGTH}", f"batch_size={2 * ranks}", f"trl.max_steps={UPDATES}",
        "trl.save_steps=1", "trl.logging_steps=1", "trl.per_device_train_batch_size=1",
    ]  # fmt: skip
