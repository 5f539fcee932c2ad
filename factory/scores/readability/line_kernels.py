"""Lines said twice, markdown, code blocks and kinds of characters, compiled.

White space is Unicode's; a line ends at U+000A alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from factory.compiled import inlined, kernel

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

# What a code point is, as bits of the table that ``measure_markup`` takes.
LETTER, EASTERN, DIGIT, BROKEN = 1, 2, 4, 8
(
    N_BLOCKS, CODE_BYTES, N_HEADINGS, N_ITEMS, N_MARKDOWN, N_LINES, N_BROKEN, N_CHARS, N_LETTERS,
    N_EASTERN,
) = range(10)  # fmt: skip
N_COUNTS = 10
LINE, PARAGRAPH, SENTENCE = range(3)
# Shorter sentences ("So 3.") are said again without being a repetition.
SENTENCE_BYTES = 12
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)
_P1 = np.uint64(0x9E3779B97F4A7C15)
_P2 = np.uint64(0xBF58476D1CE4E5B9)
_SEED = np.uint64(0xCBF29CE484222325)


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
def white_width(data: Bytes, i: int, end: int) -> int:
    """Return the bytes of the white space character that begins here; 0 where there is none."""
    byte = data[i]
    if byte < 0x80:
        return 1 if byte == 0x20 or 0x09 <= byte <= 0x0D else 0
    if byte == 0xC2:
        return 2 if i + 1 < end and (data[i + 1] == 0x85 or data[i + 1] == 0xA0) else 0
    if byte < 0xE1 or byte > 0xE3 or i + 2 >= end:
        return 0
    point = (byte & 15) << 12 | (data[i + 1] & 63) << 6 | (data[i + 2] & 63)
    if point == 0x1680 or 0x2000 <= point <= 0x200A or point == 0x2028 or point == 0x2029:
        return 3
    return 3 if point == 0x202F or point == 0x205F or point == 0x3000 else 0


@inlined
def trim(data: Bytes, begin: int, end: int) -> tuple[int, int]:
    """Return the range without white space at its ends."""
    while begin < end:
        width = white_width(data, begin, end)
        if width == 0:
            break
        begin += width
    while begin < end:
        if data[end - 1] < 0x80:
            width = 1
        elif end - begin >= 2 and data[end - 2] == 0xC2:
            width = 2
        else:
            width = 3
        if end - begin < width or white_width(data, end - width, end) != width:
            break
        end -= width
    return begin, end


@inlined
def stop_width(data: Bytes, i: int, end: int) -> int:
    """Return the bytes of the full stop, ``!`` or ``?`` that begins here; 0 where there is none."""
    byte = data[i]
    if byte == 0x2E or byte == 0x21 or byte == 0x3F:
        # A point inside a number or a name ends nothing.
        return 1 if i + 1 == end or white_width(data, i + 1, end) else 0
    if i + 2 >= end:
        return 0
    if byte == 0xE3:
        return 3 if data[i + 1] == 0x80 and data[i + 2] == 0x82 else 0
    if byte == 0xEF and data[i + 1] == 0xBC:
        return 3 if data[i + 2] == 0x81 or data[i + 2] == 0x9F else 0
    return 0


@inlined
def piece_end(data: Bytes, i: int, end: int, unit: int) -> tuple[int, int]:
    """Return where the line, paragraph or sentence that begins here ends, and how wide that is."""
    j = i
    while j < end:
        if data[j] == 0x0A:
            if unit != PARAGRAPH:
                return j, 1
            if j + 1 < end and data[j + 1] == 0x0A:
                return j, 2
        elif unit == SENTENCE:
            width = stop_width(data, j, end)
            if width:
                return j, width
        j += 1
    return j, 1


@kernel
def measure_lines(data: Bytes, loads: Hashes, bounds: Ints, out: Ints) -> None:
    """Count lines, paragraphs and sentences of D texts that stood before; blank ones are left out.

    A sentence ends at a line break or behind ``.``, ``!``, ``?`` and their full-width forms; those
    of fewer than ``SENTENCE_BYTES`` are left out.

    Args:
        data: the texts one after another in UTF-8.
        loads: of ``eights``.
        bounds: D + 1 byte offsets.
        out: shape (D, 3, 5), written: for lines, for what an empty line parts and for sentences,
            how many there are, how many stood before, the bytes of those, how often the most
            frequent one stands there, and its bytes.
    """
    key, count = np.empty(64, dtype=np.uint64), np.empty(64, dtype=np.int64)
    for d in range(len(bounds) - 1):
        begin, end = bounds[d], bounds[d + 1]
        n_breaks = 1
        for i in range(begin, end):
            n_breaks += data[i] == 0x0A or stop_width(data, i, end) > 0
        slots = 16
        while 2 * slots < 3 * n_breaks:
            slots *= 2
        if slots > len(key):
            key, count = np.empty(slots, dtype=np.uint64), np.empty(slots, dtype=np.int64)
        mask = np.uint64(slots - 1)
        for unit in range(3):
            for k in range(slots):
                key[k] = _EMPTY
            n_pieces, n_again, n_bytes, i = 0, 0, 0, begin
            most, longest = 0, 0
            while i <= end:
                j, width = piece_end(data, i, end, unit)
                a, b = trim(data, i, min(j + width, end) if unit == SENTENCE else j)
                if a < b and (unit != SENTENCE or b - a >= SENTENCE_BYTES):
                    n_pieces += 1
                    h = hash_bytes(data, loads, a, b)
                    slot = h & mask
                    while key[slot] != h and key[slot] != _EMPTY:
                        slot = (slot + _ONE) & mask
                    if key[slot] == h:
                        n_again += 1
                        n_bytes += b - a
                        count[slot] += 1
                    else:
                        key[slot], count[slot] = h, 1
                    if count[slot] > most:
                        most, longest = count[slot], b - a
                i = j + width
            out[d, unit, 0], out[d, unit, 1], out[d, unit, 2] = n_pieces, n_again, n_bytes
            out[d, unit, 3], out[d, unit, 4] = most, longest


@inlined
def point_at(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """Return the code point that begins here and its bytes."""
    first = int(data[i])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return ((first & 31) << 6 | (data[i + 1] & 63), 2) if i + 1 < end else (0, 1)
    if first < 0xF0:
        if i + 2 >= end:
            return 0, 1
        return (first & 15) << 12 | (data[i + 1] & 63) << 6 | (data[i + 2] & 63), 3
    if i + 3 >= end:
        return 0, 1
    point = (first & 7) << 18 | (data[i + 1] & 63) << 12 | (data[i + 2] & 63) << 6
    return point | (data[i + 3] & 63), 4


@inlined
def count_chars(data: Bytes, begin: int, end: int, kinds: Bytes, out: Ints) -> bool:
    """Count characters by kind; say whether there is a fence of code."""
    has_fence, is_after = False, 0
    i = begin
    while i < end:
        if data[i] < 0x80:
            kind = kinds[data[i]]
            out[N_LETTERS] += kind & LETTER
            out[N_BROKEN] += kind >= BROKEN
            if data[i] == 0x60 and i + 2 < end and data[i + 1] == 0x60 and data[i + 2] == 0x60:
                has_fence = True
            is_after = 0
            out[N_CHARS] += 1
            i += 1
            continue
        point, width = point_at(data, i, end)
        kind = kinds[point]
        out[N_CHARS] += 1
        out[N_LETTERS] += kind & LETTER
        out[N_EASTERN] += (kind & EASTERN) > 0
        # UTF-8 read as Latin-1 or Windows-1252: "Ã©", "â€"; two characters that count as one.
        if is_after and (0x80 <= point <= 0xBF if is_after == 0xC3 else point == 0x20AC):
            out[N_BROKEN] += 1
            is_after = 0
        else:
            out[N_BROKEN] += kind >= BROKEN
            is_after = point if point == 0xC3 or point == 0xE2 else 0
        i += width
    return has_fence


@inlined
def fence_at(data: Bytes, i: int, end: int) -> int:
    """Return where the next three backticks begin; ``end`` without."""
    while i + 2 < end:
        if data[i] == 0x60 and data[i + 1] == 0x60 and data[i + 2] == 0x60:
            return i
        i += 1
    return end


@inlined
def is_blank(byte: int) -> bool:
    """Say whether a byte is a space or a tab."""
    return byte == 0x20 or byte == 0x09


@inlined
def bullet_width(data: Bytes, i: int, end: int) -> int:
    """Return the bytes of a list bullet that a space follows; 0 where there is none."""
    width = 0
    if data[i] == 0x2D or data[i] == 0x2A or data[i] == 0x2B:
        width = 1
    elif i + 2 < end and data[i] == 0xE2 and data[i + 1] == 0x80 and data[i + 2] == 0xA2:
        width = 3
    return width if width and i + width < end and is_blank(data[i + width]) else 0


@inlined
def is_numbered(data: Bytes, i: int, end: int, kinds: Bytes) -> bool:
    """Say whether one to three digits, a dot or bracket, and a space begin here."""
    n_digits = 0
    while i < end and n_digits < 4:
        point, width = point_at(data, i, end)
        if kinds[point] & DIGIT == 0:
            break
        n_digits += 1
        i += width
    if n_digits == 0 or n_digits == 4 or i + 1 >= end:
        return False
    return (data[i] == 0x2E or data[i] == 0x29) and is_blank(data[i + 1])


@inlined
def has_emphasis(data: Bytes, begin: int, end: int) -> bool:
    """Say whether a line holds ``**bold**`` or `` `code` ``."""
    tick, stars, after_stars = -1, 0, -1
    for i in range(begin, end):
        byte = data[i]
        if byte == 0x60:
            if tick >= 0 and i - tick > 1:
                return True
            tick = i
        if byte == 0x2A:
            stars += 1
            if stars == 2:
                if after_stars >= 0:
                    return True
                after_stars = -1
        else:
            if stars:
                after_stars = i if stars > 1 else -1
            stars = 0
    return False


@inlined
def read_line(data: Bytes, begin: int, end: int, kinds: Bytes, out: Ints) -> None:
    """Count what one line is."""
    i = begin
    while i < end and is_blank(data[i]):
        i += 1
    if i == end:
        return
    first, last = data[i], end
    while is_blank(data[last - 1]):
        last -= 1
    is_markdown = False
    if first == 0x23:
        k = i
        while k < end and data[k] == 0x23:
            k += 1
        if i - begin <= 3 and k - i <= 6 and k < end and is_blank(data[k]):
            out[N_HEADINGS] += 1
            is_markdown = True
    elif bullet_width(data, i, end):
        out[N_ITEMS] += 1
        is_markdown = True
    elif (0x30 <= first <= 0x39 or first >= 0x80) and is_numbered(data, i, end, kinds):
        out[N_ITEMS] += 1
    elif first == 0x7C:
        is_markdown = last - i > 1 and data[last - 1] == 0x7C
    if not is_markdown and (first == 0x2D or first == 0x2A) and last - i > 2:
        k = i
        while k < last and data[k] == first:
            k += 1
        is_markdown = k == last
    out[N_MARKDOWN] += is_markdown or has_emphasis(data, i, last)
    while i < end:
        width = white_width(data, i, end)
        if width == 0:
            out[N_LINES] += 1
            return
        i += width


@kernel
def measure_markup(data: Bytes, bounds: Ints, kinds: Bytes, without_code: bool, out: Ints) -> None:
    """Count the markdown and the kinds of characters of D texts.

    Args:
        data: the texts one after another in UTF-8.
        bounds: D + 1 byte offsets.
        kinds: shape (0x110000,), bits ``LETTER``, ``EASTERN``, ``DIGIT``, ``BROKEN`` of each code
            point.
        without_code: whether each code block counts as one line break where lines are looked at.
        out: shape (D, N_COUNTS), all zero; written: the counts, by the names above.
    """
    for d in range(len(bounds) - 1):
        end = bounds[d + 1]
        has_fence = count_chars(data, bounds[d], end, kinds, out[d])
        i = bounds[d]
        while True:
            fence = fence_at(data, i, end) if has_fence and without_code else end
            while i < fence:
                j = i
                while j < fence and data[j] != 0x0A:
                    j += 1
                read_line(data, i, j, kinds, out[d])
                i = j + 1
            if fence == end:
                break
            i = min(fence_at(data, fence + 3, end) + 3, end)
            out[d, N_BLOCKS] += 1
            out[d, CODE_BYTES] += i - fence - 1
