"""Sentences in another language of the same script."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.scores._byte_arrays import Bools
from factory.scores.language import evidence
from factory.scores.language.arrays import Labels, Rule
from factory.scores.language.fasttext_model import Floats, LanguageModel
from factory.scores.language.function_words import lists
from factory.scores.language.identify import (
    ATTRACTORS,
    CLAUSE,
    SHARED,
    Named,
    Sentences,
    chinese_or_japanese,
    family,
    index_of,
    words_of,
)
from factory.scores.language.mixing import MOST_SPANS, Span, is_gloss
from factory.scores.language.scripts import CJK, Runs

Hashes = npt.NDArray[np.uint64]
_FLOOR = -8.0  # log probabilities below are noise
# So much more speaks for another language than for the text's own and its varieties.
LEAD = 6.0
_LEAST_KNOWN = 1e-3


@dataclass(frozen=True, slots=True)
class SentenceRule:
    """When a sentence, or a stretch inside one, counts as foreign.

    A sentence has at least ``min_words`` words. It is looked at where the text's own language has
    less than ``doubt`` of the model's probability, or where it is longer than ``window`` words and
    has less than ``inside_doubt``, or a function word of another language; such a language is
    taken from windows with less than ``window_doubt``. The evidence for it is log odds by the
    model, plus ``per_function_word`` for each word that is a function word of only one of the two,
    minus ``per_known_word`` for each that occurs in the text's undoubted sentences, minus the doubt
    that the model has about the whole text. A sentence needs ``evidence``, a stretch
    ``inside_evidence``, and ``attractor`` more for labels to which unknown languages are drawn;
    without two function words the model gives the language at least ``least``, without any
    ``least_alone``. A stretch has at least ``least_inside`` words that are no names, two of them
    function words, or ``window`` words and one.
    """

    min_words: int = 4
    doubt: float = 0.6
    evidence: float = 2.0
    per_function_word: float = 2.0
    per_known_word: float = 1.0
    attractor: float = 3.0
    least: float = 0.35
    least_alone: float = 0.7
    window: int = 5
    least_inside: int = 4
    inside_doubt: float = 0.9
    window_doubt: float = 0.2
    inside_evidence: float = 3.0


def sentence_spans(
    runs: Runs,
    parts: Sentences,
    named: Named,
    prompts: list[str | None],
    model: LanguageModel,
    rule: SentenceRule,
    spared: set[int],
) -> dict[int, list[Span]]:
    """Find sentences in another language of the same script, and stretches inside sentences.

    What is quoted or stands in the prompt is left out, as in ``mixing.script_spans``; ``spared``
    gets the texts for which the prompt did so.
    """
    rows, weights, chance_S = _judged(runs, parts, named, model, rule)
    found: dict[int, list[Span]] = {}
    known: dict[int, Hashes] = {}
    for (sentence, first, last, label), weight in zip(rows, weights, strict=True):
        text = int(parts.text_S[sentence])
        if len(found.get(text, ())) >= MOST_SPANS:
            continue
        if text not in known:
            known[text] = _known_words(parts, text, chance_S < rule.doubt)
        codes = parts.code_M[first : last + 1]
        codes = codes[~parts.table.is_name_C[codes] | (np.arange(len(codes)) == 0)]
        n_known = int(np.isin(parts.table.lower_C[codes], known[text]).sum())
        if weight - rule.per_known_word * n_known < rule.evidence:
            continue
        ends = parts.member_M[[first, last]]
        begin, end = int(runs.edge_R[ends[0]]), int(runs.edge_R[ends[1] + 1])
        if is_gloss(runs, text, begin, end, around=True):
            continue
        own, chance = named.lang_D[text], named.chance_D[text]
        lang = _agreed(runs, parts, model, (first, last), model.label_L[label], own, chance)
        if lang is None:
            continue
        if _is_in(runs, begin, end, prompts[text]):
            spared.add(text)
            continue
        span = Span(begin, end, lang, float(last + 1 - first))
        found.setdefault(text, []).append(span)
    return found


def _agreed(
    runs: Runs, parts: Sentences, model: LanguageModel, ends: tuple[int, int], label: str,
    own: str | None, chance: float,
) -> str | None:  # fmt: skip
    """Name a stretch by what names a text; None where that speaks for the text's own language.

    The model alone knows many languages badly (Nynorsk, Irish, Afrikaans, Catalan): their sentences
    would count as foreign in a text that is rightly named by its words, letters and spellings.
    """
    first, last = ends
    codes = parts.code_M[first : last + 1]
    counted = parts.table.count_C[codes].sum()
    if own is None or not counted:
        return label
    hidden_E = parts.table.sum_CE[codes].sum(axis=0) / np.float32(counted)
    words = words_of(runs, parts.member_M[first : last + 1])
    close = [lang for lang in index_of(model) if family(lang) == family(own)]
    found = evidence.lead(
        words, parts.table.is_name_C[codes].tolist(), model.probabilities(hidden_E),
        index_of(model), close,
    )  # fmt: skip
    # Where the model names the whole text something else, it knows the language badly.
    if found.by + math.log(max(chance, _LEAST_KNOWN)) < LEAD:
        return None
    return found.lang or label


def _is_in(runs: Runs, begin: int, end: int, prompt: str | None) -> bool:
    return bool(prompt) and runs.text(begin, end) in (prompt or "")


def _judged(
    runs: Runs, parts: Sentences, named: Named, model: LanguageModel, rule: SentenceRule
) -> tuple[list[list[int]], list[float], Floats]:
    from factory.scores.language import sentence_kernels

    n = len(parts.text_S)
    chance_S, rows = np.ones(n, dtype=np.float32), np.empty((n, 4), dtype=np.int64)
    weights = np.empty(n, dtype=np.float64)
    labels = _labels(model)
    index = {label: i for i, label in enumerate(model.label_L)}
    own_D = np.array([index.get(lang or "", -1) for lang in named.lang_D], dtype=np.int64)
    own_D[~SHARED[runs.main_D]] = -1
    sure_D = np.array([max(chance, 0.05) for chance in named.chance_D], dtype=np.float64)
    n_found = sentence_kernels.judge(
        parts.code_M, parts.run_S, parts.text_S, parts.hidden_SE, parts.words_S, own_D,
        np.log(sure_D), labels, parts.table, model.compiled,
        model.ways,
        Rule(
            rule.min_words, rule.window, rule.least_inside, rule.doubt, rule.inside_doubt,
            rule.window_doubt, rule.evidence, rule.inside_evidence, rule.per_function_word,
            rule.attractor, rule.least, rule.least_alone, _FLOOR,
        ),
        chance_S, rows, weights,
    )  # fmt: skip
    return rows[:n_found].tolist(), weights[:n_found].tolist(), chance_S


@functools.lru_cache(maxsize=4)
def _labels(model: LanguageModel) -> Labels:
    names = [family(label) for label in model.label_L]
    bit = {lang: 1 << k for k, lang in enumerate(lists())}
    index = {label: i for i, label in enumerate(model.label_L)}
    return Labels(
        np.array([names.index(name) for name in names], dtype=np.int64),
        np.array([bit.get(label, 0) for label in model.label_L], dtype=np.uint32),
        np.array([label in ATTRACTORS for label in model.label_L], dtype=np.bool_),
        np.array([index.get(lang, -1) for lang in lists()], dtype=np.int64),
    )


def _known_words(parts: Sentences, text: int, is_doubtful_S: Bools) -> Hashes:
    """The words of the text's undoubted sentences, as hashes in lower case."""
    first, last = int(parts.first_D[text]), int(parts.first_D[text + 1])
    sizes = np.diff(parts.run_S[first : last + 1])
    codes = parts.code_M[int(parts.run_S[first]) : int(parts.run_S[last])]
    return np.unique(parts.table.lower_C[codes[np.repeat(~is_doubtful_S[first:last], sizes)]])


