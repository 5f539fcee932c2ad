"""Gold sanity: a task's reference solution has to pass its tests, and mutants of it have to fail.

Tests that accept a mutant say little about a candidate; tests that reject the reference are wrong.
Both make a task worthless before anything is generated for it.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitXor: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sanity:
    """What the gate found.

    Attributes:
        reason: why the reference does not pass; None where it does.
        is_ours: it could not be judged (no sandbox, no compiler): nothing is said of the gold.
        n_mutants: mutants that were run.
        n_killed: those that failed.
        survivors: what was changed in those that passed.
    """

    reason: str | None
    is_ours: bool = False
    n_mutants: int = 0
    n_killed: int = 0
    survivors: tuple[str, ...] = ()

    @property
    def is_sane(self) -> bool:
        """The reference passes, and at least half of its mutants fail (some mean the same)."""
        return self.reason is None and 2 * self.n_killed >= self.n_mutants


def _sites(tree: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None], int]]:
    """Yield (what, change, index of the node in ``ast.walk``) for every possible mutation."""
    for index, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARE:
            yield "comparison", _swap_compare, index
        elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            yield "operator", _swap_binary, index
        elif isinstance(node, ast.BoolOp):
            yield "and or", _swap_bool, index
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield "off by one", _next_number, index
        elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
            yield "negated condition", _negate, index
        elif isinstance(node, ast.Return) and node.value is not None:
            yield "returns nothing", _return_none, index


def _swap_compare(node: ast.AST) -> None:
    assert isinstance(node, ast.Compare)
    node.ops[0] = _COMPARE[type(node.ops[0])]()


def _swap_binary(node: ast.AST) -> None:
    assert isinstance(node, ast.BinOp)
    node.op = _BINARY[type(node.op)]()


def _swap_bool(node: ast.AST) -> None:
    assert isinstance(node, ast.BoolOp)
    node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()


def _next_number(node: ast.AST) -> None:
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int)
    node.value = node.value + 1


def _negate(node: ast.AST) -> None:
    assert isinstance(node, (ast.If, ast.While, ast.IfExp))
    node.test = ast.UnaryOp(ast.Not(), node.test)


def _return_none(node: ast.AST) -> None:
    assert isinstance(node, ast.Return)
    node.value = ast.Constant(None)


def mutants(source: str, *, most: int) -> list[tuple[str, str]]:
    """Return up to ``most`` (what was changed, changed source), spread evenly over the program.

    >>> mutants("def f(x):\\n    return x + 1", most=2)[0]
    ('returns nothing at line 2', 'def f(x):\\n    return None')
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    sites = list(_sites(tree))
    step = max(1, -(-len(sites) // most)) if most else 1
    out = []
    for what, change, index in sites[::step][:most]:
        changed = copy.deepcopy(tree)
        node = next(n for i, n in enumerate(ast.walk(changed)) if i == index)
        change(node)
        line = getattr(node, "lineno", 0)
        out.append((f"{what} at line {line}", ast.unparse(ast.fix_missing_locations(changed))))
    return out
