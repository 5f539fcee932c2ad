"""Answers in words: no solution, names, numbers (math)."""

from __future__ import annotations

import re

_NO_SOLUTION = re.compile(
    r"(?:there (?:is|are) )?(?:no (?:such )?(?:real |integer |positive )?"
    r"(?:solutions?|roots?|values?|answers?)(?: exists?)?|none|(?:the )?(?:empty|null) set"
    r"|has no solutions?|无解|无实数解|无实根|空集)"
)
_NO_LIMIT = re.compile(r"(?:the limit )?(?:d\.?n\.?e\.?|(?:does|do) ?n[o']t exist|不存在)")
_REALS = re.compile(
    r"(?:the set of )?all (?:the )?real(?: number)?s?|all real values|(?:全体|所有|一切)?实数集?"
)
_UNDEFINED = re.compile(r"(?:is )?(?:undefined|not defined|无意义)")
NO_SOLUTION = "no solution"
REALS = "all real numbers"


def word_form(words: str) -> str:
    """Return the one form of an answer in words; phrases that mean the same are the same.

    >>> word_form("No real solutions."), word_form("DNE"), word_form("Navin")
    ('no solution', 'does not exist', 'navin')
    """
    plain = re.sub(r"[\s().]+", " ", words).strip().casefold()
    squeezed = plain.replace(" ", "")
    for pattern, form in (
        (_NO_SOLUTION, NO_SOLUTION),
        (_NO_LIMIT, "does not exist"),
        (_UNDEFINED, "undefined"),
        (_REALS, REALS),
    ):
        if pattern.fullmatch(plain) or _SQUEEZED[form].fullmatch(squeezed):
            return form
    return re.sub(r"^(?:an?|the) (?=\w{3})", "", plain)


def same_words(ours: str, theirs: str) -> bool:
    """Compare two answers in words: names joined by "and" or commas come in any order.

    >>> same_words("Alice and Bob", "Bob, Alice"), same_words("Alice", "Bob")
    (True, False)
    """
    a, b = (
        sorted(word_form(w) for w in re.split(r"\s+(?:and|or)\s+|[,;&、，和]", text) if w.strip())
        for text in (ours, theirs)
    )
    return bool(a) and a == b


_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
    "eighty": 80, "ninety": 90,
}  # fmt: skip


_ORDERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}


def number_in_words(form: str) -> int | None:
    """Return a whole number that is written in words.

    >>> number_in_words("five"), number_in_words("twenty-one"), number_in_words("fife")
    (5, 21, None)
    >>> number_in_words("one hundred and twenty"), number_in_words("two thousand five")
    (120, 2005)
    """
    if len(form) > 120:
        return None
    if form in ("dozen", "a dozen"):
        return 12
    sign = -1 if form.startswith(("negative ", "minus ")) else 1
    words = form.removeprefix("negative ").removeprefix("minus ").replace("-", " ").split()
    if not words or words[0] == "and" or words[-1] == "and":
        return None
    total = part = 0
    last = 10**12
    room = 10**12  # what may still be added to the part: "five two" is no number
    for at, word in enumerate(words):
        if word == "and":
            if words[at - 1] not in _ORDERS:
                return None
        elif word in _ORDERS:
            order = _ORDERS[word]
            if order == 100:
                if not 0 < part < 10:
                    return None
                part, room = part * 100, 100
            else:
                if order >= last or not part:
                    return None
                total, part, last, room = total + part * order, 0, order, 10**12
        else:
            value = _TENS.get(word, _ONES.index(word) if word in _ONES else -1)
            if value < 0 or value >= room or (value == 0 and len(words) > 1):
                return None
            part, room = part + value, 10 if word in _TENS else 0
    return sign * (total + part)


_DOMAINS = tuple(
    (re.compile(pattern), members)
    for pattern, members in (
        (r"positive (?:integer|whole number|natural number)s?|正整数", "bbN*"),
        (r"negative integers?|负整数", "bbZ-"),
        (r"(?:non-?negative|not negative) (?:integer|whole number)s?|非负整数", "bbN_0"),
        (r"(?:non-?zero) (?:integer|whole number)s?|非零整数", "bbZ*"),
        (r"natural(?: number)?s?|自然数", "bbN"),
        (r"(?:integer|whole number)s?|整数", "bbZ"),
        (r"positive(?: real(?: number)?s?| numbers?)?|正(?:实)?数", "bbR>0"),
        (r"negative(?: real(?: number)?s?| numbers?)?|负(?:实)?数", "bbR-"),
        (r"non-?negative(?: real(?: number)?s?| numbers?)?|非负(?:实)?数", "bbR>=0"),
        (r"non-?zero(?: real(?: number)?s?| numbers?)?|非零(?:实)?数", "bbR*"),
        (r"rational(?: number)?s?|有理数", "bbQ"),
        (r"real(?: number)?s?|实数", "bbR"),
        (r"complex(?: number)?s?|复数", "bbC"),
    )
)
_AROUND_DOMAIN = re.compile(
    r"\b(?:for|where|with|when|whenever|such that|provided|given|as|is|are|being|be|an?|the|any"
    r"|every|each|all|some|arbitrary|of|that|belongs? to|can|set)\b|[\s.,:()]+"
    r"|其中|当|因为|为|是|任意|的|一个"
)


def domain_said(words: str) -> str | None:
    """Return the set of numbers that words name, and nothing else; None where they do not.

    >>> domain_said("where"), domain_said("is a positive integer"), domain_said("is odd integer")
    (None, 'bbN*', None)
    """
    if len(words) > 120:
        return None
    plain = " ".join(_AROUND_DOMAIN.sub(" ", words.casefold()).split())
    for pattern, members in _DOMAINS if plain else ():
        if pattern.fullmatch(plain):
            return members
    return None


def _without_spaces(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(pattern.pattern.replace(" ?", "").replace(" ", ""))


_SQUEEZED = {
    NO_SOLUTION: _without_spaces(_NO_SOLUTION),
    "does not exist": _without_spaces(_NO_LIMIT),
    "undefined": _without_spaces(_UNDEFINED),
    REALS: _without_spaces(_REALS),
}
"""The same for texts whose spaces are gone (``text_key``)."""
