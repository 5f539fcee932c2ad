"""LiveCodeBench, code generation: public and private tests, by release and date of the contest.

The data set is a script that ``datasets`` no longer runs; its files are read as they lie. Private
tests are base64 of compressed text, some of it in a pickle: the code verifier reads that text and
never loads a pickle.
"""

import json

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import STDIN, item, plain
from factory.sources.golds import with_starter


def read(row: Row, seed: int) -> Question:
    """Read a row of LiveCodeBench; its tests stay packed as they come."""
    del seed
    starter = str(row.get("starter_code") or "")
    name = (plain(row.get("metadata") or "{}") or {}).get("func_name")
    gold = {
        "language": "python",
        "public_test_cases": row["public_test_cases"],
        "private_test_cases": row.get("private_test_cases") or "[]",
    }
    if name:
        gold["fn_name"] = str(name)
    asked = str(row["question_content"]).strip()
    return Question(
        text=with_starter(asked, starter) if starter.strip() else f"{asked}{STDIN}",
        gold=json.dumps(gold),
        verifier="code",
        domain="code",
        level=str(row.get("difficulty") or "") or None,
        item=item(row, "question_id"),
    )


def day(row: Row) -> str | None:
    """Return the day of the contest."""
    return str(row["contest_date"])[:10] if row.get("contest_date") else None


_FILES = ("test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl", "test5.jsonl", "test6.jsonl")

BENCHMARK = Benchmark(
    about="contest problems by date; the paper's window: 2024-08-01 to 2025-01-31",
    dataset="livecodebench/code_generation_lite",
    read=read,
    template="code",
    k=8,
    licence="cc",
    files={f"release_v{n}": _FILES[:n] for n in range(1, len(_FILES) + 1)},
    release="release_v5",
    of_paper=True,
    k_of_paper=True,
    day=day,
)
