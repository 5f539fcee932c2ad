"""Words, sentences and syllables of many texts at once, and the formulas of reading ease.

The rules of counting are those of textstat 0.7.8, so that values can be compared: a word is what
white space parts, punctuation removed; a sentence ends at ``.``, ``!`` or ``?``, and one of fewer
than three words is not counted. Syllables are looked up once for each distinct word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from factory.scores._function_words import by_word
from factory.scores._syllables import n_syllables
from factory.scores._tokens import Bools, Ints, utf8

Floats = npt.NDArray[np.float64]
_LETTER, _DIGIT, _BLANK, _STOP, _OTHER = range(5)

# base, weight of words per sentence, weight of syllables per word: Flesch (1948); Amstad (1978);
# Fernández Huerta (1959); Franchina and Vacca (1986); Kandel and Moles (1958); Oborneva (2006).
_FLESCH = {
    "en": (206.835, 1.015, 84.6),
    "de": (180.0, 1.0, 58.5),
    "es": (206.84, 1.02, 60.0),
    "it": (217.0, 1.3, 60.0),
    "fr": (207.0, 1.015, 73.6),
    "ru": (206.835, 1.3, 60.1),
}
LANGUAGES = tuple(_FLESCH)
# In running text at least this share of words are function words of the language.
_LEAST_FUNCTION_WORDS = 0.12
_VOWELS = re.compile("[aeiouyàâäáãåæéèêëíìîïóòôöõøœúùûüýÿаеёиоуыэюя]+")
_RUSSIAN_VOWELS = re.compile("[аеёиоуыэюя]")


def _classes() -> npt.NDArray[np.uint8]:
    table = np.full(256, _OTHER, dtype=np.uint8)
    table[list(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] = _LETTER
    table[0x80:] = _LETTER
    table[list(b"0123456789_")] = _DIGIT
    table[list(b" \t\n\r\x0b\x0c")] = _BLANK
    table[list(b".!?")] = _STOP
    return table


_CLASS = _classes()


@dataclass(frozen=True, slots=True)
class Prose:
    """Counts for each of D texts, as floats; ``lang_D`` is one of ``LANGUAGES`` or None."""

    words: Floats
    sentences: Floats
    syllables: Floats
    polysyllables: Floats
    long_words: Floats
    first_singular: Floats
    first_plural: Floats
    lang_D: list[str | None]


def _per_text(at: Ints, bounds: Ints, weights: npt.NDArray[np.generic] | None = None) -> Floats:
    """Sum ``weights`` (ones) over ascending byte positions ``at`` within each text."""
    cut = np.searchsorted(at, bounds)
    if weights is None:
        return np.diff(cut).astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    return np.diff(total[cut])


def _intervals(separators: Bools, inside: npt.NDArray[np.int32]) -> Ints:
    """Return the starts of those intervals between separators that hold something inside."""
    start = np.flatnonzero(separators)
    held = np.diff(np.append(inside[start], inside[-1]))
    return start[held > 0]


def measure(texts: pl.Series) -> Prose:
    """Count words, sentences and syllables of each text; null counts as empty.

    >>> prose = measure(pl.Series(["The cat sat on the mat. It was a very fine day.", None]))
    >>> prose.words.tolist(), prose.sentences.tolist(), prose.syllables.tolist(), prose.lang_D
    ([12.0, 0.0], [2.0, 0.0], [13.0, 0.0], ['en', None])
    """
    data, bounds = utf8(texts)
    n_texts = len(bounds) - 1
    if not len(data):
        zero = np.zeros(n_texts)
        return Prose(zero, zero, zero, zero, zero, zero, zero, [None] * n_texts)
    kind = _CLASS[data]
    _punctuate(data, kind)
    in_word = kind <= _DIGIT
    total = np.zeros(len(data) + 1, dtype=np.int32)
    np.cumsum(in_word, out=total[1:])
    blank = kind == _BLANK
    starts = np.zeros(len(data), dtype=np.bool_)
    starts[bounds[:-1][bounds[:-1] < len(data)]] = True
    words = _per_text(_intervals(blank | starts, total), bounds)
    stop = kind == _STOP
    pieces = _intervals(blank | starts | stop, total)
    ends = np.flatnonzero(stop | starts)
    of_end = np.searchsorted(ends, pieces, side="right") - 1
    size = np.bincount(of_end, minlength=len(ends))
    sentences = _per_text(ends[size > 2], bounds)
    sentences = np.where(words > 0, np.maximum(sentences, 1), 0)
    runs = _letter_runs(data, kind, bounds)
    # "f(x)" or "3*a" is one word of one syllable: single letters count where nothing else does.
    spelled = np.zeros(len(data) + 1, dtype=np.int32)
    spelled[runs.start[runs.length > 1] + 1] = 1
    np.cumsum(spelled, out=spelled)
    n_spelled = _per_text(_intervals(blank | starts, spelled), bounds)
    return _with_syllables(runs, bounds, words, sentences, words - n_spelled)


def _punctuate(data: npt.NDArray[np.uint8], kind: npt.NDArray[np.uint8]) -> None:
    """Signs beyond ASCII are no letters: U+00A0 to U+00BF, × and ÷, U+2000 to U+2BFF, emoji."""
    lead = np.flatnonzero(data >= 0xC2)
    lead = lead[lead < len(data) - 3]
    first, second = data[lead], data[lead + 1]
    two = lead[(first == 0xC2) | ((first == 0xC3) & ((second == 0x97) | (second == 0xB7)))]
    three = lead[((first == 0xE2) & (second < 0xB0)) | ((first == 0xE3) & (second == 0x80))]
    four = lead[(first == 0xF0) & (second == 0x9F)]
    for width, at in ((2, two), (3, three), (4, four)):
        for k in range(width):
            kind[at + k] = _OTHER
    curly = three[(data[three + 1] == 0x80) & (data[three + 2] == 0x99)]
    for k in range(3):
        kind[curly + k] = _LETTER  # the apostrophe ’


@dataclass(frozen=True, slots=True)
class _Runs:
    start: Ints
    code: npt.NDArray[np.int32]
    length: Ints
    vocabulary: list[bytes]


def _letter_runs(data: npt.NDArray[np.uint8], kind: npt.NDArray[np.uint8], bounds: Ints) -> _Runs:
    letter = kind == _LETTER
    # An apostrophe between letters belongs to the word.
    quote = np.flatnonzero(data[1:-1] == 0x27) + 1 if len(data) > 2 else np.zeros(0, np.int64)
    letter[quote[letter[quote - 1] & letter[quote + 1]]] = True
    is_edge = np.empty(len(data) + 1, dtype=np.bool_)
    is_edge[1:-1] = letter[1:] != letter[:-1]
    is_edge[bounds] = True
    edge = np.flatnonzero(is_edge)
    slices = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(edge) - 1, [None, pa.py_buffer(edge), pa.py_buffer(data)]
    )
    coded = slices.dictionary_encode()
    code = coded.indices.to_numpy(zero_copy_only=False)
    keep = np.flatnonzero(letter[edge[:-1]])
    return _Runs(edge[:-1][keep], code[keep], np.diff(edge)[keep], coded.dictionary.to_pylist())


def _with_syllables(
    runs: _Runs, bounds: Ints, words: Floats, sentences: Floats, n_others: Floats
) -> Prose:
    used = np.zeros(len(runs.vocabulary), dtype=np.bool_)
    used[runs.code] = True
    lower = [
        word.decode(errors="ignore").lower() if use else ""
        for word, use in zip(runs.vocabulary, used.tolist(), strict=True)
    ]
    hits = {lang: np.zeros(len(lower)) for lang in LANGUAGES}
    singular, plural = np.zeros(len(lower)), np.zeros(len(lower))
    for code, word in enumerate(lower):
        for lang in by_word().get(word, ()):
            if lang in hits:
                hits[lang][code] = 1.0
        if word.replace("’", "'") in _SINGULAR:
            singular[code] = 1.0
        elif word.replace("’", "'") in _PLURAL:
            plural[code] = 1.0
    share = np.array(
        [_per_text(runs.start, bounds, flag[runs.code]) for flag in hits.values()]
    ) / np.maximum(words, 1)
    best = share.argmax(axis=0)
    is_known = share.max(axis=0) >= _LEAST_FUNCTION_WORDS
    lang_D = [LANGUAGES[i] if ok else None for i, ok in zip(best.tolist(), is_known, strict=True)]
    english = np.array([n_syllables(x) if len(x) > 1 else 0 for x in lower], dtype=np.float64)
    count = english[runs.code]
    if any(lang not in ("en", None) for lang in lang_D):
        plain = np.array([_vowel_groups(word) for word in lower], dtype=np.float64)
        is_english = np.array([lang == "en" for lang in lang_D])
        owner = np.searchsorted(bounds, runs.start, side="right") - 1
        count = np.where(is_english[owner], count, plain[runs.code])
    return Prose(
        words,
        sentences,
        # A number or a symbol counts as one syllable, as in textstat.
        _per_text(runs.start, bounds, count) + n_others,
        _per_text(runs.start, bounds, count >= 3),
        _per_text(runs.start, bounds, runs.length > 6),
        _per_text(runs.start, bounds, singular[runs.code]),
        _per_text(runs.start, bounds, plural[runs.code]),
        lang_D,
    )  # fmt: skip


_SINGULAR = frozenset(("i", "i'm", "i'll", "i've", "i'd", "me", "my", "myself", "mine"))
_PLURAL = frozenset(("we", "we're", "we'll", "we've", "we'd", "us", "our", "ourselves", "let's"))


def _vowel_groups(word: str) -> int:
    russian = len(_RUSSIAN_VOWELS.findall(word))
    return max(russian or len(_VOWELS.findall(word)), 1) if len(word) > 1 else 0


def flesch_reading_ease(prose: Prose) -> list[float | None]:
    """Flesch's formula with the constants of the text's language; null where it has none."""
    out: list[float | None] = []
    for lang, words, sentences, syllables in zip(
        prose.lang_D, prose.words.tolist(), prose.sentences.tolist(), prose.syllables.tolist(),
        strict=True,
    ):  # fmt: skip
        if lang is None or not words or not sentences:
            out.append(None)
            continue
        base, per_sentence, per_word = _FLESCH[lang]
        out.append(base - per_sentence * words / sentences - per_word * syllables / words)
    return out
