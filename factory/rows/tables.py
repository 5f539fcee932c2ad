"""CSV and Arrow files as plain rows."""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from factory.errors import UsageError
from factory.rows.json_values import MAX_BYTES
from factory.rows.parquet import FREE_ROWS

Row = dict[str, Any]
_RETURN = re.compile(r"(?<=\r)(?!\n|$)")


def csv_rows(lines: Iterable[bytes | None], *, tabs: bool) -> Iterator[Row | str]:
    """Yield the rows of a CSV file under the names of its first line; a damaged one says why.

    Args:
        lines: of the file, None for one that is too long to be read.
        tabs: whether cells stand between tabs rather than commas.
    """
    csv.field_size_limit(MAX_BYTES)
    texts = _Texts(lines)
    reader = csv.reader(texts, delimiter="\t" if tabs else ",", strict=True)
    try:
        names = next(reader, [])
        if len(set(names)) != len(names):
            raise UsageError("two columns have one name", "rename one of them")
        for cells in reader:
            texts.n_bytes = 0
            if len(cells) == len(names):
                yield {n: c if c != "" else None for n, c in zip(names, cells, strict=True)}
            elif cells:
                yield f"{len(cells)} cells where the first line names {len(names)}"
    except csv.Error as error:
        yield f"no CSV ({error})"


class _Texts:
    """Lines as text; one row, which quotes may spread over many lines, is bounded."""

    def __init__(self, lines: Iterable[bytes | None]) -> None:
        self._lines = lines
        self.n_bytes = 0
        """Of the row that is being read."""

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(self._lines):
            self.n_bytes += len(line or b"")
            if line is None or self.n_bytes > MAX_BYTES:
                raise csv.Error(f"a row is longer than {MAX_BYTES >> 20} MiB")
            text = line.decode("utf-8-sig" if number == 0 else "utf-8", errors="replace")
            # A carriage return alone ends a line as well; most files have none.
            yield from _RETURN.split(text) if "\r" in text[:-2] else (text,)


def arrow_rows(path: str) -> Iterator[Row]:
    """Yield the rows of an Arrow file, with or without a footer.

    Raises:
        UsageError: it is neither.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(os.fsencode(path)) as source:
            try:
                file = pa.ipc.open_file(source)
                batches = (file.get_batch(i) for i in range(file.num_record_batches))
            except pa.ArrowInvalid:
                source.seek(0)
                batches = iter(pa.ipc.open_stream(source))
            for batch in batches:
                if batch.num_rows > max(FREE_ROWS, 8 * batch.nbytes):
                    raise UsageError(f"{path} holds {batch.num_rows:,} rows of nothing", "check it")
                for start in range(0, batch.num_rows, 256):
                    yield from itertools.chain(batch.slice(start, 256).to_pylist())
    except (pa.ArrowException, OSError) as error:
        detail = " ".join(str(error).split())[:160]
        raise UsageError(f"{path} is not readable Arrow ({detail})", "check the file") from None
