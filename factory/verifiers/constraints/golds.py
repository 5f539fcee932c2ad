"""Golds of verifiable instructions that ask nothing, or what no text can do (constraints)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from factory.verifiers.constraints.checks import CHECKS, languages

Instruction = tuple[str, dict[str, Any]]

_BLANK = {
    "startend:end_checker": "end_phrase",
    "combination:repeat_prompt": "prompt_to_repeat",
    "detectable_format:multiple_sections": "section_spliter",
    "detectable_content:postscript": "postscript_marker",
    "keywords:frequency": "keyword",
}
_AT_LEAST = {
    "detectable_content:number_placeholders": "num_placeholders",
    "detectable_format:number_highlighted_sections": "num_highlights",
    "detectable_format:multiple_sections": "num_sections",
}
# instruction → its count, its relation, the smallest count that a text can have
_COMPARED = {
    "length_constraints:number_sentences": ("num_sentences", "relation", 1),
    "length_constraints:number_words": ("num_words", "relation", 1),
    "keywords:frequency": ("frequency", "relation", 0),
    "keywords:letter_frequency": ("let_frequency", "let_relation", 0),
    "change_case:capital_word_frequency": ("capital_frequency", "capital_relation", 0),
}
_EXACT = {
    "length_constraints:number_paragraphs": "num_paragraphs",
    "detectable_format:number_bullet_lists": "num_bullets",
    "length_constraints:nth_paragraph_first_word": "num_paragraphs",
}
_CAPITAL, _SMALL = "change_case:english_capital", "change_case:english_lowercase"


def fault_of(instructions: Sequence[Instruction]) -> str | None:
    """Tell what is wrong with a gold: an instruction that asks nothing, or ones that exclude.

    Raises:
        TypeError, ValueError: an argument is of another type than its instruction takes.

    >>> fault_of([("length_constraints:number_words", {"relation": "at least", "num_words": 0})])
    'vacuous: length_constraints:number_words'
    >>> fault_of([("change_case:english_capital", {}), ("change_case:english_lowercase", {})])
    'contradictory: change_case:english_capital, change_case:english_lowercase'
    """
    for name, kwargs in instructions:
        found = _fault_of_one(name, kwargs)
        if found:
            return f"{found}: {name}"
    for index, one in enumerate(instructions):
        for other in instructions[index + 1 :]:
            if _exclude(one, other) or _exclude(other, one):
                return f"contradictory: {one[0]}, {other[0]}"
    return None


def _fault_of_one(name: str, kwargs: dict[str, Any]) -> str | None:
    blank = _BLANK.get(name)
    if blank and not kwargs[blank].strip():
        return "vacuous"
    for words in ("keywords", "forbidden_words"):
        if words in kwargs and not (kwargs[words] and all(w.strip() for w in kwargs[words])):
            return "vacuous"
    if name == "keywords:letter_frequency" and len(kwargs["letter"].strip()) != 1:
        return "unreadable"
    if name in _AT_LEAST and kwargs[_AT_LEAST[name]] <= 0:
        return "vacuous"
    if name in _COMPARED:
        count, relation, least = _COMPARED[name]
        if kwargs[relation] == "at least" and kwargs[count] <= 0:
            return "vacuous"
        if kwargs[relation] == "less than" and kwargs[count] <= least:
            return "impossible"
    if name in _EXACT and kwargs[_EXACT[name]] < (0 if name.endswith("bullet_lists") else 1):
        return "impossible"
    if name == "length_constraints:nth_paragraph_first_word" and (
        not 1 <= kwargs["nth_paragraph"] <= kwargs["num_paragraphs"]
        or len(kwargs["first_word"].split()) != 1
    ):
        return "impossible"
    if name == "language:response_language":
        return None if kwargs["language"].lower().split("-")[0] in languages() else "unreadable"
    return None


def _exclude(one: Instruction, other: Instruction) -> bool:
    """Tell whether no text can follow both."""
    (name, kwargs), (name2, kwargs2) = one, other
    if name == _CAPITAL and name2 == _SMALL:
        return True
    if name in (_CAPITAL, _SMALL) and name2 == "language:response_language":
        return str(kwargs2["language"]).lower().split("-")[0] != "en"
    if name == _SMALL and name2 == "change_case:capital_word_frequency":
        return bool(kwargs2["capital_relation"] == "at least")
    if name == name2 and name in _EXACT:
        return bool(kwargs[_EXACT[name]] != kwargs2[_EXACT[name]])
    if name == name2 and name in _COMPARED:
        count, relation, _ = _COMPARED[name]
        same = all(kwargs[k] == kwargs2[k] for k in kwargs if k not in (count, relation))
        is_range = (kwargs[relation], kwargs2[relation]) == ("at least", "less than")
        return bool(same and is_range and kwargs[count] >= kwargs2[count])
    if _forbids(other):
        # more text never mends what a piece of it has broken
        return any(not CHECKS[name2](piece, **kwargs2) for piece in _demanded(one))
    return False


def _forbids(instruction: Instruction) -> bool:
    name, kwargs = instruction
    if name in ("keywords:forbidden_words", "punctuation:no_comma"):
        return True
    is_counted = name in ("length_constraints:number_words", "keywords:frequency")
    if is_counted or name == "keywords:letter_frequency":
        return bool(kwargs[_COMPARED[name][1]] == "less than")
    return False


def _demanded(instruction: Instruction) -> Iterator[str]:
    """Yield pieces of text that every text that follows an instruction holds."""
    name, kwargs = instruction
    if name == "keywords:existence":
        yield from kwargs["keywords"]
    elif name == "keywords:frequency" and kwargs["relation"] == "at least":
        yield " ".join([kwargs["keyword"]] * min(int(kwargs["frequency"]), 1000))
    elif name in ("startend:end_checker", "combination:repeat_prompt"):
        yield kwargs[_BLANK[name]]
    elif name == "length_constraints:nth_paragraph_first_word":
        yield kwargs["first_word"]
