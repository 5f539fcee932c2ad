"""Units of measure: what they measure and how big they are, and what other words say (math).

One table: base units with their dimensions and exact sizes, SI prefixes before symbols and names.
A quantity's words are read as units, as words that name what is counted, and as words that make
it another answer ("or more", "squared", "BC").
"""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import NamedTuple

_F = Fraction
_LENGTH, _MASS, _TIME = {"length": 1}, {"mass": 1}, {"time": 1}
_VOLUME = {"length": 3}
_ENERGY = {"mass": 1, "length": 2, "time": -2}
_POWER = {"mass": 1, "length": 2, "time": -3}
_VOLT = {"mass": 1, "length": 2, "time": -3, "current": -1}
_OHM = {"mass": 1, "length": 2, "time": -3, "current": -2}
_PRESSURE = {"mass": 1, "length": -1, "time": -2}
_LITRE = _F(1, 1000)
_GALLON = _F("0.003785411784")
_PER_TIME = {"time": -1}

Size = tuple[dict[str, int], Fraction]

_METRIC: dict[str, Size] = {
    "m meter metre": (_LENGTH, _F(1)), "g gram gramme": (_MASS, _F(1, 1000)),
    "s sec second": (_TIME, _F(1)), "A amp ampere": ({"current": 1}, _F(1)),
    "K kelvin": ({"temperature": 1}, _F(1)), "mol mole": ({"amount": 1}, _F(1)),
    "J joule": (_ENERGY, _F(1)), "N newton": ({"mass": 1, "length": 1, "time": -2}, _F(1)),
    "W watt": (_POWER, _F(1)), "V volt": (_VOLT, _F(1)), "ohm Ω": (_OHM, _F(1)),
    "Pa pascal": (_PRESSURE, _F(1)), "bar": (_PRESSURE, _F(10**5)),
    "Hz hertz": (_PER_TIME, _F(1)), "Bq becquerel": (_PER_TIME, _F(1)),
    "C coulomb": ({"current": 1, "time": 1}, _F(1)),
    "F farad": ({"mass": -1, "length": -2, "time": 4, "current": 2}, _F(1)),
    "T tesla": ({"mass": 1, "time": -2, "current": -1}, _F(1)),
    "Wb weber": ({"mass": 1, "length": 2, "time": -2, "current": -1}, _F(1)),
    "H henry": ({"mass": 1, "length": 2, "time": -2, "current": -2}, _F(1)),
    "eV electronvolt": (_ENERGY, _F("1.602176634e-19")), "Wh watthour": (_ENERGY, _F(3600)),
    "cal calorie": (_ENERGY, _F("4.184")), "L l liter litre": (_VOLUME, _LITRE),
    "M molar": ({"amount": 1, "length": -3}, _F(1000)), "t tonne": (_MASS, _F(1000)),
    "B byte": ({"data": 1}, _F(8)), "bit": ({"data": 1}, _F(1)),
    "rad radian": ({"angle": 1}, _F(1)), "Sv sievert": ({"dose": 1}, _F(1)),
    "Gy gray": ({"absorbed": 1}, _F(1)), "lx lux": ({"light": 1}, _F(1)),
    "cd candela": ({"candela": 1}, _F(1)), "pc parsec": ({"parsec": 1}, _F(1)),
}  # fmt: skip
"""Units that take SI prefixes: symbol and names → dimensions, and size in SI units."""

