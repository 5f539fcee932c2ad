r"""Benchmarks as sources: rows of the published data sets, by name and revision or from a file.

Nothing is bundled. ``load`` reads a data set from the hub (its commit is recorded in the source's
name) or a local file of the same shape, and yields prompts with golds like any source. The prompts
follow DeepSeek-R1: mathematics asks for ``\boxed{}``, multiple choice for a last line
``ANSWER: $LETTER``; no system prompt, no examples.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.errors import Refused, UsageError
from factory.records import Prompt, PromptSource, ids

Row = Mapping[str, Any]
Pair = tuple[Prompt, PromptSource]

# DeepSeek-R1's README and v2, appendix J.
MATH_SUFFIX = "\nPlease reason step by step, and put your final answer within \\boxed{}."
CHOICE_PREFIX = (
    "Answer the following multiple choice question. The last line of your response should be of "
    "the following format: 'ANSWER: $LETTER' (without quotes) where LETTER is one of {letters}. "
    "Think step by step before answering."
)
CODE_STDIN = (
    "\n\nWrite a Python program that reads standard input and prints the answer. Put the whole "
    "program in one ```python block."
)
CODE_FUNCTION = "\n\nPut the whole function, with its imports, in one ```python block."
_MOST_TEST_BYTES = 256 << 20
_MATH = {"mode": "boxed"}


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark lies and how its rows are read.

    Attributes:
        dataset: name on the hub.
        read: row, seed → fields of the pair (``text``, ``gold``, ``verifier`` …).
        k: samples per prompt in the paper's protocol (v2, D.1).
        config: configuration names; several are read one after the other.
        split: its split.
    """

    dataset: str
    read: Callable[[Row, int], Mapping[str, Any]]
    k: int
    config: tuple[str | None, ...] = (None,)
    split: str = "test"
    extra: Mapping[str, Any] = field(default_factory=dict)


