"""vLLM on a machine without CUDA: the settings that work, and a cache that follows the machine.

vLLM's cache of keys and values is one block of memory that is taken, and written, at the start. A
fixed size fails both ways: too small, and a model with a long context does not start, or runs with
a fraction of its slots; too large, and memory is held that nothing uses. So it is made for the
work, where the work is known, and never takes more than a quarter of the memory that is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory import model_files
from factory.records import Message, Sampling

# Prefixes shorter than a block are never shared, and 128 is the default.
BLOCK = 32
SLOTS = 256
"""Sequences that are decoded at once, where memory allows it."""
_SHARE = 0.25
_LEAST = 64 << 20
# Of a sequence whose length nobody knows: enough for most answers of models that run on a CPU.
_UNKNOWN_TOKENS = 2048
_BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}
# The longest of a set are among its longest texts; measuring all tokens would take minutes of many.
_N_LONGEST = 32


@dataclass(frozen=True)
class Cache:
    """What fits.

    Attributes:
        n_bytes: of the cache.
        max_model_len: longest prompt + completion, tokens; None: the model's own.
        max_num_seqs: sequences decoded at once.
    """

    n_bytes: int
    max_model_len: int | None
    max_num_seqs: int


def cache(
    *, bytes_per_token: int, context: int, available: int, max_num_seqs: int = SLOTS,
    max_model_len: int | None = None, sequence_tokens: int | None = None,
    n_bytes: int | None = None,
) -> Cache:  # fmt: skip
    """Return the cache for some work on some machine.

    Args:
        bytes_per_token: keys and values of one token in all layers; 0 where unknown.
        context: the model's own longest sequence, tokens; 0 where unknown.
        available: bytes of memory that are free.
        max_num_seqs: sequences wanted at once.
        max_model_len: longest sequence that is asked for; None: as long as the cache allows.
        sequence_tokens: tokens of the longest sequence that the work needs; None: not known.
        n_bytes: a size that was asked for, instead of one that follows.

    >>> smollm2 = {"bytes_per_token": 46080, "context": 8192}
    >>> cache(**smollm2, available=16 << 30, sequence_tokens=300)
    Cache(n_bytes=3774873600, max_model_len=8192, max_num_seqs=256)
    >>> cache(**smollm2, available=2 << 30, sequence_tokens=300).max_num_seqs
    36
    """
    longest = max_model_len or context or None
    if not bytes_per_token:
        return Cache(n_bytes or 4 * _LEAST, max_model_len, max_num_seqs)
    known = sequence_tokens or max_model_len
    tokens = known or min(longest or _UNKNOWN_TOKENS, _UNKNOWN_TOKENS)
    # A sequence holds whole blocks.
    block = bytes_per_token * BLOCK
    per_sequence = -(-tokens // BLOCK) * block
    if n_bytes is None:
        most = max(int(available * _SHARE), _LEAST, per_sequence)
        n_bytes = min(max(max_num_seqs * per_sequence, _LEAST), most) // block * block
    fit = n_bytes // block * BLOCK
    if known and max_num_seqs * per_sequence > n_bytes:
        # With more than fit, vLLM throws sequences out in their middle and begins them again.
        max_num_seqs = max(1, n_bytes // per_sequence)
    if max_model_len is None and longest is not None:
        longest = min(longest, fit)
    return Cache(n_bytes, longest, max_num_seqs)


def cpu_settings(
    model: str, *, revision: str | None = None, max_num_seqs: int = SLOTS,
    max_model_len: int | None = None, sequence_tokens: int | None = None,
    kv_cache_bytes: int | None = None, dtype: str = "float32",
) -> dict[str, Any]:  # fmt: skip
    """Return the engine arguments that make vLLM's CPU build work; see ``cache``."""
    config = model_files.configuration(model, revision)
    fits = cache(
        bytes_per_token=bytes_per_token(config, dtype),
        context=int(config.get("max_position_embeddings") or 0),
        available=available_bytes(),
        max_num_seqs=max_num_seqs,
        max_model_len=max_model_len,
        sequence_tokens=sequence_tokens,
        n_bytes=kv_cache_bytes,
    )
    if dtype in ("bfloat16", "auto"):
        ask_for_amx()
    return {
        "dtype": dtype,
        "enforce_eager": True,
        "block_size": BLOCK,
        "kv_cache_memory_bytes": fits.n_bytes,
        "max_model_len": fits.max_model_len,
        "max_num_seqs": fits.max_num_seqs,
        # A seeded request whose prompt is cut over two steps ends vLLM 0.31 on CPU
        # ("CPU Generator does not use offset"): prompts go in whole.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(4096, fits.max_model_len or 0),
    }