_PREFIXES = {
    "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1, "d": -1,
    "c": -2, "m": -3, "u": -6, "µ": -6, "μ": -6, "n": -9, "p": -12, "f": -15, "a": -18,
}  # fmt: skip
_PREFIX_NAMES = {
    "tera": 12, "giga": 9, "mega": 6, "kilo": 3, "hecto": 2, "deca": 1, "deci": -1, "centi": -2,
    "milli": -3, "micro": -6, "nano": -9, "pico": -12, "femto": -15,
}  # fmt: skip
_OTHER: dict[str, Size] = {
    "in inch": (_LENGTH, _F("0.0254")), "ft foot": (_LENGTH, _F("0.3048")),
    "yd yard": (_LENGTH, _F("0.9144")), "mi mile": (_LENGTH, _F("1609.344")),
    "nmi": (_LENGTH, _F(1852)), "ly lightyear": (_LENGTH, _F(9460730472580800)),
    "au": (_LENGTH, _F(149597870700)), "angstrom Å": (_LENGTH, _F(1, 10**10)),
    "micron": (_LENGTH, _F(1, 10**6)),
    "lb pound": (_MASS, _F("0.45359237")), "oz ounce": (_MASS, _F("0.45359237") / 16),
    "ton": ({"ton": 1}, _F(1)), "stone": (_MASS, _F("6.35029318")),
    "min minute": (_TIME, _F(60)), "h hr hour": (_TIME, _F(3600)),
    "day": (_TIME, _F(86400)), "wk week": (_TIME, _F(604800)),
    "fortnight": (_TIME, _F(1209600)),
    "month mo": ({"month": 1}, _F(1)), "year yr": ({"month": 1}, _F(12)),
    "decade": ({"month": 1}, _F(120)), "century": ({"month": 1}, _F(1200)),
    "gal gallon": (_VOLUME, _GALLON), "qt quart": (_VOLUME, _GALLON / 4),
    "pt pint": (_VOLUME, _GALLON / 8), "cup": (_VOLUME, _GALLON / 16),
    "floz": (_VOLUME, _GALLON / 128), "tbsp tablespoon": (_VOLUME, _GALLON / 256),
    "tsp teaspoon": (_VOLUME, _GALLON / 768), "cc": (_VOLUME, _F(1, 10**6)),
    "ha hectare": ({"length": 2}, _F(10**4)), "acre": ({"length": 2}, _F("4046.8564224")),
    "mph": ({"length": 1, "time": -1}, _F("1609.344") / 3600),
    "kph kmh kmph": ({"length": 1, "time": -1}, _F(1000, 3600)),
    "mps": ({"length": 1, "time": -1}, _F(1)), "fps": ({"length": 1, "time": -1}, _F("0.3048")),
    "knot": ({"length": 1, "time": -1}, _F(1852, 3600)),
    "rpm": ({"turn": 1, "time": -1}, _F(1, 60)), "bps": ({"data": 1, "time": -1}, _F(1)),
    "revolution rev": ({"turn": 1}, _F(1)),
    "atm atmosphere": (_PRESSURE, _F(101325)), "psi": (_PRESSURE, _F("6894.757293168")),
    "mmhg": (_PRESSURE, _F("133.322387415")), "torr": (_PRESSURE, _F(101325, 760)),
    "hp horsepower": (_POWER, _F("745.69987158227022")),
    "dollar usd buck": ({"dollar": 1}, _F(1)), "cent ¢": ({"dollar": 1}, _F(1, 100)),
    "euro eur €": ({"euro": 1}, _F(1)), "gbp £": ({"gbp": 1}, _F(1)),
    "pence penny": ({"gbp": 1}, _F(1, 100)), "yuan rmb cny": ({"yuan": 1}, _F(1)),
    "yen jpy": ({"yen": 1}, _F(1)), "rupee inr rs": ({"rupee": 1}, _F(1)),
    "peso": ({"peso": 1}, _F(1)), "won krw": ({"won": 1}, _F(1)), "franc": ({"franc": 1}, _F(1)),
    "ruble": ({"ruble": 1}, _F(1)),
    "degc celsius centigrade": ({"celsius": 1}, _F(1)),
    "degf fahrenheit": ({"fahrenheit": 1}, _F(1)), "degk": ({"temperature": 1}, _F(1)),
    "degree deg °": ({"degree": 1}, _F(1)), "arcminute arcmin": ({"degree": 1}, _F(1, 60)),
    "arcsecond arcsec": ({"degree": 1}, _F(1, 3600)),
    "percent pct": ({"percent": 1}, _F(1)),
    "kib": ({"data": 1}, _F(8 * 2**10)), "mib": ({"data": 1}, _F(8 * 2**20)),
    "gib": ({"data": 1}, _F(8 * 2**30)), "tib": ({"data": 1}, _F(8 * 2**40)),
    "decibel db": ({"decibel": 1}, _F(1)),
}  # fmt: skip
_CHINESE = {
    "毫米": "mm", "厘米": "cm", "公分": "cm", "分米": "dm", "千米": "km", "公里": "km", "米": "m",
    "英里": "mile", "英尺": "ft", "英寸": "inch", "毫克": "mg", "千克": "kg", "公斤": "kg",
    "吨": "t", "克": "g", "毫升": "ml", "升": "l", "小时": "hour", "分钟": "minute", "秒": "s",
    "天": "day", "日": "day", "周": "week", "月": "month", "年": "year", "美元": "dollar",
    "美分": "cent", "欧元": "euro", "英镑": "gbp", "摄氏度": "degc", "度": "degree",
    "元": "yuan", "角": "jiao", "分": "fen",
}  # fmt: skip
_SCALES: dict[str, Fraction] = {
    "ten": _F(10), "k": _F(1000), "hundred": _F(100), "thousand": _F(1000), "million": _F(10**6),
    "billion": _F(10**9),
    "trillion": _F(10**12), "dozen": _F(12), "百": _F(100), "千": _F(1000), "万": _F(10**4),
    "百万": _F(10**6), "千万": _F(10**7), "亿": _F(10**8), "lakh": _F(10**5), "crore": _F(10**7),
    "tenth": _F(1, 10), "hundredth": _F(1, 100), "thousandth": _F(1, 1000),
    "millionth": _F(1, 10**6), "half": _F(1, 2), "halve": _F(1, 2), "third": _F(1, 3),
    "fourth": _F(1, 4), "fifth": _F(1, 5), "sixth": _F(1, 6), "seventh": _F(1, 7),
    "eighth": _F(1, 8), "ninth": _F(1, 9),
}  # fmt: skip
_SILENT = frozenset((
    "the", "a", "an", "of", "in", "is", "are", "was", "were", "be", "it", "its", "which",
    "that", "this", "as", "each", "every", "total", "altogether", "about", "approximately",
    "approx", "roughly", "exactly", "only", "just", "required", "needed", "desired", "unit",
    "long", "old", "tall", "wide", "high", "deep", "away", "there", "so", "different",
    "distinct", "possible", "per", "with", "for", "on", "by", "from", "at", "such", "all",
    "answer", "value", "result", "number", "final", "our", "we", "have", "has", "respectively",
    "i.e.", "and/or",
    "个", "人", "名", "位", "只", "条", "本", "支", "张", "件", "辆", "棵",
    "块", "头", "匹", "座", "间", "份", "次", "种", "道", "岁", "组", "台",
    "套", "朵", "枚", "袋", "盒", "箱", "瓶", "筐",
))  # fmt: skip
"""Words beside a number that neither measure nor change it."""
_CHANGES = frozenset((
    "or", "and", "more", "less", "fewer", "greater", "larger", "smaller", "bigger", "higher",
    "lower", "above", "below", "under", "over", "beyond", "squared", "cubed", "not", "no",
    "never", "none", "nor", "cannot", "can't", "isn't", "aren't", "wasn't", "won't", "doesn't",
    "don't", "wrong", "incorrect", "false", "impossible", "invalid", "remainder", "mod",
    "modulo", "minus", "plus", "negative", "least", "most", "if", "unless", "except", "than",
    "through", "between", "maybe", "perhaps", "possibly", "probably", "to", "twice", "double",
    "triple", "thrice", "choose", "factorial", "base", "power", "root", "recurring",
    "repeating", "zero", "off", "bc", "bce", "b.c.", "b.c.e.", "until", "up", "down", "even",
    "odd", "otherwise", "either", "neither", "but", "without",
))  # fmt: skip
"""Words beside a number that make it another answer where the other side has them not."""
_PLURALS = {
    "people": "person", "persons": "person", "children": "child", "men": "man", "women": "woman",
    "feet": "foot", "inches": "inch", "centuries": "century", "halves": "half", "mice": "mouse",
    "pennies": "penny", "henries": "henry", "knives": "knife", "loaves": "loaf", "lux": "lux",
    "yrs": "yr", "hrs": "hr", "mins": "min", "secs": "sec", "lbs": "lb", "rs": "rs",
}  # fmt: skip


