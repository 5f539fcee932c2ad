r"""How models mark their thinking, their answer, and the end of a completion: one table.

A completion is split in one of three ways. ``split_reasoning`` knows ``<think>`` alone; it is the
rule that stored columns (``reasoning``, ``answer``) follow. ``split`` knows every dialect of
``DIALECTS`` and says which one it found. ``split_final`` is what verdicts follow: it knows every
dialect, reads nothing behind the token that ends the completion, and leaves out thinking that is
opened again behind the answer. A new family of models is one line of the table, and then the
format verifier, ``split`` and ``split_final`` know it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one family of models marks its thinking and its answer.

    Attributes:
        think: marks before and after the thinking.
        answer: marks before and after the answer; None where the answer is all that follows the
            thinking. An empty second mark: the answer ends with the completion.
        between: what the model writes between the two halves that belongs to neither.
        models: who writes so.
    """

    think: tuple[str, str]
    answer: tuple[str, str] | None = None
    between: str = ""
    models: str


_ANSWER = ("<answer>", "</answer>")

DIALECTS: dict[str, Dialect] = {
    "think": Dialect(think=(THINK_OPEN, THINK_CLOSE), models="R1, Qwen, most others"),
    "think_answer": Dialect(think=(THINK_OPEN, THINK_CLOSE), answer=_ANSWER, models="R1-Zero"),
    "thought_output": Dialect(
        think=("<Thought>", "</Thought>"), answer=("<Output>", "</Output>"), models="Marco-o1"
    ),
    "mistral": Dialect(think=("[THINK]", "[/THINK]"), models="Magistral"),
    "solution": Dialect(
        think=("<|begin_of_thought|>", "<|end_of_thought|>"),
        answer=("<|begin_of_solution|>", "<|end_of_solution|>"),
        models="Sky-T1, OpenThoughts",
    ),
    "reasoning": Dialect(think=("<reasoning>", "</reasoning>"), models="many GRPO recipes"),
    "thinking": Dialect(think=("<thinking>", "</thinking>"), models="prompted models"),
    "thought": Dialect(think=("<thought>", "</thought>"), models="EXAONE Deep"),
    "seed": Dialect(think=("<seed:think>", "</seed:think>"), models="Seed-OSS"),
    "kimi": Dialect(think=("◁think▷", "◁/think▷"), models="Kimi-VL-Thinking"),
    "cohere": Dialect(
        think=("<|START_THINKING|>", "<|END_THINKING|>"),
        answer=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
        models="Command A Reasoning",
    ),
    "harmony": Dialect(
        think=("<|channel|>analysis<|message|>", "<|end|>"),
        answer=("<|channel|>final<|message|>", ""),
        between="<|start|>assistant",
        models="gpt-oss",
    ),
}
"""Name → dialect. Names are values of the format verifier's option ``dialect``."""

END_TOKENS = (
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "</s>", "<eos>",
    "<｜end▁of▁sentence｜>", "<|return|>", "<|end|>", "<|call|>", "<end_of_turn>", "<turn|>",
    "<|eot|>", "[|endofturn|]", "<|endofturn|>", "<|END_OF_TURN_TOKEN|>", "<seed:eos>", "[EOS]",
    "<|eos|>", "[e~[", "<pad>", "[PAD]", "<|pad|>", "<｜▁pad▁｜>", "<|finetune_right_pad_id|>",
)  # fmt: skip
"""Special tokens with which a completion may end when it is decoded with them, pads included."""


_LAST_SIGNS = frozenset(token[-1] for token in END_TOKENS)


class Halves(NamedTuple):
    """The two halves of a completion: before and after the last ``</think>``."""

    reasoning: str
    answer: str


class Split(NamedTuple):
    """The two halves of a completion, and the dialect that marked them (None: no thinking)."""

    reasoning: str
    answer: str
    dialect: str | None


class Ending(NamedTuple):
    """A completion without the special tokens at its end, and those tokens, in their order."""

    text: str
    tokens: tuple[str, ...]


_BY_OPEN = {d.think[0]: name for name, d in reversed(DIALECTS.items())}
_BY_CLOSE = {d.think[1]: name for name, d in reversed(DIALECTS.items())}
_OPEN = re.compile("|".join(map(re.escape, _BY_OPEN)))
# "<|end|>" ends every message of harmony, so alone it does not say that a thinking ended.
_CLOSE = re.compile("|".join(re.escape(c) for c in _BY_CLOSE if c not in END_TOKENS))
_QUOTES = "`'\"‘“«"


