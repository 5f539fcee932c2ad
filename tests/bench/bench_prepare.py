"""Speed and memory of ``distill prepare``: rows of about 5,000 tokens, of real traces repeated.

    python -m tests.bench.bench_prepare --rows 8000 80000 --model FOLDER [--traces FILE]

Each number of rows is prepared in a process of its own; said are tokens per second and core, the
largest resident memory of that process and of its workers, and what 800,000 rows would take.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from factory.rows import files

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "traces_r1_math500.jsonl.gz"
_CHARS = 12_500


def corpus(path: Path, n_rows: int, traces: Path) -> None:
    """Write rows whose thinking is sentences of real traces, each time in another order."""
    texts = [
        value for row in files.read_rows(str(traces)) if not isinstance(row, files.Malformed)
        for value in row.values() if isinstance(value, str) and len(value) > 1000
    ]  # fmt: skip
    sentences = [s for text in texts for s in text.split("\n\n") if "think>" not in s]
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as sink:
        for i in range(n_rows):
            parts: list[str] = []
            size, want = 0, rng.randint(_CHARS // 2, _CHARS * 3 // 2)
            while size < want:
                parts.append(rng.choice(sentences))
                size += len(parts[-1]) + 2
            thinking = "\n\n".join(parts)
            row = {"prompt": f"Question {i}: {sentences[i % len(sentences)]}",
                   "completion": f"<think>\n{thinking}\n</think>\n\n\\boxed{{{i}}}"}  # fmt: skip
            sink.write(json.dumps(row) + "\n")


def measure(model: str, data: Path, out: Path, workers: int) -> dict[str, Any]:
    """Prepare in this process and its workers; return figures."""
    from distill.prepare import prepare
    from distill.student import Student

    student = Student(base=model, template="own", max_length=32_768, trl={})
    began = time.monotonic()
    manifest = prepare(student, data, out, n_workers=workers, say=lambda _: None)
    wall = time.monotonic() - began
    own = resource.getrusage(resource.RUSAGE_SELF)
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = own.ru_utime + own.ru_stime + theirs.ru_utime + theirs.ru_stime
    return {
        **{k: manifest[k] for k in ("rows", "kept", "bad", "tokens", "packs", "fill", "lengths")},
        "wall_s": round(wall, 1), "cpu_s": round(cpu, 1),
        "tokens_per_cpu_s": round(manifest["tokens"] / cpu),
        "tokens_per_wall_s_and_core": round(manifest["tokens"] / wall / workers),
        "parent_mib": own.ru_maxrss >> 10, "worker_mib": theirs.ru_maxrss >> 10,
        "text_mb": data.stat().st_size // 10**6, "load": os.getloadavg()[0],
    }  # fmt: skip


def main() -> None:
    """Measure each number of rows in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[8000])
    parser.add_argument("--model", required=True)
    parser.add_argument("--traces", type=Path, default=DATA)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        found = measure(args.model, Path(args.one[0]), Path(args.one[1]), args.workers)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        for n_rows in args.rows:
            data, out = Path(folder) / "rows.jsonl", Path(folder) / "out"
            corpus(data, n_rows, args.traces)
            words = [sys.executable, "-m", "tests.bench.bench_prepare", "--model", args.model,
                     "--workers", str(args.workers), "--one", str(data), str(out)]  # fmt: skip
            said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            found = json.loads(said.splitlines()[-1])
            print(json.dumps(found, indent=1))
            scale = 800_000 / found["rows"] * found["cpu_s"] / 16 / 60
            print(f"{n_rows} rows; 800,000 on 16 cores by calculation: {scale:.0f} minutes")
            shutil.rmtree(out)


if __name__ == "__main__":
    main()
