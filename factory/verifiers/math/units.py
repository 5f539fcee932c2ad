"""Units of measure: what they measure and how big they are (math)."""

from __future__ import annotations

import re

UNITS: dict[str, tuple[str, float]] = {
    "mm": ("length", 1e-3), "cm": ("length", 1e-2), "dm": ("length", 0.1), "km": ("length", 1e3),
    "meter": ("length", 1.0), "metre": ("length", 1.0), "m": ("length", 1.0),
    "centimeter": ("length", 1e-2), "centimetre": ("length", 1e-2), "kilometer": ("length", 1e3),
    "kilometre": ("length", 1e3), "millimeter": ("length", 1e-3),
    "inch": ("inch", 1.0), "inche": ("inch", 1.0), "in": ("inch", 1.0),
    "foot": ("inch", 12.0), "feet": ("inch", 12.0), "ft": ("inch", 12.0),
    "yard": ("inch", 36.0), "yd": ("inch", 36.0), "mile": ("inch", 63360.0),
    "mi": ("inch", 63360.0),
    "mg": ("mass", 1e-6), "g": ("mass", 1e-3), "gram": ("mass", 1e-3), "kg": ("mass", 1.0),
    "kilogram": ("mass", 1.0), "pound": ("pound", 16.0), "lb": ("pound", 16.0),
    "oz": ("pound", 1.0),
    "ounce": ("pound", 1.0), "s": ("time", 1.0), "sec": ("time", 1.0), "second": ("time", 1.0),
    "min": ("time", 60.0), "minute": ("time", 60.0), "h": ("time", 3600.0), "hr": ("time", 3600.0),
    "hour": ("time", 3600.0), "day": ("time", 86400.0), "week": ("time", 604800.0),
    "ml": ("volume", 1e-3), "mL": ("volume", 1e-3), "l": ("volume", 1.0), "L": ("volume", 1.0),
    "liter": ("volume", 1.0), "litre": ("volume", 1.0), "cent": ("money", 0.01),
    "dollar": ("money", 1.0), "usd": ("money", 1.0), "euro": ("euro", 1.0), "gbp": ("gbp", 1.0),
    "degc": ("celsius", 1.0), "degf": ("fahrenheit", 1.0), "degk": ("kelvin", 1.0),
    "degree": ("angle", 1.0), "radian": ("radian", 1.0), "rad": ("radian", 1.0),
    "percent": ("pct", 1.0),
}  # fmt: skip
"""Unit → what it measures, and its size in that measure's base unit."""
_CHINESE = {
    "毫米": "mm", "厘米": "cm", "公分": "cm", "分米": "dm", "千米": "km", "公里": "km", "米": "m",
    "英里": "mile", "英尺": "ft", "英寸": "inch", "毫克": "mg", "千克": "kg", "公斤": "kg",
    "克": "g", "毫升": "ml", "升": "l", "小时": "hour", "分钟": "min", "秒": "s", "天": "day",
    "周": "week", "美元": "dollar", "美分": "cent", "欧元": "euro", "英镑": "gbp", "摄氏度": "degc",
}  # fmt: skip
_SCALES = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "百": 100, "千": 1000, "万": 10**4, "百万": 10**6, "亿": 10**8,
}  # fmt: skip


def scale_of(unit: str) -> int:
    """Return the number that a unit's first word stands for; 1 where it is none.

    >>> scale_of("million dollars"), scale_of("cm")
    (1000000, 1)
    """
    words = unit.split()
    return _SCALES.get(words[0].lower(), 1) if words else 1


def unit_factor(a: str, b: str) -> float | None:
    """Return how many of unit b one unit a is; None where they measure different things.

    A word that is no known unit ("apples") says nothing and counts as the same.

    >>> unit_factor("cm", "m"), unit_factor("cm", "kg"), unit_factor("apples", "m")
    (0.01, None, 1.0)
    """
    if a == b:
        return 1.0
    ours, theirs = _measure(a), _measure(b)
    if ours is None or theirs is None:
        return 1.0
    if ours[0] != theirs[0]:
        return None
    return ours[1] / theirs[1]


def _measure(unit: str) -> tuple[str, float] | None:
    """Return what a unit measures and its size: ``cm ^2`` → length^2, 1e-4."""
    dimensions: dict[str, int] = {}
    size = 1.0
    sign = 1
    text = unit.lower().replace("square ", "^2 ").replace("cubic ", "^3 ").replace(" per ", "/")
    if not text.isascii():
        plain = text.strip().removeprefix("平方").removeprefix("立方")
        raised = {"平": "^2 ", "立": "^3 "}.get(text.strip()[:1], "")
        text = (raised if plain != text.strip() else "") + _CHINESE.get(plain, "?")
    pending = 1
    last: tuple[str, float] | None = None
    for part in re.findall(r"[a-z]+|\^ ?-?[0-9]+|/", text):
        if part == "/":
            sign = -1
        elif part.startswith("^"):
            power = int(part[1:])
            if last is None:
                pending = power
            elif abs(power) <= 6:
                dimensions[last[0]] = dimensions.get(last[0], 0) + sign * (power - 1)
                size *= last[1] ** (sign * (power - 1))
        else:
            found = UNITS.get(part) or UNITS.get(part.removesuffix("s"))
            if found is None:
                return None
            last = found
            if abs(pending) > 6:
                return None
            dimensions[found[0]] = dimensions.get(found[0], 0) + sign * pending
            size *= found[1] ** (sign * pending)
            pending = 1
    if not dimensions:
        return None
    return " ".join(f"{k}^{v}" for k, v in sorted(dimensions.items()) if v), size
