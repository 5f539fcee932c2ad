"""The last resort: tests that hand over functions or objects of their own run beside the candidate.

Equality in assertions is rewritten to be asked of plain data and never of the candidate's objects,
and the tests arrive only after the candidate's module has been loaded. A candidate that rewrites
its own process can still lie, so verdicts of this kind say ``tests_inside``.
"""

from __future__ import annotations

import ast
import json
import re
import secrets

from factory.sandbox import Limits, Tier, borrow
from factory.verifiers.code.gold import CodeGold, candidate


class _Equality(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        test = node.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            function = ast.Name("_plain_equal_", ast.Load())
            node.test = ast.Call(function, [test.left, test.comparators[0]], [])
        return node


def entry_point(gold: CodeGold) -> str | None:
    """Return the function that ``check`` still has to be called with, if any."""
    calls_itself = any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "id", None) == "check"
        for node in ast.parse(gold.tests).body
    )
    defines = any(
        isinstance(node, ast.FunctionDef) and node.name == "check"
        for node in ast.parse(gold.tests).body
    )
    return gold.entry_point if defines and not calls_itself else None


def is_about_printing(tests: str) -> bool:
    """Tell whether the tests look at what is printed, which only a shared process shows them."""
    return re.search(r"\bstdout\b|\bredirect_stdout\b|\bStringIO\b", tests) is not None


def hardened(tests: str) -> str:
    """Return the test code with its equalities asked of plain data.

    >>> hardened("assert f(g) == 3")
    'assert _plain_equal_(f(g), 3)'
    """
    return ast.unparse(ast.fix_missing_locations(_Equality().visit(ast.parse(tests))))


def run(program: str, gold: CodeGold, *, tier: Tier, limits: Limits) -> str | None:
    """Run the tests beside the candidate; return the reason of a failure, None where they hold."""
    word = secrets.token_hex(16)
    sample = candidate(program, gold)
    held = {"tests": hardened(gold.tests), "entry_point": entry_point(gold), "word": word}
    said = b""
    with borrow(tier) as box:
        clock = box.clock(limits)
        with box.talk("inside", sample, limits) as talk:
            if talk.line(clock) == b"ready" and talk.say(json.dumps(held).encode(), clock):
                said = talk.line(clock) or b""
        outcome = box.last
    if said == b"yes " + word.encode():
        return None
    if said == b"no AssertionError":
        return "wrong"
    return outcome.ended if outcome.ended not in ("exited", "stopped") else "runtime_error"
