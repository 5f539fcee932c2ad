"""What each stage of a recipe needs in memory and on disk, held against the recipe's devices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distill.grpo import GrpoConfig, trl_values
from distill.memory import (
    GIB,
    LIBRARIES,
    Memory,
    Shape,
    Training,
    fits_engine,
    sampling,
    shape_of,
    training,
    weight_bytes,
)
from distill.reward_model import DEFAULTS, RewardModelConfig
from distill.student import context_of, load_student
from factory import model_files
from factory.engines.vllm_cpu import SLOTS
from factory.errors import UsageError
from pipelines.common import ModelOf
from pipelines.r1_plan import stages
from pipelines.rehearsal.families import known
from pipelines.safety_review import MAX_REVIEWED_TOKENS

_OF_ZERO = ("zero", "control", "zero_language")
_ACTIVATIONS = "lower per_device or the lengths (max_length, length_caps)"
_STATE = "divide the weights (launch.file: fsdp2-sharded, more processes), or train adapters (lora)"
_SHARE = "sleep the engine (trl.vllm_enable_sleep_mode), or lower trl.vllm_gpu_memory_utilization"
_TRACE_BYTES = 2.0
"""Of a token in the store, verdicts and scores included; text alone takes 1.4 (zstd, level 3)."""
_ENGINE = "raise the engine's share of the device or tensor_parallel_size, or shorten the answers"


@dataclass(frozen=True, slots=True)
class Need:
    """A training stage on one device.

    Attributes:
        stage: name, and of which student.
        memory: by what holds it.
        engine: GiB of vLLM beside the trainer at the worst moment.
        peak: GiB in all at the worst moment, libraries included.
        change: what to change where it does not fit; None: it fits.
    """

    stage: str
    memory: Memory
    engine: float
    peak: float
    change: str | None


@dataclass(frozen=True, slots=True)
class Sampler:
    """An engine of a sampling stage on one device.

    Attributes:
        stage: name, and of whose model.
        memory: of the weights, and of the cache that fills what is left of the engine's share.
        longest: tokens of the longest prompt and answer.
        at_once: sequences of that length that the cache holds; what comes beyond it waits.
        disk: GiB that the traces of the stage take in the store.
        change: what to change where it does not fit; None: it fits.
    """

    stage: str
    memory: Memory
    longest: int
    at_once: int
    disk: float
    change: str | None


def samplers(recipe: Any, only: tuple[str, ...]) -> Iterator[Sampler]:
    """Yield the engines of a recipe's sampling stages; models of unknown shape are left out.

    Args:
        recipe: of a scale, with ``plan.gpu_gib``.
        only: stages.
    """
    prompt, cold, general = recipe.prompt_tokens, recipe.cold_start, recipe.general
    drawn = {planned.stage: planned.sampled for planned in stages(recipe)}
    base, refiner, judge = recipe.base, ModelOf(model=recipe.refiner), ModelOf(model=recipe.judge)
    asked: list[tuple[str, ModelOf, int, float]] = []
    if "cold_start" in only:
        asked.append(("cold_start", base, cold.max_tokens, drawn["cold_start"]))
        # It reads a draft and writes as much.
        asked.append(("cold_start refiner", refiner, 2 * cold.max_tokens, 0.0))
    if "rejection_sampling" in only:
        n, tokens = recipe.rejection_sampling.max_tokens, drawn["rejection_sampling"]
        asked.append(("rejection_sampling", base, n, tokens))
        if (judging := recipe.rejection_sampling.judging) is not None:
            read = n + prompt + judging.max_tokens
            asked.append(("rejection_sampling judge", judge, read, 0.0))
    if "general" in only and general is not None and general.rows is None:
        asked.append(("general", refiner, general.max_tokens, drawn["general"]))
    if "safety_review" in only and recipe.safety is not None and recipe.judge is not None:
        read = recipe.safety.judge_tokens + MAX_REVIEWED_TOKENS - prompt
        asked.append(("safety_review judge", judge, read, 0.0))
    if "preferences" in only and (pairs := recipe.preferences) is not None:
        judged = 2 * pairs.max_tokens + prompt + pairs.judge_tokens
        asked.append(("preferences", base, pairs.max_tokens, drawn["preferences"]))
        asked.append(("preferences judge", judge, judged, 0.0))
    if "evaluate" in only:
        n = recipe.evaluation.max_tokens
        asked.append(("evaluate", base, n, drawn["evaluate"]))
        asked += [(f"evaluate {name}", s.base, n, 0.0) for name, s in recipe.students.items()]
    for stage, model, n, tokens in asked:
        shape = shape_of(model.model or "")
        if shape is not None:
            # An engine is never started with more than the model's context.
            longest = min(n + prompt, _context(model) or n + prompt)
            yield _sampler(
                recipe, stage, str(model.model), shape, longest=longest, tokens=tokens
            )  # fmt: skip


def _context(model: ModelOf) -> int:
    """Return a model's context in tokens, without asking the hub; 0: not known."""
    name = str(model.model)
    if model.context is not None:
        return model.context
    if model_files.is_local(name):
        return context_of(name)
    try:
        return known(name).context
    except UsageError:
        return 0


