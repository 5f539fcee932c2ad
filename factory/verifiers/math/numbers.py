"""Numbers of parsed answers: exact rationals, floats at sample points, many digits (math).

Every operation is bounded: no big integers beyond the parser's cap, no trigonometry of huge
numbers, no powers beyond a fixed exponent range. What is beyond raises ``Unsettled``.
"""

from __future__ import annotations

import cmath
import functools
import math
import threading
import zlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from factory.verifiers.math.nodes import MAX_BITS, Node


class Unsettled(Exception):
    """The value cannot be had within the bounds."""


class NotRational(Exception):
    """The node is no rational number."""


# ---- symbols and their sample points


def symbols(node: Node) -> frozenset[str]:
    """Return the names of the free symbols.

    >>> sorted(symbols(("add", ("sym", "x"), ("mul", ("sym", "y"), ("const", "pi")))))
    ['x', 'y']
    """
    out: set[str] = set()
    stack: list[Any] = [node]
    while stack:
        top = stack.pop()
        if top[0] == "sym":
            out.add(top[1])
        else:
            stack.extend(part for part in top if isinstance(part, tuple) and part)
    return frozenset(out)


def has_constant(name: str, *nodes: Node) -> bool:
    """Tell whether the constant occurs in any of the expressions."""
    stack: list[Any] = list(nodes)
    while stack:
        top = stack.pop()
        if top[0] == "const":
            if top[1] == name:
                return True
        else:
            stack.extend(part for part in top if isinstance(part, tuple) and part)
    return False


@functools.lru_cache(maxsize=4096)
def point(name: str, k: int) -> Fraction:
    """Return the value of a symbol at sample point k; points 0 and 1 are positive, later ones not.

    Denominators are prime and numerators odd, so that no answer is special there by accident.
    Points from 4 on lie further and further out, where steps such as ⌊n/2⌋ and ⌊n/3⌋ differ.
    """
    seed = zlib.crc32(f"{name}/{k}".encode())
    value = Fraction(1009 + 2 * (seed % 4001), 4733)
    if k >= 4:
        value += (k - 3) * (5 + seed % 7)
    return value if k < 2 or (seed >> 13) % 3 == 0 else -value


# ---- exact rationals


def exact(node: Node, k: int = 0) -> Fraction:
    """Return the exact value at sample point k.

    Raises:
        Unsettled: it is too big or undefined there.
        NotRational: it is no rational number.
    """
    kind = node[0]
    if kind == "num":
        return _checked(node[1])
    if kind == "sym":
        return point(node[1], k)
    if kind == "add":
        return _checked(sum((exact(n, k) for n in node[1:]), Fraction(0)))
    if kind == "mul":
        return _checked(exact(node[1], k) * exact(node[2], k))
    if kind == "div":
        below = exact(node[2], k)
        if not below:
            raise Unsettled("division by zero")
        return _checked(exact(node[1], k) / below)
    if kind == "pow":
        return _exact_power(exact(node[1], k), exact(node[2], k))
    if kind == "fn2" and node[1] == "root":
        index = exact(node[3], k)
        if index == 0:
            raise Unsettled("root of index zero")
        return _exact_power(exact(node[2], k), 1 / index)
    if kind == "fn" and node[1] == "abs":
        return abs(exact(node[2], k))
    raise NotRational


