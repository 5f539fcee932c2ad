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
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.devices import has_cuda, settle, trl_settings, world
from distill.launch import wrapper_of
from distill.preflight import Preflight, Row, preflight
from distill.runs import cpu_s, file_digest, finished, write_run
from distill.student import SftConfig, Student, load_student, local_folder, peft_config
from distill.templates import Template, adopt, template_for
from distill.training import Progress, last_checkpoint, mark_of, quiet, save_trained
from distill.training_rows import read_rows, write_tokens
from factory.config import apply_override
from factory.errors import ConfigError, UsageError
from factory.records.ids import key_of

__all__ = [
    "TRL_DEFAULTS", "SftConfig", "Student", "check", "load_student", "load_tokenizer",
    "raise_context", "sft", "trl_arguments",
]  # fmt: skip
_VERSION = 1
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
    inputs = _inputs(config, student)
    if finished(config.out, inputs=inputs):
        return config.out
    quiet()
    cuda = has_cuda()
    settle(cuda=cuda)
    arguments = trl_arguments(config, student, cuda=cuda)
    tokenizer, template = load_tokenizer(student)
    rows = read_rows(config.data, max_rows=config.max_rows)
    seen = _preflight(rows, student=student, tokenizer=tokenizer, template=template)
    processes = world()
    say = say if processes.is_main_process else _silent
    for line in seen.lines():
        say(line)
    arguments.eos_token = template.end_of_turn
    config.out.mkdir(parents=True, exist_ok=True)
    mark = mark_of(inputs, _settings(config, student))
    # With several processes the first one writes, the others read.
    with processes.main_process_first():
        first = restart and processes.is_main_process
        resume = last_checkpoint(config.out / "checkpoints", mark=mark, restart=first)
        dataset = write_tokens(
            rows,
            tokenizer=tokenizer,
            template=template,
            max_length=student.max_length,
            path=config.out / "checkpoints" / f"tokens-{inputs}.arrow",
        )
    n_kept = len(dataset)
    if n_kept < len(rows):
        say(f"sft {config.out.name}: {len(rows) - n_kept} rows over max_length left out")
    model = _load_model(student)
    if raise_context(model.config, student.max_length):
        say(f"sft {config.out.name}: context of the base raised to {student.max_length} tokens")
    metrics = _train(
        model, tokenizer, dataset, arguments, config=config, student=student, mark=mark,
        resume=resume, say=say,
    )  # fmt: skip
    metrics |= {"n_rows": len(rows), "n_rows_kept": n_kept}
    if not processes.is_main_process:
        return config.out
    write_run(
        config.out,
        kind="sft",
        inputs=inputs,
        config={
            **config.model_dump(mode="json"),
            "student_file": student.model_dump(mode="json"),
            "template": {"name": template.name, "digest": template.digest},
        },
        metrics=metrics,
    )
    shutil.rmtree(config.out / "checkpoints", ignore_errors=True)
    return config.out


def _inputs(config: SftConfig, student: Student) -> str:
    """Return the hash of everything that shapes the result."""
    base = Path(student.base)
    weights: object = student.base
    if base.is_dir():
        weights = {p.name: file_digest(p) for p in sorted(base.glob("*")) if _is_model_file(p)}
    data = sorted(config.data.glob("*")) if config.data.is_dir() else [config.data]
    return key_of(
        {
            "version": _VERSION,
            "student": student.model_dump(mode="json", exclude={"base"}),
            "base": weights,
            "data": [file_digest(p) for p in data if p.is_file()],
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
    import dataclasses

    from trl import SFTConfig

    known = {f.name for f in dataclasses.fields(SFTConfig)}
    unknown = sorted(student.trl.keys() - known)
    if unknown:
        raise ConfigError(
            f"trl block of {config.student}: unknown key {', '.join(map(repr, unknown))}",
            "keys are those of trl.SFTConfig",
        )
    values = {**TRL_DEFAULTS, **trl_settings(cuda=cuda), **student.trl}
    if student.batch_size is not None:
        values["gradient_accumulation_steps"] = _accumulated(student, values)
    try:
        return SFTConfig(
            **values,
            output_dir=str(config.out / "checkpoints"),
            seed=config.seed,
            max_length=student.max_length,
            completion_only_loss=True,
            report_to="none",
            disable_tqdm=True,
            logging_nan_inf_filter=False,
            # Rows without packing come as tokens and labels: there is nothing to prepare.
            dataset_kwargs=None if values["packing"] else {"skip_prepare_dataset": True},
        )
    except (TypeError, ValueError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"trl block of {config.student}: {detail}", "correct the file") from None


def _accumulated(student: Student, values: Mapping[str, Any]) -> int:
    """Return how many forward passes of each device stand behind an update."""
    at_once = int(values.get("per_device_train_batch_size", 8)) * int(world().num_processes)
    if (student.batch_size or 0) % at_once:
        raise ConfigError(
            f"batch_size {student.batch_size} does not divide by {at_once} at once "
            f"({world().num_processes} processes)",
            "change batch_size or trl.per_device_train_batch_size",
        )
    return (student.batch_size or 0) // at_once


def load_tokenizer(student: Student) -> tuple[Any, Template]:
    """Return the student's tokenizer, made to render by its training template.

    Raises:
        UsageError: the base cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        folder = local_folder(student.base)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unloadable(student.base, error) from None
    template = template_for(tokenizer, student.template)
    adopt(tokenizer, template)
    return tokenizer, template


def _unloadable(base: str, error: Exception) -> UsageError:
    detail = " ".join(str(error).split())[:200]
    return UsageError(f"cannot load the base model {base!r} ({detail})", "check name or folder")


def _load_model(student: Student) -> Any:
    from transformers import AutoModelForCausalLM

    extra = {"attn_implementation": student.attention} if student.attention else {}
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
        raise _unloadable(student.base, error) from None


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


def _silent(_: str) -> None:
    pass


def check(student: Student, data: Path, *, max_rows: int | None = None) -> Preflight:
    """Check what training ``student`` on ``data`` would see; no weights are loaded.

    Raises:
        Refused: preflight's first objection.
        UsageError: data or base cannot be read.
    """
    rows = read_rows(data, max_rows=max_rows)
    tokenizer, template = load_tokenizer(student)
    return _preflight(rows, student=student, tokenizer=tokenizer, template=template)


def _preflight(
    rows: Sequence[Row], *, student: Student, tokenizer: Any, template: Template
) -> Preflight:
    return preflight(
        rows,
        tokenizer=tokenizer,
        template=template,
        max_length=student.max_length,
        max_over_fraction=student.max_over_fraction,
    )


def _train(
    model: Any,
    tokenizer: Any,
    dataset: Any,
    arguments: Any,
    *,
    config: SftConfig,
    student: Student,
    mark: str,
    resume: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    from trl import SFTTrainer

    progress = Progress.callback(name=config.out.name, mark=mark, say=say)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=peft_config(student.lora),
        callbacks=[progress],
    )
    progress.trainer = trainer
    Progress.only(trainer)
    if resume is not None:
        say(f"sft {config.out.name}: going on from {resume.name}")
    began, cpu = time.monotonic(), cpu_s()
    result = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    save_trained(trainer, tokenizer, config.out)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "steps": trainer.state.global_step,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "train_loss": result.training_loss,
        "wrapper": wrapper_of(trainer),
        "processes": world().num_processes,
        "resumed_from": resume.name if resume else None,
        "cpu_s": round(cpu_s() - cpu, 2),
        "wall_s": round(time.monotonic() - began, 2),
        "log": trainer.state.log_history,
    }


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