def load(
    name: str,
    *,
    path: Path | None = None,
    revision: str | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> Iterator[Pair]:
    """Yield a benchmark's prompts.

    Args:
        name: a key of ``BENCHMARKS``.
        path: a local JSON Lines or Parquet file, or a folder, of the same shape as the data set.
        revision: commit, tag or branch on the hub.
        seed: of the order of multiple-choice options; part of the source's name.
        limit: first so many prompts only.

    Raises:
        UsageError: an unknown name, a data set that cannot be read, or a row of another shape.
        Refused: test data that could run code when it is read.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {name!r}", f"known: {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    n = 0
    for label, number, row in _rows(benchmark, path, revision):
        if limit is not None and n >= limit:
            return
        try:
            fields = dict(benchmark.read(row, seed))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{label} row {number} is no row of {name} ({type(error).__name__}: {error})",
                f"the shape is that of {benchmark.dataset}",
            ) from None
        n += 1
        yield _pair(fields, name=name, label=label, number=number, seed=seed)
    if n == 0:
        raise UsageError(f"benchmark {name!r} has no rows", "check file, revision and split")


def _pair(fields: dict[str, Any], *, name: str, label: str, number: int, seed: int) -> Pair:
    prompt = Prompt.of(fields["text"])
    shuffled = "@seed" + str(seed) if "options" in fields.get("options", {}) else ""
    return prompt, PromptSource(
        prompt_id=prompt.prompt_id,
        source=f"{name}:{label}{shuffled}",
        item=str(fields.get("item", number)),
        split="test",
        gold=fields["gold"],
        verifier=fields["verifier"],
        options=fields.get("options", {}),
        domain=fields.get("domain"),
        level=fields.get("level"),
        language=fields.get("language", "en"),
    )


def _rows(
    benchmark: Benchmark, path: Path | None, revision: str | None
) -> Iterator[tuple[str, int, Row]]:
    if path is not None and not path.is_dir():
        from factory.rows import files

        files.check_input(str(path))
        for number, row in enumerate(files.read_rows(str(path))):
            if not isinstance(row, Mapping):
                raise UsageError(f"{path} line {number + 1} is malformed", "correct the file")
            yield path.name, number, row
        return
    from factory import plugins

    hub = plugins.load("sources", "hub")
    for config in benchmark.config:
        yield from hub.rows(
            str(path) if path is not None else benchmark.dataset,
            revision=revision,
            config=config,
            split=benchmark.split,
        )


def _first(row: Row, *names: str) -> Any:
    for name in names:
        if row.get(name) not in (None, ""):
            return row[name]
    raise KeyError(names[0])


def _math(row: Row, seed: int) -> dict[str, Any]:
    del seed
    problem = str(_first(row, "problem", "question", "prompt"))
    level = row.get("level")
    return {
        "text": problem + MATH_SUFFIX,
        "gold": str(_first(row, "answer", "gold", "expected_answer")),
        "verifier": "math",
        "options": _MATH,
        "domain": row.get("subject") or "math",
        "level": None if level is None else str(level),
        "language": row.get("lang") or "en",
    } | _item(row, "unique_id", "id")


def _gsm8k(row: Row, seed: int) -> dict[str, Any]:
    # The gold stands after "####" in the worked solution; local copies may have it apart.
    answer = str(_first(row, "gold", "answer"))
    gold = answer.rpartition("####")[2].strip().replace(",", "")
    return _math({**row, "answer": gold, "gold": gold}, seed)


def _gpqa(row: Row, seed: int) -> dict[str, Any]:
    question = str(_first(row, "Question", "question"))
    right = str(_first(row, "Correct Answer"))
    options = [right, *(str(row[f"Incorrect Answer {i}"]) for i in (1, 2, 3))]
    options = [o.strip() for o in options]
    # The order depends on the seed and the question alone, never on the row's place in a file.
    random.Random(ids.key_of([seed, question])).shuffle(options)
    letters = "ABCD"
    shown = "\n".join(f"{a}) {o}" for a, o in zip(letters, options, strict=True))
    return {
        "text": f"{CHOICE_PREFIX.format(letters=letters)}\n\n{question.strip()}\n\n{shown}",
        "gold": letters[options.index(right.strip())],
        "verifier": "choice",
        "options": {"mode": "auto", "options": options},  # no box is asked for
        "domain": row.get("High-level domain") or "science",
    } | _item(row, "Record ID", "id")


def _humaneval(row: Row, seed: int) -> dict[str, Any]:
    del seed
    entry = str(_first(row, "entry_point"))
    tests = str(_first(row, "test", "tests"))
    call = "" if f"check({entry})" in tests or "def check" not in tests else f"\ncheck({entry})\n"
    gold = {
        "language": "python",
        "entry_point": entry,
        "test_cases": [{"type": "assert", "code": tests + call}],
    }
    text = f"Complete this Python function.\n\n```python\n{row['prompt']}```{CODE_FUNCTION}"
    return {"text": text, "gold": json.dumps(gold), "verifier": "code", "domain": "code"} | _item(
        row, "task_id"
    )


def _mbpp(row: Row, seed: int) -> dict[str, Any]:
    del seed
    tests = row.get("test_list") or str(_first(row, "tests")).splitlines()
    setup = row.get("test_setup_code") or row.get("setup") or ""
    if row.get("test_imports"):
        setup = "\n".join([*row["test_imports"], setup])
    gold: dict[str, Any] = {
        "language": "python",
        "test_cases": [{"type": "assert", "code": str(t)} for t in tests],
    }
    if setup:
        gold["setup"] = setup
    # The tests are shown, as the set's authors do: a name and a signature stand nowhere else.
    text = f"{_first(row, 'text', 'prompt')}\n\nIt must pass:\n" + "\n".join(map(str, tests))
    return {
        "text": text + CODE_FUNCTION, "gold": json.dumps(gold), "verifier": "code",
        "domain": "code",
    } | _item(row, "task_id")  # fmt: skip


def _livecodebench(row: Row, seed: int) -> dict[str, Any]:
    del seed
    tests = [*_tests(row["public_test_cases"]), *_tests(row.get("private_test_cases") or "[]")]
    meta = json.loads(row.get("metadata") or "{}")
    cases = []
    for test in tests:
        functional = test.get("testtype") == "functional"
        case = {"type": "fn_call" if functional else "stdin_stdout"}
        if functional:
            case["fn_name"] = str(meta["func_name"])
        cases.append({**case, "input": test["input"], "output": test["output"]})
    starter = row.get("starter_code") or ""
    ask = f"\n\n```python\n{starter}\n```{CODE_FUNCTION}" if starter else CODE_STDIN
    return {
        "text": str(row["question_content"]) + ask,
        "gold": json.dumps({"language": "python", "test_cases": cases}),
        "verifier": "code",
        "domain": "code",
        "level": row.get("difficulty"),
    } | _item(row, "question_id")


class _PlainUnpickler(pickle.Unpickler):
    """Reads pickles of plain values; whatever would import or call something is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise Refused(f"test data wants to import {module}.{name}", "it is not read")

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("test data refers to objects outside of it", "it is not read")


def _tests(value: Any) -> list[dict[str, Any]]:
    """Return test cases given as JSON, or as base64 of a compressed pickle of JSON text.

    Raises:
        Refused: a pickle that holds more than plain values, or far too much of them.
    """
    if isinstance(value, list):
        return [dict(t) for t in value]
    text = str(value)
    try:
        return [dict(t) for t in json.loads(text)]
    except ValueError:
        pass
    inflate = zlib.decompressobj()
    data = inflate.decompress(base64.b64decode(text.encode(), validate=True), _MOST_TEST_BYTES)
    if inflate.unconsumed_tail:
        raise Refused(f"test data of more than {_MOST_TEST_BYTES} bytes", "it is not read")
    try:
        plain = _PlainUnpickler(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError) as error:
        raise ValueError(f"no pickle: {error}") from None
    if isinstance(plain, str | bytes):
        plain = json.loads(plain)
    return [dict(t) for t in plain]


def _ifeval(row: Row, seed: int) -> dict[str, Any]:
    del seed
    names = list(_first(row, "instruction_id_list", "instruction_ids"))
    # The hub's rows hold every argument of every instruction, most of them null.
    kwargs = [{k: v for k, v in (kw or {}).items() if v is not None} for kw in row["kwargs"]]
    gold = {"instruction_ids": names, "kwargs": kwargs}
    return {
        "text": str(row["prompt"]), "gold": json.dumps(gold, ensure_ascii=False),
        "verifier": "constraints", "domain": "instructions",
    } | _item(row, "key", "id")  # fmt: skip


def _item(row: Row, *names: str) -> dict[str, Any]:
    found = next((row[n] for n in names if row.get(n) is not None), None)
    return {} if found is None else {"item": str(found)}


BENCHMARKS: dict[str, Benchmark] = {
    "aime24": Benchmark("HuggingFaceH4/aime_2024", _math, 64, split="train"),
    "aime25": Benchmark("math-ai/aime25", _math, 64),
    "math500": Benchmark("HuggingFaceH4/MATH-500", _math, 16),
    "gpqa-diamond": Benchmark("Idavidrein/gpqa", _gpqa, 64, ("gpqa_diamond",), "train"),
    "livecodebench": Benchmark("livecodebench/code_generation_lite", _livecodebench, 8),
    "humaneval": Benchmark("openai/openai_humaneval", _humaneval, 8),
    "mbpp": Benchmark("google-research-datasets/mbpp", _mbpp, 8, ("full",)),
    "gsm8k": Benchmark("openai/gsm8k", _gsm8k, 8, ("main",)),
    "ifeval": Benchmark("google/IFEval", _ifeval, 8, split="train"),
}
"""k of the paper where it names one (AIME, GPQA 64; MATH 16; LiveCodeBench 8), else 8."""