def _checked(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise Unsettled("too big")
    return value


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 1:
        e = exponent.numerator
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if base == 0 and e <= 0:
            raise Unsettled("zero power")
        if base not in (0, 1, -1) and abs(e) * bits > MAX_BITS:
            raise Unsettled("too big")
        if base in (1, -1):
            e %= 2
        return base**e if base else base
    if exponent.denominator != 2 or base < 0 or abs(exponent.numerator) > 64:
        raise NotRational
    above, below = math.isqrt(base.numerator), math.isqrt(base.denominator)
    if above * above != base.numerator or below * below != base.denominator:
        raise NotRational
    return _exact_power(Fraction(above, below), Fraction(exponent.numerator))


# ---- floats


class Peak:
    """The largest number that met another in a sum: what cancellation is measured against."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0.0


Number = complex | float


def approximate(node: Node, k: int, peak: Peak) -> Number:
    """Return the float value at sample point k.

    Raises:
        OverflowError, ValueError, ZeroDivisionError: there is none.
    """
    kind = node[0]
    if kind == "num":
        return float(node[1])
    if kind == "sym":
        return float(point(node[1], k))
    if kind == "const":
        return _CONSTANTS[node[1]]
    if kind == "add":
        total: Number = 0.0
        for part in node[1:]:
            value = approximate(part, k, peak)
            size = abs(value)
            if size > peak.size:
                peak.size = size
            total += value
        return total
    if kind == "mul":
        return approximate(node[1], k, peak) * approximate(node[2], k, peak)
    if kind == "div":
        return approximate(node[1], k, peak) / approximate(node[2], k, peak)
    if kind == "pow":
        return _power(approximate(node[1], k, peak), approximate(node[2], k, peak), node[2])
    if kind == "deg":
        return approximate(node[1], k, peak) * (math.pi / 180)
    if kind == "fn":
        return _FLOAT[node[1]](approximate(node[2], k, peak))
    if kind == "fn2":
        return _approximate_two(node, k, peak)
    raise Unsettled(f"no value of {kind}")


_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "i": 1j, "inf": math.inf}


def _power(base: Number, exponent: Number, node: Node) -> Number:
    if isinstance(base, float) and base < 0 and node[0] == "num" and node[1].denominator % 2 == 1:
        # The real root, as schools have it: (-8)^(1/3) = -2.
        return math.copysign(abs(base) ** float(node[1]), -1 if node[1].numerator % 2 else 1)
    if isinstance(base, float) and base < 0 and node[0] == "div" and isinstance(exponent, float):
        return cmath.exp(exponent * cmath.log(base))
    return base**exponent


def _approximate_two(node: Node, k: int, peak: Peak) -> Number:
    a, b = approximate(node[2], k, peak), approximate(node[3], k, peak)
    name = node[1]
    if name == "root":
        if node[3][0] == "num":
            return _power(a, 1 / b, ("num", 1 / node[3][1]))
        return a ** (1 / b)
    if name == "log":
        return _log(a) / _log(b)
    if name == "binom":
        a, b = _real(a), _real(b)
        return math.gamma(a + 1) / (math.gamma(b + 1) * math.gamma(a - b + 1))
    raise Unsettled(name)


def _real(value: Number) -> float:
    if isinstance(value, complex):
        if abs(value.imag) > 1e-12 * abs(value):
            raise ValueError("not real")
        return value.real
    return value


def _log(x: Number) -> Number:
    if isinstance(x, float) and x > 0:
        return math.log(x)
    return cmath.log(x)


def _either(real: Callable[[float], float], other: Callable[[complex], complex]) -> Any:
    def call(x: Number) -> Number:
        if isinstance(x, float):
            if abs(x) > 1e12:
                raise OverflowError
            return real(x)
        return other(x)

    return call


def _inverse(real: Callable[[float], float], other: Callable[[complex], complex]) -> Any:
    def call(x: Number) -> Number:
        if isinstance(x, float) and -1 <= x <= 1:
            return real(x)
        return other(x)

    return call


_sin, _cos, _tan = (
    _either(math.sin, cmath.sin),
    _either(math.cos, cmath.cos),
    _either(math.tan, cmath.tan),
)
_FLOAT: dict[str, Callable[[Number], Number]] = {
    "sin": _sin, "cos": _cos, "tan": _tan,
    "cot": lambda x: _cos(x) / _sin(x), "sec": lambda x: 1 / _cos(x), "csc": lambda x: 1 / _sin(x),
    "arcsin": _inverse(math.asin, cmath.asin), "arccos": _inverse(math.acos, cmath.acos),
    "arctan": _either(math.atan, cmath.atan), "arccot": lambda x: cmath.atan(1 / x),
    "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh, "coth": lambda x: 1 / cmath.tanh(x),
    "ln": _log, "exp": cmath.exp, "abs": abs,
    "floor": lambda x: float(math.floor(_real(x))), "ceil": lambda x: float(math.ceil(_real(x))),
    "factorial": lambda x: math.gamma(_real(x) + 1),
}  # fmt: skip


# ---- many digits


_LOCAL = threading.local()


def context() -> Any:
    """Return this thread's mpmath context."""
    # mpmath's shared context holds the precision in a global: one context per thread.
    if not hasattr(_LOCAL, "mp"):
        from mpmath.ctx_mp import MPContext  # type: ignore[import-untyped]

        _LOCAL.mp = MPContext()
    return _LOCAL.mp


def precise(node: Node, k: int, digits: int) -> Any:
    """Return the value at sample point k with so many digits (an mpmath number).

    Raises:
        Unsettled: it is out of range.
    """
    mp = context()
    mp.dps = digits
    try:
        value = _precise(mp, node, k)
    except (ValueError, ZeroDivisionError, OverflowError, TypeError, NotImplementedError) as error:
        raise Unsettled(str(error)) from error
    if not mp.isfinite(value):
        raise Unsettled("not finite")
    return value


def _bounded(mp: Any, value: Any, limit: int = 400) -> Any:
    """Refuse numbers whose size would make the next function expensive."""
    if value and mp.mag(value) > limit:
        raise Unsettled("too big")
    return value


def _precise(mp: Any, node: Node, k: int) -> Any:
    kind = node[0]
    if kind == "num":
        return mp.mpf(node[1].numerator) / node[1].denominator
    if kind == "sym":
        value = point(node[1], k)
        return mp.mpf(value.numerator) / value.denominator
    if kind == "const":
        if node[1] == "inf":
            raise Unsettled("infinite")
        return {"pi": mp.pi, "e": mp.e, "i": mp.j}[node[1]] * 1
    if kind == "add":
        return mp.fsum(_precise(mp, part, k) for part in node[1:])
    if kind == "mul":
        return _precise(mp, node[1], k) * _precise(mp, node[2], k)
    if kind == "div":
        return _precise(mp, node[1], k) / _precise(mp, node[2], k)
    if kind == "pow":
        return _precise_power(mp, _precise(mp, node[1], k), _precise(mp, node[2], k), node[2])
    if kind == "deg":
        return _precise(mp, node[1], k) * mp.pi / 180
    if kind == "fn":
        return _precise_function(mp, node[1], _precise(mp, node[2], k))
    if kind == "fn2":
        a, b = _precise(mp, node[2], k), _precise(mp, node[3], k)
        if node[1] == "root":
            inverse = ("num", 1 / node[3][1]) if node[3][0] == "num" and node[3][1] else ("none",)
            return _precise_power(mp, a, 1 / b, inverse)
        if node[1] == "log":
            return mp.log(a) / mp.log(b)
        if node[1] == "binom":
            return mp.binomial(_bounded(mp, a, 20), _bounded(mp, b, 20))
    raise Unsettled(f"no value of {kind}")


def _precise_power(mp: Any, base: Any, exponent: Any, node: Node) -> Any:
    _bounded(mp, exponent, 24)
    _bounded(mp, base, 1 << 20)
    if node[0] == "num" and mp.im(base) == 0 and base < 0 and node[1].denominator % 2 == 1:
        size = abs(base) ** exponent
        return -size if node[1].numerator % 2 else size
    return base**exponent


def _precise_function(mp: Any, name: str, x: Any) -> Any:
    if name in ("floor", "ceil"):
        _bounded(mp, x, 60)
        return mp.floor(x) if name == "floor" else mp.ceil(x)
    if name == "abs":
        return abs(x)
    if name == "factorial":
        return mp.gamma(_bounded(mp, x, 14) + 1)
    if name == "ln":
        return mp.log(x)
    _bounded(mp, x, 30 if name in ("exp", "sinh", "cosh", "tanh", "coth") else 300)
    method = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot"}.get(
        name, name
    )
    return getattr(mp, method)(x)
