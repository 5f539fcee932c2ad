"""Words of many texts: their numbers, and the sums of their vectors over sentences; compiled."""

# numba counts in machine integers, which NumPy's stubs tell from int.
# mypy: disable-error-code="arg-type, assignment, return-value, no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from factory.compiled import inlined, kernel

if TYPE_CHECKING:
    from factory.scores.language.arrays import Bits, Bytes, Floats, Ints, Model, Table

Bools = npt.NDArray[np.bool_]
PROSE, BREAK = 1, 4  # as ``scan_kernels`` marks runs
# Longer runs of letters are no words: only so many bytes of them are looked at.
LONGEST_WORD = 64


@inlined
def hash_of(data: Bytes, begin: int, end: int) -> int:
    """Return 64 bits of FNV-1a, mixed once more, never 0."""
    h = np.uint64(14695981039346656037)
    for i in range(begin, end):
        h = (h ^ np.uint64(data[i])) * np.uint64(1099511628211)
    h ^= h >> np.uint64(32)
    return h | np.uint64(1)


@inlined
def place(key: npt.NDArray[np.uint64], h: int) -> int:
    """Return the slot of a hash, or the free one where it belongs."""
    mask = np.uint64(len(key) - 1)
    slot = (h >> np.uint64(7)) & mask
    while key[slot] != np.uint64(0) and key[slot] != h:
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@kernel
def build(data: Bytes, offset_W: Ints, key: npt.NDArray[np.uint64], slot_W: Ints) -> None:
    """Put W words that stand one after another in ``data`` into a table of hashes, 0 where free.

    Args:
        data: the words.
        offset_W: W + 1 byte offsets.
        key: a power of two slots, in and out.
        slot_W: out, the slot of each word.
    """
    for i in range(len(offset_W) - 1):
        h = hash_of(data, offset_W[i], offset_W[i + 1])
        slot_W[i] = place(key, h)
        key[slot_W[i]] = h


@inlined
def _lower(data: Bytes, begin: int, end: int, lower: Ints, out: Bytes) -> int:
    """Write a word in lower case and return its size; only ``LONGEST_WORD`` bytes are read."""
    end = min(end, begin + LONGEST_WORD)
    n, i = 0, begin
    while i < end:
        first = data[i]
        if first < 0x80:
            out[n] = lower[first]
            n, i = n + 1, i + 1
            continue
        if 0xC0 <= first < 0xE0 and i + 1 < end:
            point = (np.int64(first) & 0x1F) << 6 | np.int64(data[i + 1]) & 0x3F
            i += 2
        elif 0xE0 <= first < 0xE2 and i + 2 < end:  # up to U+1FFF, where lower case ends
            point = (np.int64(first) & 0x0F) << 12 | (np.int64(data[i + 1]) & 0x3F) << 6
            point |= np.int64(data[i + 2]) & 0x3F
            i += 3
        else:
            out[n] = first
            n, i = n + 1, i + 1
            continue
        point = lower[point]
        if point < 0x80:
            out[n] = point
            n += 1
        elif point < 0x800:
            out[n], out[n + 1] = 0xC0 | point >> 6, 0x80 | point & 0x3F
            n += 2
        else:
            out[n], out[n + 1] = 0xE0 | point >> 12, 0x80 | point >> 6 & 0x3F
            out[n + 2] = 0x80 | point & 0x3F
            n += 3
    return n


@inlined
def add_features(word: Bytes, n: int, model: Model, total_E: Floats) -> int:
    """Add the vectors of a word and of its character n-grams; return how many there were.

    Args:
        word: n bytes ``<word>`` in UTF-8, the marks included.
        n: number of bytes.
        model: the model.
        total_E: the sum to add to.
    """
    # Arrays are taken out of the tuple before a loop: in it, each would be counted as one more use.
    vectors, gram_row, n_words = model.vectors, model.gram_row, model.n_words
    min_chars, max_chars, count = model.min_chars, model.max_chars, 0
    row = np.int64(model.word_row[place(model.word_key, hash_of(word, 1, n - 1))])
    if row >= 0:
        count += 1
        for e in range(len(total_E)):
            total_E[e] += vectors[row, e]
    for i in range(n):
        if word[i] & 0xC0 == 0x80:
            continue
        h, j = np.uint32(2166136261), i
        for size in range(1, max_chars + 1):
            if j >= n:
                break
            while True:
                # fastText extends the sign of each byte.
                h = np.uint32((h ^ np.uint32(np.int8(word[j]))) * np.uint32(16777619))
                j += 1
                if j >= n or word[j] & 0xC0 != 0x80:
                    break
            if size < min_chars or (size == 1 and (i == 0 or j == n)):
                continue
            row = np.int64(gram_row[h % np.uint32(len(gram_row))])
            if row >= 0:
                count += 1
                for e in range(len(total_E)):
                    total_E[e] += vectors[n_words + row, e]
    return count


@kernel
def word_sums(data: Bytes, offset_W: Ints, model: Model, sum_WE: Floats, count_W: Ints) -> None:
    """Sum the features of W words that stand one after another in ``data``."""
    buffer = np.empty(4 * LONGEST_WORD, dtype=np.uint8)
    for i in range(len(offset_W) - 1):
        begin, end = offset_W[i], min(offset_W[i + 1], offset_W[i] + 3 * LONGEST_WORD)
        buffer[0] = 0x3C
        for j in range(begin, end):
            buffer[1 + j - begin] = data[j]
        buffer[1 + end - begin] = 0x3E
        count_W[i] = add_features(buffer, end - begin + 2, model, sum_WE[i])


