"""The log of a table: rows that are durable as soon as ``append`` returns.

Every writer has a file of its own, a *segment*, and holds its lock while it is open. Each call of
``append`` adds one *block* to the file and waits for the disk: from then on its rows survive
``kill -9`` and power loss. A block is, all numbers little endian:

======== ====================================================================
4        magic, ``R1`` 0xFF 0x03: 0xFF is in no UTF-8 text, so in no row
4        length of the payload
8        XXH3-64 of the payload
4        low half of the XXH3-64 of the 16 bytes before it
…        payload: one zstd frame of JSON Lines
1        a line feed
======== ====================================================================

An append that never returned leaves a *torn tail*: the beginning of a block, or a block of which
the disk wrote some sectors and not others. It is ignored. Anything else that is not a whole block
is *damage* of rows that were once committed; it is reported with its place, and the search for the
magic finds the whole blocks behind it (``scan``). What tells the two apart: the header has a
checksum of its own, so that its length can be trusted, and no sector of a block is all zeros, since
zstd leaves no such runs and the line feed ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson
import xxhash
import zstandard

from factory.errors import CorruptError, FactoryError, StoreError
from factory.records.schemas import TableForm
from factory.records.text import clean_text
from factory.store.durable import TMP_PREFIX, disk_error, fsync_dir
from factory.store.forgotten import ID_COLUMNS
from factory.store.ledger import REPAIR, Ledger

MAGIC = b"R1\xff\x03"
LEVEL = 1
"""Of zstd. A higher one takes more of a commit's time than the smaller file gives back."""
_HEAD = struct.Struct("<4sIQ")
_CHECK = struct.Struct("<I")
_HEAD_BYTES = _HEAD.size + _CHECK.size
_END = b"\n"
ROLL_BYTES = 64 << 20
_SECTOR = 512
_SEARCH_BYTES = 1 << 20
_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY


class Damage(NamedTuple):
    """Bytes ``start`` to ``stop`` of a segment, which held committed rows and no longer do."""

    start: int
    stop: int


class SegmentWriter:
    """Appends rows to one new segment; thread-safe; holds the file's lock while open.

    Args:
        path: a file that does not exist yet.
        form: what the rows must fit; None takes them as they are.
        ledger: is told that the file is there.
        skip: returns keys of records of which no row is stored; asked once, when the file is there.

    Raises:
        StoreError: the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        form: TableForm | None = None,
        ledger: Ledger | None = None,
        *,
        skip: Callable[[], frozenset[str]] | None = None,
    ) -> None:
        self.path = path
        """The file; a long run goes on in further ones, each of at most about ``ROLL_BYTES``."""
        self._form, self._ledger = form, ledger
        self._n_files = 1
        self.n_rows = 0
        """Rows committed so far."""
        self.n_bytes = 0
        """Bytes committed so far to the present file: its size."""
        self._lock = threading.Lock()
        self._fd: int | None = self._opened(path)
        self._skip = skip() if skip is not None else frozenset()

    def _opened(self, path: Path) -> int:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = _new_locked(path)
        except OSError as error:
            raise disk_error(error, path, f"{self.n_rows} rows are kept") from error
        try:
            if self._ledger is not None:
                self._ledger.note([path], there=True)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _roll(self) -> None:
        """Go on in a new file, so that a reader of a long run never has much to go through."""
        path = self.path.with_name(f"{self.path.stem.partition('.')[0]}.{self._n_files}.log")
        fd = self._opened(path)
        assert self._fd is not None
        os.close(self._fd)
        self.path, self._fd, self.n_bytes = path, fd, 0
        self._n_files += 1

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Commit rows as one block: when this returns they are on disk, all of them.

        Raises:
            StoreError: a row does not fit the table, or the disk is full or gone; no row of this
                call is kept, earlier ones are.
        """
        if self._skip:
            rows = [r for r in rows if not self._skip.intersection(map(r.get, ID_COLUMNS))]
        if not rows:
            return
        # One row in another form would make all of them unreadable, for ever.
        misfit = self._form.misfit(rows) if self._form is not None else None
        if misfit is not None:
            raise StoreError(f"{self.path.parent.name}: {misfit}", "nothing of it is stored")
        # Outside the lock: other threads encode and compress while one waits for the disk.
        block = encode_block(rows)
        with self._lock:
            if self._fd is None:
                raise StoreError(f"{self.path} is closed", "open another writer")
            if self.n_bytes >= ROLL_BYTES:
                self._roll()
            try:
                # Once written, no kill loses the block; once synced, no power cut does. fdatasync
                # leaves out times alone, which nothing reads: a new length is written with it.
                _write_all(self._fd, block, self.n_bytes)
                os.fdatasync(self._fd)
            except OSError as error:
                self._undo()
                raise disk_error(error, self.path, f"{self.n_rows} rows are kept") from error
            self.n_bytes += len(block)
            self.n_rows += len(rows)

    def _undo(self) -> None:
        """Cut off what a failed append left; where even that fails, take no more rows."""
        # A later, shorter block would leave the rest of the failed one behind it, as damage.
        assert self._fd is not None
        try:
            os.ftruncate(self._fd, self.n_bytes)
        except OSError:
            os.close(self._fd)
            self._fd = None

    def close(self) -> None:
        """Release the file: from now on the segment may be sealed. An empty one is removed."""
        with self._lock:
            if self._fd is None:
                return
            if self.n_rows == 0:
                with contextlib.suppress(OSError, FactoryError):
                    if self._ledger is not None:
                        self._ledger.note([self.path], there=False)
                    self.path.unlink()
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


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
        return os.fstat(fd).st_nlink > 0  # else sealed and removed while we looked
    finally:
        os.close(fd)