def cjk_spans(runs: Runs, named: Named) -> dict[int, list[Span]]:
    """Find Chinese clauses in Japanese text and Japanese ones in Chinese."""
    found: dict[int, list[Span]] = {}
    for text in np.flatnonzero(runs.main_D == CJK).tolist():
        own = named.lang_D[text]
        base = int(runs.bounds_D[text])
        raw = runs.text(base, int(runs.bounds_D[text + 1]))
        if own not in ("zh", "ja") or (own == "zh" and not re.search("[ぁ-ゖァ-ヺ]", raw)):
            continue
        for begin, end in _foreign_clauses(raw, own):
            first = base + len(raw[:begin].encode())
            last = first + len(raw[begin:end].encode())
            span = Span(first, last, "ja" if own == "zh" else "zh", (end - begin) / 1.7)
            found.setdefault(text, []).append(span)
    return found


def _foreign_clauses(raw: str, own: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for match in CLAUSE.finditer(raw):
        piece = match.group()
        letters = re.findall("[㐀-鿿豈-﫿ぁ-ゖァ-ヺー々]", piece)
        near = bool(spans) and match.start() - spans[-1][1] <= 2
        language = chinese_or_japanese(piece)
        # A Japanese clause has kana; a piece that could be either goes with the one before.
        foreign = language not in (own, None) and len(letters) >= (2 if near else 4)
        if own == "ja" and re.search("[ぁ-ゖ]", piece):
            foreign = False
        if foreign and near:
            spans[-1] = (spans[-1][0], match.end())
        elif foreign:
            spans.append((match.start(), match.end()))
    return spans
