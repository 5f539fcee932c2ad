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

from factory.verifiers import answers
from factory.verifiers.answers import MAX_ANSWER_CHARS, TAIL_CHARS, Extracted, from_boxes
from factory.verifiers.math.words import number_in_words

_BARE_CHARS = 200
_CLOSING_CHARS = 2000

_SPECIAL = re.compile(r"<(?:\||｜)[^<>|｜]{1,40}(?:\||｜)>(?:user|assistant)?|</?s>")


_HASH_START = re.compile(r"[\s$\\(\[{*-]*[-+−.]?(?:[0-9]|\\|\$)")
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
    text = _SPECIAL.sub("", answer[-TAIL_CHARS:]).strip()
    fenced = _FENCE.match(text)
    text = fenced[1].strip() if fenced else text
    if not text:
        return Extracted((), "none", "no_answer")
    for how, find in _FINDERS:
        found = find(text)
        if found:
            found = _HEDGE.sub("", _QUOTED.sub(r"\1", found.strip().strip("*").strip()))
            found = _without_frame(found.removeprefix("that ").strip())
            if (number := number_in_words(found.casefold().rstrip("."))) is not None:
                found = str(number)
            if len(found) > MAX_ANSWER_CHARS:
                return Extracted((), how, "answer_too_long")
            if found:
                inner = from_boxes(found)
                if inner is not None:
                    return inner
                return Extracted((found,), how)
    return Extracted((), "none", "no_answer")


_SENTENCE = re.compile(
    r"\b(?:is|are|was|were|has|have|therefore|thus|hence|so|then|equals?|must|can)\b"
    r"|\b(?:the|that|which|whose|such)\b(?=(?:\W+\w+){4})",
    re.IGNORECASE,
)


_FENCE = re.compile(r"\A\s*```[a-z]*[ \t]*\n?(.*?)\n?```\s*\Z", re.DOTALL)


_NAMED = re.compile(
    r"\$?[A-Za-z](?:_\w+|\([^()]{1,5}\))?\$?\s+(?:is|equals?|is equal to)\s+(\S.*)", re.DOTALL
)


def _without_frame(found: str) -> str:
    """Take off half a pair of delimiters, and brackets around a whole calculation."""
    for begin, end in (("\\[", "\\]"), ("\\(", "\\)")):
        if found.rstrip(". ").endswith(end) and begin not in found:
            found = found.rstrip(". ")[: -len(end)].strip()
    named = _NAMED.fullmatch(found)
    found = named[1] if named else found
    inside = found.rstrip(". ")
    if inside[:1] == "(" and inside[-1:] == ")" and "=" in inside and inside.count("(") == 1:
        return inside[1:-1]
    return found


def is_sentence(text: str) -> bool:
    """Tell whether a gold is a sentence, which is read, or not scored where it cannot be.

    >>> is_sentence("Therefore, the answer is: 180."), is_sentence("Alice, Bob, Carol and Dave")
    (True, False)
    """
    return len(text) > 15 and len(_words(text)) >= 4 and bool(_SENTENCE.search(text))


def _tags(text: str) -> str | None:
    inside = answers.tagged(text)
    return None if inside is None else _narrow(inside)


def _hashes(text: str) -> str | None:
    found = answers.last(answers.HASHES, text)
    if not found:
        return None
    line = found.group(1).strip()
    # A Markdown heading of level four is no answer.
    if _HASH_START.match(line) or (" " not in line and found.end() >= len(text)):
        return _narrow(line)
    return None


def _cues(text: str) -> str | None:
    found = answers.last_cue(text)
    heading = answers.last(answers.HEADING, text)
    if heading and (not found or heading.end() > found.end()):
        found = heading
    if found and _is_denied(text, found):
        return None
    line = answers.last(_LINE_A, text)
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


def _is_denied(text: str, cue: re.Match[str]) -> bool:
    """Tell whether a cue says that there is no answer: "I cannot say that the answer is 5"."""
    return _DENIED.search(text, max(0, cue.start() - 90), cue.start()) is not None


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
    formula = answers.last(_MATH, last)
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
    number = answers.last(_NUMBER, sentence)
    if not number:
        return None
    said = answers.last_cue(sentence)
    if said and _is_denied(sentence, said):
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
        if _UNSURE.search(piece):
            return piece
        first = _NUMBER.match(piece)
        if first and re.search(r"[^\W\d_]{3,}.*[0-9]", piece[first.end() :]) and "\\" not in piece:
            return first.group()  # "60 dollars for 10 jars"
        if first and _ADVERBIAL.fullmatch(piece, first.end()):
            return first.group()  # "720 in a year."
        begin = _MATH.match(piece)
        if begin and re.fullmatch(r"\s*[,;]\s*(?!and\b|or\b)[A-Za-z ]+", piece[begin.end() :]):
            return _first_group(begin)  # "$x$, as wanted"
        return piece
    if _UNSURE.search(piece):
        return piece
    verb = answers.last(_VERB, piece)
    if verb:
        said = piece[verb.end() :].lstrip(" :")
        behind = _MATH.match(said) or _NUMBER.match(said)
        if behind:
            return _first_group(behind) if behind.re is _MATH else behind.group()
    formula = _MATH.search(piece)
    if formula and re.search(r"[0-9A-Za-z]", _first_group(formula)):
        return _first_group(formula)
    number = _NUMBER.match(piece) or answers.last(_NUMBER, piece)
    return number.group() if number else piece


_VERB = re.compile(
    r"\b(?:is|are|was|were|be|equals?|equal to|gives?|exactly|est|es|ist|é|è)\b|(?:为|是)",
    re.IGNORECASE,
)
_UNSURE = re.compile(r"\b(?:maybe|perhaps|possibly)\b", re.IGNORECASE)
_DENIED = re.compile(
    r"(?:\b(?:cannot|can not|could not|do not|does not|unable|not sure|not certain|unsure"
    r"|doubt|deny|wrong|never|whether|if)\b|n't\b)[^.,;:!?\n]{0,60}\Z",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"\A[\"“]([^\"“”]*)[\"”]\Z")
_HEDGE = re.compile(
    r"\A[?!:\s]*(?:(?:just|about|only|exactly|approximately|around|roughly)\s+)+(?=[0-9$\\-])"
)
_ADVERBIAL = re.compile(
    r"\s*(?:in|for|at|on|after|over|by|during|of|per|from)(?:\s+[A-Za-z]+){1,8}[\s.]*"
)


def _is_prose(piece: str) -> bool:
    return len(_words(piece)) >= 3


def _words(piece: str) -> list[str]:
    """Return the words of a text that stand outside of formulas."""
    bare = re.sub(r"\\(?:begin|end)\s*\{\w+\*?\}(?:\{[lcr|]*\})?|\\[A-Za-z]+|\$[^$]*\$", " ", piece)
    return re.findall(r"[^\W\d_]{2,}", bare)


def _first_group(match: re.Match[str]) -> str:
    return next((g for g in match.groups() if g is not None), "")


_FINDERS = (
    ("tag", _tags),
    ("json", answers.in_json),
    ("hashes", _hashes),
    ("cue", _cues),
    ("bare", _bare),
    ("conclusion", _conclusion),
)
