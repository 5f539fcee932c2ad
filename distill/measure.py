"""What a machine's devices do: tokens a second, share of their arithmetic, peak of memory.

Weights are random ones of a model's shape, so that nothing is fetched; what training does with them
costs the same. Each phase runs in a process of its own (``measured``), since memory that one has
held would be counted for the next. A phase needs torch, transformers, accelerate, trl and datasets
(and peft with adapters) and nothing else of the project than ``distill.memory``: a bare machine
will do. Sampling needs vLLM and the whole project.

The settings are those of ``distill sft`` and ``distill grpo``: fp32 weights computed in bf16, or
adapters over bf16 weights; layers computed again in the backward pass; rows packed.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distill.memory import GIB, Shape, Training, resident_gib, shape_of, training

PHASES = ("sft", "grpo", "sample")
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


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is measured.

    Attributes:
        model: folder with a ``config.json``, or a name whose shape is known.
        length: tokens of a pack of SFT, and of prompt and completion of GRPO.
        rows: rows of a pack (attention is within rows).
        per_device: completions of a forward pass of GRPO.
        group: completions of a prompt.
        lora: rank of adapters over bf16 weights; 0 trains all weights in fp32.
        seconds: of a phase after the warm-up; at least one update is timed.
        steps: updates that are timed at most.
        slots: sequences that are sampled at once.
        gpu_share: of the device's memory that the sampler may take.
        bf16: compute in bf16; None: where there is a GPU.
        checkpointed: compute layers again in the backward pass; None: where there is a GPU.
    """

    model: str
    length: int = 8192
    rows: int = 4
    per_device: int = 4
    group: int = 4
    lora: int = 0
    seconds: float = 30.0
    steps: int = 8
    slots: int = 256
    gpu_share: float = 0.85
    bf16: bool | None = None
    checkpointed: bool | None = None

    @property
    def shape(self) -> Shape:
        """Numbers of the model.

        Raises:
            ValueError: they are not known.
        """
        found = shape_of(self.model)
        if found is None:
            raise ValueError(f"the shape of {self.model!r} is not known: give a folder")
        return found


@dataclass(kw_only=True)
class Found:
    """What a phase was measured to do on one device.

    Attributes:
        phase: of ``PHASES``.
        tokens_per_s: trained, or sampled.
        mfu: arithmetic of the model over what the device can do at most; None where that is not
            known. What is computed again in the backward pass does not count.
        peak_gib: most memory that was held, without what the libraries take.
        planned_gib: what ``distill.memory`` says.
        steps: that were timed.
        step_s: seconds of each.
        parts: planned GiB by what holds them.
    """

    phase: str
    tokens_per_s: float
    mfu: float | None = None
    peak_gib: float | None = None
    planned_gib: float | None = None
    steps: int = 0
    step_s: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)


def measured(phase: str, work: Work, *, timeout_s: float = 900) -> dict[str, Any]:
    """Measure a phase in a process of its own; returns ``Found``, or ``{"error": …}``.

    Args:
        phase: of ``PHASES``.
        work: what is measured.
        timeout_s: after which the phase is given up.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        words = [sys.executable, "-W", "ignore", "-m", "distill.measure", phase, str(out)]
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
        # Blocks over a MiB go back to the machine when they are freed, or its memory says nothing.
        env = {**os.environ, "PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
        try:
            done = subprocess.run(
                [*words, json.dumps(asdict(work))], env=env, timeout=timeout_s, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"phase": phase, "error": f"not done after {timeout_s:.0f} s"}
        if done.returncode or not out.is_file():
            lines = [line for line in done.stdout.splitlines() if line.strip()]
            return {"phase": phase, "error": " | ".join(lines[-3:])[-600:] or "killed"}
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found


def rates(work: Work, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure all phases; returns what ``plan.measured`` of a recipe reads.

    Args:
        work: what is measured.
        say: takes a line per phase.

    Raises:
        ValueError: the model's shape is not known.
    """
    phases, n = {}, work.shape.n
    for phase in PHASES:
        found = phases[phase] = measured(phase, work)
        if "error" in found:
            say(f"{phase}: not measured: {found['error']}")
            continue
        line = f"{phase}: {found['tokens_per_s']:,.0f} tokens/s"
        if found["mfu"] is not None:
            line += f", {found['mfu']:.0%} of the device's arithmetic"
        if found["peak_gib"] is not None:
            line += f", {found['peak_gib']:.1f} GiB (planned {found['planned_gib']:.1f})"
        say(line)
    names = {"sft": "train_tokens_per_gpu_s", "grpo": "grpo_tokens_per_gpu_s",
             "sample": "generate_tokens_per_gpu_s"}  # fmt: skip
    out = {name: phases[phase].get("tokens_per_s") for phase, name in names.items()}
    what = {"device": device_name(), "model": work.model, "n_parameters": n, "lora": work.lora}
    return {**what, **out, "phases": phases}


