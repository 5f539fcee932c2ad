"""Tests for programming problems: what is invalid goes, what breaks wrong programs stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from factory.records import Item, Prompt, Sampling
from factory.sandbox import Limits
from factory.store import Store
from factory.verifiers import code
from pipelines.code_tests import Problem, generators_of, inputs_of, programs_in, row_of, sift

LIMITS = Limits(cpu_s=2, wall_s=20.0)
RIGHT = "n = int(input())\nxs = list(map(int, input().split()))\nprint(max(xs))\n"
ALSO = "input()\nbest = None\nfor x in input().split():\n    best = int(x) if best is None else max(best, int(x))\nprint(best)\n"  # noqa: E501
WRONG = "input()\nprint(max([0, *map(int, input().split())]))\n"
GENERATORS = [
    "print(3)\nprint(1, 2, 3)",
    "print(2)\nprint(-5, -7)",
    "print(1000)\nprint(*range(1000))",
    "print(3)\nprint(1, 2, 3)",
    "print(0)\nprint()",
    "print(1 / 0)",
    "pass",
    "import os\nprint(open('/etc/passwd').read())",
]


def test_the_right_tests_stay() -> None:
    inputs = inputs_of(GENERATORS, limits=LIMITS)
    assert inputs[:2] == ["3\n1 2 3\n", "2\n-5 -7\n"]
    assert len(inputs) <= 5, "doubles, failures and silence make none"
    problem = Problem(Prompt.of("Print the largest."), (ALSO, RIGHT), (WRONG,))
    found = sift(problem, inputs, limits=LIMITS, most_tests=2)
    # On an empty list the right programs fail and differ: it is no test.
    assert found.n_invalid >= 1
    assert ("2\n-5 -7\n", "-5\n") in found.tests, "what breaks the wrong program is among the two"
    assert found.n_wrong > 1, "mutants of the right program count"
    assert found.is_sound
    row = row_of(problem, found)
    for program, status in ((RIGHT, "pass"), (ALSO, "pass"), (WRONG, "fail")):
        item = Item(text=f"```python\n{program}```", gold=json.loads(row["gold"]))
        assert code.verify(item).status == status


def test_tests_that_break_nothing_are_not_sound() -> None:
    problem = Problem(Prompt.of("Print the largest."), (RIGHT,), (WRONG,))
    found = sift(problem, ["1\n7\n"], limits=LIMITS, most_mutants=0)
    assert (found.survivors, found.n_wrong, found.is_sound) == (1, 1, False)
    assert not sift(problem, [], limits=LIMITS, most_mutants=0).is_sound


class Model:
    model, revision, template = "writer", "r1", None

    def run(self, requests: Any, on_partial: Any = None) -> Any:
        for request in requests:
            if request is None:
                yield None
                continue
            assert "Print the largest." in Prompt(messages=request.messages).text
            yield request.trace("```python\nprint(1)\nprint(7)\n```", finish_reason="stop")

    def cancel(self, trace_ids: Any) -> None: ...

    def close(self) -> None: ...


def test_a_model_is_asked_once(tmp_path: Any) -> None:
    problem = Problem(Prompt.of("Print the largest."), (RIGHT,))
    sampling = Sampling(temperature=0.7, max_tokens=64)
    found = generators_of(Store(tmp_path / "d"), Model(), [problem], sampling=sampling)
    assert found == {problem.prompt.prompt_id: ["print(1)\nprint(7)\n"]}


@pytest.mark.parametrize(("reply", "n"), [("", 0), ("```python\nprint(1)", 0), ("none", 0)])
def test_a_reply_without_programs_has_none(reply: str, n: int) -> None:
    assert len(programs_in(reply)) == n
