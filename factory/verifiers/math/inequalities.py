"""Whether two inequalities say the same (math)."""

from __future__ import annotations

from factory.verifiers.math.nodes import Node, ParseError, multiply
from factory.verifiers.math.numbers import NotRational, Unsettled, exact, precise
from factory.verifiers.math.plain import difference
from factory.verifiers.math.regions import intervals, same_intervals, variables
from factory.verifiers.math.value import N_POINTS, equal


def proportional(f: Node, g: Node, *, positive: bool) -> bool | None:
    """Tell whether f = c·g for one constant c ≠ 0 (c > 0 where ``positive``)."""
    try:
        c, d = exact(f, N_POINTS), exact(g, N_POINTS)
        if c and d:
            if positive and (c > 0) != (d > 0):
                return False
            return equal(multiply(("num", d), f), multiply(("num", c), g))
    except (NotRational, Unsettled, ParseError):
        pass
    try:
        ratios = [precise(f, k, 50) / precise(g, k, 50) for k in range(2)]
    except (Unsettled, ZeroDivisionError):
        return None
    if not ratios[0] or (positive and not ratios[0].real > 0):
        return False
    return bool(abs(ratios[0] - ratios[1]) <= abs(ratios[0]) * 1e-30)


def same_inequalities(a: Node, b: Node) -> bool | None:
    """Tell whether two relations, at least one of them an inequality, allow the same."""
    x, y = intervals(a), intervals(b)
    if x is not None and y is not None:
        return same_intervals(x, y) if variables(a) == variables(b) else False
    if len(a[1]) != 2 or len(b[1]) != 2 or "=" in a[2] + b[2]:
        return None if len(a[1]) == len(b[1]) else False
    f, g = _oriented(a), _oriented(b)
    if f is None or g is None:
        return None
    if f[1] != g[1]:
        return False
    return proportional(f[0], g[0], positive=f[1] != "!=")


def _oriented(node: Node) -> tuple[Node, str] | None:
    """Write a two-sided inequality as f < 0, f <= 0 or f != 0."""
    left, right = node[1]
    operator = node[2][0]
    if operator in (">", ">="):
        left, right, operator = right, left, operator.replace(">", "<")
    f = difference(left, right)
    return None if f is None else (f, operator)
