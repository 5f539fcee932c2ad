r"""Conditions beside an answer: ``x^2, x > 0`` is x^2 where x is positive (math)."""

from __future__ import annotations

from typing import NamedTuple

from factory.verifiers.math import domains
from factory.verifiers.math.domains import names_of
from factory.verifiers.math.nodes import INEQUALITIES, Node
from factory.verifiers.math.numbers import symbols
from factory.verifiers.math.plain import ALL_REALS, choose, has_pm, kind_of
from factory.verifiers.math.words import domain_said

MAX_CONDITIONS = 12


class Split(NamedTuple):
    """An answer and its conditions."""

    body: Node | None
    """None where the conditions are the answer: the set of what they allow."""
    conditions: tuple[Node, ...] = ()
    is_set: bool = False
    """Whether it is the set of what the body gives."""


def split(node: Node) -> Split:
    r"""Split an answer into what it says and the conditions on its names.

    >>> from factory.verifiers.math.parse import parse
    >>> split(parse("x^2, x > 0")).body
    ('pow', ('sym', 'x'), ('num', Fraction(2, 1)))
    """
    kind = node[0]
    if kind == "where":
        told = node[1][1] if node[1][0] == "list" else (node[1],)
        if all(is_condition(i) for i in told):
            return _of_list(("list", (*told, *node[2])))
        conditions = _folded(node[2])
        if any(_agrees(c, n) is False for c in conditions for n in told):
            return Split(("list", (*told, *conditions)))  # x = 2 for x > 5
        inner = split(node[1])
        return Split(inner.body, inner.conditions + conditions, inner.is_set)
    if kind == "image":
        return Split(node[1], node[2], is_set=True)
    if kind == "builder":
        return _of_builder(node)
    if kind == "list":
        return _of_list(node)
    if domains.is_number_set(node):
        return Split(None, (("rel", (("sym", "?"), node), ("in",)),))
    if kind == "rel" and node[2] == ("in",) and domains.is_number_set(node[1][1]):
        return Split(None, (node,)) if node[1][0][0] == "sym" else Split(node)
    if kind == "rel" and node[2] == ("notin",):
        return Split(None, (node,))
    if kind == "rel" and node[2] == ("!=",) and has_pm(node[1][1]):
        return Split(("builder", _folded((node,))))
    return Split(node)


def _of_builder(node: Node) -> Split:
    """Read ``{x | x = 2k, k ∈ Z}`` as what 2k gives; a condition on reals stays a region."""
    items = _folded(node[1])
    equations = [i for i in items if i[0] == "rel" and i[2] == ("=",) and i[1][0][0] == "sym"]
    if len(equations) == 1 and len(items) > 1 and symbols(equations[0][1][1]):
        name = equations[0][1][0][1]
        rest = tuple(i for i in items if i is not equations[0] and not _is_real(i))
        if name not in {s for i in rest for s in names_of(i)}:
            return Split(equations[0][1][1], rest, is_set=True)
    told = tuple(i for i in items if not _is_real(i))
    if all(i[0] == "union" or is_inequality(i) for i in told):
        return Split(("builder", told) if told else ALL_REALS)
    return _with_parameter(told)


def _with_parameter(told: tuple[Node, ...]) -> Split:
    r"""Split ``2kπ < x < 2kπ + π, k ∈ ℤ`` into an interval and what k may be."""
    about = [c for c in told if c[0] == "rel" and len(subjects(c)) > 1]
    if len(about) == 1 and all(c[0] == "rel" for c in told):
        body = as_chain(about[0])
        rest = tuple(c for c in told if c is not about[0])
        parameters = {n for c in rest if c[2] == ("in",) for n in subjects(c)}
        free = subjects(body) - parameters
        if rest and len(free) == 1 and {n for c in rest for n in subjects(c)} == parameters:
            sides, signs = body[1], body[2]
            if len(sides) == 3 and sides[1] == ("sym", *free) and set(signs) <= {"<", "<="}:
                ends = ("[" if signs[0] == "<=" else "(", "]" if signs[1] == "<=" else ")")
                body = ("seq", *ends, (sides[0], sides[2]))
            return Split(body, rest)
    return Split(None, told)


def _is_real(item: Node) -> bool:
    return bool(item[0] == "rel" and item[2] == ("in",) and item[1][1] == ALL_REALS)


def _of_list(node: Node) -> Split:
    items = _folded(node[1])
    told = [i for i in items if is_condition(i)]
    if not told or len(told) > MAX_CONDITIONS:
        return Split(node)
    answers = [i for i in items if not is_condition(i)]
    if not answers:
        told = [i for i in told if not _is_real(i)] or told[:1]
        if len(told) == 1:
            return split(told[0])
        is_plain = all(map(is_inequality, told))
        if is_plain and len({n for i in told for n in subjects(i)}) == 1:
            return Split(("list", tuple(told)))
        return _with_parameter(tuple(told))
    rest = []
    for condition in told:
        judged = [_agrees(condition, answer) for answer in answers]
        if False in judged:
            return Split(node)  # x = 2, x > 5: two parts of one answer
        if None in judged:
            rest.append(condition)
    said = frozenset(n for i in answers for n in names_of(i))
    if any(is_inequality(i) and not names_of(i) & said for i in rest):
        return Split(node)
    body: Node = answers[0] if len(answers) == 1 else ("list", tuple(answers))
    return Split(body, tuple(rest))


