"""Texts of a row, wherever they stand: plain columns, messages and their parts, lists of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_KEYS = ("content", "value", "text", "reasoning_content", "thinking", "reasoning")
_NO_TEXT = frozenset({"role", "from", "type", "name", "id", "tool_call_id", "weight", "loss"})


def strings(value: Any) -> Iterator[str]:
    """Yield every text inside a value: of messages what is said, not who says it.

    >>> list(strings([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, "there"]))
    ['Hi', 'there']
    """
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, Mapping):
        # A message, or a part of one; any other structure is read whole.
        is_message = any(key in value for key in _KEYS)
        for key, inside in value.items():
            if key in _KEYS or not (is_message and key in _NO_TEXT):
                yield from strings(inside)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for inside in value:
            yield from strings(inside)


def joined(value: Any) -> str | None:
    """Return all texts inside a value as one, with blank lines between; None where there is none.

    >>> joined([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}])
    'Hi\\n\\nHo'
    """
    found = list(strings(value))
    return "\n\n".join(found) if found else None
