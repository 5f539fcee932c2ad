"""Codeforces problems with complete official tests, as open-r1 keeps them.

A program is right where it prints the expected text. Problems whose answers only a checker can
tell, interactive ones, and those whose tests are cut are left out, with their number.
"""

import datetime
import json

from factory.sources.benchmarks import Benchmark, LeftOut, Question, Row
from factory.sources.benchmarks.readers import STDIN, item, plain


def read(row: Row, seed: int) -> Question:
    """Read a row of open-r1/codeforces.

    Raises:
        LeftOut: it cannot be judged by comparing what is printed.
    """
    del seed
    if row.get("generated_checker"):
        raise LeftOut("needs_a_checker")
    if row.get("interaction_format"):
        raise LeftOut("interactive")
    if row.get("official_tests_complete") is False:
        raise LeftOut("tests_are_cut")
    if (row.get("input_mode") or "stdio") != "stdio":
        raise LeftOut("reads_files")
    tests = [*plain(row.get("examples") or []), *plain(row.get("official_tests") or [])]
    if not tests:
        raise LeftOut("no_tests")
    parts = [
        str(row["description"]).strip(),
        *(
            f"{title}\n\n{str(row[key]).strip()}"
            for key, title in (
                ("input_format", "Input"), ("output_format", "Output"), ("note", "Note")
            )
            if row.get(key)
        ),
        *(f"Example input\n\n{t['input']}\n\nExample output\n\n{t['output']}"
          for t in plain(row.get("examples") or [])),
    ]  # fmt: skip
    cases = [{"type": "stdin_stdout", "input": t["input"], "output": t["output"]} for t in tests]
    return Question(
        text=f"{row.get('title') or ''}\n\n".lstrip() + "\n\n".join(parts) + STDIN,
        gold=json.dumps({"language": "python", "test_cases": cases}),
        verifier="code",
        options={"cpu_s": max(6, round(float(row.get("time_limit") or 0)))},
        domain="code",
        level=None if row.get("rating") is None else str(row["rating"]),
        item=item(row, "id"),
    )


def day(row: Row) -> str | None:
    """Return the day of the contest, which the set keeps as seconds."""
    start = row.get("contest_start")
    if start is None:
        return None
    return datetime.datetime.fromtimestamp(int(start), tz=datetime.UTC).date().isoformat()


BENCHMARK = Benchmark(
    about="Codeforces problems that printed text decides; Python gets 6 s or the problem's limit",
    dataset="open-r1/codeforces",
    read=read,
    template="code",
    k=16,
    licence="cc-by-4.0",
    config=("default",),
    of_paper=True,
    k_of_paper=True,
    day=day,
)