def _named(table: dict[str, Size]) -> dict[str, Size]:
    return {name: size for names, size in table.items() for name in names.split()}


def _with_prefixes() -> dict[str, Size]:
    """Write out every prefix before every unit that takes one; what is listed as such wins."""
    out: dict[str, Size] = {}
    for names, (dimensions, size) in _METRIC.items():
        symbol, *words = names.split()
        for short in (symbol, *(w for w in words if len(w) == 1)):
            for prefix, power in _PREFIXES.items():
                out.setdefault(prefix + short, (dimensions, size * _F(10) ** power))
        for name in (*words, *((symbol,) if len(symbol) > 2 else ())):
            for prefix, power in _PREFIX_NAMES.items():
                out[prefix + name] = (dimensions, size * _F(10) ** power)
    return out | _named(_METRIC) | _named(_OTHER)


UNITS: dict[str, Size] = _with_prefixes()
"""Unit → what it measures, and its exact size in SI units. Symbols keep their case."""
_LOWER = {name.lower(): size for name, size in reversed(UNITS.items())} | {
    name: size for name, size in UNITS.items() if name.islower()
}


class Measure(NamedTuple):
    """What the words beside a number say.

    Attributes:
        size: in SI units, with the number words ("million", "hundredths") multiplied in apart.
        dimensions: name and exponent of what is measured, sorted; empty where no unit is known.
        scale: what the number words multiply by.
        words: what is counted or said besides, in the singular.
        changes: words that make it another answer.
    """

    size: Fraction
    dimensions: tuple[tuple[str, int], ...]
    scale: Fraction
    words: frozenset[str]
    changes: frozenset[str]


