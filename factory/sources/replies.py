"""Completions of a row in any of their forms: text, messages, choices of an API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.records import whole
from factory.sources import messages
from factory.sources.recognise import is_thinking

_TEXT_KEYS = ("text", "response", "content", "completion", "generation", "generated_text", "output")
_MODEL_KEYS = ("model", "response_model", "model_name")


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion of a row.

    Attributes:
        text: in the stored form (``messages.whole``).
        position: its place in the row's list of completions, unreadable ones counted.
        dialect: that it was written in; ``ending``: special tokens that were cut off its end.
    """

    text: str
    position: int
    model: str | None
    finish_reason: str | None
    n_tokens: int | None
    dialect: str | None
    ending: tuple[str, ...]
    meta: Mapping[str, Any]


def reply_of(value: Any) -> tuple[str | None, str, dict[str, Any]]:
    """Return text, thinking and further facts of one completion in any of its forms.

    Text; a message or messages; ``{text, finish_reason}`` and the like; a choice or the items of
    an API.
    A value without text gives None: no Python notation ever becomes text.
    """
    if isinstance(value, str):
        return value, "", {}
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0], "", {}
    if isinstance(value, list) and messages.is_items(value):
        return *messages.reply_of_items(value), {}
    if isinstance(value, list | dict) and messages.is_messages(value):
        turns = messages.turns_of(value)
        if turns and turns[-1].role == "assistant":
            return turns[-1].text, turns[-1].thinking, {}
        return None, "", {}
    if not isinstance(value, Mapping):
        return None, "", {}
    own: dict[str, Any] = {}
    model = next((value[k] for k in _MODEL_KEYS if isinstance(value.get(k), str)), None)
    if model:
        own["model"] = model
    if isinstance(value.get("finish_reason"), str):
        own["finish_reason"] = value["finish_reason"]
    inner = value.get("message")
    if isinstance(inner, Mapping):
        text, thinking, _ = reply_of({"role": "assistant", **inner})
        return text, thinking, own
    text = next((value[k] for k in _TEXT_KEYS if isinstance(value.get(k), str)), None)
    thinking = next(
        (value[k] for k in ("reasoning_content", "reasoning", "thinking")
         if is_thinking(value.get(k)) and isinstance(value[k], str)), "",
    )  # fmt: skip
    used = {
        *_TEXT_KEYS,
        *_MODEL_KEYS,
        "finish_reason",
        "reasoning_content",
        "reasoning",
        "thinking",
    }
    own["meta"] = {k: v for k, v in value.items() if k not in used and v is not None}
    return text, thinking, own


def text_of(value: Any) -> str:
    """Return a text, or the first text of a list; empty where there is none."""
    if isinstance(value, list):
        value = next((v for v in value if isinstance(v, str)), None)
    return value if isinstance(value, str) else ""


def item_at(value: Any, position: int) -> str | None:
    """Return a text, or the text at a position of a list."""
    if isinstance(value, list):
        value = value[position] if position < len(value) else None
    return value if isinstance(value, str) and value else None


def number_at(value: Any, position: int) -> int | None:
    """Return a whole number, or the one at a position of a list."""
    if isinstance(value, list):
        value = value[position] if position < len(value) else None
    return whole(value)


def plain_of(value: Any) -> str | None:
    """Return a text, or the first item of a list where that is one."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) and value else None
