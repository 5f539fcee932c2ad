"""Repetition: n-grams, lines and paragraphs said twice, loops and where they start, compression.

The n-gram and line measures follow Gopher (Rae et al. 2021, table A1) on the tokens of
``factory.scores._tokens``: ``top_<n>gram_fraction`` is the share of the text's characters in its
most frequent n-gram, ``dup_<n>gram_fraction`` the share of characters in n-grams that occurred
before, no character counted twice. Shares are of UTF-8 bytes.

A *loop* is a stretch in which the text goes on repeating what it said one period ago: at least
``min_copies`` copies and ``min_chars`` characters. The longest one of a text is reported.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import polars as pl
import zstandard

from factory.scores._loops import Loop, find_loops
from factory.scores._repeats import LOOP_GRAM, Batch, Grams, batches, gram_hashes, sort_grams
from factory.scores._tokens import Tokens, tokenize

Floats = npt.NDArray[np.float64]

VERSION = 1
READS = ("completion",)
PARAMS = ("min_copies", "min_chars")
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
    "has_loop": "bool",
    "loop_start": "int",
    "loop_chars": "int",
    "loop_fraction": "float",
    "loop_period_chars": "int",
    "loop_copies": "float",
}
# Bytes of text handled at a time: bounds the memory of the token arrays (about 10 bytes for each).
_BLOCK_BYTES = 1 << 26
_MAX_SPAN = 1 << 32


def score(df: pl.DataFrame, *, min_copies: float = 4.0, min_chars: int = 400) -> pl.DataFrame:
    """Measure repetition of each completion; null where it is null, shares null where it is blank.

    Args:
        df: column ``completion``, text, N rows.
        min_copies: a loop says its period at least so often.
        min_chars: a loop has at least so many characters.

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
        _score_block(texts.slice(begin, end - begin), min_copies, min_chars)
        for begin, end in itertools.pairwise(cuts)
    ]
    out = pl.concat(parts).with_columns(texts.is_null().alias("_null"))
    return out.select(
        pl.when(pl.col("_null")).then(None).otherwise(pl.col(name)).alias(name) for name in WRITES
    )


def _score_block(texts: pl.Series, min_copies: float, min_chars: int) -> pl.DataFrame:
    tokens = tokenize(texts)
    size = np.diff(tokens.bounds_D).astype(np.float64)
    size[size == 0] = np.nan
    # A text too short to hold an n-gram repeats none; a blank one has no share at all.
    shares = {name: size * 0.0 for name in WRITES if "gram" in name}
    shares["compression_ratio"] = _compression_ratios(tokens)
    loops: dict[int, Loop] = {}
    for batch in batches(tokens):
        loops.update(_score_batch(tokens, batch, size, shares, min_copies, min_chars))
    columns = {name: pl.Series(name, values, nan_to_null=True) for name, values in shares.items()}
    return pl.DataFrame([*columns.values(), *_lines(texts), *_loop_columns(tokens, loops)])


def _score_batch(
    tokens: Tokens,
    batch: Batch,
    size: Floats,
    shares: dict[str, Floats],
    min_copies: float,
    min_chars: int,
) -> dict[int, Loop]:
    at = batch.tokens
    text = tokens.text_T[at] - np.int32(batch.texts.start)
    starts = tokens.first_D[batch.texts] - at.start
    token_hashes = tokens.hash_T[at]
    loops: dict[int, Loop] = {}
    hashes = None
    for n in range(1, max(*DUPLICATE, LOOP_GRAM) + 1):
        if len(text) < n:
            break
        hashes = gram_hashes(token_hashes, n, hashes)
        if n not in TOP and n not in DUPLICATE and n != LOOP_GRAM:
            continue
        whole = np.flatnonzero(text[: len(hashes)] == text[n - 1 :])
        grams = sort_grams(hashes[whole], text[whole], whole, starts, batch.is_small)
        if n in TOP:
            chars = _top_bytes(grams, n, tokens, at, text, len(starts))
            shares[f"top_{n}gram_fraction"][batch.texts] = chars / size[batch.texts]
        if n in DUPLICATE:
            chars = _duplicate_bytes(grams, n, tokens, at, text, len(starts))
            shares[f"dup_{n}gram_fraction"][batch.texts] = chars / size[batch.texts]
        if n == LOOP_GRAM:
            loops = find_loops(tokens, batch, grams, min_copies=min_copies, min_bytes=min_chars)
    return loops


