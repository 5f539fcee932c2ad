r"""Math: the final answer of a completion against a gold, by a cascade whose steps are recorded.

Steps, cheapest first (``decided_by``): ``extract`` (there is no answer to judge), ``number``
(two plain numbers, exactly), ``text`` (the same normal form), ``type`` (a tuple is no number),
``value`` (our grammar: structures, exact rationals, many digits), ``caps`` (too big, malformed or
unevaluated: not given to sympy), ``sympy`` (math-verify, both ways round) and, where an option
asks for it, ``second_opinion`` (math-verify on what our grammar decided). All but the last are
bounded and run in the caller's process; ``verify`` runs in a pool worker that the parent kills at
the deadline, because no library's own time limit holds off the main thread.

Model text is never given to ``eval``, ``sympify`` or ``parse_expr``; sizes are capped before any
parser sees it.
"""

from __future__ import annotations

import contextlib
import functools
import re
from fractions import Fraction
from typing import Any

from factory.records import Item, Verdict
from factory.verifiers import answers
from factory.verifiers.math import dates, extract, words
from factory.verifiers.math import symbolic as last
from factory.verifiers.math import text as texts
from factory.verifiers.math.named import exclude, names_in
from factory.verifiers.math.nodes import Node, ParseError, UndefinedError
from factory.verifiers.math.notation import same_in_its_base, same_in_its_magnitude
from factory.verifiers.math.parse import parse
from factory.verifiers.math.plain import kind_of, simplify
from factory.verifiers.math.results import result_of
from factory.verifiers.math.same import same
from factory.verifiers.math.same_conditions import UnsureError
from factory.verifiers.math.value import is_huge, is_undefined

VERSION = 9
OPTIONS = ("mode", "truncated", "second_opinion")
FILE_OPTIONS = {"mode": "auto"}
FITS_ANY_GOLD = True
# A fresh worker spends seconds on importing sympy; the comparison itself has 0.8 s of CPU.
DEADLINE_S = 30.0
MEMORY_BYTES = 512 << 20
MAX_PARSED_CHARS = 512

_NO_GOLD = re.compile(
    r"(?:see\b|refer\b|proof\b|proved\b|omitted|n/?a$|nan$|null$|unknown$|tbd$|todo|not (?:given"
    r"|available|found)|图略|略$|见解析|证明略|如图)|\?+$",
    re.IGNORECASE,
)


def verify(
    item: Item, *, mode: str = "boxed", truncated: str = "fail", second_opinion: str = "off"
) -> Verdict:
    r"""Judge a completion.

    Args:
        item: its gold is text (LaTeX or plain) or a number.
        mode: ``boxed``: only the last box after the thinking counts; ``auto``: without a box,
            ``####``, "the answer is …", tags and a short bare answer count too.
        truncated: ``unscored`` where an answer that is missing because our own length limit
            ended the completion shall not count against it.
        second_opinion: what math-verify may change of our own grammar's verdict, under the same
            caps and limits: nothing (``off``); ``agree``: a pass by value stands only where it
            agrees, and is unscored otherwise; ``lift``: what we hold wrong passes where it holds
            both the same, both ways round.

    >>> verify(Item(text=r"so \boxed{\frac{1}{2}}", gold="0.5")).status
    'pass'
    """
    if second_opinion not in _OPINIONS:
        return Verdict.unscored(f"unknown_option: second_opinion={second_opinion}")
    verdict = _cascade(item, mode=mode, truncated=truncated)
    if verdict is not None and not _is_asked_again(verdict, second_opinion):
        return verdict
    gold = _gold(_gold_text(item.gold) or "")
    parts = _extracted(item, mode).parts
    if verdict is None:
        return _by_sympy(gold, parts, ", ".join(parts))
    return _by_second_opinion(verdict, gold, parts)


