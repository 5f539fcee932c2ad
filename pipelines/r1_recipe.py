"""What a recipe file of the R1 script holds: the values of a scale, and the names of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.launch import Launch
from factory.config import Config
from pipelines.all_scenarios_rl import RewardModelsOf
from pipelines.cold_start import ColdStart
from pipelines.common import ModelOf, PromptSet
from pipelines.decontamination import Decontamination
from pipelines.general import General, Mixture
from pipelines.preference_pairs import PreferencePairs
from pipelines.rejection_sampling import RejectionSampling
from pipelines.safety_review import SafetyOf

STAGES = (
    "bases", "zero", "control", "zero_language", "cold_start", "sft1", "reasoning",
    "rejection_sampling", "general", "mixture", "safety_review", "sft2", "preferences",
    "reward_models", "all_scenarios", "distill", "direct_rl", "evaluate",
)  # fmt: skip
_OPTIONAL = {
    "general": "general", "mixture": "general", "safety_review": "safety",
    "preferences": "preferences", "reward_models": "reward_models",
    "all_scenarios": "all_scenarios",
}  # fmt: skip
"""Stage → section that a recipe may lack; without it the recipe has no such stage."""


class StudentOf(Config):
    """A student.

    Attributes:
        base: what it starts from.
        student: its file in ``distill/students``, or a path.
        overrides: ``key=value`` over that file.
    """

    base: ModelOf
    student: str
    overrides: tuple[str, ...] = ()


class SftOf(Config):
    """An SFT stage.

    Attributes:
        student: a file in ``distill/students``, or a path.
        overrides: ``key=value`` over that file.
    """

    student: str
    overrides: tuple[str, ...] = ()


class DirectRl(Config):
    """RL of a student without distillation, the best of several rates on development problems.

    Attributes:
        rates: learning rates to try; each has the whole budget.
        grpo: section of a GRPO run.
        share_of_distillation: a run's CPU seconds, rollouts included, over those of the student's
            own distillation: the sampling of its traces and its SFT. None: as many steps as the
            section says.
    """

    rates: tuple[float, ...]
    grpo: dict[str, Any]
    share_of_distillation: float | None = None


class Evaluation(Config):
    """How models are evaluated; the prompts are in ``prompts`` under ``eval`` and ``dev``.

    Attributes:
        k: samples per evaluation prompt.
        k_dev: samples per development prompt.
        temperature, top_p, max_tokens: of the sampling.
        prefill: text that every completion begins with.
        dialect: of the format verdict.
    """

    k: int
    k_dev: int
    temperature: float
    top_p: float
    max_tokens: int
    prefill: str = ""
    dialect: str = "think"


class PlanFigures(Config):
    """What ``--plan`` assumes; measured figures of one's own machine win over it.

    Attributes:
        measured: file of ``distill measure``: its rates are taken, for other sizes in proportion.
        mean_completion_tokens: of all sampling.
        generate_tokens_per_gpu_s: completion tokens per second and device while sampling.
        train_tokens_per_gpu_s: tokens per second and device while training.
        unit: of the sums.
    """

    mean_completion_tokens: int
    generate_tokens_per_gpu_s: float
    train_tokens_per_gpu_s: float
    unit: str = "GPU-hours"
    measured: Path | None = None
    gpu_gib: float | None = None
    """Memory of one device; None: stages are not held against it."""


class Recipe(Config):
    """Values of a scale; control flow is in the script."""

    store: Path
    """Store directory."""
    name: str
    """Name of the releases and of the models' folder."""
    seed: int
    """Of all that is drawn."""
    contrivances: tuple[str, ...] = ()
    """What must be said under the table of results."""
    launch: Launch | None = None
    """How trainings are started; None trains in this process."""
    engine: dict[str, Any]
    """Options of the vLLM engine; ``replicas`` and ``tensor_parallel_size`` use all devices."""
    prompt_tokens: int = 1024
    """Tokens of a model's context that are kept for prompts."""
    base: ModelOf
    prompts: dict[str, PromptSet]
    """``rl``, ``cold_start``, ``rejection``, ``dev``, ``eval``; ``general``, ``preferences``,
    ``rl_general``, ``dev_general``."""
    zero: dict[str, Any]
    """Keys of a GRPO run (see `distill`: grpo): R1-Zero."""
    zero_language_rewards: dict[str, float]
    """Part → weight of the run of R1-Zero with the language reward."""
    cold_start: ColdStart
    refiner: str | None = None
    """Model that refines (``cold_start.refiner: model``) and writes general data."""
    judge: str | None = None
    """Model that compares answers (``preferences``), reviews rows (``safety``) and judges samples
    that no rule could score (``rejection_sampling.judging``)."""
    sft1: SftOf
    reasoning: dict[str, Any]
    """Keys of a GRPO run: reasoning RL after the cold start."""
    rejection_sampling: RejectionSampling
    decontaminate: Decontamination | None = None
    """Training sets are kept clear of what is evaluated on; None: they are taken as they are."""
    general: General | None = None
    """General data, mixed into ``sft2`` and the students' set; None: reasoning rows alone."""
    mixture: Mixture | None = None
    """Shares of that set's domains; None: DeepSeek-R1's Table 5."""
    safety: SafetyOf | None = None
    """Review of that set, by words and the judge; None: it is not reviewed."""
    sft2: SftOf
    preferences: PreferencePairs | None = None
    """Pairs for the helpful model, of Dev3's answers by the judge; None: it has ``data``."""
    reward_models: RewardModelsOf | None = None
    """Of the last stage; None: there is none."""
    all_scenarios: dict[str, Any] | None = None
    """Keys of a GRPO run: the last stage, from ``sft2``'s model on the prompts ``rl`` and
    ``rl_general``; None: there is none."""
    students: dict[str, StudentOf]
    direct_rl: DirectRl
    evaluation: Evaluation
    plan: PlanFigures


def stages_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the stages that a recipe has, in order: some have sections that may be absent."""
    absent = {stage for stage, section in _OPTIONAL.items() if getattr(recipe, section) is None}
    return tuple(stage for stage in STAGES if stage not in absent)


def folder_of(recipe: Recipe) -> Path:
    """Return the folder of a recipe's models, with its seed's name."""
    return recipe.store / "models" / recipe.name


def seeded(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe of a seed: a name and so a folder of its own, in the same store."""
    return recipe.model_copy(update={"seed": seed, "name": f"{recipe.name}-{seed}"})
