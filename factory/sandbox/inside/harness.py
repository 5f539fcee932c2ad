"""What runs a sample inside the box: a whole program, calls of its functions, or a compiler.

Trusted only until the candidate's code starts: from then on this process belongs to the candidate.
Nothing in here knows an expected output, and nothing it writes is believed to be a verdict.

Imports nothing of this project but the files of the box.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from factory.sandbox.inside import pytest_names
from factory.sandbox.plain_data import NotPlain, canonical, decode, encode

# Tests of functions are written for graders that have these names at hand (LeetCode, the import
# helpers of MBPP and HumanEval runners), so answers to such tasks leave the imports out.
PRELUDE = (
    "bisect", "collections", "copy", "datetime", "functools", "hashlib", "heapq", "itertools",
    "math", "operator", "random", "re", "statistics", "string", "sys",
)  # fmt: skip
EXIT_MEMORY = 86  # a hint for the reason only; the candidate could send it too
MAX_LINE = 16 << 20


class _Void(io.RawIOBase):
    """Swallows what a candidate prints while its functions are called."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


def _fresh_main(job: dict[str, Any], name: str = "__main__") -> dict[str, Any]:
    module = types.ModuleType(name)
    module.__builtins__ = builtins  # type: ignore[attr-defined]  # as in a real __main__
    sys.modules["__main__"] = sys.modules[name] = module
    if any("random" in str(job.get(part)) for part in ("program", "prefix", "setup", "tests")):
        import random

        random.seed(0)  # one answer, one verdict
    return module.__dict__


def clear_before_forks() -> None:
    """Leave nothing of ours to be found by name; done once, for every sample to come."""
    sys.argv = ["main.py"]
    for name in [n for n in sys.modules if n == "factory" or n.startswith("factory.")]:
        del sys.modules[name]
    os.environ.clear()
    for name in ("exit", "quit"):  # put there by site, which the box does not load
        setattr(builtins, name, sys.exit)
    _also_as_originals()


def _also_as_originals() -> None:
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))


def _prelude(space: dict[str, Any], job: dict[str, Any]) -> None:
    text = "\n".join(job.get(part) or "" for part in ("program", "prefix", "setup"))
    for name in PRELUDE:
        if name in text:
            space[name] = sys.modules.get(name) or __import__(name)
    for name in ("typing", "collections"):
        module = sys.modules[name]
        space.update((x, getattr(module, x)) for x in module.__all__ if x in text)


def _end(code: int) -> None:
    """Leave as a program does: join threads, run exit functions, flush; then for certain."""
    import atexit

    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - the candidate's own exit functions may raise anything
        code = code or 1
    os._exit(code)


def _report(error: BaseException) -> int:
    """Write the traceback; return the exit status that says what happened."""
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF
        os.write(2, str(error.code)[:2000].encode(errors="replace"))
        return 1
    if isinstance(error, MemoryError):
        return EXIT_MEMORY
    try:
        import traceback

        text = "".join(traceback.format_exception(error, limit=20))
    except BaseException:  # noqa: BLE001 - a candidate's exception may fail to be shown
        text = type(error).__name__
    os.write(2, text[-4000:].encode(errors="replace"))
    return 1


def run_program(job: dict[str, Any]) -> None:
    """Run a program from standard input to standard output."""
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    _also_as_originals()
    source = job["program"]
    if "/dev/stdin" in source and job.get("scratch"):
        with open(0, "rb", closefd=False) as given, open("/tmp/.stdin", "wb") as copy:  # noqa: PTH123
            copy.write(given.read())
        os.lseek(0, 0, 0)
    space = _fresh_main(job)
    try:
        exec(compile(source, "main.py", "exec"), space)
        code = 0
    except BaseException as error:  # noqa: BLE001 - whatever the candidate raises is its outcome
        code = _report(error)
    _end(code)


class _Calls:
    """Answers calls by name; a value that is no plain data is lent out by number."""

    def __init__(self, space: dict[str, Any], *, lend: bool) -> None:
        self.space = space
        self.lent: list[Any] = []
        self.lend = lend

    def ref(self, value: Any) -> Any:
        if not self.lend:
            raise NotPlain(type(value).__name__)
        self.lent.append(value)
        return {"ref": len(self.lent) - 1}

    def find(self, data: dict[str, Any]) -> Any:
        if "ref" in data:
            return self.lent[data["ref"]]
        name = str(data["name"])
        kind, dot, method = name.partition("().")
        if dot:  # "Solution().f"
            return getattr(self.space[kind](), method)
        if name in self.space:
            return self.space[name]
        solution = self.space.get("Solution")  # the form that LeetCode asks for
        if isinstance(solution, type) and hasattr(solution, name):
            return getattr(solution(), name)
        return getattr(builtins, name)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = request["op"]
        target = decode(request["on"], self.find)
        if operation == "get":
            return {"ok": encode(target, self.ref)}
        args = [decode(x, self.find) for x in request.get("args", ())]
        kwargs = {k: decode(v, self.find) for k, v in request.get("kwargs", {}).items()}
        if request.get("spread") and len(args) == 1 and not _accepts(target, 1):
            args = args[0] if _accepts(target, len(args[0])) else args
        before = [json.dumps(x) for x in request.get("args", ())] if request.get("watch") else []
        if operation == "call":
            value = target(*args, **kwargs)
        elif operation == "attr":
            value = getattr(target, args[0])
        elif operation == "set":
            setattr(target, args[0], args[1])
            value = None
        else:
            value = getattr(type(target), operation)(target, *args)
        out = {"ok": encode(value, self.ref)}
        if before:
            out["args"] = [
                after if json.dumps(after) != old else None
                for after, old in zip([encode(x, self.ref) for x in args], before, strict=True)
            ]  # fmt: skip
        return out


