"""Sets of keys, tens of millions of them: which come first, which are absent.

Keys are pairs of unsigned 64-bit halves (``parts.halves_of``), two columns ``hi`` and ``lo``. They
are hashes, so ``hi % n`` cuts them into n equal slices; each is looked at for itself, which bounds
the memory of the hash tables (some 100 bytes a key).
"""

from __future__ import annotations

import polars as pl

from factory.store.parts import halves_of

SLICE_KEYS = 1_000_000


class KeySet:
    """A set of hexadecimal keys in 16 bytes each, asked many keys at a time.

    >>> some = KeySet(pl.Series(["00" * 16, "0a" * 16]))
    >>> len(some), some.has(pl.Series(["0a" * 16, "0b" * 16])).to_list()
    (2, [True, False])
    """

    def __init__(self, keys: pl.Series) -> None:
        self._sorted = halves_of(keys).unique().sort("hi", "lo")

    def __len__(self) -> int:
        return self._sorted.height

    def has(self, keys: pl.Series) -> pl.Series:
        """Tell for each key whether it is in the set."""
        asked = halves_of(keys)
        if not len(self):
            return pl.Series([False]).new_from_index(0, asked.height)
        # A join would hash the whole set again with every question.
        at = self._sorted["hi"].search_sorted(asked["hi"]).clip(0, len(self) - 1)
        found = self._sorted[at]
        same = found["hi"] == asked["hi"]
        if (same & (found["lo"] != asked["lo"])).any():  # keys that agree in half of their bits
            rows = asked.with_row_index("_row").join(self._sorted, on=["hi", "lo"], how="semi")
            return pl.int_range(asked.height, eager=True).is_in(rows["_row"].implode())
        return same


def first_of_each(rows: pl.DataFrame, present: list[pl.DataFrame]) -> pl.Series:
    """Tell for each row whether it is the first of its key and its key is not present.

    Args:
        rows: hi, lo, and ``exempt``: rows that are kept and do not stand in the way of others.
        present: frames of hi, lo.

    >>> rows = pl.DataFrame({"hi": [1, 1, 2, 3], "lo": [5, 5, 5, 5], "exempt": [False] * 4})
    >>> first_of_each(rows, [pl.DataFrame({"hi": [3], "lo": [5]})]).to_list()
    [True, False, True, False]
    """
    present = [frame for frame in present if frame.height]
    keep = pl.Series([True]).new_from_index(0, rows.height)
    n_slices = _n_slices(rows, present)
    numbered = rows.with_row_index("_row").filter(~pl.col("exempt")).drop("exempt")
    dropped = []
    for n in range(n_slices):
        mine = _slice(numbered, n, n_slices)
        dropped.append(mine.filter(~pl.struct("hi", "lo").is_first_distinct())["_row"])
        if present:
            there = pl.concat([_slice(frame, n, n_slices) for frame in present])
            dropped.append(mine.join(there, on=["hi", "lo"], how="semi")["_row"])
    gone = pl.concat(dropped).unique()
    return keep.scatter(gone, [False] * len(gone)) if len(gone) else keep


def absent(keys: pl.DataFrame, present: list[pl.DataFrame]) -> pl.Series:
    """Return the positions of the keys that are not present, ascending.

    >>> keys = pl.DataFrame({"hi": [1, 2], "lo": [5, 5]})
    >>> absent(keys, [keys.head(1)]).to_list()
    [1]
    """
    present = [frame for frame in present if frame.height]
    numbered = keys.with_row_index("_row")
    if not present:
        return numbered["_row"]
    n_slices = _n_slices(keys, present)
    left = []
    for n in range(n_slices):
        there = pl.concat([_slice(frame, n, n_slices) for frame in present])
        left.append(_slice(numbered, n, n_slices).join(there, on=["hi", "lo"], how="anti")["_row"])
    return pl.concat(left).sort()


def _n_slices(rows: pl.DataFrame, present: list[pl.DataFrame]) -> int:
    return 1 + (rows.height + sum(frame.height for frame in present)) // SLICE_KEYS


def _slice(frame: pl.DataFrame, n: int, n_slices: int) -> pl.DataFrame:
    return frame if n_slices == 1 else frame.filter(pl.col("hi") % n_slices == n)