def _sampler(
    recipe: Any, stage: str, model: str, shape: Shape, *, longest: int, tokens: float
) -> Sampler:
    options = {**recipe.engine, **recipe.engine.get("options", {})}
    # As ``pipelines.common.fitting``: the heads decide how far a model can be divided.
    parallel = math.gcd(int(options.get("tensor_parallel_size", 1)), shape.heads)
    how: dict[str, Any] = {
        "longest": longest, "share": float(options.get("gpu_memory_utilization", 0.9)),
        "device_gib": recipe.plan.gpu_gib, "parallel": parallel,
        "per_weight": weight_bytes(model),
    }  # fmt: skip
    memory = sampling(shape, **how)
    one = shape.cache * longest / parallel / GIB
    change = None if fits_engine(shape, **how) else _ENGINE
    at_once = min(int(memory.cache / one), int(options.get("max_num_seqs", SLOTS)))
    at_once = at_once if change is None else 0
    return Sampler(stage, memory, longest, at_once, tokens * _TRACE_BYTES / GIB, change)


def needs(recipe: Any, only: tuple[str, ...]) -> Iterator[Need]:
    """Yield what the trainings of a recipe need; those of models of unknown shape are left out.

    Args:
        recipe: of a scale, with ``plan.gpu_gib``.
        only: stages.
    """
    base = shape_of(recipe.base.model or "")
    if base is not None:
        for stage in ("zero", "control", "zero_language", "reasoning", "all_scenarios"):
            section = getattr(recipe, stage) if stage in ("reasoning", "all_scenarios") else None
            section = section or (recipe.zero if stage in _OF_ZERO else None)
            if stage in only and section is not None:
                yield _grpo(recipe, stage, section, base)
        for stage in ("sft1", "sft2"):
            if stage in only:
                yield _sft(recipe, stage, getattr(recipe, stage), base)
        if "reward_models" in only and recipe.reward_models is not None:
            for kind, section in recipe.reward_models.sections.items():
                yield _reward_model(recipe, kind, section, base)
    for name, student in recipe.students.items():
        shape = shape_of(student.base.model or "")
        if shape is None:
            continue
        if "distill" in only:
            yield _sft(recipe, f"distill {name}", student, shape)
        if "direct_rl" in only:
            yield _grpo(recipe, f"direct_rl {name}", recipe.direct_rl.grpo, shape)


def _processes(recipe: Any) -> tuple[int, int]:
    """Return how many train together, and over how many of them weights are divided."""
    if recipe.launch is None:
        return 1, 1
    n = int(recipe.launch.processes)
    return n, n if "fsdp" in recipe.launch.file else 1


def _bytes(dtype: str) -> int:
    return 2 if dtype in ("bfloat16", "float16") else 4


def _sft(recipe: Any, stage: str, how: Any, shape: Shape) -> Need:
    student = load_student(how.student, overrides=how.overrides, base="plan")
    processes, shards = _processes(recipe)
    at_once = int(student.trl.get("per_device_train_batch_size", 8))
    # Packs are computed row by row, unless the student file asks for masks.
    has_masks = student.attention in ("sdpa", "eager")
    memory = training(shape, Training(
        processes=processes, shards=shards, tokens=at_once * student.max_length,
        dtype_bytes=_bytes(student.dtype), rank=student.lora.r if student.lora else 0,
        mask_rows=at_once if has_masks else 0,
    ))  # fmt: skip
    peak = memory.total + LIBRARIES
    return Need(stage, memory, 0.0, peak, _change(recipe, memory, peak))


def _reward_model(recipe: Any, kind: str, section: dict[str, Any], shape: Shape) -> Need:
    """Count a reward model as SFT of its texts: its head of one output is less than is counted."""
    config = RewardModelConfig.make({"data": "plan", **section, "base": "plan", "out": "plan"})
    processes, shards = _processes(recipe)
    at_once = int({**DEFAULTS, **config.trl}["per_device_train_batch_size"])
    texts = at_once * (2 if kind == "helpful" else 1)
    memory = training(shape, Training(
        processes=processes, shards=shards, tokens=texts * config.max_length,
        dtype_bytes=_bytes(config.dtype), rank=config.lora.r if config.lora else 0,
        is_checkpointed=bool(config.trl.get("gradient_checkpointing", True)), mask_rows=texts,
    ))  # fmt: skip
    peak = memory.total + LIBRARIES
    return Need(f"{kind} model", memory, 0.0, peak, _change(recipe, memory, peak))


