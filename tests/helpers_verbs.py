"""A process that runs verbs of the command line in forks of itself, to be killed at any moment.

Everything is imported once, so that a start costs milliseconds and many kills are affordable. At
the fork no library has done anything yet; its thread pools start in the child.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).parent.parent)


def _import_all() -> None:
    import importlib

    for name in (
        "catalogs.show", "catalogs.query", "factory.cli.store", "factory.cli.query",
        "factory.stages.verify", "factory.stages.score", "factory.stages.select",
        "factory.stages.release", "factory.stages.export", "factory.stages.forget",
        "factory.stages.importing", "factory.stages.generate", "factory.stages.release_repair",
        "factory.sources.files", "factory.sources.hub", "tests.helpers_run",
        "factory.verifiers.math",
    ):  # fmt: skip
        importlib.import_module(name)


def _generate(store: str, seed: int) -> int:
    """Generate a few samples of a few prompts with recorded answers."""
    from factory.stages.generate import generate
    from factory.stages.generate.policy import Policy
    from factory.store import Store
    from tests.helpers_run import SAMPLING, problems, replay

    pairs = problems(seed + 4)[seed:]
    policy = Policy(kind="fixed", n=2)
    made = generate(Store(store), pairs, replay(seed + 4, 2), sampling=SAMPLING, policy=policy,
                    verify=False)  # fmt: skip
    return 0 if made.missing == 0 else 1


def _run(words: list[str]) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        if words[0] == "generate":
            status = _generate(words[1], int(words[2]))
        else:
            from factory.cli.main import main

            status = main(words)
    return status, said.getvalue()


def serve() -> None:
    """Read jobs from standard input, one a line: the words of a verb and when it is killed."""
    _import_all()
    for line in sys.stdin:
        job = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            try:
                answer: Any = _run(job["words"])
            except BaseException:  # noqa: BLE001 - the child must not run its parent's loop
                answer = (-1, traceback.format_exc())
            with contextlib.suppress(OSError):
                os.write(write, json.dumps(answer).encode()[-60_000:])
            os._exit(0)
        os.close(write)
        killed = False
        wait_s = job["kill_after_s"]
        if wait_s is not None and not select.select([read], [], [], wait_s)[0]:
            os.kill(pid, signal.SIGKILL)
            killed = True
        with os.fdopen(read) as pipe:
            said = "" if killed else pipe.read()
        os.waitpid(pid, 0)
        print(json.dumps({"killed": killed, "answer": json.loads(said or "null")}), flush=True)


class Verbs:
    """Runs verbs one after the other, some of them killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers_verbs"], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env={**os.environ, "POLARS_MAX_THREADS": "1"},
        )  # fmt: skip

    def run(self, *words: str, kill_after_s: float | None = None) -> tuple[int, str] | None:
        """Run a verb; return its status and what it said, None where it was killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"words": words, "kill_after_s": kill_after_s}) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        return None if found["killed"] else (found["answer"][0], found["answer"][1])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


if __name__ == "__main__":
    serve()
