"""Sentences in another language of the same script."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.scores._function_words import by_word, hits, likely, lists
from factory.scores._identify import (
    ATTRACTORS,
    CLAUSE,
    SHARED,
    Named,
    Sentences,
    Vectors,
    chinese_or_japanese,
    family,
)
from factory.scores._lid import Floats, LanguageModel
from factory.scores._mixing import Span
from factory.scores._scripts import CJK, Runs
from factory.scores._tokens import Bools, Ints
from factory.scores._words import Words, edges_of

_FLOOR = -8.0  # log probabilities below are noise


@dataclass(frozen=True, slots=True)
class SentenceRule:
    """When a sentence counts as foreign.

    It has at least ``min_words`` words, the text's own language has less than ``doubt`` of the
    model's probability, and the evidence for another language is at least ``evidence``: log odds
    by the model, plus ``per_function_word`` for each word that is a function word of only one of
    the two, minus ``per_known_word`` for each that occurs in the text's undoubted sentences, minus
    the doubt that the model has about the whole text. Inside a sentence of the own language a
    stretch of ``window`` words or more needs ``inside_evidence``.
    """

    min_words: int = 4
    doubt: float = 0.6
    evidence: float = 2.0
    per_function_word: float = 2.0
    per_known_word: float = 1.0
    attractor: float = 3.0
    least: float = 0.35
    window: int = 5
    inside_doubt: float = 0.95
    inside_function_words: int = 3
    inside_evidence: float = 5.0


@dataclass(frozen=True, slots=True)
class Judge:
    """What is needed to judge sentences: the model, its labels' numbers, the rule."""

    model: LanguageModel
    index: dict[str, int]
    rule: SentenceRule

    def foreign(
        self, plain: list[str], logs: Floats, own: str, known: set[str], sure: float
    ) -> tuple[str | None, float]:
        """Return the language with most evidence against ``own``, and the evidence.

        Args:
            plain: the words in lower case, without names.
            logs: log probabilities (L,) of the labels.
            own: the text's language.
            known: words of undoubted sentences of the text.
            sure: the model's probability of ``own`` over the whole text.
        """
        rule, home = self.rule, family(own)
        n_known = sum(word in known for word in plain)
        handicap = rule.per_known_word * n_known - 2 * float(np.log(max(sure, 0.05)))
        best, most = None, -np.inf
        top = [self.model.label_L[i] for i in np.argsort(-logs)[:3].tolist()]
        for lang in dict.fromkeys([*top, *likely(plain, own)]):
            if family(lang) == home or lang not in self.index:
                continue
            mine, others = hits(plain, lang, own)
            log = float(logs[self.index[lang]])
            if log < np.log(rule.least) and mine < 2:
                continue
            odds = max(log, _FLOOR) - max(float(logs[self.index[own]]), _FLOOR)
            # A single one may be a name or a chance ("Dan", "die"): it weighs little.
            bonus = mine if mine >= 2 else 0.25 * mine
            weight = odds + rule.per_function_word * (bonus - others) - handicap
            weight -= rule.attractor * (lang in ATTRACTORS)
            if weight > most:
                best, most = lang, float(weight)
        return best, most


