r"""What an answer says it is: ``\text{radius} = 3`` is no ``\text{diameter} = 3`` (math).

Names that stand on one side only are no matter: the question knew what it asked for. Names on both
sides that exclude each other make two answers of one value.
"""

from __future__ import annotations

import re

_GROUPS = (
    ("minimum minimal min least smallest lowest", "maximum maximal max greatest largest highest"),
    ("radius radii", "diameter diameters", "circumference", "perimeter", "area areas", "volume",
     "length", "width breadth", "height altitude", "depth", "side", "diagonal", "hypotenuse",
     "slope gradient", "angle", "midpoint", "vertex", "focus", "directrix", "intercept",
     "distance", "speed velocity", "time", "acceleration", "mass", "force", "energy"),
    ("mean average", "median", "mode", "range", "variance", "deviation", "domain", "codomain"),
    ("gcd gcf hcf", "lcm lcd"),
    ("sum", "difference", "product", "quotient", "remainder"),
    ("numerator", "denominator"), ("profit gain", "loss"),
    ("interior", "exterior"), ("real", "imaginary"), ("even", "odd"),
    ("increasing", "decreasing"), ("before", "after"), ("first", "second", "third", "last"),
    ("boys", "girls"), ("men", "women"), ("adults", "children"), ("horizontal", "vertical"),
)  # fmt: skip
_NAMES = {
    name: (group, index)
    for group, members in enumerate(_GROUPS)
    for index, names in enumerate(members)
    for name in names.split()
}
_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}")
_COMMAND = re.compile(
    r"\\(?:operatorname\s*\{\s*)?(gcd|lcm|max|min|mean|median|mode)(?![A-Za-z])(?=[^=]{0,80}=)"
)


def canonical(word: str) -> str:
    """Return the first of the names of one thing: min for minimum; any other word as it is."""
    group = _NAMES.get(word)
    return word if group is None else _GROUPS[group[0]][group[1]].split()[0]


def names_in(text: str) -> dict[int, frozenset[int]]:
    r"""Return group → members of it that a text names.

    >>> names_in(r"\text{The minimum area} = 3") == names_in(r"\text{least area: } 4")
    True
    """
    found: dict[int, set[int]] = {}
    words = _WORD.findall(text)
    if "\\" in text and "=" in text:
        words += _COMMAND.findall(text)
    for word in words:
        named = _NAMES.get(word.lower())
        if named is not None:
            found.setdefault(named[0], set()).add(named[1])
    return {group: frozenset(members) for group, members in found.items()}


def exclude(ours: dict[int, frozenset[int]], theirs: dict[int, frozenset[int]]) -> bool:
    r"""Tell whether what two answers say of themselves cannot both be so.

    >>> exclude(names_in("radius = 3"), names_in("diameter = 3")), exclude(names_in("3"), {})
    (True, False)
    """
    return any(theirs.get(group, members).isdisjoint(members) for group, members in ours.items())
