"""Many texts as one array of tokens: the form in which repetition is counted.

A *token* here is a run of bytes without white space; each Han, kana, Thai, Lao, Khmer or Burmese
character is a token of its own, because those scripts do not put spaces between words; a run of
more than 64 bytes is cut into pieces of 8, so that a loop without any space is a loop too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LONG_BYTES = 64
PIECE_BYTES = 8

_SPACE, _PLAIN, _CONTINUATION, _ALONE = range(4)


def _byte_classes() -> npt.NDArray[np.uint8]:
    table = np.full(256, _PLAIN, dtype=np.uint8)
    table[[0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20]] = _SPACE
    table[0x80:0xC0] = _CONTINUATION
    table[0xE3:0xEA] = _ALONE  # U+3000 to U+9FFF: kana, Han and their punctuation
    return table


_CLASS = _byte_classes()


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of D texts, T in all.

    ``codes_T`` numbers the distinct tokens, ``hash_T`` is 64 bits made from their bytes alone;
    ``text_T`` is the index of the text; ``start_T`` and
    ``end_T`` are byte offsets into ``data``, the texts one after another in UTF-8; ``bounds_D``
    holds D + 1 byte offsets of the texts; ``first_D`` D + 1 token offsets.
    """

    data: npt.NDArray[np.uint8]
    codes_T: npt.NDArray[np.int32]
    hash_T: npt.NDArray[np.uint64]
    text_T: npt.NDArray[np.int32]
    start_T: Ints
    end_T: Ints
    bounds_D: Ints
    first_D: Ints


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


def _starts_and_ends(data: npt.NDArray[np.uint8], bounds: Ints) -> tuple[Ints, Ints]:
    kind = _CLASS[data]
    thai = (data[:-1] == 0xE0) & (data[1:] >= 0xB8)  # U+0E00 and later: Thai, Lao, Tibetan
    burmese = (data[:-1] == 0xE1) & ((data[1:] < 0x83) | ((data[1:] >= 0x9E) & (data[1:] < 0xA0)))
    kind[:-1][thai | burmese] = _ALONE
    alone = kind == _ALONE
    is_space = kind == _SPACE
    # A token starts at the first byte of a character that follows a space, a character that
    # stands alone (three bytes in UTF-8), or the end of the text before; and at each one alone.
    after = np.zeros(len(data) + 1, dtype=np.bool_)
    after[1:] = is_space
    after[3:] |= alone[: len(data) - 2]
    after[bounds] = True
    starts_at = (after[:-1] | alone) & (kind != _CONTINUATION) & ~is_space
    starts = np.flatnonzero(starts_at)
    # It ends where the next begins, or at the first space before that.
    stops = np.flatnonzero(is_space | starts_at)
    # Sorted, duplicates and all: searchsorted does not mind them, and union1d hashes.
    edge = np.sort(np.concatenate([stops, bounds]), kind="stable")
    return starts, edge[np.searchsorted(edge, starts, side="right")]


def _cut_long(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    length = ends - starts
    if not len(length) or length.max() <= LONG_BYTES:
        return starts, ends
    pieces = np.where(length > LONG_BYTES, -(-length // PIECE_BYTES), 1)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    nth = np.arange(int(pieces.sum())) - first
    begin = np.repeat(starts, pieces) + nth * PIECE_BYTES
    limit = np.repeat(ends, pieces)
    end = np.where(np.repeat(pieces, pieces) > 1, np.minimum(begin + PIECE_BYTES, limit), limit)
    return begin, end


def tokenize(texts: pl.Series) -> Tokens:
    """Split texts into tokens and number the distinct ones.

    >>> tokens = tokenize(pl.Series(["so so 好好", None, "so"]))
    >>> tokens.text_T.tolist(), tokens.codes_T.tolist()
    ([0, 0, 0, 0, 2], [0, 0, 2, 2, 0])
    """
    data, bounds = utf8(texts)
    if not len(data):
        empty = np.zeros(0, dtype=np.int64)
        small = np.zeros(0, dtype=np.int32)
        return Tokens(
            data,
            small,
            empty.astype(np.uint64),
            small,
            empty,
            empty,
            bounds,
            np.zeros(len(bounds), np.int64),
        )
    starts, ends = _cut_long(*_starts_and_ends(data, bounds))
    edges = np.empty(2 * len(starts) + 1, dtype=np.int64)
    edges[0:-1:2], edges[1:-1:2] = starts, ends
    edges[-1] = len(data)
    # Tokens and the gaps between them in turn, so that the array needs no copy of the text.
    slices = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(edges) - 1, [None, pa.py_buffer(edges), pa.py_buffer(data)]
    )
    coded = slices.dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)[::2]
    hashes = pl.Series(pl.from_arrow(coded.dictionary)).hash(seed=0).to_numpy()
    first = np.searchsorted(starts, bounds, side="left")
    text = np.repeat(np.arange(len(bounds) - 1, dtype=np.int32), np.diff(first))
    return Tokens(data, codes.astype(np.int32), hashes[codes], text, starts, ends, bounds, first)
