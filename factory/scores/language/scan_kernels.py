"""One pass over the bytes of many texts, compiled: runs of one script, formulas, sentences."""

# numba counts in machine integers, which NumPy's stubs tell from int.
# mypy: disable-error-code="arg-type, assignment, return-value, no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from factory.compiled import inlined, kernel

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

GAP, LATIN, CJK, JOINING = 0, 1, 2, 255
# Bits of a run: a word of prose; in code or a formula; a gap that ends a sentence.
PROSE, FORMULA, BREAK = 1, 2, 4
_TICKS, _TICK, _DOLLARS, _DOLLAR, _ROUND, _SQUARE, _ROUND_END, _SQUARE_END, _NEWLINE = range(1, 10)


def _lookup(chars: bytes) -> npt.NDArray[np.bool_]:
    table = np.zeros(256, dtype=np.bool_)
    table[list(chars)] = True
    return table


_BEFORE_CODE = _lookup(b"\\_^@#$=0123456789{<&%~|")
_AFTER_CODE = _lookup(b"_^=0123456789@{>\\|")
_STOPS = _lookup(b".!?;:")
_CLOSES_SENTENCE = _lookup(b" \n\t\r\"')]*\xe2")
# The longest formula between such marks, in bytes; code between ``` may be of any length.
_LONGEST = np.array([0, 1 << 62, 200, 4000, 400, 2000, 8000], dtype=np.int64)


@inlined
def point_at(data: Bytes, i: int, stop: int) -> tuple[int, int]:
    """Return the code point at byte ``i`` of valid UTF-8 and its number of bytes."""
    first = np.int64(data[i])
    if first < 0x80 or i + 1 >= stop:
        return first, 1
    second = np.int64(data[i + 1]) & 0x3F
    if first < 0xE0 or i + 2 >= stop:
        return (first & 0x1F) << 6 | second, 2
    third = np.int64(data[i + 2]) & 0x3F
    if first < 0xF0 or i + 3 >= stop:
        return (first & 0x0F) << 12 | second << 6 | third, 3
    return (first & 0x07) << 18 | second << 12 | third << 6 | np.int64(data[i + 3]) & 0x3F, 4


@inlined
def _delimiter(data: Bytes, i: int, stop: int) -> tuple[int, int]:
    """Return which delimiter of code or formulas stands at ``i``, 0 for none, and its bytes."""
    byte = data[i]
    following = data[i + 1] if i + 1 < stop else np.uint8(0)
    if byte == 0x0A:
        return _NEWLINE, 1
    if byte == 0x60:
        if following == 0x60 and i + 2 < stop and data[i + 2] == 0x60:
            return _TICKS, 3
        return _TICK, 1
    if byte == 0x24:
        return (_DOLLARS, 2) if following == 0x24 else (_DOLLAR, 1)
    if following == 0x28:
        return _ROUND, 2
    if following == 0x29:
        return _ROUND_END, 2
    if following == 0x5B:
        return _SQUARE, 2
    if following == 0x5D:
        return _SQUARE_END, 2
    # An escaped dollar sign is money, not the border of a formula.
    return 0, 2 if following == 0x24 else 1


@inlined
def _is_blank(byte: int) -> bool:
    return byte == 32 or 9 <= byte <= 13


@inlined
def _ends_sentence(point: int) -> bool:
    """Tell full stops of other scripts: 。！：；？ । ۔ ؟ ։ ། ။ ។ ።."""
    if point < 0x3002:
        return point in (0x964, 0x6D4, 0x61F, 0x589, 0xF0D, 0x104B, 0x17D4, 0x1362)
    return point in (0x3002, 0xFF01, 0xFF1A, 0xFF1B, 0xFF1F)


