"""Name the language of each text, and of each sentence, from sums of word vectors."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.scores._lid import Floats, LanguageModel
from factory.scores._scripts import (
    ARABIC,
    CJK,
    CYRILLIC,
    DEFAULT_LANGUAGE,
    DEVANAGARI,
    LATIN,
    N_CLASSES,
    Runs,
)
from factory.scores._tokens import Bools, Ints
from factory.scores._words import Words, edges_of

# Scripts in which several of the model's languages are written; in the others the script decides.
SHARED = np.isin(np.arange(N_CLASSES), [LATIN, CYRILLIC, ARABIC, DEVANAGARI])
# Labels to which text in languages that the model does not know is drawn, mostly Wikipedias written
# by machine or constructed languages: they need more certainty.
ATTRACTORS = frozenset(
    """
    ceb war io ia ie vo jbo eml pms lmo nap scn vec mwl min ilo bcl pam cbk gom rm nah wa
    """.split()  # noqa: SIM905 (as in the other lists of words)
)
ATTRACTOR_CONFIDENCE = 0.85
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
_CHINESE_WORDS = frozenset("的是了你吗呢吧她它這們嗎麼個從說來對讓還過邊")


@dataclass(frozen=True, slots=True)
class Sentences:
    """S sentences: ``run_S`` holds S + 1 offsets into ``member_M``, run numbers of their words.

    ``text_S`` is the text; ``hidden_SE`` mean vectors; ``words_S`` the number of words.
    """

    member_M: Ints
    run_S: Ints
    text_S: Ints
    hidden_SE: Floats
    total_SE: Floats
    features_S: npt.NDArray[np.float64]
    words_S: Ints


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vector sums and feature counts of a batch's distinct runs, by the number of the run."""

    code_R: npt.NDArray[np.int32]
    sum_VE: Floats
    count_V: npt.NDArray[np.float64]
    is_name_V: Bools
    vocabulary: list[bytes]


def vectors(runs: Runs, model: LanguageModel) -> Vectors:
    """Look up each distinct run once, in lower case."""
    codes, vocabulary = runs.encode()
    kind = np.zeros(len(vocabulary), dtype=np.uint8)
    kind[codes] = runs.class_R
    lower = [
        word.decode().lower().encode() if k else b""
        for word, k in zip(vocabulary, kind.tolist(), strict=True)
    ]
    sums, count = model.word_sums(lower)
    gap = kind == 0
    sums[gap], count[gap] = 0, 0
    is_name = (
        np.array([a != b for a, b in zip(lower, vocabulary, strict=True)], dtype=np.bool_) & ~gap
    )
    return Vectors(codes, sums, count.astype(np.float64), is_name, vocabulary)


def sentences(runs: Runs, words: Words, table: Vectors, ends: Bools) -> Sentences:
    """Gather the prose words of each text's main script into sentences."""
    main = words.main_D[runs.text_R]
    member = np.flatnonzero(words.is_prose_R & (runs.class_R == main))
    number = np.cumsum(ends)[member]
    key = number.astype(np.int64) + runs.text_R[member]  # both ascend: a new text is a new sentence
    head = edges_of(key)
    if not len(member):
        none = np.zeros(0, dtype=np.int64)
        empty = np.zeros((0, table.sum_VE.shape[1]), dtype=np.float32)
        return Sentences(
            member, np.zeros(1, np.int64), none, empty, empty, none.astype(float), none
        )
    # A capital inside a sentence is a name: it is in the span, but says nothing of the language.
    code = table.code_R[member]
    counts = ~table.is_name_V[code]
    counts[head] = True
    at = np.flatnonzero(counts)
    first = np.searchsorted(at, head)  # the first word always counts: no sentence is empty
    # Two floats as one complex number halve the steps of a sum over rows.
    pairs = np.take(table.sum_VE.view(np.complex64), code[at], axis=0)
    total = np.add.reduceat(pairs, first, axis=0).view(np.float32)
    features = np.add.reduceat(table.count_V[code[at]], first)
    n_words = np.diff(np.append(first, len(at)))
    hidden = total / np.maximum(features, 1)[:, None].astype(np.float32)
    return Sentences(
        member, np.append(head, len(member)), runs.text_R[member[head]].astype(np.int64), hidden,
        total, features, n_words,
    )  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class Named:
    """The language of each of D texts: None where it is not certain, and the certainty."""

    lang_D: list[str | None]
    confidence_D: list[float | None]


