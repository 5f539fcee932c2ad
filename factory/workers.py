"""The pool: worker processes whose clock the parent owns.

A verdict may hang inside sympy or a candidate's program, off the main thread, or eat all memory.
No signal and no polite request stops that; killing the process does. Each worker is an ordinary
child process (``python -m factory.workers``) that speaks length-prefixed JSON over its pipes, so
the pool works from any thread, from asyncio, and inside spawned or daemonic processes.

Rules. The deadline of an item counts from its own start, without the time in which its worker was
ready to run and waited for a core: a loaded machine changes no outcome. When it passes, the worker
is killed and replaced, and the rest of its batch goes on elsewhere. An item whose worker spent the
time on the CPU has used up its limit; otherwise, or if the worker died, the item is tried once more
alone before anything is said of it.

What is covered: hangs, crashes, memory (RLIMIT_AS per worker). What is not: hostile code; that
runs only inside ``factory.sandbox``.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from factory.errors import FactoryError
from factory.processes import Clock, below, cpu_s

_LENGTH = struct.Struct("<I")
START_DEADLINE_S = 120.0
CHUNK = 16

Fate = Literal["done", "timeout", "memory", "crashed", "error", "dead_worker"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item.

    Attributes:
        fate: ``done``; ``timeout`` and ``memory``: the item used up its limit; ``crashed``: it
            killed two workers; ``error``: the function raised (a bug); ``dead_worker``: no worker
            could be had.
        value: the function's JSON result where done, else None.
        detail: text of the error.
        seconds: wall seconds of the last try.
    """

    fate: Fate
    value: Any = None
    detail: str | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class _Job:
    target: str
    payload: Any
    options: Mapping[str, Any]
    deadline_s: float
    outcome: Outcome | None = None
    tries: int = 0
    done: threading.Semaphore | None = None


