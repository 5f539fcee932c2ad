r"""The nodes of parsed answers and the constructors that fold plain rational numbers (math).

Nodes are nested tuples::


    ("num", Fraction)        ("sym", name)            ("const", "pi" | "e" | "i" | "inf")
    ("add", a, b, …)         ("mul", a, b, …)         ("div", a, b)      ("pow", a, b)
    ("fn", name, a)          ("fn2", name, a, b)      ("pm", a)          ("deg", a)  ("pct", a)
    ("unit", a, text)        ("base", digits, base)   ("text", words)
    ("seq", open, close, items)  ("set", items)  ("list", items)  ("union", items)  ("mat", rows)
    ("rel", sides, operators)    ("builder", conditions)          ("ratio", items)  ("empty",)
    ("where", a, conditions)     ("image", a, conditions)


Nothing is evaluated but plain rational arithmetic below a bit cap.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

Node = tuple[Any, ...]

INEQUALITIES = frozenset(("<", ">", "<=", ">=", "!="))
MAX_CHARS = 1024
MAX_TOKENS = 640
MAX_DEPTH = 40
MAX_ITEMS = 64
MAX_BITS = 50_000
"""Largest exact number, in bits: 2004! has about 19,000."""


UNREAD: Node = ("text", "?")
"""The left side of an equation that the grammar does not know, as in ``\\lim f(x) = 42``."""


class ParseError(Exception):
    """The grammar does not know this answer."""


class UndefinedError(ParseError):
    """The answer divides by zero, or raises zero to a power that it has not."""


SCALAR = frozenset(("num", "sym", "const", "add", "mul", "div", "pow", "fn", "fn2", "pm", "deg"))


def show(node: Node) -> str:
    """Return the text of a number or a name."""
    if node[0] == "num":
        return str(node[1])
    if node[0] in ("sym", "const", "text"):
        return str(node[1])
    raise ParseError("name")


def is_mixed(left: Node, right: Node) -> bool:
    """Tell whether a whole number and a proper fraction side by side are a mixed number."""
    if left[0] != "num" or right[0] != "num":
        return False
    return bool(left[1].denominator == 1 and left[1] != 0 and 0 < right[1] < 1)


def _fits(value: Fraction) -> bool:
    return value.numerator.bit_length() + value.denominator.bit_length() <= MAX_BITS


def signed(node: Node, sign: int) -> Node:
    """Return the node, negated where the sign is negative."""
    return node if sign > 0 else negate(node)


def negate(node: Node) -> Node:
    """Return −node."""
    if node[0] == "num":
        return ("num", -node[1])
    if node[0] in ("unit", "deg", "pct"):
        return (node[0], negate(node[1]), *node[2:])
    return multiply(("num", Fraction(-1)), node)


def add(terms: list[Node]) -> Node:
    """Return the sum; plain rational terms are added up."""
    if len(terms) == 1:
        return terms[0]
    _check_scalars(terms)
    total = Fraction(0)
    rest: list[Node] = []
    for term in terms:
        if term[0] == "num":
            total += term[1]
        else:
            rest.append(term)
    if not _fits(total):
        raise ParseError("too big")
    if not rest:
        return ("num", total)
    if total:
        rest.append(("num", total))
    return rest[0] if len(rest) == 1 else ("add", *rest)


def multiply(a: Node, b: Node) -> Node:
    """Return a·b."""
    if a[0] == "num" and b[0] == "num":
        value = a[1] * b[1]
        if not _fits(value):
            raise ParseError("too big")
        return ("num", value)
    if b[0] == "unit":
        return ("unit", multiply(a, b[1]), b[2])
    if b[0] in ("deg", "pct") and a[0] == "num":
        return (b[0], multiply(a, b[1]))
    _check_scalars([a, b])
    return ("mul", a, b)


def divide(a: Node, b: Node) -> Node:
    """Return a/b."""
    if b[0] == "num":
        if not b[1]:
            raise UndefinedError("division by zero")
        if a[0] == "num":
            value = a[1] / b[1]
            if not _fits(value):
                raise ParseError("too big")
            return ("num", value)
    _check_scalars([a, b])
    return ("div", a, b)


def power(a: Node, b: Node) -> Node:
    """Return a^b; a rational power is folded while it stays below the bit cap."""
    if a[0] == "num" and b[0] == "num" and b[1].denominator == 1:
        base, exponent = a[1], b[1].numerator
        if base == 0 and exponent <= 0:
            raise UndefinedError("zero power")
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if base in (0, 1, -1) or abs(exponent) * bits <= MAX_BITS:
            if base in (0, 1, -1):
                exponent = exponent % 2 if base == -1 else 1
            return ("num", base**exponent)
    if a[0] == "deg":
        raise ParseError("power")
    if a[0] == "text":
        raise ParseError("power of a word")
    _check_scalars([a, b])
    return ("pow", a, b)


def factorial(a: Node) -> Node:
    """Return a!."""
    if a[0] == "num" and a[1].denominator == 1 and 0 <= a[1] <= 3000:
        return ("num", Fraction(math.factorial(a[1].numerator)))
    _check_scalars([a])
    return ("fn", "factorial", a)


def binomial(n: Node, k: Node) -> Node:
    """Return n over k."""
    whole = n[0] == k[0] == "num" and n[1].denominator == k[1].denominator == 1
    if whole and 0 <= n[1] <= 3000 and k[1] >= 0:
        return ("num", Fraction(math.comb(n[1].numerator, k[1].numerator)))
    _check_scalars([n, k])
    return ("fn2", "binom", n, k)


def function(name: str, a: Node) -> Node:
    """Return name(a)."""
    if a[0] == "num":
        if name == "abs":
            return ("num", abs(a[1]))
        if name in ("floor", "ceil"):
            floor = a[1].numerator // a[1].denominator
            return ("num", Fraction(floor + (name == "ceil" and a[1].denominator != 1)))
    if name != "det":
        _check_scalars([a])
    return ("fn", name, a)


def of_builder(head: Node, conditions: tuple[Node, ...]) -> Node:
    r"""Return ``{head | conditions}``: what a name may be, or what an expression gives.

    Raises:
        ParseError: the head is no such thing.
    """
    if head[0] == "rel" and head[2] == ("in",):
        conditions = (head, *conditions)
        head = head[1][0]
    if head[0] == "sym":
        return ("builder", conditions)
    if head[0] in SCALAR or (head[0] == "seq" and head[1] + head[2] == "()"):
        return ("image", head, conditions)
    raise ParseError("a set of what")


def _check_scalars(nodes: list[Node]) -> None:
    for node in nodes:
        if node[0] not in SCALAR and node[0] not in ("unit", "pct"):
            raise ParseError(f"{node[0]} in an expression")
