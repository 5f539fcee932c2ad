"""A box that runs model-written code, one confined process per sample.

The box is started once per worker process and kept; each sample is a fork of its first process,
which has read nothing of any sample. What a sample can do is decided before it starts; what comes
back is bytes and how the process ended, never a verdict.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import fcntl
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

from factory.processes import MOST, Clock, below, cpu_s
from factory.sandbox.inside.crossing import MAX_LINE
from factory.sandbox.inside.harness import EXIT_MEMORY
from factory.sandbox.plain_programs import is_plain
from factory.sandbox.tiers import Launched, Tier, TierError, launch

_LOOK_S = 0.2
_STOP_S = 10.0
Ended = Literal["exited", "time_limit", "memory_limit", "output_limit", "stopped"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one sample may use.

    Attributes:
        cpu_s: CPU seconds of its processes.
        wall_s: seconds from its start, without those in which it waited for a core.
        memory_bytes: address space of one process, and what all of them hold together.
        output_bytes: bytes on standard output, and on standard error.
        processes: processes and threads at a time (where the tier can count them).
        scratch_bytes: size of /tmp (bwrap only; the other tiers have no writable directory).
    """

    cpu_s: int = 6
    wall_s: float = 30.0
    memory_bytes: int = 1 << 30
    output_bytes: int = 8 << 20
    processes: int = 64
    scratch_bytes: int = 64 << 20

    def to_dict(self) -> dict[str, Any]:
        """Return the form that the box reads."""
        out: dict[str, Any] = dict(vars(self))
        out["file_bytes"] = max(self.output_bytes, self.scratch_bytes // 4)
        out["hard_s"] = MOST * self.wall_s + 5
        return out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a sample ended and what it wrote.

    Attributes:
        disturbed: its end may be the machine's doing: it never got its share of a core, or was
            killed by neither side. It is to be tried again, alone.
    """

    ended: Ended
    code: int
    cpu_s: float
    wall_s: float
    stdout: bytes = b""
    stderr: bytes = b""
    disturbed: bool = False


class BoxError(Exception):
    """The box itself failed (ours, never the candidate's doing)."""


class Box:
    """One started box. Not for two threads at a time; ``borrow`` lends them out.

    Args:
        tier: how it is confined.
        compilers: let it see the system's compilers.
        libraries: what its programs may import beside the standard library.

    Attributes:
        launched: its first process outside and the control socket.
        last: outcome of the last talk.
    """

    def __init__(
        self, tier: Tier, *, compilers: bool = False, libraries: tuple[str, ...] = ()
    ) -> None:
        self.tier = tier
        self.compilers = compilers
        self.pid = os.getpid()
        self.launched: Launched = launch(tier, compilers=compilers, shown=libraries)
        self.n_runs = 0
        self._n_killed = 0
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
        plain: bool | None = None,
    ) -> Outcome:
        """Run one sample to its end and return what it wrote.

        Args:
            mode: ``program``, ``calls``, ``tests``, ``command``, or ``binary``.
            sample: what the harness of that mode reads.
            stdin: bytes on its standard input.
            limits: what it may use.
            program: the executable, for ``binary``.
            plain: it gets no folder to write to, and makes no processes; None: where its text
                does neither (``plain_programs``).

        Raises:
            BoxError: the box died or could not confine the sample.
        """
        limits = limits or Limits()
        with contextlib.ExitStack() as stack:
            files = [_memory_file(stack, name) for name in ("sample", "in", "out", "err")]
            _fill(files[0], json.dumps(sample).encode() if program is None else program)
            _fill(files[1], stdin)
            self._send(mode, sample, limits, files, plain=plain)
            answer = self._answer(limits, self.clock(limits))
            return _outcome(answer, limits, _content(files[2], limits), _content(files[3], limits))

    @contextlib.contextmanager
    def talk(self, mode: str, sample: dict[str, Any], limits: Limits) -> Iterator[Talk]:
        """Start a sample that goes on speaking, and give its two ends.

        Leaving the block stops it; the outcome then stands in ``self.last``.
        """
        with contextlib.ExitStack() as stack:
            file = _memory_file(stack, "sample")
            errors = _memory_file(stack, "err")
            _fill(file, json.dumps(sample).encode())
            their_in, our_out = os.pipe2(os.O_CLOEXEC)
            our_in, their_out = os.pipe2(os.O_CLOEXEC)
            talk = Talk(self, our_out, our_in, limits)
            stack.callback(talk.close)
            try:
                self._send(mode, sample, limits, [file, their_in, their_out, errors])
            finally:
                os.close(their_in)
                os.close(their_out)
            try:
                yield talk
            finally:
                with contextlib.suppress(OSError):
                    self.launched.control.send(b"stop")
                answer = self._answer(limits, self.clock(limits))
                self.last = _outcome(answer, limits, b"", _content(errors, limits))

    def ask(
        self, mode: str, sample: dict[str, Any], limits: Limits, other: Talk, clock: Clock
    ) -> Outcome:
        """Run a sample whose input and output are those of another box's running one.

        The two speak without anybody between them; what the sample reports to us is its standard
        error. Either sees the end of the other.
        """
        with contextlib.ExitStack() as stack:
            file = _memory_file(stack, "sample")
            errors = _memory_file(stack, "err")
            _fill(file, json.dumps(sample).encode())
            self._send(mode, sample, limits, [file, other.answers, other.asks, errors])
            other.close()
            answer = self._answer(limits, clock, other.overrun)
            return _outcome(answer, limits, b"", _content(errors, limits))

    def clock(self, limits: Limits) -> Clock:
        """Return a clock for the sample that runs now."""
        return Clock(limits.wall_s, self.pids, [self.launched.server])

    def pids(self) -> list[int]:
        """Return the processes of the box: who starts a sample, and the sample's own."""
        return [self.launched.server, *below(self.launched.server)]

    def _send(
        self,
        mode: str,
        sample: dict[str, Any],
        limits: Limits,
        files: list[int],
        *,
        plain: bool | None = None,
    ) -> None:
        plain = is_plain(mode, sample) if plain is None else plain
        job = json.dumps({"mode": mode, "limits": limits.to_dict(), "plain": plain}).encode()
        self.n_runs += 1
        try:
            if (group := self.launched.group) is not None:
                self._n_killed = group.n_killed()
                group.limit(limits.memory_bytes + limits.scratch_bytes)
            socket.send_fds(self.launched.control, [job], files)
        except OSError as error:
            raise BoxError(f"the box is gone: {error}") from None

    def _answer(
        self, limits: Limits, clock: Clock, also: Callable[[Clock], str] = lambda _: ""
    ) -> dict[str, Any]:
        """Wait for the end of the sample, and bring it about where a clock has run out."""
        control = self.launched.control
        ended_by, told = "", 0.0
        while not select.select([control], [], [], max(0.01, min(clock.left(), _LOOK_S)))[0]:
            if not told and (ended_by := self.overrun(limits, clock) or also(clock)):
                told = time.monotonic()
                with contextlib.suppress(OSError):
                    control.send(b"stop")
            if told and time.monotonic() > told + _STOP_S:
                raise BoxError("the box does not answer")
        try:
            data = control.recv(1 << 16)
        except OSError as error:
            raise BoxError(f"the box does not answer: {error}") from None
        group = self.launched.group
        too_much = group is not None and group.n_killed() > self._n_killed
        if not data and not too_much:
            raise BoxError("the box died")
        # where it died of what its sample held, the kernel took the server for the largest of them
        answer: dict[str, Any] = json.loads(data or b'{"killed":"","code":-9,"cpu_s":0,"wall_s":0}')
        if "refused" in answer:
            raise BoxError(f"the box could not start a sample: {answer['refused']}")
        # what was over before it was told to stop has ended in its own way
        if answer["killed"] == "stopped" and ended_by:
            answer["killed"] = ended_by
        if too_much:
            answer["killed"] = "memory"
        answer["stretched"] = clock.stretched
        return answer

    def overrun(self, limits: Limits, clock: Clock) -> str:
        """Tell which clock of the sample has run out: ``wall``, ``cpu`` or ''."""
        if clock.left() <= 0:
            return "wall"
        if self.launched.group is not None:  # RLIMIT_CPU counts each process alone
            used_s = sum(map(cpu_s, below(self.launched.server)))
            return "cpu" if used_s > limits.cpu_s + _LOOK_S else ""
        return ""


class Talk:
    """A running sample and our two ends of its pipes.

    Attributes:
        asks: what it reads is written here.
        answers: what it writes is read here.
        held: what of that was read beyond the last line.
    """

    def __init__(self, box: Box, asks: int, answers: int, limits: Limits) -> None:
        self._box, self._limits = box, limits
        self.asks, self.answers, self.held = asks, answers, b""

    def close(self) -> None:
        """Close both ends, once."""
        for end in {self.asks, self.answers} - {-1}:
            os.close(end)
        self.asks = self.answers = -1

    def overrun(self, clock: Clock) -> str:
        """Tell which clock of the sample has run out: ``wall``, ``cpu`` or ''."""
        return self._box.overrun(self._limits, clock)

    def line(self, clock: Clock) -> bytes | None:
        """Return the next line, or None at its end, at the clock's, or above 16 MiB."""
        while (cut := self.held.find(b"\n")) < 0:
            if len(self.held) > MAX_LINE:
                return None
            if select.select([self.answers], [], [], max(0.0, min(clock.left(), _LOOK_S)))[0]:
                more = os.read(self.answers, 1 << 16)
                if not more:
                    return None
                self.held += more
            elif self.overrun(clock):
                return None
        line, self.held = self.held[:cut], self.held[cut + 1 :]
        return line


def _memory_file(stack: contextlib.ExitStack, name: str) -> int:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, descriptor)
    return descriptor


