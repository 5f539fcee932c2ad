"""A box that runs model-written code, one confined process per sample.

The box is started once per worker process and kept; each sample is a fork of its first process,
which has read nothing of any sample. What a sample can do is decided before it starts; what comes
back is bytes and how the process ended, never a verdict.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from factory.sandbox.inside.harness import EXIT_MEMORY
from factory.sandbox.tiers import Launched, Tier, TierError, launch

_LOOK_S = 0.2
Ended = Literal["exited", "time_limit", "memory_limit", "output_limit", "stopped"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one sample may use.

    Attributes:
        cpu_s: CPU seconds of one process.
        wall_s: seconds from its start.
        memory_bytes: address space of one process, and what all of them hold together.
        output_bytes: bytes on standard output, and on standard error.
        processes: processes and threads at a time (where the tier can count them).
        scratch_bytes: size of /tmp (bwrap only; the other tiers have no writable directory).
    """

    cpu_s: int = 6
    wall_s: float = 12.0
    memory_bytes: int = 1 << 30
    output_bytes: int = 8 << 20
    processes: int = 64
    scratch_bytes: int = 64 << 20

    def to_dict(self) -> dict[str, Any]:
        """Return the form that the box reads."""
        out = dataclasses.asdict(self)
        out["file_bytes"] = max(self.output_bytes, self.scratch_bytes // 4)
        return out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a sample ended and what it wrote."""

    ended: Ended
    code: int
    cpu_s: float
    wall_s: float
    stdout: bytes = b""
    stderr: bytes = b""


class BoxError(Exception):
    """The box itself failed (ours, never the candidate's doing)."""


class Box:
    """One started box. Not for two threads at a time; ``borrow`` lends them out.

    Args:
        tier: how it is confined.
        compilers: let it see the system's compilers.

    Attributes:
        launched: its first process outside and the control socket.
        last: outcome of the last talk.
    """

    def __init__(self, tier: Tier, *, compilers: bool = False) -> None:
        self.tier = tier
        self.compilers = compilers
        self.pid = os.getpid()
        self.launched: Launched = launch(tier, compilers=compilers)
        self.n_runs = 0
        self.last: Outcome

    def close(self) -> None:
        """End the box and everything in it."""
        self.launched.close()

    def run(
        self,
        mode: str,
        sample: dict[str, Any],
        *,
        stdin: bytes = b"",
        limits: Limits | None = None,
        program: bytes | None = None,
    ) -> Outcome:
        """Run one sample to its end and return what it wrote.

        Args:
            mode: ``program``, ``calls``, ``inside``, ``command``, or ``binary``.
            sample: what the harness of that mode reads.
            stdin: bytes on its standard input.
            limits: what it may use.
            program: the executable, for ``binary``.

        Raises:
            BoxError: the box died or could not confine the sample.
        """
        limits = limits or Limits()
        with contextlib.ExitStack() as stack:
            files = [_memory_file(stack, name) for name in ("sample", "in", "out", "err")]
            _fill(files[0], json.dumps(sample).encode() if program is None else program)
            _fill(files[1], stdin)
            self._send(mode, limits, files)
            answer = self._answer(limits)
            return _outcome(answer, limits, _content(files[2], limits), _content(files[3], limits))

    @contextlib.contextmanager
    def talk(self, mode: str, sample: dict[str, Any], limits: Limits) -> Iterator[tuple[int, int]]:
        """Start a sample and give the descriptors to write to it and to read from it.

        Leaving the block stops it; the outcome then stands in ``self.last``.
        """
        with contextlib.ExitStack() as stack:
            file = _memory_file(stack, "sample")
            errors = _memory_file(stack, "err")
            _fill(file, json.dumps(sample).encode())
            their_in, our_out = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, our_out)
            our_in, their_out = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, our_in)
            try:
                self._send(mode, limits, [file, their_in, their_out, errors])
            finally:
                os.close(their_in)
                os.close(their_out)
            try:
                yield our_out, our_in
            finally:
                with contextlib.suppress(OSError):
                    self.launched.control.send(b"stop")
                answer = self._answer(limits)
                self.last = _outcome(answer, limits, b"", _content(errors, limits))

    def _send(self, mode: str, limits: Limits, files: list[int]) -> None:
        job = json.dumps({"mode": mode, "limits": limits.to_dict()}).encode()
        self.n_runs += 1
        try:
            socket.send_fds(self.launched.control, [job], files)
        except OSError as error:
            raise BoxError(f"the box is gone: {error}") from None

    def _answer(self, limits: Limits) -> dict[str, Any]:
        """Wait for the end of the sample; the box's own clock ends it, ours ends the box."""
        control = self.launched.control
        deadline = time.monotonic() + limits.wall_s + 10
        too_much = False
        while not select.select([control], [], [], _LOOK_S)[0]:
            if time.monotonic() > deadline:
                raise BoxError("the box does not answer")
            # RLIMIT_AS counts each process alone; where there can be many, somebody must add up
            if self.tier == "bwrap" and not too_much and self._resident() > limits.memory_bytes:
                too_much = True
                with contextlib.suppress(OSError):
                    control.send(b"stop")
        try:
            data = control.recv(1 << 16)
        except OSError as error:
            raise BoxError(f"the box does not answer: {error}") from None
        if not data:
            raise BoxError("the box died")
        answer: dict[str, Any] = json.loads(data)
        if "refused" in answer:
            raise BoxError(f"the box could not start a sample: {answer['refused']}")
        if too_much:
            answer["killed"] = "memory"
        return answer

    def _resident(self) -> int:
        """Return the bytes that the sample's processes hold beyond what the server lent them."""
        sizes = [_anonymous_bytes(pid) for pid in _below(self.launched.process.pid)]
        server = min((size for size in sizes if size > 1 << 20), default=0)
        return sum(max(0, size - server) for size in sizes)


