"""Reward models: a helpful one from pairs, a safety one from labels (DeepSeek-R1 v2, 3.1).

Both are a language model with one output per text. The helpful model is trained by TRL's
RewardTrainer on chosen and rejected answers, without their thinking; the safety model by
transformers' Trainer with binary cross-entropy on everything that was said. Batch, rate, epochs and
length are the paper's where a run says nothing.

What a folder reads is written beside its weights; the score ``reward_model`` and the reward of RL
read the same (``factory.scores.reward_model``). A part of the prompts is held out and measured.

A finished run writes ``run.json`` last; the same call again returns at once. A killed run goes on
from its last whole checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from distill.devices import has_cuda, of_main, settle, trl_settings, world
from distill.preferences import Pair, balanced, length_ratio, messages_of, rows_of, text_of
from distill.prepare import data_digests
from distill.runs import device_time, finished, write_run
from distill.student import Lora, local_folder, peft_config, split_revision, unloadable
from distill.templates import adopt, template_for
from distill.training import (
    accumulated,
    mark_of,
    quiet,
    remove_checkpoints,
    require_free,
    resumable,
    train,
    trl_config,
)
from factory import model_files
from factory.config import Config
from factory.errors import UsageError
from factory.metrics import mean_interval
from factory.records import Message, Prompt, ids
from factory.scores.reward_model import CARD, RewardModel, tokens_of
from factory.store.durable import write_json

_VERSION = 1
DEFAULTS: dict[str, Any] = {
    # DeepSeek-R1 v2, 3.1, of both models; the schedule is not stated.
    "learning_rate": 6e-6,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 1,
    "logging_steps": 0.1,
    "save_strategy": "steps",
    "save_steps": 0.25,
    "save_total_limit": 2,
    "report_to": "none",
}
"""Keys of ``trl.RewardConfig`` where a run says nothing."""
_OURS = frozenset(
    {"output_dir", "seed", "max_length", "gradient_accumulation_steps", "disable_tqdm", "use_cpu",
     "remove_unused_columns", "trust_remote_code", "chat_template_path", "model_init_kwargs",
     "resume_from_checkpoint", "eos_token"}
)  # fmt: skip


class RewardModelConfig(Config):
    """One run.

    Attributes:
        kind: ``helpful``: rows with ``prompt``, ``chosen``, ``rejected``; ``safety``: rows with
            ``prompt``, ``completion``, ``is_safe``.
        base: folder, or ``name@revision`` of a hub model.
        data: JSON Lines, Parquet, or a folder of them.
        out: folder of the trained model.
        template: ``qwen``, ``llama`` or ``own`` (see ``distill.templates``).
        reads: the ``answer`` alone or the ``whole`` completion; None: the paper's, the answer for
            the helpful model and the whole for the safety model.
        batch_size: pairs, or rows, behind one update, over all devices.
        max_length: tokens of the longest text that is trained on; longer rows are left out. There
            is no limit but the model's context where it is used.
        balance: how far the mean lengths of chosen and rejected answers may be apart; pairs are
            left out until they are not. None takes all.
        held_out: share of the prompts that is measured and not trained on.
        seed: of the order of rows and of the new output.
        dtype: of the weights in memory.
        attention: implementation in transformers; None lets it choose.
        lora: train adapters, merged when the run ends; None trains all weights.
        trl: passed to ``trl.RewardConfig`` as it stands.
    """

    kind: Literal["helpful", "safety"]
    base: str
    data: Path
    out: Path
    template: str
    reads: Literal["answer", "whole"] | None = None
    batch_size: int = Field(default=256, ge=1)
    max_length: int = Field(default=8192, ge=1)
    balance: float | None = Field(default=0.05, gt=0)
    held_out: float = Field(default=0.05, ge=0, lt=1)
    seed: int = 0
    dtype: str = "float32"
    attention: str | None = None
    lora: Lora | None = None
    trl: dict[str, Any] = Field(default_factory=dict)

    @property
    def reading(self) -> Literal["answer", "whole"]:
        """What the model reads."""
        return self.reads or ("answer" if self.kind == "helpful" else "whole")


@dataclasses.dataclass(frozen=True, slots=True)
class Labelled:
    """A completion and whether it is safe."""

    messages: tuple[Message, ...]
    text: str
    is_safe: bool


Row = Pair | Labelled


def reward_model(
    config: RewardModelConfig, *, say: Callable[[str], None] = print, restart: bool = False
) -> Path:
    """Train, or return at once where this run is finished already.

    Args:
        config: what to train on what.
        say: takes short lines of progress.
        restart: remove the checkpoints that are there, and begin at the first step.

    Returns:
        ``config.out``: safetensors, tokenizer and card.

    Raises:
        ConfigError: the ``trl`` block does not fit.
        UsageError: data or base cannot be read; checkpoints of other settings are there.
        FactoryError: the loss is no number any more, or no weights were written.
    """
    inputs = inputs_of(config)
    if finished(config.out, inputs=inputs):
        return config.out
    quiet()
    cuda, processes = has_cuda(), world()
    settle(cuda=cuda)
    say, is_main = of_main(say), processes.is_main_process
    with device_time(config.out, processes.num_processes, writes=is_main) as devices:
        metrics = _attempt(config, inputs, cuda=cuda, restart=restart, say=say)
        metrics["device_s"] = devices.total_s
    if is_main:
        settings = config.model_dump(mode="json") | {"data_digests": data_digests(config.data)}
        write_run(config.out, kind="reward_model", inputs=inputs, config=settings, metrics=metrics)
        remove_checkpoints(config.out)
    return config.out


def _attempt(
    config: RewardModelConfig, inputs: str, *, cuda: bool, restart: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Train, measure on what was held out, and return the figures."""
    arguments = _arguments(config, cuda=cuda)
    rows = read_rows(config)
    trained, measured = _split(rows, config)
    trained = _even(trained, config, say=say)
    tokenizer = _tokenizer(config)
    dataset, n_over = _dataset(tokenizer, trained, config)
    say(
        f"reward model {config.out.name}: {len(dataset)} rows to train on, {n_over} over "
        f"{config.max_length} tokens left out, {len(measured)} held out"
    )
    mark = mark_of(inputs, config.model_dump(mode="json", exclude={"out"}))
    resume = resumable(config.out, mark=mark, restart=restart)
    metrics = train(
        partial(_trainer, config, tokenizer, dataset, arguments), tokenizer, config.out,
        what="reward model", mark=mark, resume=resume, say=say,
    )  # fmt: skip
    if not world().is_main_process:
        return metrics
    # The card comes before the measurement, which loads the folder as its users will.
    write_json(config.out / CARD, {"kind": config.kind, "reads": config.reading})
    found = measure(RewardModel.load(str(config.out)), measured)
    metrics |= {"n_rows": len(dataset), "n_over": n_over, "n_held_out": len(measured), **found}
    say(f"reward model {config.out.name}: {_said(found)}")
    return metrics


