"""Tiny models for rehearsals: the family, template and end tokens of the real one, in seconds.

Where the real model's small files can be had (a folder, or the hub), its own tokenizer and
configuration are taken, the configuration made small; else a byte-pair tokenizer of ours with the
family's tokens, BOS rule and chat template stands in for it. Weights are random either way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.rehearsal import ANSWER, THINKING
from distill.student import split_revision
from distill.templates import R1_ZERO
from factory import model_files
from pipelines.cold_start import REFINE, SUMMARISE
from pipelines.rehearsal.families import Family, Known, known

_VOCABULARY = 1200
_SMALL_FILES = ("config.json", "tokenizer*", "*.jinja", "vocab.json", "merges.txt",
                "special_tokens_map.json", "generation_config.json")  # fmt: skip
# Heads of 32, the smallest that the CPU build of vLLM knows.
_TINY = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2}


def tiny_model(model: str, out: Path, *, texts: list[str], say: Callable[[str], None]) -> str:
    """Make a tiny model of the family of ``model``; return its folder.

    Args:
        model: hub name, or a folder.
        out: folder of the tiny model; one that is there is taken as it is.
        texts: what our own tokenizer learns from, beside the words of the pipelines.
        say: takes a line.
    """
    if (out / "model.safetensors").is_file():
        return str(out)
    files = _small_files(model)
    if files is not None:
        _from_files(files, out)
        say(f"  {model}: tiny, with its own tokenizer and configuration")
        return str(out)
    found = known(model)
    tokenizer = family_tokenizer(found.family, is_chat=found.is_chat, texts=texts)
    _save(_own_config(found, tokenizer), tokenizer, out)
    say(f"  {model}: tiny, with a tokenizer of our own for {found.family.name}")
    return str(out)


def _small_files(model: str) -> Path | None:
    """Return a folder with the model's configuration and tokenizer; None where there is none."""
    if model_files.is_local(model):
        return Path(model)
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes"):
        return None
    from huggingface_hub import snapshot_download

    name, revision = split_revision(model)
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(_SMALL_FILES))
    except Exception:  # noqa: BLE001 - the hub client raises its own and the network's
        return None
    return Path(folder)


def _from_files(files: Path, out: Path) -> None:
    """Save a model of the same kind as in ``files``, made small, with its tokenizer."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(files), trust_remote_code=False)
    config = AutoConfig.from_pretrained(str(files), trust_remote_code=False)
    family = next((f for f in _families() if f.model_type == config.model_type), None)
    for name, value in {**_TINY, **(family.shape if family else {})}.items():
        setattr(config, name, value)
    config.vocab_size = max(len(tokenizer), int(tokenizer.vocab_size))
    for name in ("quantization_config", "layer_types", "dtype"):
        if getattr(config, name, None) is not None:
            delattr(config, name)
    _save(config, tokenizer, out)


def _families() -> tuple[Family, ...]:
    from pipelines.rehearsal.families import FAMILIES

    return FAMILIES


def _own_config(found: Known, tokenizer: Any) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(
        found.family.model_type, **_TINY, **found.family.shape, vocab_size=len(tokenizer),
        max_position_embeddings=found.context, tie_word_embeddings=found.is_tied,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def _save(config: Any, tokenizer: Any, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tokenizer.save_pretrained(str(out))
    model.save_pretrained(str(out))


def family_tokenizer(family: Family, *, is_chat: bool, texts: list[str]) -> Any:
    """Return a byte-level byte-pair tokenizer with a family's tokens, BOS rule and template.

    Args:
        family: of ``FAMILIES``.
        is_chat: of a chat model: its end of turn is ``eos_token``.
        texts: what it learns from, beside the words of the pipelines.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )  # fmt: skip
    raw.decoder = decoders.ByteLevel()
    learnt = [*texts, R1_ZERO, REFINE, SUMMARISE, *[f"{THINKING} {ANSWER}"] * 4]
    raw.train_from_iterator(
        learnt,
        BpeTrainer(
            vocab_size=_VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )  # fmt: skip
    raw.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in family.special])
    raw.add_tokens([AddedToken(t, special=False, normalized=False) for t in family.added])
    if family.bos is not None:
        bos = (family.bos, raw.token_to_id(family.bos))
        raw.post_processor = processors.Sequence(
            [processors.ByteLevel(trim_offsets=False),
             processors.TemplateProcessing(
                 single=f"{family.bos} $A", special_tokens=[bos]
             )]
        )  # fmt: skip
    named = {"bos_token": family.bos, "pad_token": family.pad}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=family.chat_eos if is_chat else family.eos,
        **{key: token for key, token in named.items() if token is not None},
    )  # fmt: skip
    if is_chat or family.base_has_template:
        tokenizer.chat_template = family.template
    return tokenizer
