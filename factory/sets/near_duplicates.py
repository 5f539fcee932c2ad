"""Near-duplicates by MinHash: sketches in one pass, clusters from the sketches alone.

Two texts are near-duplicates when the Jaccard similarity of their sets of word n-grams reaches a
threshold. Texts are folded by ``words`` (``factory.sets.folding``). A sketch is one-permutation
MinHash (Li, Owen, Zhang 2012): the hash of an n-gram picks one of 128 bins and each bin keeps its
smallest value, 512 bytes per text. Candidates come from bands of the densified sketch (Shrivastava
and Li 2014), as many rows per band as leave at most 1 % of the pairs at the threshold unseen;
every candidate pair is then verified on the sketches (``similarity``). A cluster is a connected
component of verified pairs, so two members may be less similar than the threshold.

Memory: 512 bytes per text and the band keys (4 bytes per band and text); no text is kept.

Our own MinHash and not the library rensa, because it does 76 MB/s where rensa does 17:
half of the chain's ratio beside its peers comes from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.errors import UsageError
from factory.sets.clusters import components
from factory.sets.words import Ints, Words, chunks, words_of

N_BINS = 128
_EMPTY = np.uint32(0xFFFFFFFF)
_MISSED = 0.01
_PAIRS_AT_ONCE = 1 << 16
Sketch = npt.NDArray[np.uint32]


def bands_for(threshold: float) -> tuple[int, int]:
    """Return (bands, rows): the most rows with which 1 - (1 - t^rows)^bands stays at 0.99.

    >>> bands_for(0.7), bands_for(0.5), bands_for(0.9)
    ((32, 4), (42, 3), (12, 10))
    """
    for rows in range(N_BINS, 1, -1):
        bands = N_BINS // rows
        if (1 - threshold**rows) ** bands <= _MISSED:
            return bands, rows
    return N_BINS, 1


def sketch_words(words: Words, *, ngram: int) -> Sketch:
    """Return one sketch per text, shape (D, 128); all ``_EMPTY`` where a text has no words.

    A text of fewer than ``ngram`` words has one n-gram, the whole of it.
    """
    from factory.sets._word_kernels import sketch_texts

    sketch = np.full((words.n_texts, N_BINS), _EMPTY, dtype=np.uint32)
    sketch_texts(words.hash_W, words.first_D, ngram, sketch)
    return sketch


def densify(sketch: Sketch) -> Sketch:
    """Fill empty bins from the next full bin, circularly, with a step added for each bin between.

    >>> row = np.full((1, 128), _EMPTY); row[0, 5] = 7
    >>> dense = densify(row)
    >>> int(dense[0, 5]), bool((dense != _EMPTY).all()), len(np.unique(dense))
    (7, True, 128)
    """
    from factory.sets import _word_kernels as kernels

    out = np.empty_like(sketch)
    kernels.densify(sketch, out)
    return out


def similarity(a: Sketch, b: Sketch) -> npt.NDArray[np.float32]:
    """Estimate the Jaccard similarity of pairs: equal bins over bins that either fills.

    Args:
        a: shape (P, 128), not densified.
        b: the same shape.
    """
    either = ((a & b) != _EMPTY).sum(axis=1)
    equal = ((a == b) & (a != _EMPTY)).sum(axis=1)
    out: npt.NDArray[np.float32] = (equal / np.maximum(either, 1)).astype(np.float32)
    return out


class Sketches:
    """Sketches of a stream of texts; texts are given once, in batches of any size.

    >>> seen = Sketches(ngram=2)
    >>> seen.add(["one two three four", None, "a b c d", "One, two; three four."])
    >>> seen.clusters(threshold=0.7).tolist()
    [0, 1, 2, 0]
    """

    def __init__(self, *, ngram: int) -> None:
        self.ngram = ngram
        self._parts: list[Sketch] = []

    def add(self, texts: Sequence[str | None]) -> None:
        """Sketch a batch."""
        for _, chunk in chunks(texts):
            self._parts.append(sketch_words(words_of(chunk), ngram=self.ngram))

    def add_words(self, words: Words) -> None:
        """Sketch texts whose words were found already."""
        self._parts.append(sketch_words(words, ngram=self.ngram))

    @property
    def sketch(self) -> Sketch:
        """All sketches so far, shape (D, 128)."""
        if len(self._parts) != 1:
            empty = np.empty((0, N_BINS), dtype=np.uint32)
            self._parts = [np.concatenate(self._parts) if self._parts else empty]
        return self._parts[0]

    def reordered(self, order: npt.NDArray[np.integer]) -> Sketches:
        """Return the sketches in another order; these here are given up (512 bytes per text).

        Args:
            order: numbers of the texts, in the order in which they were added.
        """
        out = Sketches(ngram=self.ngram)
        out._parts = [self.sketch[order]]
        self._parts = []
        return out

    def clusters(self, *, threshold: float) -> Ints:
        """Return for each text the number of the first text of its cluster; its own if alone."""
        sketch = self.sketch
        n = len(sketch)
        bands, rows = bands_for(threshold)
        label = np.arange(n, dtype=np.int64)
        for key in _band_keys(sketch, bands, rows):
            left, right = _candidates(key, label)
            for at in range(0, len(left), _PAIRS_AT_ONCE):
                a, b = left[at : at + _PAIRS_AT_ONCE], right[at : at + _PAIRS_AT_ONCE]
                new = label[a] != label[b]  # an earlier slice may have joined them
                a, b = a[new], b[new]
                same = similarity(sketch[a], sketch[b]) >= threshold
                label = components(label, a[same], b[same])
        return label


def _band_keys(sketch: Sketch, bands: int, rows: int) -> Iterator[npt.NDArray[np.uint32]]:
    """Yield one 32-bit key per text for each band; texts without words get keys of their own."""
    n = len(sketch)
    keys = np.empty((bands, n), dtype=np.uint32)
    factor = np.array([pow(0x9E3779B97F4A7C15, k + 1, 1 << 64) for k in range(rows)], np.uint64)
    for begin in range(0, n, 4096):
        dense = densify(sketch[begin : begin + 4096])[:, : bands * rows]
        parts = dense.reshape(len(dense), bands, rows)
        mixed = np.zeros((len(dense), bands), dtype=np.uint64)
        for row in range(rows):
            mixed += (parts[:, :, row] + np.uint64(1)) * factor[row]
        mixed ^= mixed >> np.uint64(31)
        keys[:, begin : begin + 4096] = ((mixed * factor[0]) >> np.uint64(32)).T
    yield from keys


def _candidates(key: npt.NDArray[np.uint32], label: Ints) -> tuple[Ints, Ints]:
    """Return pairs of texts that share a key and are not in one cluster yet.

    A crowded bucket gives each member four partners and not all: its first, and the three that
    stand before it. The cost of a band is bounded by the number of texts whatever they hold;
    clusters that grow together and the other bands find what one bucket leaves out.
    """
    # Key and place in one number: several times faster than sorting the places by the key.
    packed = key.astype(np.uint64) << np.uint64(32)
    packed |= np.arange(len(key), dtype=np.uint64)
    packed.sort()
    order = (packed & np.uint64(0xFFFFFFFF)).view(np.int64)
    sorted_key = packed >> np.uint64(32)
    same = sorted_key[1:] == sorted_key[:-1]
    if not same.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    member = np.zeros(len(key), dtype=np.bool_)
    member[1:] |= same
    member[:-1] |= same
    order, sorted_key = order[member], sorted_key[member]
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = sorted_key[1:] != sorted_key[:-1]
    first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    position = np.arange(len(order))
    pairs = [(first[~is_first], position[~is_first])]
    for back in (1, 2, 3):
        later = np.flatnonzero(position - back > first)
        pairs.append((later - back, later))
    left = order[np.concatenate([a for a, _ in pairs])]
    right = order[np.concatenate([b for _, b in pairs])]
    apart = label[left] != label[right]
    return left[apart], right[apart]


def near_duplicates(
    df: pl.DataFrame,
    column: str = "text",
    *,
    threshold: float | None = None,
    ngram: int | None = None,
    prefer: str | None = None,
    prefer_low: bool = False,
    within: str | None = None,
) -> pl.DataFrame:
    """Add ``cluster_id``, ``cluster_size`` and ``is_duplicate`` to a frame.

    Args:
        df: any frame.
        column: its text column.
        threshold: Jaccard similarity of the sets of word n-grams, in (0, 1]. None: 0.7, or 0.55
            for short texts (see ``settings_for``).
        ngram: words per n-gram. None: 5, or 2 for short texts. Two instances of one short template
            (other numbers or names) are near-duplicates then; where they are not to be, as in
            procedural tasks, give 5 and a high threshold.
        prefer: column that chooses the member of a cluster to keep: the highest value, null last,
            then the first row. Without it, the first row.
        prefer_low: keep the lowest value of ``prefer`` instead.
        within: column whose values keep rows apart, such as ``prompt_id``.

    Returns:
        ``df`` with ``cluster_id`` (row number of the cluster's first row), ``cluster_size`` and
        ``is_duplicate`` (true for all but the kept row of a cluster). All three are null where
        the text is null; texts without any word never match.

    Raises:
        UsageError: no such column, or a parameter out of range.

    >>> frame = pl.DataFrame({"text": ["a b c d e f g", "A b c d e, f g!", "other words here"]})
    >>> near_duplicates(frame)["is_duplicate"].to_list()
    [False, True, False]
    """
    _check(df, [column, prefer, within], threshold, ngram)
    texts = df.get_column(column).cast(pl.String).to_frame()
    parts = (part.to_series().to_list() for part in texts.iter_slices(8192))
    label = cluster(parts, threshold=threshold, ngram=ngram)
    return mark(df, label, column=column, prefer=prefer, prefer_low=prefer_low, within=within)


def cluster(
    batches: Iterable[Sequence[str | None]],
    *,
    threshold: float | None = None,
    ngram: int | None = None,
) -> Ints:
    """Cluster a stream of texts that is read once and not kept.

    Args:
        batches: texts, in batches of any size.
        threshold: as in ``near_duplicates``.
        ngram: as in ``near_duplicates``; by default from the first batch.

    Returns:
        For each text the number of the first text of its cluster (its own if alone or null); hand
        it to ``mark``.

    >>> cluster([["a b c d e f"], ["x", "A b c d e f."]]).tolist()
    [0, 1, 0]
    """
    sketches: Sketches | None = None
    for texts in batches:
        if sketches is None:
            usual = settings_for(pl.Series(list(texts[:8192]), dtype=pl.String))
            ngram, threshold = ngram or usual[0], threshold or usual[1]
            sketches = Sketches(ngram=ngram)
        sketches.add(texts)
    if sketches is None or threshold is None:
        return np.empty(0, dtype=np.int64)
    return sketches.clusters(threshold=threshold)


def settings_for(texts: pl.Series) -> tuple[int, float]:
    """Return (ngram, threshold): 5 and 0.7, or 2 and 0.55 where the median text is short.

    Short is below 600 bytes (about 100 words): one changed word in a sentence of 20 words takes
    away 5 of its 16 5-grams, which no threshold can tell from another sentence.

    >>> settings_for(pl.Series(["a short prompt"])), settings_for(pl.Series(["long " * 500]))
    ((2, 0.55), (5, 0.7))
    """
    middle = texts.cast(pl.String).str.len_bytes().median()
    return (2, 0.55) if isinstance(middle, float) and middle < 600 else (5, 0.7)


def _check(
    df: pl.DataFrame, columns: Sequence[str | None], threshold: float | None, ngram: int | None
) -> None:
    for name in columns:
        if name is not None and name not in df.columns:
            raise UsageError(f"no column {name!r}", f"it has {', '.join(df.columns) or 'none'}")
    for name in ("cluster_id", "cluster_size", "is_duplicate"):
        if name in df.columns:
            raise UsageError(f"the input already has a column {name!r}", "drop or rename it")
    if threshold is not None and not 0 < threshold <= 1:
        raise UsageError(f"threshold {threshold} is not in (0, 1]", "0.7 is usual")
    if ngram is not None and ngram < 1:
        raise UsageError(f"ngram {ngram} is below 1", "5 is usual")


def mark(
    df: pl.DataFrame,
    label: Ints,
    *,
    column: str | None = None,
    prefer: str | None = None,
    prefer_low: bool = False,
    within: str | None = None,
) -> pl.DataFrame:
    """Turn cluster labels, one per row, into the three columns of ``near_duplicates``."""
    row = pl.int_range(pl.len(), dtype=pl.Int64)
    out = df.with_columns(pl.Series("cluster_id", label, dtype=pl.Int64), row.alias("__row"))
    keys = ["cluster_id"] if within is None else ["cluster_id", within]
    if within is not None:
        out = out.with_columns(pl.col("__row").first().over(keys).alias("__first"))
        out = out.with_columns(pl.col("__first").alias("cluster_id")).drop("__first")
    rank = [pl.col("__row")]
    descending = [False]
    if prefer is not None:
        rank.insert(0, pl.col(prefer))
        descending.insert(0, not prefer_low)
    kept = pl.col("__row").sort_by(rank, descending=descending, nulls_last=True).first()
    out = out.with_columns(
        pl.len().over("cluster_id").cast(pl.Int64).alias("cluster_size"),
        (pl.col("__row") != kept.over("cluster_id")).alias("is_duplicate"),
    ).drop("__row")
    if column is None:
        return out
    known = pl.col(column).is_not_null()
    names = ("cluster_id", "cluster_size", "is_duplicate")
    return out.with_columns(pl.when(known).then(pl.col(name)).alias(name) for name in names)
