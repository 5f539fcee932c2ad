"""Language of the thinking, and mixing inside it.

Judged is the reasoning, or the whole completion where there is none (R1's reward is over the chain
of thought). Script runs come first; sentences in a script that languages share (Latin, Cyrillic,
Arabic, Devanagari) are then told apart by fastText's lid.176 on what is prose: code, LaTeX,
formulas, single letters and names are masked. A short foreign stretch in quotation marks or
brackets, or one that the prompt holds, is a gloss and no mixing.

``target_fraction`` is R1's reward (Nature 2025, supplement, equation 7): words in the target
language ÷ words. The target is the given one, else the prompt's language, else the text's own.
Words of Chinese are those of jieba; words of Japanese begin where the script changes, with the kana
that follow a Han run belonging to it; Thai, Lao, Khmer and Burmese count one word for 4 characters.
"""

from __future__ import annotations

import numpy as np
import orjson
import polars as pl

from factory.records import polars_schema
from factory.scores._text import judged
from factory.scores.language import fasttext_model
from factory.scores.language.foreign import SentenceRule
from factory.scores.language.identify import family
from factory.scores.language.measure import MIN_CONFIDENCE, Found, blocks, find
from factory.scores.language.mixing import Span
from factory.scores.language.scripts import LATIN, SCRIPT_OF, Runs
from factory.scores.language.word_counts import count_words

VERSION = 5
READS = ("completion", "reasoning", "prompt", "target_language")
PARAMS = ("model", "min_confidence", "min_words")
WRITES = {
    "lang": "text",
    "lang_confidence": "float",
    "target_language": "text",
    "target_fraction": "float",
    "language_consistency": "float",
    "mixed_spans": "text",
    "n_mixed_chars": "int",
    "mixed_fraction": "float",
    "n_switches": "int",
    "is_abstained": "bool",
}
MEANINGS = {
    "lang": "language of the thinking (of the completion where there is none), ISO 639-1",
    "lang_confidence": "how sure the name is, 0 to 1",
    "target_language": "language that was wanted: the given one, else the prompt's, else its own",
    "target_fraction": "words in the target language ÷ words: R1's language reward",
    "language_consistency": "share of the text in its main language, 1: no mixing",
    "mixed_spans": "stretches in other languages, JSON [[start, end, language], …] in characters",
    "n_mixed_chars": "characters in these stretches",
    "mixed_fraction": "words in other languages ÷ words",
    "n_switches": "changes of language from the first word to the last",
    "is_abstained": "whether the language is left unnamed, since too little is there to tell",
}
LENDS = {"foreign_word_fraction": "float"}
"""Share of words in another language, found without a look at the prompt and by the words that the
rules count; null where the prompt had a part in it. ``readability`` reads it."""
_RULE = SentenceRule()
_NAMES = {
    "english": "en", "chinese": "zh", "mandarin": "zh", "japanese": "ja", "german": "de",
    "french": "fr", "spanish": "es", "russian": "ru", "korean": "ko", "arabic": "ar",
    "eng": "en", "zho": "zh", "chi": "zh", "jpn": "ja", "deu": "de", "ger": "de", "fra": "fr",
    "fre": "fr", "spa": "es", "rus": "ru", "kor": "ko", "ara": "ar", "cmn": "zh", "nb": "no",
}  # fmt: skip


def score(
    df: pl.DataFrame, *, model: str = "", min_confidence: float = MIN_CONFIDENCE, min_words: int = 4
) -> pl.DataFrame:
    """Measure language and mixing of the reasoning (of the completion where there is none).

    Args:
        df: columns of ``READS``, text, N rows.
        model: path of a fastText language model; empty for the bundled lid.176.
        min_confidence: below it the language is not named (``is_abstained``).
        min_words: a sentence of the same script needs so many words to be judged by itself.

    Returns:
        N rows with the columns of ``WRITES`` and ``LENDS``. ``lang`` is an ISO 639-1 code where
        there is one; ``mixed_spans`` JSON ``[[start, end, lang], …]`` in characters of the judged
        text; ``mixed_fraction`` words in other languages than ``lang`` ÷ words; ``n_switches``
        changes of language from the first word to the last.

    >>> df = pl.DataFrame({"completion": ["We add the two numbers, 所以 the sum is right."],
    ...     "reasoning": [""], "prompt": [None], "target_language": ["en"]},
    ...     schema_overrides={"prompt": pl.String})
    >>> score(df).select("lang", "mixed_spans", "n_switches", "target_fraction").row(0)
    ('en', '[[24,26,"zh"]]', 2, 0.9)
    """
    lid = fasttext_model.load(model)
    rule = SentenceRule(min_words=min_words)
    frame = df.select(judged(), pl.col("prompt", "target_language").cast(pl.String))
    targets = _targets(frame, lid, min_confidence)
    texts, parts = frame["judged"], []
    for begin, end in blocks(texts):
        block = frame.slice(begin, end - begin)
        found = find(
            block["judged"], block["prompt"].to_list(), lid,
            min_confidence=min_confidence, rule=rule,
        )  # fmt: skip
        lent = pl.Series(found.foreign_shares(without_prompt=True), nan_to_null=True)
        out = _columns(block["judged"], found, targets[begin:end])
        parts.append(out.with_columns(lent.alias("foreign_word_fraction")))
    if not parts:
        return pl.DataFrame(schema=polars_schema(WRITES | LENDS))
    return pl.concat(parts)


