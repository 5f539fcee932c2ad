"""The gold of a code task, read into a plan whose expected outputs stay outside of the box.

Assertions are turned into calls by their syntax tree: the call and its arguments go into the box,
the expected value does not. Only literals are evaluated here, by a small evaluator of our own;
test code itself never runs in this process.
"""

from __future__ import annotations

import ast
import builtins
import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from factory.sandbox._box_data import NotPlain, canonical, encode
from factory.sandbox._box_harness import PRELUDE


class BadGold(ValueError):
    """The gold is not of the declared form; the text says where."""


@dataclass(frozen=True)
class Check:
    """One call and what must hold of its result.

    Attributes:
        request: the call, as the box reads it: nothing in it tells the expected value.
        holds: judges the encoded result, outside of the box.
    """

    request: dict[str, Any]
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Stream:
    """One run of the whole program."""

    stdin: str
    expected: str


@dataclass(frozen=True)
class CodeGold:
    """The tests of one task.

    Attributes:
        checks: calls whose results are compared outside.
        tests: test code that is more than calls and literals, for a box of its own.
        asked: names of the candidate's functions that the tests call.
    """

    language: str = "python"
    entry_point: str | None = None
    setup: str = ""
    prefix: str = ""
    streams: tuple[Stream, ...] = ()
    checks: tuple[Check, ...] = ()
    tests: str = ""
    asked: tuple[str, ...] = ()
    solution: str | None = None
    prelude: bool = True
    tolerance: float = 0.0


def candidate(program: str, gold: CodeGold) -> dict[str, Any]:
    """Return what the candidate's box is given: nothing of the tests."""
    return {
        "program": program, "prefix": gold.prefix, "setup": gold.setup, "prelude": gold.prelude
    }  # fmt: skip


def read_gold(gold: Any, *, tolerance: float = 0.0) -> CodeGold:
    """Read a gold, given as a mapping or as its JSON text.

    Args:
        gold: the form of the ``code`` verifier.
        tolerance: largest relative or absolute difference of floats in function-call tests and of
            printed numbers.

    Raises:
        BadGold: not of that form, or without a single test.

    >>> gold = read_gold({"test_cases": [{"type": "assert", "code": "assert f(1) == 2"}]})
    >>> gold.checks[0].request["on"], gold.checks[0].holds(2), gold.checks[0].holds(3)
    ({'name': 'f'}, True, False)
    """
    if isinstance(gold, str):
        return _read_text(gold, tolerance)
    if not isinstance(gold, Mapping):
        raise BadGold("gold is no mapping")
    return _read(gold, tolerance)


@functools.lru_cache(maxsize=512)
def _read_text(text: str, tolerance: float) -> CodeGold:
    try:
        gold = json.loads(text)
    except (ValueError, RecursionError):
        raise BadGold("gold is no JSON") from None
    if not isinstance(gold, dict):
        raise BadGold("gold is no JSON object")
    return _read(gold, tolerance)


def _text(gold: Mapping[str, Any], key: str) -> str:
    value = gold.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadGold(f"{key} is no text")
    return value.replace("\r\n", "\n")


def _read(gold: Mapping[str, Any], tolerance: float) -> CodeGold:
    cases = gold.get("test_cases")
    if not isinstance(cases, (list, tuple)) or not cases:
        raise BadGold("no test_cases")
    entry_point = _text(gold, "entry_point") or None
    streams: list[Stream] = []
    checks: list[Check] = []
    codes: list[str] = []
    for number, case in enumerate(cases):
        if not isinstance(case, Mapping):
            raise BadGold(f"test case {number} is no mapping")
        kind = case.get("type") or ("assert" if "code" in case else "stdin_stdout")
        if kind == "stdin_stdout":
            streams.append(Stream(_stream(case, "input"), _stream(case, "output")))
        elif kind in ("fn_call", "function_call"):
            wrapped = _all_wrapped(cases)
            checks.append(_fn_call(case, entry_point, tolerance, unwrap=wrapped))
        elif kind == "assert":
            code = case.get("code")
            if not isinstance(code, str) or not code.strip():
                raise BadGold(f"test case {number} has no code")
            codes.append(code.replace("\r\n", "\n"))
        else:
            raise BadGold(f"test case {number} has the unknown type {kind!r}")
    turned, tests, asked = _asserts(codes, entry_point)
    return CodeGold(
        language=(_text(gold, "language") or "python").lower(),
        entry_point=entry_point,
        setup=_text(gold, "setup"),
        prefix=_text(gold, "prefix"),
        streams=tuple(streams),
        checks=(*checks, *turned),
        tests=tests,
        asked=asked,
        solution=_text(gold, "solution") or None,
        tolerance=tolerance,
    )


def _stream(case: Mapping[str, Any], key: str) -> str:
    value = case.get(key)
    if value is None:
        raise BadGold(f"a stdin_stdout case has no {key}")
    if isinstance(value, (list, tuple)):
        return "\n".join(str(line) for line in value)
    return str(value)


# --- function calls ------------------------------------------------------------------------------


def _all_wrapped(cases: Any) -> bool:
    """Some sets wrap every expected value into a list of one; then all of them are so."""
    calls = [c for c in cases if isinstance(c, Mapping) and "call" in str(c.get("type"))]
    return len(calls) > 1 and all(
        isinstance(c.get("output"), list)
        and len(c["output"]) == 1
        and isinstance(c.get("input"), list)
        for c in calls
    )


