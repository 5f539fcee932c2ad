"""Golds are checked before they pay: test code that nobody calls, public forms, which program."""

# ruff: noqa: E501 - one case, one line

from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import Any

import pytest

from factory import plugins
from factory.records import Item
from factory.verifiers import code
from factory.verifiers.code.fences import program_of
from factory.verifiers.code.gold import BadGold, read_gold
from tests.helpers_box import resolve

RIGHT, WRONG, EMPTY = "def f(x):\n    return x + 1", "def f(x):\n    return 0", "x = 1"


@pytest.fixture(scope="module", autouse=True)
def _a_tier_holds() -> None:
    resolve("chosen")


def status(program: str, gold: Any, **options: Any) -> str:
    text = program if "```" in program else f"```python\n{program}\n```"
    verdict = code.verify(Item(text=text, gold=gold), **options)
    return verdict.status if verdict.status != "unscored" else str(verdict.reason)


def asserts(text: str, **more: Any) -> dict[str, Any]:
    return {"test_cases": [{"type": "assert", "code": text}], **more}


RUN: list[tuple[str, str, dict[str, Any]]] = [
    ("pytest function", "def test_f():\n    assert f(1) == 2", {}),
    ("several, the second tells", "def test_a():\n    assert callable(f)\ndef test_b():\n    assert f(1) == 2", {}),
    ("import of the solution", "from solution import f\ndef test_f():\n    assert f(1) == 2", {}),
    ("import under another name", "from solution import f as g\nassert [g(1)] == [2]", {}),
    ("the module is imported", "import solution\ndef test_f():\n    assert solution.f(1) == 2", {}),
    ("pytest class", "class TestF:\n    def setup_method(self):\n        self.want = 2\n    def test_a(self):\n        assert f(1) == self.want", {}),
    ("unittest", "import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertEqual(f(1), 2)", {}),
    ("unittest with its main", "import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertEqual(f(1), 2)\nif __name__ == '__main__':\n    unittest.main()", {}),
    ("main guard", "def main():\n    assert f(1) == 2\nif __name__ == '__main__':\n    main()", {}),
    ("assertions in the guard", "if __name__ == '__main__':\n    assert [f(1)] == [2]", {}),
    ("run_tests", "def run_tests():\n    assert f(1) == 2", {}),
    ("parametrized", "import pytest\n@pytest.mark.parametrize('x,y', [(1, 2), (2, 3)])\ndef test_f(x, y):\n    assert f(x) == y", {}),
    ("approx", "import pytest\ndef test_f():\n    assert f(1) == pytest.approx(2.0)", {}),
    ("raises", "import pytest\ndef test_f():\n    with pytest.raises(TypeError):\n        f('a')", {}),
    ("check with entry point", "def check(candidate):\n    for x in range(3):\n        assert candidate(x) == x + 1", {"entry_point": "f"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "more"), [pytest.param(*c[1:], id=c[0]) for c in RUN])
def test_tests_that_are_left_to_a_runner_are_run(text: str, more: dict[str, Any]) -> None:
    gold = asserts(text, **more)
    assert (status(RIGHT, gold), status(WRONG, gold)) == ("pass", "fail")
    assert status(EMPTY, gold) == "fail"


NO_TESTS: list[tuple[str, str, str]] = [
    ("pass", "pass", "vacuous"),
    ("comment", "# see the file", "vacuous"),
    ("only true", "assert True", "vacuous"),
    ("asks nothing", "def test_f():\n    assert 1 + 1 == sum([1, 1])", "vacuous"),
    ("asserts nothing", "def test_f():\n    f(1)", "vacuous"),
    ("check without entry point", "def check(candidate):\n    assert candidate(1) == 2", "vacuous"),
    ("an unused helper", "def helper(y):\n    assert f(y) == 2\nx = 1", "vacuous"),
    ("a library that no box shows", "import torch\nassert torch.equal(f(1), 2)", "needs torch"),
    ("one without its import", "assert pd.isna(f(1))", "needs pandas"),
    ("inside a test", "def test_f():\n    import pandas\n    assert f(1) == 2", "needs pandas"),
    ("a fixture", "def test_f(tmp_path):\n    assert f(1) == 2", "needs fixtures"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "why"), [pytest.param(*c[1:], id=c[0]) for c in NO_TESTS])
def test_a_gold_that_tests_nothing_pays_nobody(text: str, why: str) -> None:
    for program in (RIGHT, WRONG):
        assert status(program, asserts(text)).startswith(f"bad_gold: {why}")


def test_a_prefix_that_needs_a_library_is_a_bad_gold() -> None:
    gold = asserts("assert f(1) == 2", prefix="import torch\n")
    assert status(RIGHT, gold) == "bad_gold: needs torch"
    assert status(RIGHT, asserts("assert f(1) == 2", libraries=["os_secrets"])).startswith(
        "bad_gold"
    )


NUMPY: list[tuple[str, str, str, dict[str, Any]]] = [
    ("an array", "import numpy as np\ndef f(x): return np.array([x, x + 1])", "import numpy as np\nassert np.allclose(f(1), [1, 2])", {}),
    ("without its import", "import numpy as np\ndef f(x): return np.ones((2, x))", "assert np.array_equal(f(3), np.ones((2, 3)))\nassert f(3).shape == (2, 3)", {}),
    ("an array given", "def f(a): return a.T @ a", "import numpy as np\na = np.arange(4).reshape(2, 2)\nassert (f(a) == a.T @ a).all()", {}),
    ("changed in place", "def f(a): a *= 2", "import numpy as np\na = np.arange(3)\nf(a)\nassert a.tolist() == [0, 2, 4]", {}),
    ("a number of numpy's", "import numpy as np\ndef f(x): return np.int64(x + 1)", "assert f(1) == 2", {"libraries": ["numpy"]}),
    ("in the prefix", "def f(x): return float(np.sqrt(x))", "assert f(4) == 2.0", {"prefix": "import numpy as np\n"}),
    ("a whole sum of it", "import numpy as np\ndef f(x): return np.float64(0.1) * x", "import numpy as np\nassert abs(f(3) - 0.3) < 1e-9", {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "text", "more"), [pytest.param(*c[1:], id=c[0]) for c in NUMPY]
)
def test_a_task_that_names_numpy_has_it(program: str, text: str, more: dict[str, Any]) -> None:
    gold = asserts(text, **more)
    assert status(program, gold) == "pass"
    assert (
        status(program.replace("return ", "return 7 + 0 * ").replace("a *= 2", "a *= 3"), gold)
        == "fail"
    )


ADDRESS = """
class A:
    def __array__(self, *a, **k): return self
    __array_interface__ = {"data": (1 << 20, False), "shape": (2,), "typestr": "<i8", "version": 3}
    __array_priority__ = 1000
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
def f(x): return A()
"""


@pytest.mark.parametrize("text", ["assert np.allclose(f(1), [1, 2])", "assert (f(1) == np.ones(2)).all()", "assert (np.ones(2) == f(1)).all()", "np.testing.assert_allclose(f(1), [1, 2])\nassert f"])  # fmt: skip
def test_an_object_that_poses_as_an_array_does_not_pass(text: str) -> None:
    assert status(ADDRESS, asserts("import numpy as np\n" + text)) == "fail"


def test_a_task_that_does_not_name_numpy_has_it_not() -> None:
    program = "import numpy\ndef f(x): return x + 1"
    assert status(program, asserts("assert f(1) == 2")) == "fail"


PACKED = json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}])
ECHO, NOT_ECHO = "print(int(input()) + 1)", "print(0)"
FORMS: list[tuple[str, Any, bool]] = [
    ("lists of streams", {"inputs": ["1\n", "4\n"], "outputs": ["2\n", "5\n"]}, True),
    ("their JSON text", json.dumps({"inputs": ["1\n"], "outputs": ["2\n"]}), True),
    ("nested text", {"input_output": json.dumps({"inputs": ["1\n"], "outputs": ["2\n"]})}, True),
    ("input and output lists", {"input": ["1"], "output": ["2"]}, True),
    ("LiveCodeBench, public", {"public_test_cases": PACKED}, True),
    ("LiveCodeBench, private", {"private_test_cases": base64.b64encode(zlib.compress(PACKED.encode())).decode()}, True),
    ("a packed text in a pickle", {"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(PACKED))).decode()}, True),
    ("a list of cases", [{"input": "1\n", "output": "2\n"}], True),
    ("APPS with a function", {"inputs": [[1], [2]], "outputs": [2, 3], "fn_name": "f"}, False),
    ("APPS, wrapped outputs", {"inputs": [[1], [2]], "outputs": [[2], [3]], "fn_name": "f"}, False),
    ("LiveCodeBench, functional", {"public_test_cases": [{"input": "1", "output": "2", "testtype": "functional"}], "metadata": '{"func_name": "f"}'}, False),
    ("MBPP", {"test_list": ["assert f(1) == 2", "assert f(2) == 3"]}, False),
    ("assertions alone", ["assert f(1) == 2"], False),
    ("KodCode", {"test": "from solution import f\n\ndef test_a():\n    assert f(1) == 2\n"}, False),
    ("GURU", {"functional": "def check(candidate):\n    assert candidate(1) == 2\n\ncheck(f)"}, False),
    ("a test file alone", "from solution import f\n\ndef test_a():\n    assert f(1) == 2\n", False),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "whole"), [pytest.param(*c[1:], id=c[0]) for c in FORMS])
def test_public_forms_of_tests_are_read(gold: Any, whole: bool) -> None:
    right, wrong = (ECHO, NOT_ECHO) if whole else (RIGHT, WRONG)
    assert (status(right, gold), status(wrong, gold)) == ("pass", "fail")
    assert plugins.verifier_of_gold(gold) == "code"
    method = "class Solution:\n    def f(self, x):\n        return x + 1"
    if not whole and "fn_name" in str(gold):
        assert status(method, gold) == "pass"


class _Evil:
    def __reduce__(self) -> Any:
        return print, ("was run",)


@pytest.mark.parametrize("held", [
    base64.b64encode(zlib.compress(pickle.dumps(_Evil()))).decode(),
    base64.b64encode(zlib.compress(pickle.dumps([PACKED]))).decode(),
    base64.b64encode(zlib.compress(PACKED.encode())[:-9]).decode(), "%%%", "AAAA",
])  # fmt: skip
def test_what_cannot_be_decoded_safely_is_a_bad_gold(
    held: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadGold):
        read_gold({"private_test_cases": held})
    assert "was run" not in capsys.readouterr().out


F, MAIN = "def f(x):\n    return x + 1\n", "n = int(input())\nprint(f(n))\n"
PROGRAMS: list[tuple[str, str, bool, str]] = [
    ("a demo behind", f"```python\n{F}```\nUse:\n```python\nprint(f(2))\n```", False, F),
    ("unit tests behind", f"```python\n{F}```\n```python\nimport unittest\nclass T(unittest.TestCase): pass\n```", False, F),
    ("assertions behind", f"```python\n{F}```\n```python\nassert f(1) == 2\n```", False, F),
    ("corrected", f"```python\n{WRONG}\n```\nNo:\n```python\n{F}```", False, F),
    ("a helper in its own block", "```python\ndef g(x):\n    return 1\n```\n```python\ndef f(x):\n    return x + g(x)\n```", False, "def g(x):\n    return 1\ndef f(x):\n    return x + g(x)\n"),
    ("helper and main", f"```python\n{F}```\n```python\n{MAIN}```", True, F + MAIN),
    ("definitions and then the call", "```python\ndef main():\n    print(int(input()) + 1)\n```\nRun:\n```python\nmain()\n```", True, "def main():\n    print(int(input()) + 1)\nmain()\n"),
    ("a whole program and a demo", f"```python\n{ECHO}\n```\n```python\n# echo 3 | python main.py\nassert 3 + 1 == 4\n```", True, ECHO + "\n"),
    ("untagged output", f"```\n{F}```\nOutput:\n```\n2\n```", False, F),
    ("indented in a list", "1. So:\n   ```python\n   def f(x):\n       return x + 1\n   ```", False, F),
    ("behind a bullet", "- ```python\n  def f(x):\n      return x + 1\n  ```", False, F),
    ("only closed", f"{F}```\nThis adds one.", False, F),
    ("prose before a closing fence", "I add one.\n```\n" + F, False, F),
]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "runs", "program"), [pytest.param(*c[1:], id=c[0]) for c in PROGRAMS]
)
def test_which_blocks_are_the_program(answer: str, runs: bool, program: str) -> None:
    wanted = [] if runs else ["f"]
    assert (program_of(answer, "python", wanted, runs=runs) or "").rstrip() == program.rstrip()


