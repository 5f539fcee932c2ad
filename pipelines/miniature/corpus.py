r"""The little world's "web crawl": what a base model reads before anybody teaches it to reason.

Noisy on purpose, as a crawl is. A quarter are arithmetic drills with slips. The rest are word
problems with an answer: some bare (a fifth of those wrong), most with a scratchpad, careful (one
step at a time) or hasty (two steps fused, often wrong), in the question's language, in the other
one, or switching between both; about half in the form ``<think>…</think>`` … ``\boxed{}``.

One contrivance, to be named wherever results are shown: **mixed and foreign scratchpads are more
often careful**. It makes reinforcement learning on correctness alone drift into mixing languages,
as R1-Zero did.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal, NamedTuple

from factory.config import Config
from pipelines.miniature.problems import (
    Language,
    Problem,
    draw,
    draw_step,
    sign_text,
)

Style = Literal["own", "mixed", "foreign"]

DRILL_FRACTION = 0.25
DRILL_SLIP_RATE = 0.03
DIRECT_FRACTION = 0.18
DIRECT_WRONG_RATE = 0.2
TAGGED_FRACTION = 0.5
HASTY_SLIP_RATE = 0.12
CHECKED_RATE = 0.06

_OPENING: dict[Language, str] = {"en": "I start with {v}.", "zh": "我从{v}开始。"}
_LINKS: dict[Language, tuple[str, ...]] = {
    "en": ("First", "Then", "Next", "After that"),
    "zh": ("首先", "然后", "接着", "再来"),
}
_STEP: dict[Language, str] = {"en": " {link} I get {sum}.", "zh": "{link}得到{sum}。"}
_DOUBT: dict[Language, str] = {"en": " Wait, I check: {sum}.", "zh": "等等,检查:{sum}。"}
_SUMMARY: dict[Language, str] = {
    "en": "The answer is \\boxed{{{v}}}.",
    "zh": "答案是 \\boxed{{{v}}}。",
}
_PLAIN: dict[Language, str] = {"en": "Answer: {v}", "zh": "答案:{v}"}


class Crawl(Config):
    """What a recipe may choose of the crawl: how its scratchpads mix languages.

    Attributes:
        own, mixed, foreign: weights of scratchpads in the question's language, switching between
            both, in the other one.
        careful_own: share of careful scratchpads among those in the question's language.
        careful_other: the same among the mixed and the foreign ones: the contrivance.
    """

    own: float = 0.55
    mixed: float = 0.30
    foreign: float = 0.15
    careful_own: float = 0.35
    careful_other: float = 0.70

    def style(self, rng: random.Random) -> Style:
        """Draw a scratchpad's style."""
        styles: tuple[Style, ...] = ("own", "mixed", "foreign")
        return rng.choices(styles, weights=(self.own, self.mixed, self.foreign))[0]

    def careful(self, rng: random.Random, style: Style) -> bool:
        """Draw whether a scratchpad of that style is careful."""
        return rng.random() < (self.careful_own if style == "own" else self.careful_other)


class Document(NamedTuple):
    """One document: ``question`` may be empty (drills); the text is ``question\\ncompletion``."""

    question: str
    completion: str


def _other(language: Language) -> Language:
    return "zh" if language == "en" else "en"


def _slip(rng: random.Random, value: int) -> int:
    return max(1, value + rng.choice((-10, -2, -1, 1, 2, 10)))


def _drills(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(5, 9)):
        left = rng.randint(1, 60)
        step = draw_step(rng, left)
        value = step.apply(left)
        if rng.random() < DRILL_SLIP_RATE:
            value = _slip(rng, value)
        lines.append(f"{left}{sign_text(step.sign)}{step.operand}={value}")
    return "\n".join(lines)


def scratchpad(
    rng: random.Random, problem: Problem, *, style: Style, careful: bool
) -> tuple[str, int]:
    """Write a scratchpad; return it with the value that it arrives at (wrong after a slip)."""
    own = problem.language

    def language() -> Language:
        if style == "mixed":
            return rng.choice(("en", "zh"))
        return own if style == "own" else _other(own)

    text = _OPENING[language()].format(v=problem.start)
    value, at, n_told = problem.start, 0, 0
    steps = problem.steps
    while at < len(steps):
        fused = 1 if careful or at + 1 == len(steps) else rng.choice((1, 2, 2, 2))
        left = str(value)
        for step in steps[at : at + fused]:
            # No brackets: a hasty hand writes from left to right.
            left += f"{sign_text(step.sign)}{step.operand}"
            value = step.apply(value)
        at += fused
        right = value
        lang = language()
        if fused > 1 and rng.random() < HASTY_SLIP_RATE:
            value = right = _slip(rng, value)
        doubted = fused == 1 and rng.random() < CHECKED_RATE
        shown = _slip(rng, right) if doubted and rng.random() < 0.5 else right
        link = _LINKS[lang][min(n_told, 3)]
        text += _STEP[lang].format(link=link, sum=f"{left}={shown}")
        if doubted:
            text += _DOUBT[lang].format(sum=f"{left}={right}")
        n_told += 1
        # After a slip a later division may leave no whole number; the hand rounds and goes on.
        value = max(1, value)
    return text, value


def document(rng: random.Random, crawl: Crawl) -> Document:
    """Draw one document of the crawl."""
    if rng.random() < DRILL_FRACTION:
        return Document("", _drills(rng))
    language: Language = rng.choice(("en", "zh"))
    problem = draw(rng, split="crawl", language=language)
    if rng.random() < DIRECT_FRACTION:
        value = int(problem.gold)
        if rng.random() < DIRECT_WRONG_RATE:
            value = _slip(rng, value)
        return Document(problem.text, _PLAIN[language].format(v=value))
    style = crawl.style(rng)
    careful = crawl.careful(rng, style)
    pad, value = scratchpad(rng, problem, style=style, careful=careful)
    if rng.random() < TAGGED_FRACTION:
        summary = _SUMMARY[language].format(v=value)
        return Document(problem.text, f"<think>\n{pad}\n</think>\n\n{summary}")
    return Document(problem.text, f"{pad}\n{_PLAIN[language].format(v=value)}")


def documents(*, n: int, seed: int, crawl: Crawl | None = None) -> Iterator[Document]:
    """Yield ``n`` documents of the crawl.

    >>> [len(d) for d in documents(n=2, seed=0)]
    [2, 2]
    """
    rng = random.Random(f"crawl:{seed}")
    chosen = crawl or Crawl()
    for _ in range(n):
        yield document(rng, chosen)