@kernel
def scan(
    data: Bytes,
    bounds_D: Ints,
    of_point: Bytes,
    of_byte: Bytes,
    edge_R: Ints,
    class_R: Bytes,
    mark_R: Bytes,
    first_D: Ints,
) -> int:
    """Split D texts into runs of one script; return their number R.

    Args:
        data: the texts in UTF-8, one after another.
        bounds_D: D + 1 byte offsets of the texts.
        of_point: class of each code point; those beyond the table are gaps.
        of_byte: class of each ASCII byte.
        edge_R: out, R + 1 byte offsets.
        class_R: out, the class of each run.
        mark_R: out, bits ``FORMULA`` and ``BREAK`` of each run.
        first_D: out, D + 1 run numbers.
    """
    n = 0
    for text in range(len(bounds_D) - 1):
        start, stop = bounds_D[text], bounds_D[text + 1]
        first_D[text] = n
        opener, open_at, open_run = 0, start, n
        begin, current, mark = start, -1, 0
        i = start
        while i < stop:
            byte = data[i]
            size, point, kind = 1, np.int64(byte), np.int64(of_byte[byte])
            if byte >= 0x80:
                point, size = point_at(data, i, stop)
                kind = np.int64(of_point[point]) if point < len(of_point) else GAP
                if kind == JOINING:
                    kind = max(current, GAP)
            if (byte == 0x27 or point == 0x2019) and current > GAP and current != CJK:
                # An apostrophe between letters of one script belongs to the word.
                at = i + size
                if at < stop:
                    follower, _ = point_at(data, at, stop)
                    if follower < len(of_point) and of_point[follower] == current:
                        kind = current
            if kind != current:
                if current >= 0:
                    edge_R[n], class_R[n], mark_R[n] = begin, current, mark
                    n += 1
                begin, current, mark = i, kind, 0
            if kind == LATIN and byte < 0x80:
                i += 1
                while i < stop and of_byte[data[i]] == LATIN:
                    i += 1
                continue
            if kind == GAP:
                if byte >= 0x80:
                    if _ends_sentence(point):
                        mark |= BREAK
                elif _STOPS[byte]:
                    if i + 1 >= stop or _CLOSES_SENTENCE[data[i + 1]]:
                        mark |= BREAK
                elif byte == 0x0A or byte == 0x24 or byte == 0x5C or byte == 0x60:
                    token, size = _delimiter(data, i, stop)
                    if token == _NEWLINE:
                        mark |= BREAK
                    if opener > _TICKS:
                        is_inline = opener in (_TICK, _DOLLAR)
                        if i - open_at > _LONGEST[opener] or (is_inline and token == _NEWLINE):
                            opener = 0
                    following = data[i + size] if i + size < stop else np.uint8(32)
                    if opener == 0:
                        # A dollar sign opens a formula only before what is no space (pandoc).
                        if 0 < token <= _SQUARE and not (token == _DOLLAR and _is_blank(following)):
                            opener, open_at, open_run = token, i, n
                    elif (
                        token == opener
                        if opener < _ROUND
                        else (token == _ROUND_END and opener == _ROUND)
                        or (token == _SQUARE_END and opener == _SQUARE)
                    ):
                        if opener == _DOLLAR and (
                            _is_blank(data[i - 1]) or 0x30 <= following <= 0x39
                        ):
                            open_at, open_run = i, n  # money: "$5 or $6"
                        else:
                            for run in range(open_run + 1, n):
                                mark_R[run] |= FORMULA
                            opener = 0
            i += size
        if current >= 0:
            edge_R[n], class_R[n], mark_R[n] = begin, current, mark
            n += 1
        if opener == _TICKS:
            for run in range(open_run + 1, n):
                mark_R[run] |= FORMULA
    first_D[len(bounds_D) - 1] = n
    edge_R[n] = bounds_D[-1]
    return n


