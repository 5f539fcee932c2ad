"""Whether two parsed answers are the same answer: lists, sets, intervals, equations, units (math).

``same`` is symmetric. True and False are settled; None means that neither the structure nor the
values decide, and the next step of the cascade must.
"""

from __future__ import annotations

import contextlib
import math
import re
from fractions import Fraction

from factory.verifiers.math.conditions import split
from factory.verifiers.math.inequalities import proportional, same_inequalities
from factory.verifiers.math.named import canonical
from factory.verifiers.math.nodes import UNREAD, Node, ParseError, divide
from factory.verifiers.math.numbers import (
    has_constant,
    symbols,
)
from factory.verifiers.math.plain import (
    ALL_REALS,
    STRUCTURES,
    difference,
    float_of,
    is_name,
    kind_of,
    simplify,
    strip,
    with_name,
)
from factory.verifiers.math.quantities import (
    equal_but_for_a_constant,
    quantity,
    same_units,
    same_without_unit,
)
from factory.verifiers.math.regions import (
    Interval,
    intervals,
    is_region,
    same_intervals,
)
from factory.verifiers.math.same_conditions import same_with_conditions
from factory.verifiers.math.units import factor, measure
from factory.verifiers.math.value import equal
from factory.verifiers.math.words import word_form

MAX_PAIRS = 1500


def same(a: Node, b: Node) -> bool | None:
    """Tell whether two answers are the same; None where that is not settled.

    Raises:
        UnsureError: only their conditions are left, and those cannot be compared.

    >>> from factory.verifiers.math.parse import parse
    >>> same(parse("x > 2"), parse("(2, inf)")), same(parse("(1,2)"), parse("(2,1)"))
    (True, False)
    """
    if a == b:
        return True
    first, second = split(a), split(b)
    if first.body is None or second.body is None or first.conditions or second.conditions:
        return same_with_conditions(first, second, same)
    a, b = simplify(first.body), simplify(second.body)
    if a == b:
        return True
    a_kind, b_kind = kind_of(a), kind_of(b)
    for one, other in ((a, b), (b, a)):
        if one == ("sym", "R") and other == ALL_REALS:
            return True
    if a_kind == "rel" or b_kind == "rel":
        return _relations(a, b)
    if is_region(a) or is_region(b):
        ours, theirs = (_as_region(x, beside=y) for x, y in ((a, b), (b, a)))
        if ours is not None and theirs is not None:
            return same_intervals(ours, theirs)
        if a_kind != b_kind:
            return None if "union" in (a_kind, b_kind) or "builder" in (a_kind, b_kind) else False
    if "empty" in (a_kind, b_kind):
        return False  # the set that holds the empty set is not empty
    if "text" in (a_kind, b_kind):
        return _texts(a, b)
    if a_kind in ("list", "set") or b_kind in ("list", "set"):
        return _lists(a, b)
    if a_kind == "ratio" or b_kind == "ratio":
        return _ratios(a, b)
    if a_kind == "mat" or b_kind == "mat":
        return _matrices(a, b)
    if a_kind == "seq" and b_kind == "seq":
        return _sequences(a, b)
    if a_kind == b_kind == "cases":
        return _same_members([_row(r) for r in a[1]], [_row(r) for r in b[1]])
    if a_kind != b_kind:
        return False
    if a_kind != "value":
        return None if a_kind in ("union", "builder") else False
    return _values(a, b)


def _as_region(node: Node, *, beside: Node) -> list[Interval] | None:
    """Return the intervals of an answer; a value is a set of one beside a condition."""
    if beside[0] == "builder" and kind_of(node) == "value":
        node = ("set", (node,))
    return intervals(node)


# ---- scalars with and without a unit


def _values(a: Node, b: Node) -> bool | None:
    x, x_kind, x_unit = strip(a)
    y, y_kind, y_unit = strip(b)
    if x[0] in STRUCTURES or y[0] in STRUCTURES:
        return same(x, y)
    if x_kind == y_kind == "unit":
        return same_units(x, x_unit, y, y_unit)
    if x_kind and y_kind and x_kind != y_kind:
        return False  # 20 % is not 20 cm^2
    if x_unit and y_unit and factor(x_unit, y_unit) is None:
        return False  # 20 % more is not 20 % less
    if measure(x_unit).changes != measure(y_unit).changes:
        return False
    if {x_kind, y_kind} == {"unit", ""}:
        return same_without_unit(x, x_unit, y) if x_kind else same_without_unit(y, y_unit, x)
    plain = equal(x, y)
    if plain is False and symbols(x) != symbols(y):
        plain = equal_but_for_a_constant(x, y)
    if plain is not False or x_kind == y_kind:
        return plain
    if "pct" in (x_kind, y_kind):
        # 10 % is 0.1, and also 10 where the other side left the sign out.
        whole, part = (x, y) if x_kind == "pct" else (y, x)
        return equal(divide(whole, ("num", Fraction(100))), part)
    if "deg" in (x_kind, y_kind):
        turned, other = (x, y) if x_kind == "deg" else (y, x)
        if has_constant("pi", other):
            return equal(("deg", turned), other)
    return plain