def quick(
    item: Item, *, mode: str = "boxed", truncated: str = "fail", second_opinion: str = "off"
) -> Verdict | None:
    """Judge by the steps that are safe and cheap; None where they do not settle it."""
    verdict = _cascade(item, mode=mode, truncated=truncated)
    if second_opinion not in _OPINIONS:
        return None  # ``verify`` names it
    if verdict is not None and _is_asked_again(verdict, second_opinion):
        return None
    return verdict


_OPINIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "off": ("", ()), "agree": ("pass", ("value",)), "lift": ("fail", ("value", "type")),
}  # fmt: skip
"""Option → the status and the deciding steps that are asked about again."""


def _is_asked_again(verdict: Verdict, second_opinion: str) -> bool:
    status, steps = _OPINIONS[second_opinion]
    return verdict.status == status and verdict.decided_by in steps


def _by_second_opinion(first: Verdict, gold: tuple[str, ...], parts: tuple[str, ...]) -> Verdict:
    if any(last.too_big(_joined(side)) for side in (gold, parts)):
        return first
    is_same = last.compare(_joined(gold), _joined(parts)) == "equal"
    if is_same == (first.status == "pass"):
        return first
    if is_same:
        return Verdict.passed(decided_by="second_opinion", extracted=first.extracted)
    return Verdict.unscored(
        "second_opinion_differs", decided_by="second_opinion", extracted=first.extracted
    )


def _cascade(item: Item, *, mode: str, truncated: str) -> Verdict | None:
    if mode not in ("boxed", "auto"):
        return Verdict.unscored(f"unknown_mode: {mode}")
    if truncated not in ("fail", "unscored"):
        return Verdict.unscored(f"unknown_option: truncated={truncated}")
    gold_text = _gold_text(item.gold)
    if gold_text is None:
        return Verdict.unscored("gold_empty")
    gold = _gold(gold_text)
    if not gold:
        return Verdict.unscored("gold_unparsable")
    found = _extracted(item, mode)
    if found.error and truncated == "unscored" and item.finish_reason == "length":
        return Verdict.unscored("truncated", decided_by="extract")
    if found.error:
        return Verdict.failed(found.error, decided_by="extract")
    shown = ", ".join(found.parts)
    if len(found.parts) == 1 and len(gold) == 1:
        ours, theirs = _number(gold[0]), _number(found.parts[0])
        if ours is not None and theirs is not None:
            if ours == theirs:
                return Verdict.passed(decided_by="number", extracted=shown)
            if not ("," in gold[0] and "," in shown):  # 100,200,300 may be three numbers
                return Verdict.failed("wrong", decided_by="number", extracted=shown)
    ours_text, theirs_text = _gold_keys(gold), _keys(found.parts)
    if ours_text == theirs_text:
        return Verdict.passed(decided_by="text", extracted=shown)
    is_single = len(ours_text) == 1 and len(theirs_text) == 1
    verdict = _by_words(gold[0], shown) if is_single else None
    if is_single and same_in_its_base(min(ours_text), min(theirs_text), lambda: _question(item)):
        verdict = Verdict.passed(decided_by="text", extracted=shown)
    if verdict is None and len(shown) > MAX_PARSED_CHARS:
        return Verdict.failed("answer_too_long", decided_by="extract", extracted=shown[:200])
    if verdict is None and (named := _named(gold)) and exclude(named, names_in(shown)):
        verdict = Verdict.failed("wrong", decided_by="text", extracted=shown)
    verdict = verdict or _by_value(gold, found.parts, shown) or _by_caps(gold, found.parts, shown)
    if is_single and verdict is not None and verdict.status == "fail":
        question = _question(item) if "illion" in shown else ""
        if same_in_its_magnitude(gold[0], shown, question):
            return Verdict.passed(decided_by="value", extracted=shown)
    if verdict is not None and verdict.status == "fail" and extract.is_sentence(gold_text):
        return Verdict.unscored(
            "gold_is_a_sentence", decided_by=verdict.decided_by, extracted=shown
        )
    return verdict


def _question(item: Item) -> str:
    return "".join(str(m.get("content")) for m in item.messages).lower()


