"""Words, sentences and syllables of many texts at once, and the formulas of reading ease.

The rules of counting are those of textstat 0.7.8, so that values can be compared: a word is what
white space parts, punctuation removed; a sentence ends at ``.``, ``!`` or ``?``, and one of fewer
than three words is not counted. Beyond textstat, the end of a line ends a sentence, too, unless the
text was wrapped there: a list of steps without stops is no single sentence. Syllables are found
once for each distinct word.
"""

from __future__ import annotations

import collections
import functools
import re
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.scores._byte_arrays import Ints, eights, utf8
from factory.scores.language.function_words import by_word
from factory.scores.readability.syllables import n_syllables, vowels_of

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int32]

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


class _Words:
    """What is known of the words met so far, by their number.

    Words are told apart by 64 bits made from their bytes. What is known of a word follows from the
    word alone, so that it does not matter which texts brought it.
    """

    def __init__(self, room: int) -> None:
        self.n = 0
        self.key = np.zeros(2 * room, dtype=np.uint64)
        self.number = np.zeros(2 * room, dtype=np.int32)
        self.english = np.zeros(room, dtype=np.int32)
        self.plain = np.zeros(room, dtype=np.int32)
        self.flags = np.zeros(room, dtype=np.uint8)

    def grown(self) -> _Words:
        """Return the same words with twice the room."""
        from factory.scores.readability import prose_kernels as kernels

        out = _Words(2 * len(self.english))
        kernels.grow(self.key, self.number, out.key, out.number)
        out.n = self.n
        for name in ("english", "plain", "flags"):
            getattr(out, name)[: self.n] = getattr(self, name)[: self.n]
        return out

    def learn(self, words: list[bytes]) -> None:
        """Add words, numbered from ``n`` on."""
        flag_of = _flags()
        lower = [word.decode(errors="ignore").lower() for word in words]
        at = slice(self.n, self.n + len(words))
        self.flags[at] = [flag_of.get(word, 0) for word in lower]
        self.english[at] = [n_syllables(word) if len(word) > 1 else 0 for word in lower]
        self.plain[at] = [_vowel_groups(word) if len(word) > 1 else 0 for word in lower]
        self.n += len(words)


@functools.cache
def _flags() -> dict[str, int]:
    """Return what is known of function words and of first persons: bits by word."""
    from factory.scores.readability.prose_kernels import PLURAL, SINGULAR

    out: dict[str, int] = collections.defaultdict(int)
    for word, langs in by_word().items():
        out[word] |= sum(1 << LANGUAGES.index(lang) for lang in langs if lang in _FLESCH)
    for words, flag in ((_SINGULAR, SINGULAR), (_PLURAL, PLURAL)):
        for word in words:
            for spelling in {word, word.replace("'", "’")}:
                out[spelling] |= flag
    return dict(out)


_ROOM = 1 << 15
# More words than these are forgotten at the end of a call: the memory of a long run is bounded.
_MOST_WORDS = 1 << 19
_LOCK = threading.Lock()
_known = _Words(_ROOM)


def forget() -> None:
    """Drop what is known of words, as at the start of a process."""
    global _known
    with _LOCK:
        _known = _Words(_ROOM)


def measure(texts: pl.Series) -> Prose:
    """Count words, sentences and syllables of each text; null counts as empty.

    >>> prose = measure(pl.Series(["The cat sat on the mat. It was a very fine day.", None]))
    >>> prose.words.tolist(), prose.sentences.tolist(), prose.syllables.tolist(), prose.lang_D
    ([12.0, 0.0], [2.0, 0.0], [13.0, 0.0], ['en', None])
    """
    return measure_bytes(*utf8(texts))


def measure_bytes(data: npt.NDArray[np.uint8], bounds: Ints) -> Prose:
    """Count words, sentences and syllables of texts given as one buffer and D + 1 offsets."""
    from factory.scores.readability import prose_kernels as kernels

    global _known
    loads = eights(data)
    n_texts = len(bounds) - 1
    counts = np.zeros((n_texts, 4), dtype=np.int64)
    sums = np.zeros((n_texts, 5), dtype=np.int64)
    runs = np.empty(len(data) // 2 + n_texts + 1, dtype=np.int32)
    first_run = np.zeros(n_texts + 1, dtype=np.int64)
    with _LOCK:
        known, at = _known, 0
        while True:
            new = np.empty((len(known.english) - known.n, 2), dtype=np.int64)
            at, n_known = kernels.read_prose(
                data,
                loads,
                bounds,
                at,
                known.key,
                known.number,
                known.n,
                counts,
                runs,
                first_run,
                new,
            )
            spans = new[: n_known - known.n].tolist()
            known.learn([data[begin:end].tobytes() for begin, end in spans])
            if at == n_texts:
                break
            known = known.grown()
        kernels.sum_words(
            runs, first_run, counts, known.english, known.plain, known.flags, len(LANGUAGES),
            _LEAST_FUNCTION_WORDS, sums,
        )  # fmt: skip
        _known = known if known.n <= _MOST_WORDS else _Words(_ROOM)
    words, sentences, _, long_words = counts.T.astype(np.float64)
    syllables, hard, singular, plural = sums.T[:4].astype(np.float64)
    lang_D = [LANGUAGES[i] if i >= 0 else None for i in sums[:, kernels.LANGUAGE].tolist()]
    return Prose(words, sentences, syllables, hard, long_words, singular, plural, lang_D)


_SINGULAR = frozenset(("i", "i'm", "i'll", "i've", "i'd", "me", "my", "myself", "mine"))
_PLURAL = frozenset(("we", "we're", "we'll", "we've", "we'd", "us", "our", "ourselves", "let's"))


def _vowel_groups(word: str) -> int:
    if word.isascii():
        return max(len(vowels_of(word).split()), 1)
    russian = len(_RUSSIAN_VOWELS.findall(word))
    return max(russian or len(_VOWELS.findall(word)), 1)


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
