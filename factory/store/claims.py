"""Claims: several runs on one store share the work, so that none is paid for twice.

A run claims what it is about to make (a *key*, such as that of a prompt's first trace) with a line
in one file that all runs append to, under one short lock. A claim ends with a line of its own, or
with its run: every run holds the lock of a file of its own, and the kernel drops that lock when
the process dies, however it dies. Nothing here needs to reach the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from factory.store.durable import locked

LOG = "claims.log"


class Claims:
    """The claims of one run.

    Args:
        folder: of the store's claims.
        owner: id of the run.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> one, two = Claims(folder, "one"), Claims(folder, "two")
    >>> one.take("a"), two.take("a"), two.freed(["a"])
    (True, False, [])
    >>> one.release(["a"])
    >>> two.freed(["a"]), one.take("a")
    (['a'], False)
    >>> one.close(); two.close()
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder, self._owner = folder, owner
        self._log = folder / LOG
        self._claimed: dict[str, tuple[str, bool]] = {}
        """Key → who claimed it last, and whether that claim still holds while its run lives."""
        self._read_to = 0
        folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not self._others():
                # Nobody is at work: what the file says is of the past.
                self._log.write_bytes(b"")
                for path in folder.glob("*.run"):
                    path.unlink(missing_ok=True)
            self._own = os.open(folder / f"{owner}.run", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sync()
            # What has ended by now is in the store, where this run is about to look.
            living = self._others()
            self._claimed = {
                k: (who, open_) for k, (who, open_) in self._claimed.items()
                if open_ and who in living
            }  # fmt: skip

    def take(self, key: str) -> bool:
        """Claim a key that no other run has touched since this one began; tell whether it is ours.

        What another has touched is to be asked for with ``freed``, and to be looked for in the
        store again.
        """
        with self._locked():
            self._sync()
            if self._claimed.get(key, (self._owner, True))[0] != self._owner:
                return False
            self._append("+", [key])
            return True

    def freed(self, keys: Iterable[str]) -> list[str]:
        """Claim those keys that no living run holds, and return them.

        The store may hold what their last owner made: look before anything is made.
        """
        with self._locked():
            self._sync()
            living = self._others()
            mine = []
            for key in keys:
                who, is_open = self._claimed.get(key, (self._owner, False))
                if not is_open or who not in living:
                    mine.append(key)
            self._append("+", mine)
            return mine

    def release(self, keys: Iterable[str]) -> None:
        """Say that nothing more will come from this run for keys of its own."""
        with self._locked():
            self._sync()
            mine = [k for k in keys if self._claimed.get(k) == (self._owner, True)]
            self._append("-", mine)

    def close(self) -> None:
        """End all claims of this run."""
        with contextlib.suppress(OSError):
            os.close(self._own)

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return locked(self._folder / ".lock")

    def _others(self) -> set[str]:
        """Return the runs that are alive, this one left out."""
        living = set()
        for path in self._folder.glob("*.run"):
            if path.stem == self._owner:
                continue
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDONLY)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    living.add(path.stem)
                finally:
                    os.close(fd)
        return living

    def _sync(self) -> None:
        with self._log.open("rb") as handle:
            handle.seek(self._read_to)
            data = handle.read()
        lines = data[: data.rfind(b"\n") + 1]
        self._read_to += len(lines)
        for line in lines.decode().splitlines():
            state, _, rest = line.partition(" ")
            who, _, key = rest.partition(" ")
            if key:
                self._claimed[key] = (who, state == "+")

    def _append(self, state: str, keys: list[str]) -> None:
        if not keys:
            return
        lines = "".join(f"{state} {self._owner} {key}\n" for key in keys)
        fd = os.open(self._log, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, lines.encode())
        finally:
            os.close(fd)
        self._sync()
