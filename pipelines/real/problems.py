r"""Story sums of one or two steps, in English, as many as wanted, each with its gold answer.

A person has some things, and one or two changes follow; the answer is a whole number. What makes a
problem hard for a small model is the number of steps and the size of the numbers, so that both are
options and the pass rate of a base can be brought to where training has something to choose from.

The numbers of a problem are dealt to ``train``, ``dev`` and ``eval`` by a hash: an evaluation
problem never has the numbers of one that a model was trained on, whatever the seeds.

A prompt source by path: ``pipelines/real/problems.py`` defines ``prompts(...)``.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from factory.errors import UsageError
from factory.records import Prompt, PromptSource

SPLITS = {"train": range(60), "dev": range(60, 80), "eval": range(80, 100)}
"""Split → hundredths of all number combinations."""
_PEOPLE = ("Tom", "Anna", "Ben", "Lucy", "Sam", "Mia", "Omar", "Nina", "Leo", "Ruth")
_THINGS = (
    "apples", "books", "coins", "pens", "eggs", "cards", "stamps", "shells", "marbles", "cups",
)  # fmt: skip
_CHANGES = {
    "+": ("buys {k} more", "finds {k} more", "gets {k} more from a friend", "is given {k} more"),
    "-": ("gives away {k} of them", "loses {k} of them", "sells {k} of them", "breaks {k} of them"),
    "*": ("ends up with {k} times as many", "then has {k} times as many"),
    "/": (
        "shares them equally among {k} bags and keeps one bag",
        "splits them into {k} equal piles and keeps one pile",
    ),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A story sum.

    Attributes:
        person: who has the things.
        thing: what they are, in the plural.
        start: how many at first.
        changes: (sign of ``+ - * /``, operand, which wording) in turn.
    """

    person: str
    thing: str
    start: int
    changes: tuple[tuple[str, int, int], ...]

    @property
    def gold(self) -> int:
        """The answer.

        >>> Problem("Tom", "pens", 12, (("+", 3, 0), ("/", 5, 0))).gold
        3
        """
        value = self.start
        for sign, operand, _ in self.changes:
            value = _after(value, sign, operand)
        return value

    @property
    def split(self) -> str:
        """The split that owns these numbers."""
        numbers = str(self.start) + "".join(f"{sign}{k}" for sign, k, _ in self.changes)
        digest = hashlib.blake2b(numbers.encode(), digest_size=4).digest()
        bucket = int.from_bytes(digest, "big") % 100
        return next(name for name, owned in SPLITS.items() if bucket in owned)

    @property
    def text(self) -> str:
        """The story and its question.

        >>> Problem("Tom", "pens", 12, (("+", 3, 0), ("-", 5, 1))).text
        'Tom has 12 pens. Tom buys 3 more, then loses 5 of them. How many pens does Tom have now?'
        """
        told = ", then ".join(
            _CHANGES[sign][wording].format(k=k).removeprefix("then ")
            for sign, k, wording in self.changes
        )
        return (
            f"{self.person} has {self.start} {self.thing}. {self.person} {told}. "
            f"How many {self.thing} does {self.person} have now?"
        )


EXAMPLES = (
    (Problem("Rosa", "keys", 6, (("+", 3, 1),)), r"She finds 3 more: 6 + 3 = 9. \boxed{9}"),
    (
        Problem("Paul", "hats", 9, (("+", 4, 1), ("-", 6, 1))),
        r"He finds 4 more: 9 + 4 = 13. He loses 6 of them: 13 - 6 = 7. \boxed{7}",
    ),
)
"""Problems with their worked answers, which can stand before a question."""


def _after(value: int, sign: str, operand: int) -> int:
    if sign == "+":
        return value + operand
    if sign == "-":
        return value - operand
    return value * operand if sign == "*" else value // operand