@inlined
def _take(
    data: Bytes, begin: int, end: int, h: int, table: Table, model: Model, bits: Bits, lower: Ints,
    buffer: Bytes,
) -> int:  # fmt: skip
    """Take a new word into the table and return its number; -1 where that is full."""
    slot = place(table.key_V, h)
    code = table.size[0]
    if code >= len(table.count_C):
        return -1
    buffer[0] = 0x3C
    n = _lower(data, begin, end, lower, buffer[1:])
    buffer[1 + n] = 0x3E
    table.sum_CE[code] = 0
    table.count_C[code] = add_features(buffer, n + 2, model, table.sum_CE[code])
    lowered = hash_of(buffer, 1, n + 1)
    table.lower_C[code] = lowered
    is_same = n == end - begin
    for i in range(n):
        is_same = is_same and buffer[1 + i] == data[begin + i]
    table.is_name_C[code] = not is_same and end - begin <= LONGEST_WORD
    at = place(bits.key, lowered)
    table.bits_C[code] = bits.bits[at]
    table.key_V[slot], table.code_V[slot] = h, code
    table.size[0] = code + 1
    return code


@kernel
def gather(
    data: Bytes, edge_R: Ints, class_R: Bytes, mark_R: Bytes, first_D: Ints, main_D: Ints,
    is_read: Bools, table: Table, model: Model, bits: Bits, lower: Ints, member_M: Ints,
    code_M: npt.NDArray[np.int32], run_S: Ints, text_S: npt.NDArray[np.int64], hidden_SE: Floats,
    words_S: Ints, first_sentence_D: Ints, hidden_DE: Floats, features_D: Floats,
) -> tuple[int, bool]:  # fmt: skip
    """Sum the words of each sentence and each text, in the text's main script.

    Args:
        data: UTF-8 bytes of all texts.
        edge_R: R + 1 byte offsets of the runs of one script.
        class_R: script of each run, 0 for a gap.
        mark_R: bits of each run, ``PROSE`` and ``BREAK`` among them.
        first_D: D + 1 offsets of the texts' runs.
        main_D: the main script.
        is_read: by script, whether the model tells languages apart in it.
        table: words seen so far; grows.
        model: the model.
        bits: function words.
        lower: code points in lower case.
        member_M: out, run numbers of the words of all sentences.
        code_M: out, their numbers in the table.
        run_S: out, S + 1 offsets into ``member_M``.
        text_S: out, text of each sentence.
        hidden_SE: out, mean vector of each sentence.
        words_S: out, words that are no names.
        first_sentence_D: out, D + 1 offsets of sentences.
        hidden_DE: out, mean vector of each text.
        features_D: out, number of features of each text.

    Returns:
        The number S of sentences, and whether all words went into the table.
    """
    buffer = np.empty(4 * LONGEST_WORD, dtype=np.uint8)
    width = hidden_SE.shape[1]
    sum_E = np.zeros(width, dtype=np.float32)
    key_V, code_V, is_name_C = table.key_V, table.code_V, table.is_name_C
    sum_CE, count_C = table.sum_CE, table.count_C
    n_sentences, n_members, is_whole = 0, 0, True
    for text in range(len(main_D)):
        first_sentence_D[text] = n_sentences
        features_D[text] = 0
        main = main_D[text]
        if not is_read[main]:
            continue
        for e in range(width):
            hidden_DE[text, e] = sum_E[e] = 0.0
        features, n_here, opened = 0.0, 0.0, n_members
        n_words = 0
        last = first_D[text + 1]
        for run in range(first_D[text], last + 1):
            if run == last or mark_R[run] & BREAK:
                if n_members > opened:
                    run_S[n_sentences], text_S[n_sentences] = opened, text
                    words_S[n_sentences] = n_words
                    for e in range(width):
                        hidden_SE[n_sentences, e] = sum_E[e] / max(n_here, 1.0)
                        hidden_DE[text, e] += sum_E[e]
                        sum_E[e] = 0.0
                    features += n_here
                    n_sentences += 1
                    opened, n_here, n_words = n_members, 0.0, 0
                continue
            if class_R[run] != main or not mark_R[run] & PROSE:
                continue
            h = hash_of(data, edge_R[run], edge_R[run + 1])
            slot = place(key_V, h)
            code = np.int64(code_V[slot])
            if key_V[slot] != h:
                code = _take(
                    data, edge_R[run], edge_R[run + 1], h, table, model, bits, lower, buffer
                )
            if code < 0:
                is_whole = False
                continue
            # A capital inside a sentence is a name: in the span, but of no language.
            if n_members == opened or not is_name_C[code]:
                n_words += 1
                n_here += count_C[code]
                for e in range(width):
                    sum_E[e] += sum_CE[code, e]
            member_M[n_members], code_M[n_members] = run, code
            n_members += 1
        features_D[text] = features
        for e in range(width):
            hidden_DE[text, e] /= max(features, 1.0)
    first_sentence_D[len(main_D)] = n_sentences
    run_S[n_sentences] = n_members
    return n_sentences, is_whole
