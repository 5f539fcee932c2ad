"""The plan of a recipe: every stage, its inputs, tokens and estimated hours; nothing is started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distill.memory import shape_of
from distill.runs import device_s_of
from factory.errors import ConfigError, FactoryError
from pipelines.r1_recipe import folder_of

_ASKED = 1000


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
        return int(recipe.prompts[name].size)

    def size_of(name: str) -> int:
        return size(name) if name in recipe.prompts else 0

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
        wanted = recipe.general.max_rows or size_of("general")
        sampled, of = (0, "its own set") if recipe.general.rows is not None else (wanted, "refiner")
        yield Planned("general", f"{of}, at most {wanted:,} rows", sampled * mean)
    values = recipe.rejection_sampling
    rows = min(size("rejection") * values.cap_per_prompt, values.max_rows or 10**12)
    if recipe.general is not None:
        rows += recipe.general.max_rows or size_of("general")
        rows = min(rows, (recipe.mixture and recipe.mixture.total) or rows)
        yield Planned("mixture", f"rejection_sampling, general; at most {rows:,} rows")
    if recipe.safety is not None:
        # Which rows have words of a standard nobody knows before.
        judge = recipe.judge or "words alone"
        yield Planned("safety_review", f"{rows:,} rows; {judge}, where words match: not counted")
    yield Planned("sft2", f"base, at most {rows:,} rows", 0, rows * mean * epochs(recipe.sft2))
    if (pairs := recipe.preferences) is not None:
        n = size_of("preferences") or size_of("rl_general")
        answers, judged = n * pairs.n_answers, n * pairs.n_answers // 2 * pairs.n_judgements
        yield Planned(
            "preferences", f"dev3, {answers:,} answers; judge, {judged:,} judgements",
            (answers + judged) * mean,
        )  # fmt: skip
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


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Tokens a second of one device, for models of the base's size.

    Attributes:
        sample, train, reinforce: of sampling, SFT and GRPO's training.
        said: where they are from.
    """

    sample: float
    train: float
    reinforce: float
    said: str


def rates(recipe: Any) -> Rates:
    """Return the rates to plan with: the recipe's, or those of a file of ``distill measure``.

    Raises:
        ConfigError: the file cannot be read, or lacks a rate.
    """
    figures = recipe.plan
    if figures.measured is None:
        train = figures.train_tokens_per_gpu_s
        return Rates(
            sample=figures.generate_tokens_per_gpu_s, train=train, reinforce=train, said="assumed"
        )
    try:
        found = json.loads(figures.measured.read_text(encoding="utf-8"))
        shape = shape_of(recipe.base.model or "")
        # A rate is that of so many weights: of twice as many it is half.
        n = recipe.base.n_parameters or (shape.n if shape else found["n_parameters"])
        scale = found["n_parameters"] / n
        names = ("generate", "train", "grpo")
        sample, train, reinforce = (scale * found[f"{x}_tokens_per_gpu_s"] for x in names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"plan.measured: {figures.measured}: {type(error).__name__} {error}",
            "write it with distill measure; each of its three rates is needed",
        ) from None
    said = f"measured on {found['device']} with {found['model']}"
    return Rates(sample=sample, train=train, reinforce=reinforce, said=said)


def spent_h(recipe: Any, stage: str) -> float | None:
    """Return the device-hours that a stage has spent so far; None before it began.

    Args:
        recipe: of a scale.
        stage: as ``stages`` names it.
    """
    name, _, rest = stage.partition(" ")
    folders = {
        "zero_language": "zero-language", "cold_start": "cold-start", "sft1": "dev1",
        "reasoning": "dev2", "rejection_sampling": "rejection-sampling", "sft2": "dev3",
        "distill": f"distilled-{rest}", "direct_rl": f"direct-{rest.replace(' ', '-')}",
        "all_scenarios": "r1", "evaluate": "evaluation", "safety_review": "safety-review",
    }  # fmt: skip
    names = [folders.get(name, name)]
    if name == "reward_models":
        names = [f"{kind}-model" for kind in recipe.reward_models.sections]
    seconds = sum(device_s_of(folder_of(recipe) / n) for n in names)
    return seconds / 3600 if seconds else None


def gold_lines(recipe: Any) -> Iterator[str]:
    """Yield which golds of the recipe's own files would leave every answer unscored.

    Of each file set the first thousand are read. Nothing is fetched or drawn for a plan: hub data
    sets are looked at by ``factory inspect``, and sources that draw make their golds themselves.
    """
    from factory.stages.gold_faults import count_bad

    for name, prompts in recipe.prompts.items():
        for part in (prompts, *prompts.more):
            if part.source != "files":
                continue
            most = min(int(part.options.get("limit") or _ASKED), _ASKED)
            few = part.model_copy(update={"more": (), "options": {**part.options, "limit": most}})
            try:
                pairs = few.pairs()
            except FactoryError as error:
                yield f"prompts {name}: not read: {error}"
                continue
            if bad := count_bad(pairs):
                reasons = ", ".join(f"{reason} {n:,}" for reason, n in bad.most_common())
                yield (
                    f"prompts {name}: {bad.total():,} of the first {len(pairs):,} have a bad gold, "
                    f"whose answers would all be unscored: {reasons}"
                )


def plan_lines(recipe: Any, only: tuple[str, ...]) -> Iterator[str]:
    """Yield the plan as a table, with what the stages have spent already."""
    figures, rate = recipe.plan, rates(recipe)
    yield (
        f"plan of {recipe.name}: {figures.mean_completion_tokens:,} tokens per completion, "
        f"{rate.sample:,.0f} sampled and {rate.train:,.0f} trained tokens/s per device, "
        f"{rate.reinforce:,.0f} in RL ({rate.said})"
    )
    yield (
        f"{'stage':28} {'sampled tokens':>16} {'trained tokens':>16} {figures.unit:>10} "
        f"{'spent':>10}  inputs"
    )
    total = total_spent = 0.0
    for stage in stages(recipe):
        if stage.stage.split()[0] not in only:
            continue
        # Of a stage that does both, the training is GRPO's.
        trained = rate.reinforce if stage.sampled and stage.trained else rate.train
        hours = (stage.sampled / rate.sample + stage.trained / trained) / 3600
        hours *= stage.relative_size
        spent = spent_h(recipe, stage.stage)
        total, total_spent = total + hours, total_spent + (spent or 0.0)
        said = "-" if spent is None else f"{spent:,.2f}"
        yield (
            f"{stage.stage:28} {stage.sampled:16,.0f} {stage.trained:16,.0f} "
            f"{hours:10,.2f} {said:>10}  {stage.inputs}"
        )
    yield f"{'total':28} {'':16} {'':16} {total:10,.2f} {total_spent:10,.2f}  nothing was started"
