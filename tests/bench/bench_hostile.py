"""What hostile math answers cost, and what their neighbours lose: CPU and wall seconds, memory.

    python tests/bench/bench_hostile.py [--data ../shared/data] [--n 1000] [--symbolic 8]

Real answers (one in twenty in a form that is left to sympy) go through ``Checker`` with one
worker, alone and between hostile answers of every kind. A neighbour's cost is that of its own
call, in this process and in the worker: it rises where a hostile answer leaves a dead or cold
worker, full caches or a full memory behind. "stream" is the batch as a whole, hostile answers
included, at one in a thousand and one in a hundred.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from bench_math import gsm8k, math_outputs

from factory.records import Item
from factory.stages.checker import Checker, shared_pool
from factory.verifiers import math
from tests.hostile_math import ALL, SYMBOLIC, SYMBOLIC_GOLDS

TICK = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    cpu_s: float
    wall_s: float


class Clock:
    """CPU of this process and of the pool's workers with what they forked."""

    def __init__(self) -> None:
        self.pool = shared_pool(1, math.MEMORY_BYTES)
        self.dead = 0.0
        self.seen: dict[int, float] = {}

    def now(self) -> Cost:
        living = {}
        for worker in list(self.pool._workers):
            pid = worker._process.pid
            try:
                stat = Path(f"/proc/{pid}/stat").read_text()
            except OSError:
                continue
            living[pid] = sum(int(x) for x in stat.rpartition(")")[2].split()[11:15]) / TICK
        self.dead += sum(cpu for pid, cpu in self.seen.items() if pid not in living)
        self.seen = living
        return Cost(time.process_time() + self.dead + sum(living.values()), time.monotonic())

    def peak_kib(self) -> int:
        sizes = []
        for worker in list(self.pool._workers):
            status = Path(f"/proc/{worker._process.pid}/status").read_text()
            sizes.append(int(status.partition("VmHWM:")[2].split()[0]))
        return max(sizes, default=0)


def neighbours(data: Path, n: int) -> list[Item]:
    found = gsm8k(data, n) + math_outputs(data, n)
    random.Random(0).shuffle(found)
    items = [Item(text=p.text, gold=p.gold) for p in found[: n - n // 20]]
    for i in range(n // 20):
        gold, answer = rf"\max(x^{{{i % 7}}}, y)", rf"\max(y, x^{{{i % 5}}})"
        items.append(Item(text=rf"\boxed{{{answer}}}", gold=gold))
    random.Random(1).shuffle(items)
    return items


def hostile(n_symbolic: int) -> list[Item]:
    items = [Item(text=rf"so \boxed{{{a}}}", gold="5") for a in ALL]
    pairs = [(g, a) for a in SYMBOLIC for g in SYMBOLIC_GOLDS]
    random.Random(2).shuffle(pairs)
    items += [Item(text=rf"so \boxed{{{a}}}", gold=g) for g, a in pairs[:n_symbolic]]
    random.Random(3).shuffle(items)
    return items


def one_by_one(
    checker: Checker, clock: Clock, stream: list[tuple[int, Item, bool]]
) -> dict[int, Cost]:
    """Return the cost of each item of a stream, by its number."""
    costs = {}
    for number, item, is_hostile in stream:
        begun = clock.now()
        (verdict,) = checker.check([item])
        ended = clock.now()
        costs[number] = Cost(ended.cpu_s - begun.cpu_s, ended.wall_s - begun.wall_s)
        assert not (is_hostile and verdict.status == "pass"), item.text[:80]
    return costs


def least(rounds: list[dict[int, Cost]], number: int) -> Cost:
    """Return the least CPU and wall time of an item: what others on the machine took is gone."""
    return Cost(*(min(getattr(r[number], kind) for r in rounds) for kind in Cost._fields))


def peak_below_kib_of(payload: None) -> int:
    """Return the largest fork that a worker has had (runs in the worker)."""
    del payload
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--symbolic", type=int, default=8, help="of those left to sympy")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    normal, bad = neighbours(arguments.data, arguments.n), hostile(arguments.symbolic)
    everything = [(i, item, i >= len(normal)) for i, item in enumerate(normal + bad)]
    checker, clock = Checker("math", n_workers=1), Clock()
    checker.check(normal)  # warm on both sides
    clock.now()
    own_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    alone: list[dict[int, Cost]] = []
    mixed: list[dict[int, Cost]] = []
    for number in range(arguments.rounds):
        stream = list(everything)
        random.Random(number).shuffle(stream)
        orders = [(alone, [x for x in stream if not x[2]]), (mixed, stream)]
        for into, order in orders if number % 2 else reversed(orders):
            into.append(one_by_one(checker, clock, order))
    print(f"{len(normal)} neighbours, {len(bad)} hostile answers, {arguments.rounds} rounds")
    per_normal = 0.0
    for kind in Cost._fields:
        before, after = (
            sum(getattr(least(rounds, i), kind) for i in range(len(normal)))
            for rounds in (alone, mixed)
        )
        per_normal = per_normal or before / len(normal)
        kept = [
            sum(getattr(a[i], kind) for i in range(len(normal)))
            / sum(getattr(m[i], kind) for i in range(len(normal)))
            for a, m in zip(alone, mixed, strict=True)
        ]
        print(
            f"neighbours, {kind:6}: alone {len(normal) / before:8.0f}/s, between hostile ones "
            f"{len(normal) / after:8.0f}/s, kept {before / after:.1%} "
            f"(single rounds {min(kept):.1%} to {max(kept):.1%})"
        )
    theirs = [(least(mixed, i), item) for i, item, is_bad in everything if is_bad]
    raw = [r[i] for r in mixed for i, _, is_bad in everything if is_bad]
    for kind in Cost._fields:
        worst = sorted(theirs, key=lambda t: getattr(t[0], kind), reverse=True)
        print(
            f"hostile, {kind:6}: at most {getattr(worst[0][0], kind):.2f} s in the best of its "
            f"rounds, {max(getattr(c, kind) for c in raw):.2f} s in any; the slowest:"
        )
        for cost, item in worst[:5]:
            print(f"    {cost.cpu_s:.2f} s CPU {cost.wall_s:.2f} s wall  {item.text[:70]}")
    each = statistics.fmean(c.cpu_s for c in raw)
    (below,) = clock.pool.map(f"{Path(__file__).resolve()}:peak_below_kib_of", [None])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own_kib
    print(
        f"memory: a worker at most {clock.peak_kib() // 1024} MiB resident, its forks "
        f"{(below.value or 0) // 1024} MiB (limit {math.MEMORY_BYTES >> 20} MiB of address space "
        f"each); this process grew by {grown // 1024} MiB"
    )
    for share in (0.001, 0.01):
        print(
            f"stream with {share:.1%} hostile (mean {each * 1e3:.1f} ms CPU): "
            f"{per_normal / (per_normal + share * each):.1%} of the batch's rate kept"
        )


if __name__ == "__main__":
    main()
