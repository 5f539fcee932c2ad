"""Repetition: n-grams, lines and paragraphs said twice, loops and where they start, compression.

The n-gram and line measures follow Gopher (Rae et al. 2021, table A1) on the tokens of
``factory.scores._repetition_kernels``: ``top_<n>gram_fraction`` is the share of the text's
characters in its most frequent n-gram, ``dup_<n>gram_fraction`` the share of characters in n-grams
that occurred before, no character counted twice. Shares are of UTF-8 bytes.

A *loop* is a stretch in which the text goes on repeating what it said one period ago: at least
``min_copies`` copies and ``min_chars`` characters. The longest one of a text is reported. A text
that comes back to the same sentence ``min_said`` times, to a tenth of its length, or most of
whose sentences were said before, loops as well, whatever stands between: ``has_loop`` is true,
and without such a stretch the loop's other columns are those of a text without one.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import polars as pl
import zstandard

from factory.records import polars_schema
from factory.scores._byte_arrays import Ints, eights, utf8

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

VERSION = 2
READS = ("completion",)
PARAMS = ("min_copies", "min_chars", "min_said")
TOP = (2, 3, 4)
DUPLICATE = (5, 6, 7, 8, 9, 10)
WRITES = {
    "compression_ratio": "float",
    **{f"top_{n}gram_fraction": "float" for n in TOP},
    **{f"dup_{n}gram_fraction": "float" for n in DUPLICATE},
    "dup_line_fraction": "float",
    "dup_line_char_fraction": "float",
    "dup_paragraph_fraction": "float",
    "dup_paragraph_char_fraction": "float",
    "dup_sentence_char_fraction": "float",
    "top_sentence_copies": "int",
    "has_loop": "bool",
    "loop_start": "int",
    "loop_chars": "int",
    "loop_fraction": "float",
    "loop_period_chars": "int",
    "loop_copies": "float",
}
MEANINGS = {
    "compression_ratio": "bytes before ÷ after zstd at level 1; higher where more is repeated",
    **{f"top_{n}gram_fraction": f"share of the text in its most frequent {n}-gram" for n in TOP},
    **{f"dup_{n}gram_fraction": f"share of the text in {n}-grams said before" for n in DUPLICATE},
    "dup_line_fraction": "share of lines said before",
    "dup_line_char_fraction": "share of the text in lines said before",
    "dup_paragraph_fraction": "share of paragraphs said before",
    "dup_paragraph_char_fraction": "share of the text in paragraphs said before",
    "dup_sentence_char_fraction": "share of the text in sentences (and lines) said before",
    "top_sentence_copies": "how often the most frequent sentence is said",
    "has_loop": "whether a stretch goes on repeating itself, or a sentence comes back again and "
    "again, or most sentences were said before",
    "loop_start": "where the longest stretch of it begins, characters from the start; NULL without "
    "one",
    "loop_chars": "its length, characters",
    "loop_fraction": "its share of the text",
    "loop_period_chars": "length of what it repeats, characters",
    "loop_copies": "how often it says it",
}
# A sentence that comes back is a loop where it is a tenth of the text; where more than half of the
# text was said before, no sentence needs to stand out.
COMES_BACK, SAID_BEFORE = 0.1, 0.5
# Bytes of text handled at a time.
_BLOCK_BYTES = 1 << 26


def score(
    df: pl.DataFrame, *, min_copies: float = 4.0, min_chars: int = 400, min_said: int = 20
) -> pl.DataFrame:
    """Measure repetition of each completion; null where it is null, shares null where it is blank.

    Args:
        df: column ``completion``, text, N rows.
        min_copies: a loop says its period at least so often.
        min_chars: a loop has at least so many characters.
        min_said: a sentence that is said so often is a loop, too.

    Returns:
        N rows with the columns of ``WRITES``. ``compression_ratio`` is bytes before ÷ after zstd
        at level 1, higher where more is repeated; ``loop_start`` a character offset, null where
        there is no loop.

    >>> df = pl.DataFrame({"completion": ["I think. " + "But wait, let me check it again. " * 50]})
    >>> score(df).select("has_loop", "loop_start", "loop_period_chars").row(0)
    (True, 9, 33)
    """
    texts = df.get_column("completion").cast(pl.String)
    sizes = texts.str.len_bytes().fill_null(0).to_numpy()
    block = np.cumsum(sizes) // _BLOCK_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(texts)]
    parts = [
        _score_block(texts.slice(begin, end - begin), min_copies, min_chars, min_said)
        for begin, end in itertools.pairwise(cuts)
    ]
    out = pl.concat(parts).with_columns(texts.is_null().alias("_null"))
    return out.select(
        pl.when(pl.col("_null")).then(None).otherwise(pl.col(name)).alias(name) for name in WRITES
    )


def _score_block(
    texts: pl.Series, min_copies: float, min_chars: int, min_said: int
) -> pl.DataFrame:
    from factory.scores._repetition_kernels import measure_repetition
    from factory.scores.readability.line_kernels import SENTENCE, measure_lines

    data, bounds = utf8(texts)
    loads = eights(data)
    n_texts = len(texts)
    top = np.zeros((n_texts, len(TOP)), dtype=np.int64)
    duplicate = np.zeros((n_texts, len(DUPLICATE)), dtype=np.int64)
    loops = np.zeros((n_texts, 4))
    measure_repetition(data, loads, bounds, min_copies, min_chars, top, duplicate, loops)
    pieces = np.zeros((n_texts, 3, 5), dtype=np.int64)
    measure_lines(data, loads, bounds, pieces)
    size = np.diff(bounds).astype(np.float64)
    columns: dict[str, Floats] = {"compression_ratio": _compression_ratios(data, bounds)}
    with np.errstate(divide="ignore", invalid="ignore"):
        # A text too short to hold an n-gram repeats none; a blank one has no share at all.
        for k, n in enumerate(TOP):
            columns[f"top_{n}gram_fraction"] = top[:, k] / size
        for k, n in enumerate(DUPLICATE):
            columns[f"dup_{n}gram_fraction"] = duplicate[:, k] / size
        for k, unit in enumerate(("line", "paragraph")):
            n_pieces, n_again, n_bytes = pieces[:, k, :3].T
            columns[f"dup_{unit}_fraction"] = n_again / n_pieces
            columns[f"dup_{unit}_char_fraction"] = n_bytes / size
        _, _, n_bytes, n_said, n_each = pieces[:, SENTENCE].T
        columns["dup_sentence_char_fraction"] = n_bytes / size
        comes_back = (n_said >= min_said) & (n_said * n_each >= COMES_BACK * size)
        comes_back |= (n_bytes >= min_chars) & (n_bytes > SAID_BEFORE * size)
    shares = [pl.Series(name, values, nan_to_null=True) for name, values in columns.items()]
    said = pl.Series("top_sentence_copies", n_said)
    out = pl.DataFrame([*shares, said, *_loop_columns(data, bounds, loops)])
    return out.with_columns(pl.col("has_loop") | pl.Series(comes_back))


def _compression_ratios(data: Bytes, bounds: Ints) -> Floats:
    compressor = zstandard.ZstdCompressor(level=1)
    view = data.data
    return np.array(
        [
            (end - begin) / len(compressor.compress(view[begin:end])) if end > begin else np.nan
            for begin, end in itertools.pairwise(bounds.tolist())
        ],
        dtype=np.float64,
    )


def _loop_columns(data: Bytes, bounds: Ints, loops: Floats) -> list[pl.Series]:
    n_texts = len(loops)
    rows: dict[str, list[float | int | bool | None]] = {
        "has_loop": [False] * n_texts,
        "loop_start": [None] * n_texts,
        "loop_chars": [0] * n_texts,
        "loop_fraction": [0.0] * n_texts,
        "loop_period_chars": [None] * n_texts,
        "loop_copies": [0.0] * n_texts,
    }
    for index in np.flatnonzero(loops[:, 1]).tolist():
        start, size, _, copies = loops[index].tolist()
        base, stop = bounds[index : index + 2].tolist()
        begin = base + int(start)
        chars = _n_chars(data[begin : begin + int(size)])
        values = {
            "has_loop": True,
            "loop_start": _n_chars(data[base:begin]),
            "loop_chars": chars,
            "loop_fraction": chars / _n_chars(data[base:stop]),
            "loop_period_chars": round(chars / copies),
            "loop_copies": copies,
        }
        for name, value in values.items():
            rows[name][index] = value
    types = polars_schema(WRITES)
    return [pl.Series(name, values, dtype=types[name]) for name, values in rows.items()]


def _n_chars(data: Bytes) -> int:
    return int(np.count_nonzero((data & 0xC0) != 0x80))
