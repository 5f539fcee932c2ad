"""Assertions turned into calls, by their syntax tree.

The call and its arguments go into the box, the expected value does not. Only literals are evaluated
here, by a small evaluator of our own; test code itself never runs in this process.
"""

from __future__ import annotations

import ast
import builtins
import collections
import math
import symtable
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from factory.sandbox.inside.harness import PRELUDE
from factory.sandbox.libraries import is_usable
from factory.sandbox.plain_data import NotPlain, canonical, encode
from factory.verifiers.code import styles
from factory.verifiers.code.checks import BadGold, Check, request_of

_SEES_ITS_CALLER = {"dir", "eval", "exec", "globals", "locals", "super", "vars"}


class _OtherShape(Exception):
    """More than a call and literals."""


@dataclass(frozen=True)
class Tests:
    """Test code that is more than calls and literals.

    Attributes:
        code: what is run.
        asked: names of the candidate's that it uses.
        standard: names of the standard library that it uses without an import.
        libraries: what it imports beyond that.
    """

    code: str = ""
    asked: tuple[str, ...] = ()
    standard: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


NO_TESTS = Tests()


def turn_asserts(codes: list[str], entry_point: str | None) -> list[Check] | Tests:
    """Return the calls, or else the test code made to run.

    Raises:
        BadGold: it does not parse, tests nothing, or needs what the box has not.
    """
    trees = []
    for code in codes:
        try:
            trees.append(styles.without_solution_imports(ast.parse(code)))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise BadGold(f"test code does not parse: {error}") from None
    try:
        checks = [check for tree in trees for check in _turn_module(tree, entry_point)]
        if not checks:
            raise _OtherShape
        return checks
    except (_OtherShape, NotPlain, RecursionError):
        pass
    whole = ast.Module([node for tree in trees for node in tree.body], [])
    asked, standard = _free_names(whole, entry_point)
    libraries = usable(styles.needed(trees, asked))
    if known := [name for name in asked if name in styles.LIBRARIES]:
        whole.body[:0] = [ast.Import([ast.alias(styles.LIBRARIES[n], n)]) for n in known]
        asked = tuple(name for name in asked if name not in known)
    made = _InPlace().visit(styles.made_to_run(whole, entry_point, asked))
    return Tests(ast.unparse(ast.fix_missing_locations(made)), asked, standard, libraries)


def usable(names: Iterable[str]) -> tuple[str, ...]:
    """Return libraries that the tests name.

    Raises:
        BadGold: a box cannot show one of them.
    """
    for name in sorted(names):
        if not is_usable(name):
            raise BadGold(f"needs {name}")
    return tuple(sorted(names))


