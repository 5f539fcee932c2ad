r"""Spans: short answers against one or more keys, by exact words and by the F1 of words (DROP).

The reward is DROP's F1 in [0, 1], the status its exact match: a mean reward is the benchmark's
number, a pass rate the stricter one. Words are compared in lower case without articles and
punctuation, numbers as numbers; a key of several spans is matched span by span, one to one, and a
key that holds a number gives nothing where no number agrees (Dua et al. 2019, ``drop_eval.py``).
"""

from __future__ import annotations

import functools
import json
import re
import string
from collections.abc import Sequence
from typing import Any

from factory.records import Item, Verdict
from factory.verifiers import answers

VERSION = 1
OPTIONS = ()
_MAX_CHARS = 400
_MAX_SPANS = 12
# Nothing before the word crosses a line: with \W* an answer of empty lines took quadratic time.
_LINE = re.compile(
    r"^[^\w\n]*(?:final\s+)?answer\W*[:：]\s*(?P<answer>\S.*)$", re.IGNORECASE | re.M
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BETWEEN = re.compile(r"\s*(?:[,;|]|\band\b|\n)\s*")


def verify(item: Item) -> Verdict:
    """Judge the answer on the last line ``Answer: …``, in the last box, or all of a short one.

    Args:
        item: its gold is text, or a list of keys, each a list of spans (also as JSON text).

    Returns:
        ``pass`` where the words are the key's, else ``fail`` with ``wrong`` and F1 as the reward,
        ``no_answer`` or ``answer_too_long``; ``unscored`` with ``bad_gold``.

    >>> verify(Item(text="So.\\nAnswer: The Denver Broncos", gold='[["Broncos"]]')).reward
    0.67
    >>> verify(Item(text="Answer: 12.0", gold="12")).status
    'pass'
    """
    keys = _keys(item.gold)
    if not keys:
        return Verdict.unscored("bad_gold", decided_by="gold")
    answer = _answered(item.answer)
    if answer is None:
        return Verdict.failed("no_answer", decided_by="extract")
    if len(answer) > _MAX_CHARS:
        return Verdict.failed("answer_too_long", decided_by="extract", extracted=answer[:200])
    best = max((_compared(answer, key) for key in keys), default=(False, 0.0))
    if best[0]:
        return Verdict.passed(decided_by="words", extracted=answer)
    return Verdict.failed("wrong", decided_by="words", extracted=answer, reward=best[1])


quick = verify


def as_completion(gold: Any) -> str:
    """Write the first key as a completion.

    >>> as_completion('[["3"], ["three"]]')
    'Answer: 3'
    """
    keys = _keys(gold)
    return f"Answer: {', '.join(keys[0])}" if keys else ""


def _keys(gold: Any) -> list[list[str]]:
    if isinstance(gold, str) and gold.lstrip()[:1] == "[":
        try:
            gold = json.loads(gold)
        except (ValueError, RecursionError):
            return []
    if isinstance(gold, str | int | float) and str(gold).strip():
        return [[str(gold)]]
    if not isinstance(gold, list) or not gold:
        return []
    keys = [key if isinstance(key, list) else [key] for key in gold]
    flat = [part for key in keys for part in key]
    if not all(isinstance(part, str | int | float) for part in flat):
        return []
    return [[str(part) for part in key][:_MAX_SPANS] for key in keys if key]


def _answered(text: str) -> str | None:
    found = [m["answer"] for m in _LINE.finditer(text)]
    if found:
        return found[-1].strip().rstrip("*").strip() or None
    boxed = answers.from_boxes(text)
    if boxed is not None and boxed.parts:
        return ", ".join(boxed.parts)
    whole = text.strip()
    return whole if whole and len(whole) <= _MAX_CHARS and "\n" not in whole else None


def _compared(answer: str, key: Sequence[str]) -> tuple[bool, float]:
    """Return whether the words are the same, and F1, of the better reading: one span or several."""
    readings = [[answer]]
    if len(key) > 1:
        parts = [p for p in _BETWEEN.split(answer) if p]
        readings.append(parts[:_MAX_SPANS])
    return max(_one_to_one(r, key) for r in readings)


def _one_to_one(given: Sequence[str], key: Sequence[str]) -> tuple[bool, float]:
    mine, theirs = [_normal(g) for g in given], [_normal(k) for k in key]
    is_same = sorted(mine) == sorted(theirs)
    table = [[_f1(set(m.split()), set(t.split())) for m in mine] for t in theirs]
    total = _best(table) / max(len(mine), len(theirs))
    return is_same, round(total, 2)


def _best(table: Sequence[Sequence[float]]) -> float:
    """Return the largest sum of a one-to-one matching, by dynamic programming over columns."""

    @functools.cache
    def best(row: int, used: int) -> float:
        if row == len(table):
            return 0.0
        free = [c for c in range(len(table[row])) if not used >> c & 1]
        taken = [table[row][c] + best(row + 1, used | 1 << c) for c in free if table[row][c] > 0]
        return max([best(row + 1, used), *taken])

    return best(0, 0)


def _f1(given: set[str], key: set[str]) -> float:
    numbers = {w for w in key if _is_number(w)}
    if numbers and not numbers & given:
        return 0.0
    shared = len(given & key)
    precision = shared / len(given) if given else 1.0
    recall = shared / len(key) if key else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _normal(text: str) -> str:
    words = (_word(token) for token in re.split(r"[ \-]", text.lower()))
    return " ".join(w for w in words if w)


def _word(token: str) -> str:
    bare = token if _is_number(token) else token.translate(_PUNCTUATION)
    bare = str(float(bare)) if _is_number(bare) else bare
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
