r"""Reward models as a score: what a helpful and a safety model say of each answer.

A reward model is a folder that ``distill reward-model`` wrote: a language model with one output per
text. The helpful one reads the answer alone, without its thinking; the safety one reads all that
was said (DeepSeek-R1 v2, 3.1). Which of the two a folder reads stands in its own
``reward_model.json``, so that training, this score and the reward of RL cannot differ.

Give the folders as parameters: ``factory score --scores reward_model
--param reward_model.helpful=models/helpful``. Without a folder its column is null. torch is loaded
when the first text is scored.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from factory import model_files
from factory.dialects import split_reasoning
from factory.errors import UsageError

VERSION = 1
READS = ("completion", "prompt")
PARAMS = ("helpful", "safety")
WRITES = {"helpful_reward": "float", "safe_probability": "float"}
MEANINGS = {
    "helpful_reward": "what the helpful model says of the answer: no scale of its own, higher is "
    "better; NULL without that model, without a question, or beyond the model's context",
    "safe_probability": "what the safety model says of thinking and answer: probability of safe",
}
BY_DEFAULT = False
"""It needs a folder of weights: it is measured where it is named, and not with all others."""

CARD = "reward_model.json"
"""File in a model's folder: its kind, and what it reads."""
_BATCH_TOKENS = 16_384

Kind = Literal["helpful", "safety"]
Reads = Literal["answer", "whole"]


def score(
    df: pl.DataFrame, *, helpful: str | None = None, safety: str | None = None
) -> pl.DataFrame:
    """Return what the reward models say; null where the completion or the prompt is null.

    Args:
        df: columns ``completion`` and ``prompt``, text, N rows.
        helpful: folder of the helpful model; None leaves its column null.
        safety: folder of the safety model; None leaves its column null.

    Returns:
        N rows with the columns of ``WRITES``.

    Raises:
        UsageError: a folder holds no reward model of that kind.

    >>> score(pl.DataFrame({"completion": ["4"], "prompt": ["2+2?"]})).row(0)
    (None, None)
    """
    prompts, texts = df["prompt"].to_list(), df["completion"].to_list()
    messages = [None if p is None else [{"role": "user", "content": p}] for p in prompts]
    columns = {}
    for name, kind, folder in (
        ("helpful_reward", "helpful", helpful), ("safe_probability", "safety", safety),
    ):  # fmt: skip
        values: list[float | None] = [None] * df.height
        if folder is not None:
            values = opened(folder, kind).rewards(messages, texts)
        columns[name] = pl.Series(name, values, dtype=pl.Float64)
    return pl.DataFrame(columns)


def identify(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what names these parameters in the store: the weights' digests, not their folders.

    >>> identify({})
    {}
    """
    return {name: model_files.revision_of(str(folder)) for name, folder in params.items()}


def opened(folder: str, kind: str) -> RewardModel:
    """Return the reward model of a folder, loaded once for each content of it.

    Raises:
        UsageError: the folder holds no reward model of that kind.
    """
    card = read_card(Path(folder))
    if card["kind"] != kind:
        raise UsageError(
            f"{folder} is a {card['kind']} model, not a {kind} one", f"give it as {card['kind']}"
        )
    return _opened(folder, model_files.revision_of(folder))


@functools.lru_cache(maxsize=4)
def _opened(folder: str, revision: str) -> RewardModel:
    del revision  # of the cache's key alone: weights that were trained anew are read anew
    return RewardModel.load(folder)


def read_card(folder: Path) -> dict[str, Any]:
    """Return what a reward model's folder says of itself.

    Raises:
        UsageError: it is no reward model.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if card["kind"] in ("helpful", "safety") and card["reads"] in ("answer", "whole"):
            return dict(card)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UsageError(
        f"{folder} holds no reward model", "give a folder that distill reward-model wrote"
    )


def said(text: str, reads: Reads) -> str:
    r"""Return what a reward model reads of a completion: its answer, or all of it.

    >>> said("<think>\nhm\n</think>\n\nIt is 4.", "answer"), said("a", "whole")
    ('It is 4.', 'a')
    """
    return split_reasoning(text).answer.strip() if reads == "answer" else text


def tokens_of(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], text: str, *, reads: Reads
) -> list[int]:
    """Return a question and an answer as a reward model reads them, shape (T,).

    What reads like a control token in either is text (``model_files.DataText``), so that no answer
    can end its own turn and write another.
    """
    prompt = model_files.render(
        tokenizer, messages, template=tokenizer.chat_template, prefill=said(text, reads)
    )
    return [*prompt, int(tokenizer.eos_token_id)]


