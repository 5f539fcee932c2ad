"""Runs test code in a box of its own, with the candidate in another box.

The candidate's functions are stand-ins here: a call becomes a request on standard output, and the
answer, plain data, comes back on standard input. What is no plain data stays in the candidate's box
and is spoken to by reference; functions and objects of the tests stay here and are called back. A
comparison, sum or membership between an object of the candidate's and plain data is refused, and a
refusal stands, whatever the test code does with it.

Imports nothing of this project but the files of the box.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from factory.sandbox.inside import crossing, pytest_names
from factory.sandbox.plain_data import NotPlain, decode, encode

# What a stand-in raises in its own name: another meaning is read into it where it comes from here.
_NEVER_RAISED = (StopIteration, StopAsyncIteration, GeneratorExit)


class CandidateError(Exception):
    """The candidate raised something that is no built-in exception."""


class _Wire:
    """The way to the candidate's box, and what was found out on it.

    Attributes:
        fault: why the tests cannot hold any more, whatever they say.
    """

    def __init__(self, lines: Any) -> None:
        self.lines = lines
        self.send = crossing.sender()
        self.lent = crossing.Lent()
        self.remotes: dict[int, Remote] = {}
        self.exceptions: dict[str, type[Exception]] = {}
        self.fault: str | None = None
        self.watches = False

    def refuse(self, what: str) -> NotPlain:
        """Note that the candidate's object was to decide something; return what to raise."""
        self.fault = self.fault or "result_not_plain"
        return NotPlain(what)

    def ask(self, operation: str, at: Any, *args: Any, **kwargs: Any) -> Any:
        watches, self.watches = self.watches, False
        self.send({
            "op": operation,
            "on": at,
            "args": [encode(x, self._outgoing) for x in args],
            "kwargs": {k: encode(v, self._outgoing) for k, v in kwargs.items()},
            "watch": watches and any(_can_change(x) for x in args),
        })  # fmt: skip
        answer = self._answer()
        if "error" in answer:
            raise self._exception(str(answer["error"]), str(answer.get("text", "")), operation)
        for mine, theirs in zip(args, answer.get("args") or (), strict=False):
            if theirs is not None:
                _update(mine, decode(theirs, self._incoming))
        return decode(answer["ok"], self._incoming)

    def _answer(self) -> dict[str, Any]:
        """Wait for the answer; what the candidate asks of the tests meanwhile is done."""
        for line in self.lines:
            frame: dict[str, Any] = json.loads(line)
            if (printed := frame.get("printed")) and type(printed) is str:
                sys.stdout.write(printed)
            if "op" not in frame:
                return frame
            try:
                out = {"ok": encode(self._serve(frame), self._outgoing)}
            except AssertionError as error:  # a test's own, in a function that it handed over
                self.fault = self.fault or "wrong"
                out = {"error": "AssertionError", "text": str(error)[:200]}
            except BaseException as error:  # noqa: BLE001 - told to the candidate, who asked
                out = {"error": type(error).__name__, "text": str(error)[:200]}
            self.send(out)
        os._exit(1)

    def _serve(self, frame: dict[str, Any]) -> Any:
        operation = frame["op"]
        args = [decode(x, self._incoming) for x in frame.get("args", ())]
        kwargs = {str(k): decode(v, self._incoming) for k, v in frame.get("kwargs", {}).items()}
        if operation == "input":
            return builtins.input(*args)
        if operation in ("readline", "read"):
            return getattr(sys.stdin, operation)()
        target = decode(frame["on"], self._incoming)
        if isinstance(target, Remote) or type(target) is type(None):
            raise TypeError("nothing of the tests")
        if operation == "call":
            return target(*args, **kwargs)
        if operation in ("attr", "set"):
            if crossing.is_inner(args[0]):
                raise AttributeError(args[0])
            return getattr(target, args[0]) if operation == "attr" else setattr(target, *args)
        if operation == "await":
            return crossing.run_coroutine(target)
        return crossing.OPERATIONS[operation](target, *args)

    def _outgoing(self, value: Any) -> Any:
        if type(value) is Remote:
            return object.__getattribute__(value, "_at")
        if (name := crossing.standard_name(value)) is not None:
            return {"std": name}
        if type(value) is types.CoroutineType:
            return {"coro": self.lent.number(value)}
        name = getattr(value, "__name__", None) if callable(value) else None
        return {"back": [self.lent.number(value), name, crossing.parameters(value)]}

    def _incoming(self, data: dict[str, Any]) -> Any:
        ((tag, body),) = data.items()
        if tag == "back":
            return self.lent[body[0]]
        if tag == "exc":
            return self._exception_class(*body)
        if tag == "coro":
            return _awaited(Remote(self, {"ref": body}))
        if tag != "ref" or type(body) is not int:
            raise NotPlain("malformed")
        if body not in self.remotes:
            self.remotes[body] = Remote(self, data)
        return self.remotes[body]

    def _exception_class(self, name: str, base: str) -> type[Exception]:
        if name not in self.exceptions:
            parent = getattr(builtins, base, Exception)
            if not isinstance(parent, type) or not issubclass(parent, Exception):
                parent = Exception
            self.exceptions[name] = type(str(name), (parent,), {})
        return self.exceptions[name]

    def _exception(self, name: str, text: str, operation: str) -> Exception:
        if name == "NotPlain":
            return self.refuse(text)
        kind = self.exceptions.get(name) or getattr(builtins, name, None)
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            return CandidateError(f"{name}: {text}")
        # it would end a loop of the test's in good order: all(map(f, xs)) holds of what was never
        if issubclass(kind, _NEVER_RAISED) and operation != "next":
            return CandidateError(f"{name}: {text}")
        try:
            return kind(text)
        except TypeError:
            return CandidateError(name)


