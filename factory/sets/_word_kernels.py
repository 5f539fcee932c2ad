"""Words of folded texts, hashes of their n-grams, and sketches, compiled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from factory.compiled import inlined, kernel

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]
Sketch = npt.NDArray[np.uint32]

N_BINS = 128
_P1 = np.uint64(0x9E3779B97F4A7C15)
_P2 = np.uint64(0xBF58476D1CE4E5B9)
_M = np.uint64(0xD6E8FEB86659FD93)
_SEED = np.uint64(0xCBF29CE484222325)
_ONE, _ONES = np.uint64(1), np.uint64(0x0101010101010101)
_SPACES, _TOPS = np.uint64(0x2020202020202020), np.uint64(0x8080808080808080)
_29, _32 = np.uint64(29), np.uint64(32)
_EMPTY = np.uint32(0xFFFFFFFF)
_STEP = np.uint32(0x9E3779B1)


@inlined
def mixed(h: np.uint64) -> np.uint64:
    """Spread what differs anywhere over all bits."""
    h ^= h >> _29
    h *= _P2
    return h ^ (h >> _32)


@kernel
def find_words(folded: Bytes, loads: Hashes, begin: Ints, end: Ints, hashes: Hashes) -> int:
    """Write byte offsets and hashes of the words that spaces part; return their number.

    Args:
        folded: UTF-8 that ends in at least eight spaces.
        loads: its eight bytes from each offset on, as one little-endian number.
        begin: offset of each word, written; room for half the bytes.
        end: where it ends, written.
        hashes: 64 bits made from the bytes of the word, written.
    """
    n, i, last = 0, 0, len(loads) - 1
    while i < last:
        if folded[i] == 32:
            i += 1
            continue
        begin[n] = i
        h = _SEED
        while True:
            eight = loads[i]
            # The lowest byte that is zero here is the first space (no borrow comes from below).
            blank = eight ^ _SPACES
            blank = (blank - _ONES) & ~blank & _TOPS
            if blank:
                break
            h = (h ^ eight) * _P1
            h ^= h >> _32
            i += 8
        inside = ((blank & (~blank + _ONE)) - _ONE) >> np.uint64(7)
        n_left = ((inside & _ONES) * _ONES) >> np.uint64(56)
        i += int(n_left)
        # The bytes that are left, and how many they are.
        h = (h ^ (eight & inside)) * _P1
        h ^= h >> _32
        end[n], hashes[n] = i, mixed((h ^ n_left) * _P1)
        n += 1
    return n


@inlined
def power(n: int) -> np.uint64:
    """Return the factor of the word that stands n words before the last."""
    out = np.uint64(1)
    for _ in range(n):
        out *= _M
    return out


@kernel
def roll(words: Hashes, n: int, out: Hashes) -> None:
    """Write the hash of each run of n words: Σ wordₖ Mⁿ⁻¹⁻ᵏ modulo 2^64, shape (W - n + 1,)."""
    h, drop = np.uint64(0), power(n)
    for i in range(len(words)):
        h = h * _M + words[i]
        if i >= n:
            h -= words[i - n] * drop
        if i >= n - 1:
            out[i - n + 1] = h


@inlined
def is_set(bitmap: Bytes, i: np.uint64) -> bool:
    """Say whether a bit is set."""
    return bool(bitmap[i >> np.uint64(3)] >> np.uint8(i & np.uint64(7)) & 1)


@kernel
def probe(
    words: Hashes, first: Ints, n: int, keep: Flags, bitmap: Bytes, shift: np.uint64, at: Ints,
    found: Hashes,
) -> int:  # fmt: skip
    """Write the runs of n words within one text whose bit is set; return their number.

    Args:
        words: hash of each word.
        first: D + 1 indices of the texts' first words.
        n: words of a run.
        keep: which runs may be compared, by first word; empty for all.
        bitmap: one bit for each value of a hash's upper bits.
        shift: how far to shift a hash for them.
        at: first word of each such run, written.
        found: its hash, written.
    """
    n_found, drop = 0, power(n)
    for d in range(len(first) - 1):
        h = np.uint64(0)
        for i in range(first[d], first[d + 1]):
            h = h * _M + words[i]
            begin = i - n + 1
            if begin < first[d]:
                continue
            if begin > first[d]:
                h -= words[begin - 1] * drop
            if is_set(bitmap, h >> shift) and (len(keep) == 0 or keep[begin]):
                at[n_found], found[n_found] = begin, h
                n_found += 1
    return n_found


@kernel
def sketch_texts(words: Hashes, first: Ints, ngram: int, sketch: Sketch) -> None:
    """Lower the bins of D texts to the least hash of their n-grams that falls into each.

    A text of fewer than ``ngram`` words has one n-gram, the whole of it.

    Args:
        words: hash of each word.
        first: D + 1 indices of the texts' first words.
        ngram: words of an n-gram.
        sketch: shape (D, N_BINS), all ``_EMPTY``; lowered in place.
    """
    for d in range(len(first) - 1):
        n = min(ngram, first[d + 1] - first[d])
        h, drop = np.uint64(0), power(n)
        for i in range(first[d], first[d + 1]):
            h = h * _M + words[i]
            begin = i - n + 1
            if begin < first[d]:
                continue
            if begin > first[d]:
                h -= words[begin - 1] * drop
            value = mixed(h + np.uint64(n) if n < ngram else h)
            place = np.int64(value >> np.uint64(57))
            low = min(np.uint32(value >> np.uint64(25)), np.uint32(_EMPTY - np.uint32(1)))
            if low < sketch[d, place]:
                sketch[d, place] = low


@kernel
def densify(sketch: Sketch, out: Sketch) -> None:
    """Copy sketches, empty bins filled from the next full one, a step added for each between."""
    for d in range(len(sketch)):
        full = -1
        for k in range(N_BINS):
            if sketch[d, k] != _EMPTY:
                full = k
                break
        if full < 0:
            for k in range(N_BINS):
                out[d, k] = _EMPTY
            continue
        value = sketch[d, full]
        for back in range(N_BINS):
            k = (full - back) % N_BINS
            value = sketch[d, k] if sketch[d, k] != _EMPTY else np.uint32(value + _STEP)
            out[d, k] = value
