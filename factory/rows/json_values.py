"""JSON files that are no JSON Lines: an array, or objects over several lines, value by value."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

MAX_BYTES = 64 << 20
"""Of one row, or value, as it stands in a file."""
_CHUNK = 1 << 20
_SPACE = " \t\n\r"


def is_lines(head: bytes) -> bool:
    """Tell JSON Lines by the beginning of a file: its first line is a value, and not the only one.

    >>> is_lines(b'{"a": 1}\\n{"a": 2}'), is_lines(b'[{"a": 1},'), is_lines(b'{\\n "a": 1}')
    (True, False, False)
    """
    line, newline, rest = head.lstrip().partition(b"\n")
    if not newline:
        return line[:1] != b"["
    try:
        orjson.loads(line)
    except ValueError:
        # A damaged line is no reason to read the whole file as one value.
        end = line.rstrip()[-1:]
        is_open = end == b"," or (end in (b"{", b"[") and len(line) < 200)
        return not (is_open and line[:1] in (b"[", b"{")) or rest.lstrip()[:1] == line[:1] == b"{"
    return line[:1] != b"[" or bool(rest.strip())


def values(handle: BinaryIO) -> Iterator[Any]:
    """Yield the items of one array, or values one after the other; a part in memory at a time.

    Raises:
        ValueError: it is no JSON, or cut off, or longer than ``MAX_BYTES``.
        RecursionError: it is nested without end.
    """
    decode = json.JSONDecoder().raw_decode
    text = ""
    to_text = codecs.getincrementaldecoder("utf-8-sig")("replace")
    at, in_array, is_over = 0, None, False
    while True:
        while at < len(text) and text[at] in _SPACE + ("," if in_array else ""):
            at += 1
        if at < len(text):
            if in_array is None:
                in_array = text[at] == "["
                at += in_array
                continue
            if in_array and text[at] == "]":
                return
            try:
                value, at = decode(text, at)
            except json.JSONDecodeError:
                if is_over:
                    raise
            else:
                # A number at the end of what was read may go on.
                yield value
                continue
        elif is_over:
            if in_array:
                raise ValueError("the array is not closed")
            return
        if len(text) - at > MAX_BYTES:
            raise ValueError(f"it is longer than {MAX_BYTES >> 20} MiB")
        # Twice as much each time: a value that is read in pieces is tried again from its start.
        data = handle.read(max(_CHUNK, len(text) - at))
        is_over = not data
        text = text[at:] + to_text.decode(data, final=is_over)
        at = 0
