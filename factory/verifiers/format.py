r"""Format: the thinking stands once, in order, not empty, and an answer follows it.

A model is rewarded for its own dialect: the option ``dialect`` is a name of the one table
(``factory.dialects``), such as ``think`` (R1, Qwen, the default), ``think_answer`` (R1-Zero),
``mistral`` or ``harmony``.

Tags are counted in prefill + completion: a prefilled ``<think>`` is a part of the text, and one
that the model then writes again is a second one. What a prefill says before the tag ("Let me solve
this. <think>") is not the model's.
"""

from __future__ import annotations

import re

from factory.dialects import DIALECTS, Dialect, strip_end
from factory.records import Item, Verdict
from factory.verifiers import answers

VERSION = 3
OPTIONS = ("dialect", "box")
_SOMETHING = re.compile(r"[^\W_]")


def verify(item: Item, *, dialect: str = "think", box: bool = False) -> Verdict:
    r"""Judge the form of a completion; the gold is not looked at.

    Args:
        item: only its text is read (prefill included).
        dialect: a key of ``factory.dialects.DIALECTS``.
        box: demand a closed, non-empty ``\boxed{}`` after the thinking, too.

    >>> verify(Item(text="<think>\nI add.\n</think>\n4")).status
    'pass'
    >>> verify(Item(text="<think></think>4")).reason
    'empty_thinking'
    """
    if dialect not in DIALECTS:
        return Verdict.unscored(f"unknown_dialect: {dialect}")
    (think, close), answer_tags = DIALECTS[dialect].think, DIALECTS[dialect].answer
    # A special token at the end is no answer, and no text outside of the tags.
    text = strip_end(item.text).text
    reason = _tags_reason(text, think, close, "thinking")
    before = text[: text.find(think)]
    if item.prefill and text.startswith(item.prefill):
        before = before[len(item.prefill) :]
    if reason is None and before.strip():
        reason = "text_before_thinking"
    if reason is None and not _filled(text[text.find(think) + len(think) : text.find(close)]):
        reason = "empty_thinking"
    answer = text[text.find(close) + len(close) :]
    if reason is None and answer_tags is not None:
        reason, answer = _answer_reason(text, answer, DIALECTS[dialect])
    if reason is None and not _filled(answer):
        reason = "empty_answer"
    if reason is None and box and not _boxed(answer):
        reason = "no_box"
    if reason is not None:
        return Verdict.failed(reason, decided_by="tags")
    return Verdict.passed(decided_by="tags")


quick = verify


def as_completion(gold: object, *, dialect: str = "think", box: bool = False) -> str:
    """Write a gold as a completion of that dialect; any text will do."""
    marks = DIALECTS.get(dialect, DIALECTS["think"])
    (think, close), answer_tags = marks.think, marks.answer
    text = str(gold) if _filled(str(gold)) else "none"
    answer = f"\\boxed{{{text}}}" if box else text
    if answer_tags is not None:
        answer = f"{marks.between}{answer_tags[0]}\n{answer}\n{answer_tags[1]}"
    return f"{think}\nThis is known.\n{close}\n\n{answer}"


def _tags_reason(text: str, begin: str, end: str, name: str) -> str | None:
    n_begin = text.count(begin)
    n_end = text.count(end) if end else n_begin
    if n_begin == 0:
        return f"no_{name}_begin" if n_end else f"no_{name}"
    if n_end == 0:
        return f"unfinished_{name}"
    if n_begin > 1 or n_end > 1:
        return f"repeated_{name}_tag"
    if end and text.find(end) < text.find(begin):
        return "tags_out_of_order"
    return None


def _answer_reason(text: str, after: str, dialect: Dialect) -> tuple[str | None, str]:
    assert dialect.answer is not None
    begin, end = dialect.answer
    reason = _tags_reason(text, begin, end, "answer")
    if reason is None and _tags_reason(after, begin, end, "answer") is not None:
        reason = "tags_out_of_order"
    if reason is not None:
        return reason, after
    head, _, rest = after.partition(begin)
    inside, _, tail = rest.partition(end) if end else (rest, "", "")
    if head.strip().removeprefix(dialect.between) or tail.strip():
        return "text_outside_tags", inside
    return None, inside


def _filled(text: str) -> bool:
    return _SOMETHING.search(text) is not None


def _boxed(answer: str) -> bool:
    found = answers.from_boxes(answer, max_chars=8192)
    return found is not None and bool(found.parts) and all(map(_filled, found.parts))
