"""CSV and Arrow files as plain rows."""

from __future__ import annotations

import csv
import io
import itertools
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from factory.errors import UsageError

Row = dict[str, Any]


def csv_rows(handle: BinaryIO, *, tabs: bool) -> Iterator[Row | str]:
    """Yield the rows of a CSV file under the names of its first line; a damaged one says why."""
    csv.field_size_limit(sys.maxsize)
    text = io.TextIOWrapper(handle, encoding="utf-8-sig", errors="replace", newline="")
    reader = csv.reader(text, delimiter="\t" if tabs else ",", strict=True)
    try:
        names = next(reader, [])
        if len(set(names)) != len(names):
            raise UsageError("two columns have one name", "rename one of them")
        for cells in reader:
            if len(cells) == len(names):
                yield {n: c if c != "" else None for n, c in zip(names, cells, strict=True)}
            elif cells:
                yield f"{len(cells)} cells where the first line names {len(names)}"
    except csv.Error as error:
        yield f"no CSV ({error})"
    finally:
        text.detach()


def arrow_rows(path: str) -> Iterator[Row]:
    """Yield the rows of an Arrow file, with or without a footer.

    Raises:
        UsageError: it is neither.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(path) as source:
            try:
                file = pa.ipc.open_file(source)
                batches = (file.get_batch(i) for i in range(file.num_record_batches))
            except pa.ArrowInvalid:
                source.seek(0)
                batches = iter(pa.ipc.open_stream(source))
            for batch in batches:
                for start in range(0, batch.num_rows, 256):
                    yield from itertools.chain(batch.slice(start, 256).to_pylist())
    except (pa.ArrowException, OSError) as error:
        detail = " ".join(str(error).split())[:160]
        raise UsageError(f"{path} is not readable Arrow ({detail})", "check the file") from None
