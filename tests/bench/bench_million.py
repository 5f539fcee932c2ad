"""A store of many traces, stage by stage on two cores: seconds, memory, and what R1's rows take.

    python -m tests.bench.bench_million [--rows 1000000] [--dir DIR] [--stages import,verify,…]

Writes rows of 4.3 KB (a problem, a gold, one response in think tags; sentences of the shared data
in random order, so that no two rows are near-duplicates but the planted ones), and runs the verbs
one after the other, each in a process of its own that may use two cores: import, verify, score
(length, language, repetition, readability), and a release that leaves out near-duplicates and what
stands in five benchmarks. Memory is the sum over a verb's processes (PSS, looked at twice a
second). The last line carries the time over to R1's 800,000 rows of 5,355 tokens by size: what is
paid for each row is taken for each character, so that it is an upper bound.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import polars as pl

from factory.sets.decontaminate import Decontaminator
from tests.bench._corpus import DATA, rows

ROOT = Path(__file__).resolve().parents[2]
R1_ROWS, R1_TOKENS = 800_000, 5_355
CHARS_PER_TOKEN = 3.6  # of reasoning about mathematics, by the tokenizers of Qwen and DeepSeek
SCORES = "length,language,repetition,readability"
RECIPE = """
presets: [r1_rejection]
filters: {not_wrong: "status IS DISTINCT FROM 'fail'", no_loop: NOT has_loop}
near_duplicates: {threshold: 0.8}
decontaminate: {against: [%s]}
"""
_ODD = re.compile(r"boxed|####|[`{}_]|\bdef |\bprint|\bimport |^ *\w+ = |\):$")
BENCHMARKS = ("prompts_math_en", "prompts_gsm8k_test", "prompts_math_zh", "prompts_math_multi",
              "prompts_ifeval")  # fmt: skip


def sentences(g: random.Random) -> list[str]:
    """Return sentences of real solutions and model outputs, each with its numbers changed twice.

    Without program text and without what quotes a benchmark, so that the filters keep most rows.
    """
    texts = [r["output"] for r in rows("math_model_outputs") if r["output"]]
    texts += [r["solution"] for r in rows("prompts_gsm8k_train") if r.get("solution")]
    found = {s for t in texts for s in re.split(r"(?<=[.\n])\s+", t) if 20 < len(s) < 400}

    def renumbered(text: str) -> str:
        return re.sub(r"\d+", lambda m: str(g.randrange(10 ** min(9, len(m[0])))), text)

    kept = sorted(s for s in found if not _ODD.search(s))
    pool = [renumbered(s) for s in kept for _ in range(2)]
    quoted = {b: [r["prompt"] for r in rows(b)] for b in BENCHMARKS}
    frame = pl.DataFrame({"text": pool})
    is_quote = Decontaminator(quoted, ngram=10).check(frame, columns=["text"])["is_contaminated"]
    return frame.filter(~is_quote.fill_null(True))["text"].to_list()


def corpus(path: Path, n: int, n_chars: int) -> None:
    """Write n rows of about ``n_chars``: two per problem, 5 % near-duplicates, 1 % copies."""
    g = random.Random(0)
    pool = sentences(g)
    per_row = round(n_chars / (sum(map(len, pool)) / len(pool) + 1.3))
    bodies: list[str] = []
    with path.open("wb") as handle:
        for i in range(n):
            draw = g.random()
            if len(bodies) == 1000 and draw < 0.06:
                body = g.choice(bodies)
                if draw < 0.05:
                    body = body.replace("the", "that", 2)
            else:
                lines = g.choices(pool, k=per_row)
                body = "\n\n".join(" ".join(lines[k : k + 5]) for k in range(0, per_row, 5))
                if len(bodies) < 1000:
                    bodies.append(body)
            said = i // 2 % 97 if g.random() < 0.7 else i % 89
            row = {
                "problem": f"Problem {i // 2}: {pool[i // 2 % len(pool)]}",
                "answer": str(i // 2 % 97),
                "generations": [f"<think>\n{body}\n</think>\n\nThe answer is \\boxed{{{said}}}."],
                "source": "bench", "uuid": f"u{i}",
            }  # fmt: skip
            handle.write(orjson.dumps(row) + b"\n")


def stages(folder: Path) -> dict[str, list[str]]:
    """Return each stage's arguments of ``python -m factory``."""
    recipe, store = folder / "release.yaml", str(folder / "store")
    recipe.write_text(RECIPE % ", ".join(str(DATA / f"{b}.jsonl.gz") for b in BENCHMARKS))
    return {
        "import": ["import", str(folder / "rows.jsonl"), "--store", store],
        "verify": ["verify", "--store", store],
        "score": ["score", "--store", store, "--scores", SCORES],
        "release": ["release", "bench", str(recipe), "--store", store],
    }


