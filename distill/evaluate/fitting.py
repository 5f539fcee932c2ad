"""What a model can be evaluated with: its context shared by prompt and answer, and all devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.engines.opening import LOCAL
from factory.errors import UsageError
from factory.records import Prompt, Sampling

_STEP = 512


def room_for(longest: int, context: int) -> int:
    """Return how many tokens are kept for the prompt.

    A multiple of 512 (of a sixteenth of a short context), so that another limit or seed, with a
    longest prompt of about the same length, keeps the keys of the samples.

    >>> room_for(713, 32_768), room_for(40, 2048), room_for(1, 256)
    (1024, 128, 16)
    """
    step = max(1, min(_STEP, context // 16))
    return -(-longest // step) * step


def fitted(
    sampling: Sampling, *, context: int, longest: int, name: str, say: Callable[[str], None]
) -> Sampling:
    """Return the sampling with no more tokens than the context leaves beside the longest prompt.

    A model whose context is just ``max_tokens`` would otherwise give no sample at all.

    Args:
        sampling: as asked.
        context: tokens of prompt and answer together; 0: not known, nothing is changed.
        longest: tokens of the longest prompt.
        name: of the model, for the line.
        say: is told what changes.

    Raises:
        UsageError: the context holds no answer.
    """
    left = context - room_for(longest, context) if context else sampling.max_tokens
    if left < 1:
        raise UsageError(
            f"{name}: a context of {context:,} tokens holds no answer to a prompt of {longest:,}",
            "evaluate a model with a longer context, or shorter prompts",
        )
    if left >= sampling.max_tokens:
        return sampling
    say(
        f"{name}: context {context:,}: answers of at most {left:,} tokens instead of "
        f"{sampling.max_tokens:,}; {context - left:,} are kept for the prompt (longest {longest:,})"
    )
    return dataclasses.replace(sampling, max_tokens=left)


def fit(
    sampling: Sampling,
    prompts: Sequence[Prompt],
    *,
    engine: str,
    model: str,
    settings: Mapping[str, Any],
    context: int | None,
    say: Callable[[str], None],
) -> Sampling:
    """Fit answers to the context of a model that is loaded here, or to one that is named.

    Args:
        sampling: as asked.
        prompts: all that will be asked.
        engine: its name.
        model: folder or hub name.
        settings: the engine's; ``max_model_len`` bounds the context.
        context: of a served model; None: the model's own, where it can be asked.
        say: is told what changes.
    """
    if engine not in LOCAL:
        if context is None:
            return sampling
        longest = max(len(p.text) for p in prompts) // 2  # no tokenizer here: two letters a token
        return fitted(sampling, context=context, longest=longest, name=model, say=say)
    from distill.student import context_of
    from factory.engines.vllm_cpu import sequence_tokens

    known = [n for n in (context or context_of(model), settings.get("max_model_len")) if n]
    whole = sequence_tokens(
        model, settings.get("revision"), [p.messages for p in prompts], sampling
    )
    return fitted(
        sampling, context=min(known, default=0), longest=whole - sampling.max_tokens,
        name=Path(model).name, say=say,
    )  # fmt: skip


def on_all_devices(engine: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's settings with a replica on every GPU, where nobody says how many."""
    out = dict(settings)
    from factory.engines.vllm_start import has_cuda

    if engine != "vllm" or "replicas" in out or not has_cuda():
        return out
    import torch

    n = torch.cuda.device_count() // int(out.get("tensor_parallel_size", 1))
    return {**out, "replicas": n} if n > 1 else out


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return the checkpoints of a run, by step.

    Args:
        folder: of the run, or the one that holds ``checkpoint-N``.

    Raises:
        UsageError: there is none.
    """
    found = [
        (int(path.name.rpartition("-")[2]), path)
        for root in (folder, folder / "checkpoints")
        for path in root.glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit() and (path / "config.json").is_file()
    ]
    if not found:
        raise UsageError(
            f"no checkpoint with a model in {folder}", "name the folder of a run that keeps them"
        )
    return sorted(found)
