"""TRL's GRPOTrainer with what our runs need: nothing moves on a NaN, caps and references hold."""

from __future__ import annotations

import math
import os
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distill.devices import world
from distill.grpo.config import GrpoConfig
from distill.grpo.evaluation import Evaluator
from distill.grpo.groups import Rollout
from distill.grpo.record import StepLog
from distill.grpo.rollout import gathered, whole_weights
from distill.launch import require_wrapper, wrapper_of
from distill.presets import cap_at
from distill.runs import Spent
from distill.student import local_folder, peft_config
from distill.training import Progress
from factory.errors import ConfigError, FactoryError

_REFERENCE = "reference.safetensors"
_SPENT = "cpu_s"


def paid(
    prompts: Sequence[str], paid: Sequence[float | None], **columns: Any
) -> list[float | None]:
    """Hand TRL the rewards that the rollout brought with it (its ``reward_funcs``)."""
    del prompts, columns
    return list(paid)


def make_trainer(
    config: GrpoConfig,
    *,
    tokenizer: Any,
    arguments: Any,
    rollout: Rollout,
    log: StepLog,
    spent: Spent,
    mark: str,
    evaluator: Evaluator,
) -> Any:
    """Return the trainer of a run.

    Args:
        config: of the run.
        tokenizer: of ``rollout.policy_tokenizer``.
        arguments: a ``trl.GRPOConfig``.
        rollout: samples, rewards and records.
        log: takes each update's figures.
        spent: seconds of the run.
        mark: what marks a whole checkpoint of this run (``training.mark_of``).
        evaluator: called after each update.
    """
    from datasets import Dataset

    # TRL calls ``rollout_func`` an experiment, at every start.
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    watch = _watch(rollout, log, evaluator, spent=spent, max_cpu_s=config.max_cpu_s)
    trainer = _trainer_class(_order(config, rollout, arguments))(
        model=_policy(config),
        reward_funcs=[paid],
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(len(rollout.pairs))]}),
        processing_class=tokenizer,
        peft_config=peft_config(config.lora),
        rollout_func=rollout,
        callbacks=[watch, Progress.callback(name=config.out.name, mark=mark, say=lambda _: None)],
    )
    rollout.sampler.follow(trainer)
    if not arguments.use_vllm:
        # TRL corrects for the sampler's log probabilities only where it believes to sample with
        # vLLM itself, which cannot start on a CPU. Its own code does not run: ``rollout_func``
        # samples, and of ``vllm_generation`` only ``sync_weights`` is called.
        trainer.use_vllm, trainer.vllm_generation = True, rollout.sampler
        trainer._last_loaded_step = -1
    watch.trainer = trainer
    Progress.only(trainer)
    return trainer


def _policy(config: GrpoConfig) -> Any:
    from transformers import AutoModelForCausalLM

    # A folder, so that the reference and vLLM, which TRL loads by the policy's name, are of the
    # same commit.
    model = AutoModelForCausalLM.from_pretrained(
        local_folder(config.base), dtype=config.dtype, use_safetensors=True,
        trust_remote_code=False,
    )  # fmt: skip
    if config.lora is None:
        freeze(model, config.trainable)
    return model


