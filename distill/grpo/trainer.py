"""TRL's GRPOTrainer with what our runs need: nothing moves on a NaN, caps and references hold."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from distill.devices import world
from distill.grpo.config import GrpoConfig, Pair
from distill.grpo.record import Recorder, StepLog
from distill.grpo.reward import Payer, means, tossed
from distill.grpo.rollout import (
    Drawn,
    Keys,
    Renderer,
    Sample,
    Sampler,
    sample_indices,
    whole_weights,
)
from distill.launch import require_wrapper, wrapper_of
from distill.presets import cap_at
from distill.rehearsal import is_replaced, planted, right_answer
from distill.runs import Spent
from distill.student import local_folder, peft_config
from distill.training import Progress
from factory.errors import ConfigError, FactoryError
from factory.records import ids

T = TypeVar("T")
_REFERENCE = "reference.safetensors"
_SPENT = "cpu_s"


class Rollout:
    """One rollout of all processes: prompts → samples → rewards → record.

    TRL calls it with the prompts of this process; what is recorded is gathered from all of them,
    so that a group which two processes share keeps one row per sample.

    Args:
        pairs: prompts with their golds; TRL's prompts are their numbers, as text.
        keys: names of the rollouts.
        renderer: of the policy.
        sampler: of the policy.
        payer: judges completions.
        record: None in all processes but the first.
        caps: first step → most completion tokens.
        group_size: completions of a prompt.
        seed: of the run.
        control: ``random`` pays by the toss of a coin.
        rehearsed: dialect of the right answers that replace a quarter of the samples; None: none.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        keys: Keys,
        *,
        renderer: Renderer,
        sampler: Sampler,
        payer: Payer,
        record: Recorder | None,
        caps: Mapping[int, int],
        group_size: int,
        seed: int,
        control: Literal["none", "random"],
        rehearsed: str | None = None,
    ) -> None:
        self.rehearsed = rehearsed
        self.pairs, self.keys = pairs, keys
        self.renderer, self.sampler, self.payer, self.record = renderer, sampler, payer, record
        self.caps, self.group_size, self.seed, self.control = caps, group_size, seed, control
        self._means: dict[str, float | None] = {}

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        """Return what TRL's ``rollout_func`` must, and ``paid``: a reward per completion."""
        step = int(trainer.state.global_step)
        pairs = [self.pairs[int(p)] for p in prompts]
        indices = _own_share(sample_indices(gathered(prompts)), len(prompts))
        keys = [
            self.keys.trace_id(prompt_id=p.prompt_id, step=step, sample_index=i)
            for (p, _), i in zip(pairs, indices, strict=True)
        ]
        prompt_ids = [self.renderer.tokens(p.messages) for p, _ in pairs]
        drawn = self.sampler.sample(
            trainer,
            prompt_ids,
            seeds=[ids.seed_of(base=self.seed, trace_id=key) for key in keys],
            max_tokens=cap_at(self.caps, step),
        )
        texts = self._rehearsed(prompts, indices)
        drawn = self._with(texts, drawn, max_tokens=cap_at(self.caps, step))
        samples = [
            Sample(
                p.prompt_id, i, self.renderer.text(c), len(c), self.renderer.is_finished(c),
                is_rehearsed=text is not None,
            )
            for (p, _), i, c, text in zip(pairs, indices, drawn.completion_ids, texts, strict=True)
        ]  # fmt: skip
        rewarded = self.payer.rewards(pairs, [self.renderer.prefill + s.text for s in samples])
        if self.control == "random":
            rewarded = tossed(rewarded, keys, seed=self.seed)
        everything, everyone = gathered(samples), gathered(rewarded)
        if self.record is not None:
            self.record.rollouts(step, everything, everyone, group_size=self.group_size)
        self._means = means(everyone)
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": drawn.completion_ids,
            "logprobs": drawn.logprobs,
            "paid": [r.total for r in rewarded],
        }

    def _rehearsed(self, prompts: Sequence[str], indices: Sequence[int]) -> list[str | None]:
        """Return the right answer that replaces a sample, or None; outside rehearsals, None."""
        if self.rehearsed is None:
            return [None] * len(prompts)
        dialect, prefill = self.rehearsed, self.renderer.prefill
        return [
            right_answer(self.pairs[int(p)][1], dialect=dialect, prefill=prefill)
            if is_replaced(int(p), i) else None
            for p, i in zip(prompts, indices, strict=True)
        ]  # fmt: skip

    def _with(self, texts: Sequence[str | None], drawn: Drawn, *, max_tokens: int) -> Drawn:
        if self.rehearsed is None:
            return drawn
        both = (drawn.completion_ids, drawn.logprobs)
        return Drawn(*planted(self.renderer.tokenizer, texts, both, max_tokens=max_tokens))

    def take_means(self) -> dict[str, float | None]:
        """Return the means of the last rollout, once; empty where there was none since."""
        taken, self._means = self._means, {}
        return taken


def _own_share(values: Sequence[int], n_own: int) -> list[int]:
    """Return this process's part of values gathered from all, each of which gave ``n_own``."""
    begin = world().process_index * n_own
    return list(values[begin : begin + n_own])


def gathered(values: list[T]) -> list[T]:
    """Return the lists of all processes in one, in the order of the processes."""
    from accelerate.utils import gather_object

    out: list[T] = gather_object(values) if world().num_processes > 1 else values
    return out


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
    """
    from datasets import Dataset

    # TRL calls ``rollout_func`` an experiment, at every start.
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    watch = _watch(rollout, log, spent=spent, max_cpu_s=config.max_cpu_s)
    trainer = _trainer_class()(
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


def _trainer_class() -> Any:
    from trl import GRPOTrainer

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

    return _Trainer


def _watch(rollout: Rollout, log: StepLog, *, spent: Spent, max_cpu_s: float | None) -> Any:
    """Return the callback that sets caps, hands figures on, keeps references and the budget."""
    from transformers import TrainerCallback

    class _Watch(TrainerCallback):  # type: ignore[misc]
        trainer: Any = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found = wrapper_of(self.trainer)
            require_wrapper(found, processes=world().num_processes)
            log.say(f"grpo {log.name}: {world().num_processes} processes, wrapper {found}")

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

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
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
