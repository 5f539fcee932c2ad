"""Segments: open logs of rows, one writer each, made of frames (``factory.frames``).

``append`` returns after fdatasync: from then on the rows survive ``kill -9`` and power loss.

A long segment is several files. Compression costs several times what a disk with a fast cache
needs for the fsync, so rows are committed stored, to a *tail*, and a thread of the writer packs
full tails into the *main* file: it compresses, syncs, and only then removes the tail. A kill in
between leaves rows in both; readers and the sealing take each key once. ::

    segment-<run_id>-<n>.log          main: the first rows, then packed tails
    segment-<run_id>-<n>.<k>.log      tail k: committed, not packed yet

Whoever lists segments must open tails before mains (``reading_order``): rows move from the one to
the other, and are then seen twice instead of never.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.durable import TMP_PREFIX, disk_error, fsync_dir
from factory.errors import CorruptError, StoreError
from factory.frames import encode_rows, packed_frame, read_payloads, stored_frame

HEAD_BYTES = 64 << 10
"""A segment up to this size is one file, compressed by the caller: no thread, no tails."""
TAIL_BYTES = 8 << 20
"""Size at which a tail is packed: what stays uncompressed while a writer is slower than zstd."""
FRAME_BYTES = 1 << 20
_TAIL = re.compile(r"-[0-9a-f]+\.\d+\.log$")


def reading_order(paths: Iterable[Path]) -> list[Path]:
    """Sort segment files so that tails come before the mains that their rows move to."""
    return sorted(paths, key=lambda path: (_TAIL.search(path.name) is None, path.name))


class _Log:
    """One file of frames, locked while open. Appends are whole or undone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.n_frames = 0
        # Locked before it has its name: nobody may take a new segment for a closed one.
        tmp = path.with_name(f"{TMP_PREFIX}{path.name}")
        self._fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            tmp.rename(path)
            fsync_dir(path.parent)
        except OSError:
            os.close(self._fd)
            with contextlib.suppress(OSError):
                tmp.unlink()
            raise

    def write(self, pieces: list[bytes | bytearray]) -> int:
        """Write a frame, not yet durable; returns its size."""
        size = sum(map(len, pieces))
        n = os.writev(self._fd, pieces)
        if n < size:
            view = memoryview(b"".join(pieces))[n:]
            while view:
                view = view[os.write(self._fd, view) :]
        return size

    def sync(self, n_bytes: int, n_frames: int = 1) -> None:
        """Make what was written durable: frames of ``n_bytes`` together."""
        os.fdatasync(self._fd)
        self.size += n_bytes
        self.n_frames += n_frames

    def undo(self) -> None:
        """Cut off what was not synced, so that later frames stay readable."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self.size)

    def close(self, *, remove: bool) -> None:
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._fd)


class SegmentWriter:
    """Appends rows to one new segment; thread-safe; holds its files' locks while open.

    Args:
        path: a file that does not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_rows = 0
        self.n_bytes = 0
        """Bytes committed so far, as they were first written."""
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._main = _Log(path)
        except OSError as error:
            raise disk_error(error, path, "nothing was written") from error
        self._current = self._main
        self._packer: _Packer | None = None
        self._is_open = True

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Commit rows: when this returns they are on disk, all of them.

        Raises:
            StoreError: the disk is full or gone; no row of this call is kept, earlier ones are.
        """
        if not rows:
            return
        lines = encode_rows(rows)
        # Either form may stand in either file, so a tail that comes meanwhile does no harm.
        frame = packed_frame([lines]) if self._current is self._main else stored_frame(lines)
        with self._lock:
            if not self._is_open:
                raise StoreError(f"{self.path} is closed", "open another writer")
            self._choose_log()
            log = self._current
            try:
                size = log.write(frame)
                log.sync(size)
            except OSError as error:
                log.undo()
                raise disk_error(error, self.path, f"{self.n_rows} rows are kept") from error
            self.n_bytes += size
            self.n_rows += len(rows)

    def _choose_log(self) -> None:
        """Go on to a new tail where the present file is full and a tail is ready."""
        if self._current.size < (HEAD_BYTES if self._current is self._main else TAIL_BYTES):
            return
        if self._packer is None:
            self._packer = _Packer(self._main)
        tail = self._packer.take_tail()
        if tail is not None:
            if self._current is not self._main:
                self._packer.pack(self._current)
            self._current = tail

    def close(self) -> None:
        """Pack what is left and release the files: from now on the segment may be sealed.

        An empty segment is removed.
        """
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            if self._packer is not None:
                if self._current is not self._main:
                    self._packer.pack(self._current)
                self._packer.close()
            self._main.close(remove=self.n_rows == 0)

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Packer:
    """Moves full tails, compressed, to the main file, and has the next tail ready.

    A thread: zstd, CRC-32 and the disk all work without the interpreter's lock. Whatever fails
    (a full disk, damage) leaves the tail as it is, a segment like any other.
    """

    def __init__(self, main: _Log) -> None:
        self._main = main
        self._full: list[_Log] = []
        self._spare: _Log | None = None
        self._n_tails = 0
        self._closing = False
        self._changed = threading.Condition()
        self._work = True
        self._thread = threading.Thread(target=self._run, name="pack", daemon=True)
        self._thread.start()

    def take_tail(self) -> _Log | None:
        """Return an empty tail, or None where none is ready yet: the caller goes on as before."""
        with self._changed:
            tail, self._spare = self._spare, None
            if tail is not None:
                self._wake()
            return tail

    def pack(self, tail: _Log) -> None:
        """Take a tail that gets no more rows."""
        with self._changed:
            self._full.append(tail)
            self._wake()

    def close(self) -> None:
        """Pack what was given and end the thread. What cannot be packed is left as it is."""
        with self._changed:
            self._closing = True
            self._wake()
        self._thread.join()
        for tail in self._full:
            tail.close(remove=tail.size == 0)
        if self._spare is not None:
            self._spare.close(remove=True)

    def _wake(self) -> None:
        self._work = True
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work)
                self._work = False
                tails, closing = list(self._full), self._closing
            if self._spare is None and not closing:
                # Not in ``append``: making a file durable takes longer than a commit.
                with contextlib.suppress(OSError):
                    self._make_spare()
            for tail in tails:
                # Full disk or damage: the tail is left, and tried again with the next one.
                with contextlib.suppress(OSError, CorruptError):
                    self._pack(tail)
                    with self._changed:
                        self._full.remove(tail)
                    tail.close(remove=True)
            if closing:
                return

    def _make_spare(self) -> None:
        self._n_tails += 1
        spare = _Log(self._main.path.with_suffix(f".{self._n_tails}.log"))
        with self._changed:
            self._spare = spare

    def _pack(self, tail: _Log) -> None:
        """Append the tail's rows to the main file, durably. The tail itself is left as it is."""
        written: list[int] = []
        n_read = size = 0
        lines: list[bytes] = []
        try:
            with tail.path.open("rb") as handle:
                for payload in read_payloads(handle, tail.path):
                    n_read += 1
                    lines.append(payload)
                    size += len(payload)
                    if size >= FRAME_BYTES:
                        written.append(self._main.write(packed_frame(lines)))
                        lines, size = [], 0
            if n_read != tail.n_frames:
                # A reader would take a damaged end for a torn one; we know that it was committed.
                raise CorruptError(f"{tail.path} lost its end", "restore the file from a copy")
            if lines:
                written.append(self._main.write(packed_frame(lines)))
            self._main.sync(sum(written), len(written))
        except (OSError, CorruptError):
            self._main.undo()
            raise


def is_closed(path: Path) -> bool:
    """Tell whether the segment's writer has closed it or is dead (its lock is free)."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