def _below(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield int(child)
        yield from _below(int(child))


def _anonymous_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass  # it has just ended
    return 0


def _memory_file(stack: contextlib.ExitStack, name: str) -> int:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _fill(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)


def _content(descriptor: int, limits: Limits) -> bytes:
    size = min(os.fstat(descriptor).st_size, limits.output_bytes)
    return os.pread(descriptor, size, 0) if size else b""


def _outcome(answer: dict[str, Any], limits: Limits, stdout: bytes, stderr: bytes) -> Outcome:
    code, cpu_s = int(answer["code"]), float(answer["cpu_s"])
    if code == 99:
        raise BoxError("a sample could not be confined: " + stderr[:300].decode(errors="replace"))
    ended: Ended = "exited"
    if answer["killed"] == "wall":
        ended = "time_limit"
    elif answer["killed"] == "stopped":
        ended = "stopped"
    elif answer["killed"] == "memory":
        ended = "memory_limit"
    elif answer["killed"] == "output" or max(len(stdout), len(stderr)) >= limits.output_bytes:
        ended = "output_limit"
    # SIGXCPU (24) is the kernel's own word; its clock of limits and that of usage differ by ticks,
    # more so on a busy machine. SIGKILL (9) may have come from elsewhere.
    elif code == -24 or (code == -9 and cpu_s >= 0.9 * limits.cpu_s):
        ended = "time_limit"
    elif code == EXIT_MEMORY or b"MemoryError" in stderr[-300:] or b"bad_alloc" in stderr[-300:]:
        ended = "memory_limit"
    return Outcome(
        ended=ended, code=code, cpu_s=cpu_s, wall_s=float(answer["wall_s"]),
        stdout=stdout, stderr=stderr,
    )  # fmt: skip


_idle: dict[tuple[int, Tier, bool], list[Box]] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def borrow(tier: Tier, *, compilers: bool = False) -> Iterator[Box]:
    """Lend a box of this process, started at need; a box that failed is not lent again.

    Boxes belong to the process that started them: a fork starts its own.
    """
    key = (os.getpid(), tier, compilers)
    with _lock:
        free = _idle.setdefault(key, [])
        box = free.pop() if free else None
    if box is None:
        try:
            box = Box(tier, compilers=compilers)
        except TierError as error:
            raise BoxError(str(error)) from None
    try:
        yield box
    except BoxError:
        box.close()
        raise
    except BaseException:
        box.close()
        raise
    with _lock:
        free.append(box)


def close_all() -> None:
    """End the idle boxes of this process."""
    with _lock:
        mine = [key for key in _idle if key[0] == os.getpid()]
        for key in mine:
            for box in _idle.pop(key):
                box.close()


def retrying(work: Callable[[], Any], *, tries: int = 3) -> Any:
    """Call ``work`` again when the box failed; the last failure is raised."""
    for left in range(tries - 1, -1, -1):
        try:
            return work()
        except BoxError:
            if not left:
                raise
            time.sleep(0.05)
    return None


atexit.register(close_all)
