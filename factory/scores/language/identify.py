"""Name the language of each text, and of each sentence, from sums of word vectors."""

from __future__ import annotations

import functools
import re
import threading
import weakref
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from factory.scores._byte_arrays import Ints
from factory.scores.language import evidence
from factory.scores.language.arrays import Bits, Table
from factory.scores.language.fasttext_model import Floats, LanguageModel, table_of
from factory.scores.language.function_words import alike
from factory.scores.language.scripts import (
    ARABIC,
    CJK,
    CYRILLIC,
    DEFAULT_LANGUAGE,
    DEVANAGARI,
    HEBREW,
    LATIN,
    N_CLASSES,
    Runs,
    lower_points,
)

# Scripts in which several of the model's languages are written; in the others the script decides.
SHARED = np.isin(np.arange(N_CLASSES), [LATIN, CYRILLIC, ARABIC, DEVANAGARI])
# Scripts in which the model is asked at all: Hebrew has Yiddish, Bengali Assamese and Bishnupriya,
# Georgian Mingrelian beside them.
READ = SHARED | np.isin(np.arange(N_CLASSES), [HEBREW, 13, 22])
# Labels to which text in languages that the model does not know is drawn, mostly Wikipedias written
# by machine or constructed languages: they need more certainty.
ATTRACTORS = frozenset(
    """
    ceb war io ia ie vo jbo eml pms lmo nap scn vec mwl min ilo bcl pam cbk gom rm nah wa
    """.split()  # noqa: SIM905 (as in the other lists of words)
)
ATTRACTOR_CONFIDENCE = 0.85
# From this probability on, with such a share of function words, the model's word is taken.
_SURE, _PLAIN = 0.95, 0.2
# Bytes of a word that are read: what is longer is no word, and patterns would take its square.
_LONGEST = 64
# Varieties that are close enough to count as one language when mixing is judged.
_VARIETIES = (
    ("no", "nn", "nb"), ("hr", "bs", "sr", "sh"), ("id", "ms", "min"), ("es", "ast", "an", "gl"),
    ("en", "sco"), ("de", "bar", "als", "nds", "lb", "frr", "pfl"), ("fr", "wa", "frp"),
    ("it", "scn", "lmo", "pms", "vec", "nap", "eml", "co"), ("zh", "wuu", "yue", "gan"),
    ("fa", "mzn", "lrc"), ("nl", "vls", "li", "af"), ("ru", "rue"), ("pt", "mwl", "gl"),
    ("cs", "sk"), ("tl", "ceb", "war", "ilo", "bcl", "pam"),
)  # fmt: skip
CLAUSE = re.compile(r"[^。！？；，、,\s]+")
_KANA = re.compile(r"[ぁ-ゖァ-ヺｦ-ﾝ]")
_HAN = re.compile(r"[㐀-鿿豈-﫿𠀀-𲎯々〇]")
# Function words of Chinese that Japanese writing has as rare characters or parts of compounds.
_CHINESE_WORDS = frozenset("的是了你吗呢吧她它這們嗎麼個從說來對讓還過邊也很把于於您哪怎什么个")


# Words kept between blocks; a block with more distinct ones gets a table of its own.
_WORDS_KEPT, _WORDS_MOST = 1 << 16, 1 << 20


class _Tables(threading.local):
    """The words that a thread has seen, by model: kernels run free of the interpreter's lock."""

    def __init__(self) -> None:
        self.of: weakref.WeakKeyDictionary[LanguageModel, Table] = weakref.WeakKeyDictionary()


_tables = _Tables()


@dataclass(frozen=True, slots=True)
class Sentences:
    """S sentences of D texts, in each text's main script; names are words, but of no language.

    ``member_M`` holds run numbers of the words, ``code_M`` their numbers in ``table``; ``run_S``
    S + 1 offsets into both, ``text_S`` the text, ``hidden_SE`` mean vectors, ``words_S`` the words
    that are no names; ``first_D`` D + 1 offsets of sentences. ``hidden_DE`` are the texts' mean
    vectors, ``best_D`` the most likely label (-1 for none), ``top_DK`` the two highest
    probabilities.
    """

    table: Table
    member_M: Ints
    code_M: npt.NDArray[np.int32]
    run_S: Ints
    text_S: Ints
    hidden_SE: Floats
    words_S: Ints
    first_D: Ints
    hidden_DE: Floats
    best_D: Ints
    top_DK: npt.NDArray[np.float64]


def gather(runs: Runs, model: LanguageModel) -> Sentences:
    """Gather the prose of each text into sentences and sum the vectors of their words."""
    table = _tables.of.get(model)
    if table is None:
        table = _tables.of[model] = _new_table(model, _WORDS_KEPT)
    parts, is_whole = _gather(runs, model, table)
    if is_whole:
        return parts
    _tables.of[model] = _new_table(model, _WORDS_KEPT)
    # What goes beyond this size is no text: words that do not fit are left out.
    most = min(max(_WORDS_KEPT, len(runs.class_R)), _WORDS_MOST)
    return _gather(runs, model, _new_table(model, most))[0]