def _accepts(function: Any, n: int) -> bool:
    """Tell whether a plain function or method takes ``n`` positional arguments."""
    code = getattr(function, "__code__", None)
    if code is None:
        return n == 1
    bound = 1 if getattr(function, "__self__", None) is not None else 0
    most = code.co_argcount - bound
    least = most - len(function.__defaults__ or ())
    return n >= least and (n <= most or bool(code.co_flags & 4))  # 4: takes *args


def run_calls(job: dict[str, Any]) -> None:
    """Run the candidate's code, then answer one request per line of standard input."""
    read, write, dumps, loads = os.read, os.write, json.dumps, json.loads
    lines = _lines(read)
    batch = [loads(line) for line in lines] if job["batch"] else None
    if batch is not None:
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
    out, quit_now = _Void(), os._exit
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    sys.stdout = sys.stderr = io.TextIOWrapper(out, write_through=True)
    _also_as_originals()
    space = _fresh_main(job, "solution")  # imported, not run: main guards stay closed

    def send(frame: dict[str, Any]) -> None:
        data = dumps(frame, separators=(",", ":")).encode() + b"\n"
        while data:
            data = data[write(1, data) :]

    def guarded(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return work()
        except NotPlain as error:
            return {"error": "NotPlain", "text": str(error)[:200]}
        except BaseException as error:  # noqa: BLE001 - whatever the candidate raises is its outcome
            name = type(error).__name__
            return {"error": name if type(name) is str else "?", "text": _text(error)}

    def load() -> dict[str, Any]:
        if job.get("prelude"):
            _prelude(space, job)
        for part in ("prefix", "program", "setup"):
            if job.get(part):
                exec(compile(job[part], "main.py", "exec"), space)
        return {"ready": True}

    calls = _Calls(space, lend=not job["batch"])
    started = guarded(load)
    send(started)
    if "ready" in started:
        for request in batch if batch is not None else map(loads, lines):
            send(guarded(lambda: calls.answer(request)))  # noqa: B023 - called at once
    quit_now(0)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:200].encode(errors="replace").decode()
    except BaseException:  # noqa: BLE001 - a candidate's exception may fail to be shown
        return ""


def _lines(read: Callable[[int, int], bytes]) -> Any:
    held = b""
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


def run_inside(job: dict[str, Any]) -> None:
    """Run tests beside the candidate, where their shape allows nothing else.

    The tests and a one-time word are read only after the candidate's module has been loaded; the
    word is written back only when the last assertion has held. A candidate that rewrites this
    process can forge it, so verdicts of this kind are marked.
    """
    write, quit_now, run, make, loads = os.write, os._exit, exec, compile, json.loads
    lines = _lines(os.read)
    pytest_names.install()
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    sys.stdout = sys.stderr = io.TextIOWrapper(_Void(), write_through=True)
    space = _fresh_main(job, "solution")  # imported, not run: main guards stay closed
    space["_plain_equal_"] = _strict_equal()
    strict = space["_plain_equal_"]
    if job.get("prelude"):
        _prelude(space, job)
    try:
        for part in ("prefix", "program", "setup"):
            if job.get(part):
                run(make(job[part], "main.py", "exec"), space)
        write(1, b"ready\n")
        held = loads(next(lines))
        space["_plain_equal_"] = strict
        run(make(held["tests"], "tests.py", "exec"), space)
        if held.get("entry_point"):
            space["check"](_Calls(space, lend=False).find({"name": held["entry_point"]}))
        word = held["word"]
    except BaseException as error:  # noqa: BLE001 - whatever is raised is the outcome
        write(1, f"no {type(error).__name__}\n".encode(errors="replace"))
        quit_now(1)
    write(1, f"yes {word}\n".encode())
    quit_now(0)


def _strict_equal() -> Callable[[Any, Any], bool]:
    def equal(left: Any, right: Any) -> bool:
        """Equality on plain data only; other objects by their own, when of one type."""
        try:
            return canonical(encode(left)) == canonical(encode(right))
        except NotPlain:
            return type(left) is type(right) and bool(left == right)

    return equal


def run_command(job: dict[str, Any]) -> None:
    """Compile in the scratch folder and write the result to standard output."""
    import subprocess

    source = job["source_name"]
    with open(source, "w", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        file.write(job["program"])
    env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}
    try:
        done = subprocess.run(
            job["command"], stdin=subprocess.DEVNULL, stdout=2, stderr=2, env=env, check=False
        )
    except OSError as error:
        os.write(2, str(error).encode())
        os._exit(87)
    if done.returncode:
        os._exit(1)
    with open(job["result"], "rb") as made:  # noqa: PTH123
        while block := made.read(1 << 20):
            os.write(1, block)
    os._exit(0)


def run_binary(descriptor: int) -> None:
    """Become the compiled program that the descriptor holds."""
    os.set_inheritable(descriptor, False)
    os.execve(descriptor, ["main"], {})
