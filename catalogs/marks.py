"""What is marked in a trace: mixed languages, loops, tags of other formats, the answer taken out.

Offsets come from the scores and verdicts that the store holds; nothing is measured again.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from factory.dialects import DIALECTS, END_TOKENS, split, split_reasoning, strip_end

SHOWN_CHARS = 400_000
"""Longer halves are cut in the middle; the raw text is a link away."""
_TAGS = {m for d in DIALECTS.values() for m in (*d.think, *(d.answer or ())) if m}
_TAGS |= {*END_TOKENS, "<|im_start|>", "<|start_header_id|>", "<|end_header_id|>"}
_TAG = re.compile("|".join(re.escape(t) for t in sorted(_TAGS, key=len, reverse=True)))
_MATH = re.compile(
    r"\$\$.{1,4000}?\$\$|\\\[.{1,4000}?\\\]|\\\(.{1,2000}?\\\)|\$[^$\n]{1,400}\$", re.DOTALL
)


class Mark(NamedTuple):
    """Characters ``begin`` to ``end`` of a trace's text, and what is to be said of them."""

    begin: int
    end: int
    kind: str
    says: str


class Piece(NamedTuple):
    """A stretch of text under the same marks; ``kind`` names them, apart by spaces."""

    text: str
    kind: str
    says: str


@dataclass(frozen=True)
class Half:
    """The thinking or the answer, in pieces.

    Attributes:
        pieces: all of it, in order.
        n_chars: its length.
        n_cut: characters that are left out in the middle.
        counts: kind of mark → how many.
    """

    pieces: list[Piece]
    n_chars: int
    n_cut: int
    counts: dict[str, int]


def halves(text: str, row: Mapping[str, Any]) -> tuple[Half, Half]:
    """Return thinking and answer with their marks.

    Args:
        text: prefill and completion.
        row: the trace's row of ``wide``.

    >>> row = {"extracted": "4", "mixed_spans": '[[2,4,"zh"]]'}
    >>> thinking, answer = halves("<think>I 所以 add</think>So \\\\boxed{4}", row)
    >>> [p for p in thinking.pieces if p.kind]
    [Piece(text='所以', kind='mixed', says='zh')]
    >>> [p.text for p in answer.pieces if p.kind]
    ['\\\\boxed{4}']
    """
    found = split(text)
    begin, end = _where(text, found.reasoning)
    marks = _mixed(text, row) + _loop(row) + _foreign(text, found.dialect)
    tail = text[end:]
    own = DIALECTS[found.dialect].think[1] if found.dialect else ""
    after = end + (len(own) if own and tail.startswith(own) else 0) if found.reasoning else 0
    if not found.reasoning and own and own in text:  # an empty thinking
        after = text.rfind(own) + len(own)
    while after < len(text) and text[after] in "\r\n":  # blank lines before an answer say nothing
        after += 1
    answer = _answer(text, after, row)
    marks += [answer] if answer else []
    return _half(text, begin, end, marks), _half(text, after, len(text), marks)


def _where(text: str, reasoning: str) -> tuple[int, int]:
    begin = text.find(reasoning) if reasoning else 0
    return begin, begin + len(reasoning)


def _mixed(text: str, row: Mapping[str, Any]) -> list[Mark]:
    """Spans of the language score: offsets in the reasoning, or in all where that is blank."""
    reasoning, answer = split_reasoning(text)
    offset = 0
    if reasoning.strip():
        closed = len(reasoning) + len(answer) < len(text) and "</think>" in text
        offset = len(text) - len(answer) - len(reasoning) - (len("</think>") if closed else 0)
    try:
        spans = orjson.loads(row.get("mixed_spans") or "[]")
        return [Mark(offset + int(b), offset + int(e), "mixed", str(lang)) for b, e, lang in spans]
    except (ValueError, TypeError):  # another score's column of that name
        return []


