"""Contamination: which texts share a word n-gram with a benchmark, all benchmarks in one pass.

A text is contaminated when it holds a run of n words that also stands in a benchmark's prompt or
reference solution (DeepSeek-R1 used n = 10). What is compared is the folded text (``words``: NFKC,
lower case, no punctuation; ``factory.sets.folding``). A character of Han, Kana, Thai and their like
is a word there, and such a word carries less than an English one: a run of which more than half
are such characters must be 1.6 times as long (8 → 13, 10 → 16, 13 → 21). A benchmark item shorter
than n words matches only a text that equals it.

``folding="whitespace"`` compares as the common script does (open-r1 ``scripts/decontaminate.py``):
lower case, split at white space, no rule for short items or unspaced scripts; the hits are
identical to that script's.

Template twins (another instance of a benchmark's template: other names and numbers) are reported
apart where ``twins`` is set and never make a text contaminated: whether they are kept is a
decision of the recipe. They are found by the same n-grams after masking numbers, number words,
names and pronouns; a run counts only where at most half of its words are masks.

The index holds 8 bytes per distinct n-gram, and the texts are checked in bounded chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.errors import UsageError, listed
from factory.sets.folding import Folding, mask_template
from factory.sets.words import Flags, Hashes, Ints, Words, chunks, gram_hashes, words_of

Bytes = npt.NDArray[np.uint8]
UNSPACED_FACTOR = 1.6
TWIN_GRAM = 13
_MASKS = ("0", "aname")
COLUMNS = ("is_contaminated", "contaminated_by", "contaminated_item", "matched_ngram")
TWIN_COLUMNS = ("is_template_twin", "twin_of")
PROMPT_FIELDS = ("prompt", "problem", "question", "text", "text_a")
SOLUTION_FIELDS = ("solution", "reference_solution", "canonical_solution", "answer_text")


@dataclass(frozen=True, slots=True)
class Hits:
    """n-grams of a chunk of texts that are in the index.

    Attributes:
        text_H: number of the text, ascending.
        word_H: index of the n-gram's first word.
        entry_H: row of the index.
        length_H: words of the n-gram.
    """

    text_H: Ints
    word_H: Ints
    entry_H: Ints
    length_H: Ints


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of n words of a chunk, each within one text; or whole texts.

    Attributes:
        n: words of a run; 0 for whole texts.
        keep: which runs may be compared at all, by their first word; None is all.
        words: first word of each whole text.
        hashes: hash of each whole text.
    """

    n: int
    keep: Flags | None = None
    words: Ints | None = None
    hashes: Hashes | None = None

    def among(
        self, words: Words, bitmap: npt.NDArray[np.uint8], shift: np.uint64
    ) -> tuple[Ints, Hashes]:
        """Return first words and hashes of the runs whose bit is set in the bitmap."""
        from factory.sets._word_kernels import probe

        if self.words is not None and self.hashes is not None:
            place = (self.hashes >> shift).view(np.int64)
            set_ = (bitmap[place >> 3] >> (place & 7).astype(np.uint8) & 1).astype(np.bool_)
            return self.words[set_], self.hashes[set_]
        keep = np.empty(0, dtype=np.bool_) if self.keep is None else self.keep
        at = np.empty(len(words.hash_W), dtype=np.int64)
        hashes = np.empty(len(words.hash_W), dtype=np.uint64)
        n = probe(words.hash_W, words.first_D, self.n, keep, bitmap, shift, at, hashes)
        return at[:n], hashes[:n]


_EVERY, _NO_BITS = np.full(1, 255, dtype=np.uint8), np.uint64(63)