# ---- words


def _texts(a: Node, b: Node) -> bool | None:
    """Compare a word with a word; a word is never a formula."""
    ours, theirs = _words(a), _words(b)
    if ours is None or theirs is None:
        return False
    return ours == theirs


def _words(node: Node) -> str | None:
    if node[0] == "text" or node[0] == "sym":
        return canonical(word_form(str(node[1])))
    if node[0] == "unit" and node[1][0] in ("text", "sym"):
        return f"{_words(node[1])} {node[2]}".casefold()
    return None


# ---- lists, sets, tuples, matrices, ratios


def _lists(a: Node, b: Node) -> bool | None:
    ours, theirs = _members(a), _members(b)
    if a[0] == "list" and b[0] == "seq":
        return _all_same(ours, list(b[3])) if b[1] + b[2] == "()" else False
    if b[0] == "list" and a[0] == "seq":
        return _all_same(list(a[3]), theirs) if a[1] + a[2] == "()" else False
    if (a[0] == "list" and b[0] == "mat") or (b[0] == "list" and a[0] == "mat"):
        return False
    if a[0] == b[0] == "list" and len(ours) == len(theirs):
        in_order = _all_same(ours, theirs)
        if in_order is not False:
            return in_order
        if _labelled(ours) != _labelled(theirs):
            return False  # "a = 1, b = 2" against the bare "2, 1"
    if (a[0] == "list") != (b[0] == "list"):
        x, y = quantity(ours), quantity(theirs)
        if x is not None and y is not None:
            return same_units(x[1], str(x[2]), y[1], str(y[2]))
    return _same_members(ours, theirs)


def _members(node: Node) -> list[Node]:
    return list(node[1]) if node[0] in ("list", "set") else [node]


def _labelled(items: list[Node]) -> bool:
    """Tell whether the items are assignments to different names (roots x_1, x_2 are one name)."""
    heads = {
        str(i[1][0][1])[:1] if i[1][0][0] == "sym" else i[1][0] for i in items if i[0] == "rel"
    }
    return len(heads) > 1


def _all_same(ours: list[Node], theirs: list[Node]) -> bool | None:
    if len(ours) != len(theirs):
        return False
    unknown = False
    for x, y in zip(ours, theirs, strict=True):
        verdict = same(x, y)
        if verdict is False:
            return False
        unknown = unknown or verdict is None
    return None if unknown else True


def _same_members(ours: list[Node], theirs: list[Node]) -> bool | None:
    """Compare as sets: every member has its equal on the other side."""
    if len(ours) * len(theirs) > MAX_PAIRS:
        return None
    if len(ours) != len(theirs):
        ours, theirs = _distinct(ours), _distinct(theirs)
        if len(ours) != len(theirs):
            return False
    left = list(theirs)
    unknown = False
    for x in ours:
        for at, y in enumerate(left):
            verdict = same(x, y)
            if verdict:
                del left[at]
                break
            unknown = unknown or verdict is None
        else:
            if not unknown:
                return False
    if left and not unknown:
        return False
    return None if left else True


def _distinct(items: list[Node]) -> list[Node]:
    out: list[Node] = []
    for item in items:
        if not any(same(item, other) for other in out):
            out.append(item)
    return out


def _sequences(a: Node, b: Node) -> bool | None:
    if len(a[3]) != len(b[3]):
        return False
    if len(a[3]) == 2 and a[1:3] != b[1:3]:
        return False
    return _all_same(list(a[3]), list(b[3]))


def _matrices(a: Node, b: Node) -> bool | None:
    ours, theirs = _rows(a), _rows(b)
    if ours is None or theirs is None:
        return False
    if a[0] != b[0]:  # a vector, written as a column, a row or a tuple
        flat = [x for row in ours for x in row], [x for row in theirs for x in row]
        if min(len(ours), len(ours[0])) != 1 or min(len(theirs), len(theirs[0])) != 1:
            return False
        return _all_same(*flat)
    if [len(r) for r in ours] != [len(r) for r in theirs]:
        return False
    return _all_same([x for row in ours for x in row], [x for row in theirs for x in row])


def _row(cells: tuple[Node, ...]) -> Node:
    return ("seq", "(", "|", cells)  # in order, and no interval


