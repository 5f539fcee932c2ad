r"""Whether two answers with conditions are the same: ``x^2, x > 0`` is not ``x^2, x < 0`` (math).

Both sides' conditions are read as domains and compared by value. A condition that only one side
says is no matter, since the question knew it; one that both say, and that cannot be compared,
leaves the verdict open (``UnsureError``): it is never accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from factory.verifiers.math import domains
from factory.verifiers.math.conditions import (
    Split,
    as_chain,
    is_condition,
    is_inequality,
    subjects,
)
from factory.verifiers.math.domains import Domain, names_of
from factory.verifiers.math.nodes import Node, ParseError, add, multiply
from factory.verifiers.math.numbers import symbols
from factory.verifiers.math.plain import kind_of, simplify, substituted
from factory.verifiers.math.regions import intervals

Same = Callable[[Node, Node], "bool | None"]


class UnsureError(Exception):
    """What two answers say is the same, but their conditions cannot be compared."""


class _Told(NamedTuple):
    """What a side's conditions say."""

    domains: dict[str, tuple[Domain, Domain]]
    """By name: with naturals from 0, and from 1."""
    rest: list[Node]


def _told(conditions: tuple[Node, ...], *, alternatives: bool = False) -> _Told:
    by_name: dict[str, list[Node]] = {}
    rest: list[Node] = []
    for condition in conditions:
        names = subjects(condition) if is_condition(condition) else frozenset[str]()
        if names and condition[0] == "rel" and condition[1][-1][0] == "seq":
            names |= symbols(condition[1][-1])  # x ∈ (a, b)
        if len(names) == 1:
            by_name.setdefault(next(iter(names)), []).append(condition)
        else:
            rest.append(condition)
    found: dict[str, tuple[Domain, Domain]] = {}
    for name, told in by_name.items():
        pair = [_domain(told, first, alternatives=alternatives) for first in (0, 1)]
        if pair[0] is None or pair[1] is None:
            rest += told
        else:
            found[name] = (pair[0], pair[1])
    return _Told(found, rest)


def _domain(told: list[Node], first: int, *, alternatives: bool) -> Domain | None:
    """Return what all conditions allow; inequalities apart from each other may be alternatives."""
    signs = [c for c in told if is_inequality(c)]
    if alternatives and len(signs) > 1:
        spans = intervals(("list", tuple(signs)))
        joined = None if spans is None else Domain(tuple(spans))
        others = [domains.of_condition(c, first) for c in told if c not in signs]
        return domains.met_all([joined, *others])
    return domains.met_all([domains.of_condition(c, first) for c in told])


def same_with_conditions(ours: Split, theirs: Split, same: Same) -> bool | None:
    """Compare two answers of which at least one has conditions.

    Args:
        ours: one side.
        theirs: the other.
        same: compares what they say without conditions.

    Raises:
        UnsureError: only the conditions are left, and they cannot be compared.
    """
    if ours.body is None or theirs.body is None:
        return _same_sets(ours, theirs, same)
    a, b = _told(ours.conditions), _told(theirs.conditions)
    renamed = _renaming(a, b, ours.body, theirs.body)
    body, told = theirs.body, b
    if renamed is not None:
        body = substituted(body, renamed[1], ("sym", renamed[0]))
        told = _Told(
            {renamed[0] if n == renamed[1] else n: d for n, d in b.domains.items()}, b.rest
        )
    is_same = same(ours.body, body)
    if is_same is False:
        return _same_family(ours.body, a, body, told, same)
    if is_same is None or not (ours.conditions and theirs.conditions):
        return _one_sided(ours if ours.conditions else theirs, is_same)
    verdict = _same_told(a, told, same)
    if verdict is None:
        raise UnsureError
    return verdict


def _one_sided(told: Split, is_same: bool | None) -> bool | None:
    """Judge where one side alone has conditions: {(x, y) | x + y = 1} is not (x, y)."""
    if not is_same or not told.is_set:
        return is_same
    found = _told(told.conditions)
    whole = not found.rest and all(d[0].numbers == "Z" for d in found.domains.values())
    return is_same if whole else False


def _renaming(a: _Told, b: _Told, ours: Node, theirs: Node) -> tuple[str, str] | None:
    """Return the name of ours that theirs calls otherwise, and what they call it."""
    mine, other = set(a.domains) - set(b.domains), set(b.domains) - set(a.domains)
    if len(mine) != 1 or len(other) != 1:
        return None
    (x,), (y,) = mine, other
    if x in names_of(theirs) or y in names_of(ours) or y not in symbols(theirs):
        return None
    return x, y