def split_reasoning(text: str) -> Halves:
    """Split a completion (with its prefill) at the last ``</think>``.

    Without ``</think>``: a text that opens with ``<think>`` never finished thinking, so all of it
    is reasoning; any other text is all answer.

    >>> split_reasoning("<think>\\nI add.\\n</think>\\n\\n4")
    Halves(reasoning='\\nI add.\\n', answer='\\n\\n4')
    >>> split_reasoning("<think>still going")
    Halves(reasoning='still going', answer='')
    >>> split_reasoning("just 4")
    Halves(reasoning='', answer='just 4')
    """
    end = text.rfind(THINK_CLOSE)
    start = len(text) - len(text.lstrip())
    opens = text.startswith(THINK_OPEN, start)
    begin = start + len(THINK_OPEN) if opens else 0
    if end < 0:
        return Halves(text[begin:], "") if opens else Halves("", text)
    return Halves(text[min(begin, end) : end], text[end + len(THINK_CLOSE) :])


def join_reasoning(reasoning: str, answer: str) -> str:
    """Join two halves by the one rule, for sources and APIs that keep them apart.

    >>> join_reasoning("I add.", "4")
    '<think>\\nI add.\\n</think>\\n\\n4'
    """
    return f"{THINK_OPEN}\n{reasoning}\n{THINK_CLOSE}\n\n{answer}"


def split(text: str) -> Split:
    r"""Split a completion (with its prefill) by whichever dialect it is written in.

    The dialect is the one whose mark opens the text; else the one whose closing mark comes (the
    template may have written the opening mark into the prompt; ``</think>`` goes before others);
    else the one whose opening mark stands anywhere, outside of quotation marks, and is never
    closed: then there is no answer. The last closing mark splits, as in ``split_reasoning``.

    Marks of the answer are taken off where they hold all of it, ``<answer>`` in every dialect.
    Special tokens at the end stay (``strip_end``), but behind an answer that had its marks.

    >>> split("[THINK]I add.[/THINK]4")
    Split(reasoning='I add.', answer='4', dialect='mistral')
    >>> split("◁think▷still going")
    Split(reasoning='still going', answer='', dialect='kimi')
    >>> split("just 4")
    Split(reasoning='', answer='just 4', dialect=None)
    """
    start = len(text) - len(text.lstrip())
    opened = _OPEN.match(text, start)
    if opened is None and text.startswith(_HARMONY.between, start):
        opened = _OPEN.match(text, start + len(_HARMONY.between))
    if opened is not None:
        name = _BY_OPEN[opened[0]]
    elif THINK_CLOSE in text:
        name = "think"
    elif closed := _CLOSE.search(text):
        name = _BY_CLOSE[closed[0]]
    else:
        opened = next((m for m in _OPEN.finditer(text) if not _is_quoted(text, m.start())), None)
        if opened is None:
            return Split("", text, None)
        name = _BY_OPEN[opened[0]]
    dialect = DIALECTS[name]
    begin = opened.end() if opened is not None else 0
    end, after = _where_thinking_ends(text, begin, dialect)
    if end < 0:
        return Split(text[begin:], "", name)
    inside = _inside(text[after:], dialect.answer or _ANSWER)
    if inside is not None and name == "think":
        name = "think_answer"
    return Split(text[min(begin, end) : end], text[after:] if inside is None else inside, name)


_HARMONY = DIALECTS["harmony"]


def _is_quoted(text: str, at: int) -> bool:
    return at > 0 and text[at - 1] in _QUOTES


def _where_thinking_ends(text: str, begin: int, dialect: Dialect) -> tuple[int, int]:
    """Return where the thinking ends and the answer begins; -1 where it never ends."""
    close = dialect.think[1]
    if dialect is _HARMONY:
        # Thinking, calls of tools and their results are messages; the answer is the final channel.
        assert dialect.answer is not None
        after = text.rfind(dialect.answer[0], begin)
        end = text.rfind(close, begin, after) if after >= 0 else -1
        return (end, after) if end >= 0 else (-1, -1)
    end = text.rfind(close, begin)
    return end, end + len(close)


def _inside(half: str, marks: tuple[str, str]) -> str | None:
    """Return what the marks of the answer hold; None where they do not hold all of it."""
    begin, end = marks
    head = half.lstrip()
    if not head.startswith(begin):
        return None
    body = strip_end(head[len(begin) :]).text
    if not end:
        return body
    inside, closed, tail = body.partition(end)
    return inside if closed and not tail.strip() else None


