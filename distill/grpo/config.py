"""Configuration of a GRPO run, and the keys that it gives to TRL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from distill.devices import trl_settings
from distill.presets import batching, preset
from distill.runs import file_digest
from distill.student import Lora, split_revision
from distill.training import require_free, trl_config
from factory import model_files
from factory.config import Config
from factory.errors import ConfigError
from factory.records import Prompt, PromptSource, ids

Pair = tuple[Prompt, PromptSource]
_VERSION = 1

_OURS = frozenset(
    {
        *("output_dir", "seed", "disable_tqdm", "use_vllm", "use_cpu"),
        *("remove_unused_columns", "trust_remote_code", "chat_template_path", "model_init_kwargs"),
        *("generation_batch_size", "resume_from_checkpoint", "logging_nan_inf_filter"),
        # Every optimisation step is recorded.
        *("logging_steps", "logging_strategy"),
    }
)


_LATER = ("reward_models", "preference_steps")
_DIVIDED = (
    "per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation"
)  # fmt: skip


class Evaluation(Config):
    """A development set that a run is measured on; its prompts are left out of the training.

    Attributes:
        every: updates between two evaluations; the first is before the first update.
        benchmark: name of a benchmark.
        prompts: file of prompts with golds, or the local copy of the benchmark.
        limit: first so many prompts only.
        k: samples per prompt.
        temperature: of the samples.
        top_p: of the samples.
        max_tokens: of a sample; None takes the run's largest cap.
    """

    every: int = Field(ge=1)
    benchmark: str | None = None
    prompts: Path | None = None
    limit: int | None = None
    k: int = Field(default=1, ge=1)
    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int | None = None


class RewardModels(Config):
    """Folders of reward models (``distill reward-model``), for prompts without a gold.

    Attributes:
        helpful: its output for the answer alone is the part ``helpful``.
        safety: the probability of safe, for the whole text, is the part ``safety``; of prompts
            whose domain is ``safety`` or ``harmlessness``.
    """

    helpful: Path | None = None
    safety: Path | None = None

    @property
    def folders(self) -> dict[str, str | None]:
        """Kind → folder."""
        return {k: None if v is None else str(v) for k, v in self}


class GrpoConfig(Config):
    """One run.

    Attributes:
        base: folder, or ``name@revision`` of a hub model: where the policy starts.
        out: folder of the trained model.
        preset: name in ``distill.presets``: TRL's keys, rewards, length caps; what follows wins.
        template: ``r1_zero``, ``own``, ``qwen`` or ``llama``; None takes the preset's.
        prefill: text that every completion begins with.
        dialect: of the format reward; None takes the preset's.
        rewards: part → weight; None takes the preset's. Parts are ``accuracy``, ``format``,
            ``language``, ``overlong`` (0 to -1 in the last ``overlong_buffer`` tokens below the
            cap), ``repetition`` (minus the share of repeated 5-grams), and the paths of files of
            your own with ``def reward(prompts, completions, **columns)``: one number or None per
            completion; columns are ``gold``, ``verifier``, ``options``, ``target_language``.
            With ``helpful`` or ``safety`` among them each prompt is paid by its kind: one with a
            gold by accuracy, one without by a reward model, all by format and language
            (DeepSeek-R1 v2, eq. 8 to 10).
        reward_models: for those two parts.
        preference_steps: prompts without a gold are drawn in the last so many updates only; before
            them a reward model has nothing to be hacked by. None: the preset's; 0: from the first.
        overlong_buffer: tokens below the cap in which ``overlong`` falls; None: the preset's.
        pass_rate: lowest and highest; prompts whose samples by the base pass less or more often,
            or that were not sampled, are left out. None takes all.
        pass_rate_of: name of a model in the store whose samples count instead.
        pass_rate_samples: verdicts that a prompt needs.
        resample: rounds, at most three, in which a group without variance is drawn again with
            another prompt. Groups must not be split over devices. None: the preset's.
        evaluation: a development set during the run; None: none.
        keep_every: keep the model after each so many updates in ``out/steps``.
        control: ``random`` pays by the toss of a coin and measures the parts all the same.
        length_caps: first step → most completion tokens; None takes the preset's.
        outputs_per_update, outputs_per_rollout: None takes the preset's.
        per_device: completions of one forward pass on one device.
        n_devices: data-parallel devices; None: as many as train. Outputs per update and per
            rollout are global numbers, divided by them.
        max_prompt_tokens: prompts that are longer are left out, and counted.
        max_cpu_s: stop in order after so many CPU seconds, rollouts included (for comparisons).
        on_alarm: what the reward-hacking monitor does.
        trainable: regular expression; parameters in whose name it is found are trained, the rest
            stays as it is. None: all.
        dtype: of the weights in memory. Adam at RL's rates moves two weights of a hundred where
            they are bf16, so that float32 is asked for, unless adapters (kept in fp32) are trained
            beside frozen weights; computation is in bf16 on a GPU either way.
        seed: of the order of prompts, of the sampling and of adapters.
        n_workers: processes that verify for one trainer; default: its part of the cores.
        lora: train adapters, merged when the run ends. The reference is the base, never renewed.
        rehearsal: a quarter of the rollouts is replaced by right answers made from the golds
            (``distill.rehearsal``), so that a random model has something to be paid for.
        trl: passed to ``trl.GRPOConfig`` as it stands, over the preset's keys.
    """

    base: str
    out: Path
    preset: str
    template: str | None = None
    prefill: str = ""
    dialect: str | None = None
    rewards: dict[str, float] | None = None
    reward_models: RewardModels | None = None
    preference_steps: int | None = Field(default=None, ge=0)
    overlong_buffer: int | None = None
    pass_rate: tuple[float, float] | None = None
    pass_rate_of: str | None = None
    pass_rate_samples: int = Field(default=1, ge=1)
    resample: int | None = Field(default=None, ge=0, le=3)
    evaluation: Evaluation | None = None
    keep_every: int | None = Field(default=None, ge=1)
    control: Literal["none", "random"] = "none"
    length_caps: dict[int, int] | None = None
    outputs_per_update: int | None = None
    outputs_per_rollout: int | None = None
    per_device: int = Field(ge=1)
    n_devices: int | None = None
    max_prompt_tokens: int = 2048
    max_cpu_s: float | None = None
    on_alarm: Literal["warn", "stop"] = "warn"
    trainable: str | None = None
    seed: int = 0
    dtype: str = "float32"
    lora: Lora | None = None
    n_workers: int | None = None
    rehearsal: bool = False
    trl: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _masters(self) -> Self:
        if self.lora is None and self.dtype != "float32":
            raise ValueError(
                f"dtype {self.dtype} without lora: at RL's learning rates updates are lost in "
                "rounding; leave float32 (computation is in bf16 all the same), or train adapters"
            )
        return self

    @model_validator(mode="after")
    def _band(self) -> Self:
        low, high = self.pass_rate or (0.0, 1.0)
        if not 0 <= low <= high <= 1:
            raise ValueError(f"pass_rate [{low}, {high}] is empty or outside [0, 1]")
        return self

    @property
    def caps(self) -> dict[int, int]:
        """Length caps in force."""
        if self.length_caps is not None:
            return dict(self.length_caps)
        if "max_completion_length" in self.trl:
            return {0: int(self.trl["max_completion_length"])}
        return {s: int(v.value) for s, v in preset(self.preset).length_caps.items()}

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt and completion, evaluation included."""
        own = self.evaluation.max_tokens if self.evaluation is not None else None
        return self.max_prompt_tokens + max(*self.caps.values(), own or 0)

    @property
    def buffer(self) -> int | None:
        """Buffer of ``overlong`` in force, tokens."""
        own = preset(self.preset).overlong_buffer
        return self.overlong_buffer or (int(own.value) if own else None)

    @property
    def is_routed(self) -> bool:
        """Whether prompts are paid by their kind."""
        return bool({"helpful", "safety"} & self.weights.keys())

    @property
    def last_steps(self) -> int | None:
        """Updates at the end in which prompts without a gold are drawn; None or 0: in all."""
        own = preset(self.preset).preference_steps
        if not self.is_routed:
            return None
        return (
            self.preference_steps
            if self.preference_steps is not None
            else (int(own.value) if own else None)
        )

    @property
    def rounds(self) -> int:
        """Rounds of ``resample`` in force."""
        own = preset(self.preset).resample
        return self.resample if self.resample is not None else int(own.value) if own else 0

    @property
    def weights(self) -> dict[str, float]:
        """Reward weights in force."""
        if self.rewards is not None:
            return dict(self.rewards)
        return {name: float(s.value) for name, s in preset(self.preset).rewards.items()}


