"""Folding: which differences between two texts do not count.

``words`` (the default everywhere): Unicode NFKC, lower case; every character that is no letter,
mark or digit separates words; a character of a script that is written without spaces (Han, Kana,
Thai, Lao, Khmer, Burmese) is a word of its own. ``whitespace`` is the folding of the common
decontamination script (open-r1 ``scripts/decontaminate.py``): lower case and split at white space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Folding = Literal["words", "whitespace"]

_SPACE = 32
_MANY = np.uint32(1 << 30)  # folds to none or several characters: the text takes the slow way
_ALONE = np.uint32(1 << 31)  # a word of its own
_CODE = np.uint32((1 << 21) - 1)
Codes = npt.NDArray[np.uint32]

# Han with its extensions and compatibility forms, Kana, Bopomofo, Thai and Lao, Burmese, Khmer.
_UNSPACED = (
    (0x0E01, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3021, 0x312F),
    (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
    (0x1B000, 0x1B16F), (0x20000, 0x323AF),
)  # fmt: skip


def is_unspaced(code: int) -> bool:
    """Say whether a character belongs to a script that is written without spaces."""
    return any(low <= code <= high for low, high in _UNSPACED)


def _fold_char(char: str) -> str:
    """Fold one character of NFKC text: itself, a space, or itself between spaces."""
    if unicodedata.category(char)[0] not in "LMN":
        return " "
    folded = unicodedata.normalize("NFKC", char.lower())
    return f" {folded} " if is_unspaced(ord(char)) else folded


class _CharTable(dict[int, str]):
    """For ``str.translate``: filled as characters are met."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold_char(chr(code))
        return folded


_CHARS = _CharTable()


def _word_entry(code: int) -> int:
    """Return what a character folds to alone, or ``_MANY`` where its neighbours may matter."""
    char = chr(code)
    if 0xD800 <= code <= 0xDFFF or code == 0:
        return _SPACE
    whole = unicodedata.normalize("NFKC", char)
    # Marks and jamo may join the character before them; only the whole text tells.
    if any(unicodedata.category(c)[0] == "M" or 0x1160 <= ord(c) <= 0x11FF for c in whole):
        return int(_MANY)
    folded = "".join(_CHARS[ord(c)] for c in whole).split()
    if not folded:
        return _SPACE
    if len(folded) > 1 or len(folded[0]) != 1:
        return int(_MANY)
    out = ord(folded[0])
    return out | int(_ALONE) if is_unspaced(out) else out


def fold_text(text: str) -> str:
    """Fold one text by ``words``; the reference for the fast way.

    >>> fold_text("The Ａnswer is x² = 4.5!  其中 x>0")
    'the answer is x2 4 5 其 中 x 0'
    """
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ")
    return " ".join(unicodedata.normalize("NFKC", clean).translate(_CHARS).split())


def _space_entry(code: int) -> int:
    """Return what a character is for ``whitespace``: its lower case, or a space."""
    char = chr(code)
    if char.isspace():
        return _SPACE
    lower = char.lower()
    # The lower case of a capital sigma depends on its place in the word.
    return ord(lower) if len(lower) == 1 and char != "Σ" and code else int(_MANY)


def _split_text(text: str) -> str:
    return " ".join(text.lower().split())


class _Wide:
    """Folds texts that are not ASCII, by one table look-up per character.

    Args:
        entry: code → what it folds to, with ``_ALONE``, or ``_MANY``.
        slow: folds a text that holds a character of ``_MANY``.
    """

    def __init__(self, entry: Callable[[int], int], slow: Callable[[str], str]) -> None:
        self._entry = entry
        self._slow = slow
        # Filled as characters are met; pages that are not touched take no memory.
        self._table: Codes = np.zeros(0x110000, dtype=np.uint32)

    def fold(self, texts: list[str]) -> list[str]:
        """Fold texts, in order."""
        joined = "\n".join(texts) + "\n"
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        folded = self._table.take(codes.view(np.int32))
        unknown = codes[folded == 0]
        if len(unknown):
            for code in np.unique(unknown).tolist():
                self._table[code] = self._entry(code)
            folded = self._table.take(codes.view(np.int32))
        ends = np.cumsum([len(text) + 1 for text in texts]) - 1
        special = np.flatnonzero(folded >= _MANY)
        is_many = (folded[special] & _MANY) != 0
        slow = set(np.searchsorted(ends, special[is_many]).tolist())
        folded[special[is_many]] = _SPACE
        folded[ends] = 10
        alone = special[~is_many]
        if len(alone):
            folded = _set_apart(folded, alone)
        out = folded.tobytes().decode("utf-32-le", "surrogatepass").split("\n")[:-1]
        for i in slow:
            out[i] = self._slow(texts[i])
        return out