def _fill(descriptor: int, data: bytes) -> None:
    """Write what a sample reads, and let nobody write to it any more."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)


def _content(descriptor: int, limits: Limits) -> bytes:
    size = min(os.fstat(descriptor).st_size, limits.output_bytes)
    return os.pread(descriptor, size, 0) if size else b""


def _outcome(answer: dict[str, Any], limits: Limits, stdout: bytes, stderr: bytes) -> Outcome:
    code, cpu_s = int(answer["code"]), float(answer["cpu_s"])
    if code == 99:
        raise BoxError("a sample could not be confined: " + stderr[:300].decode(errors="replace"))
    ended: Ended = "exited"
    disturbed = False
    if answer["killed"] in ("wall", "cpu"):
        ended = "time_limit"
        disturbed = answer["killed"] == "wall" and answer["stretched"]
    elif answer["killed"] == "stopped":
        ended = "stopped"
    elif answer["killed"] == "memory":
        ended = "memory_limit"
    elif answer["killed"] == "output" or max(len(stdout), len(stderr)) >= limits.output_bytes:
        ended = "output_limit"
    # SIGXCPU (24) is the kernel's own word; its clock of limits and that of usage differ by ticks,
    # more so on a busy machine. SIGKILL (9) may have come from elsewhere.
    elif code == -24 or (code == -9 and cpu_s >= 0.7 * limits.cpu_s):
        ended = "time_limit"
    elif code == -9:
        disturbed = True
    elif code == EXIT_MEMORY or b"MemoryError" in stderr[-300:] or b"bad_alloc" in stderr[-300:]:
        ended = "memory_limit"
    return Outcome(
        ended=ended, code=code, cpu_s=cpu_s, wall_s=float(answer["wall_s"]),
        stdout=stdout, stderr=stderr, disturbed=disturbed,
    )  # fmt: skip


_idle: dict[tuple[int, Tier, bool, tuple[str, ...]], list[Box]] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def borrow(
    tier: Tier, *, compilers: bool = False, libraries: tuple[str, ...] = ()
) -> Iterator[Box]:
    """Lend a box of this process, started at need; a box that failed is not lent again.

    Boxes belong to the process that started them: a fork starts its own.
    """
    key = (os.getpid(), tier, compilers, libraries)
    with _lock:
        free = _idle.setdefault(key, [])
        box = free.pop() if free else None
    if box is None:
        try:
            box = Box(tier, compilers=compilers, libraries=libraries)
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
