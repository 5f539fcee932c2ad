r"""Tests for programming problems: a model writes input generators, known programs sift the tests.

    python -m pipelines.code_tests pipelines/recipes/code-tests.yaml

DeepSeek-R1 v2, B.3.2: contest problems come without their tests. A model writes programs that each
print one input; an input is a test where all programs that are known to be right agree on its
output; of those, the tests are kept that break programs which are known to be wrong. Mutants of the
right program count among the wrong ones, so that a problem without any has a measure, too. All
programs run in the sandbox.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from distill.preferences import messages_of, rows_of
from factory.cli.common import run_script, sampling_of, say, start_engine
from factory.config import Config
from factory.engines.base import Engine
from factory.records import Prompt, PromptSource, Sampling
from factory.records.text import trace_text
from factory.sandbox import Limits, Outcome, borrow, choose
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.reading import texts_of
from factory.store import Store
from factory.store.durable import replacing
from factory.verifiers.code.sanity import mutants
from factory.verifiers.code.text import same_output

_FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.S)
# After listing 2 of the supplement, in our words.
GENERATORS = """\
Below is a programming problem whose solutions read standard input. Write Python programs that \
make inputs for testing solutions. Each program prints exactly ONE input to standard output, in \
the problem's format and within its limits, and reads nothing. Write one for each kind that the \
problem allows: many cases of the same large size; many cases of different sizes; one case of the \
largest size; inputs that are hard in another way, such as all values equal, two values in turn, \
or values in order. Put each program into a ```python block of its own and write nothing else.

{problem}"""


class CodeTests(Config):
    """What the script does.

    Attributes:
        data: rows with ``prompt``, ``solutions`` (right programs) and, where known, ``wrong`` ones.
        out: file of prompts with golds, JSON Lines: what the source ``files`` reads.
        store: where the model's replies go.
        engine: of the model: ``kind``, ``model`` and its arguments.
        sampling: of the model.
        most_tests: of a problem.
        most_mutants: of a problem's first right program, beside the wrong ones.
        max_input_bytes: longer inputs are left out.
        cpu_s: of a program on one input.
    """

    data: Path
    out: Path
    store: Path
    engine: dict[str, Any]
    sampling: dict[str, Any]
    most_tests: int = Field(default=20, ge=1)
    most_mutants: int = Field(default=8, ge=0)
    max_input_bytes: int = Field(default=1 << 20, ge=1)
    cpu_s: int = Field(default=6, ge=1)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem: its prompt, programs that are right and programs that are wrong (Python)."""

    prompt: Prompt
    right: tuple[str, ...]
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sifted:
    """Tests of one problem.

    Attributes:
        tests: input and expected output of each.
        n_inputs: different inputs that the generators made.
        n_invalid: on which right programs failed or disagreed.
        n_wrong: programs that should fail, mutants included.
        survivors: of those, how many pass every test.
    """

    tests: tuple[tuple[str, str], ...]
    n_inputs: int
    n_invalid: int
    n_wrong: int
    survivors: int

    @property
    def is_sound(self) -> bool:
        """Whether there are tests, and they fail most of what should fail."""
        return bool(self.tests) and 2 * self.survivors <= self.n_wrong

    def line(self) -> str:
        """Return it as one line."""
        return (
            f"{len(self.tests)} tests of {self.n_inputs} inputs ({self.n_invalid} invalid), "
            f"{self.survivors} of {self.n_wrong} wrong programs pass"
            + ("" if self.is_sound else "; left out")
        )

    def gold(self, solution: str) -> dict[str, Any]:
        """Return the gold that the verifier ``code`` reads."""
        cases = [{"input": i, "output": o, "type": "stdin_stdout"} for i, o in self.tests]
        return {"language": "python", "solution": solution, "test_cases": cases}


def programs_in(reply: str) -> list[str]:
    """Return the programs of a reply, each from a block of its own.

    >>> programs_in("One:\\n```python\\nprint(1)\\n```\\nand\\n```\\nprint(2)\\n```")
    ['print(1)\\n', 'print(2)\\n']
    """
    return [m.group(1) for m in _FENCE.finditer(reply)]


def inputs_of(
    generators: Sequence[str], *, limits: Limits, max_bytes: int = 1 << 20
) -> list[str]:  # fmt: skip
    """Return the different inputs that generators print; of those that fail none."""
    found: dict[str, None] = {}
    for program in generators:
        outcome = _run(program, "", limits)
        if (
            _is_well(outcome)
            and len(outcome.stdout.strip()) > 0
            and len(outcome.stdout) <= max_bytes
        ):
            found[outcome.stdout.decode("utf-8", "replace")] = None
    return list(found)


