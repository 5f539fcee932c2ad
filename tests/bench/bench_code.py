"""Code verification: our sandbox against a fresh ``python -I`` per sample, in one run.

    python tests/bench/bench_code.py --data ../shared/data/code_func_humaneval.jsonl.gz

Both sides run the canonical solution of each task against its tests, alternating in small blocks.
CPU seconds are user + sys of the whole process tree, box included: read from a cgroup of its own
where one can be made (cpuacct), else summed from what the box reports. Our side is ``verify``
itself: reading the answer, the gold, the run in the confined box, comparison outside.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from factory.records import Item
from factory.sandbox import choose, close_all
from factory.verifiers import code

BLOCK = 10  # a change of cgroup is slow on a busy machine
GROUP = Path("/sys/fs/cgroup/cpuacct")


class Meter:
    """CPU seconds of the processes started while it is open."""

    def __init__(self, name: str) -> None:
        self.group = GROUP / f"bench-code-{os.getpid()}-{name}"
        try:
            self.group.mkdir()
        except OSError:
            self.group = Path()

    def enter(self) -> None:
        if self.group.name:
            (self.group / "tasks").write_text(str(os.getpid()))
        self.started = self.read()

    def read(self) -> float:
        if self.group.name:
            return int((self.group / "cpuacct.usage").read_text()) / 1e9
        own = resource.getrusage(resource.RUSAGE_SELF)
        below = resource.getrusage(resource.RUSAGE_CHILDREN)
        return own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime

    def leave(self) -> float:
        spent = self.read() - self.started
        if self.group.name:
            (GROUP / "tasks").write_text(str(os.getpid()))
        return spent


def fresh(python: list[str], source: str) -> bool:
    return subprocess.run([*python, "-c", source], capture_output=True, check=False).returncode == 0


def prepared(row: dict[str, Any]) -> tuple[Item, str]:
    """Return the same task for our side and as one script."""
    prefix = row["prompt"] if row["solution_style"] == "completion_of_prompt" else ""
    gold = {
        "entry_point": row["entry_point"], "prefix": prefix, "setup": row["setup"] or "",
        "test_cases": [{"type": "assert", "code": row["tests"]}],
    }  # fmt: skip
    item = Item(text=f"```python\n{row['canonical_solution']}\n```", gold=json.dumps(gold))
    whole = f"{prefix}{row['canonical_solution']}\n{row['setup'] or ''}\n{row['tests']}\n"
    return item, whole + (f"check({row['entry_point']})\n" if row["entry_point"] else "")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with gzip.open(args.data, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    tier = choose()
    pythons = {
        "fresh python -I": [sys.executable, "-I"],
        "fresh python -I -S": [sys.executable, "-I", "-S"],
    }
    meters = {name: Meter(str(n)) for n, name in enumerate(["box", *pythons])}
    spent: dict[str, list[float]] = {name: [] for name in meters}
    passed = dict.fromkeys(meters, 0)
    names = list(meters)
    # the box belongs to our meter: what it does while a sample runs is counted
    meters["box"].enter()
    for warm in ("assert f() == 1", "for i in [1]:\n    assert f(i) == 1"):  # starts both boxes
        code.verify(Item(text="def f(x=0): return 1", gold={"test_cases": [{"code": warm}]}))
    meters["box"].leave()
    wall = time.monotonic()
    tasks = [prepared(row) for row in rows] * args.repeats
    blocks = [tasks[i : i + BLOCK] for i in range(0, len(tasks), BLOCK)]
    for number, block in enumerate(blocks):  # sides alternate block by block
        for name in names[number % 3 :] + names[: number % 3]:
            meters[name].enter()
            for item, whole in block:
                if name == "box":
                    passed[name] += code.verify(item).status == "pass"
                else:
                    passed[name] += fresh(pythons[name], whole)
            spent[name].append(meters[name].leave() / len(block))
    wall = time.monotonic() - wall
    print(f"{args.data.name}: {len(tasks)} samples a side, tier {tier}, {wall:.0f} s wall")
    print(
        f"{'side':20} {'passed':>7} {'ms CPU':>8} {'median':>8} {'per s':>7} {'x':>6} {'median':>9}"
    )
    base = spent["fresh python -I"]
    for name, times in spent.items():
        mean, median = statistics.fmean(times), statistics.median(times)
        print(
            f"{name:20} {passed[name]:7} {mean * 1e3:8.2f} {median * 1e3:8.2f} {1 / mean:7.0f} "
            f"{statistics.fmean(base) / mean:6.2f} {statistics.median(base) / median:9.2f}"
        )
    close_all()
    for meter in meters.values():
        if meter.group.name:
            meter.group.rmdir()


if __name__ == "__main__":
    main()
