"""TRL's GRPOTrainer with what our runs need: nothing moves on a NaN, caps and references hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill.presets import cap_at
from distill.runs import cpu_s
from distill.training import Progress
from factory.errors import ConfigError, FactoryError

_REFERENCE = "reference.safetensors"
_SPENT = "cpu_s"


def make_trainer(run: Any, *, arguments: Any, rollout: Callable[..., Any], n_pairs: int) -> Any:
    """Return the trainer of a run.

    Args:
        run: of ``distill.grpo``: pays, logged, caps, tokenizer, config, inputs, say.
        arguments: a ``trl.GRPOConfig``.
        rollout: TRL's ``rollout_func``.
        n_pairs: prompts; the dataset's column holds their numbers as text.
    """
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOTrainer

    model = AutoModelForCausalLM.from_pretrained(
        run.base,
        revision=run.base_revision,
        dtype=run.config.dtype,
        use_safetensors=True,
        trust_remote_code=False,
    )

    freeze(model, run.config.trainable)

    class _Trainer(GRPOTrainer):  # type: ignore[misc]
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            if not math.isfinite(float(loss)):
                raise not_a_number("loss", self.state.global_step)
            return loss

        def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
            if resume_from_checkpoint and self.ref_model is not None:
                load_reference(self.ref_model, Path(resume_from_checkpoint))
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    class _Watch(TrainerCallback):  # type: ignore[misc]
        trainer: Any = None

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            set_cap(self.trainer, cap_at(run.caps, state.global_step))

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            import torch

            for parameter in kwargs["model"].parameters():
                if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                    raise not_a_number("gradient", state.global_step)

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            if logs and "reward" in logs:
                run.logged(state.global_step, state.max_steps, logs)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if not state.is_world_process_zero:
                return
            if self.trainer.ref_model is not None:
                save_reference(self.trainer.ref_model, folder)
            (folder / _SPENT).write_text(f"{cpu_s() - run.cpu:.2f}")

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            limit = run.config.max_cpu_s
            if limit is not None and cpu_s() - run.cpu >= limit:
                control.should_training_stop = True
            return control

    def rule(
        prompts: Sequence[str], completion_ids: Sequence[Any], trainer_state: Any, **columns: Any
    ) -> list[float | None]:
        del columns
        return list(run.pays(prompts, completion_ids, int(trainer_state.global_step)))

    watch = _Watch()
    marks = Progress.callback(name=run.config.out.name, inputs=run.inputs, say=lambda _: None)
    trainer = _Trainer(
        model=model,
        reward_funcs=[rule],
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(n_pairs)]}),
        processing_class=run.tokenizer,
        rollout_func=rollout,
        callbacks=[watch, marks],
    )
    watch.trainer = trainer
    Progress.only(trainer)
    return trainer


def not_a_number(what: str, step: int) -> FactoryError:
    """Return the error of a run that must not move its weights."""
    return FactoryError(
        f"the {what} of step {step + 1} is no finite number; the weights were not moved",
        "lower trl.learning_rate; the last checkpoint is kept",
    )


def freeze(model: Any, trainable: str | None) -> int:
    """Leave only the parameters trainable in whose name a regular expression is found.

    Args:
        model: a torch module.
        trainable: the expression; None: all.

    Returns:
        Number of values that training may move.

    Raises:
        ConfigError: no regular expression, or no parameter has such a name.
    """
    try:
        pattern = re.compile(trainable or "")
    except re.error as error:
        raise ConfigError(
            f"trainable: {trainable!r}: {error}", "write a regular expression"
        ) from None
    n_trained = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(pattern.search(name) is not None)
        n_trained += parameter.numel() if parameter.requires_grad else 0
    if not n_trained:
        names = ", ".join(name for name, _ in list(model.named_parameters())[:3])
        raise ConfigError(
            f"trainable: no parameter matches {trainable!r}", f"names are as in {names}"
        )
    return n_trained


def set_cap(trainer: Any, cap: int) -> None:
    """Make ``cap`` the most completion tokens from now on, wherever TRL keeps it."""
    if trainer.max_completion_length == cap:
        return
    trainer.max_completion_length = trainer.args.max_completion_length = cap
    if getattr(trainer, "vllm_generation", None) is not None:
        trainer.vllm_generation.max_completion_length = cap


def spent_before(checkpoint: Path) -> float:
    """Return the CPU seconds of the training up to a checkpoint, all attempts together."""
    path = checkpoint / _SPENT
    return float(path.read_text()) if path.is_file() else 0.0


def save_reference(model: Any, folder: Path) -> None:
    """Keep the reference in a checkpoint: TRL starts again from the base otherwise."""
    from safetensors.torch import save_file

    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    save_file(weights, str(folder / _REFERENCE))


def load_reference(model: Any, folder: Path) -> None:
    """Take the reference of a checkpoint up again.

    Raises:
        FactoryError: the checkpoint has none.
    """
    from safetensors.torch import load_file

    path = folder / _REFERENCE
    if not path.is_file():
        raise FactoryError(f"{folder} has no reference model", "remove it and run again")
    model.load_state_dict(load_file(str(path)))
