"""Answers calls of the candidate's functions: all of them at once, or in a conversation with tests.

From the moment the candidate's code starts, this process belongs to it: nothing in here knows an
expected value, and nothing it sends is more than plain data to be compared elsewhere.

Imports nothing of this project but the files of the box.
"""

from __future__ import annotations

import io
import json
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from factory.sandbox.inside import crossing, harness
from factory.sandbox.plain_data import NotPlain, decode, encode

_MOST_PRINTED = 1 << 20


def run_calls(job: dict[str, Any]) -> None:
    """Run the candidate's code, then answer one request per line of standard input."""
    loads, quit_now = json.loads, os._exit
    send, lines = crossing.sender(), crossing.read_lines()
    batch = [loads(line) for line in lines] if job["batch"] else None
    if batch is not None:
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
    space = harness.fresh_main(job, "solution")  # imported, not run: main guards stay closed

    def load() -> dict[str, Any]:
        if job.get("prelude"):
            harness.add_prelude(space, job)
        for part in ("prefix", "program", "setup"):
            if job.get(part):
                exec(compile(job[part], "main.py", "exec"), space)
        return {"ready": True}

    started = _guarded(load)
    send(started)
    if "ready" in started:
        if batch is not None:
            calls = Calls(space)
            for request in batch:
                send(_guarded(lambda: calls.answer(request)))  # noqa: B023 - called at once
        else:
            Conversation(space, send, lines).serve()
    quit_now(0)


