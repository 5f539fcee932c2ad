"""Words, sentences and letter runs of many texts, compiled; the rules are those of ``prose``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from factory.compiled import inlined, kernel

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]

N_WORDS, N_SENTENCES, N_OTHERS, N_LONG = range(4)
N_SYLLABLES, N_HARD, N_SINGULAR, N_PLURAL, LANGUAGE = range(5)
# Flags of a word: the n lowest bits say in which languages it is a function word.
SINGULAR, PLURAL = 64, 128
_LETTER, _DIGIT, _BLANK, _STOP, _OTHER, _WIDE = range(6)
_KIND = np.full(256, _OTHER, dtype=np.uint8)
_KIND[list(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] = _LETTER
_KIND[list(b"0123456789_")] = _DIGIT
_KIND[list(b" \t\n\r\x0b\x0c")] = _BLANK
_KIND[list(b".!?")] = _STOP
_KIND[128:] = _WIDE
# Bytes of a line at whose end running text may have been wrapped.
WRAPPED = (60, 100)
_P1 = np.uint64(0x9E3779B97F4A7C15)
_P2 = np.uint64(0xBF58476D1CE4E5B9)
_SEED = np.uint64(0xCBF29CE484222325)
_ONE, _EMPTY = np.uint64(1), np.uint64(0)


@inlined
def hash_bytes(data: Bytes, loads: Hashes, begin: int, end: int) -> np.uint64:
    """Return 64 bits made from the bytes [begin, end) and nothing else, eight at a time."""
    h = _SEED ^ np.uint64(end - begin)
    i = begin
    while i + 8 <= end:
        h = (h ^ loads[i]) * _P1
        h ^= h >> np.uint64(32)
        i += 8
    if i < end:
        n_left = np.uint64(8 * (end - i))
        if i < len(loads):
            rest = loads[i] & ((np.uint64(1) << n_left) - np.uint64(1))
        else:
            rest = np.uint64(0)
            for k in range(end - 1, i - 1, -1):
                rest = rest << np.uint64(8) | np.uint64(data[k])
        h = (h ^ rest) * _P1
        h ^= h >> np.uint64(32)
    h *= _P2
    return h ^ (h >> np.uint64(29))


@inlined
def wide_kind(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """Return kind and bytes of a character beyond ASCII.

    Signs are no letters: U+00A0 to U+00BF, × and ÷, U+2000 to U+2BFF, U+3000 to U+303F, emoji.
    The apostrophe ’ is one.
    """
    lead = data[i]
    if lead < 0xC2 or i + 1 >= end:
        return _LETTER, 1
    second = data[i + 1]
    if lead == 0xC2 or (lead == 0xC3 and (second == 0x97 or second == 0xB7)):
        return _OTHER, 2
    if (lead == 0xE2 and second < 0xB0) or (lead == 0xE3 and second == 0x80):
        is_curly = lead == 0xE2 and second == 0x80 and i + 2 < end and data[i + 2] == 0x99
        return _LETTER if is_curly else _OTHER, 3
    if lead == 0xF0 and second == 0x9F:
        return _OTHER, 4
    return _LETTER, 1  # the bytes that follow are letters by themselves


@inlined
def kind_at(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """Return kind and bytes of the character that begins here."""
    kind = int(_KIND[data[i]])
    if kind != _WIDE:
        return kind, 1
    kind, width = wide_kind(data, i, end)
    return kind, min(width, end - i)


@inlined
def number_of(h: np.uint64, key: Hashes, number: Places) -> tuple[int, np.uint64]:
    """Return the number of a word (-1 if it is new) and its slot in the table."""
    mask = np.uint64(len(key) - 1)
    slot = h & mask
    while key[slot] != h and key[slot] != _EMPTY:
        slot = (slot + _ONE) & mask
    return (number[slot] if key[slot] == h else -1), slot


@inlined
def ends_line(data: Bytes, begin: int, i: int, end: int) -> bool:
    """Say whether the line break at ``i`` ends a sentence that has no stop.

    It does not where running text was wrapped: a line of ``WRAPPED`` bytes, and a small letter (or
    one beyond ASCII) at the beginning of the next.
    """
    if not WRAPPED[0] <= i - begin <= WRAPPED[1] or i + 1 >= end:
        return True
    following = data[i + 1]
    return not (0x61 <= following <= 0x7A or following >= 0xC2)


@kernel
def grow(key: Hashes, number: Places, new_key: Hashes, new_number: Places) -> None:
    """Copy a table of words into a larger, empty one."""
    for i in range(len(key)):
        if key[i] != _EMPTY:
            slot = number_of(key[i], new_key, new_number)[1]
            new_key[slot], new_number[slot] = key[i], number[i]


@kernel
def read_prose(
    data: Bytes, loads: Hashes, bounds: Ints, first_text: int, key: Hashes, number: Places,
    n_known: int, counts: Ints, runs: Places, first_run: Ints, new: Ints,
) -> tuple[int, int]:  # fmt: skip
    """Count words and sentences of texts and number their letter runs.

    Args:
        data: the texts one after another in UTF-8.
        loads: of ``eights``.
        bounds: D + 1 byte offsets.
        first_text: where to begin.
        key: hash table of known words, a power of two; a hash is 64 bits of the bytes.
        number: the words' numbers.
        n_known: words known so far; new ones are numbered from here on.
        counts: shape (D, 4), written: words, sentences, words without a letter run of two bytes
            or more, runs of more than 6 bytes.
        runs: written: number of each letter run; room for half the bytes and one more per text.
        first_run: D + 1 offsets into ``runs``, written; the one of ``first_text`` is read.
        new: shape (≥ half the table, 2), written: byte offsets of the words that are new.

    Returns:
        The text at which the table was full (D: none), and the number of words known then. That
        text is to be begun anew with a larger table.
    """
    is_new_from = n_known
    room = len(key) // 2
    for d in range(first_text, len(bounds) - 1):
        n_words, n_sentences, n_spelled, n_long, n_runs = 0, 0, 0, 0, first_run[d]
        has_word, has_spelled, has_piece, n_pieces = False, False, False, 0
        end = bounds[d + 1]
        i = bounds[d]
        line = i
        while i <= end:
            begin = i
            kind, width = _BLANK, 1  # the end parts words as a blank does
            while i < end:
                kind, width = kind_at(data, i, end)
                if kind != _LETTER:
                    # An apostrophe between letters belongs to the word.
                    is_inside = begin < i < end - 1 and data[i] == 0x27 and data[i - 1] != 0x27
                    if not is_inside or kind_at(data, i + 1, end)[0] != _LETTER:
                        break
                i += width
            if begin < i:
                h = hash_bytes(data, loads, begin, i)
                h = h if h != _EMPTY else _ONE
                word, slot = number_of(h, key, number)
                if word < 0:
                    if n_known >= room:
                        return d, n_known
                    word = n_known
                    key[slot], number[slot] = h, word
                    new[word - is_new_from, 0], new[word - is_new_from, 1] = begin, i
                    n_known += 1
                runs[n_runs] = word
                n_runs += 1
                has_piece = True
                has_spelled |= i - begin > 1
                n_long += i - begin > 6
            if i == end:
                kind, width = _BLANK, 1
            if kind == _DIGIT:
                has_piece = True
            elif kind in (_BLANK, _STOP):
                n_pieces += has_piece
                has_word |= has_piece
                has_piece = False
                is_break = i < end and data[i] == 0x0A
                if kind == _STOP or i == end or (is_break and ends_line(data, line, i, end)):
                    n_sentences += n_pieces > 2
                    n_pieces = 0
                if is_break:
                    line = i + 1
                if kind == _BLANK:
                    n_words += has_word
                    n_spelled += has_spelled
                    has_word = has_spelled = False
            i += width
        counts[d, N_WORDS] = n_words
        counts[d, N_SENTENCES] = max(n_sentences, 1) if n_words else 0
        counts[d, N_OTHERS] = n_words - n_spelled
        counts[d, N_LONG] = n_long
        first_run[d + 1] = n_runs
    return len(bounds) - 1, n_known


@kernel
def sum_words(
    runs: Places, first_run: Ints, counts: Ints, english: Places, plain: Places, flags: Bytes,
    n_languages: int, least_share: float, out: Ints,
) -> None:  # fmt: skip
    """Name the language of texts by their function words and sum what is known of their words.

    Args:
        runs: number of each letter run.
        first_run: D + 1 offsets into ``runs``.
        counts: of ``read_prose``.
        english: syllables of each word by the rules of English.
        plain: its groups of vowels.
        flags: its bits (``SINGULAR``, ``PLURAL``, languages).
        n_languages: languages that have formulas; the first is English.
        least_share: of the words must be function words of a language for it to be named.
        out: shape (D, 5), written: syllables, words of three and more, first persons singular and
            plural, number of the language or -1.
    """
    hits = np.empty(n_languages, dtype=np.int64)
    for d in range(len(first_run) - 1):
        for k in range(n_languages):
            hits[k] = 0
        n_singular, n_plural, n_syllables, n_hard = 0, 0, 0, 0
        for r in range(first_run[d], first_run[d + 1]):
            word = runs[r]
            n_syllables += english[word]
            n_hard += english[word] >= 3
            flag = flags[word]
            if flag:
                for k in range(n_languages):
                    hits[k] += flag >> k & 1
                n_singular += flag & SINGULAR != 0
                n_plural += flag & PLURAL != 0
        best = 0
        for k in range(n_languages):
            if hits[k] > hits[best]:
                best = k
        is_known = hits[best] / max(counts[d, N_WORDS], 1) >= least_share
        if is_known and best > 0:
            n_syllables, n_hard = 0, 0
            for r in range(first_run[d], first_run[d + 1]):
                n_syllables += plain[runs[r]]
                n_hard += plain[runs[r]] >= 3
        out[d, N_SYLLABLES] = n_syllables + counts[d, N_OTHERS]
        out[d, N_HARD], out[d, N_SINGULAR], out[d, N_PLURAL] = n_hard, n_singular, n_plural
        out[d, LANGUAGE] = best if is_known else -1
