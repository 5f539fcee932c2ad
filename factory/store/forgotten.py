"""Records that must not come back, known by their hashes alone.

The table ``forgotten`` holds keys and hashes of texts, never a text. From the moment that a row
stands there, no writer stores anything of that record (``Table.add``, ``SegmentWriter``), so that
it stays gone whoever imports or generates it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from factory.records.ids import key_of

if TYPE_CHECKING:
    import polars as pl

TABLE = "forgotten"
ID_COLUMNS = ("prompt_id", "trace_id")
"""What names a record in any table; a row that has one of a forgotten record is of it."""


def prompt_text_key(text: str) -> str:
    """Return the key under which a prompt is known again, however its messages are read.

    >>> prompt_text_key("What is 2+2?") == prompt_text_key("  What is  2+2?\\n")
    True
    """
    return key_of(["forgotten prompt", " ".join(text.split())])


def trace_text_key(prompt_text: str, text_hash: str) -> str:
    """Return the key under which an imported completion of a prompt is known again."""
    return key_of(["forgotten trace", prompt_text_key(prompt_text), text_hash])


class Forgotten:
    """The hashes of a store's forgotten records.

    Args:
        hashes: keys of prompts and traces, and of their texts.
    """

    def __init__(self, hashes: Iterable[str]) -> None:
        self.hashes = frozenset(hashes)

    def __bool__(self) -> bool:
        """Tell whether anything was forgotten."""
        return bool(self.hashes)

    def has(self, key: str) -> bool:
        """Tell whether a prompt or a trace of this key is forgotten."""
        return key in self.hashes

    def has_prompt(self, prompt_id: str, text: str) -> bool:
        """Tell whether a prompt is forgotten, by its key or by its text."""
        return bool(self.hashes) and (
            prompt_id in self.hashes or prompt_text_key(text) in self.hashes
        )

    def has_trace(self, trace_id: str, prompt_text: str, text_hash: str) -> bool:
        """Tell whether a completion is forgotten, by its key or by the texts."""
        return bool(self.hashes) and (
            trace_id in self.hashes or trace_text_key(prompt_text, text_hash) in self.hashes
        )

    def mask(self, frame: pl.DataFrame) -> pl.Series:
        """Return which rows are of a forgotten record."""
        import polars as pl

        names = [c for c in ID_COLUMNS if c in frame.columns]
        if not names or not self.hashes:
            return pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
        known = pl.Series(sorted(self.hashes), dtype=pl.String).implode()
        is_in = [pl.col(c).is_in(known).fill_null(False) for c in names]
        return frame.select(pl.any_horizontal(is_in).alias("is_forgotten"))["is_forgotten"]
