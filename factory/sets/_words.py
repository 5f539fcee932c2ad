"""Words of many texts at once, as 64-bit hashes, and their n-grams. NumPy only, no loop per word.

A batch of texts is one byte buffer. Words of up to 8 bytes are themselves a 64-bit number; longer
ones are mixed 8 bytes at a time. n-grams are polynomials of word hashes modulo 2^64, built by
doubling, so that a 13-gram costs five multiplications and no string is ever made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.sets._fold import Folding, fold_bytes, table_of

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Temporaries of one chunk stay in a core's second-level cache.
CHUNK_CHARS = 1 << 17
CHUNK_TEXTS = 512
_LONG_WORD = 64
_P1 = np.uint64(0x9E3779B97F4A7C15)
_P2 = np.uint64(0xBF58476D1CE4E5B9)
_M = 0xD6E8FEB86659FD93
_BYTES = np.array([(1 << (8 * k)) - 1 for k in range(9)], dtype=np.uint64)


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
    parts = fold_bytes(texts, folding)
    # One space in front and between, and whole 8-byte loads at the end.
    folded = b" ".join([b"", *parts, b" " * 16]).translate(table_of(folding))
    codes = np.frombuffer(folded, dtype=np.uint8)
    is_space = codes == 32
    edges = np.flatnonzero(is_space[1:] != is_space[:-1])
    edges += 1
    begin_W, end_W = edges[0::2], edges[1::2]
    lengths = np.fromiter((len(part) + 1 for part in parts), dtype=np.int64, count=len(parts))
    starts_D = np.concatenate([[0], np.cumsum(lengths)])
    first_D = np.searchsorted(begin_W, starts_D)
    return Words(_hash_words(folded, begin_W, end_W), first_D, begin_W, end_W, folded)


def _hash_words(folded: bytes, begin_W: Ints, end_W: Ints) -> Hashes:
    loads = np.ndarray((len(folded) - 7,), dtype=np.uint64, buffer=folded, strides=(1,))
    length_W = end_W - begin_W
    hash_W: Hashes = loads[begin_W]
    hash_W &= _BYTES[np.minimum(length_W, 8)]
    hash_W *= _P1
    hash_W ^= hash_W >> np.uint64(32)
    longer = np.flatnonzero(length_W > 8)
    at, left = begin_W[longer], length_W[longer]
    # Not 8 bytes at a time: one word of a megabyte would take a hundred thousand rounds.
    for i in np.flatnonzero(left > _LONG_WORD).tolist():
        word = folded[at[i] : at[i] + left[i]]
        digest = hashlib.blake2b(word, digest_size=8).digest()
        hash_W[longer[i]] = int.from_bytes(digest, "little")
    short = left <= _LONG_WORD
    longer, at, left = longer[short], at[short], left[short]
    mixed = hash_W[longer]
    while len(longer):
        at = at + 8
        left = left - 8
        mixed *= _P2
        mixed ^= (loads[at] & _BYTES[np.minimum(left, 8)]) + (mixed >> np.uint64(29))
        mixed *= _P1
        hash_W[longer] = mixed
        more = left > 8
        longer, at, left, mixed = longer[more], at[more], left[more], mixed[more]
    return hash_W


def gram_hashes(hash_W: Hashes, n: int) -> Hashes:
    """Return hashes of all runs of n words, shape (W - n + 1,), whatever text they are in.

    >>> one = gram_hashes(np.arange(9, dtype=np.uint64), 3)
    >>> two = gram_hashes(np.arange(2, 9, dtype=np.uint64), 3)
    >>> bool((one[2:] == two).all())
    True
    """
    if len(hash_W) < n:
        return np.empty(0, dtype=np.uint64)
    out: Hashes | None = None
    done, power, width = 0, hash_W, 1
    while True:
        if n & width:
            # The words done so far stand before those of this power of two.
            out = power if out is None else _append(out, done, power, width)
            done += width
        width *= 2
        if width > n:
            break
        power = _append(power, width // 2, power, width // 2)
    assert out is not None
    return out[: len(hash_W) - n + 1]


def _append(left: Hashes, n_left: int, right: Hashes, n_right: int) -> Hashes:
    """Hash of ``n_left`` words and the ``n_right`` words after them."""
    length = len(right) - n_left
    factor = np.uint64(pow(_M, n_right, 1 << 64))
    out: Hashes = left[:length] * factor
    out += right[n_left : n_left + length]
    return out


def spanning(first_D: Ints, n: int, n_grams: int) -> Ints:
    """Return the n-grams that do not lie within one text (some more than once).

    >>> spanning(np.array([0, 3, 5]), 2, 4).tolist()
    [2]
    """
    back = np.arange(1, n)
    # Also right for texts shorter than n: what they cannot hold crosses an edge.
    edges = (first_D[1:-1, None] - back).ravel()
    return edges[(edges >= 0) & (edges < n_grams)]


def finalize(hashes: Hashes) -> Hashes:
    """Mix so that the upper bits depend on all of them."""
    out: Hashes = hashes ^ (hashes >> np.uint64(29))
    out *= _P2
    out ^= out >> np.uint64(32)
    return out
