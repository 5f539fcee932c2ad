"""Messages of any chat log in one form: roles, content parts, thinking; no foreign keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory import dialects
from factory.rows.paths import opened

_ROLES = {
    "user": "user", "human": "user", "prompter": "user", "query": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant",
    "bard": "assistant", "model": "assistant", "bot": "assistant", "ai": "assistant",
    "llm": "assistant", "gpt4": "assistant", "response": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "function_response": "tool", "observation": "tool",
    "tool_response": "tool",
}  # fmt: skip
"""Role as data sets write it, in lower case → role."""
_TOOL_KEYS = ("name", "tool_calls", "tool_call_id")
_THINKING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought")
_TEXT_PARTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text")
_THINKING_PARTS = ("thinking", "reasoning", "redacted_thinking")
_ITEMS = {"message", "reasoning", "function_call", "web_search_call", "file_search_call"}
"""Types of the items that the Responses API puts out for one reply."""


class Unreadable(ValueError):
    """Messages that cannot be read; the text is the short reason, such as ``unknown_role``."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: what a model is sent, and the thinking that stood beside it."""

    message: dict[str, Any]
    thinking: str

    @property
    def role(self) -> str:
        """``system``, ``user``, ``assistant`` or ``tool``."""
        return str(self.message["role"])

    @property
    def text(self) -> str:
        """Its content."""
        return str(self.message["content"])


def is_messages(value: Any) -> bool:
    """Tell whether a value is a list of messages, a message, or their JSON text."""
    value = _transposed(opened(value))
    if isinstance(value, Mapping):
        value = [value]
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(t, Mapping) and _role_of(t) and _content_key(t) for t in value)
    )


def turns_of(value: Any) -> list[Turn]:
    """Read messages, ShareGPT turns, or their JSON text.

    Raises:
        Unreadable: an unknown role, or content that is no text.
    """
    value = _transposed(opened(value))
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise Unreadable("no_messages")
    found = [_turn(turn) for turn in value if turn is not None]
    return [t for t in found if t.role != "system" or t.text.strip()]


_RENDERED = (
    (re.compile(r"<\|im_start\|>(\w+)\n"), "<|im_end|>"),
    (re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\s*"), "<|eot_id|>"),
)
"""What begins a turn, its role, and what ends it, in prompts that a chat template rendered."""
_BEGINS_RENDERED = re.compile(
    r"\s*(?:<s>|<bos>)?\s*(?:<\|im_start\|>|<\|begin_of_text\|>|<\|start_header_id\|>|\[INST\]|"
    r"<start_of_turn>|<｜begin▁of▁sentence｜>|<｜User｜>|<\|user\|>|<\|system\|>)|\n\nHuman: "
)


def turns_of_text(text: str) -> list[Turn]:
    r"""Read a prompt that is a text; one that a chat template rendered becomes messages again.

    Its special tokens would be text to a model, and the next template would wrap them once more.

    Raises:
        Unreadable: a rendered text of another form, or one that holds a reply already.

    >>> [t.text for t in turns_of_text("<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n")]
    ['2+2?']
    """
    if not _BEGINS_RENDERED.match(text):
        return [Turn({"role": "user", "content": text}, "")]
    for begin, end in _RENDERED:
        found = list(begin.finditer(text))
        if not found:
            continue
        ends = [*(m.start() for m in found[1:]), len(text)]
        turns = [
            _turn({"role": m[1], "content": text[m.end() : e].strip().removesuffix(end).strip()})
            for m, e in zip(found, ends, strict=True)
        ]
        while turns and turns[-1].role == "assistant" and not turns[-1].text:
            turns.pop()
        if turns and turns[-1].role != "assistant":
            return [t for t in turns if t.role != "system" or t.text]
    raise Unreadable("rendered_prompt")


def _transposed(value: Any) -> Any:
    """Turn lists of equal length under each key, as some writers of Parquet do, to messages."""
    if (
        isinstance(value, Mapping)
        and _content_key(value)
        and all(isinstance(v, list) for v in value.values())
    ):
        return [
            dict(zip(value, items, strict=False)) for items in zip(*value.values(), strict=False)
        ]
    return value


def _role_of(turn: Mapping[str, Any]) -> str | None:
    role = turn.get("role") or turn.get("from") or turn.get("speaker")
    return role if isinstance(role, str) else None


def _content_key(turn: Mapping[str, Any]) -> str | None:
    return next((k for k in ("content", "value", "text", "parts") if k in turn), None)


def _turn(turn: Any) -> Turn:
    name = _role_of(turn) if isinstance(turn, Mapping) else None
    if name is None:
        raise Unreadable("no_role")
    role = _ROLES.get(name.strip().lower())
    if role is None:
        raise Unreadable("unknown_role")
    key = _content_key(turn)
    content, thinking = _content(turn[key] if key else None)
    for other in _THINKING_KEYS:
        if not thinking and isinstance(turn.get(other), str):
            thinking = turn[other]
    message: dict[str, Any] = {"role": role, "content": content}
    message |= {k: turn[k] for k in _TOOL_KEYS if turn.get(k) not in (None, "", [], {})}
    return Turn(message, thinking if role == "assistant" else "")


def _content(value: Any) -> tuple[str, str]:
    """Return the text and the thinking of a content: text, or a list of parts."""
    if value is None:
        return "", ""
    if isinstance(value, str):
        return value, ""
    parts = [value] if isinstance(value, Mapping) else value
    if not isinstance(parts, list):
        raise Unreadable("content_no_text")
    texts, thinking = [], []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, Mapping) else None
        if kind == "text" and part.get("thought") is True:  # Gemini's
            kind = "thinking"
        if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in _THINKING_PARTS:
            inner = part.get("thinking") or part.get("reasoning") or part.get("text") or ""
            thinking.append(inner if isinstance(inner, str) else _content(inner)[0])
        else:
            raise Unreadable("content_no_text")
    return "".join(texts), "\n\n".join(t for t in thinking if t)


