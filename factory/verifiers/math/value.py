"""Values of answers: exact rationals, floats at sample points, many digits where floats are close.

Two scalar expressions are told apart by a float that differs clearly, and held equal only when an
exact rational calculation says so, or when two calculations at different precisions agree to
nearly all of their digits, the second to many more than the first. So 2^-99 and 2^-98, 1/2004!
and 1/2006!, 10^40 + sqrt(2) and 10^40 + 1 + sqrt(2) are never confused.
"""

from __future__ import annotations

import math
from typing import Any

from factory.verifiers.math.nodes import SCALAR, Node
from factory.verifiers.math.numbers import (
    NotRational,
    Number,
    Peak,
    Unsettled,
    approximate,
    context,
    exact,
    has_constant,
    precise,
    symbols,
)

N_POINTS = 4
_DIGITS = (40, 90)
_SHRINK = 30
_BIG = 1e100


def is_huge(node: Node) -> bool:
    """Tell whether an expression holds a number beyond the bounds, which nobody should expand.

    >>> from factory.verifiers.math.parse import parse
    >>> is_huge(parse("9^{9^9}")), is_huge(parse("2^{100}+x^2"))
    (True, False)
    """
    stack: list[Any] = [node]
    while stack:
        top = stack.pop()
        if top[0] == "pow" and _is_huge_power(top[1], top[2]):
            return True
        if top[0] == "fn" and top[1] == "factorial" and not symbols(top[2]):
            return True  # a factorial below the cap is a number by now
        if top[0] == "fn2" and top[1] == "binom" and not (symbols(top[2]) or symbols(top[3])):
            return True
        stack.extend(part for part in top if isinstance(part, tuple) and part)
    return False


def _is_huge_power(base: Node, exponent: Node) -> bool:
    if symbols(exponent):
        return False
    try:
        size = abs(approximate(exponent, 0, Peak()))
    except (OverflowError, ValueError, ZeroDivisionError, Unsettled):
        return True
    return not size <= (200 if symbols(base) else 10_000)


def is_undefined(node: Node) -> bool:
    r"""Tell whether an expression without symbols has no value at all, such as ``\\ln 0``.

    >>> from factory.verifiers.math.parse import parse
    >>> is_undefined(parse("ln(0)")), is_undefined(parse("10^{400}")), is_undefined(parse("x"))
    (True, False, False)
    """
    if node[0] not in SCALAR or symbols(node) or has_constant("inf", node):
        return False
    try:
        return bool(math.isnan(abs(approximate(node, 0, Peak()))))
    except (ValueError, ZeroDivisionError):
        return True
    except (OverflowError, Unsettled):
        return False


# ---- equality


def equal(a: Node, b: Node) -> bool | None:
    """Compare two scalar expressions; None where the bounds do not allow an answer.

    >>> from factory.verifiers.math.parse import parse
    >>> equal(parse("sqrt(8)"), parse("2sqrt(2)"))
    True
    >>> equal(parse("1/2004!"), parse("1/2006!"))
    False
    """
    if a == b:
        return True
    if a[0] == "num" and b[0] == "num":
        return bool(a[1] == b[1])
    if has_constant("inf", a, b):
        return _same_infinities(a, b)
    names = symbols(a) | symbols(b)
    points = range(N_POINTS) if names else range(1)
    if names and (_has_steps(a) or _has_steps(b)):
        points = range(3 * N_POINTS)
    n_agree = 0
    for k in points:
        verdict = _equal_at(a, b, k)
        if verdict is False:
            return False
        n_agree += verdict is True
    if not names:
        return True if n_agree else None
    return True if n_agree >= 2 else None


def _has_steps(node: Node) -> bool:
    stack: list[Any] = [node]
    while stack:
        top = stack.pop()
        if top[0] == "fn" and top[1] in ("floor", "ceil"):
            return True
        stack.extend(part for part in top if isinstance(part, tuple) and part)
    return False


def _same_infinities(a: Node, b: Node) -> bool:
    """Compare where ∞ occurs: only ∞ itself and −∞ are answers, ∞ − ∞ is none."""
    ends = []
    for node in (a, b):
        try:
            value = approximate(node, 0, Peak()) if not symbols(node) else 0.0
        except (OverflowError, ValueError, ZeroDivisionError, Unsettled):
            return False
        ends.append(value)
    return not isinstance(ends[0], complex) and ends[0] == ends[1] and math.isinf(ends[0])


def _equal_at(a: Node, b: Node, k: int) -> bool | None:
    """Compare at one sample point; None where one side has no (real) value there."""
    try:
        return exact(a, k) == exact(b, k)
    except (NotRational, Unsettled):
        pass
    peak = Peak()
    try:
        x, y = approximate(a, k, peak), approximate(b, k, peak)
    except (OverflowError, ValueError, ZeroDivisionError):
        x = y = math.nan
    except Unsettled:
        return None
    if k >= 2 and (_is_complex(x) or _is_complex(y)) and not has_constant("i", a, b):
        return None  # outside the domain of one side: no evidence
    gap, size = abs(x - y), max(abs(x), abs(y))
    if size < _BIG and gap > 1e-6 * size and gap > 1e-9 * max(peak.size, 1e-30) and size > 1e-200:
        return False
    try:
        return _close_precisely(a, b, k)
    except Unsettled:
        return None


def _is_complex(x: Number) -> bool:
    return isinstance(x, complex) and abs(x.imag) > 1e-9 * max(abs(x), 1e-12)


def _close_precisely(a: Node, b: Node, k: int) -> bool:
    """Hold two values equal when more digits make their gap smaller by nearly as many digits."""
    mp = context()
    gaps = []
    for digits in _DIGITS:
        x, y = precise(a, k, digits), precise(b, k, digits)
        gaps.append((abs(x - y), max(abs(x), abs(y))))
    (first, size), (second, _) = gaps
    if second == 0 and first == 0:
        # Equal to all digits; an integer part longer than the digits could hide a difference.
        if mp.mag(size or 1) > 3.3 * (_DIGITS[0] - 10):
            raise Unsettled("too big to tell")
        return True
    if (
        size
        and mp.mag(size) > 3.3 * (_DIGITS[0] - 10)
        and second <= size * mp.mpf(10) ** -(_DIGITS[0] - 5)
    ):
        raise Unsettled("too big to tell")
    floor = max(first, size * mp.mpf(10) ** -_DIGITS[0])
    return bool(second <= floor * mp.mpf(10) ** -_SHRINK)
