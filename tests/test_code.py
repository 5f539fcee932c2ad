"""Verdicts of the code verifier: shapes of tests, shapes of answers, and who is at fault."""

# ruff: noqa: E501 - one case, one line

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from factory.errors import Refused
from factory.records import Item, Verdict
from factory.sandbox import BoxError, choose
from factory.stages.importing import import_rows
from factory.stages.verify import check_golds
from factory.store import Store
from factory.verifiers import code

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module", autouse=True)
def _a_tier_holds() -> None:
    try:
        choose()
    except Refused as refused:
        pytest.skip(str(refused))


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the project")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def asserts(*codes: str, **more: Any) -> dict[str, Any]:
    return {"test_cases": [{"type": "assert", "code": c} for c in codes], **more}


def streams(*pairs: tuple[str, str], **more: Any) -> dict[str, Any]:
    cases = [{"type": "stdin_stdout", "input": i, "output": o} for i, o in pairs]
    return {"test_cases": cases, **more}


def calls(*triples: tuple[str, Any, Any], **more: Any) -> dict[str, Any]:
    cases = [{"type": "fn_call", "fn_name": f, "input": i, "output": o} for f, i, o in triples]
    return {"test_cases": cases, **more}


def fenced(program: str) -> str:
    return f"<think>\nhm\n</think>\n\nHere it is:\n```python\n{program}\n```\nDone."


def judge(program: str, gold: object, **options: Any) -> Verdict:
    return code.verify(Item(text=fenced(program), gold=gold), **options)


