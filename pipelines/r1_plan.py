"""The plan of a recipe: every stage, its inputs, tokens and estimated hours; nothing is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Planned:
    """A stage: what it reads, tokens it samples and tokens it trains on."""

    stage: str
    inputs: str
    sampled: float = 0.0
    trained: float = 0.0
    relative_size: float = 1.0
    """Parameters over those of the base: hours are scaled by it."""


def stages(recipe: Any) -> Iterator[Planned]:
    """Yield the stages of a recipe with their tokens.

    Counts are upper bounds where a filter decides (rows kept by rejection sampling).
    """
    from distill.grpo import GrpoConfig, trl_values
    from distill.presets import preset

    mean = recipe.plan.mean_completion_tokens

    def size(name: str) -> int:
        options = recipe.prompts[name].options
        return int(options.get("n") or options.get("limit") or 0)

    def relative(student: Any) -> float:
        own, of_base = student.base.n_parameters, recipe.base.n_parameters
        return float(own / of_base) if own and of_base else 1.0

    def rl(stage: str, section: dict[str, Any], start: str, relative_size: float = 1.0) -> Planned:
        config = GrpoConfig.make({**section, "base": start, "out": "plan"}, where=stage)
        values = trl_values(config)
        outputs = config.outputs_per_update or preset(config.preset).outputs_per_update.value
        tokens = float(values["max_steps"]) * outputs * mean
        return Planned(stage, f"{start}, {size('rl'):,} prompts", tokens, tokens, relative_size)

    base = (
        recipe.base.model or f"{recipe.base.shape} grown on {recipe.base.n_documents:,} documents"
    )
    yield Planned("bases", base)
    yield rl("zero", recipe.zero, "base")
    yield rl("control", recipe.zero, "base")
    yield rl("zero_language", recipe.zero, "base")
    cold = recipe.cold_start
    drawn = size("cold_start") * cold.n_samples
    refine = 2 * size("cold_start") * cold.cap_per_prompt if cold.refiner == "model" else 0
    yield Planned("cold_start", f"zero, {drawn:,} samples", (drawn + refine) * mean)
    rows = min(size("cold_start") * cold.cap_per_prompt, cold.max_rows or 10**12)
    yield Planned("sft1", f"base, at most {rows:,} rows", 0, rows * mean * epochs(recipe.sft1))
    yield rl("reasoning", recipe.reasoning, "dev1")
    sampled = size("rejection") * recipe.rejection_sampling.n_samples
    yield Planned("rejection_sampling", f"dev2, {sampled:,} samples", sampled * mean)
    if recipe.general is not None:
        wanted = recipe.general.max_rows or (size("general") if "general" in recipe.prompts else 0)
        sampled = 0 if recipe.general.rows is not None else wanted
        yield Planned("general", f"refiner, at most {wanted:,} rows", sampled * mean)
    values = recipe.rejection_sampling
    rows = min(size("rejection") * values.cap_per_prompt, values.max_rows or 10**12)
    yield Planned("sft2", f"base, at most {rows:,} rows", 0, rows * mean * epochs(recipe.sft2))
    if recipe.reward_models is not None:
        kinds = ", ".join(recipe.reward_models.sections)
        yield Planned("reward_models", f"dev3: {kinds}; their rows are not counted here")
    if recipe.all_scenarios is not None:
        yield rl("all_scenarios", recipe.all_scenarios, "dev3")
    for name, student in recipe.students.items():
        start = student.base.model or student.base.shape
        yield Planned(
            f"distill {name}", f"{start}, at most {rows:,} rows", 0,
            rows * mean * epochs(student), relative(student),
        )  # fmt: skip
        for rate in recipe.direct_rl.rates:
            yield rl(
                f"direct_rl {name} {rate:g}",
                recipe.direct_rl.grpo,
                f"{name} base",
                relative(student),
            )
    models = 7 + 3 * len(recipe.students)
    answers = models * size("eval") * recipe.evaluation.k
    yield Planned("evaluate", f"{models} models, {answers:,} answers", answers * mean)


def epochs(stage: Any) -> float:
    """Return the epochs of an SFT stage's student file with its overrides."""
    from distill.student import load_student

    student = load_student(stage.student, overrides=stage.overrides, base="plan")
    return float(student.trl.get("num_train_epochs", 3))


def plan_lines(recipe: Any, only: tuple[str, ...]) -> Iterator[str]:
    """Yield the plan as a table."""
    figures = recipe.plan
    yield (
        f"plan of {recipe.name}: {figures.mean_completion_tokens:,} tokens per completion, "
        f"{figures.generate_tokens_per_gpu_s:,.0f} sampled and "
        f"{figures.train_tokens_per_gpu_s:,.0f} trained tokens/s per device (assumed)"
    )
    yield f"{'stage':28} {'sampled tokens':>16} {'trained tokens':>16} {figures.unit:>10}  inputs"
    total = 0.0
    for stage in stages(recipe):
        if stage.stage.split()[0] not in only:
            continue
        seconds = stage.sampled / figures.generate_tokens_per_gpu_s
        seconds += stage.trained / figures.train_tokens_per_gpu_s
        seconds *= stage.relative_size
        total += seconds / 3600
        yield (
            f"{stage.stage:28} {stage.sampled:16,.0f} {stage.trained:16,.0f} "
            f"{seconds / 3600:10,.2f}  {stage.inputs}"
        )
    yield f"{'total':28} {'':16} {'':16} {total:10,.2f}  nothing was started"
