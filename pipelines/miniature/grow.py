"""Grow a small base model from nothing on the little world's crawl: a minute on one core.

Real architectures (Qwen3 and Llama of transformers), tiny shapes. The result is an ordinary
model folder (safetensors, tokenizer, chat template) that vLLM and transformers load by its path.

What made it work: Muon for the hidden matrices (a prototype with AdamW alone never learnt the
arithmetic), AdamW for embeddings and norms; the question's tokens weigh a tenth in the loss, since
nobody can predict them; digits as single tokens; small batches, since the number of steps
counts for more than their size (an early crawl of 16,000 documents: 95 % greedy in 49 CPU-seconds
with 512 tokens a step, 32 % in 39 with 1,024).
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from factory.config import Config
from factory.errors import ConfigError
from factory.records.ids import key_of
from pipelines.miniature.corpus import Crawl, Document, documents
from pipelines.miniature.muon import Muon
from pipelines.miniature.tokenizer import shared_tokenizer

# Not qwen2: transformers 5 reads its tokenizers by Qwen2's own splitting, whatever was saved.
Family = Literal["qwen3", "llama"]
# The smallest head that vLLM's attention on CPU computes.
HEAD_DIM = 32
_SORTED_AT_ONCE = 2048
_VERSION = 2


class Shape(Config):
    """A model's shape.

    Attributes:
        family: architecture of transformers.
        width: hidden size; also heads × 32.
        layers: number of layers.
        mlp: inner size of the feed-forward part.
    """

    family: Family
    width: int
    layers: int
    mlp: int

    def hf_config(self, tokenizer: Any) -> Any:
        """Return the transformers configuration.

        Raises:
            ConfigError: the width is no multiple of 32.
        """
        if self.width % HEAD_DIM:
            raise ConfigError(f"width={self.width}", f"choose a multiple of {HEAD_DIM}")
        from transformers import LlamaConfig, Qwen3Config

        kinds = {"qwen3": Qwen3Config, "llama": LlamaConfig}
        heads = self.width // HEAD_DIM
        return kinds[self.family](
            vocab_size=len(tokenizer),
            hidden_size=self.width,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=HEAD_DIM,
            max_position_embeddings=512,
            # A tied head goes stale when vLLM on CPU reloads weights from a saved folder.
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )


# The teacher's base, a student of its family that is really smaller, and one of the other family.
SHAPES: dict[str, Shape] = {
    "base": Shape(family="qwen3", width=64, layers=3, mlp=192),
    "qwen": Shape(family="qwen3", width=64, layers=2, mlp=128),
    "llama": Shape(family="llama", width=64, layers=2, mlp=128),
}


class GrowConfig(Config):
    """What to grow.

    Attributes:
        shape: see ``SHAPES``.
        out: folder of the model.
        n_documents: documents of the crawl that it reads, once.
        seed: of the weights and of the crawl's order and content.
        batch_tokens: padded tokens of one step.
        muon_lr: peak rate of the hidden matrices, scaled to AdamW's update size.
        adamw_lr: peak rate of the rest.
        question_weight: loss weight of a question's tokens.
        crawl: how the crawl mixes languages.
    """

    shape: Shape
    out: Path
    n_documents: int
    seed: int
    batch_tokens: int = 512
    muon_lr: float = 3e-3
    adamw_lr: float = 3e-3
    question_weight: float = 0.1
    crawl: Crawl = Crawl()

    @property
    def inputs(self) -> str:
        """Hash of everything that shapes the weights, 32 characters."""
        return key_of({**self.model_dump(mode="json", exclude={"out"}), "version": _VERSION})


def grow(config: GrowConfig, *, say: Callable[[str], None] = print) -> Path:
    """Grow the model, or return at once where it is grown already.

    The folder appears whole: it is written beside its place and renamed.

    Raises:
        ConfigError: ``out`` holds something else.
    """
    from distill.runs import cpu_s, finished, write_run

    if finished(config.out, inputs=config.inputs):
        return config.out
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    crawl = list(documents(n=config.n_documents, seed=config.seed, crawl=config.crawl))
    tokenizer = shared_tokenizer()
    model = _model(config.shape, tokenizer)
    n_parameters = sum(p.numel() for p in model.parameters())
    examples = _encode(tokenizer, crawl, question_weight=config.question_weight)
    n_tokens = sum(len(ids) for ids, _ in examples)
    say(
        f"grow {config.out.name}: {config.shape.family}, {n_parameters:,} parameters, "
        f"{len(crawl):,} documents, {n_tokens:,} tokens"
    )
    began, cpu = time.monotonic(), cpu_s()
    loss = _train(model, examples, config=config, pad=tokenizer.pad_token_id, say=say)
    part = config.out.with_name(f".{config.out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    write_run(
        part,
        kind="grow",
        inputs=config.inputs,
        config=config.model_dump(mode="json", exclude={"out"}),
        metrics={
            "loss": round(loss, 4),
            "n_parameters": n_parameters,
            "n_tokens": n_tokens,
            "cpu_s": round(cpu_s() - cpu, 2),
            "wall_s": round(time.monotonic() - began, 2),
        },
    )
    config.out.parent.mkdir(parents=True, exist_ok=True)
    part.rename(config.out)
    return config.out


def _model(shape: Shape, tokenizer: Any) -> Any:
    from transformers import AutoModelForCausalLM

    hf_config = shape.hf_config(tokenizer)
    model = AutoModelForCausalLM.from_config(hf_config, attn_implementation="sdpa")
    _fuse_norms(model)
    return model


def _fuse_norms(module: Any) -> None:
    """Put torch's own RMSNorm, one call, in place of transformers' seven (same names on disk)."""
    from torch import nn

    for name, child in module.named_children():
        if type(child).__name__.endswith("RMSNorm"):
            fused = nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon)
            setattr(module, name, fused)
        else:
            _fuse_norms(child)


def _encode(
    tokenizer: Any, crawl: Sequence[Document], *, question_weight: float
) -> list[tuple[list[int], list[float]]]:
    """Return (tokens, loss weights) of each document, end token included."""
    questions = tokenizer([f"{d.question}\n" if d.question else "" for d in crawl]).input_ids
    completions = tokenizer([d.completion for d in crawl]).input_ids
    end = [tokenizer.eos_token_id]
    return [
        (q + c + end, [question_weight] * len(q) + [1.0] * (len(c) + 1))
        for q, c in zip(questions, completions, strict=True)
    ]


def _batches(
    examples: Sequence[tuple[list[int], list[float]]], *, batch_tokens: int, rng: random.Random
) -> Iterator[list[int]]:
    """Yield batches of indices: documents of like length, at most ``batch_tokens`` with padding.

    Sorted within stretches of the crawl only, so that every part of training sees every length.
    """
    for begin in range(0, len(examples), _SORTED_AT_ONCE):
        stretch = range(begin, min(begin + _SORTED_AT_ONCE, len(examples)))
        batches: list[list[int]] = [[]]
        for i in sorted(stretch, key=lambda i: len(examples[i][0])):
            if batches[-1] and (len(batches[-1]) + 1) * len(examples[i][0]) > batch_tokens:
                batches.append([])
            batches[-1].append(i)
        rng.shuffle(batches)
        yield from batches


def _rate(step: int, n_steps: int) -> float:
    """Return the factor on the peak rates: short rise, plateau, linear fall from 40 %."""
    rise = (step + 1) / (0.03 * n_steps)
    fall = (1 - step / n_steps) / 0.6
    return max(0.02, min(1.0, rise, fall))


def _train(
    model: Any,
    examples: Sequence[tuple[list[int], list[float]]],
    *,
    config: GrowConfig,
    pad: int,
    say: Callable[[str], None],
) -> float:
    import torch
    from torch.nn import functional

    batches = list(
        _batches(examples, batch_tokens=config.batch_tokens, rng=random.Random(config.seed))
    )
    named = list(model.named_parameters())
    hidden = [p for name, p in named if p.ndim == 2 and ".layers." in name]
    rest = [p for name, p in named if not (p.ndim == 2 and ".layers." in name)]
    muon = Muon(hidden)
    adamw = torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    running = 0.0
    for step, batch in enumerate(batches):
        factor = _rate(step, len(batches))
        width = max(len(examples[i][0]) for i in batch)
        tokens = torch.full((len(batch), width), pad)
        weights = torch.zeros(len(batch), width)
        for row, i in enumerate(batch):
            ids, weight = examples[i]
            tokens[row, : len(ids)] = torch.tensor(ids)
            weights[row, : len(ids)] = torch.tensor(weight)
        # Padding stands on the right and attention looks to the left: no mask is needed.
        hidden_states = model.model(input_ids=tokens, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden_states[:, :-1]).flatten(0, 1)
        losses = functional.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="none")
        weight = weights[:, 1:].flatten()
        loss = (losses * weight).sum() / weight.sum()
        loss.backward()
        muon.step(lr=config.muon_lr * factor)
        adamw.param_groups[0]["lr"] = config.adamw_lr * factor
        adamw.step()
        model.zero_grad()
        running += 0.02 * (float(loss.detach()) - running) if step else float(loss.detach())
        if step % 200 == 0 or step + 1 == len(batches):
            say(f"grow {config.out.name}: step {step + 1}/{len(batches)}, loss {running:.3f}")
    return running


def main(arguments: Sequence[str]) -> None:
    """Grow one model: ``python -m pipelines.miniature.grow OUT key=value …``."""
    from factory.cli.common import say
    from factory.config import apply_override

    values: dict[str, Any] = {"out": arguments[0], "n_documents": 24000, "seed": 0}
    for assignment in arguments[1:]:
        apply_override(values, assignment)
    shape = values.get("shape", "base")
    if isinstance(shape, str):
        if shape not in SHAPES:
            raise ConfigError(f"unknown shape {shape!r}", f"known: {', '.join(SHAPES)}")
        values["shape"] = SHAPES[shape]
    print(grow(GrowConfig.make(values), say=say))


if __name__ == "__main__":
    from factory.cli.common import run_script

    sys.exit(run_script("grow", lambda: main(sys.argv[1:])))