def split_final(text: str) -> Halves:
    r"""Split a completion (with its prefill) into thinking and final answer, for verdicts.

    As ``split``, and besides: role marks before the text are no part of it; what follows the first
    special token that ends a completion is never read (a model that ran on into a dialogue of its
    own); special tokens at the end are taken off; thinking that opens again behind the answer
    belongs to the thinking, closed or not.

    >>> split_final("[THINK]6?[/THINK]\\boxed{7}<|im_end|>\n<|im_start|>user\n\\boxed{8}").answer
    '\\boxed{7}'
    >>> split_final("<think>a</think>4<think>or 5").answer
    '4'
    """
    if _is_plain(text):
        return Halves("", text)
    text = strip_end(_ended(text[_START.match(text).end() :])).text  # type: ignore[union-attr]
    found = split(text)
    reasoning, answer = found.reasoning, found.answer
    if found.dialect is None and _HARMONY_FINAL in answer:
        reasoning, _, answer = answer.rpartition(_HARMONY_FINAL)
    kept: list[str] = []
    at = 0
    for opened in _OPEN.finditer(answer):
        if opened.start() < at or _is_quoted(answer, opened.start()):
            continue
        kept.append(answer[at : opened.start()])
        close = DIALECTS[_BY_OPEN[opened[0]]].think[1]
        end = answer.find(close, opened.end())
        reasoning += answer[opened.end() : end if end >= 0 else len(answer)]
        at = end + len(close) if end >= 0 else len(answer)
    return Halves(reasoning, "".join((*kept, answer[at:])))


def _is_plain(text: str) -> bool:
    """Tell whether a text can hold no mark of the table: most do not, and need no pattern."""
    if "<" in text or "◁" in text:
        return _MARKS.search(text) is None
    return "[" not in text or _SQUARE.search(text) is None


_MARKS = re.compile(
    "|".join(
        re.escape(mark)
        for mark in (
            *END_TOKENS,
            *(m for d in DIALECTS.values() for m in d.think),
            "<s>",
            "<bos>",
            "<|channel|>",
            "<|im_start|>",
            "<|start_header_id|>",
            "<start_of_turn>",
            "<|assistant|>",
            "<｜Assistant｜>",
            "<|begin_of_text|>",
            "<｜begin▁of▁sentence｜>",
        )
    )
)
_SQUARE = re.compile(
    "|".join(
        re.escape(mark)
        for mark in (*END_TOKENS, *(m for d in DIALECTS.values() for m in d.think))
        if mark.startswith("[")
    )
)
_HARMONY_FINAL = "<|channel|>final<|message|>"
_START = re.compile(
    r"(?:\s*(?:<s>|<bos>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>|<\|im_start\|>assistant"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>|<start_of_turn>model|<｜Assistant｜>"
    r"|<\|assistant\|>|<pad>|\[PAD\]|<\|pad\|>))*"
)
_ENDS = re.compile("|".join(map(re.escape, END_TOKENS)))


def _ended(text: str) -> str:
    """Cut a text behind the first token that ends a completion and is no quotation.

    In harmony ``<|end|>`` ends a message and ``<|call|>`` a call; other messages follow them. A
    ``</s>`` whose ``<s>`` stands before it strikes text through.
    """
    is_harmony = "<|channel|>" in text
    struck = text.find("<s>") if "</s>" in text else -1
    for found in _ENDS.finditer(text):
        token = found[0]
        if _is_quoted(text, found.start()):
            continue
        if is_harmony and token in ("<|end|>", "<|call|>"):
            continue
        if token == "</s>" and 0 <= struck < found.start():
            continue
        return text[: found.end()]
    return text


def strip_end(text: str) -> Ending:
    """Take the special tokens (and the white space around them) off the end of a completion.

    >>> strip_end("4<|im_end|>\\n<|endoftext|>")
    Ending(text='4', tokens=('<|im_end|>', '<|endoftext|>'))
    >>> strip_end("4 \\n").text
    '4 \\n'
    """
    # From the end by position: a padded completion may end with thousands of tokens, and cutting
    # the text for each of them would copy it as often.
    if text.rstrip()[-1:] not in _LAST_SIGNS:
        return Ending(text, ())
    tokens: list[str] = []
    kept = len(text)
    while True:
        end = kept
        while end and text[end - 1].isspace():
            end -= 1
        token = next((t for t in END_TOKENS if text.endswith(t, 0, end)), None)
        if token is None:
            return Ending(text[:kept], tuple(reversed(tokens)))
        tokens.append(token)
        kept = end - len(token)
