"""Words of many texts at once, as 64-bit hashes, and their n-grams.

A batch of texts is one byte buffer. n-grams are polynomials of word hashes modulo 2^64, rolled from
word to word, so that each costs two multiplications whatever n is, and no string is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.sets.folding import Folding, fold_bytes, table_of

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Temporaries of one chunk stay in a core's second-level cache.
CHUNK_CHARS = 1 << 18
CHUNK_TEXTS = 512


@dataclass(frozen=True, slots=True)
class Words:
    """Words of D texts, W in all.

    Attributes:
        hash_W: hash of each word.
        first_D: shape (D + 1,), index of each text's first word.
        begin_W: byte offsets of the words in ``folded``; ``end_W`` their ends.
        folded: the folded texts, one after the other.
    """

    hash_W: Hashes
    first_D: Ints
    begin_W: Ints
    end_W: Ints
    folded: bytes

    @property
    def n_texts(self) -> int:
        """Number of texts."""
        return len(self.first_D) - 1

    def phrase(self, first: int, n: int) -> str:
        """Return n words from the given one on, as text."""
        if n == 0:
            return ""
        begin, end = self.begin_W[first], self.end_W[first + n - 1]
        return b" ".join(w for w in self.folded[begin:end].split(b" ") if w).decode(
            "utf-8", "replace"
        )

    def text_of(self, word_N: Ints) -> Ints:
        """Return the number of the text that holds each word index."""
        return np.searchsorted(self.first_D, word_N, side="right") - 1

    def unspaced_W(self) -> Flags | None:
        """Mark words that are one character of an unspaced script; None where there are none."""
        lead = np.frombuffer(self.folded, dtype=np.uint8)
        if len(self.begin_W) == 0 or lead.max() < 0xE0:
            return None
        first, second = lead[self.begin_W], lead[self.begin_W + 1]
        width = self.end_W - self.begin_W
        east = (first >= 0xE3) & (first <= 0xE9) & (width == 3)
        east |= (first == 0xEF) & (second >= 0xA4) & (second <= 0xAB) & (width == 3)
        east |= (first == 0xF0) & (second >= 0x9B) & (width == 4)
        thai = (first == 0xE0) & (second >= 0xB8) & (second <= 0xBB)
        thai |= (first == 0xE1) & np.isin(second, (0x80, 0x81, 0x82, 0x9E, 0x9F))
        flags = east | (thai & (width == 3))
        return flags if flags.any() else None


def chunks(texts: Sequence[str | None]) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the first text, texts), bounded in number and size; null becomes empty."""
    begin, size, chunk = 0, 0, list[str]()
    for text in texts:
        chunk.append(text or "")
        size += len(chunk[-1])
        if size >= CHUNK_CHARS or len(chunk) >= CHUNK_TEXTS:
            yield begin, chunk
            begin, size, chunk = begin + len(chunk), 0, []
    if chunk:
        yield begin, chunk


def words_of(texts: Sequence[str], folding: Folding = "words") -> Words:
    """Find and hash the words of a chunk of texts.

    >>> words = words_of(["Let x = 4.", "", "let X = 4!"])
    >>> words.first_D.tolist(), words.phrase(0, 3)
    ([0, 3, 3, 6], 'let x 4')
    >>> bool((words.hash_W[:3] == words.hash_W[3:]).all())
    True
    """
    from factory.sets._word_kernels import find_words

    parts = fold_bytes(texts, folding)
    # One space in front and between, and whole 8-byte loads at the end.
    folded = b" ".join([b"", *parts, b" " * 16]).translate(table_of(folding))
    room = len(folded) // 2 + 1
    begin_W, end_W = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    hash_W = np.empty(room, dtype=np.uint64)
    loads = np.ndarray((len(folded) - 7,), dtype=np.uint64, buffer=folded, strides=(1,))
    n = find_words(np.frombuffer(folded, dtype=np.uint8), loads, begin_W, end_W, hash_W)
    begin_W, end_W, hash_W = begin_W[:n], end_W[:n], hash_W[:n]
    lengths = np.fromiter((len(part) + 1 for part in parts), dtype=np.int64, count=len(parts))
    starts_D = np.concatenate([[0], np.cumsum(lengths)])
    first_D = np.searchsorted(begin_W, starts_D)
    return Words(hash_W, first_D, begin_W, end_W, folded)


def gram_hashes(hash_W: Hashes, n: int) -> Hashes:
    """Return hashes of all runs of n words, shape (W - n + 1,), whatever text they are in.

    >>> one = gram_hashes(np.arange(9, dtype=np.uint64), 3)
    >>> two = gram_hashes(np.arange(2, 9, dtype=np.uint64), 3)
    >>> bool((one[2:] == two).all())
    True
    """
    from factory.sets._word_kernels import roll

    out = np.empty(max(len(hash_W) - n + 1, 0), dtype=np.uint64)
    roll(hash_W, n, out)
    return out
