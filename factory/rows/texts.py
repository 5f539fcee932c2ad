"""Texts of a row, wherever they stand: plain columns, messages and their parts, lists of them."""

from __future__ import annotations

import re
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


def visible(text: str) -> str:
    r"""Return text whose control characters, marks of direction and empty signs can be seen.

    Line feeds and tabs stay. What turns the reading direction around, or takes no room, is written
    as its code point: it could show another text than the one that is there.

    >>> visible("a\x1b[31m\u202eb\n")
    'a␛[31m⟦U+202E⟧b\n'
    """
    return text if text.isprintable() else _HIDDEN.sub(_shown, text)


# Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji are written with them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟦U+{code:04X}⟧"