class Pool:
    """A fixed number of worker processes, started on first use, restarted when killed.

    Args:
        n_workers: processes.
        memory_bytes: address space of each worker (RLIMIT_AS); 0 leaves it unlimited.

    >>> with Pool(n_workers=1) as pool:
    ...     pool.map("factory.workers:echo", [1, {"a": 2}])[1].value
    {'a': 2}
    """

    def __init__(self, *, n_workers: int, memory_bytes: int = 2 << 30) -> None:
        if n_workers < 1:
            raise ValueError("n_workers must be at least 1")
        self.n_workers = n_workers
        self._memory_bytes = memory_bytes
        self._chunks: queue.Queue[list[_Job] | None] = queue.Queue()
        self._threads: list[threading.Thread] = []
        self._workers: set[_Worker] = set()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False
        atexit.register(self.close)

    def map(
        self,
        target: str,
        payloads: Sequence[Any],
        *,
        options: Mapping[str, Any] | None = None,
        deadline_s: float = 10.0,
    ) -> list[Outcome]:
        """Run ``target(payload, **options)`` for every payload, in workers; wait for all.

        Args:
            target: ``module:function`` or ``path/to/file.py:function``; JSON in, JSON out.
            payloads: JSON-ready values.
            options: keyword arguments, the same for all.
            deadline_s: wall seconds of one item, without those in which it waited for a core.

        Returns:
            One outcome per payload, in their order.
        """
        self._start()
        done = threading.Semaphore(0)
        jobs = [_Job(target, p, options or {}, deadline_s, done=done) for p in payloads]
        size = max(1, min(CHUNK, len(jobs) // (2 * self.n_workers)))
        for start in range(0, len(jobs), size):
            self._chunks.put(jobs[start : start + size])
        for _ in jobs:
            done.acquire()
        return [job.outcome or Outcome("dead_worker") for job in jobs]

    def close(self) -> None:
        """Kill the workers. A pool inherited by a fork is left to its owner."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        for _ in self._threads:
            self._chunks.put(None)
        for worker in list(self._workers):
            worker.kill()
        atexit.unregister(self.close)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _start(self) -> None:
        with self._lock:
            if os.getpid() != self._pid:  # after a fork the threads and pipes belong to the parent
                self.__init__(n_workers=self.n_workers, memory_bytes=self._memory_bytes)  # type: ignore[misc]
            if self._closed:
                raise RuntimeError("the pool is closed")
            while len(self._threads) < self.n_workers:
                thread = threading.Thread(target=self._serve, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self) -> None:
        """One thread per worker: hand it a chunk, watch its clock, replace it when it dies."""
        worker: _Worker | None = None
        while (chunk := self._chunks.get()) is not None:
            for position, job in enumerate(chunk):
                try:
                    if worker is None or not worker.alive():
                        worker = _Worker(self._memory_bytes)
                        self._workers.add(worker)
                    outcome = worker.run(job)
                except FactoryError as error:
                    outcome = Outcome("dead_worker", detail=str(error))
                except OSError as error:
                    outcome = Outcome("dead_worker", detail=f"{type(error).__name__}: {error}")
                if outcome.fate in ("timeout", "crashed", "dead_worker") and worker is not None:
                    worker.kill()
                    self._workers.discard(worker)
                    worker = None
                    # The neighbours must not wait behind a second try.
                    rest = chunk[position + 1 :]
                    if rest:
                        self._chunks.put(rest)
                    self._settle(job, outcome)
                    break
                self._settle(job, outcome)

    def _settle(self, job: _Job, outcome: Outcome) -> None:
        job.tries += 1
        spent_cpu = outcome.fate == "timeout" and outcome.detail == "cpu"
        if (
            outcome.fate in ("timeout", "crashed", "dead_worker")
            and not spent_cpu
            and job.tries < 2
        ):
            self._chunks.put([job])
            return
        job.outcome = outcome
        assert job.done is not None
        job.done.release()


class _Worker:
    """One child process and the parent's end of its pipes."""

    def __init__(self, memory_bytes: int) -> None:
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join([root, *([p] if (p := os.environ.get("PYTHONPATH")) else [])])
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "factory.workers", str(memory_bytes), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            start_new_session=True,  # Ctrl-C is for the parent, which drains and closes us
        )
        self._ready = False

    def alive(self) -> bool:
        """Tell whether the process still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill and reap it."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def run(self, job: _Job) -> Outcome:
        """Run one job; the deadline counts from the moment the worker has it."""
        if not self._ready:
            if self._receive(Clock(START_DEADLINE_S, self._pids)) is None:
                return Outcome("dead_worker", detail="the worker did not start")
            self._ready = True
        message = orjson.dumps([job.target, job.payload, dict(job.options)])
        pid = self._process.pid
        cpu_before = cpu_s(pid)
        clock = Clock(job.deadline_s, self._pids)
        if not self._send(message, time.monotonic() + job.deadline_s + 5):
            return Outcome("crashed", detail="the worker closed its pipe")
        reply = self._receive(clock)
        seconds = time.monotonic() - clock.begun
        if reply is None:
            if not self.alive():
                return Outcome(
                    "crashed", detail=f"exit {self._process.returncode}", seconds=seconds
                )
            # with the CPU time of reaped children: a compiler or a program in the sandbox
            busy = cpu_s(pid) - cpu_before > 0.7 * job.deadline_s
            return Outcome("timeout", detail="cpu" if busy else "wall", seconds=seconds)
        fate, value = reply
        detail = None if fate == "done" else str(value)
        return Outcome(fate, value if fate == "done" else None, detail, seconds)

    def _pids(self) -> list[int]:
        return [self._process.pid, *below(self._process.pid)]

    def _send(self, message: bytes, deadline: float) -> bool:
        assert self._process.stdin is not None
        fd = self._process.stdin.fileno()
        os.set_blocking(fd, False)
        view = memoryview(_LENGTH.pack(len(message)) + message)
        while view:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [fd], [], left)[1]:
                return False
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                continue
            except OSError:
                return False
        return True

    def _receive(self, clock: Clock) -> Any:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        data = bytearray()
        need = _LENGTH.size
        while len(data) < need:
            if not _readable(fd, max(0.0, clock.left())):
                if clock.left() > 0:
                    continue
                return None
            block = os.read(fd, min(1 << 20, need - len(data)))
            if not block:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(1.0)
                return None
            data += block
            if len(data) == _LENGTH.size:
                need = _LENGTH.size + _LENGTH.unpack(data)[0]
        try:
            return orjson.loads(data[_LENGTH.size :])
        except orjson.JSONDecodeError:
            return None


def _readable(fd: int, timeout_s: float) -> bool:
    poller = select.poll()  # select() cannot watch descriptors above 1023
    poller.register(fd, select.POLLIN | select.POLLHUP)
    return bool(poller.poll(timeout_s * 1000))


def echo(payload: Any, **options: Any) -> Any:
    """Return the payload: for tests and for measuring the pool itself."""
    del options
    return payload


# ---- the worker's side


def _worker_main(memory_bytes: int, parent: int) -> None:
    import ctypes
    import resource
    import signal

    # Die with the parent, even when it was killed with -9.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # The reply pipe is ours alone: what a library prints must not mix into it.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    _reply(replies, ["ready", None])
    while len(head := requests.read(_LENGTH.size)) == _LENGTH.size:
        body = requests.read(_LENGTH.unpack(head)[0])
        target, payload, options = orjson.loads(body)
        _reply(replies, _run(target, payload, options))


def _run(target: str, payload: Any, options: dict[str, Any]) -> list[Any]:
    try:
        return ["done", resolve(target)(payload, **options)]
    except MemoryError:
        return ["memory", "over the memory limit"]
    except RecursionError:
        return ["memory", "recursion too deep"]
    except Exception as error:  # noqa: BLE001
        # Whatever escapes a plug-in is reported with its name; the worker goes on.
        return ["error", f"{type(error).__name__}: {error}"[:500]]


def _reply(pipe: Any, message: list[Any]) -> None:
    try:
        data = orjson.dumps(message)
    except TypeError:
        data = orjson.dumps(["error", "the result is not JSON"])
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def resolve(target: str) -> Any:
    """Return the function that ``module:function`` or ``file.py:function`` names."""
    import importlib

    module, _, function = target.rpartition(":")
    if module.endswith(".py"):
        from factory.plugins import load_file

        return getattr(load_file(Path(module)), function)
    return getattr(importlib.import_module(module), function)


if __name__ == "__main__":
    _worker_main(int(sys.argv[1]), int(sys.argv[2]))
