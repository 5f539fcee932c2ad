"""Test code in the shapes that people write it in, made to run, or refused as no test at all.

Most test files define their tests and leave it to a runner to call them. What is plainly meant is
called here: functions of pytest, classes of unittest, what stands below ``if __name__ ==
"__main__"``. A gold whose code then asks nothing of the program, or asserts nothing of what comes
back, would pay every answer: it is a bad gold.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator

from factory.verifiers.code.checks import BadGold

_SOLUTION = {
    "solution", "main", "your_module", "my_module", "my_solution", "submission", "candidate",
    "program", "module_name", "your_code", "answer",
}  # fmt: skip
"""Modules under which test files import the program that is asked for."""
_RUNNERS = re.compile(r"(?:^|_)(?:tests?|main|run|check|checks)(?:_|$)")
LIBRARIES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib", "tf": "tensorflow"}
"""The names by which test code knows libraries that it does not import."""
_LEAVES = {"exit", "quit", "_exit", "abort"}
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def without_solution_imports(tree: ast.Module) -> ast.Module:
    """Let ``from solution import f`` mean the program's ``f``, and ``solution.f`` the same."""
    modules: set[str] = set()
    body: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module in _SOLUTION:
            for alias in node.names:
                if alias.asname and alias.asname != alias.name:
                    value = ast.Name(alias.name, ast.Load())
                    body.append(ast.Assign([ast.Name(alias.asname, ast.Store())], value))
        elif isinstance(node, ast.Import) and any(a.name in _SOLUTION for a in node.names):
            modules |= {a.asname or a.name for a in node.names if a.name in _SOLUTION}
            kept = [a for a in node.names if a.name not in _SOLUTION]
            body += [ast.Import(kept)] if kept else []
        else:
            body.append(node)
    if body == tree.body:
        return tree
    made = ast.Module(body, [])
    if modules:
        made = _Unqualified(modules).visit(made)
    return ast.fix_missing_locations(made)


class _Unqualified(ast.NodeTransformer):
    def __init__(self, modules: set[str]) -> None:
        self.modules = modules

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self.modules:
            return ast.Name(node.attr, node.ctx)
        return self.generic_visit(node)


def made_to_run(tree: ast.Module, entry_point: str | None, asked: Iterable[str]) -> ast.Module:
    """Return the test code with calls of the tests that it leaves to a runner.

    Args:
        tree: the code.
        entry_point: what ``check(candidate)`` is called with, where it is defined.
        asked: names of the program's that the code uses.

    Raises:
        BadGold: nothing in it would be run, asks the program or asserts anything.
    """
    body, guarded = _guards_opened(tree)
    calls = [call for node in body for call in _collected(node)]
    made = ast.Module([*body, *(calls or guarded)], [])
    if not _reached(made, entry_point)[1]:
        made.body += [ast.parse(f"{f.name}()").body[0] for f in _left_to_call(made)]
    names, asserts = _reached(made, entry_point)
    if not asserts:
        raise BadGold("vacuous: no assertion is ever run")
    takes_entry = entry_point is not None and "check" in names
    if not takes_entry and not names & set(asked):
        raise BadGold("vacuous: the program is never asked")
    return ast.fix_missing_locations(made)


def needed(trees: Iterable[ast.AST], free: Iterable[str] = ()) -> set[str]:
    """Return the libraries beyond the standard one that the code needs."""
    found = {LIBRARIES[name] for name in free if name in LIBRARIES}
    for tree in trees:
        for node in ast.walk(tree):
            roots: list[str] = []
            if isinstance(node, ast.Import):
                roots = [a.name.partition(".")[0] for a in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots = [(node.module or "").partition(".")[0]]
            for root in roots:
                if root not in sys.stdlib_module_names and root not in ("pytest", *_SOLUTION):
                    found.add(root)
    return found


def _guards_opened(tree: ast.Module) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Return the module without its main guards, and what stood below them."""
    body: list[ast.stmt] = []
    guarded: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.If) and "__name__" in ast.dump(node.test):
            guarded += [n for n in node.body if not _is_runner(n)]
        elif not _is_runner(node):
            body.append(node)
    return body, guarded


def _is_runner(node: ast.stmt) -> bool:
    """Tell ``unittest.main()`` and ``pytest.main([...])``: they would look into a file."""
    return any(
        isinstance(n, ast.Call)
        and isinstance(n.func, ast.Attribute)
        and n.func.attr == "main"
        and getattr(n.func.value, "id", None) in ("unittest", "pytest")
        for n in ast.walk(node)
    ) and not isinstance(node, (*_Function, ast.ClassDef))


def _collected(node: ast.stmt) -> Iterator[ast.stmt]:
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
        if not any("parametrize" in ast.dump(d) for d in node.decorator_list) and _required(node):
            if node.name.startswith("test_"):
                raise BadGold(f"needs fixtures: {node.name}")
            return
        yield from ast.parse(f"{node.name}()").body
    elif isinstance(node, ast.ClassDef):
        bases = " ".join(map(ast.unparse, node.bases))
        tests = [n.name for n in node.body if isinstance(n, _Function) and n.name[:4] == "test"]
        if "TestCase" in bases:
            yield from ast.parse(
                "import unittest as _unittest_\n"
                "_result_ = _unittest_.TestResult()\n"
                f"_unittest_.defaultTestLoader.loadTestsFromTestCase({node.name}).run(_result_)\n"
                "assert _result_.testsRun and _result_.wasSuccessful()"
            ).body
        elif node.name.startswith("Test") and tests:
            own = {n.name for n in node.body if isinstance(n, _Function)}
            for name in tests:
                yield from ast.parse(f"_case_ = {node.name}()").body
                if "setup_method" in own:
                    yield from ast.parse("_case_.setup_method()").body
                yield from ast.parse(f"_case_.{name}()").body


def _required(node: ast.FunctionDef) -> int:
    return len(node.args.args) - len(node.args.defaults) + len(node.args.posonlyargs)


def _left_to_call(tree: ast.Module) -> list[ast.FunctionDef]:
    return [
        n
        for n in tree.body
        if isinstance(n, ast.FunctionDef) and _RUNNERS.search(n.name) and not _required(n)
    ]


def _reached(tree: ast.Module, entry_point: str | None) -> tuple[set[str], bool]:
    """Return the names that running the module reaches, and whether it reaches an assertion."""
    defined = {n.name: n for n in tree.body if isinstance(n, (*_Function, ast.ClassDef))}
    waiting: list[ast.AST] = [n for n in tree.body if n not in defined.values()]
    if entry_point is not None and "check" in defined:
        waiting.append(defined["check"])
    names: set[str] = {"check"} if entry_point is not None and "check" in defined else set()
    asserts = False
    while waiting:
        for node in ast.walk(waiting.pop()):
            asserts = asserts or _is_assertion(node)
            if isinstance(node, ast.Name) and node.id not in names:
                names.add(node.id)
                if node.id in defined:
                    waiting.append(defined[node.id])
    return names, asserts


def _is_assertion(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        # those that are written here, on what unittest found, come with assertions of their own
        return not isinstance(node.test, ast.Constant) and "_result_" not in ast.dump(node.test)
    if isinstance(node, ast.Raise):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = str(getattr(node.func, "attr", None) or getattr(node.func, "id", ""))
    return name in _LEAVES or name.startswith(("assert", "fail", "raises"))
