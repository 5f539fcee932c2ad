"""What generation costs beside the engine, and what the policies save.

    python tests/bench/bench_generate.py overhead [--n 20000]
    python tests/bench/bench_generate.py slots
    python tests/bench/bench_generate.py policies [--store DIR]   (recorded; else simulated)
    python tests/bench/bench_generate.py resume [--n 1000000]

CPU is user + system of this process (getrusage). Run by hand, from the repository's root.
"""

from __future__ import annotations

import argparse
import heapq
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from factory.engines.replay import Engine
from factory.records import Prompt, PromptSource, Sampling, ids
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.reading import read_pairs
from factory.store import Store

SAMPLING = Sampling(temperature=0.6, max_tokens=32768)


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def pairs(n: int) -> list[tuple[Prompt, PromptSource]]:
    out = []
    for i in range(n):
        prompt = Prompt.of(f"What is {i} + {i}?")
        out.append((prompt, PromptSource(prompt_id=prompt.prompt_id, source="b", item=str(i))))
    return out


def overhead(n: int) -> None:
    """CPU per trace of everything but the engine's own work: loop, keys, commits, sealing."""
    n_prompts = n // 16
    some = pairs(n_prompts)
    text = "I add the numbers. " * 200  # 3,800 characters
    answers = {
        f"{p.prompt_id}:{j}": {"completion": f"{text}{j}", "n_completion_tokens": 900}
        for p, _ in some
        for j in range(16)
    }
    rows = []
    for policy in (Policy(n=16),):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "data")
            engine = Engine("m", answers=answers)
            begun, wall = cpu(), time.monotonic()
            result = generate(store, some, engine, sampling=SAMPLING, policy=policy, verify=False)
            spent, wall = cpu() - begun, time.monotonic() - wall
            rows.append((policy.kind, result.progress.n_new, spent * 1e6 / result.progress.n_new,
                         wall))  # fmt: skip
    print(pl.DataFrame(rows, schema=["policy", "traces", "cpu_us_per_trace", "wall_s"],
                       orient="row"))  # fmt: skip


class Simulated:
    """An engine in simulated time: one token per slot and tick; counts how full its slots are."""

    template, n_devices = None, 0
    model, revision = "sim", "1"

    def __init__(self, slots: int, seed: int) -> None:
        self._slots, self._random = slots, random.Random(seed)
        self.busy = self.total = 0.0

    def run(self, requests: Iterator[Any], on_partial: Any = None) -> Iterator[Any]:
        now = 0.0
        ends: list[tuple[float, str, Any, int]] = []
        more = True
        while more or ends:
            while more and len(ends) < self._slots:
                try:
                    request = next(requests)
                except StopIteration:
                    more = False
                    break
                if request is None:
                    break
                n = min(32768, int(self._random.lognormvariate(8.3, 0.85)))
                heapq.heappush(ends, (now + n, request.trace_id, request, n))
            if not ends:
                yield None
                continue
            end, _, request, n = heapq.heappop(ends)
            self.busy += (end - now) * (len(ends) + 1)
            self.total += (end - now) * self._slots
            now = end
            yield request.trace("x", finish_reason="stop", n_completion_tokens=n)

    def cancel(self, trace_ids: Any) -> None: ...

    def close(self) -> None: ...


