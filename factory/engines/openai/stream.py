"""Server-sent events, read from bytes as they come.

The lines of such a stream end with CR, LF or both and with nothing else, while ``str.splitlines``
and httpx's ``aiter_lines`` also break at U+2028, U+2029 and U+0085, which stand raw inside JSON
texts. Hence bytes. httpx-sse gives the events of servers that keep to the standard; many do not:
they leave out the empty line between two events, the content type, or the ``data:`` before an
error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from factory.engines.openai.faults import Fault, fault_of_error, words_of

MAX_BYTES = 64 << 20
"""Bytes that one answer may have, and one line of it."""
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Events:
    r"""The JSON objects of a stream, from its bytes in pieces of any size.

    Attributes:
        is_done: whether ``[DONE]`` has come: the server has said all.

    >>> events = Events()
    >>> list(events.feed(b'data: {"a": 1}\n\nda')), list(events.feed(b'ta:{"b": 2}\r\r')), [
    ...     *events.feed(b"data: [DONE]\n\n")], events.is_done
    ([{'a': 1}], [{'b': 2}], [], True)
    """

    def __init__(self) -> None:
        self.is_done = False
        self._rest: list[bytes] = []
        self._n_rest = 0
        self._data = b""
        self._name = b""
        self._is_first, self._after_cr = True, False

    def feed(self, chunk: bytes) -> Iterator[Mapping[str, Any]]:
        """Take some bytes; yield what is complete.

        Raises:
            Fault: the server says an error, or what it says is no JSON.
        """
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        if b"\n" not in chunk and b"\r" not in chunk:
            self._keep(chunk)
            return
        lines = _LINE_END.split(b"".join((*self._rest, chunk)))
        self._rest, self._n_rest = [], 0
        self._keep(lines.pop())
        for line in lines:
            yield from self._line(line)

    def end(self) -> Iterator[Mapping[str, Any]]:
        """Yield what the end of the stream has completed."""
        yield from self._line(b"".join(self._rest))
        yield from self._line(b"")

    def _keep(self, piece: bytes) -> None:
        self._rest.append(piece)
        self._n_rest += len(piece)
        if self._n_rest > MAX_BYTES:
            raise Fault("too_big", f"a line of more than {MAX_BYTES >> 20} MiB", retriable=False)

    def _line(self, line: bytes) -> Iterator[Mapping[str, Any]]:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            data, self._data = self._data, b""
            name, self._name = self._name, b""
            if data:
                self._refuse(data, name)
            return
        if line.startswith(b"event:"):
            self._name = line[6:].strip()
        elif line.startswith(b"data:"):
            data = line[5:].strip()
            if data == b"[DONE]":
                self.is_done = True
                return
            self._data = self._data + b"\n" + data if self._data else data
            value = _complete(self._data)
            if value is not None:
                self._data = b""
                if self._name == b"error":
                    raise fault_of_error(value.get("error") or value)
                yield value
        elif line.startswith(b"{") and (value := _complete(line)) is not None:
            yield value  # an error that a server wrote as it stands

    def _refuse(self, data: bytes, name: bytes) -> None:
        if name == b"error":
            raise fault_of_error(words_of(data))
        raise Fault("half_answer", f"no JSON in the stream: {words_of(data)[:200]!r}")


def _complete(data: bytes) -> Mapping[str, Any] | None:
    """Return the JSON object that the data are; None where they are none, or not yet."""
    try:
        return read_json(data)
    except Fault:
        return None


def read_json(data: bytes) -> Mapping[str, Any]:
    """Read a JSON object; NaN and lone surrogates, which others do write, are taken.

    Raises:
        Fault: it is none (half a body, a proxy's error page).
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            said = words_of(data)[:200]
            raise Fault("half_answer", f"no JSON ({error}): {said!r}") from None
    if not isinstance(value, Mapping):
        raise Fault("half_answer", "no JSON object")
    return value
