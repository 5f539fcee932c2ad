"""Supervised fine-tuning with TRL: a release's traces into a student, or back into their own base.

The loss covers the completion, thinking and summary and end of turn, and nothing of the prompt.
Rows are rendered by our own templates, tokenised as at inference, checked by preflight, and given
to TRL as tokens and labels. Rows over ``max_length`` are left out, never cut.

A finished run writes ``run.json`` last; the same call again returns at once. A killed run goes on
from its last whole checkpoint.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distill.devices import has_cuda, of_main, settle, trl_settings, world
from distill.preflight import Preflight, preflight
from distill.prepare import data_digests, lines_of, prepare, usable, wait_for, wanted_of
from distill.runs import device_time, file_digest, finished, write_run
from distill.student import (
    SftConfig,
    Student,
    load_student,
    load_tokenizer,
    local_folder,
    peft_config,
    unloadable,
)
from distill.training import (
    accumulated,
    mark_of,
    quiet,
    remove_checkpoints,
    resumable,
    train,
    trl_config,
)
from distill.training_rows import TokenRows, is_prepared, read_rows
from factory.config import apply_override
from factory.errors import ConfigError
from factory.records.ids import key_of

__all__ = [
    "TRL_DEFAULTS", "SftConfig", "Student", "check", "inputs_of", "load_student", "load_tokenizer",
    "raise_context", "sft", "trl_arguments",
]  # fmt: skip
_VERSION = 1
_PREPARED = "prepared"
TRL_DEFAULTS: dict[str, Any] = {
    # Cosine down to a tenth of the first rate: DeepSeek-R1 v2, B.4.2 and B.4.3.
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
    "packing": True,
    "packing_strategy": "bfd",
    "logging_steps": 0.1,
    "save_strategy": "steps",
    "save_steps": 0.25,
    "save_total_limit": 2,
    "report_to": "none",
}
"""Keys of ``trl.SFTConfig`` where a student file says nothing."""


def sft(config: SftConfig, *, say: Callable[[str], None] = print, restart: bool = False) -> Path:
    """Train, or return at once where this run is finished already.

    Args:
        config: what to train on what.
        say: takes short lines of progress.
        restart: remove the checkpoints that are there, and begin at the first step.

    Returns:
        ``config.out``: safetensors, tokenizer and template, loadable by path.

    Raises:
        ConfigError: the student file or its ``trl`` block does not fit.
        Refused: preflight found that the run would train something else than the data says.
        UsageError: checkpoints of other settings are there.
        FactoryError: the loss is no number any more, or no weights were written.
    """
    student = load_student(config.student, overrides=config.overrides, base=config.base)
    inputs = inputs_of(config, student)
    if finished(config.out, inputs=inputs):
        return config.out
    quiet()
    settle(cuda=has_cuda())
    processes = world()
    is_main = processes.is_main_process
    with device_time(config.out, processes.num_processes, writes=is_main) as spent:
        metrics, values = _attempt(config, student, inputs, say=say, restart=restart)
        metrics["device_s"] = spent.total_s
    if is_main:
        write_run(config.out, kind="sft", inputs=inputs, config=values, metrics=metrics)
        remove_checkpoints(config.out)
        shutil.rmtree(config.out / _PREPARED, ignore_errors=True)
    return config.out


def _attempt(
    config: SftConfig, student: Student, inputs: str, *, say: Callable[[str], None], restart: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train; returns the figures and the settings of the run."""
    processes = world()
    say = of_main(say)
    arguments = trl_arguments(config, student, cuda=has_cuda())
    tokenizer, template = load_tokenizer(student)
    folder, prepared = _prepared(config, student, writes=processes.is_main_process, say=say)
    for line in lines_of(prepared):
        say(line)
    rows = TokenRows(folder, packed=bool(arguments.packing))
    arguments.eos_token = template.end_of_turn
    mark = mark_of(inputs, _settings(config, student))
    resume = resumable(config.out, mark=mark, restart=restart)
    if prepared["over"]:
        say(f"sft {config.out.name}: {prepared['over']} rows over max_length left out")
    attention = attention_for(student, packed=rows.packed, cuda=has_cuda())
    model = _load_model(student, attention=attention)
    if rows.packed:
        say(f"sft {config.out.name}: {masks_of(attention_of(model))}")
    if raise_context(model.config, student.max_length):
        say(f"sft {config.out.name}: context of the base raised to {student.max_length} tokens")

    def trainer(callback: Any) -> Any:
        from trl import SFTTrainer

        return SFTTrainer(
            model=model, args=arguments, train_dataset=rows.dataset(), processing_class=tokenizer,
            peft_config=peft_config(student.lora), callbacks=[callback],
        )  # fmt: skip

    metrics = train(
        trainer, tokenizer, config.out, what="sft", mark=mark, resume=resume, say=say
    )  # fmt: skip
    metrics |= {f"n_{name}": prepared[name] for name in ("rows", "bad", "over", "packs", "tokens")}
    metrics |= {"n_rows_kept": prepared["kept"], "attention": attention_of(model)}
    return metrics, {
        **config.model_dump(mode="json"),
        "student_file": student.model_dump(mode="json"),
        "data_digests": prepared["data"],
        "template": {"name": template.name, "digest": template.digest},
    }