def device_name() -> str:
    """Return the name of the device that is measured."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def sft(work: Work) -> Found:
    """Train on packs of random tokens with TRL's SFTTrainer."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    cuda = _is_cuda()
    length = work.length // work.rows
    packs = _random_tokens(work.shape, 2 * ACCUMULATED, length * work.rows)
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
            model=_model(shape, work, attention=flash if cuda else None), args=arguments,
            train_dataset=Dataset.from_dict(rows), processing_class=_tokenizer(shape),
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
    flash = "flash_attention_2" if _is_cuda() and find_spec("flash_attn") else None
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
                    for i, p in enumerate(_random_tokens(shape, each, n_prompt))
                ],
                "completion_ids": _random_tokens(shape, each, n_completion),
                "logprobs": [[-math.log(shape.vocabulary)] * n_completion] * each,
            }  # fmt: skip

        arguments = GRPOConfig(
            **_arguments(work, folder), **LOSS, per_device_train_batch_size=work.per_device,
            gradient_accumulation_steps=n // work.per_device, num_generations=work.group,
            max_completion_length=n_completion,
        )  # fmt: skip
        out = GRPOTrainer(
            model=_model(shape, work, attention=flash),
            reward_funcs=[lambda completions, **_: [float(i % 2) for i in range(len(completions))]],
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(4 * n)]}),
            processing_class=_tokenizer(shape), peft_config=_adapters(work), rollout_func=rollout,
            callbacks=[clock],
        )  # fmt: skip
        # As ``distill.grpo.trainer``: the correction for the sampler costs a forward pass.
        out.use_vllm, out.vllm_generation, out._last_loaded_step = True, _Sampler(), -1
        if not work.lora:
            # TRL loads the reference by its name, and random weights have none.
            reference = _model(shape, work, attention=flash)
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


def sample(work: Work) -> Found:
    """Sample with vLLM from random weights of the shape."""
    from factory.engines.vllm import Engine
    from factory.engines.vllm_start import prepare_environment

    prepare_environment()
    cuda = _is_cuda()
    slots = work.slots if cuda else min(work.slots, 32)
    longest = work.length if cuda else min(work.length, 512)
    n_prompt = longest // 8
    with tempfile.TemporaryDirectory() as folder:
        _config(work.shape, longest).save_pretrained(folder)
        _tokenizer(work.shape).save_pretrained(folder)
        # A file of no weights, since a model without any is refused; dummies are not read.
        Path(folder, "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        engine = Engine(
            folder, max_model_len=longest, max_num_seqs=slots,
            gpu_memory_utilization=work.gpu_share,
            args={"load_format": "dummy", "dtype": "bfloat16"},
        )  # fmt: skip
        prompts = _random_tokens(work.shape, slots, n_prompt)
        n_asked = [8, 32]
        rate, n = 0.0, 0
        took: list[float] = []
        for _ in range(2 + work.steps):
            n_tokens = min(n_asked[min(len(took), 1)], longest - n_prompt)
            began = time.monotonic()
            # From the whole distribution: random weights then hardly ever end an answer.
            answers, _ = engine.complete(
                prompts, seeds=range(slots), max_tokens=n_tokens, temperature=1.0, top_p=1.0
            )
            took.append(time.monotonic() - began)
            n = sum(map(len, answers))
            rate = n / took[-1]
            left = work.seconds - sum(took)
            if len(took) > 1 and left <= took[-1]:
                break
            # As long answers as the time left allows: short ones are mostly prompts.
            n_asked[1] = max(32, int(rate * left / slots))
        engine.close()
    return Found(phase="sample", tokens_per_s=rate, steps=len(took), step_s=took)


