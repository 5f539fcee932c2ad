"""Texts for the benchmarks: built from the shared data, with planted near-duplicates."""

from __future__ import annotations

import gzip
import json
import random
import re
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def rows(name: str, data: Path = DATA) -> Iterator[dict[str, Any]]:
    with gzip.open(data / f"{name}.jsonl.gz", "rt") as handle:
        for line in handle:
            yield json.loads(line)


def cpu_s() -> float:
    """User and system seconds of this process and its finished children."""
    own, kids = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + kids.ru_utime + kids.ru_stime


@dataclass
class Corpus:
    """Traces; ``planted`` maps the number of a near-duplicate to that of its original."""

    texts: list[str] = field(default_factory=list)
    planted: dict[int, int] = field(default_factory=dict)


def traces(n: int, data: Path = DATA, seed: int = 0) -> Corpus:
    """Build n traces of about 4 KB: model outputs with changed numbers, in <think> tags.

    13.8 % are near-duplicates (one word in 60 replaced) and 1.7 % exact copies of earlier ones.
    """
    rng = random.Random(seed)
    parts = [r["output"] for r in rows("math_model_outputs", data) if r["output"]]
    for name in ("prompts_math_en", "prompts_gsm8k_train"):
        parts += [r["solution"] for r in rows(name, data) if r.get("solution")]
    parts = [part for part in parts if 80 < len(part) < 8000]

    def renumbered(text: str) -> str:
        return re.sub(
            r"\d+",
            lambda m: str(rng.randrange(10 ** min(9, len(m[0])))) if rng.random() < 0.5 else m[0],
            text,
        )

    out = Corpus()
    while len(out.texts) < n:
        draw = rng.random()
        if out.texts and draw < 0.155:
            source = rng.randrange(len(out.texts))
            words = out.texts[source].split(" ")
            if draw < 0.138:
                for _ in range(max(1, len(words) // 60)):
                    words[rng.randrange(len(words))] = rng.choice(["so", "then", "42", "indeed"])
            out.planted[len(out.texts)] = source
            out.texts.append(" ".join(words))
            continue
        body = "\n\n".join(
            renumbered(rng.choice(parts)) for _ in range(rng.choice([3, 4, 6, 8, 9]))
        )
        out.texts.append(
            f"<think>\n{body}\n</think>\n\nThe answer is \\boxed{{{rng.randrange(99)}}}."
        )
    return out
