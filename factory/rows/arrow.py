"""Arrow files as plain rows, in bounded memory."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from factory.errors import UsageError
from factory.rows.bounds import SMALL_BYTES, Unpacked

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
_MAX_BATCH_BYTES = 1 << 30
_SLICE_BYTES = 64 << 20
_SLICE_ROWS = 256
_MAGIC = b"ARROW1"


def rows(path: str) -> Iterator[Row]:
    """Yield the rows of an Arrow file, with or without a footer.

    Raises:
        UsageError: it is neither, or far more is packed in than ever was data.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(os.fsencode(path)) as source:
            _check_claims(source, path)
            if source.size() < SMALL_BYTES:
                for _ in _slices(source, path):
                    pass
            for part in _slices(source, path):
                yield from itertools.chain(part.to_pylist())
    except (pa.ArrowException, OSError, struct.error) as error:
        detail = " ".join(str(error).split())[:160]
        raise UsageError(f"{path} is not readable Arrow ({detail})", "check the file") from None


def _slices(source: pa.MemoryMappedFile, path: str) -> Iterator[pa.RecordBatch]:
    """Yield parts of the batches that fit into memory as rows, however they are packed."""
    import pyarrow as pa

    if _is_file(source):
        file = pa.ipc.open_file(source)
        batches = (file.get_batch(i) for i in range(file.num_record_batches))
    else:
        batches = iter(pa.ipc.open_stream(source))
    unpacked = Unpacked.of(path)
    for batch in batches:
        unpacked.add(0, batch.num_rows)
        batch.validate(full=True)  # an offset out of bounds would be read as it is
        start = 0
        while start < batch.num_rows:
            n = _SLICE_ROWS
            while (size := _plain_bytes(part := batch.slice(start, n))) > _SLICE_BYTES and n > 1:
                n //= 2
            unpacked.add(size)
            yield part
            start += n


def _is_file(source: pa.MemoryMappedFile) -> bool:
    """Tell a file, with a list of its batches at the end, from a stream; go to its beginning."""
    source.seek(max(0, source.size() - len(_MAGIC)))
    is_file = bool(source.read(len(_MAGIC)) == _MAGIC)
    source.seek(0)
    return is_file


def _plain_bytes(batch: pa.RecordBatch) -> int:
    """Return the size of a batch's values, each of a dictionary as often as it stands there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = 0
    for column in batch.columns:
        if isinstance(column, pa.DictionaryArray) and _is_text(column.type.value_type):
            sizes = pc.take(pc.binary_length(column.dictionary), column.indices)
            total += pc.sum(sizes).as_py() or 0
        else:
            total += column.nbytes
    return int(total)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    )  # fmt: skip


# ---- what compressed batches say of themselves


def _check_claims(source: pa.MemoryMappedFile, path: str) -> None:
    """Refuse a file whose compressed batches say that they unpack to far more than they are.

    Arrow unpacks a whole batch at once, into as much memory as the first eight bytes of each
    buffer say. Its reader has no limit, so they are read before.

    Raises:
        UsageError: a batch is too large, or all of them are.
    """
    unpacked = Unpacked.of(path)
    for message in _messages(source):
        size = _claimed(message)
        if size > _MAX_BATCH_BYTES:
            raise UsageError(
                f"{path}: a batch unpacks to {size:,} bytes", "write it in smaller batches"
            )
        unpacked.add(size)


def _messages(source: pa.MemoryMappedFile) -> Iterator[pa.Message]:
    """Yield the messages that hold batches and dictionaries: of a file, those that it lists."""
    import pyarrow as pa

    if not _is_file(source):
        yield from pa.ipc.MessageReader.open_stream(source)
        return
    source.seek(max(0, source.size() - len(_MAGIC) - 4))
    n = _u32(source.read(4), 0)
    source.seek(max(0, source.size() - len(_MAGIC) - 4 - n))
    foot = source.read(n)
    for number in (2, 3):
        field = _field(foot, _u32(foot, 0), number)
        vector = _table(foot, field) if field else 0
        for block in range(_u32(foot, vector) if field else 0):
            source.seek(struct.unpack_from("<q", foot, vector + 4 + 24 * block)[0])
            yield pa.ipc.read_message(source)


def _claimed(message: pa.Message) -> int:
    """Return the unpacked bytes of a message's buffers; 0 where they are not compressed.

    Its head is a FlatBuffer: Message.fbs of the Arrow format (the list of a file: File.fbs).
    """
    head = message.metadata.to_pybytes()
    at = _u32(head, 0)
    if message.type not in ("record batch", "dictionary"):
        return 0
    batch = _table(head, _field(head, at, 2))
    if message.type == "dictionary":
        batch = _table(head, _field(head, batch, 1))
    if not _field(head, batch, 3):
        return 0
    vector = _table(head, _field(head, batch, 2))
    body, total = message.body, 0
    for number in range(_u32(head, vector)):
        offset, length = struct.unpack_from("<qq", head, vector + 4 + 16 * number)
        if length >= 8:
            (claim,) = struct.unpack_from("<q", body, offset)
            # -1 says that the buffer is plain.
            total += claim if claim != -1 else length
            if claim < -1:
                raise struct.error("a buffer has a negative size")
    return total


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """Return where a field of a FlatBuffer table stands, 0 where it is left out."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, entries)[0]:
        return 0
    offset = struct.unpack_from("<H", data, entries + 4 + 2 * number)[0]
    return table + int(offset) if offset else 0


def _table(data: bytes, field: int) -> int:
    """Return where what a field points to stands."""
    return field + _u32(data, field)
