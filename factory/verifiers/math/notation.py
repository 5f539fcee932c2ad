r"""Notations of other countries and keyboards, written as plain LaTeX (math).

``]0, 1[``, ``1.234,5``, ``12'345``, ``0.333...``, ``0.(3)``, ``\$5``, ``①②``: each has one reading
only, and becomes the form that the grammar knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from factory.verifiers.math.words import number_in_words

_MONEY = re.compile(r"\s*(\\\$|\$|€|£)\s*(-?[0-9][0-9.,]*)\s*")
_CURRENCY = {"\\$": "dollar", "$": "dollar", "€": "euro", "£": "gbp"}
_POINTS = re.compile(r"(?<![0-9.,])([1-9][0-9]{0,2}(?:\.[0-9]{3}){2,})(?:,([0-9]+))?(?![0-9.,])")
_POINT_COMMA = re.compile(r"(?<![0-9.,])([1-9][0-9]{0,2}(?:\.[0-9]{3})+),([0-9]+)(?![0-9.,])")
_APOSTROPHES = re.compile(r"(?<![0-9'])[1-9][0-9]{0,2}(?:['’][0-9]{3})+(?![0-9'])")
_DOTTED = re.compile(
    r"([0-9]*)\.([0-9]{2,40})\s*(?:\.\.\.|\\[lc]?dots(?![a-z])|…)\s*$", re.IGNORECASE
)
_IN_BRACKETS = re.compile(r"(?<![0-9.])([0-9]+\.[0-9]*)\(([0-9]{1,20})\)(?![0-9.^!(])")
_FRENCH = re.compile(r"([\[\]])(\s*[^\[\](),;]+[,;][^\[\](),;]+)([\[\]])")
_SPEED = re.compile(r"([0-9}])\s*((?:[kcm]?m|mi|k?g)/(?:s|h|hr|min|mol|kg)(?:\^\{?[23]\}?)?)\s*$")
_EXCEPT = re.compile(
    r"\s*(?:\\text\s*\{)?\s*(?:the set of )?all (?:the )?reals?(?: numbers?| values)?(?: of)?"
    r"\s*\}?\s*\$?[a-z]?\$?\s*(?:\\text\s*\{)?\s*,?\s*(?:except|other than)"
    r"(?: for| when| that)?\s*\}?\s*(?:[a-z]\s*=)?\s*"
    r"([^{}a-z]+|\\[dt]?frac\s*\{[^{}]*\}\s*\{[^{}]*\})\}?\s*",
    re.IGNORECASE,
)
_BASED = re.compile(
    r"\s*(?:\\(?:text|mathrm)\s*\{\s*)?((?=[0-9A-Fa-f]*[0-9])[0-9A-Fa-f]*[A-Fa-f][0-9A-Fa-f]*)\s*\}?"
    r"\s*_\s*\{?\s*(1[1-6])\s*\}?\s*"
)
_TIMES_TEN = re.compile(r"(?<=[0-9])\s*[xX]\s*(?=10\s*(?:\^|\*\*))")
_MAGNITUDE = re.compile(
    r"[\\$£€\s]*(-?[0-9]{1,3}\.[0-9]{1,2})((?:\\[ ,;]|~|\s)*(?:\\(?:text|mathrm)\s*\{)?\s*"
    r"(?:thousand|million|billion|trillion)s?\s*(?:dollars?|people)?\s*\}?)?\s*",
    re.IGNORECASE,
)


def same_in_its_magnitude(gold: str, answer: str, question: str = "") -> bool:
    """Tell whether one side is the other without its "million".

    Only for a decimal such as the bare 1.5 of "1.5 million": that the question counts in millions
    is known where the gold says it, or the question itself.

    >>> same_in_its_magnitude("1.5 million", "1.5"), same_in_its_magnitude("5 million", "5")
    (True, False)
    >>> [same_in_its_magnitude("1.5", "1.5 million", q) for q in ("", "How many millions?")]
    [False, True]
    """
    a, b = _MAGNITUDE.fullmatch(gold), _MAGNITUDE.fullmatch(answer)
    if a is None or b is None or (a[2] is None) == (b[2] is None):
        return False
    if a[2] is None and re.sub("[^a-z]", "", _ILLION.search(b[2])[0].lower()) not in question:  # type: ignore[index]
        return False
    return (
        a[1].rstrip("0") == b[1].rstrip("0") and abs(float(a[1])) >= 1 and not a[1].endswith(".0")
    )


_INDEXED = re.compile(
    r"(-?[0-9][0-9A-Fa-f]*)(?:_|\(?inbase)\{?\(?([0-9]{1,2}|[a-z]+)\)*\}?", re.ASCII
)
_BASES = {"binary": 2, "ternary": 3, "octal": 8, "hexadecimal": 16}
_ASKED = re.compile(r"\bbase[\s$\\({-]*([0-9]{1,2}|[a-z]+)|\b(" + "|".join(_BASES) + r")\b")


def same_in_its_base(gold: str, answer: str, question: Callable[[], str]) -> bool:
    """Tell whether two whole numbers have the same digits and one of them does not say its base.

    Digits are of base ten unless the question asks for another: it names the gold's base, or the
    answer's and no other.

    Args:
        gold: as ``text_key`` writes it.
        answer: likewise.
        question: gives it in small letters; a long prompt is read only where the digits agree.

    >>> for question in ("", "give it in base $8$", "binary to octal"):
    ...     same_in_its_base("52_8", "52", lambda: question)
    False
    True
    True
    >>> for question in ("", "give it in base $8$", "octal to base 5"):
    ...     same_in_its_base("52", "52_8", lambda: question)
    False
    True
    False
    """
    ours, theirs = _indexed(gold), _indexed(answer)
    if (ours is None) == (theirs is None):
        return False
    digits, base = ours or theirs or ("", 0)
    if digits.lower() != (answer if ours else gold).lower():
        return False
    asked = {_base(a) if a else _BASES[b] for a, b in _ASKED.findall(question())}
    return base == 10 or asked == {base} or (ours is not None and base in asked)


def _indexed(key: str) -> tuple[str, int] | None:
    """Return the digits and the base of a number that says it; None where it is none."""
    found = _INDEXED.fullmatch(key)
    base = _base(found[2]) if found else None
    if found is None or base is None or not 2 <= base <= 36:
        return None
    digits = found[1].lstrip("-")
    return (found[1], base) if all(int(d, 36) < base for d in digits) else None


def _base(text: str) -> int | None:
    return int(text) if text.isdigit() else number_in_words(text)


_ILLION = re.compile("thousand|[a-z]+illion", re.IGNORECASE)
_CIRCLED = re.compile("[①-⑳]")


def in_plain_notation(text: str) -> str:
    r"""Write a dialect's signs in plain LaTeX; any other text stays as it is.

    >>> in_plain_notation("]0, 1["), in_plain_notation("1.234,5"), in_plain_notation("0.1666...")
    ('(0, 1)', '1234.5', '0.1\\overline{6}')
    """
    if "$" in text or "€" in text or "£" in text:
        money = _MONEY.fullmatch(text)
        if money:
            return f"{money[2].rstrip('.,')} \\text{{{_CURRENCY[money[1]]}}}"
    if "except" in text or "other than" in text:
        text = _EXCEPT.sub(r"\\mathbb{R}\\setminus\\{\1\\}", text)
    if "_" in text and (based := _BASED.fullmatch(text)):
        text = f"{based[1].upper()}_{{{based[2]}}}"
    if "x" in text or "X" in text:
        text = _TIMES_TEN.sub(r"\\times ", text)
    if "." in text:
        text = _DOTTED.sub(_repeating, text)
        text = _IN_BRACKETS.sub(r"\1\\overline{\2}", text)
        if "," in text:
            text = _POINT_COMMA.sub(lambda m: m[1].replace(".", "") + "." + m[2], text)
        text = _POINTS.sub(lambda m: m[1].replace(".", ""), text)
    if "'" in text or "’" in text:
        text = _APOSTROPHES.sub(lambda m: re.sub("['’]", "", m.group()), text)
    if "]" in text or "[" in text:
        text = _with_round_ends(text)
    if "/" in text:
        text = _SPEED.sub(r"\1 \\text{\2}", text)
    if not text.isascii():
        # The numbers of statements: a set whose members are names, not values.
        text = _CIRCLED.sub(lambda m: f",S_{{{ord(m.group()) - 0x245F}}},", text)
    return text


def _repeating(found: re.Match[str]) -> str:
    """Read an ellipsis after digits that repeat; any other ellipsis stays what it is."""
    whole, digits = found[1], found[2]
    for period in range(1, len(digits) // 2 + 1):
        times = 3 if period == 1 else 2
        tail = digits[-period:]
        if len(digits) >= times * period and digits.endswith(tail * times):
            begin = len(digits) - times * period
            while begin and digits[begin - 1] == digits[begin - 1 + period]:
                begin -= 1
            cycle = digits[begin : begin + period]
            return f"{whole or '0'}.{digits[:begin]}\\overline{{{cycle}}}"
    return found.group()


def _with_round_ends(text: str) -> str:
    """Write ``]a, b[`` as ``(a, b)`` where the brackets can only be meant so."""
    signs = re.findall(r"[\[\]]", text)
    if "(" in text or len(signs) % 2 or not (signs[0] == "]" or signs[-1] == "["):
        return text
    return _FRENCH.sub(
        lambda m: ("(" if m[1] == "]" else "[") + m[2] + (")" if m[3] == "[" else "]"), text
    )
