r"""Right answers for rehearsals: random models pass no filter, and a rehearsal must pass all.

A quarter of the completions of a rehearsal, rollouts included, is replaced by well-formed right
answers that are made from the golds; each trace of them says ``rehearsal`` in its ``meta``.
Verifiers, filters and rewards know nothing of it and judge both sorts alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from factory import plugins
from factory.dialects import DIALECTS
from factory.records import PromptSource

SHARE = 4
"""One completion of so many is replaced."""
SOLUTION = "solution"
"""Key of a prompt's ``meta``: a program that passes its tests."""
MARK = '{"rehearsal": true}'
"""``meta`` of a trace that was made so."""
THINKING = (
    "I read the problem once more and note what is given. Then I work through it step by step "
    "and check each of the steps with care. So the result should be {gold}."
)
ANSWER = "The answer is \\boxed{{{gold}}}."
_ANSWERED = ("math", "choice", "logic")


def is_replaced(prompt: int, sample_index: int) -> bool:
    """Tell whether a completion is replaced: one of each four samples of a prompt.

    Args:
        prompt: number of its prompt, so that not only first samples are replaced.
        sample_index: how-manieth sample of its prompt.

    >>> [is_replaced(1, i) for i in range(5)]
    [False, False, False, True, False]
    """
    return (prompt + sample_index) % SHARE == 0


def right_answer(source: PromptSource, *, dialect: str, prefill: str = "") -> str | None:
    r"""Return a well-formed right answer; None where a gold holds none.

    Tests of a program hold none: their program is the prompt's ``meta["solution"]``.

    Args:
        source: the prompt's, with its gold.
        dialect: in which the format is checked.
        prefill: text that the completion begins with, which is left out.

    >>> source = PromptSource(prompt_id="p", source="s", item="0", gold="4", verifier="math")
    >>> right_answer(source, dialect="think_answer")[-44:]
    ' <answer> The answer is \\boxed{4}. </answer>'
    """
    if not source.gold:
        return None
    verifier = source.verifier or plugins.verifier_of_gold(source.gold)
    marks, solution = DIALECTS[dialect], source.meta.get(SOLUTION)
    if verifier in _ANSWERED:
        thinking, answer = THINKING.format(gold=source.gold), ANSWER.format(gold=source.gold)
    elif verifier == "code" and solution:
        thinking, answer = THINKING.format(gold="right"), f"```python\n{solution}\n```"
    else:
        return None
    if marks.answer is not None:
        answer = f"{marks.answer[0]} {answer} {marks.answer[1]}".rstrip()
        text = f"{marks.think[0]} {thinking} {marks.think[1]} {marks.between}{answer}"
    else:
        text = f"{marks.think[0]}\n{thinking}\n{marks.think[1]}\n\n{marks.between}{answer}"
    return text.removeprefix(prefill)


def planted(
    tokenizer: Any, texts: Sequence[str | None], drawn: tuple[list[list[int]], list[list[float]]],
    *, max_tokens: int,
) -> tuple[list[list[int]], list[list[float]]]:  # fmt: skip
    """Return a rollout's tokens and log probabilities with some completions replaced.

    A model of random weights gives every token nearly the same probability: that stands for the
    log probability of a token that it did not draw.

    Args:
        tokenizer: of the policy.
        texts: what replaces each completion; None leaves it, shape (N,).
        drawn: completion tokens and the log probability of each, N lists each.
        max_tokens: cap of the rollout.
    """
    tokens, logprobs = list(drawn[0]), list(drawn[1])
    even = -math.log(len(tokenizer))
    for at, text in enumerate(texts):
        if text is None:
            continue
        made = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        tokens[at] = made[:max_tokens]
        logprobs[at] = [even] * len(tokens[at])
    return tokens, logprobs
