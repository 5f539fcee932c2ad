"""Import speed: megabytes of input per second of CPU, at OpenR1's row size and with small rows.

    python -m tests.bench.bench_import [--rows 2000] [--profile]

A row has a problem, two generations of 16,000 characters, verdict lists and the messages that
repeat the first generation, as OpenR1-Math-220k has. Small rows hold one reply of 600 characters.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import json
import pstats
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.rows.files import write_rows
from factory.sources import files
from factory.stages.importing import import_rows
from factory.store import Store

SENTENCE = (
    "so we have the sum of both sides and thus x = 4 which gives \\frac{7}{8} since wait for n"
)
WORDS = SENTENCE.split()


def text(g: random.Random, n_chars: int) -> str:
    words: list[str] = []
    size = 0
    while size < n_chars:
        words.append(g.choice(WORDS))
        size += len(words[-1]) + 1
    return " ".join(words)


def openr1(g: random.Random, number: int) -> dict[str, Any]:
    replies = [f"<think>\n{text(g, 15_000)}\n</think>\n\n{text(g, 1000)} \\boxed{{54}}"
               for _ in range(2)]  # fmt: skip
    problem = f"Problem {number}: {text(g, 300)}"
    return {
        "problem": problem, "solution": text(g, 800), "answer": "54", "problem_type": "Algebra",
        "question_type": "math-word-problem", "source": "olympiads", "uuid": f"u{number}",
        "is_reasoning_complete": [True, True], "generations": replies,
        "correctness_math_verify": [True, False], "correctness_count": 1,
        "finish_reasons": ["stop", "length"],
        "messages": [{"role": "user", "content": problem},
                     {"role": "assistant", "content": replies[0]}],
    }  # fmt: skip


def small(g: random.Random, number: int) -> dict[str, Any]:
    reply = f"<think>\n{text(g, 500)}\n</think>\n\n\\boxed{{54}}"
    return {"prompt": f"Problem {number}: {text(g, 200)}", "response": reply, "gold": "54"}


def measure(kind: str, n_rows: int, form: str, *, profile: bool) -> None:
    g = random.Random(0)
    make = {"openr1": openr1, "small": small}[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{form}"

        def rows() -> Iterator[list[dict[str, Any]]]:
            for number in range(n_rows):
                yield [make(g, number)]

        write_rows(str(path), rows())
        megabytes = sum(len(json.dumps(make(random.Random(i), i))) for i in range(20)) / 20
        megabytes *= n_rows / 1e6
        warm_up = Store(Path(folder) / "other")
        import_rows(warm_up, itertools.islice(files.rows(str(path)), 10))
        store = Store(Path(folder) / "data")
        profiler = cProfile.Profile(time.process_time)
        wall, cpu = time.monotonic(), time.process_time()
        if profile:
            profiler.enable()
        done = import_rows(store, files.rows(str(path)))
        profiler.disable()
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        assert done.rows == n_rows
        print(
            f"{kind:8} {form:8} {n_rows:>7} rows {megabytes:>7.1f} MB  {wall:6.2f} s wall "
            f"{cpu:6.2f} s CPU  {megabytes / cpu:6.1f} MB/s per core, {n_rows / cpu:7.0f} rows/s"
        )
        if profile:
            pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    for form in ("jsonl", "parquet"):
        measure("openr1", args.rows, form, profile=args.profile)
        measure("small", args.rows * 10, form, profile=args.profile)


if __name__ == "__main__":
    main()
