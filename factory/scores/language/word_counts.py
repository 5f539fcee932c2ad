"""Number of words in a stretch: jieba for Chinese, a rule of scripts for Japanese."""

from __future__ import annotations

import functools
import logging
import re
from typing import Any

import numpy as np

from factory.scores.language.scripts import CJK, Runs

_CJK_RUN = re.compile("[㐀-鿿豈-﫿𠀀-𲎯々〇]+")
# Han with the hiragana that inflects it, or katakana, or hiragana between them: one word each.
_JAPANESE_WORD = re.compile("[㐀-鿿豈-﫿々〇]+[ぁ-ゖ]{0,2}|[ァ-ヺー]+|[ぁ-ゖ]{1,4}")


@functools.cache
def _jieba() -> Any:
    import warnings

    with warnings.catch_warnings():
        # jieba 0.42 imports pkg_resources and has invalid escapes; neither is ours to mend.
        warnings.simplefilter("ignore")
        import jieba
    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    tokenizer.cache_file = None
    return tokenizer


def n_chinese_words(text: str) -> int:
    """Count the words of Chinese text with jieba.

    >>> n_chinese_words("我们先计算总价，然后除以三。")
    7
    """
    return sum(len(_jieba().lcut(run, HMM=False)) for run in _CJK_RUN.findall(text))


def n_japanese_words(text: str) -> int:
    """Count the words of Japanese text: one begins at each change of script.

    >>> n_japanese_words("りんごを三個買いました")
    3
    """
    return len(_JAPANESE_WORD.findall(text))


def count_words(runs: Runs, begin: int, end: int, lang: str) -> float:
    """Count words of prose between two byte offsets of a batch; ``lang`` chooses the segmenter."""
    first, last = np.searchsorted(runs.edge_R, (begin, end))
    last = min(int(last), len(runs.class_R))
    counts = runs.count_R[first:last]
    if lang in ("zh", "ja"):
        is_cjk = runs.class_R[first:last] == CJK
        others = float(counts[~is_cjk].sum())
        text = runs.data[begin:end].tobytes().decode(errors="ignore")
        return others + (n_chinese_words(text) if lang == "zh" else n_japanese_words(text))
    return float(counts.sum())
