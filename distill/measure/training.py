"""What a machine trains: TRL's SFTTrainer and GRPOTrainer on random weights and random tokens."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from distill.measure import Found, Work, device_name
from distill.measure.random_models import (
    config_of,
    is_cuda,
    number_tokenizer,
    random_model,
    random_tokens,
)
from distill.memory import GIB, Shape, Training, resident_gib, training

WARM_UP = 2
"""Updates before the clock is looked at: compilation, and the optimiser's state."""
ACCUMULATED = 2
"""Forward passes behind an update: gradients lie there while the second runs, as in recipes."""
BETA = 0.001
LOSS: dict[str, Any] = {
    "epsilon": 10.0, "num_iterations": 1, "loss_type": "grpo",
    "importance_sampling_level": "token", "scale_rewards": "group",
    "vllm_importance_sampling_mode": "token_truncate", "vllm_importance_sampling_clip_max": 3.0,
}  # fmt: skip
"""The objective of the preset ``r1_zero``, as far as it costs anything."""
_TINY = Shape(1, 64, 64, 2, 2, 32, 512, True)


def sft(work: Work) -> Found:
    """Train on packs of random tokens with TRL's SFTTrainer."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    cuda = is_cuda()
    length = work.length // work.rows
    packs = random_tokens(work.shape, 2 * ACCUMULATED, length * work.rows)
    rows = {"input_ids": packs, "labels": packs, "seq_lengths": [[length] * work.rows] * len(packs)}
    how = Training(tokens=length * work.rows, mask_rows=0 if cuda else 1, **_how(work))

    def trainer(shape: Shape, folder: str, clock: Any) -> Any:
        arguments = SFTConfig(
            **_arguments(work, folder), per_device_train_batch_size=1, packing=True,
            gradient_accumulation_steps=ACCUMULATED,
            max_length=length * work.rows, eos_token="<end>",
            dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        flash = "flash_attention_2" if find_spec("flash_attn") else "flex_attention"
        return SFTTrainer(
            model=random_model(shape, work, attention=flash if cuda else None), args=arguments,
            train_dataset=Dataset.from_dict(rows), processing_class=number_tokenizer(shape),
            peft_config=_adapters(work), callbacks=[clock],
        )  # fmt: skip

    tokens = ACCUMULATED * length * work.rows
    return _timed("sft", work, how, trainer, tokens=tokens, length=length, passes=1.0)


def grpo(work: Work) -> Found:
    """Train on random completions with TRL's GRPOTrainer, sampling left out."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
    from trl.trainer.utils import add_fused_lm_head

    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    n_prompt = work.length // 8
    n_completion = work.length - n_prompt
    n = max(ACCUMULATED * work.per_device, work.group)
    flash = "flash_attention_2" if is_cuda() and find_spec("flash_attn") else None
    how = Training(
        tokens=work.per_device * work.length, has_reference=not work.lora,
        mask_rows=0 if flash else work.per_device, **_how(work),
    )  # fmt: skip

    def trainer(shape: Shape, folder: str, clock: Any) -> Any:
        def rollout(prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
            del trainer
            each = len(prompts)
            return {
                # Of unlike lengths, as they are: what is short is filled up.
                "prompt_ids": [
                    p[: n_prompt - i % 2]
                    for i, p in enumerate(random_tokens(shape, each, n_prompt))
                ],
                "completion_ids": random_tokens(shape, each, n_completion),
                "logprobs": [[-math.log(shape.vocabulary)] * n_completion] * each,
            }  # fmt: skip

        arguments = GRPOConfig(
            **_arguments(work, folder), **LOSS, per_device_train_batch_size=work.per_device,
            gradient_accumulation_steps=n // work.per_device, num_generations=work.group,
            max_completion_length=n_completion,
        )  # fmt: skip
        out = GRPOTrainer(
            model=random_model(shape, work, attention=flash),
            reward_funcs=[lambda completions, **_: [float(i % 2) for i in range(len(completions))]],
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(4 * n)]}),
            processing_class=number_tokenizer(shape), peft_config=_adapters(work),
            rollout_func=rollout, callbacks=[clock],
        )  # fmt: skip
        # As ``distill.grpo.trainer``: the correction for the sampler costs a forward pass.
        out.use_vllm, out.vllm_generation, out._last_loaded_step = True, _Sampler(), -1
        if not work.lora:
            # TRL loads the reference by its name, and random weights have none.
            reference = random_model(shape, work, attention=flash)
            add_fused_lm_head(reference, temperature=arguments.temperature)
            out.ref_model = out.accelerator.prepare_model(reference, evaluation_mode=True)
            out.beta = BETA
        return out

    # Training is three forward passes; the correction is one more, the reference another.
    return _timed(
        "grpo", work, how, trainer, tokens=n * work.length, length=work.length, passes=5 / 3
    )