def _timed(
    phase: str, work: Work, how: Training, make: Callable[[Shape, str, Any], Any],
    *, tokens: int, length: int, passes: float,
) -> Found:  # fmt: skip
    """Train, look at clock and memory, and put the plan beside them."""
    import torch
    from trl.trainer.utils import adjusted_mfu, compute_flops_per_token, get_peak_flops

    torch.manual_seed(0)
    cuda = _is_cuda()
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
    most, config = get_peak_flops(device_name(), "bfloat16"), _config(work.shape, length)
    mfu = None
    if most:
        flops = compute_flops_per_token(config, length)
        mfu = adjusted_mfu(100 * flops * rate / most, config, length) / 100 * passes
    planned = training(work.shape, how)
    return Found(
        phase=phase, tokens_per_s=rate, mfu=mfu, peak_gib=peak, planned_gib=planned.total,
        steps=len(step_s), step_s=step_s, parts=asdict(planned),
    )  # fmt: skip


_TINY = Shape(1, 64, 64, 2, 2, 32, 512, True)


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


def _is_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _how(work: Work) -> dict[str, Any]:
    cuda = _is_cuda()
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
        "use_cpu": not _is_cuda(), "dataloader_pin_memory": _is_cuda(), "save_strategy": "no",
        "logging_steps": 1, "report_to": "none", "disable_tqdm": True,
        "remove_unused_columns": False,
    }  # fmt: skip


def _config(shape: Shape, length: int) -> Any:
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inside,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads, head_dim=shape.head,
        max_position_embeddings=max(length, 512), tie_word_embeddings=shape.is_tied,
        architectures=["Qwen2ForCausalLM"], bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip


def _model(shape: Shape, work: Work, *, attention: str | None) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    extra = {"attn_implementation": attention} if attention else {}
    dtype = torch.bfloat16 if work.lora else torch.float32
    with torch.device("cuda" if _is_cuda() else "cpu"):
        return AutoModelForCausalLM.from_config(_config(shape, work.length), dtype=dtype, **extra)


def _adapters(work: Work) -> Any:
    if not work.lora:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=work.lora, lora_alpha=2 * work.lora, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def _tokenizer(shape: Shape) -> Any:
    """Return a tokenizer of numbers: nothing is read or written but tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<end>": 0} | {str(i): i for i in range(1, min(shape.vocabulary, 512))}
    made = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", pad_token="<end>",
        chat_template="{% for m in messages %}{{ m.content }} {% endfor %}",
    )  # fmt: skip


def _random_tokens(shape: Shape, n: int, length: int) -> list[list[int]]:
    import torch

    # Of the words that the tokenizer knows; never its end.
    drawn = torch.randint(1, min(shape.vocabulary, 512), (n, length), device="cpu")
    return list(drawn.tolist())


def main(words: Sequence[str]) -> None:
    """Measure one phase here, and write what was found."""
    phase, out, work = words
    found = {"sft": sft, "grpo": grpo, "sample": sample}[phase](Work(**json.loads(work)))
    Path(out).write_text(json.dumps(asdict(found)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