def sift(
    problem: Problem, inputs: Sequence[str], *, limits: Limits, most_tests: int = 20,
    most_mutants: int = 8,
) -> Sifted:  # fmt: skip
    """Keep the inputs on which all right programs agree, those first that break wrong programs.

    Args:
        problem: with at least one right program.
        inputs: of ``inputs_of``.
        limits: of a program on one input; a wrong one that exceeds them fails the test.
        most_tests: kept.
        most_mutants: of the first right program.
    """
    valid: list[tuple[str, str]] = []
    for text in inputs:
        outcomes = [_run(program, text, limits) for program in problem.right]
        outputs = [o.stdout.decode("utf-8", "replace") for o in outcomes]
        agree = all(same_output(outputs[0], other, 0.0) for other in outputs[1:])
        if all(map(_is_well, outcomes)) and outputs[0].strip() and agree:
            valid.append((text, outputs[0]))
    changed = [source for _, source in mutants(problem.right[0], most=most_mutants)]
    wrong = list(dict.fromkeys([*problem.wrong, *changed]))
    broken = [{i for i, test in enumerate(valid) if not _passes(p, test, limits)} for p in wrong]
    kept = _cover(broken, len(valid), most=most_tests)
    survivors = sum(not (tests & set(kept)) for tests in broken)
    return Sifted(
        tests=tuple(valid[i] for i in kept), n_inputs=len(inputs),
        n_invalid=len(inputs) - len(valid), n_wrong=len(wrong), survivors=survivors,
    )  # fmt: skip


def _cover(broken: Sequence[set[int]], n: int, *, most: int) -> list[int]:
    """Return tests: one after the other that which breaks most of what still passes; then others.

    >>> _cover([{2}, {0, 2}, {1}], 4, most=3)
    [2, 1, 0]
    """
    left = [set(tests) for tests in broken if tests]
    kept: list[int] = []
    while left and len(kept) < most:
        best = max(range(n), key=lambda i: (sum(i in tests for tests in left), -i))
        kept.append(best)
        left = [tests for tests in left if best not in tests]
    return [*kept, *(i for i in range(n) if i not in kept)][:most]


def _passes(program: str, test: tuple[str, str], limits: Limits) -> bool:
    outcome = _run(program, test[0], limits)
    text = outcome.stdout.decode("utf-8", "replace")
    return _is_well(outcome) and same_output(text, test[1], 0.0)


def _run(program: str, stdin: str, limits: Limits) -> Outcome:
    with borrow(choose()) as box:
        return box.run("program", {"program": program}, stdin=stdin.encode(), limits=limits)


def _is_well(outcome: Outcome) -> bool:
    return outcome.ended == "exited" and outcome.code == 0


def generators_of(
    store: Store, engine: Engine, problems: Sequence[Problem], *, sampling: Sampling
) -> dict[str, list[str]]:
    """Ask a model for generators; returns problem's prompt id → programs. Asked once, and kept."""
    asked = {
        p.prompt.prompt_id: Prompt.of(GENERATORS.replace("{problem}", p.prompt.text))
        for p in problems
    }
    made = generate(
        store,
        [(q, PromptSource(prompt_id=q.prompt_id, source="code-tests", item=k))
         for k, q in asked.items()],
        engine, sampling=sampling, policy=Policy(kind="fixed", n=1), verify=False,
    )  # fmt: skip
    replies = {
        row["prompt_id"]: trace_text(row["prefill"], row["completion"])
        for row in texts_of(store, made.universe["trace_id"].to_list())
    }
    return {k: programs_in(replies.get(q.prompt_id, "")) for k, q in asked.items()}


def read_problems(path: Path) -> Iterator[Problem]:
    """Yield the problems of a file that have a right program."""
    for where, row in rows_of(path):
        right = tuple(str(s) for s in row.get("solutions") or ())
        if right:
            prompt = Prompt(messages=messages_of(row, where))
            yield Problem(prompt, right, tuple(str(s) for s in row.get("wrong") or ()))


def row_of(problem: Problem, sifted: Sifted) -> Mapping[str, Any]:
    """Return a prompt with its gold, as the source ``files`` reads it."""
    gold = json.dumps(sifted.gold(problem.right[0]), ensure_ascii=False)
    return {"messages": list(problem.prompt.messages), "gold": gold, "verifier": "code",
            "domain": "code"}  # fmt: skip


def main(path: str, overrides: Sequence[str]) -> int:
    """Run the script; returns the exit status: 0 where any problem has sound tests."""
    config = CodeTests.load(path, overrides=overrides)
    problems = list(read_problems(config.data))
    settings = dict(config.engine)
    kind, model = str(settings.pop("kind", "vllm")), str(settings.pop("model"))
    engine = start_engine(kind, model, settings)
    try:
        made = generators_of(
            Store(config.store), engine, problems, sampling=sampling_of(config.sampling, seed=None)
        )
    finally:
        engine.close()
    limits, n_sound = Limits(cpu_s=config.cpu_s, wall_s=5.0 * config.cpu_s), 0
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(config.out) as part, part.open("w", encoding="utf-8") as file:
        for problem in problems:
            inputs = inputs_of(
                made[problem.prompt.prompt_id], limits=limits, max_bytes=config.max_input_bytes
            )
            found = sift(
                problem, inputs, limits=limits, most_tests=config.most_tests,
                most_mutants=config.most_mutants,
            )  # fmt: skip
            say(f"{problem.prompt.text[:40]!r}: {found.line()}")
            if found.is_sound:
                n_sound += 1
                file.write(json.dumps(row_of(problem, found), ensure_ascii=False) + "\n")
    say(f"{n_sound} of {len(problems)} problems have sound tests: {config.out}")
    return 0 if n_sound else 1


if __name__ == "__main__":
    sys.exit(run_script("code_tests", lambda: main(sys.argv[1], sys.argv[2:])))
