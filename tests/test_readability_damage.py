"""``readability`` falls with every step of a damage planted into real thinking."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from factory.scores import readability

DATA = Path(__file__).parents[2] / "shared" / "data"
N_TRACES = 60
CODE = "\n```python\nprice = 9 * 4\nprint(price)\n```\n"
CHINESE = "所以我们再检查一遍答案，看看这个结果对不对，然后继续往下算。"
GERMAN = (
    "Also rechnen wir die Summe noch einmal ganz genau nach, denn sonst stimmt das Ergebnis nicht."
)


@functools.cache
def thinking() -> tuple[str, ...]:
    found = []
    for name in ("misguided", "r1_math500", "farel", "misc"):
        path = DATA / f"traces_{name}.jsonl.gz"
        if not path.exists():
            pytest.skip(f"{path.name} is not in ../shared/data")
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            rows = [json.loads(line) for line in handle]
        found += [r["reasoning"] for r in rows
                  if len(r.get("reasoning") or "") > 1500
                  and r.get("lang_reasoning") in ("en", None)]  # fmt: skip
    return tuple(random.Random(11).sample(found, N_TRACES))


def scored(texts: list[str]) -> pl.DataFrame:
    n = len(texts)
    return readability.score(
        pl.DataFrame(
            {"completion": texts, "reasoning": texts, "answer": ["So it is 36."] * n,
             "extracted": ["36"] * n}
        )
    )  # fmt: skip


def spread(text: str, piece: str, n: int) -> str:
    """Put ``n`` pieces evenly between the paragraphs, or the sentences where there is but one."""
    has_paragraphs = "\n\n" in text
    parts = text.split("\n\n") if has_paragraphs else re.split(r"(?<=[.!?])\s+", text)
    places = [round((i + 1) * len(parts) / (n + 1)) for i in range(n)]
    out = []
    for i, part in enumerate(parts, 1):
        out += [part, *[piece] * places.count(i)]
    return ("\n\n" if has_paragraphs else " ").join(out)


def merged(text: str, k: int) -> str:
    parts = text.split("\n\n")
    return "\n\n".join(" ".join(parts[i : i + k]) for i in range(0, len(parts), k))


def broken(text: str, n: int) -> str:
    return "".join("\ufffd" if i % 97 < n and c.isalpha() else c for i, c in enumerate(text))


DAMAGE: dict[str, Callable[[str], list[str]]] = {
    "longer paragraphs": lambda t: [merged(t, k) for k in (1, 2, 4, 8, 16)],
    "code in the thinking": lambda t: [spread(t, CODE, n) for n in (0, 1, 2, 4, 8)],
    "another script": lambda t: [spread(t, CHINESE, n) for n in (0, 1, 2, 4, 8)],
    "another language": lambda t: [spread(t, GERMAN, n) for n in (0, 1, 2, 4, 8)],
    "a loop": lambda t: [t + t[-300:] * n for n in (0, 2, 4, 8, 16)],
    "broken characters": lambda t: [broken(t, n) for n in (0, 1, 2, 4, 8)],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_step_of_a_damage_lowers_the_readability_of_real_thinking(kind: str) -> None:
    texts = list(thinking())
    # What says most of its words twice already can hardly be damaged by a loop.
    if kind == "a loop":
        repeated = scored(texts)["repeated_word_fraction"]
        texts = [t for t, r in zip(texts, repeated, strict=True) if r < 0.5]
    assert len(texts) >= 0.9 * N_TRACES
    steps = [DAMAGE[kind](text) for text in texts]
    values = scored([text for own in steps for text in own])["readability"].to_list()
    n = len(steps[0])
    exceptions = []
    for i, own in enumerate(steps):
        mine = values[i * n : (i + 1) * n]
        for (a, b), (before, after) in zip(
            itertools.pairwise(own), itertools.pairwise(mine), strict=True
        ):
            if a != b and not after < before:  # paragraphs can be joined only so often
                exceptions.append((i, mine))
    assert exceptions == []
    means = [sum(values[step::n]) / len(steps) for step in range(n)]
    assert means[0] - means[-1] > 0.05, "and clearly so"
