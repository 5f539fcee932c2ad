"""What a stage needs in memory and on disk, from a model's shape: for plans, before anything runs.

A training holds weights, gradients, two moments of Adam, and what the backward pass needs of the
forward pass; FSDP divides the first three by the processes and gathers a layer at a time. With
gradient checkpointing one input per layer is kept, and one layer's inside. The peak is that of the
worst of three moments: the end of the forward pass, the output head's backward pass, and a layer's.
Each term is counted from what transformers 5 and trl 1.16 save, none is fitted;
``tests/bench/bench_plan.py`` holds them against measured peaks. Sampling holds bf16 weights and a
cache of keys and values. What libraries take for themselves (the CUDA context, NCCL, kernels: 1 to
3 GiB) is ``LIBRARIES``.

Nothing is imported but the standard library: a bare machine can plan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

GIB = float(1 << 30)
LIBRARIES = 3.0
"""GiB of a GPU that no plan may fill."""
_TILE = (4096, 32_768)
"""Logits are computed for so many tokens and words of the vocabulary at once (trl 1.16)."""
_CPU_TILE = 29
"""Bytes of a logit in the copies that trl's kernel makes where there is no Triton."""

# Layers, hidden, inside the MLP, heads, heads of keys, size of a head, vocabulary, tied head.
_SHAPES = {
    r"qwen2\.5.*-0\.5b": (24, 896, 4864, 14, 2, 64, 151_936, True),
    r"qwen2\.5.*-1\.5b": (28, 1536, 8960, 12, 2, 128, 151_936, True),
    r"qwen2\.5.*-3b": (36, 2048, 11_008, 16, 2, 128, 151_936, True),
    r"qwen2\.5.*-7b": (28, 3584, 18_944, 28, 4, 128, 152_064, False),
    r"qwen2\.5.*-14b": (48, 5120, 13_824, 40, 8, 128, 152_064, False),
    r"qwen2\.5.*-32b": (64, 5120, 27_648, 40, 8, 128, 152_064, False),
    r"qwen2\.5.*-72b": (80, 8192, 29_568, 64, 8, 128, 152_064, False),
    r"llama-3.*-8b": (32, 4096, 14_336, 32, 8, 128, 128_256, False),
    r"llama-3.*-70b": (80, 8192, 28_672, 64, 8, 128, 128_256, False),
    r"smollm2-135m": (30, 576, 1536, 9, 3, 64, 49_152, True),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a dense decoder that decide about memory."""

    layers: int
    hidden: int
    inside: int
    heads: int
    key_heads: int
    head: int
    vocabulary: int
    is_tied: bool

    @property
    def layer(self) -> int:
        """Weights of a layer."""
        queries, keys = self.heads * self.head, self.key_heads * self.head
        return self.hidden * (2 * queries + 2 * keys + 3 * self.inside + 2)

    @property
    def embedding(self) -> int:
        """Weights of the embedding; the output head has as many, unless it is the same."""
        return self.vocabulary * self.hidden

    @property
    def n(self) -> int:
        """Weights of the model, in all.

        >>> round(shape_of("Qwen/Qwen2.5-7B").n / 1e9, 1)
        7.6
        """
        return self.layers * self.layer + self.embedding * (1 if self.is_tied else 2)

    def adapters(self, rank: int) -> int:
        """Weights of adapters of a rank on all linear layers."""
        queries, keys = self.heads * self.head, self.key_heads * self.head
        sides = 2 * (self.hidden + queries) + 2 * (self.hidden + keys)
        return self.layers * rank * (sides + 3 * (self.hidden + self.inside))

    @property
    def cache(self) -> int:
        """Bytes of a token's keys and values in bf16."""
        return 4 * self.layers * self.key_heads * self.head


def shape_of(model: str) -> Shape | None:
    """Return a model's shape: of its folder, or by its name; None where it is not known.

    Nothing is fetched. A mixture of experts is not known: its layers are of another form.
    """
    config = Path(model) / "config.json"
    if config.is_file():
        return _of_config(json.loads(config.read_text(encoding="utf-8")))
    name = model.lower().partition("@")[0]
    found = next((s for pattern, s in _SHAPES.items() if re.search(pattern, name)), None)
    return Shape(*found) if found else None


def _of_config(config: Mapping[str, Any]) -> Shape | None:
    if any("expert" in key for key in config):
        return None
    try:
        heads = int(config["num_attention_heads"])
        key_heads = int(config.get("num_key_value_heads") or heads)
        return Shape(
            int(config["num_hidden_layers"]), int(config["hidden_size"]),
            int(config["intermediate_size"]), heads, key_heads,
            int(config.get("head_dim") or config["hidden_size"] // heads),
            int(config["vocab_size"]), bool(config.get("tie_word_embeddings", False)),
        )  # fmt: skip
    except KeyError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """GiB of one device, by what holds them; ``disk`` is of all devices together."""

    weights: float = 0.0
    gradients: float = 0.0
    optimiser: float = 0.0
    activations: float = 0.0
    reference: float = 0.0
    cache: float = 0.0
    disk: float = 0.0

    @property
    def total(self) -> float:
        """GiB of the device, without what libraries take."""
        parts: list[float] = [getattr(self, f.name) for f in fields(self) if f.name != "disk"]
        return sum(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a model is trained, as far as memory goes.

    Attributes:
        processes: that train together.
        shards: over how many of them weights are divided: 1 under DDP.
        tokens: of one forward pass of one process.
        dtype_bytes: of a weight: 4 or 2.
        is_bf16: whether products are computed in bf16.
        is_checkpointed: whether layers are computed again in the backward pass.
        rank: of adapters over frozen weights; 0 trains all.
        has_reference: whether a second, frozen model is held (GRPO with a KL term, no adapters).
        mask_rows: rows of a forward pass whose attention has a mask of tokens by tokens: those of
            ``sdpa`` with padding or packs. FlashAttention and FlexAttention need none: 0.
        is_on_gpu: where the output head is computed in place.
        kept: checkpoints on disk.
    """

    processes: int = 1
    shards: int = 1
    tokens: int
    dtype_bytes: int = 4
    is_bf16: bool = True
    is_checkpointed: bool = True
    rank: int = 0
    has_reference: bool = False
    mask_rows: int = 0
    is_on_gpu: bool = True
    kept: int = 2


def training(shape: Shape, how: Training) -> Memory:
    """Return the memory of a training.

    >>> qwen = shape_of("Qwen/Qwen2.5-7B")
    >>> whole = training(qwen, Training(tokens=16_384))
    >>> round(whole.gradients + whole.optimiser)
    85
    >>> training(qwen, Training(tokens=16_384, processes=8, shards=8)).total < 75
    True
    """
    trained = shape.adapters(how.rank) if how.rank else shape.n
    frozen = shape.n * how.dtype_bytes if how.rank else 0
    # Adapters are kept in fp32.
    # DDP's buckets hold gradients a second time.
    buckets = 2 if how.processes > 1 and how.shards == 1 else 1
    own = trained * (4 if how.rank else how.dtype_bytes)
    weights = (frozen + own) / how.shards
    if how.shards > 1:
        # Two layers and the embedding gathered in bf16; the head in fp32, with its gradient.
        weights += 2 * 2 * shape.layer + 2 * shape.embedding + 2 * 4 * shape.embedding
    saved = trained * 12 + (shape.n * how.dtype_bytes if how.has_reference else 0)
    return Memory(
        weights=weights / GIB,
        gradients=buckets * trained * 4 / how.shards / GIB,
        optimiser=trained * 8 / how.shards / GIB,
        activations=_activations(shape, how) / GIB,
        reference=shape.n * how.dtype_bytes / how.shards / GIB if how.has_reference else 0.0,
        disk=(how.kept * saved + shape.n * how.dtype_bytes) / GIB,
    )


def _activations(shape: Shape, how: Training) -> float:
    """Return bytes beside weights, gradients and optimiser at the worst of three moments."""
    small = 2 if how.is_bf16 else 4
    # Beside fp32 weights the sum that runs through the layers stays fp32 under autocast.
    stream = 2 if how.shards > 1 or how.dtype_bytes == 2 else 4
    is_cast = small != stream
    layer = _layer(shape, how, small=small, stream=stream)
    n, mask = how.tokens, _mask(how, small)
    kept = n * shape.layers * stream * shape.hidden + mask[0]
    # Autocast keeps a bf16 copy of each fp32 matrix until the forward pass ends, and until the
    # backward pass where it will be needed there.
    copies = 2 * shape.layer if is_cast and how.shards == 1 and not how.rank else 0
    if not how.is_checkpointed:
        kept += shape.layers * (layer + mask[1] + copies)
        layer = 0
    else:
        layer += mask[1] + copies
    rows = min(n, _TILE[0]) * min(shape.vocabulary, _TILE[1])
    tile = rows * (small if how.is_on_gpu else small + _CPU_TILE)
    head = 0 if how.rank else 4 * shape.embedding
    # What the last norm made, and its input; in the backward pass their gradient, in fp32.
    hidden = n * shape.hidden * (2 * stream + 4)
    ends = tile + n * shape.hidden * 2 * stream
    ends += shape.layers * copies if how.is_checkpointed else 0
    at_head = tile + hidden + head
    # Of the widest matrices: gradients of what goes in and out, and of the weights themselves.
    wide = small * 2 * shape.inside + stream * 2 * shape.hidden
    matrix = 0 if how.rank else shape.hidden * shape.inside * (4 + 2 * is_cast)
    # A tied head's gradient waits for that of the embedding, its other use.
    at_layer = layer + n * wide + matrix + (head if shape.is_tied else 0)
    return kept + max(ends, at_head, at_layer)


def _layer(shape: Shape, how: Training, *, small: int, stream: int) -> float:
    """Return bytes that a layer's forward pass saves for its backward pass, without masks."""
    queries, keys = shape.heads * shape.head, shape.key_heads * shape.head
    # What both norms normalised, and the sum between attention and MLP.
    saved = stream * 3 * shape.hidden
    if stream == 2:
        # A norm computes in fp32 and keeps that copy of its input.
        saved += 4 * 2 * shape.hidden
    # Inputs of linear layers; where they are cast, each of five keeps a copy of its own.
    saved += small * (5 if small != stream else 2) * shape.hidden
    # Queries, attention's result, keys, values; with a mask keys and values of each head.
    saved += small * (2 * queries + 2 * (queries if how.mask_rows else keys))
    # Gate, its activation, up, and their product.
    saved += small * 4 * shape.inside
    return how.tokens * saved


def _mask(how: Training, small: int) -> tuple[float, float]:
    """Return bytes of a mask of tokens by tokens: the one that all layers read, and a layer's."""
    if not how.mask_rows:
        return 0.0, 0.0
    pairs = how.mask_rows * (how.tokens / how.mask_rows) ** 2
    # Truth values; attention adds numbers, which it makes of them and keeps.
    return pairs, small * pairs


def resident_gib(*, reset: bool = False) -> float:
    """Return the most memory that this process has held since the last reset, GiB (Linux).

    Args:
        reset: begin anew at what is held now, and return that.
    """
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return kib * 1024 / GIB


def weight_bytes(model: str) -> float:
    """Return the bytes of a weight in an engine: bf16, unless the name says that it was made small.

    >>> weight_bytes("Qwen/Qwen2.5-32B-Instruct-AWQ"), weight_bytes("Qwen/Qwen2.5-7B")
    (0.6, 2.0)
    """
    name = model.lower()
    if re.search(r"awq|gptq|int4|w4a16|4bit", name):
        # Groups of 128 with a scale and a zero each; embedding and head stay whole.
        return 0.6
    return 1.0 if re.search(r"fp8|int8|w8a8|8bit", name) else 2.0


def sampling(
    shape: Shape, *, longest: int, share: float, device_gib: float, parallel: int = 1,
    per_weight: float = 2.0,
) -> Memory:  # fmt: skip
    """Return the memory of an engine on one device: weights, and a cache that fills its share.

    Args:
        shape: of the model.
        longest: tokens of the longest prompt and completion; the cache must hold one such.
        share: of the device's memory that the engine may take.
        device_gib: memory of the device.
        parallel: devices that the model is divided over.
        per_weight: bytes of a weight (``weight_bytes``).
    """
    weights = per_weight * shape.n / parallel / GIB
    # Activations of a prefill and captured graphs.
    left = share * device_gib - weights - 2.0
    return Memory(weights=weights, cache=max(left, shape.cache * longest / parallel / GIB))


def fits_engine(
    shape: Shape, *, longest: int, share: float, device_gib: float, parallel: int = 1,
    per_weight: float = 2.0,
) -> bool:  # fmt: skip
    """Tell whether an engine's share holds its weights and one longest sequence."""
    needed = sampling(
        shape, longest=longest, share=share, device_gib=device_gib, parallel=parallel,
        per_weight=per_weight,
    )  # fmt: skip
    return needed.total + 2.0 <= share * device_gib + 0.01