INC = "def f(x):\n    return x + 1"
NODE = """
class Node:
    def __init__(self, v):
        self.v, self.left, self.right = v, None, None

def depth(n):
    return 0 if n is None else 1 + max(depth(n.left), depth(n.right))
"""
CASES: list[tuple[str, str, object, str, str | None, str]] = [
    # (sentence, program, gold, status, reason, decided_by)
    ("an assertion holds", INC, asserts("assert f(1) == 2"), "pass", None, "calls"),
    ("an assertion does not", INC, asserts("assert f(1) == 3"), "fail", "wrong", "calls"),
    ("the last of many counts", INC, asserts(*["assert f(1) == 2"] * 5, "assert f(2) == 4"), "fail", "wrong", "calls"),
    ("literal on the left", INC, asserts("assert 2 == f(1)"), "pass", None, "calls"),
    ("negation", "def f(x): return []", asserts("assert not f(1)"), "pass", None, "calls"),
    ("truth", "def f(x): return [0]", asserts("assert f(1)", "assert f(1) is not None"), "pass", None, "calls"),
    ("is True wants a bool", "def f(x): return 1", asserts("assert f(1) is True"), "fail", "wrong", "calls"),
    ("== True is Python's", "def f(x): return 1", asserts("assert f(1) == True"), "pass", None, "calls"),
    ("conjunction", INC, asserts("assert f(1) == 2 and f(2) == 3"), "pass", None, "calls"),
    ("distance", "def f(x): return 0.1 + 0.2", asserts("assert abs(f(0) - 0.3) < 1e-9"), "pass", None, "calls"),
    ("isclose", "def f(x): return 0.1 + 0.2", asserts("assert math.isclose(f(0), 0.3, rel_tol=1e-9)"), "pass", None, "calls"),
    ("inf is near nothing", "def f(x): return 1e308 * 10", asserts("assert abs(f(0) - 1e308) < 1e307"), "fail", "wrong", "calls"),
    ("nan is near nothing", "def f(x): return float('nan')", asserts("assert abs(f(0) - 1.0) < 1e9"), "fail", "wrong", "calls"),
    ("tuple is no list", "def f(x): return [x]", asserts("assert f(1) == (1,)"), "fail", "wrong", "calls"),
    ("sets have no order", "def f(x): return {3, 1, 2}", asserts("assert f(1) == {1, 2, 3}"), "pass", None, "calls"),
    ("a counter is a dict", "from collections import Counter\ndef f(x): return Counter(x)", asserts("assert f('aab') == {'a': 2, 'b': 1}"), "pass", None, "calls"),
    ("an iterator is no list", "def f(x): return map(str, [1])", asserts("assert f(1) == ['1']"), "fail", "wrong", "calls"),
    ("big integers", "def f(x): return x ** 200", asserts("assert f(10) == 10 ** 200"), "pass", None, "calls"),
    ("a big integer off by one", "def f(x): return x ** 200 + 1", asserts("assert f(10) == 10 ** 200"), "fail", "wrong", "calls"),
    ("strings of any script", "def f(x): return x[::-1]", asserts("assert f('héé\\ud800😀') == '😀\\ud800ééh'"), "pass", None, "calls"),
    ("nested containers", "def f(x): return {1: [(2, {3})]}", asserts("assert f(0) == {1: [(2, {3})]}"), "pass", None, "calls"),
    ("state lives on between calls", "n = 0\ndef f():\n    global n\n    n += 1\n    return n", asserts("assert f() == 1", "assert f() == 2"), "pass", None, "calls"),
    ("a candidate's own sum", "def sum(a, b): return a * b", asserts("assert sum(2, 3) == 6"), "pass", None, "calls"),
    ("printing does not disturb", "print('hello')\ndef f(x):\n    print(x)\n    return x", asserts("assert f(1) == 1"), "pass", None, "calls"),
    ("imports that graders have", "def f(x): return math.floor(x)", asserts("assert f(1.5) == 1"), "pass", None, "calls"),
    ("check with entry point", INC, asserts("def check(candidate):\n    assert candidate(1) == 2\n", entry_point="f"), "pass", None, "calls"),
    ("check that calls itself", INC, asserts("def check(candidate):\n    assert f(1) == 2\ncheck(f)", entry_point="f"), "pass", None, "calls"),
    ("a loop is run apart", INC, asserts("for i in range(5):\n    assert f(i) == i + 1"), "pass", None, "tests_apart"),
    ("a loop sees a wrong answer", "def f(x): return x + (x < 4)", asserts("for i in range(5):\n    assert f(i) == i + 1"), "fail", "wrong", "tests_apart"),
    ("two calls are compared", INC, asserts("assert f(1) == f(1)"), "pass", None, "tests_apart"),
    ("a wrapped call", "def f(x): return [2, 1]", asserts("assert sorted(f(1)) == [1, 2]"), "pass", None, "tests_apart"),
    ("a change in place is seen", "def f(x): x.sort()", asserts("a = [2, 1]\nf(a)\nassert a == [1, 2]"), "pass", None, "tests_apart"),
    ("no change in place", "def f(x): sorted(x)", asserts("a = [2, 1]\nf(a)\nassert a == [1, 2]"), "fail", "wrong", "tests_apart"),
    ("an expected exception", "def f(x): raise ValueError('no')", asserts("try:\n    f(1)\n    ok = False\nexcept ValueError:\n    ok = True\nassert ok"), "pass", None, "tests_apart"),
    ("objects of the candidate", "class A:\n    def __init__(self, v): self.v = v\n    def get(self): return self.v", asserts("a = A(3)\nassert a.get() == 3\nassert a.v == 3"), "pass", None, "tests_apart"),
    ("setup builds with its classes", NODE, asserts("assert depth(root) == 2", setup="root = Node(1)\nroot.left = Node(2)\n"), "pass", None, "tests_apart"),
    ("the test's helper is not the candidate's", "def expected(x): return 0\ndef f(x): return 0", asserts("for x in (3,):\n    assert f(x) == expected(x)", prefix="def expected(x):\n    return x + 1\n"), "fail", "wrong", "tests_apart"),
    ("the test's math is not the candidate's", "class M:\n    isclose = staticmethod(lambda *a: True)\nmath = M\ndef f(x): return 0", asserts("for x in (3,):\n    assert math.isclose(f(x), 5)"), "fail", "wrong", "tests_apart"),
    ("a constant of setup is not the candidate's", "def f(x): return 0", asserts("for x in (3,):\n    assert f(x) == WANTED", setup="WANTED = 4\n"), "fail", "wrong", "tests_apart"),
    ("tests that leave orderly", INC, asserts("import sys\nassert f(1) == 2\nsys.exit(0)"), "pass", None, "tests_apart"),
    ("a test case class", INC, asserts("import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertEqual(f(1), 2)\nr = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T))\nassert r.wasSuccessful()"), "pass", None, "tests_apart"),
    ("what is printed is looked at", "def f(): print('hi')", asserts("import io, contextlib\nb = io.StringIO()\nwith contextlib.redirect_stdout(b):\n    f()\nassert b.getvalue() == 'hi\\n'"), "pass", None, "tests_apart"),
    ("a named tuple is a tuple", "from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f(x): return P(x, 2)", asserts("assert f(1) == (1, 2)"), "pass", None, "calls"),
    ("a function as argument", "def f(g): return g(2)", asserts("assert f(lambda x: x + 1) == 3"), "pass", None, "tests_apart"),
    ("a function as argument, wrong", "def f(g): return g(2) + 1", asserts("assert f(lambda x: x + 1) == 3"), "fail", "wrong", "tests_apart"),
    ("function call", INC, calls(("f", [1], 2)), "pass", None, "calls"),
    ("arguments as text lines", "def f(a, b): return a + b", calls(("f", "[1]\n[2]", "[1, 2]")), "pass", None, "calls"),
    ("all arguments in one line of text", "def f(a, b): return a + b", calls(("f", "[1, 2]", "3")), "pass", None, "calls"),
    ("a list in one line of text", "def f(a): return sum(a)", calls(("f", "[1, 2]", "3")), "pass", None, "calls"),
    ("named arguments", "def f(a, b): return a - b", calls(("f", {"b": 1, "a": 3}, 2)), "pass", None, "calls"),
    ("JSON knows no tuple", "def f(x): return (x, (1, 2))", calls(("f", [1], [1, [1, 2]])), "pass", None, "calls"),
    ("floats are exact by default", "def f(x): return 0.1 + 0.2", calls(("f", [1], 0.3)), "fail", "wrong", "calls"),
    ("a method of Solution", "class Solution:\n    def f(self, a: List[int]) -> int:\n        return max(a)", calls(("f", [[1, 3]], 3)), "pass", None, "calls"),
    ("stdin to stdout", "print(int(input()) + 1)", streams(("1\n", "2\n"), ("5\n", "6\n")), "pass", None, "stdin"),
    ("second case fails", "print(2)", streams(("1\n", "2\n"), ("5\n", "6\n")), "fail", "wrong", "stdin"),
    ("stdin is read in any way", "import sys\nprint(open(0).read().strip(), sys.stdin.fileno())", streams(("ab\n", "ab 0")), "pass", None, "stdin"),
    ("whole programs import for themselves", "print(math.pi > 3)", streams(("", "True")), "fail", "runtime_error", "stdin"),
    ("exit functions run", "import atexit\natexit.register(lambda: print('bye'))", streams(("", "bye")), "pass", None, "stdin"),
    ("threads are waited for", "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('x'))).start()", streams(("", "x")), "pass", None, "stdin"),
    ("main guard", "if __name__ == '__main__':\n    print('m')", streams(("", "m")), "pass", None, "stdin"),
    ("exit status 0 is fine", "print(1)\nexit(0)", streams(("", "1")), "pass", None, "stdin"),
    ("exit status 3 is not", "print(1)\nimport sys\nsys.exit(3)", streams(("", "1")), "fail", "runtime_error", "stdin"),
    ("an exception", "print(1)\n1/0", streams(("", "1")), "fail", "runtime_error", "stdin"),
    ("syntax", "def f(x) return", asserts("assert f(1) == 2"), "fail", "syntax_error", "calls"),
    ("a missing function", "def g(x): return 2", asserts("assert f(1) == 2"), "fail", "runtime_error", "calls"),
    ("memory", "x = bytearray(3 << 30)\nprint(1)", streams(("", "1")), "fail", "memory_limit", "stdin"),
    ("endless recursion", "def f(x): return f(x)", asserts("assert f(1) == 2"), "fail", "runtime_error", "calls"),
    ("the body continues the prefix", "    return x + 1", asserts("assert f(1) == 2", prefix='def f(x):\n    """Add one."""\n'), "pass", None, "calls"),
    ("the prefix helps", "def f(x): return helper(x)", asserts("assert f(1) == 2", prefix="def helper(x):\n    return x + 1\n"), "pass", None, "calls"),
    ("carriage returns", INC.replace("\n", "\r\n"), asserts("assert f(1) == 2\r\nassert f(2) == 3"), "pass", None, "calls"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "gold", "status", "reason", "decided_by"),
    [pytest.param(*case[1:], id=case[0]) for case in CASES],
)
def test_verdict(
    program: str, gold: object, status: str, reason: str | None, decided_by: str
) -> None:
    verdict = judge(program, gold)
    assert (verdict.status, verdict.reason, verdict.decided_by) == (status, reason, decided_by)


