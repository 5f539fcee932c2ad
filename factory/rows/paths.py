r"""Values out of a row: by nested path, by template, or a constant.

``reward_model.ground_truth``, ``messages[-1].content``, ``generations[*]`` (all items, as a list),
``"{instruction}\n\n{input}"``, ``"=R1"`` (the text R1). A step into text that holds JSON reads it.
A whole column name goes before its reading as a path, and a name is found in any case, with
spaces and hyphens as underscores.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from factory.errors import UsageError
from factory.rows import parquet

Row = Mapping[str, Any]
_STEP = re.compile(r"\.?([^.\[\]{}]+)|\[(\*|-?\d+)\]")
_PIECE = re.compile(r"(\{\{|\}\}|\{[^{}]*\})")


@dataclass(frozen=True, slots=True)
class Value:
    """A compiled path, template or constant.

    Attributes:
        text: as it was written.
        columns: columns that it reads.
        of: the value in a row; None where there is none.
    """

    text: str
    columns: tuple[str, ...]
    of: Callable[[Row], Any]


@functools.lru_cache(4096)  # the same few names for every row
def folded(name: str) -> str:
    """Return a column's name without case, spaces and hyphens.

    >>> folded("Ground-True Answer")
    'ground_true_answer'
    """
    return re.sub(r"[\s\-]+", "_", name.strip()).casefold()


class Columns:
    """The names of columns, found as they are written or, where one alone is meant, folded.

    A row may have half a million of them: names are folded once, not for every path, and only where
    a path is not written as a column is.

    Args:
        names: looked up as they are, so that many are best a dictionary, a set, or a row's keys.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return name in self._names

    @functools.cached_property
    def _by_fold(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for name in self._names:
            fold = folded(name)
            found[fold] = None if fold in found else name
        return found

    def find(self, name: str) -> str | None:
        """Return the column that a name means; None: none, or several."""
        return name if name in self._names else self._by_fold.get(folded(name))

    def has_folded(self, name: str) -> bool:
        """Tell whether some column has this name, however it is written."""
        return folded(name) in self._by_fold


def compiled(text: str, columns: Columns | Collection[str]) -> Value | None:
    r"""Return the value that ``text`` stands for; None where it names a column that is not there.

    Args:
        text: a path, a template (it holds braces), or a constant (it begins with ``=``).
        columns: the columns that the rows have.

    Raises:
        UsageError: it is no path.

    >>> compiled("a[-1].b", {"a"}).of({"a": [{"b": 1}, {"b": 2}]})
    2
    >>> compiled("{q}\n\n{i}", {"q", "i"}).of({"q": "Add.", "i": ""})
    'Add.'
    """
    if text.startswith("="):
        constant = text[1:]
        return Value(text, (), lambda row: constant)
    columns = columns if isinstance(columns, Columns) else Columns(columns)
    if text not in columns and "{" in text:
        return _template(text, columns)
    return _path(text, columns)


def _path(text: str, columns: Columns) -> Value | None:
    whole = columns.find(text)
    if whole is not None:
        name = whole
        return Value(text, (name,), lambda row: row.get(name))
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None or (not steps and found[1] is None):
            raise UsageError(f"{text!r} is no path", "write it as a.b, a[0].b or a[*].b")
        at = found.end()
        number = found[2]
        steps.append(found[1] or (number if number == "*" else int(number)))
    first = columns.find(str(steps[0])) if steps else None
    if first is None:
        return None
    rest = steps[1:]
    if rest == ["*"]:
        return Value(text, (first,), lambda row: _list(row.get(first)))
    return Value(text, (first,), lambda row: _walk(row.get(first), rest))


def _walk(value: Any, steps: list[str | int]) -> Any:
    for number, step in enumerate(steps):
        value = opened(value)
        if step == "*":
            items = _list(value)
            if items is None or number + 1 == len(steps):
                return items
            return [_walk(item, steps[number + 1 :]) for item in items]
        if isinstance(step, int):
            if not isinstance(value, list | tuple) or not -len(value) <= step < len(value):
                return None
            value = value[step]
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is None:
            return None
    return value


def _list(value: Any) -> list[Any] | None:
    value = opened(value)
    return list(value) if isinstance(value, list | tuple) else None


def opened(value: Any) -> Any:
    """Return the structure that a text holds as JSON or as Python's own notation, else the value.

    >>> opened('{"ground_truth": "54"}'), opened("{'a': 1}"), opened("54")
    ({'ground_truth': '54'}, {'a': 1}, '54')
    """
    if not isinstance(value, str):
        return value
    head = value.lstrip()[:1]
    if head not in ("{", "["):
        return value
    try:
        return parquet.loads(value.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        pass
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value
    return found if isinstance(found, dict | list) else value


def _template(text: str, columns: Columns) -> Value | None:
    pieces: list[str | Value] = []
    for piece in _PIECE.split(text):
        if piece in ("{{", "}}"):
            pieces.append(piece[0])
        elif piece.startswith("{"):
            value = _path(piece[1:-1].strip(), columns)
            if value is None:
                return None
            pieces.append(value)
        elif piece:
            pieces.append(piece)
    values = [p for p in pieces if isinstance(p, Value)]

    def of(row: Row) -> str | None:
        found = [p if isinstance(p, str) else _as_text(p.of(row)) for p in pieces]
        if values and not any(f for p, f in zip(pieces, found, strict=True) if p in values):
            return None
        return "".join(found).strip()

    return Value(text, tuple(c for v in values for c in v.columns), of)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | list | dict):
        raise UsageError(
            f"a template reads a {type(value).__name__}", "name a text inside it, such as {a.b}"
        )
    return str(value)


def columns_named(text: str) -> list[str]:
    """Return the first steps of the paths in ``text``: the columns that it asks for.

    >>> columns_named("{a.b} and {c}"), columns_named("x[0].y"), columns_named("=x")
    (['a', 'c'], ['x'], [])
    """
    if text.startswith("="):
        return []
    inner = [p[1:-1].strip() for p in _PIECE.split(text) if p[:1] == "{" and len(p) > 2]
    paths = inner if inner and "{" in text else [text]
    return [m[1] for p in paths if (m := _STEP.match(p)) and m[1]]
