"""What both sides of a conversation between two boxes need: frames, operations, things lent out.

One box holds the tests, the other the program. Values cross as plain data; what is none stays where
it is and is lent out by number. Exactly one side works at a time: who has sent a frame serves the
other's requests until its answer comes.

Imports nothing of this project but the files of the box.
"""

from __future__ import annotations

import json
import operator
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

MAX_LINE = 16 << 20
# Modules whose functions and classes are the same on both sides, so that their name is enough.
STANDARD = {
    "builtins", "collections", "copy", "decimal", "fractions", "functools", "heapq", "itertools",
    "math", "_operator", "operator", "re", "statistics", "string", "typing",
}  # fmt: skip
# Names that lead from an object to its frame, code or globals begin with these.
_INNER = ("_", "gi_", "cr_", "ag_", "f_", "tb_", "co_", "func_")


def _reversed_of(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda held, other: function(other, held)


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    name: getattr(operator, f"__{name}__")
    for name in (
        "add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor",
        "lshift", "rshift",
    )
}  # fmt: skip
ARITHMETIC |= {f"r{name}": _reversed_of(function) for name, function in ARITHMETIC.items()}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    name: getattr(operator, name) for name in ("eq", "lt", "le", "gt", "ge")
}
READING: dict[str, Callable[..., Any]] = {
    "len": len, "iter": iter, "next": next, "str": str, "repr": repr, "int": int, "float": float,
    "complex": complex, "index": operator.index, "neg": operator.neg, "pos": operator.pos,
    "abs": abs, "invert": operator.invert, "round": round, "reversed": reversed,
    "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
    "enter": lambda held: type(held).__enter__(held),
    "exit": lambda held, *error: type(held).__exit__(held, *error),
}  # fmt: skip
OPERATIONS: dict[str, Callable[..., Any]] = {
    **ARITHMETIC, **COMPARISONS, **READING, "contains": operator.contains, "bool": bool,
    "isinstance": lambda held, other: isinstance(other, held),
}  # fmt: skip


def is_inner(name: object) -> bool:
    """Tell names that are not to be reached from the other side.

    >>> is_inner("__globals__"), is_inner("gi_frame"), is_inner("value")
    (True, True, False)
    """
    return type(name) is not str or name.startswith(_INNER)


class Lent:
    """What this side has lent out: numbers for objects, the same for the same object."""

    def __init__(self) -> None:
        self._held: list[Any] = []
        self._numbers: dict[int, int] = {}

    def number(self, value: Any) -> int:
        """Return the number of an object; it is kept alive from now on."""
        key = id(value)
        if key not in self._numbers:
            self._numbers[key] = len(self._held)
            self._held.append(value)
        return self._numbers[key]

    def __getitem__(self, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < len(self._held):
            raise KeyError("nothing of that number was lent")
        return self._held[number]


def standard_name(value: Any) -> str | None:
    """Return ``module.name`` of a function or class that both sides have.

    >>> standard_name(len), standard_name(lambda: 1)
    ('builtins.len', None)
    """
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if type(module) is not str or type(name) is not str or module not in STANDARD:
        return None
    found = getattr(sys.modules.get(module), name, None)
    return f"{module}.{name}" if found is value else None


def parameters(function: Any) -> str | None:
    """Return the parameters of a function as text; a default is ``_d_``. None: it is no function.

    >>> parameters(lambda a, b=1, *c, d, **e: 0)
    'a, b=_d_, *c, d, **e'
    """
    if type(function) is not types.FunctionType:
        return None
    code, defaults = function.__code__, function.__defaults__ or ()
    n, n_only = code.co_argcount, code.co_kwonlyargcount
    names = list(code.co_varnames)
    out = [name + ("=_d_" if i >= n - len(defaults) else "") for i, name in enumerate(names[:n])]
    rest = names[n + n_only :]
    if code.co_flags & 4:  # CO_VARARGS
        out.append("*" + rest.pop(0))
    elif n_only:
        out.append("*")
    given = function.__kwdefaults__ or {}
    out += [name + ("=_d_" if name in given else "") for name in names[n : n + n_only]]
    if code.co_flags & 8:  # CO_VARKEYWORDS
        out.append("**" + rest.pop(0))
    return ", ".join(out)


def run_coroutine(coroutine: Any) -> Any:
    """Run a coroutine to its end, in a thread of its own where a loop is running already."""
    import asyncio
    import threading

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    found: list[Any] = []

    def run() -> None:
        try:
            found.append((True, asyncio.run(coroutine)))
        except BaseException as error:  # noqa: BLE001 - carried to the thread that asked
            found.append((False, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ((done, value),) = found
    if done:
        return value
    raise value


def read_lines() -> Iterator[bytes]:
    """Yield the lines of descriptor 0, as long as none is above 16 MiB."""
    read, held = os.read, b""
    while True:
        cut = held.find(b"\n")
        if cut >= 0:
            yield held[:cut]
            held = held[cut + 1 :]
            continue
        more = read(0, 1 << 16)
        if not more:
            return
        held += more
        if len(held) > MAX_LINE:
            return


def sender(descriptor: int = 1) -> Callable[[dict[str, Any]], None]:
    """Return what writes a frame to a descriptor, with the functions as they are now."""
    write, dumps = os.write, json.dumps

    def send(frame: dict[str, Any]) -> None:
        data = dumps(frame, separators=(",", ":")).encode() + b"\n"
        while data:
            data = data[write(descriptor, data) :]

    return send
