"""What ``/proc`` says of running processes, and a clock that leaves out what others took.

A wall clock alone makes a verdict depend on the load of the machine: a right program that waits
for a core is late through no fault of its own. The kernel counts for every thread how long it was
ready to run and was not (``schedstat``); ``Clock`` gives that time back.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
MOST = 20
"""How many times its seconds a clock can be stretched before it ends anyway."""
_LOOK_S = 0.012
"""Longer than a tick of the kernel's clock, after which a running thread shows that it ran."""


def below(pid: int) -> Iterator[int]:
    """Yield the processes below one, parents first.

    >>> list(below(0))  # no such process
    []
    """
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield int(child)
        yield from below(int(child))


def started_at(pid: int) -> str | None:
    """Return when a process started, in ticks since boot; None where it does not run.

    With the process id it names one process for ever: ids are used again.
    """
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in ("Z", "X") else None


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that it has waited for."""
    return sum(int(x) for x in _stat(pid)[11:15]) / _TICKS


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def waited_s(pid: int) -> float:
    """Return for how long the threads of a process were ready to run and had no core."""
    total = 0
    try:
        folder = f"/proc/{pid}/task"
        for thread in os.listdir(folder):  # noqa: PTH208 - asked for every sample of the sandbox
            with open(f"{folder}/{thread}/schedstat", "rb", buffering=0) as file:  # noqa: PTH123
                total += int(file.read(256).split()[1])
    except (OSError, IndexError):
        pass  # it has just ended
    return total / 1e9


def wait_for_a_core(pids: Iterable[int]) -> bool:
    """Tell whether a thread of these processes is ready to run and has no core at this moment.

    What a thread has waited is counted when it gets a core, so that ``waited_s`` does not know of
    the waiting that still goes on. Takes a moment where a thread is ready to run.
    """
    ready = _ready(pids)
    if not ready:
        return False
    time.sleep(_LOOK_S)
    return bool(ready.items() & _ready(pids).items())


def _ready(pids: Iterable[int]) -> dict[tuple[int, str], str]:
    """Return what each thread that is running or could run has used of a core."""
    ready = {}
    for pid in pids:
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                if (thread / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                    ready[pid, thread.name] = (thread / "schedstat").read_text().split()[0]
        except (OSError, IndexError):
            pass  # it has just ended
    return ready


@functools.cache
def counts_waiting() -> bool:
    """Tell whether this kernel says how long a thread waited for a core."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[0]) > 0
    except (OSError, IndexError, ValueError):
        return False


class Clock:
    """Seconds for a piece of work, without those in which it waited for a core.

    Args:
        seconds: what it may take.
        pids: returns the processes that do the work, asked again at each look: what these have
            waited before the clock was made does not count.
        running: those of them that run already; by default all that ``pids`` gives now.

    >>> Clock(5.0, lambda: [os.getpid()]).left() > 4.9
    True
    """

    def __init__(
        self,
        seconds: float,
        pids: Callable[[], Iterable[int]],
        running: Iterable[int] | None = None,
    ) -> None:
        self.begun = time.monotonic()
        self._seconds = seconds
        self._pids = pids
        running = pids() if running is None else running
        self._before = {pid: waited_s(pid) for pid in running}
        self._waited: dict[int, float] = {}
        self.stretched = False

    def left(self) -> float:
        """Return the seconds that are left; none once they are stretched ``MOST`` times."""
        passed = time.monotonic() - self.begun
        left = self._seconds - passed
        if left > 0:
            return left
        pids = list(self._pids())
        for pid in pids:  # one that has ended says nothing any more of what it waited for
            waited = waited_s(pid) - self._before.get(pid, 0.0)
            self._waited[pid] = max(self._waited.get(pid, 0.0), waited)
        most = MOST * self._seconds - passed
        left = min(left + sum(self._waited.values()), most)
        if left <= 0 < most and wait_for_a_core(pids):
            return min(_LOOK_S, most)
        # what the clock was stretched to in vain may still be the machine's doing
        self.stretched = not counts_waiting() or most <= 0
        return left
