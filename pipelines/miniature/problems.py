"""Bilingual word problems of two to four steps, as many as wanted, each with its gold answer.

A holder has some things and a few changes follow; how many are there now? The numbers of a problem
(start value and changes, without names and items) are its *skeleton*. Skeletons are dealt to four
splits by a hash: what a model meets in the crawl it was grown on, in training or while settings are
chosen never stands in an evaluation problem, whatever the seeds.

A prompt source by path: ``pipelines/miniature/problems.py`` defines ``prompts(...)``.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast, get_args

from factory.errors import UsageError
from factory.records import Prompt, PromptSource

Language = Literal["en", "zh"]
Split = Literal["crawl", "train", "dev", "eval"]
SPLITS: tuple[Split, ...] = get_args(Split)

# Hundredths of all skeletons; the crawl takes most, since a base model reads everything else.
_SHARE: dict[Split, range] = {
    "crawl": range(60),
    "train": range(60, 80),
    "dev": range(80, 88),
    "eval": range(88, 100),
}
# Values to 99 need more pretraining than minutes on one core can give.
LARGEST = 60
_SIGNS = {"+": "+", "-": "-", "*": "×", "/": "÷"}

HOLDERS: dict[Language, tuple[str, ...]] = {
    "en": ("Tom", "Anna", "Ben", "Lucy", "Sam", "Mia"),
    "zh": ("小明", "小红", "小刚", "小丽", "老王", "阿梅"),
}
ITEMS: dict[Language, tuple[str, ...]] = {
    "en": ("apples", "books", "coins", "pens", "eggs", "cards"),
    "zh": ("个苹果", "本书", "枚硬币", "支笔", "个鸡蛋", "张卡片"),
}
_CHANGES: dict[Language, dict[str, tuple[str, ...]]] = {
    "en": {
        "+": ("buys {k} more", "finds {k} more", "gets {k} more"),
        "-": ("gives away {k}", "loses {k}", "sells {k}"),
        "*": ("then has {k} times as many",),
        "/": ("keeps one of {k} equal parts",),
    },
    "zh": {
        "+": ("又买了{k}", "又找到{k}", "又得到{k}"),
        "-": ("送出{k}", "丢了{k}", "卖掉{k}"),
        "*": ("变成原来的{k}倍",),
        "/": ("分成{k}份留一份",),
    },
}


@dataclass(frozen=True, slots=True)
class Step:
    """One change: ``sign`` of ``+ - * /``, its operand, and which wording tells it."""

    sign: str
    operand: int
    wording: int

    def apply(self, value: int) -> int:
        """Return the value after the change.

        >>> Step("/", 3, 0).apply(12)
        4
        """
        if self.sign == "+":
            return value + self.operand
        if self.sign == "-":
            return value - self.operand
        return value * self.operand if self.sign == "*" else value // self.operand


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem; ``holder`` and ``item`` are indices into ``HOLDERS`` and ``ITEMS``."""

    language: Language
    holder: int
    item: int
    start: int
    steps: tuple[Step, ...]

    @property
    def values(self) -> list[int]:
        """Start value and the value after each step, length ``len(steps) + 1``."""
        out = [self.start]
        for step in self.steps:
            out.append(step.apply(out[-1]))
        return out

    @property
    def gold(self) -> str:
        """The answer, in digits."""
        return str(self.values[-1])

    @property
    def skeleton(self) -> str:
        """The numbers alone: what the split depends on."""
        return str(self.start) + "".join(f"{s.sign}{s.operand}" for s in self.steps)

    @property
    def split(self) -> Split:
        """The split that owns this skeleton."""
        return split_of(self.skeleton)

    @property
    def text(self) -> str:
        """The question, in its language.

        >>> Problem("en", 0, 0, 12, (Step("+", 5, 0), Step("*", 2, 0))).text
        'Tom has 12 apples, buys 5 more, then has 2 times as many. How many apples now?'
        """
        lang = self.language
        holder, item = HOLDERS[lang][self.holder], ITEMS[lang][self.item]
        told = [_CHANGES[lang][s.sign][s.wording].format(k=s.operand) for s in self.steps]
        if lang == "en":
            return f"{holder} has {self.start} {item}, {', '.join(told)}. How many {item} now?"
        return f"{holder}有{self.start}{item},{','.join(told)}。现在有多少{item}?"


