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

from factory.scores._byte_arrays import Ints, eights, utf8
from factory.scores._text import char_kinds, judged
from factory.scores.language import fasttext_model
from factory.scores.language.measure import foreign_word_fraction
from factory.scores.readability import prose as prose_module

VERSION = 3
READS = ("completion", "reasoning", "answer", "extracted", "foreign_word_fraction")
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
MEANINGS = {
    "readability": "weighted geometric mean of paragraphs, sentences, code, markdown, mixing, "
    "repetition, broken characters and summary, 0 to 1",
    "flesch_reading_ease": "Flesch's index, about 0 (hard) to 100 (easy); six languages",
    "flesch_kincaid_grade": "US school grade; English",
    "gunning_fog": "US school years; English",
    "lix": "words per sentence + percentage of words of over six letters",
    "n_sentences": "sentences",
    "words_per_sentence": "mean words of a sentence",
    "syllables_per_word": "mean syllables of a word",
    "n_paragraphs": "paragraphs",
    "mean_paragraph_words": "mean words of a paragraph",
    "max_paragraph_words": "words of the longest paragraph",
    "n_code_blocks": "fenced code blocks",
    "code_fraction": "share of characters in code blocks",
    "n_headings": "markdown headings",
    "n_list_items": "items of markdown lists",
    "markdown_line_fraction": "share of lines with markdown",
    "first_person_singular_per_1k_words": "I, me, my … per 1,000 words",
    "first_person_plural_per_1k_words": "we, us, our … per 1,000 words",
    "repeated_word_fraction": "share of words in 12-grams said before",
    "broken_char_fraction": "share of characters that damage has left (U+FFFD, controls …)",
    "has_summary": "whether text follows the thinking; NULL without thinking",
    "summary_restates_answer": "whether the summary holds the extracted answer; NULL without one",
    "summary_has_boxed": "whether the summary has a box",
    "summary_same_script": "whether summary and thinking are in the same script",
    "summary_list_item_fraction": "share of the summary's lines that are list items",
}
Floats = npt.NDArray[np.float64]
PARAGRAPH_WORDS, SENTENCE_WORDS = 150.0, 40.0