def ends_with_reply(value: Any) -> bool:
    """Tell whether a value is messages whose last turn, but for system ones, is the assistant's."""
    if not is_messages(value):
        return False
    try:
        roles = [turn.role for turn in turns_of(value)]
    except Unreadable:
        return True  # its reason is counted row by row
    return next((role == "assistant" for role in reversed(roles) if role != "system"), False)


def is_items(value: Any) -> bool:
    """Tell whether a value is the output of the Responses API: the items of one reply."""
    return (
        isinstance(value, list)
        and all(isinstance(v, Mapping) and v.get("type") in _ITEMS for v in value)
        and any(v["type"] == "message" for v in value)
    )


def reply_of_items(items: list[Any]) -> tuple[str, str]:
    """Return text and thinking of the items of one reply.

    >>> thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Add."}]}
    >>> said = {"type": "message", "content": [{"type": "output_text", "text": "4"}]}
    >>> reply_of_items([thought, said])
    ('4', 'Add.')
    """
    texts = [_content(v.get("content")) for v in items if v["type"] == "message"]
    thoughts = [t for _, t in texts]
    for item in items:
        if item["type"] == "reasoning":
            thoughts.append(_content(item.get("content"))[0] or _content(item.get("summary"))[0])
    return "".join(text for text, _ in texts), "\n\n".join(t for t in thoughts if t)


def without_thinking(turn: Turn) -> dict[str, Any]:
    """Return a turn of the history as a model is sent it: an answer without its thinking."""
    if turn.role != "assistant":
        return turn.message
    halves = dialects.split(turn.text)
    if halves.dialect is None:
        return turn.message
    return {**turn.message, "content": halves.answer.strip()}


def whole(text: str, thinking: str) -> tuple[str, str | None]:
    """Return a completion in the stored form and the dialect that it was written in.

    Thinking that stands apart is joined, once; marks of other dialects become ``<think>``.

    >>> whole("4", "<think>add</think>")
    ('<think>\\nadd\\n</think>\\n\\n4', None)
    >>> whole("[THINK]add[/THINK]4", "")
    ('<think>\\nadd\\n</think>\\n\\n4', 'mistral')
    >>> whole("<think>add</think>4", "add")
    ('<think>add</think>4', 'think')
    """
    halves = dialects.split(text)
    if halves.dialect is None and thinking.strip():
        inner = dialects.split(thinking)
        if inner.dialect is not None and inner.reasoning.strip():
            thinking = inner.reasoning
        if not text.strip():  # it never came to an answer
            return f"{dialects.THINK_OPEN}\n{thinking.strip()}", None
        return dialects.join_reasoning(thinking.strip(), text.strip()), None
    if halves.dialect in (None, "think"):
        return text, halves.dialect
    if not halves.answer:
        return f"{dialects.THINK_OPEN}\n{halves.reasoning.strip()}", halves.dialect
    joined = dialects.join_reasoning(halves.reasoning.strip(), halves.answer.strip())
    return joined, halves.dialect