@functools.lru_cache(maxsize=8192)
def _named(gold: tuple[str, ...]) -> dict[int, frozenset[int]]:
    return names_in(", ".join(gold))


def _by_words(gold: str, shown: str) -> Verdict | None:
    """Settle answers in words, options with their letters, times and dates."""
    ours, theirs = texts.word_list(gold), texts.word_list(shown)
    ours_key, theirs_key = (texts.text_key(texts.ascii_form(t)) for t in (gold, shown))
    word, other = texts.word_of(ours_key), texts.word_of(theirs_key)
    is_same: bool | None = None
    if word is not None and other is not None:
        is_same = word == other or words.same_words(texts.in_words(gold), texts.in_words(shown))
    elif ours is not None and theirs is not None:
        is_same = words.same_words(ours, theirs) or None
    if is_same is None:
        option = _by_option(gold, shown)
        if option is not None:
            return option
        is_same = dates.same_time(ours_key, theirs_key)
    if is_same is None:
        is_same = dates.same_date(texts.in_words(gold), texts.in_words(shown))
    if is_same is None:
        return None
    if is_same:
        return Verdict.passed(decided_by="text", extracted=shown)
    return Verdict.failed("wrong", decided_by="text", extracted=shown)


def clear_caches() -> None:
    """Forget the golds and answers that were read, so that the next one costs what a first does."""
    _gold.cache_clear()
    _gold_keys.cache_clear()
    _named.cache_clear()
    _parsed.cache_clear()


def as_completion(
    gold: Any, *, mode: str = "boxed", truncated: str = "fail", second_opinion: str = "off"
) -> str:
    r"""Write the gold as a completion that must pass.

    >>> as_completion("1/2")
    'The answer is $\\boxed{1/2}$.'
    """
    del mode, truncated, second_opinion
    text = _gold_text(gold) or ""
    if "\\boxed" in text:
        return text
    return f"The answer is $\\boxed{{{texts.without_delimiters(text)}}}$."


def _extracted(item: Item, mode: str) -> answers.Extracted:
    answer = answers.own_text(item.answer)
    found = answers.from_boxes(answer)
    if found is None:
        if mode != "auto":
            return answers.Extracted((), "none", "no_box")
        found = extract.from_text(texts.western_digits(answer))
    if not found.parts or (len(found.parts) == 1 and found.parts[0][:1].isalnum()):
        return found
    return found._replace(parts=tuple(texts.undressed(part) for part in found.parts))


def _gold_text(gold: Any) -> str | None:
    """Return a gold's text; None where there is none or it is no text or number."""
    if isinstance(gold, bool) or not isinstance(gold, str | int | float):
        return None
    text = str(gold).strip()
    return text or None


@functools.lru_cache(maxsize=8192)
def _gold(text: str) -> tuple[str, ...]:
    """Return the parts of a gold; empty where it is none (a pointer to a figure, an empty box)."""
    if _NO_GOLD.match(text) or len(text) > answers.MAX_ANSWER_CHARS:
        return ()
    boxes = answers.from_boxes(text)
    if boxes is not None:
        return tuple(texts.undressed(part) for part in boxes.parts)
    if "####" in text:
        text = text.rpartition("####")[2].strip()
    if extract.is_sentence(text):
        said = extract.from_text(texts.western_digits(text))
        if said.parts and said.how not in ("bare", "tag", "json"):
            return said.parts
    if text.count("{") - text.count("\\{") != text.count("}") - text.count("\\}"):
        return ()
    text = texts.undressed(texts.without_delimiters(text))
    return (text,) if re.search(r"\w", text) else ()


def _number(text: str) -> str | None:
    number = texts.plain_number(text if text.isascii() else texts.ascii_form(text))
    if number is None and text[:1].isalpha() and "\\" not in text:
        in_words = words.number_in_words(text.strip().rstrip(".").casefold())
        return None if in_words is None else str(in_words)
    return number


