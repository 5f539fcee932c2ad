"""Frames: the form of rows in an open log, one checksummed frame per group commit.

Frame: magic (4 bytes), length and checksum of the payload (4 bytes each, little endian), payload.

======== ============================ =======================
magic    payload                      checksum
======== ============================ =======================
R1F 0x01 zstd frame of JSON Lines     CRC-32
R1F 0x02 JSON Lines as they are       low half of XXH3-64
======== ============================ =======================

Reading tells a torn tail (an append that never returned: ignored) from damage (a flipped bit in
committed bytes: ``CorruptError`` names the file). Behind the last frame a file may have reserved
space, which reads as zeros; so may pieces of a frame that a power loss left unfinished. JSON Lines
hold no zero byte, so a stored frame that is whole in length, fails its checksum, and has every
sector written and its end in place, is damage.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson
import xxhash
import zstandard

from factory.errors import CorruptError

PACKED, STORED = b"R1F\x01", b"R1F\x02"
_HEADER = struct.Struct("<4sII")
_MARK = PACKED[:3]
_SECTOR = 512
_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY


class LineBuffer:
    """Memory in which rows become JSON Lines, one batch after the other."""

    # Kept, since every new buffer of this size is given back to the system when it is freed and
    # faulted in again by the next: on a virtual machine three times the cost of the encoding.

    def __init__(self) -> None:
        self._bytes = BytesIO()

    @property
    def n_bytes(self) -> int:
        """Bytes that it holds on to."""
        return len(self._bytes.getbuffer())

    def encode(self, rows: Iterable[Mapping[str, Any]]) -> memoryview:
        """Return the rows as JSON Lines; lone surrogates, which Parquet cannot hold, become "?".

        The view must be released before the next call; use it in a ``with``.
        """
        self._bytes.seek(0)
        write, dumps = self._bytes.write, orjson.dumps
        for row in rows:
            try:
                line = dumps(row, option=_OPTIONS)
            except TypeError:
                line = _encode_clean(row)
            write(line)
        return self._bytes.getbuffer()[: self._bytes.tell()]


def _encode_clean(row: Mapping[str, Any]) -> bytes:
    clean = {
        key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for key, value in row.items()
    }
    return orjson.dumps(clean, option=_OPTIONS)


def packed_frame(lines: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the pieces of a compressed frame: a third to a quarter of the size of its text."""
    # Piece by piece, not joined: zstd works without the interpreter's lock, a join does not.
    size = sum(map(len, lines))
    packer = zstandard.ZstdCompressor(level=1, write_checksum=False).compressobj(size=size)
    pieces: list[bytes | memoryview] = [piece for line in lines if (piece := packer.compress(line))]
    pieces.append(packer.flush())
    crc = 0
    for packed in pieces:
        crc = zlib.crc32(packed, crc)
    return [_HEADER.pack(PACKED, sum(map(len, pieces)), crc), *pieces]


def stored_frame(lines: bytes | memoryview) -> list[bytes | memoryview]:
    """Return the pieces of a frame that costs a fortieth of the time, at full size."""
    # XXH3 at 10 GB/s: CRC-32 (3 GB/s) would cost as much again as encoding the rows.
    return [_HEADER.pack(STORED, len(lines), xxhash.xxh3_64_intdigest(lines) & 0xFFFFFFFF), lines]


def _is_whole(magic: bytes, length: int, checksum: int, payload: bytes) -> bool:
    if len(payload) != length:
        return False
    if magic == STORED:
        return xxhash.xxh3_64_intdigest(payload) & 0xFFFFFFFF == checksum
    return magic == PACKED and zlib.crc32(payload) == checksum