def name_texts(
    runs: Runs, words: Words, parts: Sentences, model: LanguageModel, *, min_confidence: float
) -> Named:
    """Name the language of each text: by script where that decides, else by the model."""
    n_texts = len(runs.bounds_D) - 1
    head = edges_of(parts.text_S)
    lang: list[str | None] = [None] * n_texts
    confidence: list[float | None] = [None] * n_texts
    if len(head):
        total = np.add.reduceat(parts.total_SE, head, axis=0)
        features = np.add.reduceat(parts.features_S, head)
        hidden = (total / np.maximum(features, 1)[:, None]).astype(np.float32)
        logs = model.log_probabilities(hidden)
    for row, at in enumerate(head.tolist()):
        text = int(parts.text_S[at])
        main = int(words.main_D[text])
        best = int(logs[row].argmax())
        label, sure = model.label_L[best], float(np.exp(logs[row, best]))
        second = float(np.exp(np.partition(logs[row], -2)[-2]))
        n_words = words.words_DC[text, main]
        enough = _is_enough(runs, words, text, main)
        if main == CJK:
            label, sure = _cjk(runs, text, label, sure)
        elif not SHARED[main]:
            # Yiddish, Assamese, Amharic's neighbours and the like keep the model's word.
            default = DEFAULT_LANGUAGE[main]
            label, sure = (label, sure) if label == default or sure > 0.8 else (default, 0.9)
        # Languages of which the model saw little stay below one half even in long clear text.
        is_clear = n_words >= 12 and sure >= 2 * second
        floor = 0.75 * min_confidence if is_clear else min_confidence
        floor = max(floor, ATTRACTOR_CONFIDENCE) if label in ATTRACTORS else floor
        confidence[text] = min(sure, 1.0) if features[row] else None
        lang[text] = label if enough and sure >= floor and features[row] else None
    return Named(lang, confidence)


def _is_enough(runs: Runs, words: Words, text: int, main: int) -> bool:
    """Very short text is not named: a shared script needs 10 letters in 2 words, others 2 to 4."""
    first, last = int(runs.first_D[text]), int(runs.first_D[text + 1])
    mine = (runs.class_R[first:last] == main) & words.is_prose_R[first:last]
    n_bytes = int(np.diff(runs.edge_R[first : last + 1])[mine].sum())
    if main == CJK:
        return n_bytes >= 12
    if not SHARED[main]:
        return n_bytes >= 9
    letters = n_bytes if main == LATIN else n_bytes // 2
    return letters >= 10 and int(mine.sum()) >= 2


def _cjk(runs: Runs, text: int, label: str, sure: float) -> tuple[str, float]:
    """Chinese or Japanese: by most of the clauses that their characters decide."""
    begin = int(runs.bounds_D[text])
    end = min(int(runs.bounds_D[text + 1]), begin + 12000)
    raw = runs.data[begin:end].tobytes().decode(errors="ignore")
    size = {"zh": 0, "ja": 0}
    for clause in CLAUSE.findall(raw):
        language = chinese_or_japanese(clause)
        if language:
            size[language] += len(clause)
    if not any(size.values()):
        return (label, sure) if label in ("zh", "ja") else ("zh", 0.6)
    best = max(size, key=lambda language: size[language])
    return best, max(0.5, min(0.99, size[best] / sum(size.values())))