GUARDED = RIGHT + "\nif __name__ == '__main__':\n    f(int(input()))"


def test_functions_are_imported_and_not_run() -> None:
    assert status(GUARDED, asserts("assert f(1) == 2")) == "pass"
    assert status(GUARDED, asserts("for x in range(3):\n    assert f(x) == x + 1")) == "pass"


METHOD = "class Solution:\n    def f(self, x):\n        return x + 1"


@pytest.mark.parametrize("loop", ["assert candidate(x=1) == 2", "for i in (1, 2):\n        assert candidate(i) == i + 1"])  # fmt: skip
def test_an_entry_point_may_be_a_method(loop: str) -> None:
    gold = asserts(f"def check(candidate):\n    {loop}", entry_point="Solution().f")
    assert status(METHOD, gold) == "pass"
    assert status(METHOD.replace("+ 1", "+ 2"), gold) == "fail"
    assert status(METHOD, asserts("assert Solution().f(1) == 2")) == "pass"


TOLERANCE: list[tuple[Any, str, str]] = [
    (1000000, "1000001", "fail"), (1000000, "1000001.0", "fail"), (2, "2.0000001", "pass"),
    (2.0, "2.0000001", "pass"), (2.0, "2", "pass"), ({"a": 0.5}, "{'a': 0.50000001}", "pass"),
    ({"a": 1000000}, "{'a': 1000001}", "fail"), ({"a": [0.5]}, "{'b': [0.5]}", "fail"),
    ({"a": [0.5, 3]}, "{'a': (0.50000001, 3)}", "pass"), (True, "1.0000001", "fail"),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "got", "found"), TOLERANCE)
def test_a_tolerance_is_of_fractions(wanted: Any, got: str, found: str) -> None:
    gold = {"test_cases": [{"type": "fn_call", "fn_name": "f", "input": [], "output": wanted}]}
    assert status(f"def f(): return {got}", gold, float_tolerance=1e-5) == found


def test_a_set_has_the_order_that_its_literal_has() -> None:
    """MBPP/341: a tuple made of a set passes or fails as it does outside of a box."""
    gold = asserts("assert f({12, 13, 14, 15, 16}) == (12, 13, 14, 15, 16)")
    real = tuple(eval("{12, 13, 14, 15, 16}")) == (12, 13, 14, 15, 16)
    assert status("def f(s): return tuple(s)", gold) == ("pass" if real else "fail")
    assert status("def f(s): return tuple(sorted(s))", gold) == "pass"