def _set_apart(folded: Codes, alone: npt.NDArray[np.int64]) -> Codes:
    """Put a space before and after each character of ``alone``: two more copies, blanked."""
    n_copies = np.ones(len(folded), dtype=np.int64)
    n_copies[alone] = 3
    middle = alone + 2 * np.arange(len(alone)) + 1
    out = np.repeat(folded, n_copies)
    out[middle - 1] = _SPACE
    out[middle + 1] = _SPACE
    out[middle] &= _CODE
    return out


def _composed_entry(code: int) -> int:
    """Return what a character of NFKC text folds to; marks stand for themselves there."""
    folded = _CHARS[code].split()
    if not folded:
        return _SPACE
    if len(folded) > 1 or len(folded[0]) != 1:
        return int(_MANY)
    out = ord(folded[0])
    return out | int(_ALONE) if is_unspaced(out) else out


_COMPOSED = _Wide(_composed_entry, fold_text)


def _compose(text: str) -> str:
    """Fold a text whose characters may join or fall apart: NFKC first, then by table."""
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ")
    return _COMPOSED.fold([unicodedata.normalize("NFKC", clean)])[0]


_BY_WORDS = _Wide(_word_entry, _compose)
_BY_SPACES = _Wide(_space_entry, _split_text)


_ASCII = [chr(b) for b in range(128)]
# Bytes above 127 stay as they are: they belong to characters that were folded before.
_REST = bytes(range(128, 256))
_WORD_BYTES = bytes(ord(c.lower()) if c.isalnum() else _SPACE for c in _ASCII) + _REST
_SPACE_BYTES = bytes(_SPACE if c.isspace() else ord(c.lower()) for c in _ASCII) + _REST


def fold_bytes(texts: Sequence[str], folding: Folding) -> list[bytes]:
    """Fold texts into UTF-8 whose words are parted by spaces (single or more).

    ASCII bytes are folded last, by ``table_of``, over all texts at once.
    """
    wide = [i for i, text in enumerate(texts) if not text.isascii()]
    if not wide:
        return [text.encode() for text in texts]
    out = [text.encode() if text.isascii() else b"" for text in texts]
    folder = _BY_WORDS if folding == "words" else _BY_SPACES
    folded = folder.fold([texts[i] for i in wide])
    for i, text in zip(wide, folded, strict=True):
        out[i] = text.encode("utf-8", "surrogatepass")
    return out


def table_of(folding: Folding) -> bytes:
    """Return the table for ``bytes.translate`` that ends the folding."""
    return _WORD_BYTES if folding == "words" else _SPACE_BYTES


_TEMPLATE = (
    (re.compile(r"\d+(?:[.,/:]\d+)*"), "0"),
    (re.compile(r"\b[A-Z][a-z]+(?:'s)?\b"), "Aname"),
    (re.compile(r"\b(?:he|she|his|her|hers|him|they|their|them)\b"), "aname"),
    (re.compile(
        r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|"
        r"fifty|hundred|thousand|half|third|quarter|twice|double|triple)\b", re.IGNORECASE), "0"),
)  # fmt: skip


def mask_template(text: str) -> str:
    """Mask what differs between two instances of one template: numbers and names.

    >>> mask_template("Mary has 3 apples; she eats 1,500.")
    'Aname has 0 apples; aname eats 0.'
    """
    for pattern, mask in _TEMPLATE:
        text = pattern.sub(mask, text)
    return text
