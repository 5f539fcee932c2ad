"""Many texts as one array of bytes: the form that kernels read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def utf8(texts: pl.Series) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Return the bytes of all texts (null counts as empty), and D + 1 byte offsets.

    >>> data, bounds = utf8(pl.Series(["a b", None, "c"]))
    >>> data.tobytes(), bounds.tolist()
    (b'a bc', [0, 3, 3, 4])
    """
    joined = texts.fill_null("").to_arrow()
    array = joined.cast(pa.large_string())
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64, count=len(array) + array.offset + 1)
    bounds = bounds[array.offset :]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8)
    return raw[bounds[0] : bounds[-1]], bounds - bounds[0]


def eights(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return the eight bytes from each offset on as one number, a view; empty below eight bytes.

    >>> hex(eights(np.arange(9, dtype=np.uint8))[1])
    '0x807060504030201'
    """
    shape = (max(len(data) - 7, 0),)
    if not shape[0]:
        data = np.zeros(8, dtype=np.uint8)
    out: npt.NDArray[np.uint64] = np.ndarray(shape, "<u8", data.data, strides=(1,))
    return out
