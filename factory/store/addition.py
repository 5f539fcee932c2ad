"""Rows on their way into a table: written piece by piece, in force all at once.

An import brings far more text than should be held in memory, and what it has read is not yet
there for anybody. Its rows go to a file without a name, which is gone with its process, however
that ends; ``commit`` copies the file to a part under the table's lock.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import StoreError
from factory.records.text import clean_text
from factory.store.durable import disk_error
from factory.store.forgotten import ID_COLUMNS
from factory.store.parts import TEXT_ROWS, copied, parquet_writer
from factory.store.table import Table


class Addition:
    """Rows for one table, of which none counts before ``commit``.

    Args:
        table: where the rows go.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._schema = table.form.arrow_schema()
        self._file: BinaryIO | None = None
        self._writer: pq.ParquetWriter | None = None
        self._n_rows = 0

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows; a column that a row leaves out is null.

        Raises:
            StoreError: a row does not fit the table, or the disk is full; no row is kept.
        """
        if not rows:
            return
        form = self._table.form
        columns = form.columns_of(rows)
        if columns is None:
            raise StoreError(f"{self._table.name}: {form.misfit(rows)}", "nothing of it is stored")
        arrays = [_array(columns[f.name], f.type) for f in self._schema]
        try:
            if self._writer is None:
                file = tempfile.TemporaryFile(dir=self._table.folder)  # noqa: SIM115 - until close
                self._file = cast(BinaryIO, file)
                self._writer = parquet_writer(self._file, self._schema)
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        except OSError as error:
            raise disk_error(error, self._table.folder, "what was there is kept") from error
        self._n_rows += len(rows)

    def commit(self) -> int:
        """Put the rows into force whose key no fact has; return their number.

        Raises:
            StoreError: the disk is full or gone; no row is kept.
        """
        file = self._file
        if self._writer is None or file is None:
            return 0
        try:
            self._writer.close()
            names = list(dict.fromkeys(c for c in (self._table.form.key, *ID_COLUMNS)
                                       if c in self._table.form.columns))  # fmt: skip
            told = pl.concat(self._frames(names)).with_row_index("_row")
            with self._table.lock():
                new = self._table.unknown(told)["_row"]
                if len(new) == self._n_rows:
                    self._table.put(lambda: copied(file, self._table.folder, self._n_rows))
                elif len(new):
                    self._table.put(lambda: self._table.write_part(self._rest(new)))
        except OSError as error:
            raise disk_error(error, self._table.folder, "what was there is kept") from error
        finally:
            self.close()
        return len(new)

    def close(self) -> None:
        """Drop the rows that were not committed."""
        if self._file is not None:
            self._file.close()
        self._file, self._writer, self._n_rows = None, None, 0

    def _frames(self, names: Sequence[str]) -> Iterator[pl.DataFrame]:
        with pq.ParquetFile(self._file) as file:
            for batch in file.iter_batches(batch_size=TEXT_ROWS, columns=list(names)):
                yield cast(pl.DataFrame, pl.from_arrow(pa.Table.from_batches([batch])))

    def _rest(self, kept: pl.Series) -> Iterator[pl.DataFrame]:
        keep = pl.repeat(False, self._n_rows, dtype=pl.Boolean, eager=True).scatter(kept, True)
        start = 0
        for frame in self._frames(self._schema.names):
            yield frame.filter(keep[start : start + frame.height])
            start += frame.height


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind, from_pandas=True)
    except UnicodeEncodeError:
        return pa.array([clean_text(v) if v else v for v in values], kind)