def tree(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            yield from tree(int(child))


def pss_mb(pid: int) -> float:
    """Return the memory of a process and its descendants, shared pages counted once."""
    total = 0
    for one in tree(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+)", text, re.M)
        total += int(found[1]) if found else 0
    return total / 1024


def run(arguments: list[str], log: Path) -> tuple[float, float, float]:
    """Run a verb; return wall seconds, CPU seconds and the most megabytes."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began, most = time.monotonic(), 0.0
    with log.open("ab") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "factory", *arguments], env=env, stdout=handle, stderr=handle
        )
        ended = threading.Event()
        threading.Thread(target=lambda: (process.wait(), ended.set()), daemon=True).start()
        while not ended.wait(0.5):
            try:
                most = max(most, pss_mb(process.pid))
            except OSError:
                continue
    wall = time.monotonic() - began
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {process.returncode}: see {log}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, most


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--chars", type=int, default=4_000, help="of a response")
    parser.add_argument("--dir", type=Path, help="kept (default: a temporary one, removed)")
    parser.add_argument("--stages", help="only these (default: all)")
    args = parser.parse_args()
    folder = args.dir or Path(tempfile.mkdtemp(prefix="bench-million-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        measure(
            folder, args.rows, args.chars, (args.stages or "").split(",") if args.stages else []
        )
    finally:
        if args.dir is None:
            shutil.rmtree(folder)


def measure(folder: Path, n: int, n_chars: int, only: list[str]) -> None:
    source = folder / "rows.jsonl"
    if not source.exists():
        corpus(source, n, n_chars)
    size = source.stat().st_size / n
    load = os.getloadavg()[0]
    print(f"{n:,} rows of {size:,.0f} bytes, {n * size / 1e9:.2f} GB; load {load:.1f}", flush=True)
    heads = f"{'CPU s':>9}{'CPU ms/row':>12}{'MB/s':>8}{'peak MB':>9}{'load':>7}"
    print(f"{'stage':10}{'wall s':>9}{heads}")
    all_wall = all_cpu = most = 0.0
    for name, arguments in stages(folder).items():
        if only and name not in only:
            continue
        wall, cpu, peak = run(arguments, folder / "log.txt")
        all_wall, all_cpu, most = all_wall + wall, all_cpu + cpu, max(most, peak)
        each = f"{wall:>9.1f}{cpu:>9.1f}{cpu / n * 1e3:>12.3f}{n * size / 1e6 / wall:>8.1f}"
        print(f"{name:10}{each}{peak:>9,.0f}{os.getloadavg()[0]:>7.1f}", flush=True)
    each = f"{all_wall:>9.1f}{all_cpu:>9.1f}{all_cpu / n * 1e3:>12.3f}"
    print(f"{'all':10}{each}{n * size / 1e6 / all_wall:>8.1f}{most:>9,.0f}")
    times = R1_ROWS * R1_TOKENS * CHARS_PER_TOKEN / (n * size)
    print(
        f"R1's {R1_ROWS:,} rows of {R1_TOKENS:,} tokens ({times:.1f} times the text): "
        f"{all_wall * times / 60:.0f} minutes as measured, {all_cpu * times / 120:.0f} on two "
        "cores that are all used (goal: 40)"
    )


if __name__ == "__main__":
    main()
