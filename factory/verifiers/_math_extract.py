"""Which piece of a completion is its final answer (math).

Only the text after the thinking is read. A box decides where there is one: the last one counts,
and boxes with nothing but separators or "and"/"or" between them form one list. Mode ``auto`` adds,
in this order: answer tags and JSON, ``####``, cue phrases ("the answer is …"), a short bare
answer, the formula or number that a concluding last sentence gives.

Everything here is linear in the text and looks only at its end, so that a megabyte of boxes costs
no more than a page.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_ANSWER_CHARS = 2048
"""Longest answer looked at; nothing that a person would write as a final answer is longer."""
MAX_BOXES = 32
_TAIL_CHARS = 20_000
_BARE_CHARS = 200
_CLOSING_CHARS = 2000

_BOX = re.compile(r"\\f?box(?:ed)?(?![a-zA-Z])\s*")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_BETWEEN = re.compile(
    r"(?:[\s,;，、；&]|\$|\\[()\[\],;:! ]|\\q?quad|\\text\s*\{\s*(?:,?\s*(?:and|or)\s*)\}"
    r"|\\(?:and|or|land|lor|cup)\b|(?:\b[A-Za-z]+\s+)?\b(?:and|or)\b|和|或|及|与|[A-Za-z](?:_\{?\w+\}?)?\s*=)*"
)
_BARE_BOXED = re.compile(r"[-+]?[0-9][0-9.,/]*|[A-Za-z](?![A-Za-z])")


_SPECIAL = re.compile(r"<(?:\||｜)[^<>|｜]{1,40}(?:\||｜)>(?:user|assistant)?|</?s>")


class Extracted(NamedTuple):
    """An answer as found: its parts (several boxes make a list), and how it was found.

    ``error`` says why there is none; then ``parts`` is empty.
    """

    parts: tuple[str, ...]
    how: str
    error: str | None = None


def from_boxes(answer: str) -> Extracted | None:
    r"""Return what the last box of a text holds; None where it has no box at all.

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
    last = _content(answer, start)
    if last is None:
        return Extracted((), "box", "unterminated_box")
    begin, end = last
    content = answer[begin:end].strip()
    if end - begin > MAX_ANSWER_CHARS:
        return Extracted((), "box", "answer_too_long")
    if not content:
        return Extracted((), "box", "empty_box")
    parts = [content]
    while len(parts) <= MAX_BOXES:
        before = _last_box(answer, start)
        if before < 0:
            break
        found = _content(answer, before)
        if found is None or found[1] - found[0] > MAX_ANSWER_CHARS:
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
    for _ in range(200):  # mentions such as "use \boxed notation" are passed over
        at = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if at < 0:
            return -1
        head = _BOX.match(text, at)
        if head and (
            text.startswith("{", head.end())
            or head.end() >= len(text)
            or _BARE_BOXED.match(text, head.end())
        ):
            return at
        end = at
    return -1


def _content(text: str, start: int) -> tuple[int, int] | None:
    r"""Return the offsets of what a box holds; None where it never ends.

    The search stops a little behind the length cap: a longer content is refused anyway.
    """
    head = _BOX.match(text, start)
    assert head is not None
    begin = head.end()
    if not text.startswith("{", begin):
        bare = _BARE_BOXED.match(text, begin)
        return (bare.start(), bare.end()) if bare else None
    depth = 0
    for mark in _BRACES.finditer(text, begin, begin + 4 * MAX_ANSWER_CHARS):
        sign = mark.group()
        if sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                return begin + 1, mark.start()
    if len(text) > begin + 4 * MAX_ANSWER_CHARS:
        return begin + 1, begin + 4 * MAX_ANSWER_CHARS
    return None


