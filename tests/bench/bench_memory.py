"""Peak memory of the verbs over many traces, and their rates.

usage: python tests/bench/bench_memory.py [--n 1000000] [--bytes 4096] [--dir DIR]
           [--steps score,dedup,…] [--score length,repetition] [--score-store length] [--keep]

Builds a corpus of its own (sentences drawn at random, 5 % near-duplicates, gold and prompt), runs
one verb after the other, each in a process of its own, and prints its peak resident memory (the
kernel's ``ru_maxrss``), CPU seconds and rows per second. The bound is 4 GiB for 1,000,000 traces of
4 KB. Needs about 5 times the corpus' size on disk while it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import orjson

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "2")
ROOT = Path(__file__).resolve().parents[2]
BOUND_MB = 4096
STEPS = (
    "import", "score-store", "select", "release", "dedup", "decontaminate", "score",
    "score-parquet",
)  # fmt: skip


def corpus(path: Path, n: int, n_bytes: int) -> None:
    """Write n traces of about ``n_bytes``; one line each, made as it is written."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghilmnoprstuvw", k=rng.randint(2, 9))) for _ in range(4000)]
    sentences = [" ".join(rng.choices(words, k=rng.randint(6, 22))) + ". " for _ in range(60_000)]
    mean = sum(map(len, sentences)) / len(sentences)
    last = ""
    with path.open("wb") as handle:
        for i in range(n):
            if last and rng.random() < 0.05:
                body = last.replace("a", "e", 3)
            else:
                body = "".join(rng.choices(sentences, k=round(n_bytes / mean)))
            last = body
            row = {
                "id": i, "prompt": f"Problem {i}: {sentences[i % 60_000]}", "gold": str(i % 97),
                "completion": f"<think>\n{body}\n</think>\n\nThe answer is \\boxed{{{i % 89}}}.",
            }  # fmt: skip
            handle.write(orjson.dumps(row) + b"\n")


def benchmark(path: Path) -> None:
    """Write a benchmark of 2,000 prompts that nothing matches, and one that something does."""
    rng = random.Random(1)
    with path.open("w") as handle:
        for i in range(2000):
            text = " ".join(f"w{rng.randrange(9999)}" for _ in range(40))
            handle.write(json.dumps({"prompt": f"item {i} {text}"}) + "\n")


RECIPE = """
filters: {some: completion_words > 0, short: completion_words < 5000, right: "status <> 'nothing'"}
disabled: [right]
near_duplicates: {threshold: 0.8}
cap_per_prompt: 2
prefer: shortest
"""


def commands(folder: Path, scores: str, store_scores: str) -> dict[str, list[str]]:
    """Return each step's arguments of ``python -m factory``."""
    source, store, out = str(folder / "corpus.jsonl"), str(folder / "store"), str(folder / "out")
    recipe = folder / "select.yaml"
    recipe.write_text(RECIPE)
    against = str(folder / "bench.jsonl")
    return {
        "import": ["import", source, "--store", store],
        "score-store": ["score", "--store", store, "--scores", store_scores],
        "select": ["select", str(recipe), "--store", store],
        "release": ["release", "bench", str(recipe), "--store", store],
        "dedup": ["dedup", source, "--out", out + ".jsonl"],
        "decontaminate": ["decontaminate", source, "--against", against, "--out", out + ".jsonl"],
        "score": ["score", source, "--out", out + ".jsonl", "--scores", scores],
        "score-parquet": ["score", source, "--out", out + ".parquet", "--scores", scores],
    }


def run(arguments: list[str], log: Path) -> tuple[int, float, float, float]:
    """Run a verb; return (status, peak MB, CPU seconds, wall seconds) of its own process."""
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        with log.open("ab") as handle:
            os.dup2(handle.fileno(), 1)
            os.dup2(handle.fileno(), 2)
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        os.execve(sys.executable, [sys.executable, "-m", "factory", *arguments], env)
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - began
    return os.waitstatus_to_exitcode(status), used.ru_maxrss / 1024, (
        used.ru_utime + used.ru_stime
    ), wall  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=4096)
    parser.add_argument("--dir", type=Path, help="where the corpus goes (default: temporary)")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--score", default="length,repetition", help="scores on the file")
    parser.add_argument("--score-store", default="length", help="scores on the store")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    folder = args.dir or Path(tempfile.mkdtemp(prefix="bench-memory-"))
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "corpus.jsonl"
    if not source.exists():
        corpus(source, args.n, args.bytes)
        benchmark(folder / "bench.jsonl")
    size = source.stat().st_size
    print(f"{args.n:,} traces, {size / args.n:,.0f} bytes a line, {size / 1e9:.2f} GB", flush=True)
    print(f"{'verb':16}{'status':>7}{'peak MB':>10}{'CPU s':>10}{'wall s':>10}{'rows/CPU s':>12}")
    worst = 0.0
    for name, arguments in commands(folder, args.score, args.score).items():
        if name not in args.steps.split(","):
            continue
        status, peak, cpu, wall = run(arguments, folder / "log.txt")
        worst = max(worst, peak)
        rate = args.n / cpu
        line = f"{name:16}{status:>7}{peak:>10,.0f}{cpu:>10,.0f}{wall:>10,.0f}{rate:>12,.0f}"
        print(line, flush=True)
        for path in folder.glob("out.*"):
            path.unlink()
    print(f"worst {worst:,.0f} MB; the bound for 1,000,000 is {BOUND_MB} MB")
    if not args.keep and args.dir is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
