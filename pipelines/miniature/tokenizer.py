r"""A byte-level BPE tokenizer for the little world, trained in a second on its own crawl.

Digits stand alone, so that arithmetic is learnt digit by digit. ``<think>`` and ``</think>`` are
single tokens but not *special* ones: trainers decode completions without special tokens, and the
tags would vanish before a reward could see them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipelines.miniature.corpus import documents

VOCABULARY = 640
_DOCUMENTS = 4000
EOS = "<|endoftext|>"
PAD = "<|pad|>"
# The question, a line break, the completion: how the crawl's documents look, with no role tokens
# that a base model has never seen. Thinking of earlier turns is never dropped.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] }}{{ eos_token }}{%- endgeneration -%}"
    "{%- else -%}{{ message['content'] + '\\n' }}{%- endif -%}"
    "{%- endfor -%}"
)


def shared_tokenizer() -> Any:
    """Return the one tokenizer that all models of the little world have, whatever their seed.

    So an engine can take the weights of one in place of another's without a restart.
    """
    crawl = documents(n=_DOCUMENTS, seed=0)
    return train_tokenizer(f"{d.question}\n{d.completion}" for d in crawl)


def train_tokenizer(texts: Iterable[str], *, vocabulary: int = VOCABULARY) -> Any:
    """Return a ``PreTrainedTokenizerFast`` of ``vocabulary`` tokens, tags and end included."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tags = [AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")]
    raw = Tokenizer(models.BPE())
    # Line breaks stand alone: a token across the end of the question would change the prompt's
    # tokens with what follows them.
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("\n"), behavior="isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(tags),
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=EOS, pad_token=PAD, model_max_length=512
    )
    tokenizer.add_tokens(tags)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
