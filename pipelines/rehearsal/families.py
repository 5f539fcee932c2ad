"""Families of models as a rehearsal knows them without the hub: tokens, templates, shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from factory.errors import UsageError

_CHATML = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
# Qwen3 drops the thinking of earlier turns; it has no system prompt of its own.
_QWEN3 = (
    "{%- for message in messages -%}"
    "{%- set text = message['content'] -%}"
    "{%- if message['role'] == 'assistant' and '</think>' in text and not loop.last -%}"
    "{%- set text = text.split('</think>')[-1].lstrip('\\n') -%}{%- endif -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + text + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
_LLAMA3 = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    " + message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}"
)
_DEEPSEEK = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{ '<｜User｜>' + message['content'] }}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{ '<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}"
    "{%- else -%}{{ message['content'] }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<｜Assistant｜>' }}{%- endif -%}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a rehearsal keeps of a family.

    Attributes:
        name: of the family.
        model_type: of its configuration in transformers.
        special: control tokens.
        added: tokens of their own that are no control tokens.
        bos: token that begins every text; None where the family has none.
        eos: of a base model; ``chat_eos`` of a chat model.
        chat_eos: token that ends an assistant's turn.
        pad: token that pads; None where the family names none.
        template: chat template.
        base_has_template: whether base models come with it.
        context: tokens of a model whose name says no other.
        shape: keys of the tiny configuration beside those that all have.
    """

    name: str
    model_type: str
    special: tuple[str, ...]
    added: tuple[str, ...] = ()
    bos: str | None = None
    eos: str
    chat_eos: str
    pad: str | None = None
    template: str
    base_has_template: bool = True
    context: int
    shape: dict[str, Any] = field(default_factory=dict)


_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
FAMILIES = (
    Family(
        name="qwen2", model_type="qwen2", special=_IM, eos="<|endoftext|>", chat_eos="<|im_end|>",
        pad="<|endoftext|>", template=_CHATML, context=32_768, shape=_HEADS,
    ),
    Family(
        name="qwen3", model_type="qwen3", special=_IM, added=("<think>", "</think>"),
        eos="<|endoftext|>", chat_eos="<|im_end|>", pad="<|endoftext|>", template=_QWEN3,
        context=32_768, shape=_HEADS,
    ),
    Family(
        name="llama3", model_type="llama",
        special=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                 "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>", eos="<|end_of_text|>", chat_eos="<|eot_id|>", template=_LLAMA3,
        base_has_template=False, context=131_072, shape=_HEADS,
    ),
    # vLLM's attention over a latent asks for these two ranks; the rest is as small as it goes.
    Family(
        name="deepseek", model_type="deepseek_v3",
        special=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<｜User｜>",
                 "<｜Assistant｜>"),
        added=("<think>", "</think>"), bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>", chat_eos="<｜end▁of▁sentence｜>", pad="<｜▁pad▁｜>",
        template=_DEEPSEEK, context=163_840,
        shape={"num_attention_heads": 2, "num_key_value_heads": 2, "kv_lora_rank": 512,
               "qk_rope_head_dim": 64, "qk_nope_head_dim": 32, "v_head_dim": 32,
               "q_lora_rank": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
               "topk_group": 1, "moe_intermediate_size": 64, "first_k_dense_replace": 1},
    ),
)  # fmt: skip
_NAMES = (
    (r"qwen3|qwq", "qwen3"), (r"deepseek-(r1-)?(v3|zero|r1$)|deepseek-v3|deepseek-r1(?!-distill)",
                              "deepseek"),
    (r"llama", "llama3"), (r"qwen", "qwen2"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """What a model's name says: its family, whether it chats, its context, whether heads are tied.

    Attributes:
        family: one of ``FAMILIES``.
        is_chat: ends turns with the family's end-of-turn token.
        context: tokens.
        is_tied: whether its output head is its embedding.
    """

    family: Family
    is_chat: bool
    context: int
    is_tied: bool


def known(model: str) -> Known:
    """Return what a rehearsal takes a model for by its name.

    Raises:
        UsageError: a name of no known family.

    >>> found = known("Qwen/Qwen2.5-Math-1.5B")
    >>> found.family.name, found.is_chat, found.context, found.is_tied
    ('qwen2', False, 4096, True)
    >>> known("meta-llama/Llama-3.3-70B-Instruct").is_chat
    True
    """
    name = model.rpartition("/")[2].partition("@")[0].lower()
    of = next((family for pattern, family in _NAMES if re.search(pattern, name)), None)
    if of is None:
        raise UsageError(
            f"no family is known for the model {model!r}",
            f"known: {', '.join(f.name for f in FAMILIES)}; give its folder, with config.json",
        )
    family = next(f for f in FAMILIES if f.name == of)
    context = 4096 if "qwen2.5-math" in name else family.context
    size = re.search(r"(\d+(?:\.\d+)?)b", name)
    # Both families tie the heads of their small models.
    tied = of != "deepseek" and size is not None and float(size[1]) < 4
    is_chat = bool(re.search(r"instruct|chat|qwq|distill", name)) or (
        of == "qwen3" and "base" not in name
    )
    return Known(family, is_chat, context, tied)