_TAG_NAMES = ("answer", "output", "final_answer", "finalanswer", "final", "solution")
_TAG_CLOSE = re.compile(rf"</({'|'.join(_TAG_NAMES)})>", re.IGNORECASE)
_JSON = re.compile(r'"(?:final_)?answer"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|(-?[0-9][0-9.eE+-]*))')
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_HASH_START = re.compile(r"[\s$\\(\[{*-]*[-+−.]?(?:[0-9]|\\|\$)")
_CUE = re.compile(
    r"(?:\b(?:answer|result|solution)s?(?: to (?:the|this) (?:question|problem))?"
    r" ?(?:is|are|=|:|：)|\bans ?[:=]|答案|答え|정답|답은|\bréponse|\brespuesta"
    r"|\bantwort|\blautet|\bresposta|\bответ|उत्तर|คำตอบ)[\s:：=*]*"
    r"(?:\b(?:is|are|est|es|ist|é|finale?|lautet|это)\b|为|是|は|คือ|है)?[\s:：=*]*",
    re.IGNORECASE,
)
_LINE_A = re.compile(r"(?m)^\s*A(?:nswer)?\s*[:：]\s*(.+)$")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]|\n")
_MATH = re.compile(
    r"\$\$(.{1,600}?)\$\$|\\\[(.{1,600}?)\\\]|\\\((.{1,600}?)\\\)"
    r"|(?<!\\)\$((?:[^$\\]|\\.){1,600}?)(?<!\\)\$|\*\*(.{1,600}?)\*\*",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])[-−]?\s?[$€£¥]?\s?"
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:[.,][0-9]+)?|\.[0-9]+)"
    r"(?:\s*/\s*[0-9]+)?\s?(?:%|％)?"
)
_CONCLUDES = re.compile(
    r"[=≈:：]|\b(?:therefore|thus|hence|so|is|are|was|were|has|have|had|will|equals?|gives?|get"
    r"|needs?|there|total|in all|left|costs?|it'?s|donc|ainsi|est|soit|sont|also|daher|ist|sind"
    r"|por lo tanto|entonces|es|son|portanto|então|é|são|quindi|dunque|è|sono)\b"
    r"|因此|所以|故|于是|那么|是|为|有|したがって|よって|です|ます|따라서|입니다|इसलिए|है|हैं"
    r"|ดังนั้น|следовательно|поэтому|итак|равно|অতএব|তাই|కాబట్టి|kwa hiyo|hivyo",
    re.IGNORECASE,
)


def from_text(answer: str) -> Extracted:
    r"""Return the answer of a text without a box (mode ``auto``).

    >>> from_text("so it takes 2+1.\n#### 3").parts
    ('3',)
    >>> from_text("The answer is 42.").parts
    ('42',)
    >>> from_text("The question mentions 5").error
    'no_answer'
    """
    text = _SPECIAL.sub("", answer[-_TAIL_CHARS:]).strip()
    if not text:
        return Extracted((), "none", "no_answer")
    for how, find in _FINDERS:
        found = find(text)
        if found:
            found = _HEDGE.sub("", found.strip().strip("*").strip())
            if len(found) > MAX_ANSWER_CHARS:
                return Extracted((), how, "answer_too_long")
            if found:
                inner = from_boxes(found)
                if inner is not None:
                    return inner
                return Extracted((found,), how)
    return Extracted((), "none", "no_answer")


def _tags(text: str) -> str | None:
    close = _last(_TAG_CLOSE, text)
    if not close:
        return None
    begin = f"<{close.group(1)}>"
    at = text.rfind(begin, 0, close.start())
    return _narrow(text[at + len(begin) : close.start()]) if at >= 0 else None


def _json(text: str) -> str | None:
    found = _last(_JSON, text)
    if not found:
        return None
    value = found.group(1) if found.group(1) is not None else found.group(2)
    return value.replace("\\\\", "\\").replace('\\"', '"')


def _hashes(text: str) -> str | None:
    found = _last(_HASHES, text)
    if not found:
        return None
    line = found.group(1).strip()
    # A Markdown heading of level four is no answer.
    if _HASH_START.match(line) or (" " not in line and found.end() >= len(text)):
        return _narrow(line)
    return None


def _cues(text: str) -> str | None:
    found = _last(_CUE, text)
    line = _last(_LINE_A, text)
    if line and (not found or line.start() >= found.start()):
        return _narrow(line.group(1))
    if not found:
        return None
    rest = text[found.end() :].lstrip(" :：*\n")
    if rest.startswith(("$$", "\\[")):
        block = _MATH.match(rest)
        if block:
            return _first_group(block)
    stop = _SENTENCE_END.search(rest)
    return _narrow(rest[: stop.start()] if stop else rest)