def _loop(row: Mapping[str, Any]) -> list[Mark]:
    begin, size = row.get("loop_start"), row.get("loop_chars")
    if not isinstance(begin, int) or not isinstance(size, int):
        return []
    copies, period = row.get("loop_copies"), row.get("loop_period_chars")
    says = f"loop: {copies:.0f} times {period} characters" if copies and period else "loop"
    return [Mark(begin, begin + size, "loop", says)]


def _foreign(text: str, dialect: str | None) -> list[Mark]:
    """Tags of other formats than the trace's own; those that end it are no mistake."""
    own = DIALECTS[dialect] if dialect else None
    mine = {*own.think, *(own.answer or ())} if own else set()
    mine |= {"<answer>", "</answer>"} if dialect in ("think", "think_answer") else set()
    stop = len(strip_end(text).text)
    return [
        Mark(m.start(), m.end(), "tag", "a tag of another format")
        for m in _TAG.finditer(text, 0, stop)
        if m[0] not in mine
    ]


def _answer(text: str, begin: int, row: Mapping[str, Any]) -> Mark | None:
    """Where the extracted answer stands, as near as its text says."""
    extracted = row.get("extracted")
    if not isinstance(extracted, str) or not extracted.strip():
        return None
    for wanted in (f"\\boxed{{{extracted}}}", extracted):
        at = text.rfind(wanted, begin)
        if at >= 0:
            return Mark(at, at + len(wanted), "answer", "what the verifier took out")
    at = text.rfind("\\boxed{", begin)
    if at < 0:
        return None
    end, depth = at + len("\\boxed{"), 1
    while end < len(text) and depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return Mark(at, end, "answer", "the last box")


def _half(text: str, begin: int, end: int, marks: Sequence[Mark]) -> Half:
    inside = [
        m._replace(begin=max(m.begin, begin), end=min(m.end, end))
        for m in marks
        if m.begin < end and m.end > begin
    ]
    counts: dict[str, int] = {}
    for mark in inside:
        counts[mark.kind] = counts.get(mark.kind, 0) + 1
    n_cut = max(0, end - begin - SHOWN_CHARS)
    if not n_cut:
        return Half(_pieces(text, begin, end, _whole_formulas(text, begin, end, inside)),
                    end - begin, 0, counts)  # fmt: skip
    first, last = begin + SHOWN_CHARS // 2, end - SHOWN_CHARS // 2
    gap = Piece(f"\n[… {n_cut:,} characters left out …]\n", "gap", "")
    pieces = [*_pieces(text, begin, first, inside), gap, *_pieces(text, last, end, inside)]
    return Half(pieces, end - begin, n_cut, counts)


def _whole_formulas(text: str, begin: int, end: int, marks: list[Mark]) -> list[Mark]:
    """Widen marks to the formula that they stand in: half a formula cannot be typeset.

    A loop is far longer than its formulas and stays as it is.
    """
    small = [m for m in marks if m.kind != "loop"]
    if not small:
        return marks
    out = [m for m in marks if m.kind == "loop"]
    spans = [m.span() for m in _MATH.finditer(text, begin, end)]
    at = 0
    for mark in sorted(small):
        while at < len(spans) and spans[at][1] <= mark.begin:
            at += 1
        if at < len(spans) and spans[at][0] < mark.end:
            mark = mark._replace(
                begin=min(mark.begin, spans[at][0]), end=max(mark.end, spans[at][1])
            )
        out.append(mark)
    return out


def _pieces(text: str, begin: int, end: int, marks: Sequence[Mark]) -> list[Piece]:
    cuts = {begin, end}
    for mark in marks:
        cuts |= {min(max(mark.begin, begin), end), min(max(mark.end, begin), end)}
    edges = sorted(cuts)
    waiting = sorted(marks)
    active: list[Mark] = []
    out = []
    for left, right in itertools.pairwise(edges):
        while waiting and waiting[0].begin <= left:
            active.append(waiting.pop(0))
        active = [m for m in active if m.end > left]
        kinds = dict.fromkeys(m.kind for m in active)
        says = "; ".join(dict.fromkeys(m.says for m in active))
        out.append(Piece(text[left:right], " ".join(kinds), says))
    return out
