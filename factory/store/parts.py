"""Parts: sealed Parquet files under a name that is the hash of their content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import CorruptError
from factory.records.schemas import TableForm
from factory.store.durable import TMP_PREFIX, disk_error, fsync_dir, sha256_file
from factory.store.ledger import REPAIR

NARROW_ROWS = 65_536
TEXT_ROWS = 2_048
_TEXTS = {"completion", "messages"}
_COPIED_BYTES = 1 << 18


@dataclass(frozen=True)
class Part:
    """One sealed Parquet file, as the manifest names it."""

    name: str
    sha256: str
    rows: int
    bytes: int


class PartWriter:
    """Writes one part: row groups into a temporary file, then its final, content-addressed name."""

    def __init__(self, folder: Path, form: TableForm) -> None:
        self._folder = folder
        self._schema = form.arrow_schema()
        self._tmp = _unfinished(folder)
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0

    def write(self, frame: pl.DataFrame) -> int:
        """Append one row group; returns its size in memory, in bytes."""
        table = frame.select(self._schema.names).to_arrow().cast(self._schema)
        try:
            if self._writer is None:
                # Absolute: pyarrow takes a relative name with a colon for a URL.
                self._writer = parquet_writer(self._tmp.absolute(), self._schema)
            self._writer.write_table(table, row_group_size=_group_rows(table))
        except OSError as error:
            raise disk_error(error, self._folder, "the segments are kept") from error
        self._rows += frame.height
        return int(table.nbytes)

    def finish(self) -> Part:
        """Close, fsync, hash and rename; durable when this returns."""
        assert self._writer is not None
        try:
            self._writer.close()
            with self._tmp.open("rb") as handle:
                os.fsync(handle.fileno())
            part = _named(self._tmp, sha256_file(self._tmp), self._rows)
        except OSError as error:
            raise disk_error(error, self._folder, "the segments are kept") from error
        self._writer = None
        return part

    def abandon(self) -> None:
        """Remove what is left of an unfinished part."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
        with contextlib.suppress(FileNotFoundError):
            self._tmp.unlink()


def parquet_writer(sink: Path | BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    """Return the writer of a part's Parquet."""
    # A dictionary of long texts would be hashed, found too large, and written again as they are.
    short = [name for name in schema.names if name not in _TEXTS]
    return pq.ParquetWriter(
        sink, schema, compression="zstd", write_page_checksum=True, use_dictionary=short
    )


def copied(source: BinaryIO, folder: Path, rows: int) -> Part:
    """Make a part of a file that holds one; durable when this returns."""
    tmp = _unfinished(folder)
    digest = hashlib.sha256()
    try:
        source.seek(0)
        with tmp.open("wb") as handle:
            while data := source.read(_COPIED_BYTES):
                digest.update(data)
                handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        return _named(tmp, digest.hexdigest(), rows)
    except OSError as error:
        raise disk_error(error, folder, "what was there is kept") from error
    finally:
        tmp.unlink(missing_ok=True)


def _unfinished(folder: Path) -> Path:
    return folder / f"{TMP_PREFIX}part-{os.getpid()}-{secrets.token_hex(4)}"


def _named(tmp: Path, digest: str, rows: int) -> Part:
    name, size = f"part-{digest[:16]}.parquet", tmp.stat().st_size
    tmp.replace(tmp.with_name(name))
    fsync_dir(tmp.parent)
    return Part(name, digest, rows, size)


def _group_rows(table: pa.Table) -> int:
    """Rows per row group, so that one group of long traces stays near 64 MiB."""
    fitting = (64 << 20) * int(table.num_rows) // max(1, int(table.nbytes))
    return max(1024, min(NARROW_ROWS, fitting))


def read_part(path: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield a part's row groups; page checksums are verified.

    Raises:
        CorruptError: the file is damaged or gone; the message names it.
    """
    rows = TEXT_ROWS if _TEXTS.intersection(columns) else NARROW_ROWS
    try:
        with pq.ParquetFile(path.absolute(), page_checksum_verification=True) as file:
            for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
                frame = pl.from_arrow(pa.Table.from_batches([batch]))
                assert isinstance(frame, pl.DataFrame)
                yield frame.select(columns)
    except FileNotFoundError:
        raise CorruptError(f"{path} is missing", REPAIR) from None
    except (OSError, pa.ArrowException) as error:
        detail = " ".join(str(error).split())[:160]
        raise CorruptError(f"{path} is damaged ({detail})", REPAIR) from None


def halves_of(keys: pl.Series) -> pl.DataFrame:
    """Return hexadecimal keys as two unsigned 64-bit columns: a fifth of the memory of text."""
    text = keys.alias("key").to_frame()
    return text.select(
        pl.col("key")
        .str.slice(0, 16)
        .str.decode("hex")
        .bin.reinterpret(dtype=pl.UInt64)
        .alias("hi"),
        pl.col("key")
        .str.slice(16, 16)
        .str.decode("hex")
        .bin.reinterpret(dtype=pl.UInt64)
        .alias("lo"),
    )