EXTRACTION: list[tuple[str, str, str | None]] = [
    ("the last block counts", "```python\ndef f(x): return 0\n```\nNo:\n```python\n" + INC + "\n```", None),
    ("sample output after it does not", "```python\n" + INC + "\n```\nOutput:\n```text\n2\n```", None),
    ("plain code", INC, None),
    ("an unclosed block runs to the end", "```python\n" + INC, None),
    ("an indented block with tildes", "  ~~~py\n" + INC + "\n  ~~~", None),
    ("code in the thinking does not count", "<think>\n```python\n" + INC + "\n```\n</think>\n\nDone.", "syntax_error"),
    ("nothing after the thinking", "<think>\n```python\n" + INC + "\n```\n</think>\n\n", "no_code"),
    ("an empty block", "```python\n\n```", "no_code"),
    ("prose", "I cannot do that, sorry.", "syntax_error"),
    ("a null byte", "```python\nx = '\x00'\n```", "syntax_error"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"), [pytest.param(*case[1:], id=case[0]) for case in EXTRACTION]
)
def test_which_program_counts(text: str, reason: str | None) -> None:
    verdict = code.verify(Item(text=text, gold=asserts("assert f(1) == 2")))
    assert verdict.reason == reason
    assert verdict.status == ("fail" if reason else "pass")


BAD_GOLDS: list[object] = [
    None, "", "see figure", "[]", 5, {}, {"test_cases": []}, {"test_cases": ["x"]},
    {"test_cases": [{"type": "assert"}]}, {"test_cases": [{"type": "assert", "code": "assert ("}]},
    {"test_cases": [{"type": "riddle", "input": "", "output": ""}]},
    {"test_cases": [{"type": "fn_call", "input": [1], "output": 2}]},
    {"test_cases": [{"type": "stdin_stdout", "input": "1"}]}, {"test_cases": [{"code": 5}]},
    {"setup": 3, "test_cases": [{"code": "assert f(1)"}]},
]  # fmt: skip


@pytest.mark.parametrize("gold", BAD_GOLDS, ids=repr)
def test_a_bad_gold_is_ours_and_gets_no_reward(gold: object) -> None:
    verdict = judge(INC, gold)
    assert (verdict.status, verdict.reward, verdict.reason) == ("unscored", None, "bad_gold")


def test_a_gold_may_be_json_text() -> None:
    assert judge(INC, json.dumps(asserts("assert f(1) == 2"))).status == "pass"


def test_a_tolerance_has_to_be_declared() -> None:
    gold = calls(("f", [1], [0.3, 2]))
    program = "def f(x): return [0.1 + 0.2, 2]"
    assert judge(program, gold).status == "fail"
    assert judge(program, gold, float_tolerance=1e-9).status == "pass"
    for hostile in ("float('inf')", "float('nan')", "1e308 * 10", "'0.3'", "True"):
        assert judge(f"def f(x): return [{hostile}, 2]", gold, float_tolerance=0.5).status == "fail"


def test_printed_numbers_have_the_declared_tolerance() -> None:
    gold = streams(("", "0.3 x\n2"))
    assert judge("print(0.1 + 0.2, 'x')\nprint(2)", gold).status == "fail"
    assert judge("print(0.1 + 0.2, 'x')\nprint(2)", gold, float_tolerance=1e-6).status == "pass"
    for hostile in ("'nan', 'x'", "'inf', 'x'", "0.3, 'y'", "0.3", "'0.3x', 'x'", "0.4, 'x'"):
        program = f"print({hostile})\nprint(2)"
        assert judge(program, gold, float_tolerance=1e-6).status == "fail"


def test_a_failing_box_is_ours_and_gets_no_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def broken(*args: object, **options: object) -> None:
        tries.append(1)
        raise BoxError("the box died")

    monkeypatch.setattr(code, "judge", broken)
    verdict = judge(INC, asserts("assert f(1) == 2"))
    assert (verdict.status, verdict.reward, verdict.reason) == ("unscored", None, "sandbox_failed")
    assert len(tries) == 3


def test_no_tier_is_ours_and_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise Refused("no sandbox tier holds here")

    monkeypatch.setattr(code, "choose", refuse)
    monkeypatch.setattr(code, "judge", lambda *a, **k: pytest.fail("a program was run"))
    assert judge(INC, asserts("assert f(1) == 2")).reason == "no_sandbox"
    with pytest.raises(Refused):
        code.ready()


_EVERYWHERE = """
import asyncio, multiprocessing, threading
from factory.records import Item
from factory.stages.importing import import_rows
from factory.stages.verify import check_golds
from factory.store import Store
from factory.stages.importing import import_rows
from factory.stages.verify import check_golds
from factory.store import Store
from factory.verifiers import code

GOLD = {"test_cases": [{"code": "assert f(1) == 2\\nfor i in range(2):\\n    assert f(i) == i + 1"}]}
ITEMS = [Item(text=f"def f(x): return x + {i % 2}", gold=GOLD) for i in range(4)]

def run(_=None):
    return [code.verify(item).status for item in ITEMS]

def main():
    here = run()
    said = []
    threads = [threading.Thread(target=lambda: said.append(run())) for _ in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    async def gathered():
        return await asyncio.gather(*[asyncio.to_thread(run) for _ in range(2)]), run()
    several, inline = asyncio.run(gathered())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = pool.apply(run)
    assert here == ["fail", "pass"] * 2
    assert all(x == here for x in (*said, *several, inline, spawned)) and len(said) == 8
    print("same")

if __name__ == "__main__":
    main()
"""


def test_verdicts_are_the_same_from_threads_asyncio_and_spawn(tmp_path: Path) -> None:
    script = tmp_path / "everywhere.py"
    script.write_text(_EVERYWHERE)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == "same", done.stderr[-2000:]


def test_a_language_without_its_compiler_is_ours() -> None:
    verdict = judge("fn main() {}", streams(("", "1"), language="cobol"))
    assert (verdict.status, verdict.reason) == ("unscored", "unknown_language")
    if not Path("/usr/bin/go").exists():
        verdict = judge("package main", streams(("", "1"), language="go"))
        assert (verdict.status, verdict.reason) == ("unscored", "missing_compiler_go")


def test_a_program_that_waits_is_over_its_wall_clock() -> None:
    verdict = judge("import time\ntime.sleep(60)", streams(("", "1")), cpu_s=1, wall_s=0.5)
    assert (verdict.status, verdict.reason) == ("fail", "time_limit")


def test_the_reference_passes_and_its_mutants_fail() -> None:
    program = "def f(x):\n    if x > 3:\n        return x * 2 + 1\n    return x - 1"
    good = asserts("assert f(5) == 11", "assert f(3) == 2", "assert f(4) == 9", solution=program)
    found = code.sanity(good)
    assert found.is_sane
    assert found.n_mutants == found.n_killed > 4
    weak = asserts("assert f(5) is not None", solution=program)
    found = code.sanity(weak)
    assert not found.is_sane
    assert found.survivors


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        (asserts("assert f(1) == 3", solution=INC), "wrong"),
        (asserts("assert f(1) == 2"), "no_solution"),
        ({"test_cases": []}, "bad_gold"),
    ],
)
def test_a_gold_that_its_reference_fails_is_rejected(gold: dict[str, Any], reason: str) -> None:
    found = code.sanity(gold)
    assert not found.is_sane
    assert (found.reason, found.is_ours) == (reason, False)