def _bare(text: str) -> str | None:
    if len(text) > _BARE_CHARS or "\n" in text:
        return None
    words = re.findall(r"[^\W\d_]{2,}", re.sub(r"\\[A-Za-z]+|\{[^{}]*\}", " ", text))
    if len(words) > 3 or (words and _CONCLUDES.search(" ".join(words))):
        return None
    # "20 cm" and "Navin" are answers; "the 20" and "Note: 20" are not yet.
    if words and not _HASH_START.match(text) and (len(words) > 1 or re.search(r"[0-9]", text)):
        return None
    return text


def _conclusion(text: str) -> str | None:
    """Return the last formula of the last paragraph, or the last number of a last sentence."""
    text = text[-_CLOSING_CHARS:]
    paragraphs = [p for p in re.split(r"\n\s*\n", text) if p.strip()]
    last = paragraphs[-1]
    if len(paragraphs) > 1 and not re.search(r"[0-9\\$]", last):
        last = paragraphs[-2]
    formula = _last(_MATH, last)
    if formula and re.search(r"[0-9A-Za-z]", _first_group(formula)):
        inside = _first_group(formula)
        if not _is_prose(inside):
            tail = last[formula.end() :]
            if not _NUMBER.search(tail) or not _CONCLUDES.search(tail):
                return _worked_out(inside)
    sentences = [s for s in re.split(r"(?<=[.!?])\s+|[。！？]|\n", last) if s.strip()]
    sentence = sentences[-1] if sentences else ""
    if not _CONCLUDES.search(sentence):
        return None
    number = _last(_NUMBER, sentence)
    if not number:
        return None
    cue = _CONCLUDES.search(sentence)
    assert cue is not None
    # "Step 5: the rest" is a heading; "In total: 5" concludes.
    if cue.group() in ":：" and cue.start() >= number.end():
        return None
    return number.group()


def _worked_out(formula: str) -> str:
    r"""Return the last side of a calculation such as ``\\sqrt{8} = 2\\sqrt{2}``.

    An equation between names (``y = 2x``) is an answer itself and stays whole.
    """
    head, equals, tail = formula.rpartition("=")
    letters = re.sub(r"\\(?:sqrt|frac|dfrac|tfrac|cdot|times|left|right|pi|[!,;:$% ])", "", head)
    return tail if equals and tail.strip() and not re.search(r"[A-Za-z<>]", letters) else formula


def _narrow(piece: str) -> str:
    """Reduce a piece of a sentence to its formula, or to its number where prose surrounds it."""
    piece = piece.strip().strip("*").strip()
    if not _is_prose(piece):
        first = _NUMBER.match(piece)
        if first and re.search(r"[^\W\d_]{3,}.*[0-9]", piece[first.end() :]) and "\\" not in piece:
            return first.group()  # "60 dollars for 10 jars"
        if first and _ADVERBIAL.fullmatch(piece, first.end()):
            return first.group()  # "720 in a year."
        begin = _MATH.match(piece)
        if begin and re.fullmatch(r"\s*[,;]\s*(?!and\b|or\b)[A-Za-z ]+", piece[begin.end() :]):
            return _first_group(begin)  # "$x$, as wanted"
        return piece
    formula = _MATH.search(piece)
    if formula and re.search(r"[0-9A-Za-z]", _first_group(formula)):
        return _first_group(formula)
    number = _NUMBER.match(piece) or _last(_NUMBER, piece)
    return number.group() if number else piece


_HEDGE = re.compile(
    r"\A[?!:\s]*(?:(?:just|about|only|exactly|approximately|around|roughly)\s+)+(?=[0-9$\\-])"
)
_ADVERBIAL = re.compile(
    r"\s*(?:in|for|at|on|after|over|by|during|of|per|from)(?:\s+[A-Za-z]+){1,8}[\s.]*"
)


def _is_prose(piece: str) -> bool:
    bare = re.sub(r"\\(?:begin|end)\s*\{\w+\*?\}(?:\{[lcr|]*\})?|\\[A-Za-z]+|\$[^$]*\$", " ", piece)
    return len(re.findall(r"[^\W\d_]{2,}", bare)) >= 3


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007 - only the last one is wanted
        pass
    return found


def _first_group(match: re.Match[str]) -> str:
    return next((g for g in match.groups() if g is not None), "")


_FINDERS = (
    ("tag", _tags),
    ("json", _json),
    ("hashes", _hashes),
    ("cue", _cues),
    ("bare", _bare),
    ("conclusion", _conclusion),
)