def _change(rng: random.Random, value: int, *, largest: int, signs: str) -> tuple[str, int, int]:
    """Draw a change that keeps the value whole and in 1 … ``largest``."""
    while True:
        sign = rng.choice(signs)
        operand = rng.randint(2, max(2, largest // 2)) if sign in "+-" else rng.randint(2, 5)
        fits = sign != "/" or value % operand == 0
        if fits and 1 <= _after(value, sign, operand) <= largest:
            return sign, operand, rng.randrange(len(_CHANGES[sign]))


def problems(
    *, n: int, seed: int, split: str, steps: Sequence[int] = (1, 2), largest: int = 50,
    signs: str = "+-*/",
) -> Iterator[Problem]:  # fmt: skip
    """Yield ``n`` problems of different text; the first k of n are those of a smaller call."""
    rng = random.Random(f"{seed}:{split}:{signs}:{largest}:{tuple(steps)}")
    seen: set[str] = set()
    while len(seen) < n:
        start, changes = rng.randint(3, largest), []
        value = start
        for _ in range(steps[len(seen) % len(steps)]):
            changes.append(_change(rng, value, largest=largest, signs=signs))
            value = _after(value, *changes[-1][:2])
        drawn = Problem(rng.choice(_PEOPLE), rng.choice(_THINGS), start, tuple(changes))
        if drawn.split == split and drawn.text not in seen:
            seen.add(drawn.text)
            yield drawn


def prompts(
    *, n: int, seed: int = 0, split: str = "train", steps: Sequence[int] = (1, 2),
    largest: int = 50, signs: str = "+-*/", examples: int = 0, mode: str = "boxed",
) -> Iterator[tuple[Prompt, PromptSource]]:  # fmt: skip
    r"""Yield prompts with their gold.

    Args:
        n: number of problems.
        seed: of the draw; other seeds give other problems of the same split.
        split: ``train``, ``dev`` or ``eval``.
        steps: changes per problem, taken in turn.
        largest: no number of a story, and no number on the way, is greater.
        signs: kinds of changes.
        examples: worked problems before the question, as earlier turns, of 0 to 2: a small model
            learns from them where the answer must stand.
        mode: of the verifier ``math``: where the answer must stand.

    Raises:
        UsageError: an unknown split, or options that leave nothing to draw.

    >>> prompt, source = next(prompts(n=1, seed=0, split="eval"))
    >>> source.verifier, source.options, source.level
    ('math', {'mode': 'boxed'}, '1')
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}", f"known: {', '.join(SPLITS)}")
    if n < 0 or largest < 10 or not steps or min(steps) < 1 or not set(signs) & set("+-"):
        raise UsageError(
            f"n={n}, steps={list(steps)}, largest={largest}, signs={signs!r}",
            "n from 0, steps from 1, largest from 10, and + or - among the signs",
        )
    if not 0 <= examples <= len(EXAMPLES):
        raise UsageError(f"examples={examples}", f"there are 0 to {len(EXAMPLES)}")
    if set(signs) - set(_CHANGES):
        raise UsageError(f"unknown signs in {signs!r}", "known: + - * /")
    shown = [turn for example in EXAMPLES[:examples] for turn in _turns(*example)]
    drawn = problems(n=n, seed=seed, split=split, steps=steps, largest=largest, signs=signs)
    for index, problem in enumerate(drawn):
        prompt = Prompt(messages=(*shown, {"role": "user", "content": problem.text}))
        yield (
            prompt,
            PromptSource(
                prompt_id=prompt.prompt_id,
                source="story-sums",
                item=f"{split}-{seed}-{index}",
                split=split,
                gold=str(problem.gold),
                verifier="math",
                options={"mode": mode},
                domain="arithmetic",
                level=str(len(problem.changes)),
                language="en",
            ),
        )


def _turns(problem: Problem, worked: str) -> list[dict[str, str]]:
    begin = f"{problem.person} starts with {problem.start} {problem.thing}. "
    return [
        {"role": "user", "content": problem.text},
        {"role": "assistant", "content": begin + worked},
    ]