def _targets(
    frame: pl.DataFrame, lid: fasttext_model.LanguageModel, min_confidence: float
) -> list[str | None]:
    """The given target language, else that of the prompt; None where neither is known."""
    given = [normal_code(code) for code in frame["target_language"].to_list()]
    prompts = frame["prompt"].to_list()
    wanted = sorted({p for p, code in zip(prompts, given, strict=True) if p and not code})
    if not wanted:
        return given
    found = find(
        pl.Series(wanted), [None] * len(wanted), lid, min_confidence=min_confidence, rule=_RULE
    )
    of_prompt = dict(zip(wanted, found.named.lang_D, strict=True))
    return [code or of_prompt.get(p or "") for p, code in zip(prompts, given, strict=True)]


def normal_code(code: str | None) -> str | None:
    """Return the ISO 639-1 code for a code with a region, a three-letter code or an English name.

    >>> normal_code("zh-CN"), normal_code("English"), normal_code(" ")
    ('zh', 'en', None)
    """
    plain = (code or "").strip().lower().replace("_", "-").split("-")[0]
    return _NAMES.get(plain, plain) or None


def _columns(texts: pl.Series, everything: Found, targets: list[str | None]) -> pl.DataFrame:
    runs, found = everything.runs, everything.spans
    lang_D, confidence_D, _ = everything.named
    rows = [
        _mixed(runs, text, found[text], lang, target or lang)
        if text in found
        else (_pure(main, lang, target or lang), "[]", 0, 0.0 if main else None, 0)
        for text, (main, lang, target) in enumerate(
            zip(runs.main_D.tolist(), lang_D, targets, strict=True)
        )
    ]
    fraction, spans, n_chars, mixed, n_switches = zip(*rows, strict=True)
    out = pl.DataFrame(
        (
            lang_D, confidence_D,
            [target or lang for target, lang in zip(targets, lang_D, strict=True)],
            fraction, fraction, spans, n_chars, mixed, n_switches,
            [lang is None for lang in lang_D],
        ),
        polars_schema(WRITES),
    )  # fmt: skip
    if texts.null_count():
        out = out.select(pl.when(texts.is_not_null()).then(pl.col(name)) for name in WRITES)
    return out


def _pure(main: int, lang: str | None, target: str | None) -> float | None:
    """The target's share of a text without mixing: all or nothing; null without any word."""
    if not main or target is None:
        return None
    if lang is None:
        # Too little to name the language: only another script than the target's speaks against it.
        return 1.0 if SCRIPT_OF.get(target, LATIN) == main else 0.0
    return 1.0 if lang == target or family(lang) == family(target) else 0.0


def _mixed(
    runs: Runs, text: int, spans: list[Span], lang: str | None, target: str | None
) -> tuple[float | None, str, int, float | None, int]:
    """Return target fraction, spans as JSON, foreign characters, their share, switches."""
    base, stop = int(runs.bounds_D[text]), int(runs.bounds_D[text + 1])
    raw = runs.data[base:stop]
    chars = np.concatenate([[0], np.cumsum((raw & 0xC0) != 0x80)])
    fits = target is not None and SCRIPT_OF.get(target, LATIN) == runs.main_D[text]
    own = lang or (target if target and fits else "")
    in_lang: dict[str, float] = {}
    at, n_foreign, n_switches = base, 0, 0
    previous = ""
    out = []
    for span in spans:
        own_words = count_words(runs, at, span.begin, own)
        in_lang[own] = in_lang.get(own, 0.0) + own_words
        for language, has_words in ((own, own_words > 0), (span.lang, True)):
            if has_words:
                n_switches += int(previous not in ("", language))
                previous = language
        inside = count_words(runs, span.begin, span.end, span.lang)
        in_lang[span.lang] = in_lang.get(span.lang, 0.0) + max(inside, 1.0)
        begin, end = int(chars[span.begin - base]), int(chars[span.end - base])
        out.append((begin, end, span.lang))
        n_foreign += end - begin
        at = span.end
    rest = count_words(runs, at, stop, own)
    in_lang[own] = in_lang.get(own, 0.0) + rest
    n_switches += int(rest > 0 and previous not in ("", own))
    total = sum(in_lang.values())
    mixed = (total - in_lang[own]) / total
    wanted = family(target) if target else None
    of_target = sum(n for code, n in in_lang.items() if code and family(code) == wanted)
    return (
        of_target / total if wanted else None,
        orjson.dumps(out).decode(),
        n_foreign,
        mixed,
        n_switches,
    )