def score(
    df: pl.DataFrame, *, weights: Mapping[str, float] | None = None, same_script: bool = True
) -> pl.DataFrame:
    """Measure how well a trace reads; null where the judged text is null, shares where it is blank.

    Args:
        df: columns of ``READS``, N rows; ``foreign_word_fraction``, which the language score
            lends, may be missing or null and is then measured here.
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
    data, bounds = utf8(text)
    markup = _markup(data, bounds, without_code=True)
    columns = {
        **_ease(prose_module.measure_bytes(data, bounds)),
        **_paragraphs(data, bounds),
        **_style(markup, bounds),
        **_summary(markup, half),
    }
    out = pl.DataFrame([series.alias(name) for name, series in columns.items()])
    known = df["foreign_word_fraction"] if "foreign_word_fraction" in df.columns else None
    mixed = foreign_word_fraction(text, fasttext_model.load(), same_script=same_script, known=known)
    out = out.with_columns(_composite(out, half, mixed, used).alias("readability"))
    out = out.with_columns(text.is_null().alias("_null"))
    return out.select(
        pl.when(pl.col("_null")).then(None).otherwise(pl.col(name)).alias(name) for name in WRITES
    )


def _series(values: Floats) -> pl.Series:
    return pl.Series(np.where(np.isfinite(values), values, np.nan), nan_to_null=True)


def _ease(prose: prose_module.Prose) -> dict[str, pl.Series]:
    with np.errstate(divide="ignore", invalid="ignore"):
        per_sentence = prose.words / prose.sentences
        per_word = prose.syllables / prose.words
        hard = prose.polysyllables / prose.words
        long = prose.long_words / prose.words
    is_english = np.array([lang == "en" for lang in prose.lang_D], dtype=np.bool_)
    kincaid = 0.39 * per_sentence + 11.8 * per_word - 15.59
    fog = 0.4 * (per_sentence + 100 * hard)
    return {
        "flesch_reading_ease": pl.Series(prose_module.flesch_reading_ease(prose), dtype=pl.Float64),
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


def _paragraphs(data: npt.NDArray[np.uint8], bounds: Ints) -> dict[str, pl.Series]:
    from factory.scores._repetition_kernels import measure_paragraphs

    counts = np.zeros((len(bounds) - 1, 5))
    measure_paragraphs(data, eights(data), bounds, PARAGRAPH_WORDS, counts)
    words, n_paragraphs, longest, short, again = counts.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "n_paragraphs": pl.Series(n_paragraphs.astype(np.int64)),
            "mean_paragraph_words": _series(words / n_paragraphs),
            "max_paragraph_words": pl.Series(longest.astype(np.int64)),
            "repeated_word_fraction": _series(again / words),
            "_paragraph": _series(short / words),
        }


def _markup(data: npt.NDArray[np.uint8], bounds: Ints, *, without_code: bool) -> dict[str, Floats]:
    """Count lines and characters by kind, by the names of ``line_kernels``, shape (D,) each."""
    from factory.scores.readability import line_kernels as kernels

    counts = np.zeros((len(bounds) - 1, kernels.N_COUNTS), dtype=np.int64)
    kernels.measure_markup(data, bounds, char_kinds(), without_code, counts)
    names = (name for name in dir(kernels) if name.startswith("N_") or name == "CODE_BYTES")
    return {
        name: counts[:, getattr(kernels, name)].astype(np.float64)
        for name in names
        if name != "N_COUNTS"
    }


def _style(markup: Mapping[str, Floats], bounds: Ints) -> dict[str, pl.Series]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "n_code_blocks": pl.Series(markup["N_BLOCKS"].astype(np.int64)),
            "code_fraction": _series(markup["CODE_BYTES"] / np.diff(bounds)),
            "n_headings": pl.Series(markup["N_HEADINGS"].astype(np.int64)),
            "n_list_items": pl.Series(markup["N_ITEMS"].astype(np.int64)),
            "markdown_line_fraction": _series(
                markup["N_MARKDOWN"] / np.maximum(markup["N_LINES"], 1)
            ),
            "broken_char_fraction": _series(markup["N_BROKEN"] / markup["N_CHARS"]),
        }


def _summary(markup: Mapping[str, Floats], half: pl.DataFrame) -> dict[str, pl.Series]:
    of_answer = _markup(*utf8(half.get_column("answer")), without_code=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = [counts["N_EASTERN"] / counts["N_LETTERS"] for counts in (markup, of_answer)]
        items = of_answer["N_ITEMS"] / of_answer["N_LINES"]
    # Chinese against alphabets; that languages of one script agree shows the language score.
    same = np.where(np.isfinite(shares[0] + shares[1]), (shares[0] > 0.2) == (shares[1] > 0.2), -1)
    frame = half.with_columns(
        pl.Series("same", same.astype(np.int64)), _series(items).alias("items")
    )
    answer = pl.col("answer")
    has_thinking = pl.col("reasoning").str.contains(r"\S").fill_null(False)
    has_answer = answer.str.contains(r"\S").fill_null(False)
    extracted = pl.col("extracted").str.strip_chars()
    return frame.select(
        (has_thinking & has_answer).alias("has_summary"),
        pl.when(has_answer & (extracted != ""))
        .then(answer.str.contains(extracted, literal=True))
        .alias("summary_restates_answer"),
        pl.when(has_answer)
        .then(answer.str.contains(r"\boxed{", literal=True))
        .alias("summary_has_boxed"),
        pl.when(has_thinking & has_answer & (pl.col("same") >= 0))
        .then(pl.col("same") == 1)
        .alias("summary_same_script"),
        pl.when(has_answer).then(pl.col("items")).alias("summary_list_item_fraction"),
    ).to_dict()


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
