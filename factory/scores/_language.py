"""The steps of the language measures in one call, for the scores that need them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import polars as pl

from factory.scores._foreign import SentenceRule, cjk_spans, sentence_spans
from factory.scores._identify import Named, gather, name_texts
from factory.scores._lid import LanguageModel
from factory.scores._mixing import Span, script_spans
from factory.scores._scripts import Runs, find_runs, has_other_script

# Bytes of text handled at a time: small enough for the arrays to stay in the cache.
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """Runs, names and foreign spans of D texts; texts without spans are left out."""

    runs: Runs
    named: Named
    spans: dict[int, list[Span]]


def find(
    texts: pl.Series,
    prompts: list[str | None],
    model: LanguageModel,
    *,
    min_confidence: float,
    rule: SentenceRule | None,
) -> Found:
    """Name the languages of texts and find what stands in another one.

    Args:
        texts: D texts; null counts as empty.
        prompts: the prompt of each, None where unknown.
        model: the language model.
        min_confidence: below it a language is not named.
        rule: how sentences are judged; None looks at scripts alone and names no language.
    """
    runs = find_runs(texts)
    spans = script_spans(runs, prompts, model)
    if rule is None:
        return Found(runs, Named([], []), spans)
    parts = gather(runs, model)
    named = name_texts(runs, parts, model, min_confidence=min_confidence)
    for more in (
        sentence_spans(runs, parts, named, prompts, model, rule),
        cjk_spans(runs, named),
    ):
        for text, new in more.items():
            spans[text] = _merged(spans.get(text, []) + new)
    return Found(runs, named, spans)


def blocks(texts: pl.Series) -> list[tuple[int, int]]:
    """Cut texts into consecutive ranges of about ``BLOCK_BYTES``; a longer text stays whole."""
    sizes = texts.str.len_bytes().fill_null(0).to_numpy()
    block = np.cumsum(sizes) // BLOCK_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(texts)]
    return list(itertools.pairwise(cuts))


def _merged(spans: list[Span]) -> list[Span]:
    """Sort spans; one that overlaps an earlier one is joined to it."""
    out: list[Span] = []
    for span in sorted(spans):
        if out and span.begin < out[-1].end:
            last = out[-1]
            longer = max(last, span, key=lambda s: s.end - s.begin)
            end = max(last.end, span.end)
            out[-1] = Span(last.begin, end, longer.lang, max(last.n_words, span.n_words))
        else:
            out.append(span)
    return out


def mixed_fractions(texts: pl.Series, model: LanguageModel, *, same_script: bool) -> pl.Series:
    """Return the share of words in another language than the text's own; null without words.

    >>> from factory.scores._lid import load
    >>> text = "We add the two numbers here, 所以 the whole sum is right."
    >>> mixed_fractions(pl.Series([text, None]), load(), same_script=True).round(2).to_list()
    [0.1, None]
    """
    share = np.full(len(texts), np.nan)
    rule = SentenceRule() if same_script else None
    for begin, end in blocks(texts):
        part = texts.slice(begin, end - begin)
        rows = np.arange(begin, end)
        if rule is None:
            # Latin letters alone cannot be mixed with another script.
            other = has_other_script(part)
            share[rows[~other]] = 0.0
            rows, part = rows[other], part.filter(pl.Series(other))
        found = find(part, [None] * len(part), model, min_confidence=0.4, rule=rule)
        total = found.runs.words_DC.sum(axis=1)
        foreign = np.zeros(len(rows))
        for text, spans in found.spans.items():
            foreign[text] = sum(span.n_words for span in spans)
        with np.errstate(divide="ignore", invalid="ignore"):
            share[rows] = np.minimum(foreign / total, 1.0)
    share[texts.str.contains(r"\p{L}").fill_null(False).not_().to_numpy()] = np.nan
    return pl.Series(share, nan_to_null=True)