def sign_text(sign: str) -> str:
    """Return the written operator: ``×`` for ``*``, ``÷`` for ``/``."""
    return _SIGNS[sign]


def split_of(skeleton: str) -> Split:
    """Return the split that a skeleton belongs to; the same in every seed and every run."""
    digest = hashlib.blake2b(skeleton.encode(), digest_size=4).digest()
    bucket = int.from_bytes(digest, "big") % 100
    return next(split for split in SPLITS if bucket in _SHARE[split])


def draw_step(rng: random.Random, value: int) -> Step:
    """Draw a change that keeps ``value`` whole and in 1…``LARGEST``."""
    while True:
        sign = rng.choices("+-*/", weights=(35, 35, 15, 15))[0]
        operand = rng.randint(2, 9) if sign in "+-" else rng.randint(2, 3)
        if sign == "/" and value % operand:
            continue
        step = Step(sign, operand, rng.randrange(3) if sign in "+-" else 0)
        if 1 <= step.apply(value) <= LARGEST:
            return step


def draw(rng: random.Random, *, split: Split, language: Language) -> Problem:
    """Draw one problem whose skeleton belongs to ``split``."""
    while True:
        start = value = rng.randint(3, LARGEST)
        steps = []
        for _ in range(rng.choices((2, 3, 4), weights=(40, 35, 25))[0]):
            steps.append(draw_step(rng, value))
            value = steps[-1].apply(value)
        problem = Problem(language, rng.randrange(6), rng.randrange(6), start, tuple(steps))
        if problem.split == split:
            return problem


def problems(
    *, n: int, seed: int, split: Split, language: Language | None = None
) -> Iterator[Problem]:
    """Yield ``n`` different problems; the first k of n are the same as the k of a smaller call.

    Args:
        n: number of problems.
        seed: of the draw; other seeds give other problems of the same split.
        split: ``crawl``, ``train``, ``dev`` or ``eval``.
        language: ``en`` or ``zh``; None takes turns.
    """
    rng = random.Random(f"{seed}:{split}:{language}")
    seen: set[str] = set()
    while len(seen) < n:
        chosen = language or ("zh" if len(seen) % 2 else "en")
        problem = draw(rng, split=split, language=chosen)
        if problem.text not in seen:
            seen.add(problem.text)
            yield problem


def prompts(
    *, n: int, seed: int = 0, split: str = "train", language: str | None = None
) -> Iterator[tuple[Prompt, PromptSource]]:
    r"""Yield prompts with their gold, verified as mathematics in ``\boxed{}``.

    Raises:
        UsageError: an unknown split or language, or a negative ``n``.

    >>> prompt, source = next(prompts(n=1, seed=0, split="eval"))
    >>> source.verifier, source.options, source.language
    ('math', {'mode': 'boxed'}, 'en')
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}", f"known: {', '.join(SPLITS)}")
    if language not in (None, "en", "zh"):
        raise UsageError(f"unknown language {language!r}", "known: en, zh, or none for both")
    if n < 0:
        raise UsageError(f"n={n}", "ask for a number of problems of 0 or more")
    drawn = problems(n=n, seed=seed, split=split, language=cast(Language | None, language))
    for index, problem in enumerate(drawn):
        prompt = Prompt.of(problem.text)
        yield (
            prompt,
            PromptSource(
                prompt_id=prompt.prompt_id,
                source="miniature",
                item=f"{split}-{seed}-{index}",
                split=split,
                gold=problem.gold,
                verifier="math",
                options={"mode": "boxed"},
                domain="arithmetic",
                level=str(len(problem.steps)),
                language=problem.language,
            ),
        )