def _prepared(
    config: SftConfig, student: Student, *, writes: bool, say: Callable[[str], None]
) -> tuple[Path, dict[str, Any]]:
    """Return prepared rows and their manifest: those that were given, or made here.

    Of several processes one writes; the others wait for its file, since a barrier ends a training
    whose data takes longer than its timeout.
    """
    folder = config.data if is_prepared(config.data) else config.out / _PREPARED
    if folder == config.data:
        wanted = wanted_of(student, config.data, max_rows=config.max_rows)
        return folder, usable(folder, wanted, student)
    if not writes:
        wait_for(folder)
    return folder, prepare(student, config.data, folder, max_rows=config.max_rows, say=say)


def inputs_of(config: SftConfig, student: Student | None = None) -> str:
    """Return the hash of everything that shapes the result; the student is read where not given."""
    student = student or load_student(config.student, overrides=config.overrides, base=config.base)
    base = Path(student.base)
    weights: object = student.base
    if base.is_dir():
        weights = {p.name: file_digest(p) for p in sorted(base.glob("*")) if _is_model_file(p)}
    return key_of(
        {
            "version": _VERSION,
            "student": student.model_dump(mode="json", exclude={"base"}),
            "base": weights,
            "data": data_digests(config.data),
            "seed": config.seed,
            "max_rows": config.max_rows,
        }
    )


def _is_model_file(path: Path) -> bool:
    return path.suffix in (".safetensors", ".json", ".jinja") and path.name != "run.json"


def trl_arguments(config: SftConfig, student: Student, *, cuda: bool) -> Any:
    """Return the ``trl.SFTConfig``; the student's ``trl`` block wins over ``TRL_DEFAULTS``.

    Raises:
        ConfigError: TRL does not know a key, or refuses a value.
    """
    from trl import SFTConfig

    if student.trl.get("packing_strategy", "bfd") != "bfd":
        raise ConfigError("trl.packing_strategy is not bfd", "rows are packed whole, or not at all")
    values = {**TRL_DEFAULTS, **trl_settings(cuda=cuda), **student.trl}
    if student.batch_size is not None:
        values["gradient_accumulation_steps"] = accumulated(student.batch_size, values)
    return trl_config(
        SFTConfig, values, out=config.out, seed=config.seed, what=f"trl block of {config.student}",
        max_length=student.max_length, completion_only_loss=True,
        # Rows come as tokens and labels, in packs: there is nothing to prepare.
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip


def _load_model(student: Student, *, attention: str | None) -> Any:
    from transformers import AutoModelForCausalLM

    extra = {"attn_implementation": attention} if attention else {}
    try:
        return AutoModelForCausalLM.from_pretrained(
            local_folder(student.base),
            dtype=student.dtype,
            # Pickled weights run code when they are loaded.
            use_safetensors=True,
            trust_remote_code=False,
            **extra,
        )
    except (OSError, ValueError) as error:
        raise unloadable(student.base, error) from None


def attention_for(student: Student, *, packed: bool, cuda: bool) -> str | None:
    """Return the attention to load a student with; None leaves it to transformers.

    On a GPU packs want one that computes each row by itself: FlashAttention where it is installed,
    else torch's own FlexAttention. ``sdpa`` gives the same numbers with a mask over the whole pack,
    whose cost grows with the square of the pack and not of its rows.
    """
    if student.attention is not None or not packed or not cuda:
        return student.attention
    return "flash_attention_2" if find_spec("flash_attn") else "flex_attention"


def attention_of(model: Any) -> str:
    """Return the attention that a model really has."""
    return str(model.config._attn_implementation)


def masks_of(attention: str) -> str:
    """Say how the rows of a pack are kept apart."""
    if "flash" in attention or attention == "flex_attention":
        return f"attention {attention}: each row of a pack is computed by itself"
    return (
        f"attention {attention}: rows of a pack do not see each other, but a mask over the whole "
        "pack is computed; on a GPU install flash-attn or set attention: flex_attention"
    )


def raise_context(model_config: Any, max_length: int) -> bool:
    """Let the model's configuration hold the longest row; return whether it had to be changed.

    Engines refuse prompts beyond it. Rotary positions themselves need no change: training on long
    rows is what teaches them.
    """
    if getattr(model_config, "max_position_embeddings", max_length) >= max_length:
        return False
    model_config.max_position_embeddings = max_length
    return True


def _settings(config: SftConfig, student: Student) -> dict[str, Any]:
    """Return the settings that a checkpoint's are compared with, as plain data."""
    own = config.model_dump(mode="json", include={"data", "seed", "max_rows"})
    return {**own, **student.model_dump(mode="json")}


def check(student: Student, data: Path, *, max_rows: int | None = None) -> Preflight:
    """Check what training ``student`` on ``data`` would see; no weights are loaded.

    Raises:
        Refused: preflight's first objection.
        UsageError: data or base cannot be read.
    """
    rows = read_rows(data, max_rows=max_rows)
    tokenizer, template = load_tokenizer(student)
    return preflight(
        rows,
        tokenizer=tokenizer,
        template=template,
        max_length=student.max_length,
        max_over_fraction=student.max_over_fraction,
    )


def main(arguments: Sequence[str]) -> int:
    """Run one training from ``key=value`` arguments, in a process of its own.

    Returns:
        The exit status: 0, or that of the error, which is printed as one line.
    """
    from factory.cli.common import run_script, say

    def run() -> None:
        values: dict[str, Any] = {}
        for assignment in arguments:
            apply_override(values, assignment)
        restart = bool(values.pop("restart", False))
        say(str(sft(SftConfig.make(values), say=say, restart=restart)))

    return run_script("sft", run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
