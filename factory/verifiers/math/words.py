"""Answers in words: no solution, days of the week, times of day (math)."""

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


def number_in_words(form: str) -> int | None:
    """Return a number below one hundred that is written as a word.

    >>> number_in_words("five"), number_in_words("twenty-one"), number_in_words("fife")
    (5, 21, None)
    """
    if form in _ONES:
        return _ONES.index(form)
    tens, _, ones = form.replace("-", " ").partition(" ")
    if tens not in _TENS:
        return None
    if not ones:
        return _TENS[tens]
    return _TENS[tens] + _ONES.index(ones) if ones in _ONES[1:10] else None


def _without_spaces(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(pattern.pattern.replace(" ?", "").replace(" ", ""))


_SQUEEZED = {
    NO_SOLUTION: _without_spaces(_NO_SOLUTION),
    "does not exist": _without_spaces(_NO_LIMIT),
    "undefined": _without_spaces(_UNDEFINED),
    REALS: _without_spaces(_REALS),
}
"""The same for texts whose spaces are gone (``text_key``)."""

_CLOCK = re.compile(
    r"([0-9]{1,2}):([0-5][0-9])(?::([0-5][0-9]))?([ap])?\.?(?:m\.?)?(?:o'?clock)?", re.IGNORECASE
)


def same_time(ours: str, theirs: str) -> bool | None:
    """Compare two times of day in ``text_key`` form; None where they are no such thing.

    Two plain numbers around a colon are a ratio, unless a minute has a leading zero.

    >>> same_time("3:30PM", "3:30a.m."), same_time("15:30", "3:30pm"), same_time("1:2", "2:4")
    (False, True, None)
    """
    a, b = _CLOCK.fullmatch(ours), _CLOCK.fullmatch(theirs)
    if a is None or b is None:
        return None
    if not (a[4] or b[4] or a[3] or b[3] or a[2][0] == b[2][0] == "0"):
        return None
    if a.group(2, 3) != b.group(2, 3):
        return False
    x, y = _hours(a), _hours(b)
    return bool(x & y)


def _hours(clock: re.Match[str]) -> set[int]:
    hour = int(clock[1])
    if clock[4] is None:
        return {hour, hour + 12} if 0 < hour < 12 else {hour % 24, 12 if hour == 12 else hour % 24}
    return {hour % 12 + (12 if clock[4].lower() == "p" else 0)}