@dataclass(frozen=True)
class RewardModel:
    """A loaded reward model.

    Attributes:
        model: of transformers, with one output per text.
        tokenizer: with the template that it was trained with.
        kind: ``helpful``: ``rewards`` are its output; ``safety``: the probability of safe.
        reads: ``answer`` alone, or the ``whole`` completion.
        context: tokens of the longest text; longer ones have no reward. 0: no limit.
    """

    model: Any
    tokenizer: Any
    kind: Kind
    reads: Reads
    context: int

    @classmethod
    def load(cls, folder: str) -> RewardModel:
        """Load a folder; on a GPU the weights are bf16, on a CPU as they were saved.

        Raises:
            UsageError: it holds no reward model, or its weights cannot be read.
        """
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        card = read_card(Path(folder))
        cuda = torch.cuda.is_available()
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False,
                dtype=torch.bfloat16 if cuda else "auto",
            )  # fmt: skip
        except (OSError, ValueError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UsageError(
                f"{folder} cannot be loaded ({detail})", "train it again: distill reward-model"
            ) from None
        context = int(getattr(model.config, "max_position_embeddings", 0) or 0)
        return cls(model.eval(), tokenizer, card["kind"], card["reads"], context)

    def rewards(
        self,
        prompts: Sequence[Sequence[Mapping[str, Any]] | None],
        texts: Sequence[str | None],
    ) -> list[float | None]:
        """Return one reward per text, in order.

        Args:
            prompts: messages, shape (N,); None has no reward.
            texts: completions, thinking included, shape (N,); None has no reward.

        Returns:
            Shape (N,): the output, of a safety model the probability of safe; None where there is
            nothing to read, or more than the model's context holds.
        """
        self._move(resting=False)
        work = []
        for i, (messages, text) in enumerate(zip(prompts, texts, strict=True)):
            if messages is None or text is None:
                continue
            tokens = tokens_of(self.tokenizer, messages, text, reads=self.reads)
            if not self.context or len(tokens) <= self.context:
                work.append((i, tokens))
        out: list[float | None] = [None] * len(texts)
        # Texts of one length together: no token is computed for padding alone.
        work.sort(key=lambda pair: len(pair[1]))
        while work:
            n = max(1, _BATCH_TOKENS // len(work[-1][1]))
            batch, work = work[-n:], work[:-n]
            for (i, _), value in zip(batch, self._outputs([t for _, t in batch]), strict=True):
                out[i] = self._reward(value)
        return out

    def rest(self) -> None:
        """Leave the GPU until the next texts come: a policy and its sampler need the room."""
        self._move(resting=True)

    def _move(self, *, resting: bool) -> None:
        import torch

        if torch.cuda.is_available():
            self.model.to("cpu" if resting else torch.device("cuda", torch.cuda.current_device()))

    def _reward(self, output: float) -> float | None:
        if not math.isfinite(output):
            return None
        return output if self.kind == "helpful" else 0.5 * (1 + math.tanh(output / 2))

    def _outputs(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Return the model's output for rows of tokens, padded on the right."""
        import torch

        device, pad = self.model.device, int(self.tokenizer.pad_token_id)
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=device)
        mask = torch.tensor(
            [[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device
        )
        with torch.no_grad():
            # As in training: the model itself takes the output at the last token before padding.
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return [float(v) for v in logits.float().squeeze(-1)]