class _Sampler:
    """Stands for vLLM, which has nothing to do here."""

    def sync_weights(self) -> None:
        """Take nothing."""


def _timed(
    phase: str, work: Work, how: Training, make: Callable[[Shape, str, Any], Any],
    *, tokens: int, length: int, passes: float,
) -> Found:  # fmt: skip
    """Train, look at clock and memory, and put the plan beside them."""
    import torch
    from trl.trainer.utils import adjusted_mfu, compute_flops_per_token, get_peak_flops

    torch.manual_seed(0)
    cuda = is_cuda()
    if not cuda:  # Threads that share a busy core wait for each other.
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    clock = _clock(work)
    with tempfile.TemporaryDirectory() as folder:
        # What libraries load and keep is there after the training of a model of a few weights.
        make(_TINY, folder, _clock(work, n=1)).train()
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        before = 0.0 if cuda else resident_gib(reset=True)
        held = torch.cuda.memory_allocated() / GIB if cuda else 0.0
        make(work.shape, folder, clock).train()
    peak = torch.cuda.max_memory_allocated() / GIB - held if cuda else resident_gib() - before
    step_s = [b - a for a, b in zip(clock.at[WARM_UP - 1 :], clock.at[WARM_UP:], strict=False)]
    rate = tokens / (sum(step_s) / len(step_s))
    most, config = get_peak_flops(device_name(), "bfloat16"), config_of(work.shape, length)
    mfu = None
    if most:
        flops = compute_flops_per_token(config, length)
        mfu = adjusted_mfu(100 * flops * rate / most, config, length) / 100 * passes
    planned = training(work.shape, how)
    return Found(
        phase=phase, tokens_per_s=rate, mfu=mfu, peak_gib=peak, planned_gib=planned.total,
        steps=len(step_s), step_s=step_s, parts=asdict(planned),
    )  # fmt: skip


def _clock(work: Work, *, n: int | None = None) -> Any:
    import torch
    from transformers import TrainerCallback

    class _Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.at: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.at.append(time.monotonic())
            timed = len(self.at) - WARM_UP
            wanted = n if n is not None else WARM_UP + work.steps
            is_late = timed > 0 and self.at[-1] - self.at[WARM_UP - 1] > work.seconds
            control.should_training_stop = len(self.at) >= wanted or (n is None and is_late)
            return control

    return _Clock()


def _how(work: Work) -> dict[str, Any]:
    cuda = is_cuda()
    return {
        "dtype_bytes": 2 if work.lora else 4, "is_on_gpu": cuda,
        "is_bf16": cuda if work.bf16 is None else work.bf16,
        "is_checkpointed": cuda if work.checkpointed is None else work.checkpointed,
        "rank": work.lora,
    }  # fmt: skip


def _arguments(work: Work, folder: str) -> dict[str, Any]:
    how = _how(work)
    return {
        "output_dir": folder, "max_steps": WARM_UP + work.steps, "learning_rate": 1e-6,
        "bf16": how["is_bf16"], "gradient_checkpointing": how["is_checkpointed"],
        "use_cpu": not is_cuda(), "dataloader_pin_memory": is_cuda(), "save_strategy": "no",
        "logging_steps": 1, "report_to": "none", "disable_tqdm": True,
        "remove_unused_columns": False,
    }  # fmt: skip


def _adapters(work: Work) -> Any:
    if not work.lora:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=work.lora, lora_alpha=2 * work.lora, target_modules="all-linear", task_type="CAUSAL_LM"
    )