def _same_family(ours: Node, a: _Told, theirs: Node, b: _Told, same: Same) -> bool | None:
    """Compare two families over all integers that begin elsewhere: π/4 + kπ and 5π/4 − kπ."""
    names = [n for n, d in a.domains.items() if d[0].numbers == "Z" and n in b.domains]
    if len(names) != 1 or a.rest or b.rest:
        return False
    name = names[0]
    if ours[0] in ("list", "set") and len(ours[1]) > 4:
        return False
    is_everything = all(
        t.domains.keys() == {name} and domains.holds_all(t.domains[name][0]) for t in (a, b)
    )
    if not is_everything or _is_numbered(ours, name) or _is_numbered(theirs, name):
        return False
    for sign in (1, -1):
        for shift in (0, 1, -1, 2, -2):
            if (sign, shift) == (1, 0):
                continue
            turned = multiply(("num", Fraction(sign)), ("sym", name))
            moved = add([turned, ("num", Fraction(shift))])
            try:
                if same(ours, substituted(theirs, name, moved)):
                    return True
            except ParseError:
                return False
    return False


def _is_numbered(node: Node, name: str) -> bool:
    """Tell whether an answer says what its k-th member is, so that the order counts."""
    return node[0] == "rel" and name in names_of(node[1][0])


def _same_sets(ours: Split, theirs: Split, same: Same) -> bool | None:
    """Compare where the conditions of one side are the answer."""
    if ours.body is not None or theirs.body is not None:
        told, body = (ours, theirs.body) if ours.body is None else (theirs, ours.body)
        if theirs.conditions and ours.conditions:
            return False
        return _same_as_region(_told(told.conditions, alternatives=True), body)
    a, b = (_told(s.conditions, alternatives=True) for s in (ours, theirs))
    if len(a.domains) == len(b.domains) == 1 and {"?"} & (a.domains.keys() | b.domains.keys()):
        (x, mine), (y, other) = *a.domains.items(), *b.domains.items()
        name = x if y == "?" else y
        a, b = _Told({name: mine}, a.rest), _Told({name: other}, b.rest)
    if a.domains.keys() != b.domains.keys():
        return None if a.rest or b.rest else False
    verdict = _same_told(a, b, same)
    if verdict is None:
        raise UnsureError
    return verdict


def _same_as_region(told: _Told, body: Node | None) -> bool | None:
    """Compare conditions with an interval, an inequality, a set of numbers."""
    if body is None or told.rest:
        return None
    if len(told.domains) != 1:
        return False
    ((name, pair),) = told.domains.items()
    plain = body if body[0] == "set" else simplify(body)
    if plain[0] == "rel" and not subjects(plain) <= {name, "?"} and name != "?":
        return False
    if kind_of(plain) == "value":
        plain = ("set", (plain,))
    if plain[0] == "list" and all(kind_of(n) == "value" for n in plain[1]):
        plain = ("set", plain[1])
    said = name if name != "?" else next(iter(names_of(plain)), "?")
    verdicts = set()
    for first in (0, 1):
        other = domains.of_set(plain, first)
        if other is None:
            return None if kind_of(plain) in ("union", "builder", "text") else False
        verdicts.add(domains.same_domain(pair[first], other, said))
    return True if True in verdicts else None if None in verdicts else False


def _same_told(a: _Told, b: _Told, same: Same) -> bool | None:
    """Compare name by name; None where a name, or a condition that is not read, has no like."""
    verdicts: list[bool | None] = []
    for name in a.domains.keys() & b.domains.keys():
        verdicts.append(_same_in_some_reading(a.domains[name], b.domains[name], name))
    apart = [d for t, u in ((a, b), (b, a)) for n, d in t.domains.items() if n not in u.domains]
    verdicts += [None for d in apart if not domains.holds_all(d[0]) or d[0].numbers == "Z"]
    if a.rest or b.rest:
        verdicts.append(_same_rest(a.rest, b.rest, same))
    return False if False in verdicts else None if None in verdicts else True


def _same_in_some_reading(
    ours: tuple[Domain, Domain], theirs: tuple[Domain, Domain], name: str
) -> bool | None:
    """Compare with naturals from 0 or from 1; where both sides say ℕ they mean the same by it."""
    depends = ours[0] != ours[1] and theirs[0] != theirs[1]
    pairs = [(x, y) for i, x in enumerate(ours) for j, y in enumerate(theirs)
             if i == j or not depends]  # fmt: skip
    verdicts = [domains.same_domain(x, y, name) for x, y in pairs]
    return True if True in verdicts else None if None in verdicts else False


def _same_rest(ours: list[Node], theirs: list[Node], same: Same) -> bool | None:
    """Compare conditions that are no domains, such as ``a < x < b``, each with its like."""
    mine, other = ([as_chain(c) for c in side] for side in (ours, theirs))
    if len(mine) == len(other) == 1:
        return _same_condition(mine[0], other[0], same)
    left = list(other)
    for condition in mine:
        like = next((c for c in left if _same_condition(condition, c, same)), None)
        if like is None:
            return None
        left.remove(like)
    return None if left else True


def _same_condition(a: Node, b: Node, same: Same) -> bool | None:
    if a == b:
        return True
    if a[0] != "rel" or b[0] != "rel":
        return same(a, b)
    if a[2] == b[2] and len(a[1]) > 2:
        return all(same(x, y) for x, y in zip(a[1], b[1], strict=True))
    return same(a, b) if is_inequality(a) or a[2] == ("=",) else False
