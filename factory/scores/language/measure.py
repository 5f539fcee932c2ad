"""The steps of the language measures in one call, for the scores that need them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.scores.language.fasttext_model import LanguageModel
from factory.scores.language.foreign import SentenceRule, cjk_spans, sentence_spans
from factory.scores.language.identify import Named, gather, name_texts
from factory.scores.language.mixing import Span, script_spans
from factory.scores.language.scripts import Runs, find_runs, has_other_script

# Bytes of text handled at a time: small enough for the arrays to stay in the cache.
BLOCK_BYTES = 1 << 20
# Below it a language is not named.
MIN_CONFIDENCE = 0.4


@dataclass(frozen=True, slots=True)
class Found:
    """Runs, names and foreign spans of D texts; texts without spans are left out.

    ``spared`` are the texts in which the prompt made a gloss of a stretch.
    """

    runs: Runs
    named: Named
    spans: dict[int, list[Span]]
    spared: set[int]

    def foreign_shares(self, *, without_prompt: bool = False) -> npt.NDArray[np.float64]:
        """Return the share of words in another language, shape (D,); NaN without words.

        With ``without_prompt`` it is also NaN where the prompt had a part in it.
        """
        foreign = np.zeros(len(self.runs.main_D))
        for text, spans in self.spans.items():
            foreign[text] = sum(span.n_words for span in spans)
        with np.errstate(divide="ignore", invalid="ignore"):
            share: npt.NDArray[np.float64] = np.minimum(
                foreign / self.runs.words_DC.sum(axis=1), 1.0
            )
        if without_prompt:
            share[list(self.spared)] = np.nan
        return share


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
    spared: set[int] = set()
    spans = script_spans(runs, prompts, model, spared)
    if rule is None:
        return Found(runs, Named([], [], []), spans, spared)
    parts = gather(runs, model)
    named = name_texts(runs, parts, model, min_confidence=min_confidence)
    for more in (
        sentence_spans(runs, parts, named, prompts, model, rule, spared),
        cjk_spans(runs, named),
    ):
        for text, new in more.items():
            spans[text] = _merged(spans.get(text, []) + new)
    return Found(runs, named, spans, spared)


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


def foreign_word_fraction(
    texts: pl.Series,
    model: LanguageModel,
    *,
    same_script: bool,
    known: pl.Series | None = None,
) -> pl.Series:
    """Return the share of words in another language than the text's own; null without words.

    Args:
        texts: D texts.
        model: the language model.
        same_script: whether foreign sentences of the same script count; without them no language
            is named, and only other scripts do.
        known: what the language score found in the same texts, null where it is open. It counts
            only with ``same_script``.

    >>> from factory.scores.language.fasttext_model import load
    >>> text = "We add the two numbers here, 所以 the whole sum is right."
    >>> foreign_word_fraction(pl.Series([text, None]), load(), same_script=True).round(2).to_list()
    [0.1, None]
    """
    rule = SentenceRule() if same_script else None
    share = np.full(len(texts), np.nan)
    if known is not None and same_script:
        share = known.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
    open_rows = np.flatnonzero(np.isnan(share))
    left = texts if len(open_rows) == len(texts) else texts.gather(open_rows)
    for begin, end in blocks(left):
        part = left.slice(begin, end - begin)
        rows = open_rows[begin:end]
        if rule is None:
            # Latin letters alone cannot be mixed with another script.
            other = has_other_script(part)
            share[rows[~other]] = 0.0
            rows, part = rows[other], part.filter(pl.Series(other))
        found = find(part, [None] * len(part), model, min_confidence=MIN_CONFIDENCE, rule=rule)
        share[rows] = found.foreign_shares()
    share[texts.str.contains(r"\p{L}").fill_null(False).not_().to_numpy()] = np.nan
    return pl.Series(share, nan_to_null=True)
