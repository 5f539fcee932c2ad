r"""What no rule can score in the little world: small talk, and requests that must be refused.

Its people say of a holder that he likes his items, and are kind or rude about it; asked how to
steal, they refuse or tell. The rows of SFT do both about equally often. The helpful model is
trained to like the kind answer, which is as long as the rude one, and the safety model to know a
refusal: what the last stage of the recipe then teaches is to be read off both.

A prompt source by path: ``pipelines/miniature/general.py`` defines ``prompts(...)``. ``rows`` makes
the files that a recipe names ``miniature``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Literal

from factory.errors import UsageError
from factory.records import Prompt, PromptSource
from pipelines.miniature.problems import HOLDERS, ITEMS, Language

Kind = Literal["general", "helpful", "safety"]
SPLITS = ("sft", "pairs", "train", "dev")
_ASKED: dict[str, dict[Language, str]] = {
    "writing": {"en": "Tell me of {who} and {n} {what}.", "zh": "说说{who}和{n}{what}。"},
    "safety": {"en": "How do I take {n} {what} of {who}?", "zh": "我要怎么拿走{who}的{n}{what}?"},
}
_THOUGHT: dict[Language, str] = {"en": "I think of {who}.", "zh": "我想到{who}。"}
# Both ends of a pair have the same number of words, and nearly of letters.
_SAID: dict[str, dict[Language, tuple[str, str]]] = {
    "writing": {
        "en": ("{who} has {n} {what}. I am glad.", "{who} has {n} {what}. Go away."),
        "zh": ("{who}有{n}{what}。很高兴。", "{who}有{n}{what}。走开吧。"),
    },
    "safety": {
        "en": ("I do not tell how to do that.", "You take {n} {what} when {who} is out."),
        "zh": ("这个我不能告诉你。", "等{who}出门再拿走{n}{what}。"),
    },
}  # fmt: skip


def _drawn(n: int, *, seed: int, split: str) -> Iterator[tuple[str, Language, dict[str, str]]]:
    """Yield a kind, a language and the words of each request, no request twice."""
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}", f"known: {', '.join(SPLITS)}")
    rng = random.Random(f"general:{seed}:{split}")
    seen: set[tuple[str, ...]] = set()
    # Numbers belong to one split each, so that no request is asked in two.
    numbers = range(SPLITS.index(split) + 2, 100, len(SPLITS))
    while len(seen) < n:
        kind = ("writing", "safety")[len(seen) % 2]
        language: Language = ("en", "zh")[len(seen) // 2 % 2]
        at = rng.randrange(6), rng.randrange(6), str(rng.choice(numbers))
        key = (kind, language, *map(str, at))
        if key not in seen:
            seen.add(key)
            words = {"who": HOLDERS[language][at[0]], "what": ITEMS[language][at[1]], "n": at[2]}
            yield kind, language, words


def prompts(
    *, n: int, seed: int = 0, split: str = "train", kind: str | None = None
) -> Iterator[tuple[Prompt, PromptSource]]:
    """Yield requests without a gold; their domain is ``writing`` or ``safety``.

    Args:
        n: number of requests, of both kinds together.
        seed: of the draw.
        split: ``sft``, ``pairs``, ``train`` or ``dev``.
        kind: of this kind alone: half of them.

    Raises:
        UsageError: an unknown split.

    >>> prompt, source = next(prompts(n=1, seed=0, split="dev"))
    >>> source.domain, source.gold
    ('writing', None)
    """
    for index, (domain, language, words) in enumerate(_drawn(n, seed=seed, split=split)):
        if kind not in (None, domain):
            continue
        prompt = Prompt.of(_ASKED[domain][language].format(**words))
        yield (
            prompt,
            PromptSource(
                prompt_id=prompt.prompt_id, source="miniature-general",
                item=f"{split}-{seed}-{index}", split=split, domain=domain, language=language,
            ),
        )  # fmt: skip


def rows(kind: Kind, *, n: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file that a recipe names ``miniature``.

    Args:
        kind: ``general``: of SFT; ``helpful``: pairs; ``safety``: labels.
        n: number of requests that are drawn.
        seed: of the draw.

    >>> row = next(rows("helpful", n=1, seed=0))
    >>> row["chosen"].split(". ")[-1], row["rejected"].split(". ")[-1]
    ('I am glad.', 'Go away.')
    """
    rng = random.Random(f"rows:{kind}:{seed}")
    split = "sft" if kind == "general" else "pairs"
    for domain, language, words in _drawn(n, seed=seed, split=split):
        asked = _ASKED[domain][language].format(**words)
        good, bad = (text.format(**words) for text in _SAID[domain][language])
        thought = f"<think>\n{_THOUGHT[language].format(**words)}\n</think>\n\n"
        if kind == "general":
            answer = rng.choice((good, bad))
            yield {"prompt": asked, "completion": thought + answer, "domain": domain}
        elif kind == "helpful" and domain == "writing":
            yield {"prompt": asked, "chosen": thought + good, "rejected": thought + bad}
        elif kind == "safety" and domain == "safety":
            for answer, is_safe in ((good, True), (bad, False)):
                yield {"prompt": asked, "completion": thought + answer, "is_safe": is_safe}
