r"""Choice: the option letter of an answer against a gold letter, for 2 to 26 options.

One letter is an answer; two different ones are none. The last box after the thinking decides
(``\boxed{B}``, ``\boxed{\text{(B)}}``, ``\boxed{B. Paris}``). Mode ``auto`` also reads tags,
"the answer is (B)", a last line that is an option, and, where the option texts are known, an
answer that repeats exactly one of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from factory.records import Item, Verdict

VERSION = 1
OPTIONS = ("mode", "options")
DEFAULT_N_OPTIONS = 10
_MAX_CHARS = 20_000
_MAX_ANSWER = 2048

_FULL_WIDTH = {0xFF21 + i: 0x41 + i for i in range(26)} | {0xFF41 + i: 0x61 + i for i in range(26)}
_FULL_WIDTH |= {ord("（"): ord("("), ord("）"): ord(")"), ord("："): ord(":"), ord("．"): ord(".")}
_WRAP = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textrm|rm|bf|mathsf|operatorname)\s*(?=\{)")
_LETTER = re.compile(
    r"[\s\"'*_`$({\[]*(?:(?:option|choice|answer|选项|选择)\s*[:：]?\s*)?[\s\"'*_`$({\[]*"
    r"([A-Za-z])(?![A-Za-z])[\s\"'*_`$)}\]]*",
    re.IGNORECASE,
)
_AFTER = re.compile(r"[\s*_`$)}\]\"']*(?:[.:)、，,\]-]|\s-|$)[\s*]*")
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_CUE = re.compile(
    r"(?:\banswers?(?: choice)?(?: is|:|=| would be)|\bchoose|\bpick|\bselect"
    r"|\bcorrect (?:option|choice)(?: is|:)?|答案(?:是|为|选|：|:)?|故选|应选|选择?)\s*[:：]?\s*"
    r"(?:for sure |definitely |clearly |option |choice )?[\s\"'*_`$({\[]*"
    r"(?:\\(?:text|mathrm|textbf|mathbf)\s*\{)?[\s(]*([A-Za-z])(?![A-Za-z'’])",
    re.IGNORECASE,
)
_NAMED = re.compile(r"([A-Z])\s+[A-Z][^\n]*$")
_TAG_CLOSE = re.compile(r"</(answer|output|final_answer|final)>", re.IGNORECASE)
_OTHERS = re.compile(
    r"(?:\band\b|\bor\b|,|/|;|、|和|或|与|&|\+)\s*[\"'*_`$({\[]*([A-Z])(?![A-Za-z'’])"
)


def verify(item: Item, *, mode: str = "boxed", options: Any = None) -> Verdict:
    r"""Judge an option letter; case does not matter.

    Args:
        item: its gold is a letter, or the text of one of ``options``.
        mode: ``boxed`` or ``auto`` (see the module).
        options: texts of the options in order, or letter → text; None: A to J without texts.

    >>> verify(Item(text=r"so \boxed{\text{(B)}}", gold="B")).status
    'pass'
    >>> verify(Item(text=r"\boxed{A, B, C, D}", gold="B")).reason
    'several_options'
    """
    if mode not in ("boxed", "auto"):
        return Verdict.unscored(f"unknown_mode: {mode}")
    texts = _texts(options)
    if texts is None:
        return Verdict.unscored("options_unreadable")
    gold = _gold(item.gold, texts)
    if gold is None:
        return Verdict.unscored("gold_unparsable" if item.gold else "gold_empty")
    answer = item.answer[-_MAX_CHARS:].translate(_FULL_WIDTH)
    found = _boxed(answer)
    if found is None and mode == "auto":
        found = _said(answer, texts)
    if found is None:
        reason = "no_box" if mode == "boxed" else "no_answer"
        return Verdict.failed(reason, decided_by="extract")
    if not found.strip():
        return Verdict.failed("empty_box", decided_by="extract")
    letter, reason = _letter(found, texts)
    shown = found.strip()[:200]
    if letter is None:
        return Verdict.failed(reason, decided_by="extract", extracted=shown)
    if letter == gold:
        return Verdict.passed(decided_by="letter", extracted=letter)
    return Verdict.failed("wrong", decided_by="letter", extracted=letter)


quick = verify


def as_completion(gold: Any, *, mode: str = "boxed", options: Any = None) -> str:
    r"""Write the gold as a completion.

    >>> as_completion("C")
    'The answer is $\\boxed{C}$.'
    """
    del mode
    texts = _texts(options)
    letter = _gold(gold, texts) if texts is not None else None
    return f"The answer is $\\boxed{{{letter or ''}}}$."


def _texts(options: Any) -> dict[str, str] | None:
    """Return letter → text of the options; empty texts where only the number is known."""
    if options is None:
        return {chr(65 + i): "" for i in range(DEFAULT_N_OPTIONS)}
    if isinstance(options, Mapping):
        named = {str(k).strip().strip("().").upper(): str(v) for k, v in options.items()}
        return named if named and all(re.fullmatch("[A-Z]", k) for k in named) else None
    if isinstance(options, Sequence) and not isinstance(options, str) and 2 <= len(options) <= 26:
        return {
            chr(65 + i): re.sub(rf"^\(?{chr(65 + i)}[).:]\s*", "", str(text).strip())
            for i, text in enumerate(options)
        }
    if isinstance(options, int) and not isinstance(options, bool) and 2 <= options <= 26:
        return {chr(65 + i): "" for i in range(options)}
    return None


def _gold(gold: Any, texts: Mapping[str, str]) -> str | None:
    if not isinstance(gold, str):
        return None
    plain = _unwrapped(gold.translate(_FULL_WIDTH)).strip()
    letter, _ = _letter(plain, texts)
    if letter is None and (said := _said(plain, texts)) is not None:
        plain = said.strip()
        letter, _ = _letter(plain, texts)
    if letter is None and (named := _NAMED.match(plain)) and named.group(1) in texts:
        return named.group(1)  # "C Cecile": letter and name, as some sources write their golds
    return letter


def _unwrapped(text: str) -> str:
    return _WRAP.sub("", text).replace("\\(", "").replace("\\)", "").replace("\\boxed", "")


def _letter(found: str, texts: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the one option that an extracted piece names, or why there is none."""
    plain = _unwrapped(found).strip()
    same = _by_text(plain, texts)
    if same is not None:
        return same, ""
    match = _LETTER.match(plain)
    if not match or match.group(1).upper() not in texts:
        return None, "no_option"
    letter = match.group(1).upper()
    rest = plain[match.end() :]
    others = {m.group(1) for m in _OTHERS.finditer(rest if rest[:1] in ",/;、&+" else " " + rest)}
    listed = re.findall(r"(?<![A-Za-z])([A-Z])(?![A-Za-z'’])", rest) if len(rest) <= 40 else []
    more = ({o for o in others if o in texts} | {x for x in listed if x in texts}) - {letter}
    if more and _by_text(rest, texts) != letter and not _explains(rest):
        return None, "several_options"
    if rest.strip() and not _AFTER.match(plain, match.end(1)):
        return None, "no_option"
    return letter, ""