class _Index:
    """Distinct n-gram hashes of all benchmarks, sorted, each with the items that hold it."""

    def __init__(self, ngram: int, folding: Folding, is_masked: bool) -> None:
        self.ngram = ngram
        self.folding = folding
        self.masks = _mask_hashes() if is_masked else None
        self._hashes: list[Hashes] = []
        self._items: list[Ints] = []

    def add(self, texts: Sequence[str], first_item: int) -> None:
        """Index texts; their items are numbered from ``first_item`` on."""
        for begin, chunk in chunks(texts):
            words = words_of(chunk, self.folding)
            for run in self._runs(words):
                at, hashes = run.among(words, _EVERY, _NO_BITS)
                self._hashes.append(hashes)
                self._items.append(words.text_of(at) + begin + first_item)

    def freeze(self, first_item: Sequence[int]) -> None:
        """Sort, drop repetitions, make the bitmap.

        Args:
            first_item: number of each benchmark's first item.
        """
        empty = np.empty(0, dtype=np.uint64)
        hashes = np.concatenate([empty, *self._hashes])
        items = np.concatenate([np.empty(0, dtype=np.int64), *self._items])
        order = np.lexsort((items, hashes))
        hashes, items = hashes[order], items[order]
        bench = np.searchsorted(first_item, items, side="right") - 1
        new = np.ones(len(hashes), dtype=np.bool_)
        new[1:] = (hashes[1:] != hashes[:-1]) | (bench[1:] != bench[:-1])
        hashes, items = hashes[new], items[new]
        self.keys, first = np.unique(hashes, return_index=True)
        # Row e of ``keys`` stands in the benchmarks bench[first[e]:first[e + 1]].
        self.first = np.append(first, len(hashes))
        self.bench = bench[new]
        self.items = items
        self._hashes, self._items = [], []
        # One bit in 32 set at most: the exact look-up sees 3 % of the n-grams that are no hit.
        bits = min(26, max(12, int(32 * max(1, len(self.keys))).bit_length()))
        self._shift = np.uint64(64 - bits)
        is_set = np.zeros(1 << bits, dtype=np.bool_)
        is_set[self.keys >> self._shift] = True
        self._bitmap = np.packbits(is_set, bitorder="little")

    def _runs(self, words: Words) -> list[_Runs]:
        """Return the n-grams of a chunk, by kind: plain, of unspaced scripts, whole short texts."""
        if self.folding == "whitespace":
            return [_Runs(self.ngram)]
        unspaced = words.unspaced_W()
        runs = [self._run(words, self.ngram, unspaced, is_dense=False)]
        if unspaced is not None:
            longer = round(UNSPACED_FACTOR * self.ngram)
            runs.append(self._run(words, longer, unspaced, is_dense=True))
        if self.masks is None:
            runs.append(self._short(words))
        return runs

    def _run(self, words: Words, n: int, unspaced: Flags | None, *, is_dense: bool) -> _Runs:
        keep: Flags | None = None
        if unspaced is not None:
            keep = (_window(unspaced, n) * 2 > n) == is_dense
        if self.masks is not None:
            few_masks = _window(np.isin(words.hash_W, self.masks), n) * 2 <= n
            keep = few_masks if keep is None else keep & few_masks
        return _Runs(n, keep)

    def _short(self, words: Words) -> _Runs:
        """Texts of fewer than n words, whole; the salt keeps them apart from runs of words."""
        count = np.diff(words.first_D)
        texts = np.flatnonzero((count > 0) & (count < self.ngram))
        first = words.first_D[texts]
        hashes = [
            gram_hashes(words.hash_W[f : f + c], c)[0] ^ np.uint64(0xA5A5A5A5A5A5A5A5)
            for f, c in zip(first.tolist(), count[texts].tolist(), strict=True)
        ]
        return _Runs(0, words=first, hashes=np.array(hashes, dtype=np.uint64))

    def probe(self, words: Words) -> Hits:
        """Find all hits of a chunk, ordered by place; the longest n-gram first at each."""
        at, entry, length = [], [], []
        for run in self._runs(words) if len(self.keys) else ():
            maybe, wanted = run.among(words, self._bitmap, self._shift)
            row = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            is_hit = self.keys[row] == wanted
            at.append(maybe[is_hit])
            entry.append(row[is_hit])
            length.append(np.full(len(at[-1]), run.n, dtype=np.int64))
        none = np.empty(0, dtype=np.int64)
        word = np.concatenate([none, *at])
        order = np.argsort(word, kind="stable")
        word = word[order]
        return Hits(
            words.text_of(word), word, np.concatenate([none, *entry])[order],
            np.concatenate([none, *length])[order],
        )  # fmt: skip