def trl_values(config: GrpoConfig) -> dict[str, Any]:
    """Return the keys of ``trl.GRPOConfig``: preset, batching, then the ``trl`` block.

    Raises:
        ConfigError: a key that the factory sets itself.
    """
    require_free(config.trl, _OURS)
    chosen = preset(config.preset)
    values: dict[str, Any] = {"logging_steps": 1, "save_strategy": "steps", "save_steps": 0.25}
    values |= {"save_total_limit": 2, "report_to": "none", **chosen.trl}
    values |= batching(
        outputs_per_update=config.outputs_per_update or chosen.outputs_per_update.value,
        outputs_per_rollout=config.outputs_per_rollout or chosen.outputs_per_rollout.value,
        per_device=config.per_device,
        n_devices=config.n_devices or 1,
    )
    values["max_completion_length"] = config.caps[min(config.caps)]
    # vLLM keeps room for one sequence of the model's whole context otherwise: 16 GiB of 131,072.
    values["vllm_max_model_length"] = config.longest
    if config.lora is not None:
        values["sync_ref_model"] = False
    values |= config.trl
    _require_whole_groups(config, values)
    return values


def _require_whole_groups(config: GrpoConfig, values: Mapping[str, Any]) -> None:
    """Refuse drawing groups again where one process does not have them to itself."""
    if not config.rounds:
        return
    group = int(values["num_generations"])
    own = int(values["per_device_train_batch_size"]) * int(values["steps_per_generation"])
    if own % group:
        raise ConfigError(
            f"resample: a device has {own} completions of a rollout, no whole groups of {group}",
            "change per_device, outputs_per_rollout or trl.num_generations, or set resample: 0",
        )
    if values.get("vllm_mode", "colocate") != "colocate":
        raise ConfigError("resample with vllm_mode: server", "set resample: 0, or colocate")