def _top_bytes(
    grams: Grams, n: int, tokens: Tokens, at: slice, text: npt.NDArray[np.int32], n_texts: int
) -> Floats:
    """Bytes in the most frequent n-gram of each text: its length with spaces × its count."""
    group = np.flatnonzero(grams.is_new_G)
    count = np.diff(np.append(group, len(grams.position_G)))
    first = grams.position_G[group] + at.start
    span = np.minimum(tokens.end_T[first + n - 1] - tokens.start_T[first], _MAX_SPAN - 1)
    best = np.zeros(n_texts, dtype=np.int64)
    # The most frequent first, among equals the longest: one comparison of one number.
    rank = count * _MAX_SPAN + span
    owner = text[first - at.start]
    head = np.flatnonzero(np.diff(owner, prepend=-1))
    if len(head):
        best[owner[head]] = np.maximum.reduceat(rank, head)
    return ((best // _MAX_SPAN) * (best % _MAX_SPAN)).astype(np.float64)


def _duplicate_bytes(
    grams: Grams, n: int, tokens: Tokens, at: slice, text: npt.NDArray[np.int32], n_texts: int
) -> Floats:
    """Bytes of each text in n-grams that occurred before in it, none counted twice."""
    again = grams.position_G[~grams.is_new_G]
    depth = np.zeros(len(text) + 1, dtype=np.int32)
    depth[again] = 1  # positions are distinct
    depth[n:] -= depth[:-n].copy()
    covered = np.cumsum(depth[:-1]) > 0
    length = (tokens.end_T[at] - tokens.start_T[at])[covered]
    return np.bincount(text[covered], weights=length, minlength=n_texts).astype(np.float64)


def _compression_ratios(tokens: Tokens) -> Floats:
    compressor = zstandard.ZstdCompressor(level=1)
    view = memoryview(tokens.data.data)
    bounds = tokens.bounds_D.tolist()
    return np.array(
        [
            (end - begin) / len(compressor.compress(view[begin:end])) if end > begin else np.nan
            for begin, end in itertools.pairwise(bounds)
        ],
        dtype=np.float64,
    )


def _loop_columns(tokens: Tokens, loops: dict[int, Loop]) -> list[pl.Series]:
    n_texts = len(tokens.bounds_D) - 1
    rows: dict[str, list[float | int | bool | None]] = {
        "has_loop": [False] * n_texts,
        "loop_start": [None] * n_texts,
        "loop_chars": [0] * n_texts,
        "loop_fraction": [0.0] * n_texts,
        "loop_period_chars": [None] * n_texts,
        "loop_copies": [0.0] * n_texts,
    }
    for index, loop in loops.items():
        base, stop = (int(x) for x in tokens.bounds_D[index : index + 2])
        inside = tokens.data[base + loop.start : base + loop.start + loop.size]
        chars = _n_chars(inside)
        values = {
            "has_loop": True,
            "loop_start": _n_chars(tokens.data[base : base + loop.start]),
            "loop_chars": chars,
            "loop_fraction": chars / _n_chars(tokens.data[base:stop]),
            "loop_period_chars": round(chars / loop.copies),
            "loop_copies": loop.copies,
        }
        for name, value in values.items():
            rows[name][index] = value
    types = {"bool": pl.Boolean, "int": pl.Int64, "float": pl.Float64}
    return [pl.Series(name, values, dtype=types[WRITES[name]]) for name, values in rows.items()]


def _n_chars(data: npt.NDArray[np.uint8]) -> int:
    return int(np.count_nonzero((data & 0xC0) != 0x80))


def _lines(texts: pl.Series) -> list[pl.Series]:
    """Shares of lines and paragraphs that stood before in the text, blank ones left out."""
    size = texts.str.len_bytes().cast(pl.Float64)
    columns = []
    for unit, split in (("line", "\n"), ("paragraph", "\n\n")):
        pieces = (
            pl.DataFrame({"row": pl.int_range(len(texts), eager=True), "piece": texts})
            .with_columns(pl.col("piece").str.split(split))
            .explode("piece")
            .with_columns(pl.col("piece").str.strip_chars())
            .filter(pl.col("piece") != "")
        )
        again = ~pl.struct("row", "piece").is_first_distinct()
        sums = pieces.group_by("row").agg(pl.len().alias("n"))
        repeated = (
            pieces.filter(again)
            .group_by("row")
            .agg(pl.len().alias("n_again"), pl.col("piece").str.len_bytes().sum().alias("bytes"))
        )
        table = (
            pl.DataFrame({"row": pl.int_range(len(texts), eager=True), "size": size})
            .join(sums, on="row", how="left", maintain_order="left")
            .join(repeated, on="row", how="left", maintain_order="left")
            .select(
                (pl.col("n_again").fill_null(0) / pl.col("n")).alias(f"dup_{unit}_fraction"),
                pl.when(pl.col("size") > 0)
                .then(pl.col("bytes").fill_null(0) / pl.col("size"))
                .alias(f"dup_{unit}_char_fraction"),
            )
        )
        columns += table.get_columns()
    return columns
