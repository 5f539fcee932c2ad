"""Knights and knaves: who says what, and whether an assignment makes every statement fit."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.verifiers._logic_extract import cleaned

_SAYS = re.compile(
    r"([^\W\d_][\w'-]*)[\s*_:：`]*(?:\(\s*)?(?:(?:is|are|must be|=|→|->|-|–|—|\()\s*)?[\s*_`]*"
    r"(?:(?:both|also|indeed)\s+)?(?:a|an|the)?[\s*_`]*\b(not\s+(?:a\s+)?)?(knight|knave)s?\b",
    re.I,
)
_MAX_PEOPLE = 20
_MAX_DEPTH = 20
_OPERATORS = {"and", "or", "not", "->", "<=>", "telling-truth", "lying"}


@dataclass(frozen=True)
class Puzzle:
    """Names, the known assignment (or None) and the statements (or None), one per name."""

    names: tuple[str, ...]
    solution: tuple[bool, ...] | None
    statements: tuple[Any, ...] | None

    def holds(self, knights: Sequence[bool]) -> bool:
        """Tell whether the assignment fits: by the statements where they are known."""
        if self.statements is None:
            return tuple(knights) == self.solution
        return all(
            _truth(statement, knights) == knight
            for statement, knight in zip(self.statements, knights, strict=True)
        )


def _truth(statement: Any, knights: Sequence[bool]) -> bool:
    operator, *args = statement
    if operator == "telling-truth":
        return bool(knights[args[0]])
    if operator == "lying":
        return not knights[args[0]]
    values = [_truth(arg, knights) for arg in args]
    if operator == "not":
        return not values[0]
    if operator == "and":
        return all(values)
    if operator == "or":
        return any(values)
    if operator == "->":
        return not values[0] or values[1]
    return values[0] == values[1]


def _checked(statement: Any, n: int, depth: int = 0) -> Any:
    if depth > _MAX_DEPTH or not isinstance(statement, (tuple, list)) or not statement:
        raise ValueError("statement")
    operator, *args = statement
    if operator not in _OPERATORS:
        raise ValueError("operator")
    if operator in ("telling-truth", "lying"):
        if len(args) != 1 or type(args[0]) is not int or not 0 <= args[0] < n:
            raise ValueError("person")
        return (operator, args[0])
    if len(args) != {"not": 1, "->": 2, "<=>": 2}.get(operator, len(args)) or not args:
        raise ValueError("arguments")
    return (operator, *(_checked(arg, n, depth + 1) for arg in args))


def read_puzzle(gold: Any) -> Puzzle | None:
    """Read a gold: a mapping with names, or lines such as "(1) Ella is a knave".

    Returns None where the gold is no such puzzle.

    Raises:
        ValueError: it is one, and malformed.
    """
    if isinstance(gold, Mapping) and "names" in gold:
        names = tuple(str(name) for name in gold["names"])
        if not 0 < len(names) <= _MAX_PEOPLE or len({n.casefold() for n in names}) != len(names):
            raise ValueError("names")
        statements = gold.get("statements")
        if isinstance(statements, str):
            statements = ast.literal_eval(statements)
        if statements is not None:
            if len(statements) != len(names):
                raise ValueError("one statement per name")
            statements = tuple(_checked(s, len(names)) for s in statements)
        solution = gold.get("solution")
        if solution is not None:
            if len(solution) != len(names):
                raise ValueError("one role per name")
            solution = tuple(bool(role) for role in solution)
        if solution is None and statements is None:
            raise ValueError("neither solution nor statements")
        return Puzzle(names, solution, statements)
    if isinstance(gold, str) and re.search(r"\bis\s+a\s+kn(?:ight|ave)\b", gold, re.I):
        found = _SAYS.findall(gold)
        names = tuple(name for name, _, _ in found)
        if not names or len(set(names)) != len(names) or any(negated for _, negated, _ in found):
            raise ValueError("names")
        return Puzzle(names, tuple(role.lower() == "knight" for _, _, role in found), None)
    return None


def assignment_of(text: str, names: Sequence[str]) -> tuple[bool, ...] | str:
    """Read who is what out of an answer; a word where it cannot be read.

    The statements that count are the last ones: the shortest run of lines from the end that speaks
    of everybody. Within it nobody may be called both.

    >>> assignment_of("(1) Ella is a knave\\n(2) Bob is a knight", ["Bob", "Ella"])
    (True, False)
    >>> assignment_of("Ella is a knave, Ella is a knight", ["Ella"])
    'contradictory'
    """
    wanted = {name.casefold() for name in names}
    roles: dict[str, bool] = {}
    for line in reversed(text.split("\n")):
        for name, negated, role in _SAYS.findall(cleaned(line)):
            key = name.casefold()
            if key not in wanted:
                continue
            is_knight = (role.lower() == "knight") != bool(negated)
            if roles.setdefault(key, is_knight) != is_knight:
                return "contradictory"
        if len(roles) == len(wanted):
            return tuple(roles[name.casefold()] for name in names)
    return "incomplete" if roles else "no_answer"