def read_payloads(handle: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the JSON Lines of every whole frame, in order; stop at a torn tail.

    The writer may be at work meanwhile: what was committed before the call is yielded.

    Raises:
        CorruptError: committed bytes are damaged.
    """
    size = os.fstat(handle.fileno()).st_size
    decompressor = zstandard.ZstdDecompressor()
    offset = 0
    while offset < size:
        frame = _Frame.read(handle, offset, size)
        if not frame.is_whole:
            if _is_torn_tail(handle, frame, size):
                return
            # A writer finished it while we looked, and went on.
            frame = _Frame.read(handle, offset, size)
        if not frame.is_whole:
            raise CorruptError(
                f"{path} is damaged at byte {offset}",
                "restore the file from a copy, or move it away: its rows then count as missing",
            )
        is_packed = frame.magic == PACKED
        yield decompressor.decompress(frame.payload) if is_packed else frame.payload
        offset = frame.stop


class _Frame(NamedTuple):
    """What stands at ``offset``: a frame, or what is left of one."""

    offset: int
    header: bytes
    payload: bytes
    """Empty where the header fits no frame within the file."""

    @classmethod
    def read(cls, handle: BinaryIO, offset: int, size: int) -> _Frame:
        handle.seek(offset)
        header = handle.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return cls(offset, header, b"")
        magic, length, _ = _HEADER.unpack(header)
        fits = magic in (PACKED, STORED) and 0 < length <= size - offset - _HEADER.size
        payload = handle.read(length) if fits else b""
        return cls(offset, header, payload if len(payload) == length else b"")

    @property
    def magic(self) -> bytes:
        return self.header[:4]

    @property
    def stop(self) -> int:
        return self.offset + len(self.header) + len(self.payload)

    @property
    def is_whole(self) -> bool:
        return bool(self.payload) and self.has_payload(self.payload)

    def has_payload(self, payload: bytes) -> bool:
        """Tell whether ``payload`` is what the header's checksum was made of."""
        checksum = _HEADER.unpack(self.header)[2]
        if self.magic == STORED:
            return bool(xxhash.xxh3_64_intdigest(payload) & 0xFFFFFFFF == checksum)
        return bool(zlib.crc32(payload) == checksum)

    @property
    def has_gap(self) -> bool:
        """Tell whether a sector of it was never written."""
        # Sectors of the file, not of the frame: they are what a disk writes whole or not at all.
        # What a frame has of its last sector may be short; what zstd wrote may end in zeros.
        least = 1 if self.magic == STORED else 16
        data = self.header + self.payload
        first = -self.offset % _SECTOR
        sectors = [data[:first], *(data[i : i + _SECTOR] for i in range(first, len(data), _SECTOR))]
        return any(len(s) >= least and _is_zero(s) for s in sectors)


def _is_torn_tail(handle: BinaryIO, frame: _Frame, size: int) -> bool:
    # Read in pieces, not mapped: a writer that undoes an append may cut the file meanwhile.
    if all(_is_zero(piece) for _, piece in _pieces(handle, frame.offset + _HEADER.size, size)):
        return True  # space that was allocated but never written: no payload is all zeros
    if frame.payload and not _may_be_unfinished(handle, frame, size):
        return False
    # A later whole frame proves that this one was once committed.
    if any(_Frame.read(handle, at, size).is_whole for at in _marks(handle, frame.offset + 1, size)):
        return False
    # So does its checksum, where only the length is damaged. A damaged magic is no torn frame
    # either: those begin with the magic, or with a sector that was never written.
    if frame.magic not in (PACKED, STORED):
        return _is_zero(frame.header[: -frame.offset % _SECTOR or _SECTOR])
    handle.seek(frame.offset + _HEADER.size)
    rest = handle.read(size - frame.offset - _HEADER.size)
    return not (frame.has_payload(rest) or frame.has_payload(rest.rstrip(b"\0")))


def _may_be_unfinished(handle: BinaryIO, frame: _Frame, size: int) -> bool:
    """Tell whether a frame that fits in length may be one whose append never returned."""
    if frame.has_gap:
        return True
    if frame.magic == STORED:
        return frame.payload.endswith(b"\0")
    handle.seek(size - 8)  # a packed frame may end in a zero, and its file reserves nothing
    return handle.read(8) == bytes(8)


def _is_zero(data: bytes) -> bool:
    return data == bytes(len(data))


def _pieces(
    handle: BinaryIO, start: int, stop: int, *, overlap: int = 0
) -> Iterator[tuple[int, bytes]]:
    step = 1 << 20
    for at in range(start, stop, step):
        handle.seek(at)
        yield at, handle.read(min(step + overlap, stop - at))


def _marks(handle: BinaryIO, start: int, stop: int) -> Iterator[int]:
    """Yield the offsets in start..stop at which a frame may begin."""
    for base, piece in _pieces(handle, start, stop, overlap=len(_MARK) - 1):
        at = piece.find(_MARK)
        while at >= 0:
            yield base + at
            at = piece.find(_MARK, at + 1)
