"""Settings of the papers as presets, each key with its source; a recipe may change any of them.

``PRESETS[name].trl`` holds keys of ``trl.GRPOConfig``. What depends on the machine is derived by
``batching``: the papers give outputs per update and per rollout, TRL wants outputs per device and
micro-steps.

What TRL 1.16 computes otherwise than the papers print, and what we do about it:

- TRL divides by the sample standard deviation (ddof 1) plus 1e-4; the papers do not say which. With
  16 outputs the population's would make advantages 3 % larger. Left as it is.
- TRL multiplies the KL term by the importance ratio (``use_bias_correction_kl``) by default; the
  R1 papers print it bare. Set to false in R1's presets.
- TRL's ``steps_per_generation`` counts micro-steps, not updates: its paper index gives 16 beside
  128 accumulated micro-steps, which is one rollout of 64 outputs per device and not 8,192.
- The paper writes one ratio per output and no 1/|o|; DeepSeekMath's GRPO, whose code they share,
  writes ratios per token and a mean over each output's tokens. We take the latter (``grpo``).
- Sampler and trainer do not compute the same probabilities. TRL multiplies a token's surrogate by
  π_trainer/π_sampler of the whole sequence and drops it above 3 (``sequence_mask``): at .02 nats
  a token and 8,192 tokens a third of the sample is left. We take the ratio of each token, truncated
  at 3 (``token_truncate``); the KL term is not weighted.
- R1's ε is printed for its first RL stage alone; R1-Zero's preset uses the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.errors import ConfigError


@dataclass(frozen=True)
class Set:
    """A value and where it comes from."""

    value: Any
    source: str


@dataclass(frozen=True)
class Preset:
    """Settings of one RL stage.

    Attributes:
        keys: key of ``trl.GRPOConfig`` → value with its source.
        outputs_per_update: completions behind one update of the weights.
        outputs_per_rollout: completions sampled at once, before they are split at random.
        length_caps: first step → most completion tokens from there on.
        rewards: part → weight.
        dialect: of the format reward.
        template: of the prompt (``distill.templates``).
        resample: rounds in which groups without variance are drawn again.
        overlong_buffer: tokens below the cap in which the part ``overlong`` falls to -1.
        preference_steps: updates at the end in which prompts without a gold are drawn.
    """

    keys: Mapping[str, Set]
    outputs_per_update: Set
    outputs_per_rollout: Set
    length_caps: Mapping[int, Set]
    rewards: Mapping[str, Set]
    dialect: str = "think"
    template: str = "own"
    resample: Set | None = None
    overlong_buffer: Set | None = None
    preference_steps: Set | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def trl(self) -> dict[str, Any]:
        """The values alone."""
        return {name: s.value for name, s in self.keys.items()}


_V2_21 = "DeepSeek-R1 v2, 2.1"
_V2_32 = "DeepSeek-R1 v2, 3.2.1"
_OURS = "not stated; our choice"
_R1: dict[str, Set] = {
    "learning_rate": Set(3e-6, _V2_21),
    "beta": Set(0.001, _V2_21),
    "epsilon": Set(10.0, f"{_V2_32} (first RL stage; not stated for R1-Zero)"),
    "num_generations": Set(16, _V2_21),
    "temperature": Set(1.0, _V2_21),
    "num_iterations": Set(1, f"{_V2_21}: a single inner epoch"),
    "sync_ref_model": Set(True, _V2_21),
    "ref_model_sync_steps": Set(400, _V2_21),
    "ref_model_mixup_alpha": Set(1.0, f"{_V2_21}: replaced by the latest policy"),
    "loss_type": Set("grpo", "DeepSeekMath, eq. 3; aggregation not stated for R1"),
    "importance_sampling_level": Set("token", "DeepSeekMath, eq. 3"),
    "scale_rewards": Set("group", "DeepSeek-R1 v1, eq. 3"),
    "use_bias_correction_kl": Set(False, "DeepSeek-R1 v1, eq. 2"),
    "vllm_importance_sampling_mode": Set(
        "token_truncate", "ours: token by token, truncated at 3; see the module's notes"
    ),
    "vllm_importance_sampling_clip_max": Set(3.0, "TRL's default"),
    "lr_scheduler_type": Set("constant", _OURS),
    "max_completion_length": Set(32_768, _V2_21),
}
_RULES = {
    "accuracy": Set(1.0, "DeepSeek-R1 v2, eq. 4"),
    "format": Set(1.0, "DeepSeek-R1 v2, eq. 4: same weight"),
}

PRESETS: dict[str, Preset] = {
    "r1_zero": Preset(
        keys={**_R1, "max_steps": Set(10_400, _V2_21)},
        outputs_per_update=Set(512, f"{_V2_21}: 32 questions x 16"),
        outputs_per_rollout=Set(8192, f"{_V2_21}: in 16 minibatches"),
        length_caps={0: Set(32_768, _V2_21), 8200: Set(65_536, _V2_21)},
        rewards=_RULES,
        dialect="think_answer",
        template="r1_zero",
    ),
    "r1_reasoning": Preset(
        keys={**_R1, "max_steps": Set(1000, "until convergence; our bound")},
        outputs_per_update=Set(512, _V2_32),
        outputs_per_rollout=Set(8192, _V2_32),
        length_caps={0: Set(32_768, _V2_32)},
        rewards={**_RULES, "language": Set(1.0, "DeepSeek-R1 v1, 2.3.2: added directly")},
    ),
    "r1_all_scenarios": Preset(
        keys={
            **_R1,
            "temperature": Set(0.7, "DeepSeek-R1 v2, 3.2.2"),
            "max_steps": Set(1700, "DeepSeek-R1 v2, 3.2.2"),
        },
        outputs_per_update=Set(512, _V2_32),
        outputs_per_rollout=Set(8192, _V2_32),
        length_caps={0: Set(32_768, _V2_32)},
        rewards={
            **_RULES,
            "language": Set(1.0, "DeepSeek-R1 v2, eq. 8"),
            "helpful": Set(1.0, "DeepSeek-R1 v2, eq. 10; the scale of its output is not stated"),
            "safety": Set(1.0, "DeepSeek-R1 v2, eq. 10; ours: the probability of safe"),
        },
        preference_steps=Set(400, "DeepSeek-R1 v2, 3.2.2: the last 400 of 1,700"),
    ),
    "dapo": Preset(
        keys={
            **_R1,
            "learning_rate": Set(1e-6, "DAPO"),
            "beta": Set(0.0, "DAPO: no KL term"),
            "epsilon": Set(0.2, "DAPO"),
            "epsilon_high": Set(0.28, "DAPO: clip higher"),
            "loss_type": Set("dapo", "DAPO: mean over tokens"),
            "sync_ref_model": Set(False, "no reference"),
            "max_completion_length": Set(20_480, "DAPO: 16,384 and a soft 4,096"),
            "mask_truncated_completions": Set(True, "DAPO: overlong filtering"),
            "max_steps": Set(10_000, _OURS),
        },
        outputs_per_update=Set(512, "DAPO: mini-batch 512"),
        outputs_per_rollout=Set(8192, "DAPO: 512 prompts x 16"),
        length_caps={0: Set(20_480, "DAPO")},
        rewards={
            "accuracy": Set(1.0, "DAPO"),
            "overlong": Set(1.0, "DAPO, eq. 13: added to the rule's reward"),
        },
        resample=Set(3, "DAPO, 3.2: until none is left; ours: at most three rounds"),
        overlong_buffer=Set(4096, "DAPO, 4.1: the soft 4,096 of 20,480"),
    ),
    "gspo": Preset(
        keys={
            **_R1,
            "learning_rate": Set(1e-6, _OURS),
            "beta": Set(0.0, "GSPO: no KL term"),
            "importance_sampling_level": Set("sequence", "GSPO, eq. 7: a ratio per output"),
            "epsilon": Set(3e-4, "GSPO, 5.1"),
            "epsilon_high": Set(4e-4, "GSPO, 5.1"),
            "loss_type": Set("grpo", "GSPO, eq. 5: mean over outputs"),
            "sync_ref_model": Set(False, "no reference"),
            "max_completion_length": Set(32_768, _OURS),
            "max_steps": Set(10_000, _OURS),
        },
        outputs_per_update=Set(512, _OURS),
        outputs_per_rollout=Set(2048, "GSPO, 5.1: in four minibatches"),
        length_caps={0: Set(32_768, _OURS)},
        rewards={"accuracy": Set(1.0, "GSPO: a verifier")},
    ),
    "cispo": Preset(
        keys={
            **_R1,
            "learning_rate": Set(1e-6, _OURS),
            "beta": Set(0.0, "MiniMax-M1, 3.1: no KL term"),
            "loss_type": Set("cispo", "MiniMax-M1, eq. 4: the ratio is cut, no token is"),
            "epsilon_high": Set(5.0, "not stated; TRL's cut of the ratio, after ScaleRL"),
            "sync_ref_model": Set(False, "no reference"),
            "max_completion_length": Set(40_960, "MiniMax-M1: the first 40K stage"),
            "max_steps": Set(10_000, _OURS),
        },
        outputs_per_update=Set(512, _OURS),
        outputs_per_rollout=Set(8192, "MiniMax-M1, 3.1: 16 updates a rollout"),
        length_caps={0: Set(40_960, "MiniMax-M1")},
        rewards={"accuracy": Set(1.0, "MiniMax-M1: rules")},
    ),
    "dr_grpo": Preset(
        keys={
            **_R1,
            "learning_rate": Set(1e-6, "Dr. GRPO"),
            "beta": Set(0.0, "Dr. GRPO"),
            "epsilon": Set(0.2, "Dr. GRPO"),
            "num_generations": Set(8, "Dr. GRPO"),
            "loss_type": Set("dr_grpo", "Dr. GRPO: no division by length"),
            "scale_rewards": Set("none", "Dr. GRPO: no division by deviation"),
            "sync_ref_model": Set(False, "no reference"),
            "max_completion_length": Set(3000, "Dr. GRPO"),
            "max_steps": Set(10_000, _OURS),
        },
        outputs_per_update=Set(128, "Dr. GRPO"),
        outputs_per_rollout=Set(1024, "Dr. GRPO: 128 prompts x 8"),
        length_caps={0: Set(3000, "Dr. GRPO")},
        rewards={"accuracy": Set(1.0, "Dr. GRPO")},
    ),
}


def preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        ConfigError: there is none of that name.

    >>> preset("r1_zero").trl["learning_rate"]
    3e-06
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}", f"known: {', '.join(PRESETS)}")
    return PRESETS[name]


def batching(
    *, outputs_per_update: int, outputs_per_rollout: int, per_device: int, n_devices: int
) -> dict[str, int]:
    """Return TRL's keys for so many outputs per update and per rollout.

    Args:
        outputs_per_update: completions behind one update.
        outputs_per_rollout: completions sampled before the first of its updates.
        per_device: completions in one forward pass on one device.
        n_devices: data-parallel devices.

    Raises:
        ConfigError: the numbers do not divide.

    >>> keys = batching(outputs_per_update=512, outputs_per_rollout=8192, per_device=4, n_devices=8)
    >>> keys["gradient_accumulation_steps"], keys["steps_per_generation"]
    (16, 256)
    """
    at_once = per_device * n_devices
    if outputs_per_update % at_once or outputs_per_rollout % outputs_per_update:
        raise ConfigError(
            f"{outputs_per_rollout} outputs in updates of {outputs_per_update} on {n_devices} "
            f"devices with {per_device} each",
            "choose numbers that divide",
        )
    return {
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": outputs_per_update // at_once,
        # Micro-steps, not updates.
        "steps_per_generation": outputs_per_rollout // at_once,
    }


def cap_at(caps: Mapping[int, int], step: int) -> int:
    """Return the length cap in force at a step.

    >>> [cap_at({0: 32768, 8200: 65536}, s) for s in (0, 8199, 8200)]
    [32768, 32768, 65536]
    """
    return caps[max(s for s in caps if s <= step)]