def slots() -> None:
    """Share of slots that decode, from the first request to the last answer."""
    rows = []
    for per_slot in (4, 16, 64):
        n_slots = 64
        with tempfile.TemporaryDirectory() as folder:
            engine: Any = Simulated(n_slots, seed=per_slot)
            some = pairs(n_slots * per_slot // 4)
            generate(Store(Path(folder) / "d"), some, engine, sampling=SAMPLING,
                     policy=Policy(n=4), verify=False)  # fmt: skip
            rows.append((n_slots, per_slot, engine.busy / engine.total))
    print(pl.DataFrame(rows, schema=["slots", "requests_per_slot", "share_full"], orient="row"))


def policies(store: str | None) -> None:
    """Tokens of until and adaptive against fixed N=16: recorded traces through the real stage."""
    if store is None:
        samples = _simulated()
        n, cost = len(samples), lambda policy, cap: _cost(samples, policy, cap)
    else:
        recorded = _Recorded(store)
        n, cost = len(recorded.pairs), recorded.cost
    rows = []
    for cap in (2, 4):
        fixed = cost(Policy(n=16), cap)
        for name, policy in (
            ("until", Policy(kind="until", passes=cap, max_samples=16)),
            ("adaptive, 8 zeros", Policy(kind="adaptive", passes=cap, max_samples=16,
                                         give_up_after=8)),
            ("adaptive, 12 zeros", Policy(kind="adaptive", passes=cap, max_samples=16,
                                          give_up_after=12)),
        ):  # fmt: skip
            tokens, kept, covered = cost(policy, cap)
            rows.append((cap, name, tokens / fixed[0], kept / fixed[1], covered / fixed[2]))
    schema = ["cap", "policy", "tokens_ratio", "kept_ratio", "prompts_covered_ratio"]
    print(f"{n} prompts, {'recorded' if store else 'simulated'}")
    print(pl.DataFrame(rows, schema=schema, orient="row"))


class _Recorded:
    """Samples of a store, asked again through generate: replay engine, real verifier."""

    def __init__(self, folder: str) -> None:
        store = Store(folder, create=False)
        columns = ["prompt_id", "sample_index", "completion", "n_completion_tokens", "sampling_id"]
        traces = store.table("traces").read(columns)
        self.answers = {
            f"{r['prompt_id']}:{r['sample_index']}": r for r in traces.iter_rows(named=True)
        }
        whole = traces.group_by("prompt_id").len().filter(pl.col("len") == 16)["prompt_id"]
        self.pairs = [pair for pair in read_pairs(store) if pair[0].prompt_id in set(whole)]
        if not self.pairs:
            raise SystemExit(f"{folder}: no prompt has 16 samples")

    def cost(self, policy: Policy, cap: int) -> tuple[int, int, int]:
        """Return tokens made (those beyond the universe, too), traces kept, prompts covered."""
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "data")
            engine = Engine("recorded", answers=self.answers, slots=64)
            made = generate(store, self.pairs, engine, sampling=SAMPLING, policy=policy)
            verdicts = pl.concat(
                store.table(t).read(["trace_id", "status"]) for t in store.tables()
                if t.startswith("verdicts.")
            )  # fmt: skip
        passes = made.universe.join(verdicts, on="trace_id").filter(pl.col("status") == "pass")
        kept = passes.group_by("prompt_id").len()["len"].clip(0, cap)
        return made.progress.n_completion_tokens, int(kept.sum()), len(kept)


def _cost(
    samples: Sequence[Sequence[tuple[str, int]]], policy: Policy, cap: int
) -> tuple[int, int, int]:
    """Return tokens spent, traces kept (at most ``cap`` a prompt), prompts with a kept trace."""
    tokens = kept = covered = 0
    for of_prompt in samples:
        statuses: list[str] = []
        while policy.wants(statuses):
            status, n = of_prompt[len(statuses)]
            statuses.append(status)
            tokens += n
        n_kept = min(cap, statuses.count("pass"))
        kept += n_kept
        covered += n_kept > 0
    return tokens, kept, covered


def _simulated() -> list[list[tuple[str, int]]]:
    """Pass rates of a mixture (mean 0.52, 12 % hopeless), lengths log-normal."""
    generator = random.Random(0)
    out = []
    for _ in range(4000):
        rate = generator.betavariate(1.6, 1.1) if generator.random() > 0.12 else 0.01
        out.append([
            ("pass" if generator.random() < rate else "fail",
             min(32768, int(generator.lognormvariate(8.3, 0.85))))
            for _ in range(16)
        ])  # fmt: skip
    return out


def resume(n: int) -> None:
    """Start-up of a run whose n traces and verdicts are all there."""
    some = pairs(n // 16)
    sampling_id = SAMPLING.sampling_id
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "data")
        for begin in range(0, len(some), 6250):
            rows = []
            for p, _ in some[begin : begin + 6250]:
                keys = ids.trace_ids(prompt_id=p.prompt_id, model="m", revision="recorded",
                                     sampling_id=sampling_id, n=16)  # fmt: skip
                rows += [
                    {"trace_id": k, "prompt_id": p.prompt_id, "model": "m", "revision": "recorded",
                     "sampling_id": sampling_id, "sample_index": i, "completion": "x" * 200}
                    for i, k in enumerate(keys)
                ]  # fmt: skip
            with store.table("traces").writer("old") as writer:
                writer.append(rows)
            store.table("traces").seal()
        begun, wall = cpu(), time.monotonic()
        result = generate(store, some, Engine("m", answers={"x": {}}), sampling=SAMPLING,
                          policy=Policy(n=16), verify=False)  # fmt: skip
        spent, wall = cpu() - begun, time.monotonic() - wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        row = (result.progress.n_have, result.progress.n_new, spent, wall, peak)
        schema = ["present", "new", "cpu_s", "wall_s", "peak_rss_gib"]
        print(pl.DataFrame([row], schema=schema, orient="row"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["overhead", "slots", "policies", "resume"])
    parser.add_argument("--n", type=int)
    parser.add_argument("--store")
    args = parser.parse_args()
    if args.what == "overhead":
        overhead(args.n or 20_000)
    elif args.what == "slots":
        slots()
    elif args.what == "policies":
        policies(args.store)
    else:
        resume(args.n or 1_000_000)


if __name__ == "__main__":
    main()
