"""Values with units, and values up to a free constant (math)."""

from __future__ import annotations

from factory.verifiers.math.nodes import Node, add, multiply
from factory.verifiers.math.numbers import has_constant, symbols
from factory.verifiers.math.plain import float_of, with_name
from factory.verifiers.math.units import factor, measure, temperatures
from factory.verifiers.math.value import equal


def equal_but_for_a_constant(x: Node, y: Node) -> bool | None:
    """Compare families: the integer of ``2kπ``, the constant of ``x^2 + C`` have any name."""
    ours, theirs = symbols(x) - symbols(y), symbols(y) - symbols(x)
    if len(ours) != 1 or len(theirs) != 1:
        return False
    (mine,), (other,) = ours, theirs
    is_integer = {mine, other} <= _INTEGERS and has_constant("pi", x) and has_constant("pi", y)
    is_added = {mine, other} <= _CONSTANTS and all(
        e[0] == "add" and ("sym", name) in e for e, name in ((x, mine), (y, other))
    )
    return equal(x, with_name(y, other, mine)) if is_integer or is_added else False


_INTEGERS = frozenset("klmn")
_CONSTANTS = frozenset(("C", "c", "K", "k", "C_1", "c_1"))


def same_units(x: Node, x_unit: str, y: Node, y_unit: str) -> bool | None:
    """Compare two numbers by value, each with the words of its unit."""
    ratio = factor(x_unit, y_unit)
    if ratio is not None:
        return equal(x if ratio == 1 else multiply(("num", ratio), x), y)
    degrees = temperatures(x_unit, y_unit)
    if degrees is None:
        return False
    slope, shift = (("num", part) for part in degrees)
    return equal(add([multiply(slope, x), shift]), y)


def same_without_unit(x: Node, unit: str, bare: Node) -> bool | None:
    """Compare a number that has a unit with one that has none.

    A plain unit says nothing: the question may have named it. "2 million" is 2,000,000 alone.
    """
    words = measure(unit)
    if words.changes:
        return False
    if words.scale == 1:
        if symbols(bare) == {unit} and not symbols(x):
            return equal(multiply(x, ("sym", unit)), bare)  # "5 m" is the formula 5m
        return equal(x, bare)
    return equal(multiply(("num", words.scale), x), bare)


def quantity(items: list[Node]) -> Node | None:
    """Add up a quantity given in several units of one measure: ``2 hours 30 minutes``."""
    total: Node | None = None
    last = ""
    for item in items:
        if item[0] not in ("unit", "deg") or float_of(item[1]) is None:
            return None
        unit = str(item[2]) if item[0] == "unit" else "degree"
        if total is None:
            total = item[1]
        else:
            ratio = factor(last, unit)
            if ratio is None or ratio <= 1:
                return None  # not from the larger to the smaller unit
            total = add([multiply(("num", ratio), total), item[1]])
        last = unit
    return None if total is None else ("unit", total, last)
