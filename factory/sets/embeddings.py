"""Embeddings of texts by a model of transformers that the recipe names; none is bundled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.errors import UsageError

_AT_ONCE = 32
Vectors = npt.NDArray[np.float32]


class Embedder:
    """An encoder: the mean of its last hidden states over a text's tokens, as a unit vector.

    Args:
        model: ``name@revision`` of a hub model, or a folder.
        max_tokens: tokens of a text that are read.

    Raises:
        UsageError: the model cannot be loaded.
    """

    def __init__(self, model: str, *, max_tokens: int = 512) -> None:
        from pathlib import Path

        from transformers import AutoModel, AutoTokenizer

        name, revision = model, None
        if not Path(model).exists() and "@" in model:
            name, _, revision = model.partition("@")
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                name, revision=revision, trust_remote_code=False
            )
            self._model: Any = AutoModel.from_pretrained(
                name, revision=revision, use_safetensors=True, trust_remote_code=False
            ).eval()
        except (OSError, ValueError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UsageError(
                f"cannot load the embedding model {model!r} ({detail})", "check name or folder"
            ) from None
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._tokenizer.padding_side = "right"
        own = getattr(self._model.config, "max_position_embeddings", None) or max_tokens
        self._max_tokens = min(max_tokens, own)

    def embed(self, texts: Sequence[str | None]) -> Vectors:
        """Return unit vectors, shape (N, dim); zeros for null and empty texts."""
        import torch

        width = int(self._model.config.hidden_size)
        out = np.zeros((len(texts), width), dtype=np.float32)
        # Texts of like length together: padding is work.
        rows = [i for i, t in enumerate(texts) if t and t.strip()]
        rows.sort(key=lambda i: len(texts[i] or ""))
        for begin in range(0, len(rows), _AT_ONCE):
            some = rows[begin : begin + _AT_ONCE]
            tokens = self._tokenizer(
                [texts[i] for i in some], padding=True, truncation=True,
                max_length=self._max_tokens, return_tensors="pt",
            )  # fmt: skip
            mask = tokens["attention_mask"]
            with torch.no_grad():
                states = self._model(
                    input_ids=tokens["input_ids"], attention_mask=mask
                ).last_hidden_state.float()
            weights = mask.unsqueeze(-1).float()
            mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1)
            out[some] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return out
