"""Runs test code in a box of its own, with the candidate in another box.

The candidate's functions are stand-ins here: a call becomes a request on standard output, and the
answer, plain data, comes back on standard input. What is no plain data stays in the candidate's box
and is spoken to by reference; equality with such an object is never asked of the candidate unless
both sides are its own.

Imports nothing of this project but the files of the box.
"""

from __future__ import annotations

import ast
import builtins
import io
import json
import os
import sys
from typing import Any

from factory.sandbox.inside import harness, pytest_names
from factory.sandbox.plain_data import NotPlain, decode, encode


class Unsendable(Exception):
    """The test hands over something that is no plain data (a function, an object of its own)."""


class CandidateError(Exception):
    """The candidate raised something that is no built-in exception."""


def _send(frame: dict[str, Any]) -> None:
    data = json.dumps(frame, separators=(",", ":")).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def _outgoing(value: Any) -> Any:
    def ref(other: Any) -> Any:
        if isinstance(other, Remote):
            return object.__getattribute__(other, "_at")
        raise Unsendable(type(other).__name__)

    try:
        return encode(value, ref)
    except NotPlain as error:
        raise Unsendable(str(error)) from None


class _Wire:
    def __init__(self, lines: Any) -> None:
        self.lines = lines

    def ask(self, operation: str, at: Any, *args: Any, **kwargs: Any) -> Any:
        request = {
            "op": operation,
            "on": at,
            "args": [_outgoing(x) for x in args],
            "kwargs": {k: _outgoing(v) for k, v in kwargs.items()},
            "watch": operation == "call" and any(type(x) in (list, dict, set) for x in args),
        }
        _send(request)
        line = next(self.lines, None)
        if line is None:
            os._exit(1)
        answer = json.loads(line)
        if "error" in answer:
            raise _exception(str(answer["error"]), str(answer.get("text", "")))
        for mine, theirs in zip(args, answer.get("args") or (), strict=False):
            if theirs is not None:
                _update(mine, decode(theirs, _incoming(self)))
        return decode(answer["ok"], _incoming(self))


def _exception(name: str, text: str) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:
            return CandidateError(name)
    return CandidateError(f"{name}: {text}")


def _update(mine: Any, theirs: Any) -> None:
    """Let a change that the candidate made to its argument be seen by the test."""
    if type(mine) is list and type(theirs) is list:
        mine[:] = theirs
    elif type(mine) in (dict, set) and type(theirs) is type(mine):
        mine.clear()
        mine.update(theirs)


def _incoming(wire: _Wire) -> Any:
    return lambda data: Remote(wire, data)


class Remote:
    """Stands for something in the candidate's box."""

    def __init__(self, wire: _Wire, at: Any) -> None:
        object.__setattr__(self, "_wire", wire)
        object.__setattr__(self, "_at", at)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it in the candidate's box and return what comes back."""
        return _ask(self, "call", *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return _ask(self, "attr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "set", name, value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Remote):
            return _ask(self, "__eq__", other) is True
        raise NotPlain("result is no plain data")

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        raise NotPlain("result is no plain data")

    __hash__ = object.__hash__


def _ask(remote: Remote, operation: str, *args: Any, **kwargs: Any) -> Any:
    wire = object.__getattribute__(remote, "_wire")
    return wire.ask(operation, object.__getattribute__(remote, "_at"), *args, **kwargs)


def _forward(name: str) -> None:
    def method(self: Remote, *args: Any) -> Any:
        return _ask(self, name, *args)

    setattr(Remote, name, method)


for _name in [
    "len",
    "iter",
    "next",
    "getitem",
    "setitem",
    "delitem",
    "contains",
    "str",
    "repr",
    "int",
    "float",
    "index",
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "neg",
    "abs",
    "and",
    "or",
    "xor",
    "lt",
    "le",
    "gt",
    "ge",
    "enter",
    "exit",
]:
    _forward(f"__{_name}__")


class _Names(dict[str, Any]):
    """Global names of the test: its own, then built-in ones, then the candidate's."""

    def __init__(self, wire: _Wire, own_modules: set[str]) -> None:
        super().__init__()
        self.wire = wire
        self.own_modules = own_modules

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            raise KeyError(name)
        if name in self.own_modules:  # "math.isclose" must not be the candidate's math
            self[name] = __import__(name)
            return self[name]
        at = {"name": name}
        found = self.wire.ask("get", at)
        if isinstance(found, Remote):
            found = self[name] = Remote(self.wire, at)
        return found


def run_tests(job: dict[str, Any]) -> None:
    """Run ``prefix`` and ``setup`` as far as they stand alone, then the tests; report one frame."""
    lines = harness._lines(os.read)
    pytest_names.install()
    wire = _Wire(lines)
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    sys.stdout = sys.stderr = io.TextIOWrapper(harness._Void(), write_through=True)
    asked = set(job.get("asked") or ())
    names = _Names(wire, set(harness.PRELUDE) - asked)
    names["__builtins__"] = builtins
    names["__name__"] = "tests"
    import random

    random.seed(0)
    frame: dict[str, Any]
    try:
        _helpers(job, names)
        for name in job.get("asked") or ():  # the candidate's function may bear a built-in name
            if hasattr(builtins, name):
                names[name] = Remote(wire, {"name": name})
        exec(compile(job["tests"], "tests.py", "exec"), names)
        if job.get("entry_point") and "check" in names:
            names["check"](Remote(wire, {"name": job["entry_point"]}))
        frame = {"held": True}
    except SystemExit as left:  # of the test's own doing: the candidate's is another error here
        frame = {"failed": "wrong"} if left.code else {"held": True}
    except Unsendable as error:
        frame = {"unsendable": str(error)[:200]}
    except AssertionError:
        frame = {"failed": "wrong"}
    except NotPlain:
        frame = {"failed": "result_not_plain"}
    except BaseException as error:  # noqa: BLE001 - whatever the candidate led the test into
        frame = {"failed": "runtime_error", "text": type(error).__name__}
    _send(frame)
    os._exit(0)


def _helpers(job: dict[str, Any], names: _Names) -> None:
    """Define the imports, functions and constants of prefix and setup here.

    So the test's own tools are not the candidate's. Left to its box are the function that is asked
    for, functions without a body, and what is built from its own classes.
    """
    for part in ("prefix", "setup"):
        try:
            tree = ast.parse(job.get(part) or "")
        except (SyntaxError, ValueError):
            continue
        for node in tree.body:
            if _stands_alone(node, job.get("wanted")):
                exec(compile(ast.Module([node], []), "setup.py", "exec"), names)


def _stands_alone(node: ast.stmt, wanted: str | None) -> bool:
    if isinstance(node, ast.FunctionDef):
        has_body = any(
            not isinstance(x, ast.Pass)
            and not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))
            for x in node.body
        )
        return has_body and node.name != wanted
    if isinstance(node, ast.Assign):
        try:
            ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return False
        return True
    return isinstance(node, (ast.Import, ast.ImportFrom))
