"""Plain data that crosses the wall of the box: a tagged JSON form, and equality on that form.

What comes out of the box is data and never a verdict. ``encode`` accepts exact built-in types only
(``type(x) is list``, no subclass), so an object that overrides ``__eq__`` cannot leave the box.
``canonical`` turns encoded data into text that is equal where Python's ``==`` is; the comparison
never builds a set or dict out of a candidate's numbers, whose hashes could be chosen to collide.

Runs on both sides, so it imports nothing of this project.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

MAX_NODES = 500_000
MAX_DEPTH = 200
_MAX_DIGITS = 4000
_BIG = 1 << 53
_EMPTY: dict[Any, Any] = {}
_VIEWS = (type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))
_ITERATORS = tuple(
    type(x)
    for x in (
        iter([]), iter(()), iter({}), iter(set()), iter(""), iter(range(0)), reversed([]),
        zip(), map(str, ""), filter(None, ""), enumerate(""), (i for i in ""),
    )
)  # fmt: skip
_ARRAY = re.compile(r"[<>|=][biufcSU]\d+")
_REFERENCES = ("ref", "name", "back", "std", "exc", "coro")
_MAPPINGS = (dict, collections.OrderedDict, collections.Counter, collections.defaultdict)


class NotPlain(TypeError):
    """The value is no plain data; the message names its type."""


class _Encoder:
    def __init__(self, ref: Callable[[Any], Any] | None) -> None:
        self.nodes = 0
        self.ref = ref

    def encode(self, value: Any, depth: int = 0) -> Any:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise NotPlain("too deep or too large")
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -_BIG < value < _BIG else {"i": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"f": repr(value)}
        inner = depth + 1
        if kind is list:
            return [self.encode(x, inner) for x in value]
        if kind is tuple:
            return {"t": [self.encode(x, inner) for x in value]}
        if kind in _MAPPINGS:
            return {"d": [[self.encode(k, inner), self.encode(v, inner)] for k, v in value.items()]}
        if kind is set or kind is frozenset:
            return {"s": [self.encode(x, inner) for x in value]}
        return self._rare(value, kind, inner)

    def _rare(self, value: Any, kind: type, inner: int) -> Any:
        if kind is bytes or kind is bytearray:
            return {"b": value.hex()}
        if kind is complex:
            return {"c": [self.encode(value.real, inner), self.encode(value.imag, inner)]}
        if kind is range:
            return {"r": [self.encode(x, inner) for x in (value.start, value.stop, value.step)]}
        if kind is collections.deque:
            return {"q": [self.encode(x, inner) for x in value]}
        if kind is fractions.Fraction:
            return {"F": [hex(value.numerator), hex(value.denominator)]}
        if kind is decimal.Decimal:
            return {"D": str(value)}
        if kind in (datetime.date, datetime.datetime, datetime.time):
            return {"dt": [kind.__name__, value.isoformat()]}
        if kind is datetime.timedelta:
            return {"td": [value.days, value.seconds, value.microseconds]}
        if kind in _VIEWS:
            tag = "v" if kind is _VIEWS[1] else "s"
            return {tag: [self.encode(x, inner) for x in value]}
        if tuple in kind.__mro__ and "_fields" in kind.__dict__:  # a named tuple, by its contents
            return {"t": [self.encode(x, inner) for x in tuple.__iter__(value)]}
        if kind in _ITERATORS and self.ref is None:
            taken = []
            for x in value:
                taken.append(self.encode(x, inner))
            return {"it": taken}
        if (numpy := sys.modules.get("numpy")) is not None and kind.__module__ == "numpy":
            if isinstance(value, numpy.generic) and _ARRAY.fullmatch(value.dtype.str):
                return self.encode(value.item(), inner)
            if kind is numpy.ndarray and _ARRAY.fullmatch(value.dtype.str):
                return {"np": [value.dtype.str, list(value.shape), value.tobytes().hex()]}
        if self.ref is not None:
            return self.ref(value)
        raise NotPlain(kind.__name__)


def encode(value: Any, ref: Callable[[Any], Any] | None = None) -> Any:
    """Return the JSON-ready form of plain data.

    Args:
        value: None, bool, int, float, str, list, tuple, dict, set, bytes, complex, range, deque,
            Fraction, Decimal, dates, and iterators over them (which are used up), of exactly
            these types; arrays and scalars of numpy, where it is loaded.
        ref: gives the form of anything else, iterators too; without it such a value is refused.

    Raises:
        NotPlain: a type outside of these, more than 500,000 nodes or more than 200 levels.

    >>> encode((1, {"a"}))
    {'t': [1, {'s': ['a']}]}
    """
    return _Encoder(ref).encode(value)


def decode(data: Any, ref: Callable[[Any], Any] | None = None) -> Any:
    """Build the value again.

    >>> decode(encode({(1, 2): [0.5, None]}))
    {(1, 2): [0.5, None]}
    """
    if type(data) is list:
        return [decode(x, ref) for x in data]
    if type(data) is not dict:
        return data
    if len(data) != 1:
        raise NotPlain("malformed")
    ((tag, body),) = data.items()
    if tag == "d":
        return {decode(k, ref): decode(v, ref) for k, v in body}
    if tag in ("t", "s", "q", "it", "v"):
        return _SEQUENCES[tag](decode(x, ref) for x in body)
    if tag == "np":
        return _array(*body)
    if tag in _REFERENCES:
        if ref is None:
            raise NotPlain("reference")
        return ref(data)
    return _decode_scalar(tag, body)


def _array(kind: Any, shape: Any, data: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None or type(kind) is not str or not _ARRAY.fullmatch(kind):
        raise NotPlain("array")
    return numpy.frombuffer(bytes.fromhex(data), kind).reshape(shape).copy()


def _as_display(items: Iterable[Any]) -> set[Any]:
    """Build a set as Python builds ``{1, 2, 3}``: the order that a program sees depends on it."""
    made: set[Any] = set()
    made.update(frozenset(items))
    return made


_SEQUENCES: dict[str, Callable[[Iterable[Any]], Any]] = {
    "t": tuple, "s": _as_display, "q": collections.deque,
    "it": lambda xs: iter(list(xs)), "v": list,
}  # fmt: skip


def _decode_scalar(tag: str, body: Any) -> Any:
    if tag == "i":
        return int(body, 16)
    if tag == "f":
        return float(body)
    if tag == "b":
        return bytes.fromhex(body)
    if tag == "c":
        return complex(decode(body[0]), decode(body[1]))
    if tag == "r":
        return range(*(decode(x) for x in body))
    if tag in ("F", "D") and sum(map(len, body)) > _MAX_DIGITS:
        raise NotPlain("too many digits")  # their arithmetic is quadratic
    if tag == "F":
        return fractions.Fraction(int(body[0], 16), int(body[1], 16))
    if tag == "D":
        return decimal.Decimal(body)
    if tag == "dt" and body[0] in ("date", "datetime", "time"):
        return getattr(datetime, body[0]).fromisoformat(body[1])
    if tag == "td":
        return datetime.timedelta(*body)
    raise NotPlain("malformed")


def _number(value: Any) -> str:
    if type(value) is float:
        return str(int(value)) if value.is_integer() and abs(value) < _BIG else value.hex()
    if abs(value) < _BIG:
        return str(int(value))
    near = float(value) if value.bit_length() < 1024 else 0.0
    return near.hex() if near == value else hex(value)  # a float and an integer may be equal


def canonical(data: Any, *, tuple_is_list: bool = False) -> str:
    """Return text that is equal for two encoded values where Python holds them equal.

    ``1 == 1.0 == True``; the order of sets and dicts does not count. NaN equals nothing.

    Args:
        data: encoded data.
        tuple_is_list: hold tuples and lists equal (golds in JSON cannot say tuple).

    Raises:
        NotPlain: malformed data.

    >>> canonical(encode({2: (1.0,)})) == canonical(encode({2.0: (True,)}))
    True
    >>> canonical(encode((1,))) == canonical(encode([1]))
    False
    """
    if data is None or type(data) is str:
        return json.dumps(data)
    if type(data) in (bool, int, float):
        return _number(data)
    if type(data) is list:
        return "[" + ",".join(canonical(x, tuple_is_list=tuple_is_list) for x in data) + "]"
    if type(data) is not dict or len(data) != 1:
        raise NotPlain("malformed")
    ((tag, body),) = data.items()
    if tag in ("t", "q", "it", "v"):
        mark = "" if tag == "t" and tuple_is_list else tag
        return mark + "[" + ",".join(canonical(x, tuple_is_list=tuple_is_list) for x in body) + "]"
    if tag == "s":
        return (
            "s{" + ",".join(sorted({canonical(x, tuple_is_list=tuple_is_list) for x in body})) + "}"
        )
    if tag == "d":
        pairs = [[canonical(part, tuple_is_list=tuple_is_list) for part in pair] for pair in body]
        last = {pair[0]: pair[1] for pair in pairs}
        return "d{" + ",".join(f"{k}:{last[k]}" for k in sorted(last)) + "}"
    return _canonical_scalar(tag, body)


def _canonical_scalar(tag: str, body: Any) -> str:
    if tag == "f":
        return str(body) if body in ("inf", "-inf") else f"nan{id(object())}{body}"
    if tag == "i":
        return _number(int(body, 16))
    value = _decode_scalar(tag, body)
    if tag == "c" and value.imag == 0:
        return _number(value.real)
    if tag == "F" and value.denominator == 1:
        return _number(value.numerator)
    if tag == "D" and value.is_finite() and abs(value.adjusted()) < 400:
        return _canonical_ratio(*value.as_integer_ratio())
    if tag == "F":
        return _canonical_ratio(value.numerator, value.denominator)
    if tag == "r":
        return (
            "r" + repr(list(value[:3])) + repr(len(value)) if len(value) < 1 << 60 else repr(value)
        )
    return f"{tag}:{body!r}"


def _canonical_ratio(top: int, bottom: int) -> str:
    if bottom == 1:
        return _number(top)
    if bottom & (bottom - 1) == 0 and bottom < 1 << 1000 and abs(top) < _BIG:
        return _number(top / bottom)  # exact: a float equals it
    return f"{top:x}/{bottom:x}"