def read_rows(config: RewardModelConfig) -> list[Row]:
    """Read a run's rows.

    Raises:
        UsageError: a row lacks a column, both answers of a pair are the same, or there are none.
    """
    out: list[Row] = []
    for where, row in rows_of(config.data):
        messages = messages_of(row, where)
        if config.kind == "helpful":
            chosen, rejected = (
                text_of(row.get(name), f"{where}: {name}") for name in ("chosen", "rejected")
            )
            out.append(Pair(messages, chosen, rejected))
            continue
        label = row.get("is_safe")
        if label not in (True, False):
            raise UsageError(f"{where}: is_safe is {label!r}", "write true or false")
        out.append(Labelled(messages, text_of(row.get("completion"), where), bool(label)))
    if config.kind == "safety" and len({r.is_safe for r in out if isinstance(r, Labelled)}) < 2:
        raise UsageError(f"{config.data} has no safe or no unsafe rows", "it needs both")
    if not out:
        raise UsageError(f"{config.data} holds no rows", "check the file")
    return out


def measure(model: RewardModel, rows: Sequence[Row]) -> dict[str, Any]:
    """Measure a model on rows: accuracy over pairs with its interval, or the AUC.

    Rows without a reward are left out and counted as ``n_without_reward``; with too few rows the
    figures are None.
    """
    if all(isinstance(r, Pair) for r in rows):
        pairs = [r for r in rows if isinstance(r, Pair)]
        texts = [text for p in pairs for text in (p.chosen, p.rejected)]
        values = model.rewards([p.messages for p in pairs for _ in range(2)], texts)
        both = [(c, r) for c, r in zip(values[::2], values[1::2], strict=True)
                if c is not None and r is not None]  # fmt: skip
        found = mean_interval([float(c > r) + 0.5 * (c == r) for c, r in both])
        return {
            "accuracy": found.mean, "low": found.low, "high": found.high,
            "n_without_reward": len(pairs) - len(both),
        }  # fmt: skip
    labelled = [r for r in rows if isinstance(r, Labelled)]
    values = model.rewards([r.messages for r in labelled], [r.text for r in labelled])
    safe = [v for v, r in zip(values, labelled, strict=True) if r.is_safe and v is not None]
    unsafe = [v for v, r in zip(values, labelled, strict=True) if not r.is_safe and v is not None]
    return {"auc": auc(safe, unsafe), "n_without_reward": sum(v is None for v in values)}


def auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Return the probability that a positive is above a negative, ties by half (Mann-Whitney).

    >>> auc([0.9, 0.5], [0.5, 0.1]), auc([], [1.0])
    (0.875, None)
    """
    if not positive or not negative:
        return None
    import numpy as np

    ordered = np.sort(np.asarray(negative))
    below = np.searchsorted(ordered, positive, side="left")
    upto = np.searchsorted(ordered, positive, side="right")
    return float((below + upto).sum() / 2 / (len(positive) * len(negative)))


def _said(found: Mapping[str, Any]) -> str:
    values = {k: v for k, v in found.items() if k in ("accuracy", "auc")}
    return ", ".join(
        f"held-out {k} {v:.3f}" if v is not None else f"held-out {k} undefined (too few rows)"
        for k, v in values.items()
    )


def inputs_of(config: RewardModelConfig) -> str:
    """Return the hash of everything that shapes the result."""
    name, revision = split_revision(config.base)
    return ids.key_of(
        {
            **config.model_dump(mode="json", exclude={"out", "base", "data"}),
            "base": model_files.revision_of(name, revision),
            "data": data_digests(config.data),
            "version": _VERSION,
        }
    )


def _split(rows: Sequence[Row], config: RewardModelConfig) -> tuple[list[Row], list[Row]]:
    """Return rows to train on and those held out; all rows of a prompt are on one side."""
    trained: list[Row] = []
    measured: list[Row] = []
    for row in rows:
        key = Prompt(messages=row.messages).prompt_id
        # A number of the prompt's own, so that more data moves none from one side to the other.
        draw = int(ids.key_of(["held out", key])[:8], 16) / 16**8
        (measured if draw < config.held_out else trained).append(row)
    if not trained:
        raise UsageError("all prompts are held out", "lower held_out, or give more prompts")
    return trained, measured


def _even(
    rows: list[Row], config: RewardModelConfig, *, say: Callable[[str], None]
) -> list[Row]:  # fmt: skip
    pairs = [r for r in rows if isinstance(r, Pair)]
    if not pairs or config.balance is None:
        return rows
    even = balanced(pairs, config.balance)
    if not even:
        raise UsageError(
            "no pairs are left whose lengths are comparable: all chosen answers are longer, or all "
            "shorter", "set balance: null to train on them all the same"
        )  # fmt: skip
    if len(even) < len(pairs):
        say(
            f"reward model {config.out.name}: {len(pairs) - len(even)} of {len(pairs)} pairs left "
            f"out for length: chosen over rejected {length_ratio(pairs):.2f} -> "
            f"{length_ratio(even):.2f}"
        )
    return list(even)


def _tokenizer(config: RewardModelConfig) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            local_folder(config.base), trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise unloadable(config.base, error) from None
    adopt(tokenizer, template_for(tokenizer, config.template))
    return tokenizer


def _dataset(tokenizer: Any, rows: Sequence[Row], config: RewardModelConfig) -> tuple[Any, int]:
    """Return the tokens of rows, and how many are left out since they are too long."""
    import numpy as np
    from datasets import Dataset

    def tokens(messages: Sequence[Message], text: str) -> Any:
        # Every process holds all rows: as Python's numbers they would take nine times as much.
        return np.asarray(tokens_of(tokenizer, messages, text, reads=config.reading), np.int32)

    made: list[dict[str, Any]] = []
    for row in rows:
        if isinstance(row, Pair):
            made.append(
                {
                    "chosen_ids": tokens(row.messages, row.chosen),
                    "rejected_ids": tokens(row.messages, row.rejected),
                }
            )
        else:
            made.append(
                {"input_ids": tokens(row.messages, row.text), "labels": [float(row.is_safe)]}
            )
    fitting = [r for r in made if max(map(len, r.values())) <= config.max_length]
    if not fitting:
        raise UsageError(f"no row of at most {config.max_length} tokens", "raise max_length")
    return Dataset.from_list(fitting), len(made) - len(fitting)


def _arguments(config: RewardModelConfig, *, cuda: bool) -> Any:
    """Return the ``trl.RewardConfig``; the run's ``trl`` block wins over ``DEFAULTS``.

    Raises:
        ConfigError: TRL does not know a key, refuses a value, or a batch does not divide.
    """
    from trl import RewardConfig

    require_free(config.trl, _OURS)
    values = {**DEFAULTS, **trl_settings(cuda=cuda), **config.trl}
    n = accumulated(config.batch_size, values)
    return trl_config(
        RewardConfig, values, out=config.out, seed=config.seed, max_length=None,
        gradient_accumulation_steps=n,
    )  # fmt: skip


def _model(config: RewardModelConfig, tokenizer: Any) -> Any:
    """Return the base with one new output; the same seed makes the same output."""
    from transformers import AutoModelForSequenceClassification, set_seed

    set_seed(config.seed)
    extra = {"attn_implementation": config.attention} if config.attention else {}
    # With several labels of their own transformers takes binary cross-entropy; here it is one.
    kind = {"problem_type": "multi_label_classification"} if config.kind == "safety" else {}
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            local_folder(config.base), num_labels=1, dtype=config.dtype, use_safetensors=True,
            trust_remote_code=False, **kind, **extra,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise unloadable(config.base, error) from None
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model


def _trainer(
    config: RewardModelConfig, tokenizer: Any, dataset: Any, arguments: Any, callback: Any
) -> Any:
    """Return TRL's trainer of pairs, or transformers' of labels."""
    model, adapters = _model(config, tokenizer), peft_config(config.lora, task="SEQ_CLS")
    given = {"args": arguments, "train_dataset": dataset, "processing_class": tokenizer,
             "callbacks": [callback]}  # fmt: skip
    if config.kind == "helpful":
        from trl import RewardTrainer

        return RewardTrainer(model=model, peft_config=adapters, **given)
    from transformers import DataCollatorWithPadding, Trainer

    if adapters is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters)
    return Trainer(model=model, data_collator=DataCollatorWithPadding(tokenizer), **given)
