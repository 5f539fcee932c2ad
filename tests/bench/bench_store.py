"""Store: durable appends beside raw JSON Lines; a million rows sealed and scanned.

python -m tests.bench.bench_store [--rows 1000000] [--rounds 20] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

from factory.ids import key_of
from factory.records import TableForm
from factory.segments import SegmentWriter
from factory.store import Store

NARROW = TableForm("k", {"k": "text", "a": "text", "x": "float", "run_id": "text"})
BATCH = 64


def traces(n: int) -> list[dict[str, object]]:
    """Rows of about 4 KB whose text compresses as reasoning does (words drawn with repetition)."""
    generator = random.Random(0)
    stems = ["so", "we", "add", "mult", "now", "the", "then", "wait", "check", "hence"]
    words = [a + b for a in stems for b in "xyzuv"]
    rows = []
    for i in range(n):
        text = " ".join(f"{generator.choice(words)} {generator.randrange(100)}" for _ in range(480))
        rows.append({"k": key_of(i), "completion": text, "n": i})
    return rows


def raw_jsonl(path: Path, rows: list[dict[str, object]]) -> float:
    begun = time.perf_counter()
    with path.open("wb", buffering=0) as handle:
        for start in range(0, len(rows), BATCH):
            handle.write(b"".join(orjson.dumps(r) + b"\n" for r in rows[start : start + BATCH]))
            os.fdatasync(handle.fileno())
    return time.perf_counter() - begun


def segment(path: Path, rows: list[dict[str, object]]) -> float:
    begun = time.perf_counter()
    with SegmentWriter(path) as writer:
        for start in range(0, len(rows), BATCH):
            writer.append(rows[start : start + BATCH])
    return time.perf_counter() - begun


def appends(folder: Path, rounds: int) -> None:
    rows = traces(2048)
    ratios, sizes = [], []
    for n in range(rounds):
        a, b = folder / f"raw-{n}.jsonl", folder / f"segment-{n}.log"
        order = [(raw_jsonl, a), (segment, b)]
        seconds = {path: run(path, rows) for run, path in (order if n % 2 else order[::-1])}
        ratios.append(seconds[a] / seconds[b])
        sizes.append(b.stat().st_size / a.stat().st_size)
        a.unlink()
        b.unlink()
    ratios.sort()
    low, high = ratios[rounds // 4], ratios[-rounds // 4]
    print(
        f"append, fsync every {BATCH}: {statistics.median(ratios):.2f} x the rate of raw JSON "
        f"Lines (median of {rounds}; quartiles {low:.2f} to {high:.2f}), "
        f"{statistics.median(sizes):.2f} x its size"
    )


def million(folder: Path, n: int) -> None:
    code = f"""
import time, resource
from tests.bench.bench_store import NARROW, key_of, Store
table = Store({str(folder / "data")!r}).table("narrow", NARROW)
keys = open({str(folder / "keys")!r}).read().split()
t = time.perf_counter(); sealed = table.seal(); a = time.perf_counter() - t
t = time.perf_counter(); missing = table.missing(keys); b = time.perf_counter() - t
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"{{sealed:,}} rows sealed in {{a:.1f}} s, {{len(keys):,}} keys looked up in {{b:.1f}} s "
      f"({{len(missing):,}} missing), peak {{peak:.2f}} GiB")
"""
    table = Store(folder / "data").table("narrow", NARROW)
    keys = []
    with table.writer("r") as writer:
        for start in range(0, n, 4096):
            rows = [{"k": key_of(i), "a": "pass", "x": i / 7, "run_id": "r"}
                    for i in range(start, min(n, start + 4096))]  # fmt: skip
            writer.append(rows)
            keys += [str(r["k"]) for r in rows]
    keys += [key_of(-i) for i in range(1, 1001)]
    (folder / "keys").write_text("\n".join(keys))
    subprocess.run([sys.executable, "-c", code], check=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", default=None, help="where to write (a real disk)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        appends(folder, args.rounds)
        million(folder, args.rows)
    finally:
        shutil.rmtree(folder)
    print(f"parent's peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