def test_a_gold_that_cannot_be_judged_here_is_not_called_bad() -> None:
    gold = streams(("", "1"), language="cobol", solution="DISPLAY 1")
    assert code.sanity(gold).is_ours
    assert code.gold_fault(gold) is None


def test_check_names_golds_whose_tests_accept_nearly_anything(tmp_path: Path) -> None:
    program = "def f(x):\n    if x > 3:\n        return x * 2 + 1\n    return x - 1"
    golds = {
        "good": asserts("assert f(5) == 11", "assert f(3) == 2", "assert f(4) == 9",
                        solution=program),
        "weak": asserts("assert f(5) is not None", solution=program),
        "wrong": asserts("assert f(5) == 0", solution=program),
        "bare": asserts("assert f(5) == 11"),
    }  # fmt: skip
    store = Store(tmp_path)
    rows = [
        ("x", i, {"id": name, "prompt": name, "completion": "c", "gold": gold})
        for i, (name, gold) in enumerate(golds.items())
    ]
    import_rows(store, rows)
    n, failing = check_golds(store)
    assert n == 4
    assert {row["item"]: row["reason"].partition(":")[0] for row in failing} == {
        "weak": "weak_tests", "wrong": "wrong",
    }  # fmt: skip


def test_mutants_of_canonical_solutions_fail() -> None:
    found = [
        code.sanity(gold_of(row), solution=row["canonical_solution"], most_mutants=3, cpu_s=2)
        for row in rows("code_func_humaneval")[::10]
    ]
    assert all(one.reason is None for one in found)
    assert sum(one.n_killed for one in found) >= 0.8 * sum(one.n_mutants for one in found)


