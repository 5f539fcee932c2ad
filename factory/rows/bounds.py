"""What a packed file may unpack to, one rule for archives, Parquet and Arrow."""

from __future__ import annotations

from pathlib import Path

from factory.errors import UsageError

FREE_BYTES = 16 << 20
MAX_RATIO = 200
"""What is unpacked beyond ``FREE_BYTES`` is at most so many times what was packed."""
FREE_ROWS = 1 << 20
"""More rows than these take at least a bit each."""
SMALL_BYTES = 4 << 20
"""Packed, a file is unpacked once before any of its rows is worked on: it may be a bomb."""


class Unpacked:
    """Counts what comes out of a file.

    Args:
        packed_bytes: the size of the file.
        name: of the file, for the message.
        free_bytes: that come out of any file.
    """

    def __init__(self, packed_bytes: int, name: str = "", *, free_bytes: int = FREE_BYTES) -> None:
        self._packed, self._name, self._n, self._rows = packed_bytes, name, 0, 0
        self._most = max(free_bytes, MAX_RATIO * packed_bytes)

    @classmethod
    def of(cls, path: str) -> Unpacked:
        """Count for a file of columns: what they hold beside the text is free up to 64 MiB."""
        return cls(Path(path).stat().st_size, f"{path}: ", free_bytes=4 * FREE_BYTES)

    def add(self, n_bytes: int, n_rows: int = 0) -> None:
        """Count bytes, and rows, more.

        Raises:
            UsageError: far more comes out than ever was data.
        """
        self._n += n_bytes
        self._rows += n_rows
        if self._rows > max(FREE_ROWS, 8 * self._packed):
            raise UsageError(
                f"{self._name}{self._packed:,} bytes hold more than {self._rows:,} rows of nothing",
                "this is no data file",
            )
        if self._n > self._most:
            raise UsageError(
                f"{self._name}{self._packed:,} bytes unpack to more than {MAX_RATIO} times as many",
                "unpack it yourself if it is what you want to read",
            )
