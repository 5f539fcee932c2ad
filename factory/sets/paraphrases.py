"""Benchmark items said in other words or in another language: proposed by neighbours, then judged.

No run of words is shared then, so that n-grams find nothing. An embedding model of the user's
choice proposes, for each text, the items that lie next to it; a rule or a judge decides. Neither
is certain, which is why this stage is off unless a recipe asks for it.

The rule: a task is its numbers. A text that lies near an item and has the item's numbers, each as
often, says the same; one with other numbers is another task, however near. Items with fewer than
two numbers cannot be told apart like that: such a text must lie nearer (``sure``).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from factory import plugins
from factory.errors import PluginError

Vectors = npt.NDArray[np.float32]
Judge = Callable[[str, str], bool | None]
"""(text, item) → whether both are the same task; None where it cannot tell."""
_AT_ONCE = 1024
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NUMBER_WORDS = (
    "zero null cero zéro", "", "two zwei dos deux 二 两 兩", "three drei tres trois 三",
    "four vier cuatro quatre 四", "five fünf cinco cinq 五", "six sechs seis 六",
    "seven sieben siete sept 七", "eight acht ocho huit 八", "nine neun nueve neuf 九",
    "ten zehn diez dix 十", "eleven elf once onze", "twelve zwölf doce douze",
)  # fmt: skip
"""By value; one is left out, which many languages write as an article."""
_WORDS = {word: str(n) for n, words in enumerate(_NUMBER_WORDS) for word in words.split()}


@dataclass(frozen=True, slots=True)
class Proposal:
    """An item that lies next to a text.

    Attributes:
        row: number of the text.
        item: number of the item.
        similarity: cosine of their embeddings.
    """

    row: int
    item: int
    similarity: float


def neighbours(
    texts: Vectors, items: Vectors, *, n: int = 3, similarity: float = 0.8
) -> list[Proposal]:
    """Return, for each text, the items nearest to it.

    Args:
        texts: unit vectors, shape (T, dim).
        items: unit vectors, shape (I, dim).
        n: items of a text at most.
        similarity: cosine below which an item is not proposed.

    >>> near = np.array([[1.0, 0.0]], dtype=np.float32)
    >>> [p.item for p in neighbours(near, np.array([[0, 1], [1, 0]], dtype=np.float32))]
    [1]
    """
    found = []
    for begin in range(0, len(texts), _AT_ONCE):
        cosines = texts[begin : begin + _AT_ONCE] @ items.T
        best = np.argsort(-cosines, axis=1)[:, :n]
        for row, places in enumerate(best):
            found += [
                Proposal(begin + row, int(item), float(cosines[row, item]))
                for item in places
                if cosines[row, item] >= similarity
            ]
    return found


def numbers_of(text: str) -> Counter[str]:
    """Return the numbers of a text, each with how often it stands there.

    Digits of any script, and words up to twelve in English, German, Spanish, French and Chinese.

    >>> sorted(numbers_of("Seven hens lay 1,200 eggs, sieben, 七").items())
    [('1200', 1), ('7', 3)]
    """
    text = unicodedata.normalize("NFKC", text).lower()
    found = [number.replace(",", "").rstrip(".") for number in _NUMBER.findall(text)]
    words = re.findall(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+", text)
    found += [_WORDS[word] for word in words if word in _WORDS]
    return Counter(str(float(n)) if "." in n else str(int(n)) for n in found if n.count(".") < 2)


def by_rule(text: str, item: str, similarity: float, *, sure: float = 0.97) -> bool:
    """Tell whether a text says the same as an item that lies next to it.

    >>> by_rule("Neun Gänse, 7 Hennen", "nine geese and 7 hens", 0.85)
    True
    >>> by_rule("Neun Gänse, 8 Hennen", "nine geese and 7 hens", 0.99)
    False
    """
    ours, theirs = numbers_of(text), numbers_of(item)
    if min(ours.total(), theirs.total()) >= 2:
        return ours == theirs
    return similarity >= sure and ours == theirs


def judge_of(path: str) -> Judge:
    """Return ``same_task`` of a file.

    Raises:
        PluginError: there is no such file, or it defines none.
    """
    judge = getattr(plugins.load_file(Path(path)), "same_task", None)
    if not callable(judge):
        raise PluginError(f"{path} defines no judge", "it needs same_task(text, item) -> bool")
    return judge  # type: ignore[no-any-return]


def paraphrases(
    texts: Sequence[str],
    benchmarks: Mapping[str, Sequence[str]],
    embed: Callable[[Sequence[str]], Vectors],
    *,
    n: int = 3,
    similarity: float = 0.8,
    sure: float = 0.97,
    judge: Judge | None = None,
) -> pl.DataFrame:
    """Return the texts that say the same as a benchmark's item.

    Args:
        texts: to look at.
        benchmarks: name → its items.
        embed: texts → unit vectors.
        n: items proposed for a text at most.
        similarity: cosine below which none is.
        sure: cosine that the rule asks for where numbers say nothing.
        judge: decides in the rule's place; where it cannot tell (None), the rule does.

    Returns:
        row, benchmark, item (its text) and similarity; one line per text, its nearest item.
    """
    items = [(name, item) for name, held in benchmarks.items() for item in held]
    schema = {"row": pl.Int64, "benchmark": pl.String, "item": pl.String, "similarity": pl.Float64}
    lines: dict[int, tuple[int, str, str, float]] = {}
    if texts and items:
        vectors = embed([item for _, item in items])
        for one in neighbours(embed(texts), vectors, n=n, similarity=similarity):
            name, item = items[one.item]
            said = None if judge is None else judge(texts[one.row], item)
            if said is None:
                said = by_rule(texts[one.row], item, one.similarity, sure=sure)
            if said and one.row not in lines:
                lines[one.row] = (one.row, name, item, one.similarity)
    return pl.DataFrame(list(lines.values()), schema=schema, orient="row")