@kernel
def weigh(
    data: Bytes,
    bounds_D: Ints,
    edge_R: Ints,
    class_R: Bytes,
    mark_R: Bytes,
    first_D: Ints,
    bytes_per_word: Floats,
    count_R: Floats,
    words_DC: Floats,
    main_D: Ints,
    letters_D: Ints,
    foreign_F: Ints,
) -> int:
    """Tell prose from the rest, find each text's main script and the runs in another one.

    Args:
        data: see ``scan``; so are ``bounds_D``, ``edge_R``, ``class_R``, ``first_D``.
        bounds_D: see ``scan``.
        edge_R: see ``scan``.
        class_R: see ``scan``.
        mark_R: the bit ``PROSE`` is added.
        first_D: see ``scan``.
        bytes_per_word: by class; 0 where spaces part the words.
        count_R: out, words in the run; 0 for what is no prose.
        words_DC: out, words by class.
        main_D: out, the class of most words; 0 where there is none.
        letters_D: out, bytes of prose in that class.
        foreign_F: out, numbers of runs in another script than the text's main one.

    Returns:
        How many foreign runs there are.
    """
    n_foreign = 0
    for text in range(len(bounds_D) - 1):
        start, stop = bounds_D[text], bounds_D[text + 1]
        first, last = first_D[text], first_D[text + 1]
        for run in range(first, last):
            kind = class_R[run]
            count_R[run] = 0.0
            if kind == GAP or mark_R[run] & FORMULA:
                continue
            begin, end = edge_R[run], edge_R[run + 1]
            per_word = bytes_per_word[kind]
            if per_word == 0.0:
                # What touches a digit or a sign of code is no prose; "3个苹果" is ordinary.
                if begin > start and _BEFORE_CODE[data[begin - 1]]:
                    continue
                if end < stop and _AFTER_CODE[data[end]]:
                    continue
                if kind == LATIN and end - begin < 2:
                    continue
                count_R[run] = 1.0
            else:
                count_R[run] = max((end - begin) / per_word, 1.0)
            mark_R[run] |= PROSE
            words_DC[text, kind] += count_R[run]
        main = 0
        for kind in range(1, words_DC.shape[1]):
            if words_DC[text, kind] > words_DC[text, main]:
                main = kind
        main_D[text] = main
        if main == 0:
            continue
        letters = 0
        for run in range(first, last):
            kind = class_R[run]
            if kind == main:
                if mark_R[run] & PROSE:
                    letters += edge_R[run + 1] - edge_R[run]
            elif (
                kind != GAP
                and not mark_R[run] & FORMULA
                # Latin letters inside another script are formulas and names more often than words.
                and (kind != LATIN or mark_R[run] & PROSE)
            ):
                foreign_F[n_foreign] = run
                n_foreign += 1
        letters_D[text] = letters
    return n_foreign


@kernel
def other_script(data: Bytes, bounds_D: Ints, out_D: npt.NDArray[np.bool_]) -> None:
    """Tell which texts hold letters of any script but Latin (a few signs count as letters).

    Every such letter has a first byte of at least CD (Greek begins at U+0370).
    """
    for text in range(len(bounds_D) - 1):
        start, stop = bounds_D[text], bounds_D[text + 1]
        out_D[text] = False
        i = start
        while i < stop:
            # Blocks of 64 bytes without a loop's exit inside are compared at once.
            high = np.uint8(0)
            end = min(i + 64, stop)
            for j in range(i, end):
                high = max(high, data[j])
            if high >= 0xCD:
                for j in range(i, end):
                    first = data[j]
                    if first < 0xCD:
                        continue
                    second = data[j + 1]
                    # E2 80 to E2 AF is punctuation, arrows and mathematics, F0 9D and 9F are
                    # letters of formulas and emoji, E1 B8 to BB Latin with marks.
                    if first == 0xE2 and second < 0xB0:
                        continue
                    if first == 0xF0 and second != 0xA0:
                        continue
                    if first == 0xE1 and 0xB8 <= second <= 0xBB:
                        continue
                    out_D[text] = True
                    break
                if out_D[text]:
                    break
            i = end
