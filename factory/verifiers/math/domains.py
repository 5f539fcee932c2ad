r"""Which values a name may take: sets of reals or of whole numbers, compared by value (math).

``x \in (0, 3)`` and ``0 < x < 3``, ``n \ge 1`` and ``n \in \mathbb{N}^*``, ``x \ne 0, 1`` and
``x \notin \{0, 1\}`` are the same domains; integers are not the naturals, (0, 3) is not [0, 3).
"""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction
from typing import NamedTuple

from factory.verifiers.math.nodes import INEQUALITIES, Node
from factory.verifiers.math.numbers import symbols
from factory.verifiers.math.plain import ALL_REALS, INF, float_of, has_pm, simplify
from factory.verifiers.math.regions import (
    MINUS_INF,
    Interval,
    intervals,
    met,
    same_intervals,
    without_points,
)


class Domain(NamedTuple):
    """What a name may be."""

    spans: tuple[Interval, ...]
    numbers: str = ""
    """``Z``, ``Q``, ``R`` or ``C`` where that is said."""


_EVERYTHING: tuple[Interval, ...] = ((MINUS_INF, False, INF, False),)
_ANY = Domain(_EVERYTHING)
_NUMBER_SET = re.compile(r"(?:bb)?([ZNQRC])(?:_?(.*))?")
_ABOVE = frozenset(("+", ">0", "++"))
_FROM = frozenset(("ge0", ">=0", "geq0", "geqslant0"))
_WHOLE_NAMES = frozenset("ijklmnN")
"""Names that stand for whole numbers where nothing else is said."""


def is_number_set(node: Node) -> bool:
    r"""Tell whether a node is a set such as ``\mathbb{Z}^+``, or one with some members taken out.

    >>> is_number_set(("sym", "bbZ+")), is_number_set(("sym", "x"))
    (True, False)
    """
    if node[0] == "union":
        rest = node[1][1:]
        return is_number_set(node[1][0]) and all(n[0] == "minus" for n in rest)
    return node[0] == "sym" and str(node[1]).startswith("bb")


def of_set(node: Node, first: int) -> Domain | None:
    """Return what the members of a set are; None where it is not read.

    Args:
        node: a set of numbers, an interval, a list of members, a union of those.
        first: the smallest natural number, 0 or 1: authors differ.
    """
    if node == ALL_REALS:
        return Domain(_EVERYTHING, "R")
    if node[0] == "sym":
        return _of_number_set(str(node[1]), first)
    if node[0] in ("set", "list") and ("sym", "…") in node[1]:
        return _of_progression(list(node[1]))
    if node[0] == "union":
        whole = of_set(node[1][0], first)
        if whole is not None and whole.numbers and all(n[0] == "minus" for n in node[1][1:]):
            for taken in node[1][1:]:
                whole = None if whole is None else _except(whole, of_set(_plain(taken[1]), first))
            return whole
    spans = intervals(node if node[0] == "set" else _plain(node))
    return None if spans is None else Domain(tuple(spans))


def _plain(node: Node) -> Node:
    return node if node[0] in ("set", "sym") else simplify(node)


def _of_number_set(name: str, first: int) -> Domain | None:
    found = _NUMBER_SET.fullmatch(name)
    if found is None:
        return None
    letter, sign = found[1], found[2] or ""
    numbers = "Z" if letter == "N" else letter
    zero: Node = ("num", Fraction(0))
    if letter == "N":
        if sign in ("", "0"):
            return _from(0 if sign else first, "Z")
        return _from(1, "Z") if sign in _ABOVE | {"*", "ge1", "1"} else None
    if not sign:
        return Domain(_EVERYTHING, numbers)
    if sign in _ABOVE:
        return Domain(((zero, False, INF, False),), numbers)
    if sign in _FROM:
        return Domain(((zero, True, INF, False),), numbers)
    if sign in ("-", "<0"):
        return Domain(((MINUS_INF, False, zero, False),), numbers)
    return _except(Domain(_EVERYTHING, numbers), _points([zero])) if sign == "*" else None


def _from(number: int, numbers: str) -> Domain:
    return Domain(((("num", Fraction(number)), True, INF, False),), numbers)


def _points(nodes: list[Node]) -> Domain:
    return Domain(tuple((n, True, n, True) for n in nodes))


def _except(whole: Domain, taken: Domain | None) -> Domain | None:
    """Take single points out of a domain."""
    if taken is None or any(low != high for low, _, high, _ in taken.spans):
        return None
    holes = [low for low, _, _, _ in taken.spans if float_of(low) is not None]
    if len(holes) != len(taken.spans):
        return None
    out = [piece for span in whole.spans for piece in without_points(span, holes)]
    return Domain(tuple(out), whole.numbers)