async def _awaited(remote: Remote) -> Any:
    return _ask(remote, "await")


def _can_change(value: Any) -> bool:
    return type(value) in (list, dict, set) or type(value).__name__ == "ndarray"


def _update(mine: Any, theirs: Any) -> None:
    """Let a change that the candidate made to its argument be seen by the test."""
    if type(mine) is list and type(theirs) is list:
        mine[:] = theirs
    elif type(mine) in (dict, set) and type(theirs) is type(mine):
        mine.clear()
        mine.update(theirs)
    elif _can_change(mine) and type(theirs) is type(mine) and mine.shape == theirs.shape:
        mine[...] = theirs


class Remote:
    """Stands for something in the candidate's box.

    It can be called, read and changed: what comes of that is plain data, compared here. It decides
    nothing: not whether it is equal to plain data, smaller, a member or true. What the tests have
    made by calling a class of the program (its name is in capitals) may be added to plain data or
    hold it, since that is the program's task; only objects come of such a sum, never plain data.
    """

    def __init__(self, wire: _Wire, at: Any, *, own: bool = False, mixed: bool = False) -> None:
        object.__setattr__(self, "_wire", wire)
        object.__setattr__(self, "_at", at)
        object.__setattr__(self, "_own", own)
        object.__setattr__(self, "_mixed", mixed)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it in the candidate's box and return what comes back."""
        value = _ask(self, "call", *args, **kwargs)
        name = str(object.__getattribute__(self, "_at").get("name", "")).rpartition(".")[2]
        if type(value) is Remote and name[:1].isupper():
            object.__setattr__(value, "_own", True)
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__array"):  # numpy would read the memory that it is told to
            raise AttributeError(name)
        return _ask(self, "attr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "set", name, value)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        raise _refusal(self)

    def __instancecheck__(self, instance: Any) -> bool:
        return type(instance) is Remote and _ask(self, "isinstance", instance) is True

    def __mro_entries__(self, bases: Any) -> Any:
        raise _refusal(self)

    __hash__ = object.__hash__


def _ask(remote: Remote, operation: str, *args: Any, **kwargs: Any) -> Any:
    wire = object.__getattribute__(remote, "_wire")
    return wire.ask(operation, object.__getattribute__(remote, "_at"), *args, **kwargs)


def _refusal(remote: Remote) -> NotPlain:
    refuse: Callable[[str], NotPlain] = object.__getattribute__(remote, "_wire").refuse
    return refuse("result is no plain data")


def _read(name: str) -> Callable[..., Any]:
    def method(self: Remote, *args: Any) -> Any:
        if name == "abs" and object.__getattribute__(self, "_mixed"):
            raise _refusal(self)  # abs(f(x) - 0.5) < 1e-6
        if name == "exit":
            args = (*args[:1], None, None)
        return _ask(self, name, *args)

    return method


def _compared(name: str) -> Callable[[Remote, object], bool]:
    def method(self: Remote, other: object) -> bool:
        if other is None and name == "eq":
            return False
        if type(other) is not Remote:
            raise _refusal(self)
        return _ask(self, name, other) is True

    return method


def _summed(name: str) -> Callable[[Remote, object], Any]:
    def method(self: Remote, other: object) -> Any:
        if type(other) is Remote:
            return _ask(self, name, other)
        if not object.__getattribute__(self, "_own"):
            raise _refusal(self)
        value = _ask(self, name, other)
        if type(value) is not Remote:
            raise _refusal(self)
        wire, at = (object.__getattribute__(value, x) for x in ("_wire", "_at"))
        return Remote(wire, at, own=True, mixed=True)

    return method


def _contains(self: Remote, other: object) -> bool:
    if type(other) is not Remote and not object.__getattribute__(self, "_own"):
        raise _refusal(self)
    return _ask(self, "contains", other) is True


for _table, _make in (
    (crossing.READING, _read),
    (crossing.COMPARISONS, _compared),
    (crossing.ARITHMETIC, _summed),
):
    for _name in _table:
        setattr(Remote, f"__{_name}__", _make(_name))
setattr(Remote, "__contains__", _contains)  # noqa: B010 - like the others above


class _Names(dict[str, Any]):
    """Global names of the test: its own and built-in ones; else what is asked of the candidate."""

    def __init__(self, wire: _Wire, asked: list[str], standard: list[str]) -> None:
        super().__init__()
        self.wire = wire
        self.asked = set(asked)
        self.standard = set(standard)

    def __missing__(self, name: str) -> Any:
        if name in self.standard:  # the test's own, imported or not: never the candidate's
            for module in ("typing", "collections"):
                if name in sys.modules[module].__all__:
                    self[name] = getattr(sys.modules[module], name)
                    return self[name]
            self[name] = __import__(name)
            return self[name]
        if name not in self.asked:
            raise KeyError(name)
        at = {"name": name}
        found = self.wire.ask("get", at)
        if type(found) is Remote:
            found = self[name] = Remote(self.wire, at)
        elif isinstance(found, type):
            self[name] = found
        return found


_IN_EXPRESSIONS = {"math"}
_NOT_IN_EXPRESSIONS = {
    "__import__", "breakpoint", "compile", "delattr", "eval", "exec", "exit", "getattr", "globals",
    "help", "input", "locals", "open", "quit", "setattr", "vars",
}  # fmt: skip


def _evaluating(wire: _Wire, names: _Names) -> Callable[..., Any]:
    """Return an ``eval`` for the tests: they give it what the candidate has answered."""

    def guarded(source: Any, space: Any = None, local: Any = None) -> Any:
        if type(source) is str and not _is_sum(source):
            raise wire.refuse("evaluates more than an expression")
        frame = sys._getframe(1)
        local = (frame.f_locals if space is None else space) if local is None else local
        return eval(source, names if space is None else space, local)

    return guarded


def _is_sum(source: str) -> bool:
    """Tell an expression that reaches no further than its own operators and plain names."""
    try:
        nodes = list(ast.walk(ast.parse(source.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True  # it raises by itself
    for node in nodes:
        if isinstance(node, ast.Name) and (
            node.id in _NOT_IN_EXPRESSIONS or node.id.startswith("_")
        ):
            return False
        if isinstance(node, ast.Attribute) and (
            getattr(node.value, "id", None) not in _IN_EXPRESSIONS or crossing.is_inner(node.attr)
        ):
            return False
    return True


def _in_place(wire: _Wire, function: Any, args: Any, kwargs: Any, *, given: bool) -> Any:
    """Call; a change of an argument is seen where the call stands alone in its line.

    Elsewhere arguments are copies: ``f(a) == sorted(a)`` is no question of what ``f`` leaves of a.
    Where a result is kept, and is a list, the arguments stay, too.
    """
    if type(function) is not Remote:
        return function(*args, **kwargs)
    before = [x.copy() if _can_change(x) else None for x in args]
    wire.watches = True
    try:
        value = function(*args, **kwargs)
    finally:
        wire.watches = False
    if given and type(value) not in (type(None), bool, int):
        for mine, old in zip(args, before, strict=True):
            if old is not None:
                _update(mine, old)
    return value


def run_tests(job: dict[str, Any]) -> None:
    """Run ``prefix`` and ``setup`` as far as they stand alone, then the tests.

    What they found is one line on standard error, which the candidate's box has no end of.
    """
    pytest_names.install()
    wire, tell = _Wire(crossing.read_lines()), crossing.sender(2)
    asked = list(job.get("asked") or ())
    names = _Names(wire, asked, list(job.get("standard") or ()))
    names["__builtins__"] = builtins
    names["__name__"] = "tests"
    names["eval"] = _evaluating(wire, names)
    names["_in_place_"] = lambda f, /, *a, **k: _in_place(wire, f, a, k, given=False)
    names["_given_"] = lambda f, /, *a, **k: _in_place(wire, f, a, k, given=True)
    import random

    random.seed(0)
    report = _report_of(job, wire, names, asked)
    if report.get("held") and wire.fault:
        report = {"failed": wire.fault}
    tell({"report": report})
    os._exit(0)


def _report_of(job: dict[str, Any], wire: _Wire, names: _Names, asked: list[str]) -> dict[str, Any]:
    try:
        _helpers(job, names)
        for name in asked:  # the candidate's function may bear a built-in name
            if hasattr(builtins, name):
                names[name] = Remote(wire, {"name": name})
        exec(compile(job["tests"], "tests.py", "exec"), names)
        if job.get("entry_point") and "check" in names:
            names["check"](Remote(wire, {"name": job["entry_point"]}))
    except SystemExit as left:  # of the test's own doing: the candidate's is another error here
        return {"failed": "wrong"} if left.code else {"held": True}
    except AssertionError:
        return {"failed": wire.fault or "wrong"}
    except NotPlain:
        return {"failed": "result_not_plain"}
    except BaseException as error:  # noqa: BLE001 - whatever the candidate led the test into
        return {"failed": wire.fault or "runtime_error", "text": type(error).__name__}
    return {"held": True}


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
