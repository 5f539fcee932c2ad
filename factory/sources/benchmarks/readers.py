"""How rows of the usual kinds are read: mathematics, multiple choice, programs."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from factory.records import ids
from factory.sources.benchmarks import Question, Row

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
STDIN = "\n\nRead the input from standard input and write the answer to standard output."


def first(row: Row, *names: str) -> Any:
    """Return the first column that is filled.

    Raises:
        KeyError: none is.
    """
    for name in names:
        if row.get(name) not in (None, ""):
            return row[name]
    raise KeyError(names[0])


def item(row: Row, *names: str) -> str | None:
    """Return the row's own name, from the first column that has one."""
    found = next((row[n] for n in names if row.get(n) is not None), None)
    return None if found is None else str(found)


def mathematics(row: Row, seed: int = 0, *, language: str = "en") -> Question:
    """Read problem and answer of a set of mathematics, whatever the columns are called.

    >>> mathematics({"problem": "1+1?", "answer": 2}).gold
    '2'
    """
    del seed
    level = row.get("level")
    solution = row.get("solution")
    return Question(
        text=str(first(row, "problem", "question", "Problem", "prompt")),
        gold=str(first(row, "answer", "gold", "golden", "Answer", "expected_answer")),
        verifier="math",
        item=item(row, "unique_id", "id", "ID", "problem_idx", "item"),
        domain=str(row.get("subject") or "math"),
        level=None if level is None else str(level),
        language=str(row.get("lang") or language),
        also=[solution] if isinstance(solution, str) else [],
    )


def chosen(
    question: str, options: Sequence[str], right: int, *, between: str = "\n\n", **more: Any
) -> Question:
    """Return a multiple choice with lettered options.

    Args:
        question: its text.
        options: their texts, in the order shown.
        right: place of the right one.
        between: what stands between question and options.
        more: further fields of the question.

    Raises:
        ValueError: there is no such option.

    >>> chosen("Which?", ["red", "green"], 1).gold
    'B'
    """
    texts = [str(o).strip() for o in options]
    if not 0 <= right < len(texts) <= len(LETTERS) or len(texts) < 2:
        raise ValueError(f"option {right} of {len(texts)}")
    shown = "\n".join(f"{a}) {o}" for a, o in zip(LETTERS, texts, strict=False))
    return Question(
        text=f"{question.strip()}{between}{shown}",
        gold=LETTERS[right],
        verifier="choice",
        options={"options": texts},
        **more,
    )


def shuffled(question: str, right: str, wrong: Sequence[str], seed: int, **more: Any) -> Question:
    """Return a multiple choice whose order depends on seed and question alone, never on the row."""
    options = [str(o).strip() for o in (right, *wrong)]
    random.Random(ids.key_of([seed, question])).shuffle(options)
    return chosen(question, options, options.index(right.strip()), **more)


def by_columns(row: Row, seed: int = 0, *, language: str = "zh") -> Question:
    """Read a multiple choice with its options in columns A to D and the letter in ``answer``."""
    del seed
    options = [str(row[letter]) for letter in "ABCD"]
    right = "ABCD".index(str(first(row, "answer", "Answer")).strip())
    return chosen(
        str(first(row, "question", "Question")), options, right, between="\n", language=language,
        item=item(row, "id"), domain=str(row.get("subject") or "") or None,
    )  # fmt: skip


def place(value: Any) -> int:
    """Return the place of an option that is given as a number or a letter.

    >>> place(2), place("1"), place("B")
    (2, 1, 1)
    """
    text = str(value).strip()
    return int(text) if text.isdigit() else LETTERS.index(text)


_NUMPY = """class np:  # what these tests use of numpy, so that they need no library
    class ndarray:
        pass
    float32 = float64 = None
    @staticmethod
    def allclose(a, b, rtol=1e-05, atol=1e-08):
        pairs = zip(a, b) if isinstance(a, (list, tuple)) else [(a, b)]
        return all(
            np.allclose(x, y, rtol, atol) if isinstance(x, (list, tuple))
            else x == y or abs(x - y) <= atol + rtol * abs(y)
            for x, y in pairs
        )
"""
_USED = re.compile(r"\bnp\.(\w+)")


def without_numpy(tests: str) -> str:
    """Replace EvalPlus's ``import numpy as np`` by the two things that its tests use of it.

    Where tests use more they are left as they are, and the verifier says that it needs numpy.
    """
    line = "import numpy as np\n"
    if line not in tests or set(_USED.findall(tests)) - {
        "ndarray", "allclose", "float32", "float64"
    }:  # fmt: skip
        return tests
    return tests.replace(line, _NUMPY, 1)


def completion_task(row: Row, seed: int = 0) -> Question:
    """Read a task of HumanEval's shape: a function's head to be completed, and ``check``."""
    del seed
    entry = str(first(row, "entry_point"))
    tests = without_numpy(str(first(row, "test", "tests")))
    call = "" if f"check({entry})" in tests or "def check" not in tests else f"\ncheck({entry})\n"
    gold = {
        "language": "python",
        "entry_point": entry,
        "test_cases": [{"type": "assert", "code": tests + call}],
    }
    return Question(
        text=f"Complete this Python function.\n\n```python\n{row['prompt']}```",
        gold=json.dumps(gold),
        verifier="code",
        domain="code",
        item=item(row, "task_id"),
        also=[s for s in [row.get("canonical_solution")] if isinstance(s, str)],
    )


def asserted_task(row: Row, seed: int = 0) -> Question:
    """Read a task of MBPP's shape; its tests are shown: they alone say names and signatures."""
    del seed
    shown = row.get("test_list") or str(first(row, "tests")).splitlines()
    whole = row.get("test")
    setup = str(row.get("test_setup_code") or row.get("setup") or "")
    if row.get("test_imports"):
        setup = "\n".join([*row["test_imports"], setup]).strip()
    codes = [without_numpy(whole)] if isinstance(whole, str) and whole else [str(t) for t in shown]
    gold: dict[str, Any] = {
        "language": "python",
        "test_cases": [{"type": "assert", "code": code} for code in codes],
    }
    if setup:
        gold["setup"] = setup
    text = f"{first(row, 'text', 'prompt')}\n\nIt must pass:\n" + "\n".join(map(str, shown))
    return Question(
        text=text, gold=json.dumps(gold), verifier="code", domain="code",
        item=item(row, "task_id"), also=[s for s in [row.get("code")] if isinstance(s, str)],
    )  # fmt: skip


def plain(value: Any) -> Any:
    """Return a mapping or list that a column may hold as JSON text."""
    return json.loads(value) if isinstance(value, str) else value


def without_nulls(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the keys that have a value: Arrow gives every row all keys."""
    return {k: v for k, v in (values or {}).items() if v is not None}