def bytes_per_token(config: Mapping[str, Any], dtype: str) -> int:
    """Return the size of one token's keys and values in all layers; 0 where it cannot be told.

    Args:
        config: a model's ``config.json``.
        dtype: of the cache: that of the weights.

    >>> bytes_per_token(
    ...     {"num_hidden_layers": 30, "num_key_value_heads": 3, "hidden_size": 576,
    ...      "num_attention_heads": 9}, "float32")
    46080
    """
    config = config.get("text_config") or config
    heads = config.get("num_attention_heads")
    layers, size = config.get("num_hidden_layers"), config.get("hidden_size")
    if not (heads and layers and size):
        return 0
    width = config.get("head_dim") or size // heads
    values = 2 * (config.get("num_key_value_heads") or heads) * width
    if config.get("kv_lora_rank"):
        # DeepSeek's latent attention keeps one compressed vector instead of keys and values.
        values = config["kv_lora_rank"] + (config.get("qk_rope_head_dim") or 0)
    # A type that is not known is taken for the largest: too much memory is the lesser fault.
    return int(layers * values * _BYTES.get(dtype, 4))


def available_bytes() -> int:
    """Return the memory that this process may still take: the machine's, or its control group's."""
    found = 1 << 30
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            found = int(line.split()[1]) << 10
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return found
    return found if limit == "max" else max(0, min(found, int(limit) - used))


def ask_for_amx() -> None:
    """Ask the kernel for the processor's matrix tiles before vLLM uses them.

    vLLM 0.31's attention in bfloat16 runs on them and does not ask: where nothing did before, its
    first small batch ends the process (SIGILL). Where there are none, nothing happens.
    """
    import torch

    ask = getattr(torch.cpu, "_init_amx", None)
    if ask is not None:
        ask()


def sequence_tokens(
    model: str, revision: str | None, prompts: Sequence[Sequence[Message]], sampling: Sampling
) -> int:
    """Return the tokens of the longest prompt with its completion, within a few.

    Args:
        model: folder or name.
        revision: commit of a hub model.
        prompts: messages of each.
        sampling: its ``max_tokens`` and ``prefill``.
    """
    from transformers import AutoTokenizer

    def text(messages: Sequence[Message]) -> str:
        return "\n".join(str(m.get("content") or "") for m in messages)

    tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
    longest = sorted((text(m) for m in prompts), key=len)[-_N_LONGEST:]
    n = max((len(tokenizer(t + sampling.prefill).input_ids) for t in longest), default=0)
    # What the chat template adds: a few tokens per message, and often a system prompt.
    turns = max((len(m) for m in prompts), default=0)
    return n + 64 + 8 * turns + sampling.max_tokens


def pack_experts(model: Any) -> None:
    """Lay the experts of a reloaded model out as the CPU's kernel reads them.

    vLLM 0.31 does so when a model is loaded first, and leaves it out at a reload: the experts'
    answers are then those of weights in a wrong order.
    """
    for layer in model.modules():
        kernel = getattr(getattr(layer, "quant_method", None), "moe_kernel", None)
        if kernel is not None:
            kernel.fused_experts.process_weights_after_loading(layer)
