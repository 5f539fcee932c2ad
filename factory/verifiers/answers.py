r"""Where a completion says its answer: boxes, tags, JSON, ``####``, "the answer is …".

The one list of marks of an answer for math, choice, logic and format; its words are those of
``answer_words``. Everything is linear in the text and looks at bounded pieces of its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from factory.verifiers.answer_words import ASCII_KEYS, CUE, FALSE_CUE, KEYS, SUPPOSED_CUE

MAX_ANSWER_CHARS = 2048
"""Longest answer looked at; nothing that a person would write as a final answer is longer."""
MAX_BOXES = 32
TAIL_CHARS = 20_000

STYLES = (
    "text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mathtt|mbox"
    "|rm|bf|operatorname|underline|emph"
)
"""LaTeX commands that change how their argument looks and nothing else."""

_BOX = re.compile(r"\\f?box(?:ed)?(?![a-zA-Z])\s*")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_EXAMPLE = re.compile(
    r"(?:\be\.g\.|\bfor (?:example|instance)|\bsuch as|\bexample|例如|比如)[\s,:：$`*\"'(\\]*\Z",
    re.IGNORECASE,
)
"""Before a box: it shows how a box is written, and is no answer."""
_BETWEEN = re.compile(
    r"(?:[\s,;，、；&]|\$|\\[()\[\],;:! ]|\\q?quad|\\text\s*\{\s*(?:,?\s*(?:and|or)\s*)\}"
    r"|\\(?:and|or|land|lor|cup)\b|(?:\b[A-Za-z]+\s+)?\b(?:and|or)\b|和|或|及|与|[A-Za-z](?:_\{?\w+\}?)?\s*=)*"
)
_BARE_BOXED = re.compile(r"[-+]?[0-9][0-9.,/]*|[A-Za-z](?![A-Za-z])")


class Extracted(NamedTuple):
    """An answer as found: its parts (several boxes make a list), and how it was found.

    ``error`` says why there is none; then ``parts`` is empty.
    """

    parts: tuple[str, ...]
    how: str
    error: str | None = None


_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_LATEX_COMMENT = re.compile(r"\n[ \t]*%[^\n]*")
_RUN_ON = re.compile(
    r"\n[ \t]*(?:\*\*|#{1,6}[ \t]*)?(?=[qpehui问题])(?:question|q|problem|exercise|human|user"
    r"|instruction|input|问题|题目)(?:[ \t]*[0-9]{1,3})?(?:\*\*)?[ \t]*[:：]",
    re.IGNORECASE,
)
_GIVEN = re.compile(r"\banswer(?:\*\*)?(?:[ \t]+is\b|[ \t]*[:：])|答案", re.IGNORECASE)


def own_text(answer: str) -> str:
    r"""Return a final answer without comments, and without a next question that follows it.

    What a page or a compiler would not show is no answer; a model that runs on after its answer
    asks itself the next question of a prompt with examples, and answers that.

    >>> own_text("#### 42\n\nQuestion: And 3+4?\n#### 7")
    '#### 42\n'
    >>> own_text(r"\boxed{1} <!-- \boxed{2} -->")
    '\\boxed{1} '
    """
    if "<!--" in answer:
        answer = _COMMENT.sub("", answer)
    if "%" in answer:
        answer = _LATEX_COMMENT.sub("", answer)
        if answer.lstrip().startswith("%"):
            answer = answer.partition("\n")[2]
    # Mostly the answer stands near the end, and little is left to be searched behind it.
    at = answer.find("\\boxed")
    hashes = answer.find("####", 0, at if at >= 0 else len(answer))
    at = hashes if hashes >= 0 else at
    if at >= 0:
        if answer.find(":", at) < 0 and (answer.isascii() or answer.find("：", at) < 0):
            return answer
        again = _RUN_ON.search(answer, at)
    else:
        again = _RUN_ON.search(answer)
        given = _GIVEN.search(answer) if again else None
        again = _RUN_ON.search(answer, given.end()) if given else None
    return answer[: again.start()] if again else answer


def from_boxes(answer: str, max_chars: int = MAX_ANSWER_CHARS) -> Extracted | None:
    r"""Return what the last box of a text holds; None where it has no box at all.

    Boxes with nothing but separators or "and"/"or" between them are one list.

    >>> from_boxes(r"\boxed{3} so \boxed{5}").parts
    ('5',)
    >>> from_boxes(r"\boxed{1} and \boxed{2}").parts
    ('1', '2')
    >>> from_boxes(r"it is 5. \boxed{}").error
    'empty_box'
    """
    start = _last_box(answer, len(answer))
    if start < 0:
        return None
    last = _content(answer, start, max_chars)
    if last is None:
        return Extracted((), "box", "unterminated_box")
    begin, end = last
    content = answer[begin:end].strip()
    if end - begin > max_chars:
        return Extracted((), "box", "answer_too_long")
    if not content:
        return Extracted((), "box", "empty_box")
    parts = [content]
    while len(parts) <= MAX_BOXES:
        before = _last_box(answer, start)
        if before < 0:
            break
        found = _content(answer, before, max_chars)
        if found is None or found[1] - found[0] > max_chars:
            break
        if start - found[1] > 80 or not _BETWEEN.fullmatch(answer, found[1] + 1, start):
            break
        piece = answer[found[0] : found[1]].strip()
        if not piece:
            return Extracted((), "box", "empty_box")
        parts.append(piece)
        start = before
    if len(parts) > MAX_BOXES:
        return Extracted((), "box", "too_many_boxes")
    return Extracted(tuple(reversed(parts)), "box")


def _last_box(text: str, end: int) -> int:
    """Return where the last real box command before ``end`` starts, or -1."""
    framed = "\\fbox" in text  # looking forwards is faster, and there is mostly none
    for _ in range(200):  # mentions such as "use \boxed notation" are passed over
        at = text.rfind("\\boxed", 0, end)
        if framed:
            at = max(at, text.rfind("\\fbox", 0, end))
        if at < 0:
            return -1
        head = _BOX.match(text, at)
        if (
            head
            and not _is_example(text, at)
            and (
                text.startswith("{", head.end())
                or head.end() >= len(text)
                or _BARE_BOXED.match(text, head.end())
            )
        ):
            return at
        end = at
    return -1


def _is_example(text: str, at: int) -> bool:
    """Tell whether the words before a box say that it shows how one is written."""
    before = text[max(0, at - 40) : at].lower()
    if "." not in before and "for " not in before and "xample" not in before:
        return ("such as" in before or "如" in before) and _EXAMPLE.search(before) is not None
    return _EXAMPLE.search(before) is not None


def _content(text: str, start: int, max_chars: int) -> tuple[int, int] | None:
    r"""Return the offsets of what a box holds; None where it never ends.

    The search stops a little behind the length cap: a longer content is refused anyway.
    """
    head = _BOX.match(text, start)
    assert head is not None
    begin = head.end()
    if not text.startswith("{", begin):
        bare = _BARE_BOXED.match(text, begin)
        return (bare.start(), bare.end()) if bare else None
    close = text.find("}", begin, begin + 4 * max_chars)
    if close > 0 and "{" not in (inside := text[begin + 1 : close]) and "\\" not in inside:
        return begin + 1, close
    depth = 0
    for mark in _BRACES.finditer(text, begin, begin + 4 * max_chars):
        sign = mark.group()
        if sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                return begin + 1, mark.start()
    if len(text) > begin + 4 * max_chars:
        return begin + 1, begin + 4 * max_chars
    return None


_TAG_CLOSE = re.compile(
    r"<\s*/\s*(answer|output|final_answer|finalanswer|final|solution|choice)\s*>", re.IGNORECASE
)
_JSON = re.compile(
    r"""["'](?:final_?|correct_?|selected_?)?(?:answer|choice|option)["']\s*:\s*"""
    r"""(?:"((?:[^"\\]|\\.)*)"|'([^'\n]*)'|(-?[0-9][0-9.eE+-]*|true|false|\[[^\[\]]*\]))""",
    re.IGNORECASE,
)
HASHES = re.compile(r"####[ \t]*([^\n]+)")
HEADING = re.compile(
    r"(?m)^[ \t]*(?:#{1,6}[ \t]*)?[*_]*(?:the |my )?(?:final |correct )?(?:answer|conclusion)"
    r"[*_ \t:：]*\n\s*",
    re.IGNORECASE,
)
"""A line that holds nothing but the word; the answer is the next one."""