def _grpo(recipe: Any, stage: str, section: dict[str, Any], shape: Shape) -> Need:
    config = GrpoConfig.make({**section, "base": "plan", "out": "plan"}, where=stage)
    values = trl_values(config)
    processes, shards = _processes(recipe)
    memory = training(shape, Training(
        processes=processes, shards=shards, tokens=config.per_device * config.longest,
        dtype_bytes=_bytes(config.dtype), rank=config.lora.r if config.lora else 0,
        has_reference=config.lora is None and float(values.get("beta", 0.0)) > 0,
        # Rows are filled up to the longest: without FlashAttention each has a mask.
        mask_rows=config.per_device,
    ))  # fmt: skip
    share = float(values.get("vllm_gpu_memory_utilization", 0.3))
    parallel = int(values.get("vllm_tensor_parallel_size", 1))
    engine, device = share * recipe.plan.gpu_gib, recipe.plan.gpu_gib
    peak = memory.total + engine + LIBRARIES
    if values.get("vllm_enable_sleep_mode"):
        # Asleep while the weights are trained; awake beside what stays between two updates.
        resting = memory.weights + memory.optimiser + memory.reference
        peak = max(memory.total, resting + engine) + LIBRARIES
    if stage == "all_scenarios" and recipe.reward_models is not None:
        # Each rank has the reward models, in bf16 and one at a time, while it is paid.
        held = memory.weights + memory.optimiser + memory.reference
        awake = 0.0 if values.get("vllm_enable_sleep_mode") else engine
        peak = max(peak, held + awake + 2 * shape.n / 2**30 + LIBRARIES)
    change = _change(recipe, memory, peak)
    if change is None and not fits_engine(
        shape, longest=config.longest, share=share, device_gib=device, parallel=parallel
    ):
        change = _ENGINE
    if change is not None and memory.total + LIBRARIES <= device < peak:
        change = _SHARE
    return Need(stage, memory, engine, peak, change)


def _change(recipe: Any, memory: Memory, peak: float) -> str | None:
    if peak <= recipe.plan.gpu_gib:
        return None
    return _ACTIVATIONS if memory.activations > memory.total / 2 else _STATE


def memory_lines(recipe: Any, only: tuple[str, ...]) -> Iterator[str]:
    """Yield the table of memory; nothing where the recipe does not say what its devices have."""
    if recipe.plan.gpu_gib is None:
        return
    yield (
        f"GiB of one device (it has {recipe.plan.gpu_gib:g}); disk of the stage, its model and "
        "checkpoints together"
    )
    names = ("weights", "gradients", "optimiser", "activations", "reference")
    yield f"{'stage':22} {' '.join(f'{n:>11}' for n in names)} {'vLLM':>7} {'peak':>7} {'disk':>7}"
    for need in needs(recipe, only):
        parts = " ".join(f"{getattr(need.memory, n):11,.1f}" for n in names)
        fit = "" if need.change is None else "  does not fit"
        yield (
            f"{need.stage:22} {parts} {need.engine:7,.1f} {need.peak:7,.1f} "
            f"{need.memory.disk:7,.0f}{fit}"
        )
    found = list(samplers(recipe, only))
    if not found:
        return
    yield (
        "GiB of one device that samples: weights, and a cache of keys and values in what is left "
        "of the engine's share; disk: traces in the store"
    )
    yield f"{'stage':22} {'weights':>11} {'cache':>11} {'longest':>9} {'at once':>9} {'disk':>7}"
    for engine in found:
        fit = "" if engine.change is None else "  does not fit"
        yield (
            f"{engine.stage:22} {engine.memory.weights:11,.1f} {engine.memory.cache:11,.1f} "
            f"{engine.longest:9,} {engine.at_once:9,} {engine.disk:7,.2f}{fit}"
        )


def refusals(recipe: Any, only: tuple[str, ...]) -> list[str]:
    """Return the stages that do not fit, each with what to change."""
    if recipe.plan.gpu_gib is None:
        return []
    device = recipe.plan.gpu_gib
    trained = [
        f"{n.stage} needs {n.peak:.0f} of {device:g} GiB: {n.change}"
        for n in needs(recipe, only) if n.change is not None
    ]  # fmt: skip
    return trained + [
        f"{s.stage}: weights of {s.memory.weights:.0f} GiB and a sequence of {s.longest:,} tokens "
        f"do not fit into the engine's share of {device:g} GiB: {s.change}"
        for s in samplers(recipe, only) if s.change is not None
    ]  # fmt: skip
