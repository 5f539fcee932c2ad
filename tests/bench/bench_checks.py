"""What the store's checks cost: SQL with and without them, and appends beside a generate run.

    python -m tests.bench.bench_checks [sql append] [--traces 1000000] [--rounds 5]
        [--tokens-per-s 2500]

``sql`` asks the same question of one store with every part's SHA-256 looked after (the first query
reads each part once, later ones compare size, time and inode) and with that left out; sides
alternate. ``append`` runs generate with recorded answers and adds up what its writers took, rows
checked, compressed and synced; the share is of a run whose engine makes so many tokens a second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from catalogs import build
from factory.engines.replay import Engine
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.store import Store
from factory.store.ledger import SEEN, Ledger
from factory.store.log import SegmentWriter
from tests.bench.bench_catalog import fill, timed
from tests.bench.bench_generate import SAMPLING, pairs

QUESTION = "SELECT source, model, count(*), avg(reward) FROM wide GROUP BY source, model"

N_TOKENS = 900


def sql(n: int, rounds: int) -> None:
    """Print seconds of a query with the checks, at first and later, and without them."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        fill(Store(root), n)

        def ask() -> None:
            store = Store(root)
            build.path_of(store).unlink(missing_ok=True)
            build.build(store)
            with build.connect(store) as con:
                con.execute(QUESTION).fetchall()

        def unseen() -> None:
            (root / SEEN).unlink(missing_ok=True)
            ask()

        vouch = Ledger.vouch
        walls: dict[str, list[float]] = {"checked first": [], "checked": [], "unchecked": []}
        for _ in range(rounds):
            walls["checked first"].append(timed(unseen)[0])
            walls["checked"].append(timed(ask)[0])
            try:
                Ledger.vouch = lambda self, path, sha256: path  # type: ignore[method-assign]
                walls["unchecked"].append(timed(ask)[0])
            finally:
                Ledger.vouch = vouch  # type: ignore[method-assign]
        base = min(walls["unchecked"])
        for name, seconds in walls.items():
            print(f"sql {n:,} traces, {name:14} {min(seconds):8.3f} s   {min(seconds) / base:.3f}x")


def append(n: int, tokens_per_s: float) -> None:
    """Print what the writers of a generate run took, and its share of the run."""
    spent = [0.0]

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return work(*args, **named)
            finally:
                spent[0] += time.perf_counter() - begun

        return call

    some = pairs(max(1, n // 16))
    text = "I add the numbers. " * 200
    answers = {
        f"{p.prompt_id}:{j}": {"completion": f"{text}{j}", "n_completion_tokens": N_TOKENS}
        for p, _ in some
        for j in range(16)
    }
    plain = SegmentWriter.append
    try:
        SegmentWriter.append = counted(plain)  # type: ignore[method-assign]
        with tempfile.TemporaryDirectory() as folder:
            made = generate(
                Store(Path(folder) / "data"), some, Engine("m", answers=answers),
                sampling=SAMPLING, policy=Policy(n=16), verify=False,
            )  # fmt: skip
    finally:
        SegmentWriter.append = plain  # type: ignore[method-assign]
    traces = made.progress.n_new
    engine_s = traces * N_TOKENS / tokens_per_s
    print(
        f"append {traces:,} traces: {spent[0]:.2f} s, {spent[0] / traces * 1e6:.0f} us a trace; "
        f"{spent[0] / engine_s:.4%} of {engine_s:.0f} s at {tokens_per_s:,.0f} tokens/s"
    )


def main() -> None:
    """Run what is named, or both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["sql", "append"])
    parser.add_argument("--traces", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens-per-s", type=float, default=2500)
    args = parser.parse_args()
    if "sql" in args.what:
        sql(args.traces, args.rounds)
    if "append" in args.what:
        append(min(args.traces, 20_000), args.tokens_per_s)


if __name__ == "__main__":
    main()
