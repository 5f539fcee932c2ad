"""Tokens, repeated n-grams and loops of one text after another, compiled.

A *token* is a run of bytes without white space; each Han, kana, Thai, Lao, Khmer or Burmese
character is a token of its own, because those scripts do not put spaces between words; a run of
more than 64 bytes is cut into pieces of 8, so that a loop without any space is a loop too.

n-grams are told apart without hashing them: the class of an n-gram is the number of the first place
where it stands, found from the pair (class of its first n - 1 tokens, class of its last one). Only
where the first n - 1 tokens stand more than once can the n do so, which leaves little work beyond
n = 3. Single tokens, and n-grams of which only one n is asked for, are told apart by 64 bits.

Compiled, because every character is read: the same in 22 lines of Python does 2.2 MB/s, this 49.6.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from factory.compiled import inlined, kernel

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

LONG_BYTES, PIECE_BYTES = 64, 8
TOP, DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)
LOOP_GRAM, REPEAT_GRAM = 8, 12
# A period is worth a look where at least so many n-grams recur at that distance.
_MIN_RECURRENCES = 16
_MAX_CANDIDATES = 6
# A token that differs from its copy costs what four equal ones earn: counters ("Step 41") and small
# variations are bridged, prose that merely shares phrases is not.
_MISMATCH_COST = 4
_P1 = np.uint64(0x9E3779B97F4A7C15)
_P2 = np.uint64(0xBF58476D1CE4E5B9)
_SEED = np.uint64(0xCBF29CE484222325)
_29, _32, _ONE = np.uint64(29), np.uint64(32), np.uint64(1)
_PLAIN, _BLANK, _LEAD = range(3)
_KIND = np.zeros(256, dtype=np.uint8)
_KIND[[0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20]] = _BLANK
_KIND[0xE0:0xEA] = _LEAD
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


@inlined
def mixed(h: np.uint64) -> np.uint64:
    """Spread what differs anywhere over all bits."""
    h ^= h >> _32
    h *= _P2
    return h ^ (h >> _29)


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
def is_alone(data: Bytes, i: int, end: int) -> bool:
    """Say whether a character that is a token of its own begins here: three bytes in UTF-8."""
    lead = data[i]
    if lead < 0xE0 or i + 2 >= end:
        return False
    second = data[i + 1]
    if lead == 0xE0:  # U+0E00 and later: Thai, Lao, Tibetan
        return bool(second >= 0xB8)
    if lead == 0xE1:  # Burmese, Khmer
        return bool(second < 0x83 or 0x9E <= second < 0xA0)
    return bool(0xE3 <= lead <= 0xE9)  # U+3000 to U+9FFF: kana, Han and their punctuation


@inlined
def split(
    data: Bytes, loads: Hashes, begin: int, end: int, start: Places, stop: Places, hashes: Hashes,
    is_head: Bytes,
) -> int:  # fmt: skip
    """Write the tokens of a text, offsets counted from ``begin``; return their number.

    ``is_head`` becomes 1 where a line break stands between a token and the one before.
    """
    n = 0
    i = begin
    head = 0
    while i < end:
        kind = _KIND[data[i]]
        if kind == _BLANK:
            head |= data[i] == 0x0A
            i += 1
            continue
        j = i + 1
        if kind == _LEAD and is_alone(data, i, end):
            j = i + 3
        else:
            while j < end:
                kind = _KIND[data[j]]
                if kind == _BLANK or (kind == _LEAD and is_alone(data, j, end)):
                    break
                j += 1
        if j - i <= LONG_BYTES:
            start[n], stop[n], is_head[n] = i - begin, j - begin, head
            hashes[n] = hash_bytes(data, loads, i, j)
            n += 1
        else:
            for k in range(i, j, PIECE_BYTES):
                piece_end = min(k + PIECE_BYTES, j)
                start[n], stop[n] = k - begin, piece_end - begin
                hashes[n], is_head[n] = hash_bytes(data, loads, k, piece_end), head
                head = 0
                n += 1
        head = 0
        i = j
    return n


@inlined
def n_tokens_at_most(bounds: Ints) -> int:
    """Return how many tokens the longest text can have: each needs a byte and one to part it."""
    longest = 0
    for d in range(len(bounds) - 1):
        longest = max(longest, bounds[d + 1] - bounds[d])
    return longest // 2 + 1


@inlined
def n_slots(n: int) -> int:
    """Return the size of a hash table for n keys: a power of two, at most two thirds full."""
    slots = 16
    while 2 * slots < 3 * n:
        slots *= 2
    return slots


@inlined
def group_tokens(
    n_tokens: int, hashes: Hashes, code: Places, count: Places, key: Hashes, first: Places
) -> None:
    """Number the tokens: ``code`` becomes the first place of the same token, ``count`` how many."""
    slots = n_slots(n_tokens)
    for i in range(slots):
        key[i] = _EMPTY
    mask = np.uint64(slots - 1)
    for p in range(n_tokens):
        k = hashes[p] if hashes[p] != _EMPTY else _SEED
        slot = k & mask
        while key[slot] != k and key[slot] != _EMPTY:
            slot = (slot + _ONE) & mask
        if key[slot] == k:
            code[p] = first[slot]
            count[first[slot]] += 1
        else:
            key[slot], first[slot] = k, p
            code[p], count[p] = p, 1


@inlined
def group_grams(
    n: int, places: Places, n_places: int, cls: Places, code: Places, count: Places,
    key: Hashes, first: Places,
) -> None:  # fmt: skip
    """Lengthen the classes of n - 1 tokens at these places to classes of n."""
    slots = n_slots(n_places)
    for i in range(slots):
        key[i] = _EMPTY
    mask = np.uint64(slots - 1)
    for a in range(n_places):
        p = places[a]
        k = np.uint64(cls[p]) << _32 | np.uint64(code[p + n - 1])
        slot = mixed(k * _P1) & mask
        while key[slot] != k and key[slot] != _EMPTY:
            slot = (slot + _ONE) & mask
        if key[slot] == k:
            cls[p] = first[slot]
            count[first[slot]] += 1
        else:
            key[slot], first[slot] = k, p
            cls[p], count[p] = p, 1


@inlined
def keep_repeated(
    n: int, n_tokens: int, places: Places, n_places: int, cls: Places, count: Places
) -> int:
    """Keep the places whose class stands elsewhere too and that have room for n tokens."""
    kept = 0
    for a in range(n_places):
        p = places[a]
        if count[cls[p]] > 1 and p + n <= n_tokens:
            places[kept] = p
            kept += 1
    return kept


@inlined
def top_bytes(
    n: int, n_tokens: int, places: Places, n_places: int, cls: Places, count: Places,
    start: Places, stop: Places,
) -> int:  # fmt: skip
    """Return the bytes in the most frequent n-gram, with spaces, none counted twice.

    Among equally frequent ones the longest. Where none stands twice, it is the longest of all.
    """
    most, longest, best = 1, 0, -1
    for a in range(n_places):
        p = places[a]
        if cls[p] == p and count[p] > 1:
            span = stop[p + n - 1] - start[p]
            if count[p] > most or (count[p] == most and span > longest):
                most, longest, best = count[p], span, p
    if best < 0:
        for p in range(n_tokens - n + 1):
            longest = max(longest, stop[p + n - 1] - start[p])
        return longest
    n_bytes, until = 0, 0
    for a in range(n_places):
        p = places[a]
        if cls[p] == best:
            n_bytes += stop[p + n - 1] - max(start[p], until)
            until = stop[p + n - 1]
    return n_bytes


@inlined
def covered_bytes(
    n: int, places: Places, n_places: int, cls: Places, start: Places, stop: Places
) -> int:
    """Return the bytes of the tokens in n-grams that stood before, none counted twice."""
    n_bytes, until = 0, 0
    for a in range(n_places):
        p = places[a]
        if cls[p] != p:
            for q in range(max(p, until), p + n):
                n_bytes += stop[q] - start[q]
            until = p + n
    return n_bytes


@inlined
def periods(
    places: Places, n_places: int, cls: Places, last: Places,
    key: Hashes, first: Places, found: Ints,
) -> int:  # fmt: skip
    """Write the distances at which n-grams recur most often, in tokens; return their number."""
    slots = n_slots(n_places)
    for i in range(slots):
        key[i] = _EMPTY
    mask = np.uint64(slots - 1)
    n_again = 0
    for a in range(n_places):
        p = places[a]
        if cls[p] != p:
            n_again += 1
            distance = np.uint64(p - last[cls[p]])
            slot = mixed(distance * _P1) & mask
            while key[slot] != distance and key[slot] != _EMPTY:
                slot = (slot + _ONE) & mask
            first[slot] = first[slot] + 1 if key[slot] == distance else 1
            key[slot] = distance
        last[cls[p]] = p
    if n_again < _MIN_RECURRENCES:
        return 0
    often = np.zeros(_MAX_CANDIDATES + 1, dtype=np.int64)
    n_found = 0
    for i in range(slots):
        if key[i] == _EMPTY:
            continue
        times, period = np.int64(first[i]), np.int64(key[i])
        # Three further copies of a period give at least half a period of recurrences even where
        # the n-grams that hold a counter do not recur.
        if times < _MIN_RECURRENCES or 2 * times < period:
            continue
        at = n_found
        while at > 0 and (
            often[at - 1] < times or (often[at - 1] == times and found[at - 1] > period)
        ):
            often[at], found[at] = often[at - 1], found[at - 1]
            at -= 1
        often[at], found[at] = times, period
        n_found = min(n_found + 1, _MAX_CANDIDATES)
    return n_found


@inlined
def stretch(code: Places, n_tokens: int, period: int) -> tuple[int, int]:
    """Return the token range [a, b) that best repeats itself with this period.

    The range of greatest sum, one for each token equal to that one period before and minus
    ``_MISMATCH_COST`` for each other one, with the first period put before it.
    """
    total, low, low_at = 0, 0, 0
    best, begin, end = 0, 0, 0
    for i in range(n_tokens - period):
        total += 1 if code[i + period] == code[i] else -_MISMATCH_COST
        if total <= low:
            low, low_at = total, i + 1
        elif total - low > best:
            best, begin, end = total - low, low_at, i + 1
    return begin, end + period if end > begin else begin


@inlined
def find_loop(
    n_tokens: int, code: Places, start: Places, stop: Places, found: Ints, n_found: int,
    min_copies: float, min_bytes: int, loop: Floats,
) -> None:  # fmt: skip
    """Write offset and length in bytes, mean period in bytes and copies of the longest loop."""
    longest = 0
    for turn in range(2):  # the longest first, then those that are nearly as long
        for k in range(n_found):
            begin, end = stretch(code, n_tokens, found[k])
            copies = (end - begin) / found[k]
            if end <= begin or copies < min_copies:
                continue
            size = stop[end - 1] - start[begin]
            if size < min_bytes:
                continue
            if turn == 0:
                longest = max(longest, size)
            elif size >= 0.95 * longest and (loop[1] == 0 or size / copies < loop[2]):
                # A multiple of the period fits as well: the shortest that explains nearly as much.
                loop[0], loop[1], loop[2], loop[3] = start[begin], size, size / copies, copies


@kernel
def measure_repetition(
    data: Bytes, loads: Hashes, bounds: Ints, min_copies: float, min_bytes: int, top: Ints,
    duplicate: Ints, loops: Floats,
) -> None:  # fmt: skip
    """Measure the repetition of D texts.

    Args:
        data: the texts one after another in UTF-8.
        loads: of ``eights``.
        bounds: D + 1 byte offsets.
        min_copies: a loop says its period at least so often.
        min_bytes: a loop has at least so many bytes.
        top: shape (D, 3), written: bytes in the most frequent n-gram, for n in ``TOP``.
        duplicate: shape (D, 6), written: bytes in n-grams said before, for n in ``DUPLICATE``.
        loops: shape (D, 4), all zero; written: offset and length in bytes, mean period in bytes,
            copies of the longest loop.
    """
    room = n_tokens_at_most(bounds)
    is_head = np.empty(room, dtype=np.uint8)
    start, stop = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int32)
    code, cls = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int32)
    count, places = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int32)
    last, hashes = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.uint64)
    key, first = np.empty(n_slots(room), np.uint64), np.empty(n_slots(room), np.int32)
    found = np.empty(_MAX_CANDIDATES + 1, dtype=np.int64)
    for d in range(len(bounds) - 1):
        n_tokens = split(data, loads, bounds[d], bounds[d + 1], start, stop, hashes, is_head)
        group_tokens(n_tokens, hashes, code, count, key, first)
        for p in range(n_tokens):
            cls[p], places[p] = code[p], p
        n_places = n_tokens
        for n in range(2, 11):
            n_places = keep_repeated(n, n_tokens, places, n_places, cls, count)
            group_grams(n, places, n_places, cls, code, count, key, first)
            if n <= 4:
                top[d, n - 2] = top_bytes(n, n_tokens, places, n_places, cls, count, start, stop)
            else:
                duplicate[d, n - 5] = covered_bytes(n, places, n_places, cls, start, stop)
            if n == LOOP_GRAM:
                n_found = periods(places, n_places, cls, last, key, first, found)
                if n_found:
                    find_loop(
                        n_tokens, code, start, stop, found, n_found, min_copies, min_bytes,
                        loops[d],
                    )  # fmt: skip


@inlined
def n_said_before(n: int, n_tokens: int, hashes: Hashes, key: Hashes) -> int:
    """Count the tokens in n-grams that stood before, told apart by 64 bits made from the tokens."""
    if n_tokens <= n:
        return 0
    slots = n_slots(n_tokens)
    for i in range(slots):
        key[i] = _EMPTY
    mask = np.uint64(slots - 1)
    drop = np.uint64(1)
    for _ in range(n):
        drop *= _P1
    h, n_before, until = np.uint64(0), 0, 0
    for i in range(n_tokens):
        h = h * _P1 + hashes[i]
        p = i - n + 1
        if p < 0:
            continue
        if p > 0:
            h -= hashes[p - 1] * drop
        k = mixed(h)
        slot = k & mask
        while key[slot] != k and key[slot] != _EMPTY:
            slot = (slot + _ONE) & mask
        if key[slot] == k:
            n_before += p + n - max(p, until)
            until = p + n
        key[slot] = k
    return n_before


@kernel
def measure_paragraphs(
    data: Bytes, loads: Hashes, bounds: Ints, usual_words: float, out: Floats
) -> None:
    """Measure the paragraphs of D texts, and how much of each was said before.

    A paragraph ends at a line break: so a reader of a trace sees it.

    Args:
        data: the texts one after another in UTF-8.
        loads: of ``eights``.
        bounds: D + 1 byte offsets.
        usual_words: words of a paragraph of which half count as short.
        out: shape (D, 5), written: tokens, paragraphs with a token, tokens of the longest,
            Σ tokens / (1 + (tokens / usual_words)²), tokens in ``REPEAT_GRAM``-grams said before.
    """
    room = n_tokens_at_most(bounds)
    is_head = np.empty(room, dtype=np.uint8)
    start, stop = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int32)
    hashes, key = np.empty(room, dtype=np.uint64), np.empty(n_slots(room), np.uint64)
    for d in range(len(bounds) - 1):
        begin = bounds[d]
        n_tokens = split(data, loads, begin, bounds[d + 1], start, stop, hashes, is_head)
        n_paragraphs, longest, short, words = 0, 0, 0.0, 0
        for p in range(n_tokens + 1):
            if words and (p == n_tokens or is_head[p]):
                n_paragraphs += 1
                longest = max(longest, words)
                short += words / (1 + (words / usual_words) ** 2)
                words = 0
            words += 1
        out[d, 0], out[d, 1], out[d, 2], out[d, 3] = n_tokens, n_paragraphs, longest, short
        out[d, 4] = n_said_before(REPEAT_GRAM, n_tokens, hashes, key)