def _benches(index: _Index, hits: Hits) -> tuple[Ints, Ints]:
    """Return the distinct (text, benchmark) pairs of hits, ordered."""
    first = index.first[hits.entry_H]
    count = index.first[hits.entry_H + 1] - first
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    bench = index.bench[np.repeat(first, count) + within]
    width = int(index.bench.max()) + 1
    pairs = np.sort(np.repeat(hits.text_H, count) * width + bench)
    pairs = pairs[_is_new(pairs)]  # several times faster than np.unique, which hashes
    return pairs // width, pairs % width


def _is_new(ordered: Ints) -> Flags:
    """Mark the first of each run of equal values."""
    new = np.ones(len(ordered), dtype=np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    return new


def _mask_hashes() -> Hashes:
    return words_of([" ".join(_MASKS)]).hash_W


def _window(flags: Flags, n: int) -> Ints:
    """Count the set flags in each run of n."""
    total = np.concatenate([[0], np.cumsum(flags)])
    return total[n:] - total[:-n] if len(total) > n else np.empty(0, dtype=np.int64)


class Decontaminator:
    """Checks texts against benchmarks.

    Args:
        benchmarks: name → its texts: prompts, and reference solutions where there are any
            (``factory.stages.overlap`` reads them from files). Null and blank texts are left out.
        ngram: words that must run alike; 10 is R1's, 8 open-r1's, 13 that of older work.
        folding: what does not count as a difference (module docstring).
        twins: also report template twins, by ``TWIN_GRAM`` masked words.

    Raises:
        UsageError: no benchmark, no text in one, or ``ngram`` below 2.

    >>> checker = Decontaminator({"toy": ["How many legs do nine spiders and two cats have?"]})
    >>> frame = pl.DataFrame({"prompt": ["Say: how many legs do nine spiders and two cats have",
    ...                                  "How many legs do nine ants have?"]})
    >>> checker.check(frame, columns=["prompt"]).select("is_contaminated", "matched_ngram").rows()
    [(True, 'how many legs do nine spiders and two cats have'), (False, None)]
    """

    def __init__(
        self,
        benchmarks: Mapping[str, Sequence[str | None]],
        *,
        ngram: int = 10,
        folding: Folding = "words",
        twins: bool = False,
    ) -> None:
        if not benchmarks:
            raise UsageError("no benchmark is given", "name at least one file")
        if ngram < 2:
            raise UsageError(f"ngram {ngram} is below 2", "8, 10 and 13 are usual")
        if folding not in ("words", "whitespace"):
            raise UsageError(f"unknown folding {folding!r}", "use 'words' or 'whitespace'")
        self.ngram = ngram
        self.names = list(benchmarks)
        self.folding: Folding = folding
        self._index = _Index(ngram, folding, False)
        self._twins = _Index(TWIN_GRAM, "words", True) if twins else None
        self._first_item = [0]
        for name, texts in benchmarks.items():
            known = [text or "" for text in texts]
            if not any(text.strip() for text in known):
                raise UsageError(f"the benchmark {name!r} has no text", "check its columns")
            self._index.add(known, self._first_item[-1])
            if self._twins is not None:
                self._twins.add([mask_template(text) for text in known], self._first_item[-1])
            self._first_item.append(self._first_item[-1] + len(known))
        for index in (self._index, self._twins):
            if index is not None:
                index.freeze(self._first_item[:-1])

    def check(
        self,
        df: pl.DataFrame,
        columns: Sequence[str] = ("text",),
        *,
        on_words: Callable[[Words], None] | None = None,
    ) -> pl.DataFrame:
        """Add the four (with ``twins`` six) columns of findings to a frame.

        Args:
            df: any frame; call it batch by batch for a stream, the findings are row by row.
            columns: text columns to check; a run of words never spans two of them.
            on_words: gets the words of every chunk of texts, in order, column after column:
                ``Sketches.add_words`` looks for near-duplicates without finding words again.

        Returns:
            ``df`` with ``is_contaminated`` (null where all columns are null), ``contaminated_by``
            (names, in the order given; null where none), ``contaminated_item`` (``name:number``
            of the first match, numbered from 0 within its benchmark's texts) and
            ``matched_ngram`` (folded words of the first match); with ``twins`` also
            ``is_template_twin`` and ``twin_of`` (names).

        Raises:
            UsageError: a column is missing, or one that would be written exists.
        """
        written = COLUMNS + (TWIN_COLUMNS if self._twins is not None else ())
        for name in columns:
            if name not in df.columns:
                raise UsageError(f"no column {name!r}", f"it has {listed(df.columns)}")
        for name in written:
            if name in df.columns:
                raise UsageError(f"the input already has a column {name!r}", "drop or rename it")
        known = np.zeros(df.height, dtype=np.bool_)
        found = _Findings(df.height)
        for column in columns:
            texts = df.get_column(column).cast(pl.String)
            known |= texts.is_not_null().to_numpy()
            self._check_column(texts.to_list(), found, on_words)
        return df.with_columns(found.columns(self.names, known.tolist(), written))

    def _check_column(
        self,
        texts: list[str | None],
        found: _Findings,
        on_words: Callable[[Words], None] | None,
    ) -> None:
        for begin, chunk in chunks(texts):
            words = words_of(chunk, self.folding)
            if on_words is not None:
                on_words(words)
            hits = self._index.probe(words)
            if len(hits.text_H):
                self._note_first(words, hits, begin, found)
                for text, bench in _pairs(self._index, hits):
                    found.by.setdefault(begin + text, set()).add(bench)
            if self._twins is not None:
                twins = self._twins.probe(words_of([mask_template(text) for text in chunk]))
                if len(twins.text_H):
                    for text, bench in _pairs(self._twins, twins):
                        found.twin.setdefault(begin + text, set()).add(bench)

    def _note_first(self, words: Words, hits: Hits, begin: int, found: _Findings) -> None:
        first = np.flatnonzero(_is_new(hits.text_H))
        texts = hits.text_H[first]
        items = self._index.items[self._index.first[hits.entry_H[first]]]
        benches = np.searchsorted(self._first_item, items, side="right") - 1
        for text, low, item, bench in zip(
            texts.tolist(), first.tolist(), items.tolist(), benches.tolist(), strict=True
        ):
            row = begin + text
            if found.item[row] is None:
                found.item[row] = f"{self.names[bench]}:{item - self._first_item[bench]}"
                start = int(hits.word_H[low])
                n = int(hits.length_H[low]) or int(words.first_D[text + 1]) - start
                found.ngram[row] = words.phrase(start, n)


def _pairs(index: _Index, hits: Hits) -> Iterator[tuple[int, int]]:
    texts, benches = _benches(index, hits)
    return zip(texts.tolist(), benches.tolist(), strict=True)


class _Findings:
    """What was found in the rows of a frame."""

    def __init__(self, n_rows: int) -> None:
        self.by: dict[int, set[int]] = {}
        self.twin: dict[int, set[int]] = {}
        self.item: list[str | None] = [None] * n_rows
        self.ngram: list[str | None] = [None] * n_rows

    def columns(
        self, names: list[str], known: list[bool], written: Sequence[str]
    ) -> list[pl.Series]:
        """Return the columns that are asked for."""

        def flags(rows: Container[int]) -> list[bool | None]:
            return [i in rows if k else None for i, k in enumerate(known)]

        def lists(rows: dict[int, set[int]]) -> pl.Series:
            # Few distinct sets of names stand in many rows: each becomes a list once.
            distinct: dict[frozenset[int], int] = {}
            places: list[int | None] = [None] * len(known)
            for row, benches in rows.items():
                places[row] = distinct.setdefault(frozenset(benches), len(distinct))
            named = [[names[bench] for bench in sorted(benches)] for benches in distinct]
            values = pl.Series(named, dtype=pl.List(pl.String))
            at = pl.Series(places, dtype=pl.UInt32)
            return values.gather(at) if named else at.cast(pl.List(pl.String))

        series = {
            "is_contaminated": pl.Series(flags(self.by), dtype=pl.Boolean),
            "contaminated_by": lists(self.by),
            "contaminated_item": pl.Series(self.item, dtype=pl.String),
            "matched_ngram": pl.Series(self.ngram, dtype=pl.String),
            "is_template_twin": pl.Series(
                flags(self.twin.keys() - self.by.keys()), dtype=pl.Boolean
            ),
            "twin_of": lists(self.twin),
        }
        return [series[name].alias(name) for name in written]