def gold_of(row: dict[str, Any]) -> dict[str, Any]:
    whole = row.get("solution_style") != "completion_of_prompt"
    return asserts(
        row["tests"],
        entry_point=row["entry_point"],
        setup=row.get("setup") or "",
        prefix="" if whole else row["prompt"],
    )


@pytest.mark.parametrize(("name", "step"), [("code_func_humaneval", 1), ("code_func_mbpp", 4)])
def test_canonical_solutions_pass(name: str, step: int) -> None:
    chosen = rows(name)[::step]
    failed = [
        (row["id"], verdict.reason)
        for row in chosen
        if (verdict := judge(row["canonical_solution"], gold_of(row))).status != "pass"
    ]
    assert [f for f in failed if f[1] != CONSTANT] == []
    assert len(failed) <= 0.03 * len(chosen)


CONSTANT = "bad_gold: vacuous: every test expects the same"
"""A program that returns that constant would pass: the task pays nobody."""


@pytest.mark.slow
def test_all_canonical_solutions_pass() -> None:
    for name in ("code_func_humaneval", "code_func_mbpp"):
        test_canonical_solutions_pass(name, 1)


def disagreements(step: int) -> tuple[int, list[tuple[str, str, str | None]]]:
    chosen = [
        r
        for r in rows("code_model_programs")[::step]
        if step == 1 or r["local_verdict"] != "timeout"
    ]
    out = []
    for row in chosen:
        verdict = code.verify(Item(text=row["program"], gold=gold_of(row)))
        unlike = (verdict.status == "pass") != (row["local_verdict"] == "pass")
        if unlike and verdict.reason != CONSTANT:
            out.append((row["id"], row["local_verdict"], verdict.reason))
    return len(chosen), out