def tagged(text: str) -> str | None:
    """Return what the last closed answer tag holds.

    >>> tagged("<answer>A</answer> <answer>B</answer>"), tagged("B</answer>")
    ('B', None)
    """
    close = last(_TAG_CLOSE, text)
    if not close:
        return None
    # written with or without spaces, in any case: looked for backwards, so that it is linear
    begin = re.compile(rf"<\s*{close.group(1)}\s*>", re.IGNORECASE)
    window = max(0, close.start() - TAIL_CHARS)
    opened = last(begin, text[window : close.start()])
    return text[window + opened.end() : close.start()] if opened else None


def in_json(text: str) -> str | None:
    r"""Return the last value of an ``answer`` in JSON.

    >>> in_json('{"reason": "x", "answer": "\\\\frac12"}'), in_json('{"answer": 5}')
    ('\\frac12', '5')
    """
    found = last(_JSON, text)
    if not found:
        return None
    value: str = next(group for group in found.groups() if group is not None)
    return value.replace("\\\\", "\\").replace('\\"', '"')


def cues(text: str) -> Iterator[tuple[int, str]]:
    """Yield the pieces that follow an answer word, the last first, with their offsets.

    A piece goes on to the end of its line; a word alone on its line announces the next line.

    >>> [piece for _, piece in cues("Answer: B\\nSo the answer is **C**.\\n\\n## Answer\\nD")]
    ['D', 'C**.', 'B']
    """
    found = {
        match.end()
        for match in CUE.finditer(text)
        if not _is_false(text, match.start())
        and not SUPPOSED_CUE.search(text, max(0, match.start() - 60), match.start())
    }
    found |= {match.end() for match in HEADING.finditer(text)}
    for at in sorted(found, reverse=True):
        piece = text[at : at + MAX_ANSWER_CHARS].lstrip(" \t\n:：*_#")
        yield at, piece.split("\n", 1)[0]


def last_cue(text: str) -> re.Match[str] | None:
    """Return the last answer word.

    The words themselves are looked for first, backwards: that is a hundred times as fast as the
    pattern on every character, and most texts end a few words behind the last one.
    """
    lower = text.lower()
    if len(lower) != len(text):
        return last(CUE, text)
    # a key may begin before ``end`` and go on behind it: 答 is a part of 解答
    keys = [key for key in (ASCII_KEYS if text.isascii() else KEYS) if key in lower]
    end = len(text)
    for _ in range(64):
        at = max((lower.rfind(key, 0, end + len(key) - 1) for key in keys), default=-1)
        if at < 0:
            return None
        found = CUE.match(text, at)
        if found and not _is_false(text, at):
            return found
        end = at
    return last(CUE, text)


def _is_false(text: str, at: int) -> bool:
    """Tell whether the words before a cue say that its answer is a wrong one."""
    return FALSE_CUE.search(text, max(0, at - 60), at) is not None


def last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the last match of a pattern."""
    found = None
    for found in pattern.finditer(text):  # noqa: B007 - only the last one is wanted
        pass
    return found