def _rows(node: Node) -> list[tuple[Node, ...]] | None:
    if node[0] == "mat":
        return list(node[1])
    if node[0] == "seq":
        return [tuple(node[3])]
    return None


def _ratios(a: Node, b: Node) -> bool | None:
    ours, theirs = _parts(a), _parts(b)
    if ours is None or theirs is None:
        return False
    if len(ours) == len(theirs) and len(ours) > 2:
        with contextlib.suppress(ParseError):
            return _all_same(
                [divide(x, ours[0]) for x in ours[1:]], [divide(y, theirs[0]) for y in theirs[1:]]
            )
        return None
    x, y = _quotient(ours), _quotient(theirs)
    if x is None or y is None:
        return False
    return same(x, y)


def _parts(node: Node) -> list[Node] | None:
    if node[0] == "ratio":
        return list(node[1])
    return [node] if kind_of(node) == "value" else None


def _quotient(parts: list[Node]) -> Node | None:
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        with contextlib.suppress(ParseError):
            return divide(parts[0], parts[1])
    return None


# ---- equations and inequalities


def _relations(a: Node, b: Node) -> bool | None:
    """Compare where at least one side is a relation."""
    ours, theirs = _is_equation(a), _is_equation(b)
    if a[0] == "rel" and b[0] == "rel":
        if "~" in a[2] or "~" in b[2]:
            return _with_approximation(a, b)
        if ours and theirs:
            return _equations(_ends(a), _ends(b))
        return same_inequalities(a, b)
    relation, other = (a, b) if a[0] == "rel" else (b, a)
    if "~" in relation[2]:
        return _with_approximation(relation, other)
    if is_region(other) and (x := intervals(relation)) and (y := intervals(other)):
        return same_intervals(x, y)
    if _is_equation(relation):
        if other[0] in ("list", "set") and len(_members(other)) > 1:
            return False
        value = _assigned(relation)
        return False if value is None else same(value, other)
    x, y = intervals(relation), intervals(other)
    if x is None or y is None:
        return False
    return same_intervals(x, y)


def _is_equation(node: Node) -> bool:
    return node[0] == "rel" and set(node[2]) <= {"=", "~"}


def _with_approximation(a: Node, b: Node) -> bool | None:
    """Read ``a ≈ b``: the exact part is the answer, or b where it is consistent with a."""
    ours, theirs = _readings(a), _readings(b)
    unknown = False
    for x in ours:
        for y in theirs:
            verdict = same(x, y)
            if verdict:
                return True
            unknown = unknown or verdict is None
    return None if unknown else False


def _readings(node: Node) -> list[Node]:
    if node[0] != "rel" or "~" not in node[2]:
        return [node]
    at = node[2].index("~")
    sides = node[1]
    head: Node = sides[0] if at == 0 else ("rel", sides[: at + 1], node[2][:at])
    if at == 0 and is_name(head):
        return [sides[-1]]
    readings = [head]
    value = head if at == 0 else _assigned(head)
    if value is not None:
        x, y = float_of(strip(value)[0]), float_of(strip(sides[-1])[0])
        if x is not None and y is not None and math.isclose(x, y, rel_tol=0.01):
            readings.append(sides[-1])
    return readings


def _ends(node: Node) -> tuple[Node, Node]:
    return node[1][0], node[1][-1]


def _assigned(node: Node) -> Node | None:
    """Return the value that an equation gives to a name (``x = 5``, ``5 = x``); None otherwise."""
    first, last = _ends(node)
    if is_name(first):
        return last
    if len(node[1]) == 2 and last[0] == "sym":
        return first
    return None


def _equations(ours: tuple[Node, Node], theirs: tuple[Node, Node]) -> bool | None:
    """Hold two equations the same when one is the other times a constant."""
    if UNREAD in (ours[0], theirs[0]):
        return same(ours[1], theirs[1])
    theirs = _renamed(theirs, ours)
    if is_name(ours[0]) and ours[0] == theirs[0]:
        return same(ours[1], theirs[1])
    f, g = difference(*ours), difference(*theirs)
    if f is None or g is None:
        return _all_same(list(ours), list(theirs))
    if symbols(f) != symbols(g):
        return False
    return proportional(f, g, positive=False)


def _renamed(ours: tuple[Node, Node], theirs: tuple[Node, Node]) -> tuple[Node, Node]:
    """Write ``f(t) = t^2`` with the name that the other side gives to f's argument."""
    heads = [re.fullmatch(r"([A-Za-z])\(([a-z])\)", str(e[0][-1])) for e in (ours, theirs)]
    mine, other = heads
    if mine is None or other is None or mine[1] != other[1] or mine[2] == other[2]:
        return ours
    if other[2] in symbols(ours[1]):
        return ours
    return theirs[0], with_name(ours[1], mine[2], other[2])
