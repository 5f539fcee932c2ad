"""What runs a sample inside the box: a whole program, or a compiler.

Trusted only until the candidate's code starts: from then on this process belongs to the candidate.
Nothing in here knows an expected output, and nothing it writes is believed to be a verdict.

Imports nothing of this project but the files of the box.
"""

from __future__ import annotations

import builtins
import collections
import io
import os
import re
import sys
import types
import typing
from typing import Any

# Tests of functions are written for graders that have these names at hand (LeetCode, the import
# helpers of MBPP and HumanEval runners), so answers to such tasks leave the imports out.
PRELUDE = (
    "bisect", "collections", "copy", "datetime", "functools", "hashlib", "heapq", "itertools",
    "math", "operator", "random", "re", "statistics", "string", "sys",
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z_]\w*")
EXIT_MEMORY = 86  # a hint for the reason only; the candidate could send it too


class Void(io.RawIOBase):
    """Swallows what a candidate prints while its functions are called."""

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, data: Any) -> int:
        """Take all of it."""
        return len(data)


# Made once, before the forks: a page that a sample is the first to write to is copied for it,
# and these touch a hundred.
_VOID: Any = Void()
_NO_INPUT = io.TextIOWrapper(io.BytesIO())
_NO_OUTPUT = io.TextIOWrapper(_VOID, write_through=True)
_own_builtins: dict[str, Any] = {}
_PRELUDE_OF = {name: module for module in (typing, collections) for name in module.__all__}


def fresh_main(job: dict[str, Any], name: str = "__main__") -> dict[str, Any]:
    """Return the names of a new main module."""
    module = types.ModuleType(name)
    module.__builtins__ = builtins  # type: ignore[attr-defined]  # as in a real __main__
    sys.modules["__main__"] = sys.modules[name] = module
    if any("random" in str(job.get(part)) for part in ("program", "prefix", "setup", "tests")):
        import random

        random.seed(0)  # one answer, one verdict
    return module.__dict__


def load_libraries(names: list[str], paths: list[str]) -> None:
    """Load what programs of this box may import, before any of them runs; one thread, one seed."""
    sys.path += paths
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = "1"
    for name in names:
        module = __import__(name)
        if name == "numpy":
            module.random.seed(0)  # one answer, one verdict


def clear_before_forks() -> None:
    """Leave nothing of ours to be found by name; done once, for every sample to come."""
    sys.argv = ["main.py"]
    for name in [n for n in sys.modules if n == "factory" or n.startswith("factory.")]:
        del sys.modules[name]
    os.environ.clear()
    for name in ("exit", "quit"):  # put there by site, which the box does not load
        setattr(builtins, name, sys.exit)
    sys.stdin, sys.stdout, sys.stderr = _NO_INPUT, _NO_OUTPUT, _NO_OUTPUT
    also_as_originals()
    _own_builtins.update(vars(builtins))


def also_as_originals() -> None:
    """Let ``sys.__stdout__`` and its like be what ``sys.stdout`` is now."""
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))


def add_prelude(space: dict[str, Any], job: dict[str, Any]) -> None:
    """Let the candidate's code find the usual names as it finds built-in ones.

    They are no definitions of its own: a test that asks for ``Counter`` is not answered by them.
    """
    own = space["__builtins__"] = _own_builtins  # of this process: it runs one sample
    text = "\n".join(job.get(part) or "" for part in ("program", "prefix", "setup"))
    words = set(_WORD.findall(text))
    for name in words.intersection(PRELUDE):
        own[name] = sys.modules.get(name) or __import__(name)
    for name in words.intersection(_PRELUDE_OF):
        own[name] = getattr(_PRELUDE_OF[name], name)


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
    also_as_originals()
    source = job["program"]
    if "/dev/stdin" in source and job.get("scratch"):
        with open(0, "rb", closefd=False) as given, open("/tmp/.stdin", "wb") as copy:  # noqa: PTH123
            copy.write(given.read())
        os.lseek(0, 0, 0)
    space = fresh_main(job)
    try:
        exec(compile(source, "main.py", "exec"), space)
        code = 0
    except BaseException as error:  # noqa: BLE001 - whatever the candidate raises is its outcome
        code = _report(error)
    _end(code)


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