def _order(config: GrpoConfig, rollout: Rollout, arguments: Any) -> list[int] | None:
    """Return the numbers of the prompts of the whole run, or None where TRL's order holds.

    Prompts without a gold come in the last updates alone (``preference_steps``).
    """
    if not config.last_steps or len(rollout.reasoning) == len(rollout.pairs):
        return None
    group, updates = int(arguments.num_generations), int(arguments.max_steps)
    if updates < 1:
        raise ConfigError("preference_steps without trl.max_steps", "say how long the run is")
    rollout.all_from = max(0, updates - config.last_steps)
    per_rollout = arguments.steps_per_generation // arguments.gradient_accumulation_steps
    per_rollout = max(1, per_rollout) * int(arguments.num_iterations)
    return prompt_order(
        rollout.reasoning, range(len(rollout.pairs)), seed=config.seed,
        a_rollout=arguments.generation_batch_size // group,
        n_before=-(-rollout.all_from // per_rollout), n_rollouts=-(-updates // per_rollout),
    )  # fmt: skip


def prompt_order(
    first: Sequence[int], then: Sequence[int], *, a_rollout: int, n_before: int, n_rollouts: int,
    seed: int,
) -> list[int]:  # fmt: skip
    """Return the prompts of all rollouts: ``n_before`` of them from ``first``, then from ``then``.

    Prompts are drawn without putting back until all have had their turn; within a rollout none
    stands twice.

    Raises:
        ConfigError: there are fewer prompts than a rollout has.

    >>> prompt_order([0, 1], [0, 1, 2], a_rollout=2, n_before=2, n_rollouts=3, seed=0)[:4]
    [0, 1, 1, 0]
    """
    rng, out = random.Random(seed), []
    for pool, n in ((first, max(0, n_before)), (then, n_rollouts - max(0, n_before))):
        if n > 0 and len(pool) < a_rollout:
            raise ConfigError(
                f"{len(pool)} prompts for rollouts of {a_rollout}", "give more, or smaller rollouts"
            )
        left: list[int] = []
        for _ in range(max(0, n)):
            if len(left) < a_rollout:
                fresh = rng.sample(list(pool), len(pool))
                # Those still waiting go first, and their next turn comes after all others'.
                left = [*left, *(n for n in fresh if n not in left), *left]
            out += left[:a_rollout]
            left = left[a_rollout:]
    return out


def _trainer_class(order: list[int] | None = None) -> Any:
    from trl import GRPOTrainer
    from trl.trainer.utils import RepeatSampler

    class _Trainer(GRPOTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            if order is None:
                return super()._get_train_sampler(dataset)
            sampler = RepeatSampler(
                order, self.num_generations,
                batch_size=self.args.generation_batch_size // self.num_generations,
                repeat_count=self.num_iterations * self.args.steps_per_generation,
                shuffle=False,
            )  # fmt: skip
            return _Through(order, sampler)

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            if not math.isfinite(float(loss)):
                raise not_a_number("loss", self.state.global_step)
            return loss

        def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
            if resume_from_checkpoint and self.ref_model is not None:
                load_reference(self.ref_model, Path(resume_from_checkpoint))
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    return _Trainer


class _Through:
    """A sampler of places in an order, as one of what stands there."""

    def __init__(self, order: Sequence[int], places: Any) -> None:
        self.order, self.places = order, places

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[int]:
        return (self.order[place] for place in self.places)


def _watch(
    rollout: Rollout, log: StepLog, evaluator: Evaluator, *, spent: Spent, max_cpu_s: float | None
) -> Any:
    """Return the callback that sets caps, hands figures on, keeps references and the budget."""
    from transformers import TrainerCallback

    class _Watch(TrainerCallback):  # type: ignore[misc]
        trainer: Any = None

        def evaluate(self, step: int, *, is_last: bool = False) -> None:
            values = evaluator.after(self.trainer, step, is_last=is_last)
            if values is not None:
                log.evaluated(step, values)

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found = wrapper_of(self.trainer)
            require_wrapper(found, processes=world().num_processes)
            log.say(f"grpo {log.name}: {world().num_processes} processes, wrapper {found}")
            if state.global_step == 0:
                self.evaluate(0)

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            set_cap(self.trainer, cap_at(rollout.caps, state.global_step))

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            import torch

            for parameter in kwargs["model"].parameters():
                grad = parameter.grad
                # Of a sharded gradient each process looks at its own part.
                grad = grad.to_local() if hasattr(grad, "to_local") else grad
                if grad is not None and not torch.isfinite(grad).all():
                    raise not_a_number("gradient", state.global_step)

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            # The summary at the end of a training has no loss of a step.
            if logs and "loss" in logs:
                log.add(
                    state.global_step,
                    state.max_steps,
                    logs,
                    rewards=rollout.take_means(),
                    nats=rollout.sampler.worst_nats,
                )

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if self.trainer.ref_model is not None:
                save_reference(self.trainer.ref_model, folder)
            if state.is_world_process_zero:
                (folder / _SPENT).write_text(f"{spent.cpu_s:.2f}")

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.evaluate(state.global_step, is_last=True)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            if state.global_step < state.max_steps:
                self.evaluate(state.global_step)
            # All processes stop at the same step: they decide on their common sum.
            if max_cpu_s is not None and sum(gathered([spent.cpu_s])) >= max_cpu_s:
                control.should_training_stop = True
            return control

    return _Watch()


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
    """Keep the reference in a checkpoint: TRL starts again from the base otherwise.

    Every process calls it, since a sharded reference is gathered from all; the first one writes.
    """
    from safetensors.torch import save_file

    weights = {name: tensor.cpu().clone() for name, tensor in whole_weights(model)}
    if world().is_main_process:
        save_file(weights, str(folder / _REFERENCE))


def load_reference(model: Any, folder: Path) -> None:
    """Take the reference of a checkpoint up again.

    Raises:
        FactoryError: the checkpoint has none.
    """
    from safetensors.torch import load_file
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    path = folder / _REFERENCE
    if not path.is_file():
        raise FactoryError(f"{folder} has no reference model", "remove it and run again")
    # Where the reference is sharded each process keeps its part of what it read.
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, load_file(str(path)), options=options)
