"""A trace as one text, and text as tables and keys can hold it."""

from __future__ import annotations

from typing import Any


def trace_text(prefill: str | None, completion: str | None) -> str:
    """Return what a reader of the trace sees: prefill + completion, a missing half being empty.

    >>> trace_text("<think>", "2"), trace_text(None, "2"), trace_text("<think>", None)
    ('<think>2', '2', '<think>')
    """
    return (prefill or "") + (completion or "")


def clean_text(text: str) -> str:
    r"""Return the text without lone surrogates, which neither UTF-8 nor Arrow can hold.

    A pair of surrogates becomes the one character that it stands for, and a lone one U+FFFD, the
    character of Unicode for what was damaged.

    >>> clean_text("a \ud83d\ude00 \ud800") == "a \U0001f600 \ufffd"
    True
    """
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def clean(value: Any) -> Any:
    r"""Return a JSON value with all of its texts cleaned; see ``clean_text``.

    >>> clean({"a": ["\ud800", 1, None]}) == {"a": ["\ufffd", 1, None]}
    True
    """
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [clean(v) for v in value]
    if isinstance(value, dict):
        return {clean(k): clean(v) for k, v in value.items()}
    return value