def _new_table(model: LanguageModel, n_words: int) -> Table:
    n_slots = 1 << (2 * n_words).bit_length()
    return Table(
        np.zeros(n_slots, dtype=np.uint64),
        np.zeros(n_slots, dtype=np.int32),
        np.zeros(1, dtype=np.int64),
        np.empty((n_words, model.compiled.vectors.shape[1]), dtype=np.float32),
        np.empty(n_words, dtype=np.float32),
        np.empty(n_words, dtype=np.bool_),
        np.empty(n_words, dtype=np.uint64),
        np.empty(n_words, dtype=np.uint32),
    )


def _gather(runs: Runs, model: LanguageModel, table: Table) -> tuple[Sentences, bool]:
    from factory.scores.language import sentence_kernels, word_kernels

    n_runs, n_texts, width = len(runs.class_R), len(runs.main_D), table.sum_CE.shape[1]
    member_M, code_M = np.empty(n_runs, dtype=np.int64), np.empty(n_runs, dtype=np.int32)
    run_S, text_S = np.empty(n_runs + 1, dtype=np.int64), np.empty(n_runs, dtype=np.int64)
    hidden_SE = np.empty((n_runs, width), dtype=np.float32)
    words_S, first_D = np.empty(n_runs, dtype=np.int64), np.zeros(n_texts + 1, dtype=np.int64)
    hidden_DE = np.empty((n_texts, width), dtype=np.float32)
    features_D = np.empty(n_texts, dtype=np.float32)
    n, is_whole = word_kernels.gather(
        runs.data, runs.edge_R, runs.class_R, runs.mark_R, runs.first_D, runs.main_D, READ, table,
        model.compiled, function_bits(), lower_points(), member_M, code_M, run_S, text_S, hidden_SE,
        words_S, first_D, hidden_DE, features_D,
    )  # fmt: skip
    best_D, top_DK = np.empty(n_texts, dtype=np.int64), np.empty((n_texts, 2))
    sentence_kernels.top_two(hidden_DE, features_D, model.compiled, best_D, top_DK)
    size = int(run_S[n])
    parts = Sentences(
        table, member_M[:size], code_M[:size], run_S[: n + 1], text_S[:n], hidden_SE[:n],
        words_S[:n], first_D, hidden_DE, best_D, top_DK,
    )  # fmt: skip
    return parts, bool(is_whole)


@functools.cache
def function_bits() -> Bits:
    """Return the function words as a table of hashes; bit k is the k-th language of ``alike``."""
    bits: dict[bytes, int] = {}
    for k, words in enumerate(alike().values()):
        for word in words:
            bits[word.encode()] = bits.get(word.encode(), 0) | 1 << k
    key, of_slot = table_of(bits, empty=0)
    return Bits(key, of_slot.astype(np.uint32))


def family(language: str) -> str:
    """Return the name under which close varieties are one.

    >>> family("bs") == family("hr"), family("sv") == family("de")
    (True, False)
    """
    for varieties in _VARIETIES:
        if language in varieties:
            return varieties[0]
    return language


@functools.cache
def _only() -> tuple[frozenset[str], frozenset[str]]:
    """Characters that only Chinese, and that only Japanese uses, by the national character sets.

    GB 2312 without JIS X 0208 is simplified Chinese (们 这 鸡); JIS X 0208 without GB 2312 and
    Big5 is Japanese (気 駅 円).
    """
    chinese, japanese = set(), set()
    for point in range(0x4E00, 0x9FFF):
        char = chr(point)
        in_gb, in_jis = _has(char, "gb2312"), _has(char, "shift_jis")
        if in_gb and not in_jis:
            chinese.add(char)
        elif in_jis and not in_gb and not _has(char, "big5"):
            japanese.add(char)
    return frozenset(chinese | _CHINESE_WORDS), frozenset(japanese)


def _has(char: str, encoding: str) -> bool:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def chinese_or_japanese(text: str) -> str | None:
    """Tell Chinese from Japanese by characters; None where they do not decide.

    >>> chinese_or_japanese("針には毒が塗られていた"), chinese_or_japanese("我们看一下这个问题")
    ('ja', 'zh')
    >>> chinese_or_japanese("東京都") is None
    True
    """
    kana = len(_KANA.findall(text))
    han = len(_HAN.findall(text))
    if kana and kana * 12 >= han:
        return "ja"
    only_chinese, only_japanese = _only()
    chinese = sum(char in only_chinese for char in text)
    japanese = sum(char in only_japanese for char in text)
    if chinese > japanese and (chinese >= 2 or han <= 12):
        return "zh"
    return "ja" if japanese > chinese else None


class Named(NamedTuple):
    """The language of each of D texts: None where it is not certain, and the certainty.

    ``chance_D`` is what the model alone gives to the language.
    """

    lang_D: list[str | None]
    confidence_D: list[float | None]
    chance_D: list[float]