def sentence_spans(
    runs: Runs,
    words: Words,
    parts: Sentences,
    table: Vectors,
    named: Named,
    model: LanguageModel,
    rule: SentenceRule,
) -> dict[int, list[Span]]:
    """Find sentences in another language of the same script, and stretches inside sentences."""
    judge = Judge(model, {label: i for i, label in enumerate(model.label_L)}, rule)
    own_D = np.array([judge.index.get(lang or "", -1) for lang in named.lang_D], dtype=np.int64)
    own = own_D[parts.text_S]
    main = words.main_D[parts.text_S]
    # A chain of names says nothing: three words at least are no names (or the first one).
    is_long = (np.diff(parts.run_S) >= rule.min_words) & (parts.words_S >= 3)
    at = np.flatnonzero(SHARED[main] & is_long & (own >= 0))
    chance = np.ones(len(parts.text_S), dtype=np.float32)
    for label in np.unique(own[at]).tolist():
        mine = at[own[at] == label]
        chance[mine] = _probability(model, parts.hidden_SE[mine], label)
    langs = [model.label_L[x] if x >= 0 else "" for x in own_D]
    strange, homely = _function_words(parts, table, langs)
    sure_S = np.array([named.confidence_D[x] or 0.05 for x in range(len(langs))])[parts.text_S]
    bound = rule.per_function_word * (strange - homely) + 2 * np.log(np.maximum(sure_S, 0.05))
    is_whole: Bools = _worth_a_look(parts, at, own, chance, strange, bound, model, rule)
    long = parts.words_S[at] >= 2 * rule.window
    is_inside: Bools = np.asarray(
        long & (chance[at] < rule.inside_doubt) & (strange[at] >= rule.inside_function_words),
        dtype=np.bool_,
    )
    found: dict[int, list[Span]] = {}
    known: dict[int, set[str]] = {}
    for row in np.flatnonzero(np.logical_or(is_whole, is_inside)).tolist():
        sentence, whole = int(at[row]), bool(is_whole[row])
        text = int(parts.text_S[sentence])
        members = parts.member_M[parts.run_S[sentence] : parts.run_S[sentence + 1]]
        plain, kept = _plain_words(table, members)
        lang, sure = named.lang_D[text] or "", named.confidence_D[text] or 0.0
        span = None
        if whole:
            logs = model.log_probabilities(parts.hidden_SE[sentence : sentence + 1])[0]
            other, weight = judge.foreign(plain, logs, lang, set(), sure)
            if other and weight >= rule.evidence:  # only then are the text's own words looked up
                if text not in known:
                    known[text] = _known_words(parts, table, text, chance < rule.doubt)
                other, weight = judge.foreign(plain, logs, lang, known[text], sure)
                span = _span(runs, members, other) if other and weight >= rule.evidence else None
        if span is None and is_inside[row] and len(kept) >= 2 * rule.window:
            if text not in known:
                known[text] = _known_words(parts, table, text, chance < rule.doubt)
            span = _inside(runs, table, members, kept, judge, lang, known[text], sure)
        if span is not None:
            found.setdefault(text, []).append(span)
    return found


def _function_words(parts: Sentences, table: Vectors, own_D: list[str]) -> tuple[Ints, Ints]:
    """Count function words of each sentence.

    Returns:
        The most of one language that the text's own has not, and those of its own alone.
    """
    names = list(lists())
    column = {lang: i for i, lang in enumerate(names)}
    has_VF = np.zeros((len(table.vocabulary), len(names)), dtype=np.int8)
    for code, word in enumerate(table.vocabulary):
        for lang in by_word().get(word.decode().lower(), ()):
            has_VF[code, column[lang]] = 1
    out = np.zeros(len(parts.text_S), dtype=np.int64)
    home = np.zeros(len(parts.text_S), dtype=np.int64)
    of_text = np.array([column.get(lang, -1) for lang in own_D], dtype=np.int64)
    if not len(out):
        return out, home
    codes = table.code_R[parts.member_M]
    code_owner = np.repeat(of_text[parts.text_S], np.diff(parts.run_S))
    for own in np.unique(of_text[parts.text_S]).tolist():
        if own < 0:
            continue
        only_VF = has_VF * (1 - has_VF[:, own : own + 1])
        is_any_V: Bools = np.asarray(only_VF.any(axis=1), dtype=np.bool_)
        member = np.flatnonzero((code_owner == own) & is_any_V[codes])
        sentence = np.searchsorted(parts.run_S, member, side="right") - 1
        head = edges_of(sentence)
        if len(head):
            count = np.add.reduceat(only_VF[codes[member]], head, axis=0, dtype=np.int64)
            out[sentence[head]] = count.max(axis=1)
        is_home_V = (has_VF[:, own] > 0) & (has_VF.sum(axis=1) == 1)
        member = np.flatnonzero((code_owner == own) & is_home_V[codes])
        sentence = np.searchsorted(parts.run_S, member, side="right") - 1
        home += np.bincount(sentence, minlength=len(home))
    return out, home


def _worth_a_look(
    parts: Sentences,
    at: Ints,
    own: Ints,
    chance: npt.NDArray[np.float32],
    strange: Ints,
    bound: npt.NDArray[np.float64],
    model: LanguageModel,
    rule: SentenceRule,
) -> Bools:
    """Tell which sentences could reach the evidence at all, by what is cheap for all of them."""
    out = np.zeros(len(at), dtype=np.bool_)
    doubtful = np.flatnonzero(chance[at] < rule.doubt)
    if not len(doubtful):
        return out
    rows = at[doubtful]
    logs = model.log_probabilities(parts.hidden_SE[rows])
    homes = np.array([family(label) for label in model.label_L])
    logs[homes[None, :] == homes[own[rows]][:, None]] = -np.inf
    most = logs.max(axis=1)
    odds = most - np.maximum(np.log(np.maximum(chance[rows], 1e-9)), _FLOOR)
    possible = odds + bound[rows] >= rule.evidence
    out[doubtful] = possible & ((most >= np.log(rule.least)) | (strange[rows] >= 2))
    return out


