"""A cgroup for each box, where this user may make one: what all its processes hold together.

RLIMIT_AS counts each process alone and nothing that is shared; a memory cgroup counts every page,
the kernel's own for sockets and pipes too, and the kernel itself holds the limit. A box without
one makes no processes, so that the limit of one process is the limit of all.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from pathlib import Path

_NAME = "factory-box"
_numbers = itertools.count()
_lock = threading.Lock()


class Group:
    """One memory cgroup. Made by ``make``.

    Attributes:
        folder: its place in the cgroup file system.
    """

    def __init__(self, folder: Path, *, unified: bool) -> None:
        self.folder = folder
        self._unified = unified
        self._bytes = 0
        self._events = -1

    def take(self, pids: list[int]) -> None:
        """Move processes in; what they start later is in it from its start.

        Raises:
            OSError: the kernel refuses.
        """
        for pid in pids:
            (self.folder / "cgroup.procs").write_text(str(pid))

    def limit(self, n_bytes: int) -> None:
        """Set what all processes in it may hold together.

        Raises:
            OSError: the kernel refuses, such as where more is held already.
        """
        if n_bytes != self._bytes:
            name = "memory.max" if self._unified else "memory.limit_in_bytes"
            (self.folder / name).write_text(str(n_bytes))
            self._bytes = n_bytes

    def n_killed(self) -> int:
        """Return how many of its processes the kernel has ended for memory."""
        name = "memory.events" if self._unified else "memory.oom_control"
        with contextlib.suppress(OSError):
            if self._events < 0:  # asked twice for every sample: opening it costs more than reading
                self._events = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
            for line in os.pread(self._events, 1024, 0).splitlines():
                key, _, value = line.partition(b" ")
                if key == b"oom_kill":
                    return int(value)
        return 0

    def close(self) -> None:
        """Remove it; one that is not empty yet is removed at a later start."""
        if self._events >= 0:
            os.close(self._events)
            self._events = -1
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def make() -> Group | None:
    """Return a new cgroup below this process's own, or None where none can be had."""
    for parent, unified in _parents():
        folder = parent / f"{_NAME}-{os.getpid()}-{next(_numbers)}"
        try:
            with _lock:
                _remove_left(parent)
                folder.mkdir()
            no_swap = "memory.swap.max" if unified else "memory.swappiness"
            with contextlib.suppress(OSError):
                (folder / no_swap).write_text("0")
            group = Group(folder, unified=unified)
            group.limit(1 << 30)
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        return group
    return None


def _remove_left(parent: Path) -> None:
    """Remove the groups of processes that are gone; those in use cannot be removed."""
    for folder in parent.glob(f"{_NAME}-*"):
        holder = folder.name.split("-")[2]
        if not Path(f"/proc/{holder}").exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _parents() -> list[tuple[Path, bool]]:
    """Return the folders in which a memory cgroup might be made: version 1, then version 2."""
    try:
        own = dict(_own_paths())
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    found: list[tuple[Path, bool]] = []
    for line in mounts:
        left, _, right = line.partition(" - ")
        root, place = left.split()[3:5]
        kind, options = right.split()[0], right.split()[-1].split(",")
        if kind == "cgroup" and "memory" in options and "memory" in own:
            found.insert(0, (_below(place, root, own["memory"]), False))
        elif kind == "cgroup2" and "" in own:
            folder = _below(place, root, own[""])
            for parent in (folder, folder.parent):  # processes stand in the leaves alone
                with contextlib.suppress(OSError):
                    if "memory" in (parent / "cgroup.subtree_control").read_text().split():
                        found.append((parent, True))
    return found


def _own_paths() -> list[tuple[str, str]]:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    parts = (line.split(":", 2) for line in lines)
    return [(name, path) for _, names, path in parts for name in names.split(",")]


def _below(place: str, root: str, path: str) -> Path:
    return Path(place) / path.removeprefix(root.rstrip("/")).lstrip("/")