@functools.lru_cache(maxsize=8192)
def _gold_keys(gold: tuple[str, ...]) -> frozenset[str]:
    return _keys(gold)


def _keys(parts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(texts.text_key(texts.ascii_form(p)) for p in parts)


def _by_value(gold: tuple[str, ...], parts: tuple[str, ...], shown: str) -> Verdict | None:
    """Compare by our own grammar: structures, then exact or many-digit values."""
    ours, theirs = _parsed(gold), _parse_parts(parts)
    if ours is None or theirs is None:
        return None
    try:
        equal = same(ours, theirs)
        if equal is False and ours[0] != "rel":
            result = result_of(theirs)
            equal = same(ours, result) if result is not None else equal
    except UnsureError:
        return Verdict.unscored("conditions_not_compared", decided_by="value", extracted=shown)
    step = "value"
    if equal is False:
        step = "value" if kind_of(simplify(ours)) == kind_of(simplify(theirs)) else "type"
        if any("," in p for p in (*gold, *parts)):
            equal = _by_other_commas(gold, parts)
    if equal is None:
        return None
    if equal:
        return Verdict.passed(decided_by="value", extracted=shown)
    return Verdict.failed("wrong", decided_by=step, extracted=shown)


def _by_other_commas(gold: tuple[str, ...], parts: tuple[str, ...]) -> bool | None:
    """Try the other readings of a comma: between items where it could group digits, decimal."""
    if any(_ZERO_GROUP.search(part) for part in (*gold, *parts)):
        return False  # 120,000 is no list of 120 and 000
    ours, theirs = _parse_parts(gold, thousands=False), _parse_parts(parts, thousands=False)
    if ours is not None and theirs is not None and {ours[0], theirs[0]} <= {"list", "set"}:
        return same(ours, theirs)
    for one, other in ((gold, parts), (parts, gold)):
        written = texts.without_delimiters(one[0]) if len(one) == 1 else ""
        comma = _DECIMAL_COMMA.fullmatch(written)
        number = _parse_parts(other)
        if comma and number is not None and number[0] == "num":
            return bool(number[1] == Fraction(f"{comma.group(1)}.{comma.group(2)}"))
    return False


_ZERO_GROUP = re.compile(r",0[0-9]{2}(?![0-9])")
_DECIMAL_COMMA = re.compile(r"(-?[0-9]{1,9}),([0-9]{1,9})\s*\\?[$€£%]?")


@functools.lru_cache(maxsize=8192)
def _parsed(parts: tuple[str, ...]) -> Node | None:
    return _parse_parts(parts)


def _parse_parts(parts: tuple[str, ...], *, thousands: bool = True) -> Node | None:
    try:
        nodes = [parse(_worked_out(texts.ascii_form(p)), thousands=thousands) for p in parts]
    except ParseError:
        return None
    return nodes[0] if len(nodes) == 1 else ("list", tuple(nodes))


_OPTION = re.compile(
    r"\s*(?:\\(?:text|textbf|mathrm|mathbf|textrm|bf|rm)\s*\{\s*)?\(?([A-J])(?:\)\s*\}|\}\s*[).:]|\)|[.:]\s)"
    r"(?:\\[ ,:;]|~|\s|\\q?quad)*([^\s].*?)\}?\s*",
)


def _by_option(gold: str, answer: str) -> Verdict | None:
    r"""Compare where a side gives an option with its letter: ``\textbf{(D)}\ 12`` is D and 12."""
    ours, theirs = _OPTION.fullmatch(gold), _OPTION.fullmatch(answer)
    if (ours is None) == (theirs is None):
        return None
    labelled, plain = (ours, answer) if ours else (theirs, gold)
    assert labelled is not None
    letter = texts.word_of(texts.text_key(texts.ascii_form(plain)))
    if letter is not None and len(letter) == 1:
        is_same = letter == labelled[1].lower()
    else:
        value = _by_value((labelled[2],), (plain,), answer)
        if value is None:
            return None
        is_same = value.status == "pass"
    if is_same:
        return Verdict.passed(decided_by="text", extracted=answer)
    return Verdict.failed("wrong", decided_by="text", extracted=answer)


def _worked_out(text: str) -> str:
    r"""Return the result of a true calculation, as in ``6 \times 7 = 42``; else the text itself."""
    if text.count("=") != 1 or not _CALCULATION.fullmatch(text):
        return text
    for work, result in ((0, 1), (1, 0)):
        sides = text.split("=")
        number = texts.plain_number(texts.without_delimiters(sides[result]).strip())
        if number is not None and re.search(r"[0-9}]\s*[-+*/^\\]", sides[work]):
            with contextlib.suppress(ParseError):
                if parse(sides[work]) == ("num", Fraction(number)):
                    return number
    return text


_CALCULATION = re.compile(
    r"(?:[-0-9+*/^=.,(){}\[\]\s$!]|\\(?:times|cdot|div|[dt]?frac|sqrt|left|right|[,!; ]))+"
)


def _by_sympy(gold: tuple[str, ...], parts: tuple[str, ...], shown: str) -> Verdict:
    """Compare what the grammar does not know by math-verify."""
    parsable = _parsed(gold) is not None
    outcome = last.compare(_joined(gold), _joined(parts))
    if outcome == "equal":
        return Verdict.passed(decided_by="sympy", extracted=shown)
    if outcome == "gold_unparsable" and not parsable:
        return Verdict.unscored("gold_unparsable", decided_by="sympy", extracted=shown)
    if outcome.startswith("checker_") and _is_ours(gold, parts):
        return Verdict.unscored(outcome, decided_by="sympy", extracted=shown)
    reason = "wrong" if outcome in ("different", "gold_unparsable") else outcome
    return Verdict.failed(reason, decided_by="sympy", extracted=shown)


def _is_ours(gold: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Tell whether it is the gold that the comparison could not work out, and not the answer."""
    hard = _parsed(gold) is None or last.is_unevaluated(_joined(gold))
    easy = _parse_parts(parts) is not None and not last.is_unevaluated(_joined(parts))
    return hard and easy


def _by_caps(gold: tuple[str, ...], parts: tuple[str, ...], shown: str) -> Verdict | None:
    """Settle what is not given to sympy: too big, malformed, or still to be worked out."""
    ours, theirs = _joined(gold), _joined(parts)
    node, gold_node = _parse_parts(parts), _parsed(gold)
    if last.too_big(theirs) or (node is not None and is_huge(node)):
        return Verdict.failed("answer_too_big", decided_by="caps", extracted=shown)
    parsable = gold_node is not None
    if last.too_big(ours) or (gold_node is not None and is_huge(gold_node)):
        if parsable:
            return Verdict.failed("wrong", decided_by="caps", extracted=shown)
        return Verdict.unscored("gold_unparsable", decided_by="caps", extracted=shown)
    if parsable and (_divides_by_zero(parts) if node is None else is_undefined(node)):
        return Verdict.failed("undefined", decided_by="caps", extracted=shown)
    if not parsable and last.leaves_out(theirs, ours):
        if last.words_beyond(ours, theirs):
            return Verdict.failed("wrong", decided_by="caps", extracted=shown)
        return Verdict.unscored("gold_unparsable", decided_by="caps", extracted=shown)
    if (node is None and last.is_malformed(theirs)) or last.leaves_out(ours, theirs):
        return Verdict.failed("unparsable", decided_by="caps", extracted=shown)
    if last.is_unevaluated(theirs) and not last.is_unevaluated(ours):
        return Verdict.failed("unevaluated", decided_by="caps", extracted=shown)
    return None


def _divides_by_zero(parts: tuple[str, ...]) -> bool:
    try:
        for part in parts:
            parse(texts.ascii_form(part))
    except UndefinedError:
        return True
    except ParseError:
        pass
    return False


def _joined(parts: tuple[str, ...]) -> str:
    return ", ".join(texts.without_delimiters(texts.ascii_form(p)) for p in parts)
