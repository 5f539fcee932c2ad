"""A random model of a real architecture, small enough for any test: no download."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tiny_model(
    folder: Path, *, family: str = "qwen3", tied: bool = True, seed: int = 0
) -> str:
    """Save a random model with a byte-level tokenizer; return its path."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        AutoModelForCausalLM,
        LlamaConfig,
        PreTrainedTokenizerFast,
        Qwen2Config,
        Qwen3Config,
        Qwen3MoeConfig,
    )

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocab = {token: i for i, token in enumerate(sorted(alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"])
    tokenizer.add_tokens(
        [AddedToken("<think>", special=False), AddedToken("</think>", special=False)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>", chat_template=TEMPLATE
    )
    kinds = {"qwen3": Qwen3Config, "qwen2": Qwen2Config, "llama": LlamaConfig,
             "qwen3_moe": Qwen3MoeConfig}  # fmt: skip
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    config = kinds[family](
        **(experts if family == "qwen3_moe" else {}),
        vocab_size=len(fast), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=512,
        tie_word_embeddings=tied, eos_token_id=fast.eos_token_id, bos_token_id=None,
        pad_token_id=fast.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


def make_tiny_reward_model(
    folder: Path, *, kind: str, reads: str, is_zero: bool = False, seed: int = 0
) -> str:
    """Save a random reward model, or one whose output is always 0; return its path."""
    import json

    import torch
    from transformers import AutoModelForSequenceClassification

    from factory.scores.reward_model import CARD

    make_tiny_model(folder, seed=seed)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.config.pad_token_id = model.config.eos_token_id
    if is_zero:
        torch.nn.init.zeros_(model.score.weight)
    model.save_pretrained(folder)
    (folder / CARD).write_text(json.dumps({"kind": kind, "reads": reads}))
    return str(folder)
