r"""Readability of a trace, after the style that DeepSeek-R1's cold-start data aimed at.

R1 wanted thinking in short digestible paragraphs, conversational and in the first person, in one
language, without markdown or code, and a summary after it that states the answer. Each of these is
a column; ``readability`` in [0, 1] is the weighted geometric mean of these parts, each in (0, 1]:

========== ============================================================ ======
part       formula                                                      weight
========== ============================================================ ======
paragraph  mean over words of 1 / (1 + (words of the paragraph / 150)²)      2
sentence   1 / (1 + (words per sentence / 40)²)                              1
code       1 / (1 + 10 × share of characters in code blocks)                 2
markdown   1 / (1 + 3 × share of lines with markdown)                        1
mixing     1 / (1 + 20 × share of words in another language)                 2
repetition 1 / (1 + 4 × share of words in 12-grams said before)              2
clean      1 / (1 + 200 × share of broken characters)                        1
summary    1 with a summary after the thinking, 1/2 without                  1
ease       Flesch reading ease ÷ 100, between 0.05 and 1                     0
========== ============================================================ ======

A part that is not defined (no thinking: no summary is expected; no formula of reading ease for the
language) is left out, and the other weights count. All but the last two judge the reasoning, or the
whole completion where there is none. ``weights`` replaces some of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.scores import _lid, _prose
from factory.scores._language import mixed_fractions
from factory.scores._repeats import batches, gram_hashes, sort_grams
from factory.scores._text import judged
from factory.scores._tokens import tokenize

VERSION = 1
READS = ("completion", "reasoning", "answer", "extracted")
PARAMS = ("weights", "same_script")
WEIGHTS: Mapping[str, float] = {
    "paragraph": 2.0, "sentence": 1.0, "code": 2.0, "markdown": 1.0, "mixing": 2.0,
    "repetition": 2.0, "clean": 1.0, "summary": 1.0, "ease": 0.0,
}  # fmt: skip
WRITES = {
    "readability": "float",
    "flesch_reading_ease": "float",
    "flesch_kincaid_grade": "float",
    "gunning_fog": "float",
    "lix": "float",
    "n_sentences": "int",
    "words_per_sentence": "float",
    "syllables_per_word": "float",
    "n_paragraphs": "int",
    "mean_paragraph_words": "float",
    "max_paragraph_words": "int",
    "n_code_blocks": "int",
    "code_fraction": "float",
    "n_headings": "int",
    "n_list_items": "int",
    "markdown_line_fraction": "float",
    "first_person_singular_per_1k_words": "float",
    "first_person_plural_per_1k_words": "float",
    "repeated_word_fraction": "float",
    "broken_char_fraction": "float",
    "has_summary": "bool",
    "summary_restates_answer": "bool",
    "summary_has_boxed": "bool",
    "summary_same_script": "bool",
    "summary_list_item_fraction": "float",
}
Floats = npt.NDArray[np.float64]
PARAGRAPH_WORDS, SENTENCE_WORDS, REPEAT_GRAM = 150.0, 40.0, 12

_FENCE = r"(?s)```.*?(?:```|\z)"
_HEADING = r"(?m)^[ \t]{0,3}#{1,6}[ \t]"
_ITEM = r"(?m)^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+"
_MARKDOWN_LINE = (
    r"(?m)^(?:[ \t]{0,3}#{1,6}[ \t].*|.*(?:\*\*[^*\n]+\*\*|`[^`\n]+`).*|[ \t]*\|.*\|[ \t]*"
    r"|[ \t]*(?:[-*+•])[ \t].*|[ \t]*(?:-{3,}|\*{3,})[ \t]*)$"
)
# Replacement, control, private-use and zero-width characters; UTF-8 read as Latin-1.
_BROKEN = (
    r"[\x{FFFD}\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x{9F}\x{E000}-\x{F8FF}\x{200B}\x{2060}\x{FEFF}]"
    r"|Ã[\x{80}-\x{BF}©¼¤¶]|â€"
)


def score(
    df: pl.DataFrame, *, weights: Mapping[str, float] | None = None, same_script: bool = True
) -> pl.DataFrame:
    """Measure how well a trace reads; null where the judged text is null, shares where it is blank.

    Args:
        df: columns of ``READS``, text, N rows.
        weights: other weights of the parts than ``WEIGHTS``, by name.
        same_script: whether foreign sentences of the same script count as mixing; without them
            only other scripts do, at a third of the time.

    Returns:
        N rows with the columns of ``WRITES``. Formulas of English (``flesch_kincaid_grade``,
        ``gunning_fog``) are null in other languages; ``flesch_reading_ease`` has the constants of
        English, German, Spanish, French, Italian or Russian and is null elsewhere; ``lix`` needs
        no syllables. ``summary_restates_answer`` is null where nothing was extracted.

    Raises:
        ValueError: a weight is unknown or negative.

    >>> thinking = "I read the task. I add two and two.\\n\\nThat is four. Let me check it."
    >>> rows = {"completion": ["<think>" + thinking + "</think>4"], "reasoning": [thinking],
    ...         "answer": ["The answer is 4."], "extracted": ["4"]}
    >>> out = score(pl.DataFrame(rows))
    >>> out.select("n_paragraphs", "has_summary", "summary_restates_answer").row(0)
    (2, True, True)
    >>> 0.9 < out["readability"][0] < 1
    True
    """
    used = dict(WEIGHTS)
    for name, weight in (weights or {}).items():
        if name not in used or weight < 0:
            raise ValueError(
                f"weight {name!r}={weight}: known are {', '.join(used)}, none negative"
            )
        used[name] = weight
    text = df.select(judged().cast(pl.String)).to_series()
    half = df.select(pl.col("reasoning", "answer", "extracted").cast(pl.String))
    prose = _prose.measure(text)
    columns = {
        **_ease(prose),
        **_paragraphs(text),
        **_markup(text, prose),
        **_summary(text, half),
        "repeated_word_fraction": _repeated(text),
    }
    out = pl.DataFrame([series.alias(name) for name, series in columns.items()])
    mixed = mixed_fractions(text, _lid.load(), same_script=same_script)
    out = out.with_columns(_composite(out, half, mixed, used).alias("readability"))
    out = out.with_columns(text.is_null().alias("_null"))
    return out.select(
        pl.when(pl.col("_null")).then(None).otherwise(pl.col(name)).alias(name) for name in WRITES
    )


def _series(values: Floats) -> pl.Series:
    return pl.Series(np.where(np.isfinite(values), values, np.nan), nan_to_null=True)


def _ease(prose: _prose.Prose) -> dict[str, pl.Series]:
    with np.errstate(divide="ignore", invalid="ignore"):
        per_sentence = prose.words / prose.sentences
        per_word = prose.syllables / prose.words
        hard = prose.polysyllables / prose.words
        long = prose.long_words / prose.words
    is_english = np.array([lang == "en" for lang in prose.lang_D], dtype=np.bool_)
    kincaid = 0.39 * per_sentence + 11.8 * per_word - 15.59
    fog = 0.4 * (per_sentence + 100 * hard)
    return {
        "flesch_reading_ease": pl.Series(_prose.flesch_reading_ease(prose), dtype=pl.Float64),
        "flesch_kincaid_grade": _series(np.where(is_english, kincaid, np.nan)),
        "gunning_fog": _series(np.where(is_english, fog, np.nan)),
        "lix": _series(per_sentence + 100 * long),
        "n_sentences": pl.Series(prose.sentences.astype(np.int64)),
        "words_per_sentence": _series(per_sentence),
        "syllables_per_word": _series(
            np.where([lang is not None for lang in prose.lang_D], per_word, np.nan)
        ),
        "first_person_singular_per_1k_words": _series(_per_1k(prose.first_singular, prose.words)),
        "first_person_plural_per_1k_words": _series(_per_1k(prose.first_plural, prose.words)),
    }


def _per_1k(count: Floats, words: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1000 * count / words


def _paragraphs(text: pl.Series) -> dict[str, pl.Series]:
    """A paragraph ends at a line break: so a reader of a trace sees it."""
    tokens = tokenize(text)
    n_texts = len(tokens.bounds_D) - 1
    newline = np.flatnonzero(tokens.data == 0x0A)
    line = np.searchsorted(newline, tokens.start_T)
    key = line + tokens.text_T
    head = np.flatnonzero(np.diff(key, prepend=-1))
    words = np.diff(np.append(head, len(key))).astype(np.float64)
    owner = tokens.text_T[head] if len(head) else np.zeros(0, dtype=np.int64)
    count = np.bincount(owner, minlength=n_texts)
    total = np.bincount(owner, weights=words, minlength=n_texts)
    short = np.bincount(
        owner, weights=words / (1 + (words / PARAGRAPH_WORDS) ** 2), minlength=n_texts
    )
    longest = np.zeros(n_texts)
    np.maximum.at(longest, owner, words)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "n_paragraphs": pl.Series(count.astype(np.int64)),
            "mean_paragraph_words": _series(total / count),
            "max_paragraph_words": pl.Series(longest.astype(np.int64)),
            "_paragraph": _series(short / total),
        }


def _markup(text: pl.Series, prose: _prose.Prose) -> dict[str, pl.Series]:
    frame = pl.DataFrame({"text": text})
    column = pl.col("text")
    has_fence = column.str.contains("```", literal=True)
    outside = pl.when(has_fence).then(column.str.replace_all(_FENCE, "\n")).otherwise(column)
    size = pl.when(column.str.len_bytes() > 0).then(column.str.len_bytes().cast(pl.Float64))
    return frame.select(
        pl.when(has_fence).then(column.str.count_matches(_FENCE)).otherwise(0).cast(pl.Int64)
        .alias("n_code_blocks"),
        ((column.str.len_bytes() - outside.str.len_bytes().clip(upper_bound=column.str.len_bytes()))
         / size).alias("code_fraction"),
        outside.str.count_matches(_HEADING).cast(pl.Int64).alias("n_headings"),
        outside.str.count_matches(_ITEM).cast(pl.Int64).alias("n_list_items"),
        (outside.str.count_matches(_MARKDOWN_LINE)
         / outside.str.count_matches(r"(?m)^.*\S.*$").clip(lower_bound=1))
        .alias("markdown_line_fraction"),
        (column.str.count_matches(_BROKEN) / pl.when(column.str.len_chars() > 0)
         .then(column.str.len_chars())).alias("broken_char_fraction"),
    ).to_dict()  # fmt: skip


def _summary(text: pl.Series, half: pl.DataFrame) -> dict[str, pl.Series]:
    frame = half.with_columns(text.alias("text"))
    answer = pl.col("answer")
    has_thinking = pl.col("reasoning").str.contains(r"\S").fill_null(False)
    has_answer = answer.str.contains(r"\S").fill_null(False)
    extracted = pl.col("extracted").str.strip_chars()
    cjk = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
    letters = r"\p{L}"
    share = [
        pl.col(name).str.count_matches(cjk) / pl.col(name).str.count_matches(letters)
        for name in ("text", "answer")
    ]
    items = answer.str.count_matches(_ITEM) / answer.str.count_matches(r"(?m)^.*\S.*$")
    return frame.select(
        (has_thinking & has_answer).alias("has_summary"),
        pl.when(has_answer & (extracted != ""))
        .then(answer.str.contains(extracted, literal=True))
        .alias("summary_restates_answer"),
        pl.when(has_answer)
        .then(answer.str.contains(r"\boxed{", literal=True))
        .alias("summary_has_boxed"),
        # Chinese against alphabets; that languages of one script agree shows the language score.
        pl.when(has_thinking & has_answer & share[0].is_finite() & share[1].is_finite())
        .then((share[0] > 0.2) == (share[1] > 0.2))
        .alias("summary_same_script"),
        pl.when(has_answer & items.is_finite()).then(items).alias("summary_list_item_fraction"),
    ).to_dict()


def _repeated(text: pl.Series) -> pl.Series:
    """The share of tokens that lie in a 12-gram which occurred before."""
    tokens = tokenize(text)
    n_texts = len(tokens.bounds_D) - 1
    share = np.full(n_texts, np.nan)
    for batch in batches(tokens):
        at = batch.tokens
        owner = tokens.text_T[at] - np.int32(batch.texts.start)
        count = np.bincount(owner, minlength=batch.texts.stop - batch.texts.start)
        covered = np.zeros(len(owner) + 1, dtype=np.int32)
        if len(owner) > REPEAT_GRAM:
            hashes = tokens.hash_T[at]
            gram = None
            for n in range(1, REPEAT_GRAM + 1):
                gram = gram_hashes(hashes, n, gram)
            assert gram is not None
            whole = np.flatnonzero(owner[: len(gram)] == owner[REPEAT_GRAM - 1 :])
            starts = tokens.first_D[batch.texts] - at.start
            grams = sort_grams(gram[whole], owner[whole], whole, starts, batch.is_small)
            covered[grams.position_G[~grams.is_new_G]] = 1
            covered[REPEAT_GRAM:] -= covered[:-REPEAT_GRAM].copy()
        inside = np.cumsum(covered[:-1]) > 0
        again = np.bincount(owner[inside], minlength=len(count))
        with np.errstate(divide="ignore", invalid="ignore"):
            share[batch.texts] = again / count
    return _series(share)


def _composite(
    out: pl.DataFrame, half: pl.DataFrame, mixed: pl.Series, weights: Mapping[str, float]
) -> pl.Series:
    def damped(name: str, factor: float) -> pl.Expr:
        return 1 / (1 + factor * pl.col(name))

    has_thinking = pl.col("reasoning").str.contains(r"\S").fill_null(False)
    parts = {
        "paragraph": pl.col("_paragraph"),
        "sentence": 1 / (1 + (pl.col("words_per_sentence") / SENTENCE_WORDS) ** 2),
        "code": damped("code_fraction", 10),
        "markdown": damped("markdown_line_fraction", 3),
        "mixing": damped("_mixed", 20),
        "repetition": damped("repeated_word_fraction", 4),
        "clean": damped("broken_char_fraction", 200),
        "summary": pl.when(has_thinking).then(
            pl.when(pl.col("has_summary")).then(1.0).otherwise(0.5)
        ),
        "ease": (pl.col("flesch_reading_ease") / 100).clip(0.05, 1.0),
    }
    frame = out.with_columns(mixed.alias("_mixed"), half["reasoning"]).select(
        expression.alias(name) for name, expression in parts.items()
    )
    logs = pl.sum_horizontal(pl.col(name).log() * weights[name] for name in parts)
    total = pl.sum_horizontal(
        pl.when(pl.col(name).is_not_null()).then(weights[name]).otherwise(0.0) for name in parts
    )
    # Without a word there is nothing to read.
    return frame.select(
        pl.when(pl.col("paragraph").is_not_null() & (total > 0)).then((logs / total).exp())
    ).to_series()
