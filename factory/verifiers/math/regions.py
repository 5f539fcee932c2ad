"""Answers that are sets of reals: intervals, unions, inequalities, set-builders (math)."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

from factory.verifiers.math.nodes import INEQUALITIES, Node, negate
from factory.verifiers.math.numbers import NotRational, Unsettled, exact, point, symbols
from factory.verifiers.math.plain import INF, difference, float_of, kind_of, simplify, strip
from factory.verifiers.math.value import N_POINTS, equal

Interval = tuple[Node, bool, Node, bool]
"""Lower end, whether it belongs to it, upper end, whether it belongs to it."""
MINUS_INF: Node = ("mul", ("num", Fraction(-1)), INF)


def is_region(node: Node) -> bool:
    """Tell whether an answer can only be a set of reals."""
    if node[0] in ("union", "builder"):
        return True
    if node[0] == "seq" and len(node[3]) == 2:
        return node[1] + node[2] in ("(]", "[)") or any(
            abs(float_of(n) or 0) == math.inf for n in node[3]
        )
    if node[0] == "list":
        return bool(node[1]) and all(
            (n[0] == "rel" and INEQUALITIES & set(n[2])) or (n[0] == "seq" and is_region(n))
            for n in node[1]
        )
    return False


def intervals(node: Node) -> list[Interval] | None:
    """Return an answer as a sorted list of intervals; None where it is no such thing."""
    found = _intervals(node)
    if found is None:
        return None
    keyed = [(float_of(i[0]), i) for i in found]
    if any(k is None for k, _ in keyed):
        return found if len(found) == 1 else None
    return _merged([i for _, i in sorted(keyed, key=lambda pair: pair[0] or 0.0)])


def _merged(found: list[Interval]) -> list[Interval]:
    """Join intervals that touch: (-inf, 2] and {3} stay two, [0,1) and {1} become [0,1]."""
    out: list[Interval] = []
    for interval in found:
        if out:
            last = out[-1]
            end, begin = float_of(last[2]), float_of(interval[0])
            touches = end == begin and (last[3] or interval[1])
            if end is not None and begin is not None and (begin < end or touches):
                out[-1] = _span(last, interval)
                continue
        out.append(interval)
    return out


def _span(x: Interval, y: Interval) -> Interval:
    """Join two intervals that overlap, x the one that begins first."""
    low_in = x[1] or (y[1] and float_of(x[0]) == float_of(y[0]))
    end, other = float_of(x[2]) or 0.0, float_of(y[2]) or 0.0
    if end == other:
        return x[0], low_in, x[2], x[3] or y[3]
    return (x[0], low_in, x[2], x[3]) if end > other else (x[0], low_in, y[2], y[3])


def _intervals(node: Node) -> list[Interval] | None:
    kind = node[0]
    if kind == "empty":
        return []
    if kind == "seq" and len(node[3]) == 2:
        low, high = (_plain_end(n) for n in node[3])
        if kind_of(low) != "value" or kind_of(high) != "value":
            return None
        return [(low, node[1] == "[", high, node[2] == "]")]
    if kind == "set":
        return (
            [(n, True, n, True) for n in node[1]]
            if all(kind_of(n) == "value" for n in node[1])
            else None
        )
    if kind == "union":
        return _union(node[1])
    if kind == "builder":
        return _meet(list(node[1]))
    if kind == "rel":
        return _solved(node)
    if kind == "list":
        return _either_or_both(list(node[1]))
    return None


def _plain_end(node: Node) -> Node:
    return MINUS_INF if node[0] == "num*" else strip(node)[0]


def _union(items: tuple[Node, ...]) -> list[Interval] | None:
    out: list[Interval] = []
    for item in items:
        if item[0] == "minus":
            holes = _intervals(simplify(item[1]) if item[1][0] != "set" else item[1])
            if holes is None or any(h[0] != h[2] for h in holes):
                return None
            out = [piece for i in out for piece in without_points(i, [h[0] for h in holes])]
            continue
        found = _intervals(item)
        if found is None:
            return None
        out.extend(found)
    return out


def without_points(interval: Interval, holes: list[Node]) -> list[Interval]:
    """Take single points out of an interval."""
    pieces = [interval]
    for hole in sorted(holes, key=lambda h: float_of(h) or 0.0):
        low, low_in, high, high_in = pieces.pop()
        pieces += [(low, low_in, hole, False), (hole, False, high, high_in)]
    return pieces


def _either_or_both(items: list[Node]) -> list[Interval] | None:
    """Read "x < 1 or x > 3" as a union and "x > 1 and x < 3" as a section: disjoint or not."""
    found = [_intervals(simplify(i)) for i in items]
    if any(f is None for f in found):
        return None
    parts = [i for f in found if f for i in f]
    spans = [(float_of(i[0]), float_of(i[2])) for i in parts]
    if any(low is None or high is None for low, high in spans):
        return None
    ordered = sorted((low or 0.0, high or 0.0) for low, high in spans)
    overlap = any(b[0] < a[1] for a, b in itertools.pairwise(ordered))
    return _meet(items) if overlap else parts


def _meet(items: list[Node]) -> list[Interval] | None:
    result: list[Interval] | None = None
    for item in items:
        found = _intervals(simplify(item))
        if found is None:
            return None
        result = found if result is None else met(result, found)
    return result


def met(xs: list[Interval], ys: list[Interval]) -> list[Interval]:
    """Return what two sets of intervals have in common."""
    return [both for x in xs for y in ys if (both := _section(x, y)) is not None]


def _section(x: Interval, y: Interval) -> Interval | None:
    lows, highs = (float_of(x[0]), float_of(y[0])), (float_of(x[2]), float_of(y[2]))
    if None in lows or None in highs:
        return None
    a, b = lows[0] or 0.0, lows[1] or 0.0
    low, low_in = (x[0], x[1]) if a > b else (y[0], y[1]) if b > a else (x[0], x[1] and y[1])
    c, d = highs[0] or 0.0, highs[1] or 0.0
    high, high_in = (x[2], x[3]) if c < d else (y[2], y[3]) if d < c else (x[2], x[3] and y[3])
    begin, end = max(a, b), min(c, d)
    if begin > end or (begin == end and not (low_in and high_in)):
        return None
    return low, low_in, high, high_in


def variables(node: Node) -> frozenset[str]:
    """Return the symbols of a relation."""
    return frozenset(s for side in node[1] for s in symbols(side))


def _solved(node: Node) -> list[Interval] | None:
    """Solve a chain of linear inequalities in one symbol."""
    sides, operators = node[1], node[2]
    if operators == ("in",):
        return _intervals(sides[1])
    if operators == ("=",) and sides[0][0] == "sym" and not symbols(sides[1]):
        return [(sides[1], True, sides[1], True)]
    if not set(operators) <= INEQUALITIES or len(variables(node)) != 1:
        return None
    result: list[Interval] = [(MINUS_INF, False, INF, False)]
    for left, operator, right in zip(sides, operators, sides[1:], strict=False):
        part = _solved_one(left, operator, right)
        if part is None:
            return None
        result = met(result, part)
    return result


def _solved_one(left: Node, operator: str, right: Node) -> list[Interval] | None:
    left, right = strip(left)[0], strip(right)[0]
    if left[:2] == ("fn", "abs") or right[:2] == ("fn", "abs"):
        return _solved_distance(left, operator, right)
    if left[0] != "sym":
        if right[0] == "sym" and not symbols(left):
            left, right = right, left
            operator = operator.translate(str.maketrans("<>", "><"))
        else:
            return _solved_linear(left, operator, right)
    if symbols(right):
        return _solved_linear(left, operator, right)
    return _ray(right, operator)


def _solved_distance(left: Node, operator: str, right: Node) -> list[Interval] | None:
    """Solve ``|f| < c`` and ``|f| > c`` for a linear f and a number c > 0."""
    if left[:2] != ("fn", "abs"):
        left, right = right, left
        operator = operator.translate(str.maketrans("<>", "><"))
    bound = None if symbols(right) else float_of(right)
    if bound is None or bound <= 0 or operator == "!=":
        return None
    opposite = operator.translate(str.maketrans("<>", "><"))
    above = _solved_one(left[2], operator, right)
    below = _solved_one(left[2], opposite, negate(right))
    if above is None or below is None:
        return None
    if operator[0] == ">":
        return sorted(above + below, key=lambda i: float_of(i[0]) or 0.0)
    return met(above, below)


def _ray(bound: Node, operator: str) -> list[Interval]:
    if operator == "!=":
        return [(MINUS_INF, False, bound, False), (bound, False, INF, False)]
    closed = operator.endswith("=")
    if operator[0] == "<":
        return [(MINUS_INF, False, bound, closed)]
    return [(bound, closed, INF, False)]


def _solved_linear(left: Node, operator: str, right: Node) -> list[Interval] | None:
    f = difference(left, right)
    if f is None:
        return None
    names = symbols(f)
    if len(names) != 1:
        return None
    (name,) = names
    try:
        xs = [point(name, k) for k in range(N_POINTS)]
        fs = [exact(f, k) for k in range(N_POINTS)]
    except (NotRational, Unsettled):
        return None
    slope = (fs[1] - fs[0]) / (xs[1] - xs[0])
    shift = fs[0] - slope * xs[0]
    if not slope or any(slope * x + shift != y for x, y in zip(xs, fs, strict=True)):
        return None
    if slope < 0:
        operator = operator.translate(str.maketrans("<>", "><"))
    return _ray(("num", -shift / slope), operator)


def same_intervals(ours: list[Interval], theirs: list[Interval]) -> bool | None:
    """Compare two lists of intervals end by end; None where an end cannot be compared."""
    if len(ours) != len(theirs):
        return False
    unknown = False
    for x, y in zip(ours, theirs, strict=True):
        if x[1] != y[1] or x[3] != y[3]:
            return False
        for a, b in ((x[0], y[0]), (x[2], y[2])):
            one, other = float_of(a), float_of(b)
            if one is not None and other is not None and math.inf in (abs(one), abs(other)):
                if one != other:
                    return False
                continue
            verdict = equal(a, b)
            if verdict is False:
                return False
            unknown = unknown or verdict is None
    return None if unknown else True
