"""Values with units, and values up to a free constant (math)."""

from __future__ import annotations

import math
from fractions import Fraction

from factory.verifiers.math.nodes import Node
from factory.verifiers.math.numbers import has_constant, symbols
from factory.verifiers.math.plain import float_of, with_name
from factory.verifiers.math.units import unit_factor
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


def close(x: Node, y: Node, factor: float) -> bool | None:
    """Tell whether x · factor is y up to rounding; None where one has no value."""
    value, other = float_of(x), float_of(y)
    if value is None or other is None:
        return None
    return math.isclose(value * factor, other, rel_tol=1e-9)


def quantity(items: list[Node]) -> Node | None:
    """Add up a quantity given in several units of one measure: ``2 hours 30 minutes``."""
    total, last = 0.0, None
    for item in items:
        if item[0] != "unit" or (value := float_of(item[1])) is None:
            return None
        unit = str(item[2])
        if last is not None and (unit_factor(last, unit) or 0.0) <= 1.0:
            return None  # not from the larger to the smaller unit
        total = total * (unit_factor(last, unit) or 0.0) + value if last is not None else value
        last = unit
    return ("unit", ("num", Fraction(total).limit_denominator(10**6)), last)
