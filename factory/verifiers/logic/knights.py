"""Knights and knaves: who says what, and whether an assignment makes every statement fit."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.verifiers.logic.extract import cleaned

_GOLD = re.compile(r"([^\W\d_][\w'-]*)\s+is\s+a\s+(knight|knave)\b", re.I)
_ROLES = {
    "knight": True, "knights": True, "truth-teller": True, "truth-tellers": True, "骑士": True,
    "knave": False, "knaves": False, "liar": False, "liars": False, "无赖": False, "恶棍": False,
    "骗子": False,
}  # fmt: skip
_DENIALS = {
    "not",
    "no",
    "isn't",
    "aren't",
    "cannot",
    "can't",
    "never",
    "neither",
    "nor",
    "不是",
    "非",
}
# what may stand between a name and its role, and between the names of a list
_LINKS = {
    "is", "are", "be", "must", "has", "have", "to", "a", "an", "the", "both", "all", "also",
    "indeed", "and", "or", "as", "so", "clearly", "definitely", "actually", "therefore", "thus",
    "hence", "then", "truly", "really", "certainly", "surely", "likewise", "who", "which", "should",
    "namely", "role", "while", "whereas", "but", "either", "respectively", "each", "only", "是",
}  # fmt: skip
# what somebody says or supposes is no assignment
_NO_CLAIM = re.compile(
    r"\b(?:says?|said|saying|claim\w*|stat(?:es?|ed|ing)|told|tells|asserts?|asserted|remark\w*"
    r"|comment\w*|declare[sd]?|express\w*|accuse[sd]?|according to|if|suppose|assume[sd]?|assuming"
    r"|were|would|could|might|may"
    r"|whether|unless|when|implies|mean(?:s|ing))\b.*",
    re.I | re.S,
)
_SENTENCE = re.compile(r"(?<=[^\W\d_])[.!。;；](?=\W|$)|[;；]|(?<=[?？])")
_MARKS = re.compile(r"[*_`\"“”|{}()\[\]$\\]+")
_MAX_PEOPLE = 20
_MAX_TRIED = 12
_MAX_DEPTH = 20
_MAX_CHARS = 20_000
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


@functools.lru_cache(maxsize=4096)
def fault_of(puzzle: Puzzle) -> str | None:
    """Tell why a puzzle pays nobody rightly; None where nothing is wrong with it.

    Its solution must fit its statements; up to twelve people, some assignment must, and not all.

    >>> who = ("Ann", "Ben")
    >>> fault_of(Puzzle(who, (True, True), (("lying", 1), ("lying", 0))))
    'contradictory'
    >>> fault_of(Puzzle(who, None, (("telling-truth", 0), ("telling-truth", 1))))
    'vacuous'
    """
    if puzzle.statements is None:
        return None
    if puzzle.solution is not None and not puzzle.holds(puzzle.solution):
        return "contradictory"
    n = len(puzzle.names)
    if n > _MAX_TRIED:
        return None
    n_fitting = sum(map(puzzle.holds, itertools.product((False, True), repeat=n)))
    if n_fitting == 0:
        return "contradictory"
    return "vacuous" if n_fitting == 2**n else None


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
        found = _GOLD.findall(gold)
        names = tuple(name for name, _ in found)
        if not names or len({n.casefold() for n in names}) != len(names):
            raise ValueError("names")
        return Puzzle(names, tuple(role.lower() == "knight" for _, role in found), None)
    return None


def assignment_of(
    text: str, names: Sequence[str], *, is_whole: bool = False
) -> tuple[bool, ...] | str:
    """Read who is what out of an answer; a word where it cannot be read.

    Args:
        text: a box, a tag's content, or a whole answer.
        names: everybody who has to be named.
        is_whole: all of the text is the answer; else the shortest run of lines from its end that
            speaks of everybody is. Within it nobody may be called both.

    >>> assignment_of("(1) Ella is a knave\\n(2) Bob is a knight", ["Bob", "Ella"])
    (True, False)
    >>> assignment_of("Knights: Ella and Bob. Knave: Zoey.", ["Zoey", "Bob", "Ella"])
    (False, True, True)
    >>> assignment_of("Ella is a knave, Ella is a knight", ["Ella"])
    'contradictory'
    """
    wanted = {name.casefold() for name in names}
    longest_first = sorted(wanted, key=len, reverse=True)
    tokens = re.compile(
        rf"(?<![^\W\d_])(?:{'|'.join(map(re.escape, longest_first))})(?![^\W\d_]|['’][a-z])"
        r"|truth[- ]tellers?|骑士|无赖|恶棍|骗子|不是|[^\W\d_]+(?:['’][a-z]+)?|[:：=→-]",
        re.I,
    )
    roles: dict[str, bool] = {}
    for line in reversed(text[-_MAX_CHARS:].split("\n")):
        plain = _MARKS.sub(" ", cleaned(line))
        for sentence in _SENTENCE.split(plain):
            if sentence.rstrip().endswith(("?", "？")):
                continue
            claim = _NO_CLAIM.sub("", sentence)
            for name, is_knight in _claims(tokens.findall(claim), wanted):
                if roles.setdefault(name, is_knight) != is_knight:
                    return "contradictory"
        if len(roles) == len(wanted) and not is_whole:
            break
    if len(roles) == len(wanted):
        return tuple(roles[name.casefold()] for name in names)
    return "incomplete" if roles else "no_answer"


def _claims(words: Sequence[str], names: set[str]) -> list[tuple[str, bool]]:
    """Return (name, is a knight) for each claim of a sentence, which may contradict each other.

    A role belongs to the names before it ("Ella and Bob are knights"), at the front of a sentence
    to those behind it ("Knights: Ella, Bob"); a second role without a name is said of the same
    people ("a knight and a knave").
    """
    claims: list[tuple[str, bool]] = []
    pending: list[str] = []
    latest: list[str] = []
    heading: bool | None = None
    denied = False
    for word in words:
        low = word.casefold().replace("’", "'").replace("truth teller", "truth-teller")
        if low in names:
            if heading is not None:
                claims.append((low, heading))
            else:
                pending = [*pending, low] if not latest else [low]
                latest = []
        elif low in _ROLES:
            role = _ROLES[low] != denied
            denied = False
            if pending:
                claims += [(name, role) for name in pending]
                pending, latest = [], pending
            elif latest:
                claims += [(name, role) for name in latest]
            elif heading is not None or not claims:
                heading = role
        elif low in _DENIALS:
            denied = True
        elif low not in _LINKS and not re.fullmatch(r"[:：=→-]", low):
            # a word that links nothing: "Ella accuses Bob, a knave" speaks of Bob alone
            if heading is None:
                pending, latest = [], []
            denied = False
    return claims
