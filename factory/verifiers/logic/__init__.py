r"""Verifier of logic tasks: knights and knaves, procedural tasks, options, words, numbers.

Which one it is shows in the gold:

- a mapping with ``names`` and ``statements`` (or ``solution``), or lines such as
  "(1) Ella is a knave": knights and knaves. An assignment counts when it fits every statement.
- a mapping with ``task``, ``answer``, ``metadata``: a procedural task, scored by its own scorer.
- ``(E)``: an option. ``Yes``, ``False``, ``invalid`` …: a word. ``15``: a number. Else a sequence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from factory.records import Item, Verdict
from factory.verifiers import answers
from factory.verifiers.choice.said import answered
from factory.verifiers.logic import extract, knights, tasks

VERSION = 4
DEADLINE_S = 20.0
OPTIONS = ("mode",)
FILE_OPTIONS = {"mode": "auto"}

_OPTION = re.compile(r"\(?([A-Z])\)?")
_LISTED = re.compile(r"^[ \t]*\(?([A-Z])[).:]\s*(\S.*?)\s*$", re.M)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?![\w/!^%°])")
_WORDS = (
    {"yes", "no"}, {"true", "false", "uncertain"}, {"valid", "invalid"},
    {"plausible", "implausible"}, {"possible", "impossible"},
    {"entailment", "contradiction", "neutral"},
)  # fmt: skip
_SAME_WORD = {
    "unknown": "uncertain",
    "undetermined": "uncertain",
    "cannot be determined": "uncertain",
}


def fits_gold(gold: object) -> bool:
    """Tell whether a gold without a verifier is a procedural task or a puzzle with its statements.

    >>> fits_gold('{"task": "chain_sum", "answer": "5", "metadata": {}}'), fits_gold("(E)")
    (True, False)
    """
    found = _structured(gold)
    return isinstance(found, Mapping) and (
        {"task", "metadata"} <= set(found) or {"names", "statements"} <= set(found)
    )


def verify(item: Item, *, mode: str = "boxed") -> Verdict:
    r"""Judge the answer of a logic task.

    Args:
        item: with a gold of one of the forms above (a mapping may be given as its JSON text).
        mode: ``boxed``: only the last box after the thinking counts (for knights and knaves also
            an ``<answer>`` tag, the usual form there); ``auto``: without a box a tag, ``####``,
            "the answer is …" or a short bare answer does, for knights and knaves the last lines.

    >>> verify(Item(text="So \\boxed{(E)}.", gold="(E)")).status
    'pass'
    """
    if mode not in ("boxed", "auto"):
        return Verdict.unscored(f"unknown_mode: {mode}")
    gold = _structured(item.gold)
    if not isinstance(gold, Mapping) and (not isinstance(gold, str) or not gold.strip()):
        return Verdict.unscored("bad_gold", decided_by="gold")
    try:
        puzzle = knights.read_puzzle(gold)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return Verdict.unscored("bad_gold", decided_by="gold")
    if puzzle is not None:
        fault = knights.fault_of(puzzle)
        if fault is not None:
            return Verdict.unscored(f"bad_gold: {fault}", decided_by="gold")
        return _knights(item.answer, puzzle, mode)
    if isinstance(gold, Mapping) and "task" not in gold:
        return Verdict.unscored("bad_gold", decided_by="gold")
    if isinstance(gold, str) and (option := _OPTION.fullmatch(gold.strip())):
        return _option(item, option.group(1), mode)
    raw = extract.answer_of(item.answer, mode=mode)
    if raw is None:
        return Verdict.failed("no_answer", decided_by="extraction")
    if not extract.cleaned(raw) and not extract.bracket_box(item.answer):
        return Verdict.failed("empty_answer", decided_by="extraction", extracted="")
    if isinstance(gold, Mapping):
        return _task(gold, raw)
    return _text(gold.strip(), raw, item)


def as_completion(gold: Any, *, mode: str = "boxed") -> str:
    """Write the gold as a completion that must pass."""
    del mode
    gold = _structured(gold)
    if isinstance(gold, Mapping):
        if "names" in gold and gold.get("solution") is not None:
            lines = [
                f"({i}) {name} is a {'knight' if role else 'knave'}"
                for i, (name, role) in enumerate(
                    zip(gold["names"], gold["solution"], strict=False), 1
                )
            ]
            return "<answer>\n" + "\n".join(lines) + "\n</answer>"
        answer = tasks.example_of(gold)
        # some tasks have many right answers and name none
        return f"\\boxed{{{answer}}}" if answer is not None else ""
    return f"\\boxed{{{gold}}}"


def _structured(gold: Any) -> Any:
    if isinstance(gold, str) and gold.lstrip()[:1] == "{":
        try:
            found = json.loads(gold)
        except (ValueError, RecursionError):
            return gold
        return found if isinstance(found, dict) else gold
    return gold


def _knights(answer: str, puzzle: knights.Puzzle, mode: str) -> Verdict:
    region = extract.boxed(answer)
    if region is None:
        region = answers.tagged(answer)
    is_whole = region is not None
    if region is None and mode == "auto":
        region = answer
    if region is None:
        return Verdict.failed("no_answer", decided_by="extraction")
    text = re.sub(r"\\\\|\\newline", "\n", region)
    found = knights.assignment_of(text, puzzle.names, is_whole=is_whole)
    if isinstance(found, str):
        return Verdict.failed(found, decided_by="statements", extracted=text.strip()[:400])
    shown = ", ".join(
        f"{name}: {'knight' if role else 'knave'}"
        for name, role in zip(puzzle.names, found, strict=True)
    )
    if puzzle.holds(found):
        return Verdict.passed(decided_by="statements", extracted=shown)
    return Verdict.failed("wrong", decided_by="statements", extracted=shown)


def _task(gold: Mapping[str, Any], raw: str) -> Verdict:
    shown = extract.cleaned(raw)
    try:
        fault = tasks.fault_of(json.dumps(gold, default=str))
        if fault is not None:
            return Verdict.unscored(fault, decided_by="scorer")
        score = tasks.score(gold, extract.readings(raw))
    except tasks.NotScored as reason:
        return Verdict.unscored(str(reason), decided_by="scorer", extracted=shown)
    if score is None:
        return Verdict.failed("unparsable", decided_by="scorer", extracted=shown)
    if score >= tasks.PASSES:
        return Verdict.passed(decided_by="scorer", extracted=shown)
    return Verdict.failed("wrong", decided_by="scorer", extracted=shown)


def _text(gold: str, raw: str, item: Item) -> Verdict:
    shown = extract.cleaned(raw)
    word = _word_of(gold)
    if word is not None:
        family = next(words for words in _WORDS if word in words)
        return _verdict(_word_in(shown, family) == word, "word", shown)
    number = _number_of(gold)
    if number is not None:
        return _verdict(_one_number(shown) == number, "number", shown)
    readings = [raw, shown]
    if not re.search(r"\w", gold):  # an answer made of brackets breaks its own box
        readings.append(extract.bracket_box(item.answer) or raw)
    readings.append(re.split(r"(?<=\w)[.!]\s", shown, maxsplit=1)[0])
    same = _sequence(gold) in [_sequence(x) for x in readings]
    return _verdict(same, "sequence", shown)


def _verdict(same: bool, step: str, shown: str) -> Verdict:
    if same:
        return Verdict.passed(decided_by=step, extracted=shown)
    return Verdict.failed("wrong", decided_by=step, extracted=shown)


def _option(item: Item, gold: str, mode: str) -> Verdict:
    """Judge the one option that is chosen: by its letter, or by its text in the prompt."""
    prompt = "\n".join(str(m.get("content") or "") for m in item.messages)
    texts = {str(letter): str(text) for letter, text in _LISTED.findall(prompt)}
    if gold not in texts:
        texts = {chr(65 + i): "" for i in range(26)}
    reading = answered(item.answer, texts, mode)
    shown = reading.letter or extract.cleaned(reading.piece)[:400]
    if reading.letter is not None or shown:
        return _verdict(reading.letter == gold, "option", shown)
    if reading.reason == "empty_box":
        return Verdict.failed("empty_answer", decided_by="extraction", extracted="")
    return Verdict.failed("no_answer", decided_by="extraction")


def _word_of(text: str) -> str | None:
    word = " ".join(text.casefold().split())
    word = _SAME_WORD.get(word, word)
    return word if any(word in words for words in _WORDS) else None


def _word_in(shown: str, family: set[str]) -> str | None:
    """Return the one word of the family that the answer says.

    A word at its front counts by itself ("No, it is not"), unless another one is joined to it.
    """
    text = shown.casefold()
    for other, same in _SAME_WORD.items():
        text = re.sub(rf"\b{other}\b", same, text)
    found = [w for w in re.findall(r"[^\W\d_]+", text) if w in family]
    first = re.match(r"[^\W\d_]+", text)
    if first and first.group() in family:
        rest = text[first.end() :]
        if not re.match(r"\s*[*_`\"']*(?:$|[.,;:!(–—-]|because\b|since\b|as\b)", rest):
            return None
        joined = re.match(r"\W*(?:or|and)?\W*([^\W\d_]+)", rest)
        return None if joined and joined.group(1) in family else first.group()
    denied = re.search(r"\b(?:not|neither|nor|cannot|hardly|never)\b|n['’]t\b", text)
    return found[0] if len(set(found)) == 1 and len(text) <= 200 and not denied else None


def _number_of(text: str) -> Fraction | None:
    compact = text.replace(",", "").replace("\u2212", "-").strip()
    if len(compact) > 60 or not re.fullmatch(r"-?\d+(?:\.\d+)?(?:/[1-9]\d*)?", compact):
        return None
    top, _, bottom = compact.partition("/")
    return Fraction(top) / Fraction(bottom or 1)


def _one_number(shown: str) -> Fraction | None:
    if re.search(r"\b(?:not|neither|nor|cannot|never)\b|n['’]t\b", shown, re.I):
        return None
    found = _NUMBER.findall(shown.replace("\u2212", "-")[:2000])
    return _number_of(found[0]) if len(found) == 1 else None


def _sequence(text: str) -> str:
    """Words in order, or brackets without their spacing."""
    words = text.casefold().replace(",", " ").split()
    joined = " ".join(words)
    return "".join(words) if joined and not re.search(r"\w", joined) else joined