def inputs_of(config: GrpoConfig, pairs: Sequence[Pair], values: Mapping[str, Any]) -> str:
    """Return the hash of everything that shapes the result.

    Args:
        config: of the run.
        pairs: prompts with their golds.
        values: of ``trl_values``.
    """
    name, revision = split_revision(config.base)
    machine = {"n_workers", "n_devices", "per_device"}
    own = config.model_dump(mode="json", exclude={"out", "base", *machine})
    # Keys that came later stand in a hash where they say something: finished runs stay finished.
    own = {k: v for k, v in own.items() if v is not None or k not in _LATER}
    # Global numbers are in ``own``: how devices divide them shapes nothing.
    values = {k: v for k, v in values.items() if k not in _DIVIDED}
    rewards = [name for name in config.weights if name.endswith(".py")]
    folders = config.reward_models.folders if config.reward_models is not None else {}
    models = {k: model_files.revision_of(v) for k, v in folders.items() if v is not None}
    return ids.key_of(
        {
            **own,
            "own_rewards": [file_digest(Path(name)) for name in rewards],
            **({"reward_models": models} if models else {}),
            "length_caps": sorted(config.caps.items()),
            "values": {k: str(v) for k, v in values.items()},
            "base": model_files.revision_of(name, revision),
            "prompts": [[p.prompt_id, s.gold or ""] for p, s in pairs],
            "version": _VERSION,
        }
    )


def settings_of(config: GrpoConfig, values: Mapping[str, Any], *, n_prompts: int) -> dict[str, Any]:
    """Return the settings that a checkpoint's are compared with, as plain data."""
    own = config.model_dump(mode="json", exclude={"out", "n_workers", "trl"})
    return {**own, "trl": plain(values), "n_prompts": n_prompts}


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON holds them."""
    kinds = int | float | str | bool | None
    return {k: v if isinstance(v, kinds) else str(v) for k, v in values.items()}


def trl_arguments(config: GrpoConfig, values: Mapping[str, Any], *, cuda: bool) -> Any:
    """Return the ``trl.GRPOConfig`` of a run.

    Raises:
        ConfigError: TRL does not know a key, or refuses a value.
    """
    from trl import GRPOConfig

    return trl_config(
        GRPOConfig, {**trl_settings(cuda=cuda), **values}, out=config.out, seed=config.seed,
        use_vllm=cuda,
    )  # fmt: skip