def is_unit(word: str) -> bool:
    """Tell whether a word is a unit of the table.

    >>> is_unit("kJ"), is_unit("apples"), is_unit("Miles")
    (True, False, True)
    """
    return _unit(word) is not None


def _unit(word: str) -> Size | None:
    found = UNITS.get(word)
    if found is None:
        lower = word.lower()
        single = _PLURALS.get(lower, lower)
        found = _LOWER.get(single)
        if found is None and lower.endswith("s") and len(lower) > 3:
            found = _LOWER.get(lower[:-1])
    return found


def _singular(word: str) -> str:
    word = word.lower()
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


_PART = re.compile(
    r"\^ ?\{?\(?(-?[0-9]+)\)?\}?|(/|\bper\b|÷)|([^\W\d_]+(?:['.][^\W\d_]+)*\.?'?[^\W\d_]*"
    r"|[°¢€£])",
)
_RESPELLED = (
    (re.compile(r"\b(?:sq|square)[. ]+(?=\S)|平方", re.IGNORECASE), "^2 "),
    (re.compile(r"\b(?:cu|cubic)[. ]+(?=\S)|立方", re.IGNORECASE), "^3 "),
    (re.compile(r"(?<=\w) squared?\b(?= *$| +(?:/|per))"), "^2"),
    (re.compile(r"(?<=\w) cubed\b(?= *$| +(?:/|per))"), "^3"),
    (re.compile(r"\bdegrees? (?=celsius|fahrenheit|centigrade|kelvin)", re.IGNORECASE), ""),
    (re.compile(r"\bdegrees? ([CF])\b"), r"deg\1"),
    (re.compile(r"\bper ?cent\b", re.IGNORECASE), "percent"),
    (re.compile(r"\bfl(?:uid|\.)? (?:oz|ounces?)\b", re.IGNORECASE), "floz"),
    (re.compile(r"\blight[- ]years?\b", re.IGNORECASE), "ly"),
    (re.compile(r"\b(?:nautical) miles?\b", re.IGNORECASE), "nmi"),
    (re.compile(r"\b(kilo|k)?watt[- ]hours?\b", re.IGNORECASE), r"\1watthour"),
    (re.compile(r"\b([ap])\. ?m\b\.?", re.IGNORECASE), r"\1m"),
    (re.compile(r"\bmeters? per second per second\b"), "m/s^2"),
)


