"""Small worlds for tests of the stages: problems with golds, recorded answers, a replay engine."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from factory import plugins
from factory.engines.replay import Engine
from factory.records import Prompt, PromptSource, Sampling, ids
from factory.store import Store

VERIFIER = str(Path(__file__).with_name("echo_verifier.py"))
plugins.allow(VERIFIER)
VERDICTS = "verdicts." + plugins.label("verifiers", VERIFIER)
SAMPLING = Sampling(temperature=0.7, max_tokens=64, prefill="<think>\n")


def problems(n: int) -> list[tuple[Prompt, PromptSource]]:
    out = []
    for i in range(n):
        prompt = Prompt.of(f"What is {i} + {i + 1}?")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source="sums", item=str(i), gold=str(2 * i + 1),
            verifier=VERIFIER, options={"mode": "boxed"}, domain="math", language="en",
        )  # fmt: skip
        out.append((prompt, source))
    return out


def answers(n: int, n_samples: int, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Recorded answers; prompt i is right with a rate that depends on i."""
    generator = random.Random(seed)
    out = {}
    for i, (prompt, source) in enumerate(problems(n)):
        rate = (i % 5) / 4
        for j in range(n_samples):
            right = generator.random() < rate
            value = int(source.gold or 0) + (0 if right else 1 + generator.randrange(5))
            text = f"I add the two numbers.\n</think>\n\nThe sum is \\boxed{{{value}}}."
            out[f"{prompt.prompt_id}:{j}"] = {
                "completion": text, "n_prompt_tokens": 9,
                "n_completion_tokens": generator.randrange(5, 60),
            }  # fmt: skip
    return out


def replay(n: int, n_samples: int, **options: Any) -> Engine:
    return Engine("recorded-model", answers=answers(n, n_samples), **options)


def new_store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


def trace_id_of(prompt: Prompt, engine: Engine, sampling: Sampling, index: int) -> str:
    return ids.trace_id(
        prompt_id=prompt.prompt_id, model=engine.model, revision=engine.revision,
        sampling_id=sampling.sampling_id, sample_index=index,
    )  # fmt: skip
