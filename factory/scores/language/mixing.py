"""Runs of another script than the text's own, without symbols, names and glosses."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from factory.scores._byte_arrays import Ints
from factory.scores.language.fasttext_model import LanguageModel
from factory.scores.language.function_words import lists
from factory.scores.language.identify import SHARED, chinese_or_japanese
from factory.scores.language.scripts import (
    CJK,
    CYRILLIC,
    DEFAULT_LANGUAGE,
    GREEK,
    HEBREW,
    LATIN,
    Runs,
)

_OPENERS = "\"'“”„‟‘’‚«»‹›「『《〈【（([{`*"
_PAIRS = {
    '"': '"', "'": "'", "“": "”", "”": "”", "„": "“”", "‟": "”", "‘": "’", "’": "’", "‚": "‘’",
    "«": "»", "»": "«", "‹": "›", "›": "‹", "「": "」", "『": "』", "《": "》", "〈": "〉",
    "【": "】", "（": "）)", "(": ")）", "[": "]", "{": "}", "`": "`",
}  # fmt: skip
_BRACKETS = frozenset("（([{")
_NO_MERGE = re.compile('[\n"“”„‟‘‚«»‹›「」『』《》〈〉【】（）()\\[\\]{}`]')
# A term with its transcription: "قانون (qanun)".
_ROMANISED = re.compile(r"[\"'”’»]?\s?[(（][\"'“‘]?[A-Za-zÀ-ɏḀ-ỿʼ'’ \-]{2,24}[\"'”’]?[)）,:;]")
_QUOTE = re.compile('["“”„‟«»‹›\n]')
# A quotation mark that opens: before it no letter, behind it one, and no other up to the end.
_OPENED = re.compile('(?<![^\\W_])(["“„‟«‹])(?=\\w)[^"“”„‟«»‹›\n]*$')
# Longer stretches in quotation marks or brackets are no gloss but text.
QUOTED_CHARS, BRACKETED_CHARS = 80, 40
_GAP_CHARS = 6
# A text has at most so many spans of a kind: what follows in 100 MB of alternation is more of it.
MOST_SPANS = 2000
# Latin words that are written so in every language: units and functions.
_INTERNATIONAL = frozenset(
    """
    cm mm km kg mg ml dm ms min sec hz khz mhz ghz kb mb gb tb kw kwh mph kmh kcal cal mol nm
    sin cos tan cot sec csc log ln lg exp lim max min mod gcd lcm det dim arg sup inf sqrt
    arcsin arccos arctan sinh cosh tanh deg rad avg sum vs etc ok ans http https www com org usd
    eur pdf dna rna ph am pm
    """.split()  # noqa: SIM905 (a list of sixty strings is harder to read)
)
_NAMELIKE = frozenset(("one", "two", "three", "will", "may", "mark", "an"))


class Span(NamedTuple):
    """A stretch in another language: byte offsets in the batch, language, words in it."""

    begin: int
    end: int
    lang: str
    n_words: float


@dataclass(frozen=True, slots=True)
class _Group:
    first: int
    last: int  # run numbers, inclusive
    kind: int
    text: int


def _groups(runs: Runs) -> list[_Group]:
    """Join runs of one other script that only blanks and light punctuation part."""
    groups: list[_Group] = []
    foreign_F = _first_ones(runs, 4 * MOST_SPANS)
    of_text = np.searchsorted(runs.first_D, foreign_F, side="right") - 1
    kinds = runs.class_R[foreign_F].tolist()
    for run, text, kind in zip(foreign_F.tolist(), of_text.tolist(), kinds, strict=True):
        if groups:
            last = groups[-1]
            if run - last.last <= 2 and last.text == text and last.kind == kind:
                gap = runs.text(int(runs.edge_R[last.last + 1]), int(runs.edge_R[run]))
                if len(gap) <= _GAP_CHARS and not _NO_MERGE.search(gap):
                    groups[-1] = _Group(last.first, run, kind, text)
                    continue
        groups.append(_Group(run, run, kind, text))
    return groups


def _first_ones(runs: Runs, most: int) -> Ints:
    """Return the foreign runs, of each text the first ``most``."""
    if len(runs.foreign_F) <= most:
        return runs.foreign_F
    first = np.searchsorted(runs.foreign_F, runs.first_D)
    kept = [runs.foreign_F[a : min(a + most, b)] for a, b in itertools.pairwise(first.tolist())]
    return np.concatenate(kept)


def is_quoted(before: str, inside: str, after: str) -> bool:
    """Tell whether a short foreign stretch is quoted or bracketed: a gloss, not mixing.

    >>> is_quoted('the word "', "قانون", '" means law'), is_quoted("So ", "所以", ", we")
    (True, False)
    """
    left = before.rstrip(" *_")
    right = after.lstrip(" *_")
    while right[:1] and right[0] in ".,!?;:。，！？；：、…":
        right = right[1:]
    if not left or left[-1] not in _PAIRS or not right:
        return False
    longest = BRACKETED_CHARS if left[-1] in _BRACKETS else QUOTED_CHARS
    return len(inside) <= longest and right[0] in _PAIRS[left[-1]]


def script_spans(
    runs: Runs, prompts: list[str | None], model: LanguageModel, spared: set[int]
) -> dict[int, list[Span]]:
    """Find runs of another script than the text's main one, by text; glosses are left out.

    A stretch that the prompt itself holds is a quotation of the task; ``spared`` gets the texts
    with one.
    """
    found: dict[int, list[Span]] = {}
    mentioned: dict[int, set[str]] = {}
    for group in _groups(runs):
        text = group.text
        begin, end = int(runs.edge_R[group.first]), int(runs.edge_R[group.last + 1])
        inside = runs.text(begin, end)
        if not _counts(group, inside) or len(found.get(text, ())) >= MOST_SPANS:
            continue
        is_told = is_gloss(runs, text, begin, end)
        if not is_told and inside in (prompts[text] or ""):
            is_told = True
            spared.add(text)
        if is_told:
            mentioned.setdefault(text, set()).add(inside)
            continue
        n_words = max(float(runs.count_R[group.first : group.last + 1].sum()), 1.0)
        lang = _group_language(group, inside, model)
        found.setdefault(text, []).append(Span(begin, end, lang, n_words))
    for text in mentioned.keys() & found.keys():
        # What is glossed once is a mention elsewhere too, if it is a term and no function word.
        kept = [s for s in found[text] if runs.text(s.begin, s.end) not in mentioned[text]]
        found[text] = kept
    return {text: spans for text, spans in found.items() if spans}


def is_gloss(runs: Runs, text: int, begin: int, end: int, *, around: bool = False) -> bool:
    """Tell whether what stands between two byte offsets is quoted, bracketed or transcribed.

    With ``around`` other words may stand between it and the quotation marks.
    """
    low, high = int(runs.bounds_D[text]), int(runs.bounds_D[text + 1])
    before = runs.text(max(low, begin - 12), begin)
    after = runs.text(end, min(high, end + 48))
    inside = runs.text(begin, min(end, begin + 4 * (QUOTED_CHARS + 1)))
    if around:
        wide = runs.text(max(low, begin - 60), begin)
        head = _OPENED.search(wide)
        tail = _QUOTE.search(runs.text(end, min(high, end + 60)))
        if head and tail and tail.group() in _PAIRS[head.group(1)]:
            return len(wide) - head.end(1) + len(inside) + tail.start() <= QUOTED_CHARS
    return is_quoted(before, inside, after) or _ROMANISED.match(after) is not None


def _counts(group: _Group, inside: str) -> bool:
    """Tell words from symbols: which stretches of another script can be mixing at all."""
    if group.kind == CJK:
        # A lone katakana is an emoticon's; a Han character or a hiragana is a word.
        return len(inside) > 1 or not "\u30a1" <= inside <= "\u30ff"
    if group.kind == LATIN:
        parts = re.findall(r"[^\W\d_]+", inside)
        plain = [p for p in parts if p[1:].islower() and p.lower() not in _INTERNATIONAL]
        lower = [p for p in plain if p.islower()]
        # Titles and names alone ("Nicholas", "Google Maps") are words of no language.
        english = lists()["en"]
        known = any(p.lower() in english - _NAMELIKE and len(p) > 1 for p in plain)
        return any(len(p) > 2 for p in lower) or len(lower) > 2 or known
    if group.kind == GREEK:
        # Letters of formulas: αβγ, πr, Δx. Words have accents or are long.
        return any(
            len(part) > 3 or (len(part) > 1 and re.search("[άέήίόύώΐΰΆΈΉΊΌΎΏς]", part))
            for part in re.findall(r"[\u0370-\u03ff\u1f00-\u1fff]+", inside)
        )
    if group.kind in (CYRILLIC, HEBREW):
        # а, о, с, х look like Latin symbols, א is one; these stand for words.
        return any(len(part) > 1 or part in "ивкяуэИВКЯУЭ" for part in inside.split())
    return True


def _group_language(group: _Group, inside: str, model: LanguageModel) -> str:
    default = DEFAULT_LANGUAGE[group.kind] or "en"
    if group.kind == CJK:
        return chinese_or_japanese(inside) or default
    parts = re.findall(r"[^\W\d_]+", inside.lower())
    if not SHARED[group.kind] or len(parts) < 3:
        return default
    sums, count = model.word_sums([part.encode() for part in parts])
    if not count.sum():
        return default
    chances = model.probabilities(sums.sum(axis=0) / np.float32(count.sum()))
    best = int(chances.argmax())
    return model.label_L[best] if chances[best] >= 0.3 else default