def _free_names(
    tree: ast.Module, entry_point: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names that the candidate is asked for, and those of the standard library.

    Asked for is what is used, and neither bound by the tests nor built in. A module such as
    ``math`` that is only reached into is the test's own, imported or not, and so is ``Counter``,
    where something else is there to be asked for.
    """
    free = _unbound(symtable.symtable(ast.unparse(tree), "tests.py", "exec"))
    reached_into: set[str] = set()
    used_plainly: set[str] = set()
    reached = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            reached_into.add(node.value.id)
            reached.add(id(node.value))
        elif isinstance(node, ast.Name) and id(node) not in reached:
            used_plainly.add(node.id)
    modules = {n for n in free & set(PRELUDE) & reached_into if n not in used_plainly}
    tools = free & {*typing.__all__, *collections.__all__} - {entry_point}
    asked = free - modules - tools - set(dir(builtins))
    if not asked and entry_point is None:
        asked, tools = tools, set()
    asked |= {entry_point} if entry_point else set()
    return tuple(sorted(asked)), tuple(sorted(modules | tools))


def _unbound(table: symtable.SymbolTable, *, is_top: bool = True) -> set[str]:
    used: set[str] = set()
    bound: set[str] = set()
    for symbol in table.get_symbols():
        makes = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
        if makes and (is_top or symbol.is_declared_global()):
            bound.add(symbol.get_name())
        elif symbol.is_referenced() and (is_top or symbol.is_global()):
            used.add(symbol.get_name())
    for inner in table.get_children():
        used |= _unbound(inner, is_top=False)
    return used - bound


class _InPlace(ast.NodeTransformer):
    """Marks the calls that stand alone: only there the test sees a change of its arguments."""

    def _marked(self, node: Any, name: str) -> ast.AST:
        self.generic_visit(node)
        call = node.value
        if (
            isinstance(call, ast.Call)
            and any(isinstance(x, ast.Name) for x in call.args)
            and getattr(call.func, "id", None) not in _SEES_ITS_CALLER
        ):
            node.value = ast.Call(
                ast.Name(name, ast.Load()), [call.func, *call.args], call.keywords
            )
        return cast(ast.AST, node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return self._marked(node, "_in_place_")

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        return self._marked(node, "_given_")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return self._marked(node, "_given_")

    def visit_Return(self, node: ast.Return) -> ast.AST:
        return self._marked(node, "_given_")


def _turn_module(tree: ast.Module, entry_point: str | None) -> list[Check]:
    checks: list[Check] = []
    inside: tuple[list[Check], str] | None = None
    for node in tree.body:
        if isinstance(node, ast.Assert):
            checks += _turn_assert(node, {})
        elif isinstance(node, ast.FunctionDef) and node.name == "check" and not inside:
            inside = _turn_check(node, entry_point)
            checks += inside[0]
        elif inside and _is_call_of_check(node, inside[1]):
            continue
        elif not _is_idle(node):
            raise _OtherShape
    return checks


def _is_idle(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):  # METADATA = {...}; a name that is used is no literal
        return all(isinstance(t, ast.Name) for t in node.targets) and _literal_or(node.value)
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _literal_or(node: ast.expr) -> bool:
    try:
        literal(node)
    except _OtherShape:
        return False
    return True


def _is_call_of_check(node: ast.stmt, target: str) -> bool:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    call = node.value
    names = [call.func, *call.args]
    return not call.keywords and [getattr(n, "id", None) for n in names] == ["check", target]


def _turn_check(node: ast.FunctionDef, entry_point: str | None) -> tuple[list[Check], str]:
    a = node.args
    if entry_point is None or len(a.args) != 1 or a.vararg or a.kwarg or node.decorator_list:
        raise _OtherShape
    checks: list[Check] = []
    for statement in node.body:
        if isinstance(statement, ast.Assert):
            checks += _turn_assert(statement, {a.args[0].arg: entry_point})
        elif not _is_idle(statement):
            raise _OtherShape
    return checks, entry_point


def _turn_assert(node: ast.Assert, rename: dict[str, str]) -> list[Check]:
    test = node.test
    if isinstance(test, ast.Constant):  # "assert True, 'this prints ...'"
        if test.value:
            return []
        raise _OtherShape
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        parts = [ast.Assert(test=value, msg=None) for value in test.values]
        return [check for part in parts for check in _turn_assert(part, rename)]
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return [Check(_call(test.operand, rename), lambda got: not _truth(got), (False,))]
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return [_turn_compare(test.left, test.ops[0], test.comparators[0], rename)]
    if isinstance(test, ast.Call) and _name_of(test.func) in ("math.isclose", "isclose"):
        return [_turn_isclose(test, rename)]
    return [Check(_call(test, rename), _truth, (True,))]


def _turn_compare(left: ast.expr, op: ast.cmpop, right: ast.expr, rename: dict[str, str]) -> Check:
    if isinstance(left, ast.Call) and _name_of(left.func) == "abs" and len(left.args) == 1:
        return _turn_distance(left.args[0], op, right, rename)
    if _literal_or(left) and isinstance(op, (ast.Eq, ast.NotEq)):
        left, right = right, left
    value = literal(right)
    request = _call(left, rename)
    if isinstance(op, (ast.Is, ast.IsNot)):
        if value is not None and type(value) is not bool:
            raise _OtherShape
        wanted_same = isinstance(op, ast.Is)
        return Check(request, lambda got: (got is value) == wanted_same, (value,))
    wanted = canonical(encode(value))
    if isinstance(op, ast.Eq):
        return Check(request, lambda got: canonical(got) == wanted, (encode(value),))
    if isinstance(op, ast.NotEq):
        return Check(request, lambda got: canonical(got) != wanted)
    raise _OtherShape


def _turn_distance(
    inner: ast.expr, op: ast.cmpop, bound: ast.expr, rename: dict[str, str]
) -> Check:
    """Turn ``abs(f(x) - 1.5) < 1e-6``."""
    limit = literal(bound)
    numbers = (int, float)
    if not isinstance(inner, ast.BinOp) or not isinstance(inner.op, ast.Sub):
        raise _OtherShape
    if not isinstance(op, (ast.Lt, ast.LtE)) or type(limit) not in numbers:
        raise _OtherShape
    left, right = inner.left, inner.right
    if _literal_or(left):
        left, right = right, left
    value = literal(right)
    if type(value) not in numbers:
        raise _OtherShape
    strict = isinstance(op, ast.Lt)

    def holds(got: Any) -> bool:
        if type(got) not in (bool, int, float):
            return False
        distance = abs(got - value)
        return bool(distance < limit if strict else distance <= limit)

    return Check(_call(left, rename), holds, (value,))


def _turn_isclose(call: ast.Call, rename: dict[str, str]) -> Check:
    options = {str(k.arg): literal(k.value) for k in call.keywords}
    if len(call.args) != 2 or not set(options) <= {"rel_tol", "abs_tol"}:
        raise _OtherShape
    left, right = call.args
    if _literal_or(left):
        left, right = right, left
    value = literal(right)
    if type(value) not in (int, float):
        raise _OtherShape
    return Check(
        _call(left, rename),
        lambda got: type(got) in (bool, int, float) and math.isclose(got, value, **options),
        (value,),
    )


def _truth(got: Any) -> bool:
    if isinstance(got, dict) and len(got) == 1:
        ((tag, body),) = got.items()
        if tag in ("t", "s", "d", "q", "b", "v"):
            return bool(body)
        if tag == "it":
            return True  # an iterator is true even when it is empty
        if tag in ("F", "D", "c", "td", "r"):
            raise NotPlain("no truth value")
        return True
    return bool(got)


def _name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _call(node: ast.expr, rename: dict[str, str]) -> dict[str, Any]:
    if not isinstance(node, ast.Call):
        raise _OtherShape
    name = _called(node.func, rename)
    if any(k.arg is None for k in node.keywords):
        raise _OtherShape
    # a built-in name that is called with literals alone is the candidate's own function
    args = [literal(x) for x in node.args]
    return request_of(name, args, {str(k.arg): literal(k.value) for k in node.keywords})


def _called(function: ast.expr, rename: dict[str, str]) -> str:
    """Return the name that is called: ``f``, or ``Solution().f``."""
    if isinstance(function, ast.Name):
        return rename.get(function.id, function.id)
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call):
        made = function.value
        if isinstance(made.func, ast.Name) and not made.args and not made.keywords:
            return f"{made.func.id}().{function.attr}"
    raise _OtherShape


_CONSTRUCTORS = {"set": set, "frozenset": frozenset, "tuple": tuple, "list": list, "dict": dict}


def literal(node: ast.expr) -> Any:
    """Evaluate a literal: constants, displays, signs, small sums and products, ``set([...])``.

    Nothing else is evaluated, and no step can take long.

    >>> literal(ast.parse("[5 * 17, set([1, 1]), float('inf')]", mode="eval").body)
    [85, {1}, inf]
    """
    if isinstance(node, ast.Constant):
        if node.value is Ellipsis:
            raise _OtherShape
        return node.value
    try:
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            made = [literal(x) for x in node.elts]
            return {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)](made)
        if isinstance(node, ast.Dict) and None not in node.keys:
            return {
                literal(k): literal(v) for k, v in zip(node.keys, node.values, strict=True) if k
            }
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = literal(node.operand)
            return -value if isinstance(node.op, ast.USub) else +value
        if isinstance(node, ast.BinOp):
            return _arithmetic(literal(node.left), node.op, literal(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return _constructed(node.func.id, [literal(x) for x in node.args])
    except (TypeError, ValueError, ArithmeticError):
        raise _OtherShape from None
    raise _OtherShape


def _constructed(name: str, args: list[Any]) -> Any:
    if name == "float" and len(args) == 1 and isinstance(args[0], str):
        return float(args[0])
    if name in _CONSTRUCTORS and len(args) <= 1:
        return _CONSTRUCTORS[name](*args)
    raise _OtherShape


def _arithmetic(left: Any, op: ast.operator, right: Any) -> Any:
    numbers = (int, float, complex)
    if isinstance(op, ast.Add) and type(left) is type(right) and type(left) in (str, list, tuple):
        return left + right
    if isinstance(op, ast.Mult) and type(left) in (str, list, tuple) and type(right) is int:
        if len(left) * right > 100_000:
            raise _OtherShape
        return left * right
    if type(left) not in numbers or type(right) not in numbers:
        raise _OtherShape
    if isinstance(op, ast.Pow):
        if type(right) is not int or abs(right) > 200 or abs(left) > 1 << 64:
            raise _OtherShape
        return left**right
    steps: dict[type, Callable[[Any, Any], Any]] = {
        ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
        ast.Div: lambda a, b: a / b, ast.FloorDiv: lambda a, b: a // b, ast.Mod: lambda a, b: a % b,
    }  # fmt: skip
    if type(op) not in steps:
        raise _OtherShape
    return steps[type(op)](left, right)
