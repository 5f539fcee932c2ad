"""Plain rows in Parquet: rows of any JSON shape out, in bounded memory, and damaged text in.

The type of a column is known only after the last row, so rows wait in a file beside the output
and are written in a second pass. Where a column holds text here and an object there, or integers
beyond 64 bits, it becomes text (JSON for what is no text).
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from factory.errors import UsageError
from factory.records.schemas import arrow_type
from factory.rows.bounds import SMALL_BYTES, Unpacked

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Row = dict[str, Any]
# A type: None (nothing but null), "bool", "int", "float", "text", ["list", of], {name: type};
# "json" is text that holds what has no common type.
Kind = None | str | list[Any] | dict[str, Any]
_INT64 = 1 << 63
_BATCH_ROWS = 1024
_GROUP_BYTES = 64 << 20
FREE_BYTES = 256 << 20
MAX_RATIO = 1000
FREE_VALUES = 1 << 24
"""What a row group holds beyond these is bounded by its own size."""
_BATCH_BYTES = 256 << 20
_BATCH_VALUES = 1 << 22
_USUAL_BYTES = 4 << 20
"""Of a batch whose rows are as large as those of its row group are on average."""
_READ_BYTES = 1 << 20
_VARIABLE = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")


def loads(line: bytes) -> Any:
    """Read JSON with its integers as they are; orjson makes floats of those beyond 64 bits.

    Raises:
        ValueError: it is no JSON.

    >>> loads(b'[18446744073709551617, 1.5]')
    [18446744073709551617, 1.5]
    """
    import json

    try:
        found = orjson.loads(line)
    except ValueError:
        if not _LONG_INTEGER.search(line):
            raise
    else:
        if not _has_long(found):
            return found

    return json.loads(line)


def _has_long(value: Any) -> bool:
    """Tell whether a number is so large that it may have been an integer of more than 64 bits.

    Looking at the values costs less than looking for digits in all the text.
    """
    if type(value) is float:
        return abs(value) >= _INT64
    if type(value) is dict:
        return any(_has_long(v) for v in value.values() if type(v) in _MAY_HOLD_LONG)
    if type(value) is list:
        return any(_has_long(v) for v in value if type(v) in _MAY_HOLD_LONG)
    return False


_MAY_HOLD_LONG = (float, dict, list)
_LONG_INTEGER = re.compile(rb"[\[:,]\s*-?\d{19}")


def kind_of(value: object) -> Kind:
    """Return the type of a value as JSON would show it.

    >>> kind_of({"a": [1, None], "b": "x"})
    {'a': ['list', 'int'], 'b': 'text'}
    """
    if value is None or isinstance(value, bool):
        return None if value is None else "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, list | tuple):
        kind: Kind = None
        for item in value:
            kind = joined(kind, kind_of(item))
        return ["list", kind]
    if isinstance(value, Mapping):
        return {str(k): kind_of(v) for k, v in value.items()}
    return "text"


def joined(a: Kind, b: Kind) -> Kind:
    """Return the type that holds both.

    >>> joined("int", "float"), joined({"a": "int"}, {"b": "text"}), joined("text", {"a": None})
    ('float', {'a': 'int', 'b': 'text'}, 'json')
    """
    if a is None or a == b:
        return b
    if b is None:
        return a
    if isinstance(a, dict) and isinstance(b, dict):
        return {name: joined(a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b])}
    if isinstance(a, list) and isinstance(b, list):
        return ["list", joined(a[1], b[1])]
    if {str(a), str(b)} == {"int", "float"}:
        return "float"
    return "json"


class Spool:
    """Rows waiting in a file until their columns are known.

    Args:
        path: of the file; it is the caller's to remove.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kinds: dict[str, Kind] = {}

    def fill(
        self, batches: Iterable[Sequence[Mapping[str, Any]]], dump: Any, *, handle: BinaryIO
    ) -> None:
        """Write all rows with ``dump`` and learn their columns' types."""
        kinds = self._kinds
        for batch in batches:
            for row in batch:
                handle.write(dump(row))
                for name, value in row.items():
                    # Most values repeat the type that is known: that costs one comparison.
                    known = kinds.setdefault(name, None)
                    if value is not None and not _is_plain(value, known):
                        kinds[name] = joined(known, kind_of(value))

    def write(self, out: Path) -> None:
        """Write the Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {name: _writable(kind) for name, kind in self._kinds.items()}
        schema = pa.schema([(name, _arrow(kind)) for name, kind in kinds.items()])
        with _file(out, "wb") as sink, pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            waiting: list[pa.RecordBatch] = []
            for rows in self._rows():
                arrays = [
                    pa.array([_shaped(row.get(name), kind) for row in rows], type=_arrow(kind))
                    for name, kind in kinds.items()
                ]
                waiting.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
                if sum(batch.nbytes for batch in waiting) >= _GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting = []
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting))

    def _rows(self) -> Iterator[list[Row]]:
        with self._path.open("rb") as handle:
            rows: list[Row] = []
            size = 0
            for line in handle:
                rows.append(loads(line))
                size += len(line)
                if len(rows) >= _BATCH_ROWS or size >= _GROUP_BYTES // 4:
                    yield rows
                    rows, size = [], 0
            if rows:
                yield rows


def _is_plain(value: object, kind: Kind) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "float":
        return isinstance(value, float)
    if kind == "int":
        return type(value) is int and -_INT64 <= value < _INT64
    return kind == "json"


def _writable(kind: Kind) -> Kind:
    """Replace what Parquet cannot hold: an object without any key."""
    if isinstance(kind, dict):
        return {name: _writable(inner) for name, inner in kind.items()} or "json"
    if isinstance(kind, list):
        return ["list", _writable(kind[1])]
    return kind


def _arrow(kind: Kind) -> pa.DataType:
    import pyarrow as pa

    if isinstance(kind, dict):
        return pa.struct([(name, _arrow(inner)) for name, inner in kind.items()])
    if isinstance(kind, list):
        return pa.list_(_arrow(kind[1]))
    if kind is None:
        return pa.null()
    # Text of a column may be more than the 2 GiB that Arrow's short form counts to.
    return arrow_type(kind) if kind in ("bool", "int", "float") else pa.large_string()


def _shaped(value: Any, kind: Kind) -> Any:
    if value is None or (isinstance(kind, str) and kind not in ("json", "float", "text")):
        return value
    if kind == "float":
        return float(value)
    if kind == "json" or kind == "text":
        return value if isinstance(value, str) else _as_json(value)
    if isinstance(kind, list):
        return [_shaped(item, kind[1]) for item in value]
    if isinstance(kind, dict):
        return {name: _shaped(value.get(name), inner) for name, inner in kind.items()}
    return value


def _as_json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits
        import json

        return json.dumps(value, ensure_ascii=False)


def read(path: str, *, n_rows: int, groups: Sequence[int] | None = None) -> Iterator[Row | str]:
    """Yield the rows of a Parquet file; for a row whose text is not UTF-8, why it has none.

    Args:
        path: the file.
        n_rows: of a batch in memory.
        groups: row groups to read; None: all.

    Raises:
        UsageError: it is no Parquet file, or a damaged one.
    """
    import pyarrow as pa

    try:
        if Path(path).stat().st_size < SMALL_BYTES:
            for _ in _batches(path, n_rows, groups):
                pass
        for batch in _batches(path, n_rows, groups):
            try:
                yield from batch.to_pylist()
            except UnicodeDecodeError:
                yield from (_one(batch, i) for i in range(batch.num_rows))
    except MemoryError:
        raise UsageError(f"a row of {path} needs more memory than there is", "check it") from None
    except (pa.ArrowException, OSError, RecursionError) as error:
        detail = " ".join(str(error).split())[:160]
        raise UsageError(f"{path} is not readable Parquet ({detail})", "check the file") from None


def _batches(path: str, n_rows: int, groups: Sequence[int] | None) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    unpacked = Unpacked.of(path)
    # Without pre_buffer, and with a buffer, a whole row group's bytes are not held at once.
    options = {"pre_buffer": False, "buffer_size": _READ_BYTES}
    with _file(path, "rb") as source, pq.ParquetFile(source, **options) as file:
        unpacked.add(0, file.metadata.num_rows)
        at_once = min(n_rows, _rows_at_once(file, path))
        for batch in file.iter_batches(batch_size=at_once, row_groups=groups):
            unpacked.add(batch.nbytes)
            yield batch


def _file(path: str | Path, mode: str) -> Any:
    """Open a file for Arrow by the bytes of its name: as text it may be taken for a URL."""
    import pyarrow as pa

    return pa.OSFile(os.fsencode(path), mode)


def _rows_at_once(file: pq.ParquetFile, path: str) -> int:
    """Return how many rows surely fit into memory, however they are packed.

    A dictionary is written once and may stand for every row, so that its size bounds a value; what
    is no dictionary is as large as it says.

    Raises:
        UsageError: far more is packed in than ever was data.
    """
    size = Path(path).stat().st_size
    largest = values_per_row = bytes_per_row = 0
    with Path(path).open("rb") as handle:
        for at in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(at)
            chunks = [group.column(i) for i in range(group.num_columns)]
            packed = sum(c.total_compressed_size for c in chunks)
            unpacked = sum(c.total_uncompressed_size for c in chunks)
            n_values = max((c.num_values for c in chunks), default=0)
            if (
                not 0 <= unpacked <= max(FREE_BYTES, MAX_RATIO * min(packed, size))
                or not 0 <= n_values <= max(FREE_VALUES, 8 * min(packed, size))
                or not 0 <= group.num_rows <= max(FREE_VALUES, 8 * size)
            ):
                raise UsageError(
                    f"{path}: {size:,} bytes unpack to {unpacked:,} bytes and {n_values:,} values",
                    "this is no data file",
                )
            largest = max(largest, sum(_dictionary_bytes(handle, c) for c in chunks))
            if group.num_rows:
                values_per_row = max(values_per_row, n_values // group.num_rows)
                bytes_per_row = max(bytes_per_row, unpacked // group.num_rows)
    by_values = _BATCH_VALUES // max(1, values_per_row)
    usual = _USUAL_BYTES // max(1, bytes_per_row)
    return max(1, min(_BATCH_BYTES // max(1, largest), by_values, usual))


def _dictionary_bytes(handle: BinaryIO, chunk: Any) -> int:
    """Return the unpacked size of a column's dictionary, from the header of its page (Thrift)."""
    if not chunk.has_dictionary_page or chunk.physical_type not in _VARIABLE:
        return 0
    handle.seek(chunk.dictionary_page_offset)
    head = handle.read(24)
    # Field 1, the kind of page, and field 2, its size: a type byte and a zigzag varint each.
    at, found = 0, 0
    for _ in range(2):
        if head[at : at + 1] != b"\x15":
            return int(chunk.total_uncompressed_size)
        found, at = _varint(head, at + 1)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            break
    return (value >> 1) ^ -(value & 1), at


def _one(batch: pa.RecordBatch, row: int) -> Row | str:
    try:
        found: Row = next(itertools.chain(batch.slice(row, 1).to_pylist()))
        return found
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 ({error.reason})"
