"""CSV files as plain rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from typing import Any

from factory.errors import UsageError
from factory.rows.json_values import MAX_BYTES

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
