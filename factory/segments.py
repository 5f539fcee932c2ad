"""Segments: open logs of rows, one writer each, one checksummed zstd frame per group commit.

Frame: magic (4 bytes), length and CRC-32 of the payload (little endian), payload = zstd of JSON
Lines. ``append`` returns after fdatasync: from then on the rows survive ``kill -9`` and power loss.

Reading tells a torn tail (an append that never returned: ignored) from damage (a flipped bit in
committed bytes: ``CorruptError`` names the file). A frame that is whole in length but fails its
checksum is damage, unless its payload ends in zeros, as a power loss leaves it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import zstandard

from factory.durable import TMP_PREFIX, disk_error, fsync_dir
from factory.errors import CorruptError, StoreError

MAGIC = b"R1F\x01"
_HEADER = struct.Struct("<4sII")


def encode_rows(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the rows as JSON Lines; lone surrogates, which Parquet cannot hold, become U+FFFD."""
    return b"".join(_encode(row) for row in rows)


def _encode(row: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        clean = {
            key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
            for key, value in row.items()
        }
        return orjson.dumps(clean, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)


class SegmentWriter:
    """Appends rows to one new segment file; thread-safe; holds the file's lock while open.

    Args:
        path: a file that does not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_rows = 0
        self._lock = threading.Lock()
        self._compressor = zstandard.ZstdCompressor(level=1, write_checksum=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Locked before it has its name: nobody may take a new segment for a closed one.
            tmp = path.with_name(f"{TMP_PREFIX}{path.name}")
            self._fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            tmp.rename(path)
            fsync_dir(path.parent)
        except OSError as error:
            raise disk_error(error, path, "nothing was written") from error
        self._offset = 0

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Commit rows: when this returns they are on disk, all of them.

        Raises:
            StoreError: the disk is full or gone; no row of this call is kept, earlier ones are.
        """
        if not rows:
            return
        lines = encode_rows(rows)
        with self._lock:
            if self._fd < 0:
                raise StoreError(f"{self.path} is closed", "open another writer")
            # A zstd compressor is not thread-safe: two at once crash or write rubbish.
            payload = self._compressor.compress(lines)
            frame = _HEADER.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload
            try:
                view = memoryview(frame)
                while view:
                    view = view[os.write(self._fd, view) :]
                os.fdatasync(self._fd)
            except OSError as error:
                # Cut the half frame off, so that later frames stay readable.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._offset)
                raise disk_error(error, self.path, f"{self.n_rows} rows are kept") from error
            self._offset += len(frame)
            self.n_rows += len(rows)

    @property
    def n_bytes(self) -> int:
        """Bytes committed so far."""
        return self._offset

    def close(self) -> None:
        """Release the file: from now on it may be sealed. An empty segment is removed."""
        with self._lock:
            if self._fd >= 0:
                if self._offset == 0:
                    with contextlib.suppress(OSError):
                        self.path.unlink()
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_payloads(handle: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the JSON Lines of every whole frame, in order; stop at a torn tail.

    Raises:
        CorruptError: committed bytes are damaged.
    """
    size = os.fstat(handle.fileno()).st_size
    decompressor = zstandard.ZstdDecompressor()
    offset = 0
    while offset < size:
        handle.seek(offset)
        header = handle.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return
        magic, length, crc = _HEADER.unpack(header)
        payload = handle.read(length) if magic == MAGIC and length <= size - offset else b""
        if len(payload) == length and magic == MAGIC and zlib.crc32(payload) == crc:
            yield decompressor.decompress(payload)
            offset += _HEADER.size + length
            continue
        if _is_torn_tail(handle, offset, header, size):
            return
        raise CorruptError(
            f"{path} is damaged at byte {offset}",
            "restore the file from a copy, or move it away: its rows then count as missing",
        )


def _is_torn_tail(handle: BinaryIO, offset: int, header: bytes, size: int) -> bool:
    handle.seek(offset)
    rest = handle.read()
    if not rest.rstrip(b"\0"):
        return True  # space that was allocated but never written
    magic, length, _ = _HEADER.unpack(header)
    whole = magic == MAGIC and offset + _HEADER.size + length <= size
    if whole and not rest.endswith(b"\0" * 8):
        return False
    # A later whole frame proves that this one was once committed.
    at = rest.find(MAGIC, 1)
    while at >= 0:
        if len(rest) - at >= _HEADER.size:
            _, length, crc = _HEADER.unpack_from(rest, at)
            body = rest[at + _HEADER.size : at + _HEADER.size + length]
            if len(body) == length and zlib.crc32(body) == crc:
                return False
        at = rest.find(MAGIC, at + 1)
    # A damaged magic or length with nothing behind it: torn only if the bytes are a prefix of a
    # frame that was being written, which starts with the magic.
    return rest[: len(MAGIC)] == MAGIC[: len(rest)]


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