def _fn_call(
    case: Mapping[str, Any], entry_point: str | None, tolerance: float, *, unwrap: bool
) -> Check:
    name = case.get("fn_name") or entry_point
    if not isinstance(name, str) or not name:
        raise BadGold("an fn_call case names no function")
    if "output" not in case:
        raise BadGold("an fn_call case has no output")
    given, expected = _json_args(case.get("input")), case["output"]
    if isinstance(expected, str) and isinstance(case.get("input"), str):
        expected = _json_or_text(expected)
    kwargs = given if isinstance(given, dict) else {}
    args = [] if isinstance(given, dict) else given
    try:
        request = _request(name, args, kwargs)
        wanted = [encode(expected)]
        if unwrap:
            wanted.append(encode(expected[0]))
    except NotPlain as error:
        raise BadGold(f"an fn_call case holds a {error}") from None
    if isinstance(case.get("input"), str) and len(args) == 1 and isinstance(args[0], list):
        request["spread"] = True  # one line of text may hold the argument, or all of them
    return Check(request, lambda got: any(same(got, one, tolerance) for one in wanted))


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _json_args(given: Any) -> Any:
    """A list is the arguments, a mapping the named ones; text holds one JSON value per line."""
    if isinstance(given, str):
        lines = [line for line in given.split("\n") if line.strip()]
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            value = _json_or_text(given)
            return [value]
    if isinstance(given, (list, dict)):
        return given
    return [given]


def _request(name: str, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "op": "call",
        "on": {"name": name},
        "args": [encode(x) for x in args],
        "kwargs": {str(k): encode(v) for k, v in kwargs.items()},
    }


def same(got: Any, wanted: Any, tolerance: float) -> bool:
    """Compare encoded data as JSON: tuples are lists, floats within the declared tolerance.

    >>> same({"t": [1, 2]}, [1, 2], 0.0), same(0.1 + 0.2, 0.3, 0.0), same(0.1, 0.1000001, 1e-6)
    (True, False, True)
    """
    if canonical(got, tuple_is_list=True) == canonical(wanted, tuple_is_list=True):
        return True
    return tolerance > 0 and _near(got, wanted, tolerance)


def _near(got: Any, wanted: Any, tolerance: float) -> bool:
    if isinstance(got, dict) and set(got) == {"t"}:
        got = got["t"]
    if isinstance(got, list) and isinstance(wanted, list):
        pairs = zip(got, wanted, strict=False)
        return len(got) == len(wanted) and all(_near(a, b, tolerance) for a, b in pairs)
    numbers = (int, float)
    if type(got) in numbers and type(wanted) in numbers:  # inf and nan are tagged: never near
        return math.isclose(got, wanted, rel_tol=tolerance, abs_tol=tolerance)
    return canonical(got) == canonical(wanted)


# --- assertions ----------------------------------------------------------------------------------


class _OtherShape(Exception):
    """More than a call and literals."""


def _asserts(codes: list[str], entry_point: str | None) -> tuple[list[Check], str, tuple[str, ...]]:
    """Return the calls, or else the test code as it is with the names it may ask for."""
    if not codes:
        return [], "", ()
    trees = []
    for code in codes:
        try:
            trees.append(ast.parse(code))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise BadGold(f"test code does not parse: {error}") from None
    try:
        checks = [check for tree in trees for check in _turn_module(tree, entry_point)]
        if not checks:
            raise _OtherShape
        return checks, "", ()
    except (_OtherShape, NotPlain, RecursionError):
        return [], "\n".join(codes), _free_names(trees, entry_point)


def _free_names(trees: list[ast.Module], entry_point: str | None) -> tuple[str, ...]:
    """Return the names that the candidate is asked for: used, and neither bound nor built in.

    A module such as ``math`` that is only reached into is the test's own, imported or not.
    """
    used: set[str] = set()
    bound: set[str] = set(dir(builtins))
    reached_into: set[int] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in PRELUDE:
            reached_into.add(id(node.value))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if id(node) not in reached_into:
                used.add(node.id)
        elif isinstance(node, ast.Name):
            bound.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
    return tuple(sorted(used - bound | ({entry_point} if entry_point else set())))


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
        return [Check(_call(test.operand, rename), lambda got: not _truth(got))]
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return [_turn_compare(test.left, test.ops[0], test.comparators[0], rename)]
    if isinstance(test, ast.Call) and _name_of(test.func) in ("math.isclose", "isclose"):
        return [_turn_isclose(test, rename)]
    return [Check(_call(test, rename), _truth)]


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
        return Check(request, lambda got: (got is value) == wanted_same)
    wanted = canonical(encode(value))
    if isinstance(op, ast.Eq):
        return Check(request, lambda got: canonical(got) == wanted)
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

    return Check(_call(left, rename), holds)


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
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise _OtherShape
    name = rename.get(node.func.id, node.func.id)
    if any(k.arg is None for k in node.keywords):
        raise _OtherShape
    # a built-in name that is called with literals alone is the candidate's own function
    args = [literal(x) for x in node.args]
    return _request(name, args, {str(k.arg): literal(k.value) for k in node.keywords})


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
