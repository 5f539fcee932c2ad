"""The gold of a code task, read into a plan whose expected outputs stay outside of the box."""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.sandbox.plain_data import NotPlain, encode
from factory.verifiers.code.asserts import NO_TESTS, Tests, turn_asserts, usable
from factory.verifiers.code.checks import BadGold, Check, expect_one, request_of, same
from factory.verifiers.code.forms import own_form
from factory.verifiers.code.styles import needed
from factory.verifiers.code.text import same_output

__all__ = ["BadGold", "Check", "CodeGold", "Stream", "argument_of_check", "candidate", "read_gold"]


@dataclass(frozen=True)
class Stream:
    """One run of the whole program."""

    stdin: str
    expected: str


@dataclass(frozen=True)
class CodeGold:
    """The tests of one task.

    Attributes:
        libraries: what programs and tests may import beside the standard library.
        checks: calls whose results are compared outside.
        tests: test code that is more than calls and literals, for a box of its own.
    """

    language: str = "python"
    entry_point: str | None = None
    setup: str = ""
    prefix: str = ""
    streams: tuple[Stream, ...] = ()
    checks: tuple[Check, ...] = ()
    tests: Tests = NO_TESTS
    libraries: tuple[str, ...] = ()
    solution: str | None = None
    prelude: bool = True
    tolerance: float = 0.0

    @property
    def wanted(self) -> set[str]:
        """Names that the program has to define."""
        names = {str(c.request["on"]["name"]) for c in self.checks} | set(self.tests.asked)
        return {part for n in names for part in n.replace("()", "").split(".")}


def argument_of_check(gold: CodeGold) -> str | None:
    """Return the function that ``check`` still has to be called with, if any."""
    body = ast.parse(gold.tests.code).body
    calls_itself = any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and "check" in [getattr(x, "id", None) for x in (node.value.func, *node.value.args[:1])]
        for node in body
    )
    defines = any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in body)
    return gold.entry_point if defines and not calls_itself else None


def candidate(program: str, gold: CodeGold) -> dict[str, Any]:
    """Return what the candidate's box is given: nothing of the tests."""
    return {
        "program": program, "prefix": gold.prefix, "setup": gold.setup, "prelude": gold.prelude
    }  # fmt: skip


def read_gold(gold: Any, *, tolerance: float = 0.0) -> CodeGold:
    """Read a gold, given as a mapping or as its JSON text.

    Args:
        gold: the form of the ``code`` verifier, or one that ``forms.own_form`` reads.
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
    return _read(own_form(gold), tolerance)


@functools.lru_cache(maxsize=512)
def _read_text(text: str, tolerance: float) -> CodeGold:
    return _read(own_form(text), tolerance)


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
    turned = turn_asserts(codes, entry_point) if codes else []
    tests = NO_TESTS if isinstance(turned, list) else turned
    named = gold.get("libraries") or ()
    if not isinstance(named, (list, tuple)) or not all(isinstance(x, str) for x in named):
        raise BadGold("libraries is no list of names")
    libraries = {*named, *tests.libraries}
    for part in ("prefix", "setup"):
        libraries |= needed(_parsed(_text(gold, part)))
    checks += turned if isinstance(turned, list) else ()
    if tests is NO_TESTS and (expect_one(checks) if not streams else _print_one(streams, checks)):
        raise BadGold("vacuous: every test expects the same")
    return CodeGold(
        language=(_text(gold, "language") or "python").lower(),
        entry_point=entry_point,
        setup=_text(gold, "setup"),
        prefix=_text(gold, "prefix"),
        streams=tuple(streams),
        checks=tuple(checks),
        tests=tests,
        libraries=usable(libraries),
        solution=_text(gold, "solution") or None,
        tolerance=tolerance,
    )


def _print_one(streams: list[Stream], checks: list[Check]) -> bool:
    """Tell whether a program that prints one constant passes, whatever it reads."""
    if checks or len({s.stdin for s in streams}) < 2:
        return False
    return all(same_output(s.expected, streams[0].expected) for s in streams)


def _parsed(code: str) -> list[ast.AST]:
    """Return the tree of code that stands alone; none of a part such as a function's head."""
    try:
        return [ast.parse(code)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


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
        request = request_of(name, args, kwargs)
        wanted = [encode(expected)]
        if unwrap:
            wanted.append(encode(expected[0]))
    except NotPlain as error:
        raise BadGold(f"an fn_call case holds a {error}") from None
    if isinstance(case.get("input"), str) and len(args) == 1 and isinstance(args[0], list):
        request["spread"] = True  # one line of text may hold the argument, or all of them
    return Check(
        request, lambda got: any(same(got, one, tolerance) for one in wanted), tuple(wanted)
    )


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