def _guarded(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except NotPlain as error:
        return {"error": "NotPlain", "text": str(error)[:200]}
    except BaseException as error:  # noqa: BLE001 - whatever the candidate raises is its outcome
        name = type(error).__name__
        return {"error": name if type(name) is str else "?", "text": _text(error)}


def _text(error: BaseException) -> str:
    try:
        return str(error)[:200].encode(errors="replace").decode()
    except BaseException:  # noqa: BLE001 - a candidate's exception may fail to be shown
        return ""


def find_name(space: dict[str, Any], name: str) -> Any:
    """Return what the candidate has defined under a name, and nothing else.

    Raises:
        NameError: it has not; what Python or the tests call so is not the candidate's answer.
    """
    kind, dot, method = name.partition("().")
    if dot and kind in space:  # "Solution().f"
        return getattr(space[kind](), method)
    if name in space:
        return space[name]
    solution = space.get("Solution")  # the form that LeetCode asks for
    if isinstance(solution, type) and name in dir(solution) and not crossing.is_inner(name):
        return getattr(solution(), name)
    raise NameError(f"name {name!r} is not defined")


class Calls:
    """Answers calls by name with plain data."""

    def __init__(self, space: dict[str, Any]) -> None:
        self.space = space

    def find(self, data: dict[str, Any]) -> Any:
        """Return what a name stands for."""
        return find_name(self.space, str(data["name"]))

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the frame with the value of a call."""
        target = decode(request["on"], self.find)
        args = [decode(x, self.find) for x in request.get("args", ())]
        kwargs = {k: decode(v, self.find) for k, v in request.get("kwargs", {}).items()}
        if request.get("spread") and len(args) == 1 and not _accepts(target, 1):
            args = args[0] if _accepts(target, len(args[0])) else args
        return {"ok": encode(target(*args, **kwargs))}


def _accepts(function: Any, n: int) -> bool:
    """Tell whether a plain function or method takes ``n`` positional arguments."""
    code = getattr(function, "__code__", None)
    if code is None:
        return n == 1
    bound = 1 if getattr(function, "__self__", None) is not None else 0
    most = code.co_argcount - bound
    least = most - len(function.__defaults__ or ())
    return n >= least and (n <= most or bool(code.co_flags & 4))  # 4: takes *args


class Conversation(Calls):
    """Answers the tests' requests; objects stay here, the tests' own functions are called there."""

    def __init__(self, space: dict[str, Any], send: Callable[[Any], None], lines: Any) -> None:
        super().__init__(space)
        self.send, self.lines, self.loads = send, lines, json.loads
        self.lent = crossing.Lent()
        self.stubs: dict[int, Any] = {}  # by their number on the other side
        self.numbers: dict[int, int] = {}
        self.printed = io.BytesIO()
        sys.stdout = io.TextIOWrapper(self.printed, encoding="utf-8", write_through=True)
        sys.stdin = _Input(self)
        harness.also_as_originals()
        names = space["__builtins__"]
        names = names if type(names) is dict else vars(names)
        names["input"] = lambda prompt="": self.ask("input", None, prompt)

    def serve(self) -> None:
        """Answer until the tests are done."""
        for line in self.lines:
            self.reply(self.loads(line))

    def reply(self, request: dict[str, Any]) -> None:
        """Answer one request."""
        self.say(_guarded(lambda: self.answer(request)))

    def say(self, frame: dict[str, Any]) -> None:
        """Send a frame, with what was printed since the last one."""
        if self.printed.tell():
            text = self.printed.getvalue()[:_MOST_PRINTED].decode(errors="replace")
            frame["printed"] = text
            self.printed.seek(0)
            self.printed.truncate()
        self.send(frame)

    def ask(self, operation: str, at: Any, *args: Any, **kwargs: Any) -> Any:
        """Ask for something of the tests, answering what they ask meanwhile."""
        self.say({
            "op": operation, "on": at, "args": [encode(x, self.ref) for x in args],
            "kwargs": {k: encode(v, self.ref) for k, v in kwargs.items()},
        })  # fmt: skip
        for line in self.lines:
            frame = self.loads(line)
            if "op" in frame:
                self.reply(frame)
                continue
            if "error" in frame:
                kind = getattr(sys.modules["builtins"], frame["error"], RuntimeError)
                raise kind(frame.get("text", ""))
            return decode(frame["ok"], self.find)
        os._exit(1)

    def ref(self, value: Any) -> Any:
        """Lend out what is no plain data."""
        if (number := self.numbers.get(id(value))) is not None:
            return {"back": [number, None, None]}
        if isinstance(value, type) and issubclass(value, BaseException):
            base = next(x.__name__ for x in value.__mro__ if x.__module__ == "builtins")
            return {"exc": [value.__name__, base]}
        if type(value) is types.CoroutineType:
            return {"coro": self.lent.number(value)}
        return {"ref": self.lent.number(value)}

    def find(self, data: dict[str, Any]) -> Any:
        """Return what a reference stands for."""
        ((tag, body),) = data.items()
        if tag == "ref":
            return self.lent[body]
        if tag == "name":
            return find_name(self.space, str(body))
        if tag == "std":
            module, _, name = body.rpartition(".")
            return getattr(__import__(module), name)
        if tag == "coro":
            return self._awaited(body)
        number, name, params = body
        if number not in self.stubs:
            self.stubs[number] = self._stub(number, name, params)
            self.numbers[id(self.stubs[number])] = number
        return self.stubs[number]

    async def _awaited(self, number: int) -> Any:
        return self.ask("await", {"back": [number, None, None]})

    def _stub(self, number: int, name: str | None, params: str | None) -> Any:
        """Return what stands for a thing of the tests: a function with its own parameters."""
        at = {"back": [number, None, None]}
        if params is None:
            stub: Any = object.__new__(Back)
            object.__setattr__(stub, "_of_the_tests_", number)
            object.__setattr__(stub, "_held_by_", self)
            return stub
        default = object()

        def call(names: dict[str, Any], rest: tuple[Any, ...], more: dict[str, Any]) -> Any:
            given = {k: v for k, v in names.items() if v is not default}
            args = [given.pop(n) for n in positional if n in given]
            return self.ask("call", at, *args, *rest, **given, **more)

        parts = [part.partition("=")[0] for part in params.split(", ") if part]
        plain = [part for part in parts if not part.startswith("*")]
        before = parts[: next((i for i, p in enumerate(parts) if p[0] == "*"), len(parts))]
        positional = [part for part in before if part in plain]
        rest = next((p[1:] for p in parts if p[0] == "*" and p[1:2] not in ("", "*")), "()")
        more = next((p[2:] for p in parts if p.startswith("**")), "{}")
        names = "{" + ", ".join(f"{n!r}: {n}" for n in plain) + "}"
        space = {"_d_": default, "_call_": call}
        exec(f"def _f_({params}):\n    return _call_({names}, {rest}, {more})", space)
        stub = space["_f_"]
        stub.__name__ = stub.__qualname__ = str(name)
        return stub

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the frame with the value of an operation."""
        operation = request["op"]
        target = decode(request["on"], self.find)
        args = [decode(x, self.find) for x in request.get("args", ())]
        before = [json.dumps(x) for x in request["args"]] if request.get("watch") else []
        if operation == "get":
            value = target
        elif operation == "call":
            kwargs = {k: decode(v, self.find) for k, v in request.get("kwargs", {}).items()}
            value = target(*args, **kwargs)
        elif operation == "attr":
            value = getattr(target, args[0])
        elif operation == "set":
            setattr(target, args[0], args[1])
            value = None
        elif operation == "await":
            value = crossing.run_coroutine(target)
        else:
            value = crossing.OPERATIONS[operation](target, *args)
        out = {"ok": encode(value, self.ref)}
        if before:
            out["args"] = [
                after if json.dumps(after) != old else None
                for after, old in zip([encode(x, self.ref) for x in args], before, strict=True)
            ]  # fmt: skip
        return out


class Back:
    """Stands for an object of the tests that is no function."""

    _of_the_tests_: int
    _held_by_: Conversation

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it where it is."""
        return _ask_of(self, "call", *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return _ask_of(self, "attr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask_of(self, "set", name, value)

    __hash__ = object.__hash__


def _ask_of(stub: Back, operation: str, *args: Any, **kwargs: Any) -> Any:
    number = object.__getattribute__(stub, "_of_the_tests_")
    held: Conversation = object.__getattribute__(stub, "_held_by_")
    return held.ask(operation, {"back": [number, None, None]}, *args, **kwargs)


def _forward(name: str) -> None:
    setattr(Back, f"__{name}__", lambda self, *args: _ask_of(self, name, *args))


for _name in crossing.OPERATIONS:
    if _name != "isinstance":
        _forward(_name)


class _Input(io.TextIOBase):
    """Standard input as the tests have set it up."""

    def __init__(self, held: Conversation) -> None:
        self._held = held

    def readline(self, size: int = -1) -> str:  # type: ignore[override]
        del size
        return str(self._held.ask("readline", None))

    def read(self, size: int | None = -1) -> str:
        del size
        return str(self._held.ask("read", None))

    def readable(self) -> bool:
        return True