def _explains(rest: str) -> bool:
    """Tell whether what follows is a sentence ("D. it can't be A or B") and no list."""
    return len(re.findall(r"[A-Za-z]{2,}", rest)) >= 2 and bool(re.match(r"\W*[a-zA-Z]{2,}", rest))


def _by_text(piece: str, texts: Mapping[str, str]) -> str | None:
    """Return the option whose text a piece repeats; None unless it is exactly one."""
    wanted = _normal(piece)
    if len(wanted) < 2:
        return None
    hits = [letter for letter, text in texts.items() if text and _normal(text) == wanted]
    return hits[0] if len(hits) == 1 else None


def _normal(text: str) -> str:
    return re.sub(r"[\s\"'*`$.{}\\]+", " ", _unwrapped(text)).strip().casefold()


def _boxed(answer: str) -> str | None:
    """Return what the last box holds; an unterminated one holds nothing."""
    at = None
    for match in _BOX.finditer(answer):
        at = match
    if at is None:
        return None
    depth = 1
    for i in range(at.end(), min(len(answer), at.end() + _MAX_ANSWER)):
        depth += (answer[i] == "{") - (answer[i] == "}")
        if depth == 0:
            return answer[at.end() : i]
    return ""


def _said(answer: str, texts: Mapping[str, str]) -> str | None:
    text = answer.strip()
    for close in reversed(list(_TAG_CLOSE.finditer(text))):
        begin = text.rfind(f"<{close.group(1)}>", 0, close.start())
        if begin >= 0:
            return text[begin + len(close.group(1)) + 2 : close.start()]
    cues = list(_CUE.finditer(text))
    if cues:
        last = cues[-1]
        line = text[last.start(1) :].split("\n", 1)[0]
        return re.split(r"(?<=[.!?。])\s|[。，]", line, maxsplit=1)[0][:_MAX_ANSWER]
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    for line in (lines[-1], lines[0]):
        plain = _unwrapped(line).strip()
        match = _LETTER.match(plain)
        if (
            match
            and match.group(1).upper() in texts
            and (match.end() >= len(plain) or re.match(r"[).:、]|\*", plain[match.end(1) :]))
            and (match.group(1).isupper() or len(plain) <= 4)
        ):
            return line
        if _by_text(plain, texts) is not None:
            return line
    return None