def _of_progression(items: list[Node]) -> Domain | None:
    """Read whole numbers one after the other: ``1, 2, …``, ``0, ±1, …``, ``…, -1, 0, 1, …``."""
    if any(has_pm(n) for n in items):
        wanted = [("num", Fraction(0)), *(("pm", ("num", Fraction(k))) for k in (1, 2, 3))]
        at = items.index(("sym", "…"))
        return Domain(_EVERYTHING, "Z") if at > 1 and items == [*wanted[:at], items[-1]] else None
    both = items[0] == ("sym", "…")
    items = items[1:] if both else items
    if ("sym", "…") not in items:
        return None
    at = items.index(("sym", "…"))
    head, tail = items[:at], items[at + 1 :]
    if at < 2 or len(tail) > 1 or any(n[0] != "num" for n in (*head, *tail)):
        return None
    if any(b[1] - a[1] != 1 for a, b in itertools.pairwise(head)):
        return None
    if both:
        return Domain(_EVERYTHING, "Z") if not tail else None
    if tail:
        return Domain(((head[0], True, tail[0], True),), "Z")
    return Domain(((head[0], True, INF, False),), "Z")


def of_condition(condition: Node, first: int) -> Domain | None:
    """Return what one relation lets the name in it be; None where it is not read."""
    if condition[0] == "union":
        spans = intervals(condition)
        return None if spans is None else Domain(tuple(spans))
    sides, operators = condition[1], condition[2]
    if operators == ("in",):
        return of_set(sides[1], first)
    if operators == ("notin",):
        return _except(_ANY, of_set(sides[1], first))
    if set(operators) <= INEQUALITIES:
        spans = intervals(condition)
        return None if spans is None else Domain(tuple(spans))
    return None


def met_all(domains: list[Domain | None]) -> Domain | None:
    """Return what all the domains have in common; None where one of them is not read."""
    spans: list[Interval] | None = list(_EVERYTHING)
    numbers = ""
    for domain in domains:
        if domain is None or spans is None:
            return None
        spans = met(spans, list(domain.spans))
        said = {numbers, domain.numbers} - {""}
        # Of sets that lie in each other the smallest is what they have in common.
        numbers = next((n for n in "ZQRC" if n in said), "")
    return None if spans is None else Domain(tuple(spans), numbers)


def same_domain(ours: Domain, theirs: Domain, name: str) -> bool | None:
    """Tell whether two domains are the same; None where an end cannot be compared.

    Args:
        ours: one side's.
        theirs: the other's.
        name: of what they are said: ``n`` is a whole number where nobody says so, ``x`` is not.
    """
    kinds = [d.numbers.replace("R", "") for d in (ours, theirs)]
    if kinds[0] != kinds[1]:
        unsaid = next((d for d in (ours, theirs) if not d.numbers), None)
        if sorted(kinds) != ["", "Z"] or unsaid is None:
            return False
        if not (name[:1] in _WHOLE_NAMES or _are_points(unsaid)):
            return False
    if "Z" in kinds:
        a, b = _whole_numbers(ours), _whole_numbers(theirs)
        if a is not None and b is not None:
            return a == b
    return same_intervals(list(ours.spans), list(theirs.spans))


def _are_points(domain: Domain) -> bool:
    values = [float_of(low) for low, _, _, _ in domain.spans]
    return all(low == high for low, _, high, _ in domain.spans) and all(
        v is not None and v.is_integer() for v in values
    )


def _whole_numbers(domain: Domain) -> list[tuple[float, float]] | None:
    """Return the runs of whole numbers in a domain; None where an end has no value."""
    runs: list[tuple[float, float]] = []
    for low, low_in, high, high_in in domain.spans:
        begin, end = float_of(low), float_of(high)
        if begin is None or end is None:
            return None
        first = begin if math.isinf(begin) else math.ceil(begin)
        last = end if math.isinf(end) else math.floor(end)
        first += first == begin and not low_in and not math.isinf(begin)
        last -= last == end and not high_in and not math.isinf(end)
        if first > last:
            continue
        if runs and first <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((first, last))
    return runs


def holds(domain: Domain, value: Node) -> bool | None:
    """Tell whether a number lies in a domain; None where it has no value."""
    at = float_of(value)
    if at is None:
        return None
    if domain.numbers == "Z" and not at.is_integer():
        return False
    for low, low_in, high, high_in in domain.spans:
        begin, end = float_of(low), float_of(high)
        if begin is None or end is None:
            return None
        if begin < at < end or (at == begin and low_in) or (at == end and high_in):
            return True
    return False


def names_of(node: Node) -> frozenset[str]:
    """Return the names in an answer, the argument of ``f(x)`` among them.

    >>> sorted(names_of(("rel", (("sym", "f(x)"), ("num", 2)), ("=",))))
    ['f(x)', 'x']
    """
    names = symbols(node)
    inner = {m[1] for n in names if (m := re.fullmatch(r"[A-Za-z]+\((\w+)\)", n))}
    indices = {m[1] for n in names if (m := re.fullmatch(r"[A-Za-z]_([a-z])", n))}
    return names | inner | indices


def holds_all(domain: Domain) -> bool:
    """Tell whether a domain leaves out no number of its kind."""
    return domain.spans == _EVERYTHING