def name_texts(
    runs: Runs, parts: Sentences, model: LanguageModel, *, min_confidence: float
) -> Named:
    """Name the language of each text: by script where that decides, else by the model."""
    named = Named([], [], [])
    rows = zip(
        runs.main_D.tolist(), parts.best_D.tolist(), parts.top_DK[:, 0].tolist(),
        runs.letters_D.tolist(), strict=True,
    )  # fmt: skip
    for text, (main, best, sure, n_letters) in enumerate(rows):
        label = model.label_L[best] if best >= 0 else ""
        if not main or (best < 0 and READ[main] and main != CJK):
            found = _Name(None, None, 0.0)
        elif main == CJK:
            found = _Name(*_cjk(runs, text), 1.0)
        elif SHARED[main]:
            found = _weighed(runs, parts, text, model, label, sure)
        else:
            # Yiddish, Assamese and the like keep the model's word.
            default = DEFAULT_LANGUAGE[main]
            is_told = sure > 0.8 or label == default
            found = _Name(label, sure, sure) if is_told else _Name(default, 0.99, 1.0)
            begin, end = runs.bounds_D[text : text + 2].tolist()
            if evidence.is_unknown(runs.text(begin, min(end, begin + 6000)), found.lang):
                found = _Name(None, 0.1, 0.0)
        is_drawn = found.lang in ATTRACTORS and not evidence.is_listed(found.lang or "")
        floor = max(min_confidence, ATTRACTOR_CONFIDENCE) if is_drawn else min_confidence
        is_sure = (found.confidence or 0.0) >= floor
        is_sure = is_sure and _is_enough(main, n_letters, runs.words_DC[text, main])
        named.lang_D.append(found.lang if is_sure else None)
        named.confidence_D.append(found.confidence)
        named.chance_D.append(found.chance)
    return named


class _Name(NamedTuple):
    lang: str | None
    confidence: float | None
    chance: float


def _weighed(
    runs: Runs, parts: Sentences, text: int, model: LanguageModel, label: str, sure: float
) -> _Name:
    """Weigh the model's word with the text's own words; not where both are plainly certain."""
    first, last = int(parts.first_D[text]), int(parts.first_D[text + 1])
    begin, end = int(parts.run_S[first]), int(parts.run_S[last])
    codes = parts.code_M[begin : min(end, begin + evidence.WORDS_READ)]
    bit = _bit_of().get(label, 0)
    if sure >= _SURE and bit and (parts.table.bits_C[codes] & bit != 0).mean() >= _PLAIN:
        return _Name(label, min(sure, 1.0), sure)
    words = words_of(runs, parts.member_M[begin : begin + len(codes)])
    is_name = parts.table.is_name_C[codes].tolist()
    chances = model.probabilities(parts.hidden_DE[text])
    index = index_of(model)
    found = evidence.weigh(words, is_name, chances, index)
    chance = float(chances[index[found.lang]]) if found.lang else sure
    return _Name(found.lang, found.certainty, chance)


@functools.cache
def _bit_of() -> dict[str, int]:
    return {lang: 1 << k for k, lang in enumerate(alike())}


def words_of(runs: Runs, member_W: Ints) -> list[str]:
    """Return words by their run numbers; of an endless one the beginning."""
    edges = runs.edge_R
    ends = zip(edges[member_W].tolist(), edges[member_W + 1].tolist(), strict=True)
    return [runs.text(first, min(last, first + _LONGEST)) for first, last in ends]


@functools.lru_cache(maxsize=4)
def index_of(model: LanguageModel) -> dict[str, int]:
    """Return the index of each label of a model."""
    return {label: i for i, label in enumerate(model.label_L)}


def _is_enough(main: int, n_bytes: int, n_words: float) -> bool:
    """Very short text is not named: a shared script needs 10 letters in 2 words, others 2 to 4."""
    if main == CJK:
        return n_bytes >= 12
    if not SHARED[main]:
        return n_bytes >= 9
    letters = n_bytes if main == LATIN else n_bytes // 2
    return letters >= 10 and n_words >= 2


def _cjk(runs: Runs, text: int) -> tuple[str, float]:
    """Chinese or Japanese: by most of the clauses that their characters decide."""
    begin = int(runs.bounds_D[text])
    raw = runs.text(begin, min(int(runs.bounds_D[text + 1]), begin + 12000))
    size = {"zh": 0, "ja": 0}
    for clause in CLAUSE.findall(raw):
        language = chinese_or_japanese(clause)
        if language:
            size[language] += len(clause)
    if not any(size.values()):
        # Japanese without a single kana is a headline or a name: long text without is Chinese.
        if _KANA.search(raw):
            return "ja", 0.6
        return "zh", 0.6 if len(_HAN.findall(raw)) >= 8 else 0.3
    main = max(size, key=lambda language: size[language])
    return main, max(0.5, min(0.99, size[main] / sum(size.values())))