def test_model_programs_agree_on_a_sample() -> None:
    n, differ = disagreements(12)
    assert len(differ) <= 0.01 * n, differ


@pytest.mark.slow
def test_model_programs_agree() -> None:
    """All of them, whose verdicts others found with a fresh interpreter each: two may differ."""
    n, differ = disagreements(1)
    print(f"{n} programs, {len(differ)} differ: {differ}")
    assert len(differ) <= 2, differ


@pytest.mark.parametrize(
    ("tests", "is_vacuous"),
    [
        (("assert f(1) == 2", "assert f(2) == 2"), True),
        (("assert f(1) == 2", "assert f(2) == 3"), False),
        (("assert f(1) == 2",), False),
        (("assert f(1) == 2", "assert f(1) == 2"), False),
        (("assert f(1)", "assert f(2) is True"), True),
        (("assert f(1)", "assert not f(2)"), False),
        (("assert f(1) is None", "assert f(2) is None"), True),
        (("assert f(1) is not None", "assert f(2) is not None"), False),
        (("assert abs(f(1) - 0.5) < 1e-6", "assert f(3) == 0.5"), True),
    ],
)
def test_tests_that_one_constant_passes_pay_nobody(
    tests: tuple[str, ...], is_vacuous: bool
) -> None:
    verdict = code.quick(Item(text="```python\ndef f(x):\n    return 2\n```", gold=asserts(*tests)))
    assert (verdict is not None and verdict.reason == CONSTANT) == is_vacuous


def test_streams_that_one_printed_constant_passes_pay_nobody() -> None:
    for outputs, wanted in ((("YES", "YES"), CONSTANT), (("YES", "NO"), None)):
        cases = [{"input": str(n), "output": text} for n, text in enumerate(outputs)]
        verdict = code.quick(Item(text="```python\nprint(1)\n```", gold={"test_cases": cases}))
        assert (verdict and verdict.reason) == wanted


@pytest.mark.parametrize("text", ["```python\n\ufeffprint(input())\n```", "\ufeffprint(input())"])
def test_a_byte_order_mark_before_a_program_is_no_error(text: str) -> None:
    gold = {"test_cases": [{"input": x, "output": x} for x in ("1", "2")]}
    assert code.verify(Item(text=text, gold=gold)).status == "pass"
