"""Random models, tokens and tokenizers of a shape: what a measurement runs on."""

from __future__ import annotations

from typing import Any

from distill.measure import Work
from distill.memory import Shape


def is_cuda() -> bool:
    """Tell whether there is a GPU."""
    import torch

    return bool(torch.cuda.is_available())


def config_of(shape: Shape, length: int) -> Any:
    """Return the configuration of a shape, with a context of so many tokens."""
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inside,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads, head_dim=shape.head,
        max_position_embeddings=max(length, 512), tie_word_embeddings=shape.is_tied,
        architectures=["Qwen2ForCausalLM"], bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip


def random_model(shape: Shape, work: Work, *, attention: str | None) -> Any:
    """Return a model of a shape, made where it is trained."""
    import torch
    from transformers import AutoModelForCausalLM

    extra = {"attn_implementation": attention} if attention else {}
    config = config_of(shape, work.length)
    dtype = torch.bfloat16 if work.lora else torch.float32
    with torch.device("cuda" if is_cuda() else "cpu"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, **extra)


def number_tokenizer(shape: Shape) -> Any:
    """Return a tokenizer of numbers: nothing is read or written but tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<end>": 0} | {str(i): i for i in range(1, min(shape.vocabulary, 512))}
    made = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", pad_token="<end>",
        chat_template="{% for m in messages %}{{ m.content }} {% endfor %}",
    )  # fmt: skip


def random_tokens(shape: Shape, n: int, length: int) -> list[list[int]]:
    """Return rows of random tokens, shape (n, length)."""
    import torch

    # Of the words that the tokenizer knows; never its end.
    drawn = torch.randint(1, min(shape.vocabulary, 512), (n, length), device="cpu")
    return list(drawn.tolist())
