"""Where the answer of a logic task stands in a completion."""

from __future__ import annotations

import itertools
import re

from factory.verifiers import answers

_COMMAND = re.compile(rf"\\(?:{answers.STYLES})\s*\{{([^{{}}]*)\}}")
_SPACING = re.compile(r"\\[ ,;:!]|\\quad|\\qquad|~|\$|\\\(|\\\)|\\\[|\\\]")
_MAX_ANSWER_CHARS = 20_000
_SHORT = 80
_ONE_WORD = re.compile(r"[\s*_`$\"']*-?\w[\w,./-]{0,30}[\s*_`$\"'!]*")


def boxed(text: str) -> str | None:
    r"""Return the content of the last ``\boxed{}``, boxes in a row joined by commas.

    Returns '' where it is empty or never closed, None without a box.

    >>> boxed(r"\boxed{A} no, \boxed{\text{B}}"), boxed("none"), boxed(r"\boxed{")
    ('\\text{B}', None, '')
    >>> boxed(r"\boxed{1} and \boxed{2}")
    '1, 2'
    """
    found = answers.from_boxes(text, max_chars=_MAX_ANSWER_CHARS)
    return None if found is None else ", ".join(found.parts)


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
    for _ in range(4):
        bare = text.strip().strip("*_`\"'“”").strip()
        bare = bare.rstrip(".。").rstrip() if not bare.endswith("...") else bare
        if bare == text:
            break
        text = bare
    return text


def answer_of(answer: str, *, mode: str) -> str | None:
    r"""Return what the answer half gives as its answer, raw; '' for an empty box, None for nothing.

    Args:
        answer: the half after the thinking.
        mode: ``boxed``: a box and nothing else; ``auto``: a box, else a tag, ``####``, the last
            "the answer is …", else the whole of it where it is short, else a last or first line of
            one word.

    >>> answer_of("So the answer is (E).", mode="auto"), answer_of("So it is (E).", mode="boxed")
    ('(E).', None)
    """
    answer = answers.own_text(answer)
    box = boxed(answer)
    if box is not None or mode == "boxed":
        return box
    text = answer[-_MAX_ANSWER_CHARS:]
    for told in (answers.tagged(text), answers.in_json(text)):
        if told is not None:
            cued = next((piece for _, piece in answers.cues(told)), None)
            return (cued or told).strip()
    hashes = answers.last(answers.HASHES, text)
    if hashes is not None:
        return hashes.group(1).strip()
    for _, piece in itertools.islice(answers.cues(text), 8):
        if piece.strip():
            return piece.strip()
    whole = answer.strip()
    if len(whole) <= _SHORT and "\n" not in whole:
        return whole or None
    lines = whole.splitlines()
    return next((line for line in (lines[-1], lines[0]) if _ONE_WORD.fullmatch(line)), None)


_THOUSANDS = re.compile(r"[-\u2212]?\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?:\.\d+)?")


def readings(raw: str) -> list[str]:
    r"""Return an answer as it stands, and without its dress, for a scorer that compares text.

    >>> readings(r"\text{1,234}"), readings(r"x = 5")
    (['\\text{1,234}', '1,234', '1234'], ['x = 5'])
    """
    shown = cleaned(raw)
    out = [raw, shown]
    if _THOUSANDS.fullmatch(shown):
        out.append(re.sub(r"[^\d.\u2212-]", "", shown))
    out += [x.replace("\u2212", "-") for x in out if "\u2212" in x]
    return list(dict.fromkeys(out))
