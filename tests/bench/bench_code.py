"""Code verification: our sandbox against a fresh ``python -I`` per sample, in one run.

    python tests/bench/bench_code.py --data ../shared/data/code_func_humaneval.jsonl.gz

Both sides run the canonical solution of each task against its tests, alternating task by task.
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
from factory.sandbox import choose
from factory.verifiers import code

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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with gzip.open(args.data, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    tier = choose()
    sides: dict[str, Any] = {}
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
    for repeat in range(args.repeats):
        for row in rows:
            prefix = row["prompt"] if row["solution_style"] == "completion_of_prompt" else ""
            gold = {
                "entry_point": row["entry_point"], "prefix": prefix, "setup": row["setup"] or "",
                "test_cases": [{"type": "assert", "code": row["tests"]}],
            }  # fmt: skip
            text = json.dumps(gold)
            item = Item(text=f"```python\n{row['canonical_solution']}\n```", gold=text)
            whole = f"{prefix}{row['canonical_solution']}\n{row['setup'] or ''}\n{row['tests']}\n"
            if row["entry_point"]:
                whole += f"check({row['entry_point']})\n"
            for name in names[repeat % 3 :] + names[: repeat % 3]:
                meters[name].enter()
                if name == "box":
                    ok = code.verify(item).status == "pass"
                else:
                    ok = fresh(pythons[name], whole)
                spent[name].append(meters[name].leave())
                passed[name] += ok
    wall = time.monotonic() - wall
    n = len(rows) * args.repeats
    print(f"{args.data.name}: {n} samples a side, tier {tier}, {wall:.0f} s wall")
    base = sum(spent["fresh python -I"])
    print(f"{'side':22} {'passed':>7} {'ms CPU':>8} {'p50':>7} {'p99':>7} {'per s':>7} {'x':>6}")
    for name, times in spent.items():
        total = sum(times)
        p99 = statistics.quantiles(times, n=100)[98]
        print(
            f"{name:22} {passed[name]:7} {total / n * 1e3:8.2f} "
            f"{statistics.median(times) * 1e3:7.2f} {p99 * 1e3:7.2f} {n / total:7.0f} "
            f"{base / total:6.2f}"
        )
    for meter in meters.values():
        if meter.group.name:
            try:
                meter.group.rmdir()
            except OSError:
                sides["left"] = str(meter.group)  # the box is still in it; it goes with the machine


if __name__ == "__main__":
    main()
