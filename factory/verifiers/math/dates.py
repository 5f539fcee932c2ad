"""Answers that are times of day or dates (math)."""

from __future__ import annotations

import re

_CLOCK = re.compile(
    r"([0-9]{1,2})(?:(?:\{:\}|:)([0-5][0-9])(?::([0-5][0-9]))?)?"
    r"(?:([ap])\.?(?:m\.?)?|(noon|midnight)|(?:o'?clock))?(?:\(?(?:in the )?[a-z]*\)?)?",
    re.IGNORECASE,
)
_NAMED = {"noon": "12:00pm", "midday": "12:00pm", "midnight": "12:00am"}


def same_time(ours: str, theirs: str) -> bool | None:
    """Compare two times of day in ``text_key`` form; None where they are no such thing.

    Two plain numbers around a colon are a ratio, unless a minute has a leading zero.

    >>> same_time("3:30PM", "3:30a.m."), same_time("15:30", "3:30pm"), same_time("1:2", "2:4")
    (False, True, None)
    >>> same_time("10a.m.", "10:00am"), same_time("12:00noon", "12:00PM"), same_time("5", "5:00")
    (True, True, None)
    """
    a, b = (_CLOCK.fullmatch(_NAMED.get(t.lower(), t)) for t in (ours, theirs))
    if a is None or b is None:
        return None
    for clock in (a, b):
        if clock[2] is None and clock[4] is None:
            return None
    if not (_half(a) or _half(b) or a[3] or b[3] or (a[2] or "0")[0] == (b[2] or "0")[0] == "0"):
        return None
    if (a[2] or "00", a[3] or "00") != (b[2] or "00", b[3] or "00"):
        return False
    return bool(_hours(a) & _hours(b))


def _half(clock: re.Match[str]) -> str:
    if clock[5]:
        return "p" if clock[5].lower() == "noon" else "a"
    return (clock[4] or "").lower()


def _hours(clock: re.Match[str]) -> set[int]:
    hour, half = int(clock[1]), _half(clock)
    if not half:
        return {hour, hour + 12} if 0 < hour < 12 else {hour % 24, 12 if hour == 12 else hour % 24}
    return {hour % 12 + (12 if half == "p" else 0)}


_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_MONTH = "|".join(f"{m[:3]}(?:{m[3:]})?" for m in _MONTHS)
_DATE = re.compile(
    rf"(?:on )?(?:(?P<weekday>[a-z]+day),? )?(?:the )?"
    rf"(?:(?P<month>{_MONTH})\.? (?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?"
    rf"|(?P<day2>[0-9]{{1,2}})(?:st|nd|rd|th)? (?:of )?(?P<month2>{_MONTH})\.?)"
    rf"(?:,? (?P<year>[0-9]{{4}}))?",
    re.IGNORECASE,
)
_ISO = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")


def same_date(ours: str, theirs: str) -> bool | None:
    """Compare two dates in words; None where one is no date.

    >>> same_date("March 5, 2024", "5 March 2024"), same_date("March 5", "March 6th")
    (True, False)
    """
    a, b = _date(ours), _date(theirs)
    if a is None or b is None:
        return None
    return a[1:] == b[1:] and (a[0] == b[0] or None in (a[0], b[0]))


def _date(text: str) -> tuple[int | None, int, int] | None:
    plain = " ".join(text.replace("\\", " ").split()).strip(" .")
    iso = _ISO.fullmatch(plain)
    if iso:
        return int(iso[1]), int(iso[2]), int(iso[3])
    found = _DATE.fullmatch(plain)
    if not found:
        return None
    name = (found["month"] or found["month2"])[:3].lower()
    month = next(n for n, m in enumerate(_MONTHS, 1) if m.startswith(name))
    year = int(found["year"]) if found["year"] else None
    return year, month, int(found["day"] or found["day2"])
