"""Diversity: rows that lie far apart, where an embedding column is given.

Farthest-first traversal (Gonzalez 1985): every next row is the one farthest from all chosen ones,
which covers the set within twice the best possible radius. Embeddings come from outside, by any
model; nothing is embedded here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.errors import UsageError, listed
from factory.sets.caps import _mask

Vectors = npt.NDArray[np.float32]


def vectors_of(df: pl.DataFrame, column: str) -> Vectors:
    """Read an embedding column (lists of floats of one length) as unit vectors, shape (N, dim).

    Null, broken and zero vectors become zero.

    Raises:
        UsageError: no such column, or vectors of several lengths.
    """
    if column not in df.columns:
        raise UsageError(f"no column {column!r}", f"it has {listed(df.columns)}")
    lists = df[column].cast(pl.List(pl.Float32))
    sizes = lists.list.len().drop_nulls().unique().to_list()
    if len(sizes) > 1:
        raise UsageError(f"{column!r} holds vectors of lengths {sorted(sizes)}", "use one model")
    width = sizes[0] if sizes else 0
    out = np.zeros((df.height, width), dtype=np.float32)
    known = lists.is_not_null().to_numpy()
    if width and known.any():
        flat = lists.drop_nulls().explode().fill_null(float("nan")).to_numpy()
        out[known] = flat.reshape(-1, width)
    out[~np.isfinite(out).all(axis=1)] = 0
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    unit: Vectors = np.divide(out, norm, out=np.zeros_like(out), where=norm > 0)
    return unit


def diverse(
    df: pl.DataFrame,
    *,
    limit: int,
    embedding: str = "embedding",
    among: pl.Series | None = None,
) -> pl.Series:
    """Choose ``limit`` rows that are far apart (cosine), starting nearest the middle of all.

    Args:
        df: rows with a column of vectors.
        limit: rows to choose.
        embedding: column of lists of floats.
        among: Boolean, one per row: rows that may be chosen.

    Returns:
        Boolean ``keep``, one per row in order. A row without a vector is never chosen.
        Time: N × limit × dim; memory: N × dim × 4 bytes.

    >>> frame = pl.DataFrame({"embedding": [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], None]})
    >>> diverse(frame, limit=2).to_list()
    [False, True, True, False]
    """
    if limit < 1:
        raise UsageError(f"limit {limit} is below 1")
    vectors = vectors_of(df, embedding)
    usable = (vectors != 0).any(axis=1)
    if among is not None:
        usable &= among.fill_null(False).to_numpy()
    rows = np.flatnonzero(usable)
    chosen: list[int] = []
    if len(rows):
        some = vectors[rows]
        nearest = np.full(len(rows), -np.inf, dtype=np.float32)
        at = int(np.argmax(some @ some.mean(axis=0)))
        for _ in range(min(limit, len(rows))):
            chosen.append(int(rows[at]))
            np.maximum(nearest, some @ some[at], out=nearest)
            nearest[at] = np.inf  # never twice, not even among equal vectors
            at = int(np.argmin(nearest))
    return _mask(df.height, pl.Series(chosen, dtype=pl.UInt32))