def _agrees(condition: Node, answer: Node) -> bool | None:
    """Tell whether the number that an answer gives to a name keeps to the condition on it.

    None where it gives no number, or to another name.
    """
    if answer[0] != "rel" or answer[2] != ("=",) or answer[1][0][0] != "sym":
        return None
    if answer[1][0][1] not in subjects(condition) or symbols(answer[1][1]):
        return None
    domain = domains.of_condition(condition, 0)
    return None if domain is None else domains.holds(domain, answer[1][1])


def is_condition(item: Node) -> bool:
    """Tell whether an item only says what a name may be."""
    if item[0] == "union":
        return all(is_condition(n) for n in item[1])
    if item[0] != "rel":
        return False
    if is_inequality(item):
        return bool(subjects(item))
    return item[2] in (("in",), ("notin",)) and item[1][0][0] == "sym"


def is_inequality(item: Node) -> bool:
    """Tell whether an item is one inequality, or a chain of them."""
    return bool(item[0] == "rel" and set(item[2]) <= INEQUALITIES)


def subjects(condition: Node) -> frozenset[str]:
    """Return the names that a condition is about."""
    if condition[0] == "rel" and condition[2] in (("in",), ("notin",)):
        return symbols(condition[1][0])
    return symbols(condition)


def _folded(items: tuple[Node, ...]) -> tuple[Node, ...]:
    r"""Write short forms in full: ``x \ne 0, 1``, ``a, b > 0``, ``n = 1, 2, …``, "k an integer"."""
    out: list[Node] = []
    items = tuple(i for item in items for i in _in_signs(item))
    at = 0
    while at < len(items):
        item = items[at]
        at += 1
        if item[0] == "rel" and item[1][0][0] == "sym" and item[2] in (("!=",), ("=",)):
            end = at
            while end < len(items) and _is_number(items[end]):
                end += 1
            members = (item[1][1], *items[at:end])
            if item[2] == ("!=",) and end > at:
                out += [("rel", (item[1][0], m), ("!=",)) for m in members]
                at = end
                continue
            if item[2] == ("=",) and out and ("sym", "…") in members:
                out.append(("rel", (item[1][0], ("set", members)), ("in",)))
                at = end
                continue
        if is_condition(item) and item[1][0][0] == "sym":
            out = _with_names_before(out, item)
        out.append(item)
    return tuple(out)


def _is_number(node: Node) -> bool:
    return node == ("sym", "…") or (kind_of(node) == "value" and not symbols(node))


def _with_names_before(out: list[Node], condition: Node) -> list[Node]:
    """Read ``m, n ∈ ℤ`` as said of both names."""
    begin = len(out)
    while begin and out[begin - 1][0] == "sym" and out[begin - 1] != condition[1][0]:
        begin -= 1
    names = out[begin:]
    said = {n for i in out[:begin] for n in names_of(i)}
    if not names or (begin and not all(n[1] in said for n in names)):
        return out
    return out[:begin] + [("rel", (n, *condition[1][1:]), condition[2]) for n in names]


def _in_signs(item: Node) -> tuple[Node, ...]:
    """Write ``k \\text{ is an integer}`` as membership, ``x ≠ ±2`` as two conditions."""
    if item[0] == "unit" and item[1][0] == "sym":
        members = domain_said(str(item[2]))
        if members is not None:
            told = ALL_REALS if members == "bbR" else ("sym", members)
            return (("rel", (item[1], told), ("in",)),)
    if item[0] == "rel" and item[2] == ("!=",) and item[1][0][0] == "sym" and has_pm(item[1][1]):
        return tuple(("rel", (item[1][0], choose(item[1][1], s)), ("!=",)) for s in (1, -1))
    return (item,)


def as_chain(condition: Node) -> Node:
    """Write ``x ∈ (a, b)`` as ``a < x < b``, and a chain from the smaller to the larger end."""
    if condition[0] != "rel":
        return condition
    sides, operators = condition[1], condition[2]
    if operators == ("in",) and sides[1][0] == "seq" and len(sides[1][3]) == 2:
        low, high = sides[1][3]
        signs = ("<=" if sides[1][1] == "[" else "<", "<=" if sides[1][2] == "]" else "<")
        return ("rel", (low, sides[0], high), signs)
    if len(sides) > 2 and set(operators) <= {">", ">="}:
        turned = tuple(o.replace(">", "<") for o in reversed(operators))
        return ("rel", tuple(reversed(sides)), turned)
    return condition