def encode_block(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as one block. Lone surrogates, which Parquet cannot hold, become "?"."""
    lines = b"".join(map(_line, rows))
    payload = zstandard.ZstdCompressor(level=LEVEL).compress(lines)
    head = _HEAD.pack(MAGIC, len(payload), xxhash.xxh3_64_intdigest(payload))
    return b"".join((head, _CHECK.pack(_low_half(head)), payload, _END))


def read_lines(handle: BinaryIO, path: Path, size: int | None = None) -> Iterator[bytes]:
    """Yield the JSON Lines of every block, in order; stop at a torn tail.

    The writer may be at work meanwhile: what was committed before the call is yielded.

    Raises:
        CorruptError: committed rows are damaged; the message names the file and the place.
    """
    for found in scan(handle, size):
        if isinstance(found, Damage):
            raise CorruptError(f"{path} is damaged at byte {found.start}", REPAIR)
        yield found


def scan(handle: BinaryIO, size: int | None = None) -> Iterator[bytes | Damage]:
    """Yield the JSON Lines of every whole block of a segment, and the damage between them.

    Args:
        handle: the open segment.
        size: read no further than this byte; default: to the end.
    """
    if size is None:
        size = os.fstat(handle.fileno()).st_size
    unpack = zstandard.ZstdDecompressor().decompress
    offset = 0
    while offset < size:
        payload = _payload_at(handle, offset, size)
        if payload is None:
            following = _next_block(handle, offset + 1, size)
            # Asked again: a writer may have finished this block while we looked.
            payload = _payload_at(handle, offset, size)
            if payload is None:
                if following is None and _is_torn(handle, offset, size):
                    return
                stop = following or min(size, _stop_at(handle, offset) or size)
                yield Damage(offset, stop)
                offset = stop
                continue
        yield unpack(payload)
        offset += _HEAD_BYTES + len(payload) + len(_END)


def _line(row: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, option=_OPTIONS)
    except TypeError:
        clean = {
            key: clean_text(value) if isinstance(value, str) else value
            for key, value in row.items()
        }
        return orjson.dumps(clean, option=_OPTIONS)


def _new_locked(path: Path) -> int:
    # Locked before it has its name: nobody may take a new segment for a closed one.
    tmp = path.with_name(f"{TMP_PREFIX}{path.name}")
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tmp.rename(path)
        fsync_dir(path.parent)
    except OSError:
        os.close(fd)
        with contextlib.suppress(OSError):
            tmp.unlink()
        raise
    return fd


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    n = 0
    while n < len(view):
        n += os.pwrite(fd, view[n:], offset + n)


def _low_half(head: bytes) -> int:
    return xxhash.xxh3_64_intdigest(head) & 0xFFFFFFFF


def _read(handle: BinaryIO, start: int, stop: int) -> bytes:
    # Not mapped: a writer that undoes an append may cut the file meanwhile.
    handle.seek(start)
    return handle.read(stop - start)


def _stop_at(handle: BinaryIO, offset: int) -> int | None:
    """Return where the block that begins at ``offset`` should end; None without a whole header."""
    head = _read(handle, offset, offset + _HEAD_BYTES)
    if len(head) < _HEAD_BYTES or head[: len(MAGIC)] != MAGIC:
        return None
    if _CHECK.unpack(head[_HEAD.size :])[0] != _low_half(head[: _HEAD.size]):
        return None
    return offset + _HEAD_BYTES + int(_HEAD.unpack(head[: _HEAD.size])[1]) + len(_END)


def _payload_at(handle: BinaryIO, offset: int, size: int) -> bytes | None:
    """Return the payload of the block at ``offset``; None where no whole block begins there."""
    stop = _stop_at(handle, offset)
    if stop is None or stop > size:
        return None
    block = _read(handle, offset, stop)
    if len(block) < stop - offset or not block.endswith(_END):
        return None
    payload = block[_HEAD_BYTES : -len(_END)]
    digest = _HEAD.unpack(block[: _HEAD.size])[2]
    return payload if digest == xxhash.xxh3_64_intdigest(payload) else None


def _next_block(handle: BinaryIO, start: int, size: int) -> int | None:
    """Return where the first whole block at or after ``start`` begins."""
    for base in range(start, size, _SEARCH_BYTES):
        piece = _read(handle, base, min(size, base + _SEARCH_BYTES + len(MAGIC) - 1))
        at = piece.find(MAGIC)
        while at >= 0:
            if _payload_at(handle, base + at, size) is not None:
                return base + at
            at = piece.find(MAGIC, at + 1)
    return None


def _is_torn(handle: BinaryIO, offset: int, size: int) -> bool:
    """Tell whether what begins at ``offset``, the last in its file, was never committed."""
    stop = _stop_at(handle, offset)
    if stop is None:
        # Without a header it is torn where the file ends in it, or where a sector is missing.
        header_stop = offset + _HEAD_BYTES
        return size < header_stop or _has_gap(handle, offset, header_stop, size)
    # What was written behind it would prove that it had been committed.
    return stop > size or (stop == size and _has_gap(handle, offset, stop, size))


def _has_gap(handle: BinaryIO, start: int, stop: int, size: int) -> bool:
    """Tell whether a sector that holds any of bytes ``start`` to ``stop`` was never written."""
    # Sectors of the file, not of the block: they are what a disk writes whole or not at all. What
    # the first one holds before ``start`` was there earlier.
    first = start - start % _SECTOR
    end = min(size, -(-stop // _SECTOR) * _SECTOR)
    data = bytes(start - first) + _read(handle, start, end)
    sectors = (data[i : i + _SECTOR] for i in range(0, len(data), _SECTOR))
    return not all(map(any, sectors))