def _span(runs: Runs, members: Ints, lang: str) -> Span:
    begin, end = int(runs.edge_R[members[0]]), int(runs.edge_R[members[-1] + 1])
    return Span(begin, end, lang, float(len(members)))


def _inside(
    runs: Runs,
    table: Vectors,
    members: Ints,
    kept: Ints,
    judge: Judge,
    own: str,
    known: set[str],
    sure: float,
) -> Span | None:
    """Find the stretch of a sentence in which the own language is least likely."""
    size = judge.rule.window
    codes = table.code_R[members[kept]]
    sums = np.concatenate([np.zeros((1, table.sum_VE.shape[1])), np.cumsum(table.sum_VE[codes], 0)])
    counts = np.concatenate([[0], np.cumsum(table.count_V[codes])])
    width = np.maximum(counts[size:] - counts[:-size], 1)[:, None]
    hidden = ((sums[size:] - sums[:-size]) / width).astype(np.float32)
    low = _probability(judge.model, hidden, judge.index[own]) < 0.2
    if not low.any():
        return None
    edges = np.flatnonzero(np.diff(np.concatenate([[False], low, [False]]).astype(np.int8)))
    begin, end = max(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True), key=_length)
    # A window at the border holds words of both: those are cut off again.
    begin, end = begin + 1 if begin else 0, min(end + size - 2, len(codes))
    if end - begin < size - 1:
        begin, end = max(begin - 1, 0), min(end + 1, len(codes))
    plain = [table.vocabulary[code].decode().lower() for code in codes[begin:end].tolist()]
    mean = (sums[end] - sums[begin]) / max(counts[end] - counts[begin], 1)
    logs = judge.model.log_probabilities(mean[None].astype(np.float32))[0]
    other, weight = judge.foreign(plain, logs, own, known, sure)
    if other is None or weight < judge.rule.inside_evidence:
        return None
    stretch = members[kept[begin] : kept[end - 1] + 1]
    return _span(runs, stretch, other)


def _length(pair: tuple[int, int]) -> int:
    return pair[1] - pair[0]


def _plain_words(table: Vectors, members: Ints) -> tuple[list[str], Ints]:
    """A sentence's words in lower case without names (capitals after the first), and which."""
    codes = table.code_R[members]
    keep = ~table.is_name_V[codes]
    keep[:1] = True
    kept = np.flatnonzero(keep)
    return [table.vocabulary[code].decode().lower() for code in codes[kept].tolist()], kept


def _known_words(parts: Sentences, table: Vectors, text: int, is_doubtful: Bools) -> set[str]:
    """The words of the text's undoubted sentences."""
    first, last = np.searchsorted(parts.text_S, (text, text + 1))
    sure = np.flatnonzero(~is_doubtful[first:last]) + first
    members = [parts.member_M[parts.run_S[s] : parts.run_S[s + 1]] for s in sure.tolist()]
    if not members:
        return set()
    codes = np.unique(table.code_R[np.concatenate(members)])
    return {table.vocabulary[code].decode().lower() for code in codes.tolist()}


def _probability(model: LanguageModel, hidden: Floats, label: int) -> npt.NDArray[np.float32]:
    """Return the probability of one label: only its way through the tree is computed."""
    if not model.right_NL.size:
        return np.exp(model.log_probabilities(hidden)[:, label])
    right = np.flatnonzero(model.right_NL[:, label])
    left = np.flatnonzero(model.left_NL[:, label])
    out = np.ones(len(hidden), dtype=np.float32)
    for nodes, sign in ((right, np.float32(1)), (left, np.float32(-1))):
        scores = np.clip(hidden @ model.output_NE[nodes].T * sign, -30, 30)
        out *= np.prod(1 / (1 + np.exp(-scores)), axis=1)
    return out


def cjk_spans(runs: Runs, words: Words, named: Named) -> dict[int, list[Span]]:
    """Find Chinese clauses in Japanese text and Japanese ones in Chinese."""
    found: dict[int, list[Span]] = {}
    for text in np.flatnonzero(words.main_D == CJK).tolist():
        own = named.lang_D[text]
        base = int(runs.bounds_D[text])
        raw = runs.data[base : int(runs.bounds_D[text + 1])].tobytes().decode(errors="ignore")
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
