"""The processes of a rehearsal that are to be killed, as Linux tells of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in brackets may hold blanks.
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    out, todo = [], [pid]
    while todo:
        found = children.get(todo.pop(), [])
        out += found
        todo += found
    return out


def last_rank(pid: int) -> int | None:
    """Return the trainer of the highest local rank among a process's descendants."""
    ranks: dict[int, int] = {}
    for child in descendants(pid):
        with contextlib.suppress(OSError, ValueError):
            words = Path("/proc", str(child), "environ").read_bytes().split(b"\0")
            found = next((w for w in words if w.startswith(b"LOCAL_RANK=")), None)
            if found is not None:
                # What a trainer starts itself inherits its environment: the trainer comes first.
                ranks.setdefault(int(found.partition(b"=")[2]), child)
    return ranks[max(ranks)] if ranks else None


def kill(pid: int) -> None:
    """End a process at once; one that is gone already is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def survivors(pids: list[int], *, within_s: float) -> list[int]:
    """Return which of some processes are still alive after a while."""
    deadline = time.monotonic() + within_s
    while True:
        alive = [p for p in pids if _is_alive(p)]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        state = Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:
        return False
    return state.split()[0] != "Z"
