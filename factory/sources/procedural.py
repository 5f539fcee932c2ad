"""Source ``procedural``: problems made on the spot by reasoning-gym's tasks, from a seed.

Their golds are scored by the ``logic`` verifier with the task's own scorer.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from factory.errors import UsageError
from factory.records import Prompt, PromptSource

WITH_TEMPLATE = {"suffix": ""}
"""Arguments where a prompt template says what to ask for."""


def prompts(
    task: str,
    *,
    n: int,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
    suffix: str = "Please reason step by step, and put your final answer within \\boxed{}.",
) -> Iterator[tuple[Prompt, PromptSource]]:
    """Yield ``n`` problems of a task.

    Args:
        task: name of a reasoning-gym task, such as ``chain_sum``.
        n: how many.
        seed: the same seed gives the same problems.
        params: the task's own parameters.
        suffix: instruction appended to every question.

    Raises:
        UsageError: no such task, or parameters that it does not take.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a dependency of its compiles with SyntaxWarnings
        import reasoning_gym

    try:
        dataset = reasoning_gym.create_dataset(task, size=n, seed=seed, **(params or {}))
    except (ValueError, TypeError, AssertionError) as error:
        raise UsageError(
            f"procedural task {task!r}: {error}",
            "see reasoning-gym's gallery for tasks and parameters",
        ) from None
    source = f"reasoning_gym/{task}"
    for number in range(n):
        entry = dataset[number]
        text = f"{entry['question']}\n\n{suffix}" if suffix else entry["question"]
        prompt = Prompt.of(text)
        gold = {"task": task, "answer": entry["answer"], "metadata": entry["metadata"]}
        yield (
            prompt,
            PromptSource(
                prompt_id=prompt.prompt_id,
                source=source,
                item=f"{seed}-{number}",
                gold=orjson.dumps(gold, default=str, option=orjson.OPT_NON_STR_KEYS).decode(),
                verifier="logic",
                domain="logic",
                language="en",
            ),
        )
