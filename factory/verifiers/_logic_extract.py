"""Where the answer of a logic task stands in a completion."""

from __future__ import annotations

import re

_TAG = re.compile(r"<\s*(answer|output|solution)\s*>(.*?)<\s*/\s*\1\s*>", re.I | re.S)
_PHRASE = re.compile(
    r"(?:^|\W)(?:(?:final|correct|right)\s+answer|answer|conclusion)\b\**\s*(?:is|are|[:=：])\**\s*[:：]?"
    r"[ \t]*(\S[^\n]*)",
    re.I,
)
_PHRASE_ZH = re.compile(r"(?:最终)?答案(?:是|为|[:：])[:：]?\s*(\S[^\n]*)")
_HASHES = re.compile(r"^####[ \t]*(\S.*)$", re.M)
_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|operatorname|mbox)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\[ ,;:!]|\\quad|\\qquad|~|\$|\\\(|\\\)|\\\[|\\\]")
_MAX_ANSWER_CHARS = 20_000
_SHORT = 80


def last_box(text: str) -> str | None:
    r"""Return the content of the last ``\boxed{}``; '' where it is empty or never closed.

    >>> last_box(r"\boxed{A} no, \boxed{\text{B}}"), last_box("none"), last_box(r"\boxed{")
    ('\\text{B}', None, '')
    """
    start = max(text.rfind("\\boxed{"), text.rfind("\\boxed {"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    begin = text.index("{", start) + 1
    depth = 1
    for i in range(begin, min(len(text), begin + _MAX_ANSWER_CHARS)):
        char = text[i]
        if char == "{" and text[i - 1] != "\\":
            depth += 1
        elif char == "}" and text[i - 1] != "\\":
            depth -= 1
            if depth == 0:
                return text[begin:i].strip()
    return ""


def bracket_box(text: str) -> str | None:
    r"""Return the last box of an answer that is itself made of brackets.

    Its own braces need not match, so the box ends at the last brace of its line.

    >>> bracket_box(r"$\boxed{) } >}$.")
    ') } >'
    """
    start = max(text.rfind("\\boxed{"), text.rfind("\\boxed {"))
    if start < 0:
        return None
    line = text[text.index("{", start) + 1 :].split("\n", 1)[0]
    end = line.rfind("}")
    return line[:end].strip() if end >= 0 else ""


def cleaned(text: str) -> str:
    r"""Take off the dress of LaTeX and Markdown.

    >>> cleaned(r"$\text{(E)}$."), cleaned("**Yes**")
    ('(E)', 'Yes')
    """
    for _ in range(4):
        bare = _COMMAND.sub(r"\1", text)
        if bare == text:
            break
        text = bare
    text = _SPACING.sub(" ", text).replace("\\{", "{").replace("\\}", "}").replace("\\%", "%")
    text = text.strip().strip("*_`\"'“”").strip()
    return text.rstrip(".。").rstrip() if not text.endswith("...") else text


def answer_of(answer: str, *, mode: str) -> str | None:
    r"""Return what the answer half gives as its answer, raw; '' for an empty box, None for nothing.

    Args:
        answer: the half after the thinking.
        mode: ``boxed``: a box and nothing else; ``auto``: a box, else a tag, ``####``, the last
            "the answer is …", else the whole of it where it is short.

    >>> answer_of("So the answer is (E).", mode="auto"), answer_of("So it is (E).", mode="boxed")
    ('(E).', None)
    """
    box = last_box(answer)
    if box is not None or mode == "boxed":
        return box
    tagged = _TAG.findall(answer)
    if tagged:
        return str(tagged[-1][1]).strip()
    for pattern in (_HASHES, _PHRASE, _PHRASE_ZH):
        found = pattern.findall(answer[-_MAX_ANSWER_CHARS:])
        if found:
            return str(found[-1]).strip()
    whole = answer.strip()
    if whole and len(whole) <= _SHORT and "\n" not in whole:
        return whole
    return None