@functools.lru_cache(maxsize=4096)
def measure(text: str) -> Measure:
    """Read the words beside a number.

    >>> measure("kJ").size, measure("cm ^2").dimensions
    (Fraction(1000, 1), (('length', 2),))
    >>> sorted(measure("red apples").words), sorted(measure("or more").changes)
    (['apple', 'red'], ['more', 'or'])
    """
    for pattern, other in _RESPELLED:
        text = pattern.sub(other, text)
    reader = _Reader()
    for found in _PART.finditer(text):
        power, per, word = found.groups()
        if power:
            reader.power(int(power))
        elif per:
            reader.sign = -1
        else:
            reader.word(word)
    dimensions = tuple(sorted((k, v) for k, v in reader.dimensions.items() if v))
    return Measure(
        reader.size, dimensions, reader.scale, frozenset(reader.words), frozenset(reader.changes)
    )


class _Reader:
    """The state of ``measure``: what was read so far."""

    def __init__(self) -> None:
        self.dimensions: dict[str, int] = {}
        self.size = self.scale = _F(1)
        self.sign = self.pending = 1
        self.last: Size | None = None
        self.words: set[str] = set()
        self.changes: set[str] = set()

    def power(self, power: int) -> None:
        if self.last is None:
            self.pending = power
        elif abs(power) <= 12:
            self.take(self.last, self.sign * (power - 1))

    def take(self, unit: Size, power: int) -> None:
        for name, exponent in unit[0].items():
            self.dimensions[name] = self.dimensions.get(name, 0) + power * exponent
        self.size *= unit[1] ** power

    def word(self, word: str) -> None:
        plain = word.rstrip(".")
        lower = plain.lower()
        if word.lower() in _CHANGES or lower in _CHANGES:
            self.changes.add(lower)
            return
        single = _singular(plain)
        if single in _SCALES and not self.dimensions and plain != "K":
            self.scale *= _SCALES[single]
            return
        unit = _unit(_CHINESE.get(plain, plain)) if plain not in ("a", "an", "in") else None
        if lower == "in" and not (self.dimensions or self.words):
            unit = UNITS["in"]
        if unit is None or (self.words and len(plain) == 1):
            if lower not in _SILENT and single not in _SILENT:
                self.words.add(single)
            return
        if abs(self.pending) <= 6:
            self.take(unit, self.sign * self.pending)
        self.last, self.pending = unit, 1


def factor(a: str, b: str) -> Fraction | None:
    """Return how many of b's units one of a's is; None where they are other things.

    A word that only one side has says nothing; words that differ are other things.

    >>> factor("cm", "m"), factor("cm", "kg"), factor("apples", "pears"), factor("apples", "apple")
    (Fraction(1, 100), None, None, Fraction(1, 1))
    """
    ours, theirs = measure(a), measure(b)
    if ours.changes != theirs.changes:
        return None
    if not (ours.words <= theirs.words or theirs.words <= ours.words):
        return None
    if ours.dimensions != theirs.dimensions and (
        (ours.dimensions and theirs.dimensions) or ours.words or theirs.words
    ):
        return None
    if not (ours.dimensions and theirs.dimensions):
        return ours.scale / theirs.scale
    return ours.size * ours.scale / (theirs.size * theirs.scale)


_ZERO_POINTS = {"celsius": (_F(1), _F("273.15")), "temperature": (_F(1), _F(0)),
                "fahrenheit": (_F(5, 9), _F("459.67"))}  # fmt: skip


def temperatures(a: str, b: str) -> tuple[Fraction, Fraction] | None:
    """Return slope and shift from degrees of a to degrees of b, where both are temperatures.

    >>> temperatures("degc", "degf")
    (Fraction(9, 5), Fraction(32, 1))
    """
    names = [d[0][0] for d in (measure(a).dimensions, measure(b).dimensions) if len(d) == 1]
    if len(names) != 2 or not all(n in _ZERO_POINTS for n in names) or names[0] == names[1]:
        return None
    (slope, shift), (other_slope, other_shift) = (_ZERO_POINTS[n] for n in names)
    # Kelvin = slope · (degrees + shift), but for Celsius and Kelvin, whose slope is one.
    return slope / other_slope, slope * shift / other_slope - other_shift
