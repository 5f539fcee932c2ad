"""Segments: open logs of rows, one writer each, made of frames (``factory.store.log_format``).

``append`` returns after fdatasync: from then on the rows survive ``kill -9`` and power loss.

A long segment is several files. Compression costs several times what a disk with a fast cache
needs for the fsync, so rows are committed as they are, to the *tail*, and full tails are packed
into one more file: compressed, synced, and only then removed. A thread of the writer does it while
no rows come, and ``close`` does the rest. A kill in between leaves rows in both files; readers and
the sealing take each key once. ::

    segment-<run_id>-<n>.log          the first tail: all there is of a short segment
    segment-<run_id>-<n>.<k>.log      tail k, begun when the one before was full
    segment-<run_id>-<n>.packed.log   where tails are packed to

Whoever lists segments must open what is packed last (``reading_order``): rows move from the one to
the other, and are then seen twice instead of never. In stores of earlier versions tails were packed
into the first file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import CorruptError, StoreError
from factory.store.durable import TMP_PREFIX, disk_error, fsync_dir
from factory.store.log_format import LineBuffer, packed_frame, read_payloads, stored_frame

HEAD_BYTES = 64 << 10
"""A segment up to this size is one file to the end: no thread, nothing reserved, nothing packed."""
TAIL_BYTES = 8 << 20
"""Size of a tail. Its space is reserved: a file that does not grow is synced faster."""
BACKLOG_BYTES = 256 << 20
"""As many bytes in full tails wait for a pause of the writer; what is more is packed at once."""
MOST_BYTES = 2 * BACKLOG_BYTES
"""With as many in full tails, ``append`` waits for the packing."""
PAUSE_S = 0.01
"""A writer that committed nothing for as long leaves the time to the packing."""
FRAME_BYTES = 2 << 20
_TAIL = re.compile(r"-[0-9a-f]+\.\d+\.log$")


def reading_order(paths: Iterable[Path]) -> list[Path]:
    """Sort segment files so that tails come before the files that their rows move to."""
    return sorted(paths, key=lambda path: (_rank(path), path.name))


def _rank(path: Path) -> int:
    if _TAIL.search(path.name):
        return 0
    return 2 if path.name.endswith(".packed.log") else 1


class _Log:
    """One file of frames, locked while open. Appends are whole or undone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.n_frames = 0
        self._reserved = 0
        # Locked before it has its name: nobody may take a new segment for a closed one.
        tmp = path.with_name(f"{TMP_PREFIX}{path.name}")
        self._fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            tmp.rename(path)
            fsync_dir(path.parent)
        except OSError:
            os.close(self._fd)
            with contextlib.suppress(OSError):
                tmp.unlink()
            raise

    def reserve(self, n_bytes: int) -> None:
        """Take space up to ``n_bytes``, which reads as zeros, where the disk has it."""
        if n_bytes > max(self._reserved, self.size):
            with contextlib.suppress(OSError):
                os.posix_fallocate(self._fd, self.size, n_bytes - self.size)
                self._reserved = n_bytes

    def write(self, pieces: Sequence[bytes | memoryview]) -> int:
        """Write a frame behind what is synced, not yet durable; returns its size."""
        size = sum(map(len, pieces))
        n = os.pwritev(self._fd, pieces, self.size)
        if n < size:
            view = memoryview(b"".join(pieces))
            while n < size:
                n += os.pwrite(self._fd, view[n:], self.size + n)
        return size

    def sync(self, n_bytes: int) -> None:
        """Make the frame that was written durable. One at a time: power loss tears only one."""
        os.fdatasync(self._fd)
        self.size += n_bytes
        self.n_frames += 1

    def trim(self, size: int | None = None) -> None:
        """Cut off what was not synced, or all behind ``size``, and what was only reserved."""
        size = self.size if size is None else size
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, size)
            self.size = size
            self._reserved = 0

    def close(self, *, remove: bool) -> None:
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        elif self._reserved > self.size:
            self.trim()
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
        self._buffers: list[LineBuffer] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._current = _Log(path)
        except OSError as error:
            raise disk_error(error, path, "nothing was written") from error
        self._packer: _Packer | None = None
        self._is_open = True

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Commit rows: when this returns they are on disk, all of them.

        Raises:
            StoreError: the disk is full or gone; no row of this call is kept, earlier ones are.
        """
        if not rows:
            return
        # One buffer per thread that is in here: rows are encoded while another batch is synced.
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = LineBuffer()
        with buffer.encode(rows) as lines:
            frame = stored_frame(lines)
            with self._lock:
                if not self._is_open:
                    raise StoreError(f"{self.path} is closed", "open another writer")
                self._choose_log()
                try:
                    size = self._commit(frame)
                except OSError as error:
                    raise disk_error(error, self.path, f"{self.n_rows} rows are kept") from error
                self.n_bytes += size
                self.n_rows += len(rows)
        if buffer.n_bytes <= TAIL_BYTES:
            self._buffers.append(buffer)

    def _commit(self, frame: list[bytes | memoryview]) -> int:
        log = self._current
        for is_last in (False, True):
            try:
                size = log.write(frame)
                log.sync(size)
            except OSError as error:
                log.trim()
                # What waits for its packing takes three times the space that it needs.
                if is_last or error.errno != errno.ENOSPC or self._packer is None:
                    raise
                self._packer.make_room()
            else:
                break
        if self._packer is not None:
            self._packer.last_commit = time.monotonic()
        return size

    def _choose_log(self) -> None:
        """Go on to a new tail where the present one is full and the next is ready."""
        size = self._current.size
        if size < HEAD_BYTES:
            return
        if self._packer is None:
            self._current.reserve(TAIL_BYTES)
            if size >= TAIL_BYTES // 2:
                self._packer = _Packer(self.path)
                self._packer.start()
        elif size >= TAIL_BYTES:
            tail = self._packer.take_tail(size)
            if tail is not None:
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
            if self._current.size <= HEAD_BYTES and self._packer is None:
                self._current.close(remove=self.n_rows == 0)
                return
            packer = self._packer or _Packer(self.path)
            packer.pack(self._current)
            packer.close()

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Packer:
    """Moves full tails, compressed, to the packed file, and has the next tail ready.

    A thread: zstd, CRC-32 and the disk all work without the interpreter's lock. Two cores of one
    machine are often halves of one core, so it works while the writer pauses, until too much waits.
    Whatever fails (a full disk, damage) leaves the tail as it is, a segment like any other.
    """

    def __init__(self, first: Path) -> None:
        self.last_commit = time.monotonic()
        self._first = first
        self._packed: _Log | None = None
        self._full: list[_Log] = []
        self._failed: list[_Log] = []
        self._spare: _Log | None = None
        self._n_tails = 0
        self._wants_spare = True
        self._urgent = self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="pack", daemon=True)

    def start(self) -> None:
        """Begin to work beside the writer; without it all of the work is done by ``close``."""
        self._thread.start()

    def take_tail(self, size: int) -> _Log | None:
        """Return an empty tail, or None where none is ready yet: the caller goes on as before.

        ``size`` is what the caller has in the present tail: it counts as waiting.
        """
        with self._changed:
            self._wants_spare = self._spare is None  # also where the last try to make one failed
            self._wait_for(lambda: self._has_room(size))
            tail, self._spare = self._spare, None
            self._wants_spare = True
            self._changed.notify_all()
            return tail

    def pack(self, tail: _Log) -> None:
        """Take a tail that gets no more rows."""
        with self._changed:
            # What failed is tried again with every tail.
            self._full += [*self._failed, tail]
            self._failed.clear()
            self._changed.notify_all()

    def make_room(self) -> None:
        """Give back what is reserved, then pack what waits: return when all of it was tried."""
        with self._changed:
            if self._spare is not None:
                self._spare.close(remove=True)
                self._spare = None
            self._full += self._failed
            self._failed.clear()
            self._wait_for(lambda: not self._full)

    def close(self) -> None:
        """Pack what was given and end the thread. What cannot be packed is left as it is."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is None:
            self._run()
        else:
            self._thread.join()
        for tail in self._failed:
            tail.close(remove=tail.size == 0)
        if self._spare is not None:
            self._spare.close(remove=True)
        if self._packed is not None:
            self._packed.close(remove=self._packed.size == 0)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        """Let the thread pack at once until the condition holds; nobody waits for a dead one."""
        self._urgent = True
        self._changed.notify_all()
        self._changed.wait_for(lambda: condition() or not self._thread.is_alive())
        self._urgent = False

    def _has_room(self, size: int) -> bool:
        # Packing slower than the rows come, for long: the disk must not fill with it. While the
        # thread packs, it makes no tail, and the present one would grow without end.
        waiting = self._backlog() + (0 if self._spare is not None else size)
        return waiting < MOST_BYTES or not (self._full or self._wants_spare)

    def _backlog(self) -> int:
        return sum(tail.size for tail in self._full)

    def _may_pack(self) -> bool:
        return (
            self._closing
            or self._urgent
            or self._backlog() >= BACKLOG_BYTES
            or time.monotonic() - self.last_commit >= PAUSE_S
        )

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._closing or self._wants_spare or (self._full and self._may_pack())):
                    self._changed.wait(PAUSE_S if self._full else None)
                if self._closing and not self._full:
                    return
                makes_spare = self._wants_spare and not self._closing
                tail = self._full[0] if self._full and self._may_pack() else None
            if makes_spare:
                self._make_spare()
            if tail is not None:
                self._try_to_pack(tail)

    def _make_spare(self) -> None:
        # Not in ``append``: making a file durable takes longer than a commit.
        spare = None
        with contextlib.suppress(OSError):
            spare = _Log(self._first.with_suffix(f".{self._n_tails + 1}.log"))
            spare.reserve(TAIL_BYTES)
        with self._changed:
            self._n_tails += spare is not None
            self._spare = spare
            self._wants_spare = False
            self._changed.notify_all()

    def _try_to_pack(self, tail: _Log) -> None:
        try:
            self._pack(tail)
        except (OSError, CorruptError):
            done = False
        else:
            done = True
            tail.close(remove=True)
        with self._changed:
            self._full.remove(tail)
            if not done:
                self._failed.append(tail)
            self._changed.notify_all()

    def _pack(self, tail: _Log) -> None:
        """Append the tail's rows to the packed file, durably. The tail itself is left as it is."""
        if self._packed is None:
            self._packed = _Log(self._first.with_suffix(".packed.log"))
        packed, start = self._packed, self._packed.size
        n_read = size = 0
        lines: list[bytes | memoryview] = []
        try:
            with tail.path.open("rb") as handle:
                for payload in read_payloads(handle, tail.path):
                    n_read += 1
                    lines.append(payload)
                    size += len(payload)
                    if size >= FRAME_BYTES:
                        packed.sync(packed.write(packed_frame(lines)))
                        lines, size = [], 0
            if n_read != tail.n_frames:
                # A reader would take a damaged end for a torn one; we know that it was committed.
                raise CorruptError(f"{tail.path} lost its end", "restore the file from a copy")
            if lines:
                packed.sync(packed.write(packed_frame(lines)))
        except (OSError, CorruptError):
            packed.trim(start)  # the tail still has all of it
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
    else:
        return os.fstat(fd).st_nlink > 0  # else packed and removed while we looked
    finally:
        os.close(fd)
