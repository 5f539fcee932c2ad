"""Verdicts of right programs, alone and under load: they have to be the same.

    python tests/bench/bench_load.py --programs 200 --load 8 --workers 16

Each program uses .6 of its CPU limit of one second and prints the right answer; it is judged by
``verify`` in the pool, with as many workers as told, first beside no other process, then beside
``--load`` processes that never rest. The verdicts of both rounds are compared.
"""

from __future__ import annotations

import argparse
import collections
import os
import subprocess
import sys
import time

from factory.records import Item
from factory.sandbox import choose
from factory.verifiers import code
from factory.workers import Pool

PROGRAM = """
import time
total, n = 0, {n}
while time.process_time() < 0.6:
    total = sum(range(n))
print(total)
"""


def judge(number: int) -> list[str | None]:
    """Judge one program; what the pool's workers run."""
    n = 1000 + number
    gold = {"test_cases": [{"input": "", "output": str(n * (n - 1) // 2)}]}
    text = f"```python\n{PROGRAM.format(n=n)}\n```"
    verdict = code.verify(Item(text=text, gold=gold), cpu_s=1)
    return [verdict.status, verdict.reason]


def main() -> None:
    """Judge in both rounds and print what differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--load", type=int, default=8)
    parser.add_argument("--workers", type=int, default=16)
    args = parser.parse_args()
    print(f"tier {choose()}, {os.cpu_count()} cores, {args.workers} workers")
    rounds: list[list[str]] = []
    for load in (0, args.load):
        busy = [
            subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(load)
        ]
        begun, before = time.monotonic(), os.getloadavg()[0]
        try:
            with Pool(n_workers=args.workers) as pool:
                found = pool.map(
                    f"{__file__}:judge", list(range(args.programs)), deadline_s=code.DEADLINE_S
                )
        finally:
            for process in busy:
                process.kill()
                process.wait()
        rounds.append([f"{o.fate} {o.value}" for o in found])
        print(
            f"load {load}: {time.monotonic() - begun:.0f} s, load average {before:.1f} to "
            f"{os.getloadavg()[0]:.1f}: {dict(collections.Counter(rounds[-1]))}",
            flush=True,
        )
    print(f"{sum(a != b for a, b in zip(*rounds, strict=True))} of {args.programs} differ")


if __name__ == "__main__":
    main()
