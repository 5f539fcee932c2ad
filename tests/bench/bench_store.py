"""Store: durable appends beside raw JSON Lines; scans, recovery and resume at full size.

python -m tests.bench.bench_store [append narrow recover-narrow recover-traces resume]
    [--rounds 20] [--mib 15 64] [--rows 1000000] [--long-rows 10000000] [--traces 100000]
    [--folder DIR] [--data DIR]

``append`` alternates whole runs of both sides and reports rows a second, milliseconds and CPU of a
commit, and the size on disk; every commit is synced. The other parts run in a process of their own
each, whose peak is that process' (VmHWM). Logs to recover are left by a writer that kills itself.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import polars as pl

from factory.engines.replay import Engine
from factory.records import Prompt, PromptSource, Sampling, TableForm, ids
from factory.records.ids import key_of
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.store import Store
from factory.store.log import SegmentWriter
from factory.verifiers import math
from tests.helpers_memory import own_peak_mib

NARROW = TableForm("k", {"k": "text", "a": "text", "x": "float", "run_id": "text"})
BATCH = 64
SAMPLES = 16
REAL = ("traces_misguided", "traces_farel", "traces_misc", "traces_r1_math500")
Row = dict[str, object]
Batches = list[list[Row]]


# ---- append


def synthetic(n: int) -> list[str]:
    """Texts of about 4 KB: words and numbers drawn at random, harder to compress than reasoning."""
    generator = random.Random(0)
    stems = ["so", "we", "add", "mult", "now", "the", "then", "wait", "check", "hence"]
    words = [a + b for a in stems for b in "xyzuv"]
    return [
        " ".join(f"{generator.choice(words)} {generator.randrange(100)}" for _ in range(480))
        for _ in range(n)
    ]


def real(data: Path) -> list[str]:
    """Reasoning traces that models wrote, where the folder of public data is present."""
    texts = []
    for name in REAL:
        path = data / f"{name}.jsonl.gz"
        if path.exists():
            for row in map(orjson.loads, gzip.decompress(path.read_bytes()).splitlines()):
                text = row.get("raw") or (row.get("reasoning") or "") + (row.get("answer") or "")
                texts += [text] if text else []
    return texts


def raw_jsonl(path: Path, batches: Batches) -> None:
    with path.open("wb", buffering=0) as handle:
        for rows in batches:
            handle.write(b"".join(orjson.dumps(r) + b"\n" for r in rows))
            os.fdatasync(handle.fileno())


def segment(path: Path, batches: Batches) -> None:
    with SegmentWriter(path) as writer:
        for rows in batches:
            writer.append(rows)


def appends(folder: Path, rounds: int, n_mib: int, name: str, texts: list[str]) -> None:
    rows = [{"k": key_of(i), "completion": t, "n": i} for i, t in enumerate(texts)]
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    times_over = max(1, round((n_mib << 20) / sum(len(orjson.dumps(r)) + 1 for r in rows)))
    batches *= times_over
    n_rows = len(rows) * times_over
    found: dict[str, list[tuple[float, float, float]]] = {"raw": [], "ours": []}
    for n in range(rounds):
        sides = [("raw", raw_jsonl), ("ours", segment)]
        for side, write in sides if n % 2 else sides[::-1]:
            path = folder / f"segment-{side}-1.log"
            begun, cpu = time.perf_counter(), time.process_time()
            write(path, batches)
            wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
            found[side].append((wall, cpu, path.stat().st_size))
            path.unlink()
    raw, ours = (
        [statistics.median(c) for c in zip(*found[k], strict=True)] for k in ("raw", "ours")
    )
    rates = sorted(n_rows / wall for wall, _, _ in found["ours"])
    q = rounds // 4
    print(
        f"append, fsync every {BATCH}, {name} ({raw[2] / 2**20:.0f} MiB a run): "
        f"{n_rows / ours[0]:,.0f} rows/s (median of {rounds}; quartiles {rates[q]:,.0f} to "
        f"{rates[-q - 1]:,.0f}), raw JSON Lines {n_rows / raw[0]:,.0f}; a commit "
        f"{1e3 * ours[0] / len(batches):.2f} ms ({1e3 * ours[1] / len(batches):.2f} ms CPU), raw "
        f"{1e3 * raw[0] / len(batches):.2f} ms ({1e3 * raw[1] / len(batches):.2f}); "
        f"{ours[2] / raw[2]:.2f} x its size",
        flush=True,
    )


# ---- at full size


def fast_key(n: int) -> str:
    return hashlib.blake2b(n.to_bytes(8, "big", signed=True), digest_size=16).hexdigest()


def narrow_rows(n: int) -> Iterator[list[Row]]:
    for start in range(0, n, 4096):
        yield [
            {"k": fast_key(i), "a": "pass", "x": i / 7, "run_id": "r"}
            for i in range(start, min(n, start + 4096))
        ]


def write_narrow(root: str, n: str, end: str) -> None:
    writer = Store(root).table("narrow", NARROW).writer("r")
    for rows in narrow_rows(int(n)):
        writer.append(rows)
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    writer.close()


def look_up_narrow(root: str, n: str) -> None:
    """Seal, then look up all keys and 1,000 that are missing."""
    table = Store(root).table("narrow", NARROW)
    wanted = pl.Series([fast_key(i) for i in range(-1000, int(n))], dtype=pl.String)
    peak_of_the_question = own_peak_mib() / 1024
    with timed(f"{int(n):,} rows sealed"):
        assert table.seal() == int(n)
    with timed(f"{len(wanted):,} keys looked up"):
        assert len(table.missing(wanted)) == 1000
    print(f"  of which the list of keys itself: {peak_of_the_question:.2f} GiB")


def recover_narrow(root: str, n: str) -> None:
    """Count from the log, seal, count again: without a list of the keys."""
    table = Store(root).table("narrow", NARROW)
    with timed(f"{int(n):,} narrow rows counted in the log of a killed writer"):
        assert table.n_rows() == int(n)
    with timed("… sealed"):
        assert table.seal() == int(n)
    with timed("… counted in parts"):
        assert table.n_rows() == int(n)


def texts_of(kind: str, data: str) -> list[str]:
    """4 KB synthetic texts, or real ones cut to lengths around 10 KB."""
    if kind == "4KB":
        return synthetic(512)
    joined = "\n".join(real(Path(data)))
    generator = random.Random(1)
    sizes = [min(60_000, int(generator.lognormvariate(8.9, 0.8))) for _ in range(2000)]
    starts = [generator.randrange(max(1, len(joined) - size)) for size in sizes]
    return [joined[a : a + size] for a, size in zip(starts, sizes, strict=True)]


def write_traces(root: str, n: str, kind: str, data: str) -> None:
    texts = texts_of(kind, data)
    writer = Store(root).table("traces").writer("r")
    for start in range(0, int(n), BATCH):
        writer.append(
            [
                trace_row(i, fast_key(i // SAMPLES), f"{i} {texts[i % len(texts)]}")
                for i in range(start, min(int(n), start + BATCH))
            ]
        )
    os.kill(os.getpid(), signal.SIGKILL)


def trace_row(i: int, prompt_id: str, text: str) -> Row:
    return {
        "trace_id": fast_key(i), "prompt_id": prompt_id, "model": "m", "revision": "r",
        "sampling_id": "s", "sample_index": i % SAMPLES, "completion": text, "prefill": "",
        "finish_reason": "stop", "n_completion_tokens": len(text) // 4, "seconds": 1.5,
        "text_hash": fast_key(-i), "run_id": "r",
    }  # fmt: skip


def recover_traces(root: str, n: str) -> None:
    table = Store(root).table("traces")
    wanted = [fast_key(i) for i in range(int(n) + 10)]
    with timed(f"{int(n):,} full traces looked up in the log of a killed writer"):
        assert len(table.missing(wanted)) == 10
    with timed("… their texts read"):
        assert sum(b.height for b in table.batches(["trace_id", "completion"])) == int(n)
    with timed("… sealed"):
        assert table.seal() == int(n)
    with timed("… their texts read from parts"):
        assert sum(b.height for b in table.batches(["trace_id", "completion"])) == int(n)


def pairs_of(n: int) -> Iterator[tuple[Prompt, PromptSource]]:
    for i in range(n // SAMPLES):
        prompt = Prompt.of(f"What is {i} plus one? Put the answer in a box.")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source="bench", item=str(i), gold=str(i + 1),
            verifier="math", options={},
        )  # fmt: skip
        yield prompt, source


def write_done(root: str, n: str) -> None:
    """Leave a store in which all wanted traces but the last 16 are done and verified, sealed."""
    from factory.stages.checker import Checker, verdict_hashes

    store = Store(root)
    sampling_id = Sampling(temperature=1.0, max_tokens=100).sampling_id
    traces = store.table("traces").writer("r")
    checker = Checker("math", n_workers=1)
    verdicts = store.table(f"verdicts.math@{math.VERSION}").writer("r")
    trace_rows: list[Row] = []
    verdict_rows: list[Row] = []
    for prompt, source in list(pairs_of(int(n)))[:-1]:
        keys = ids.trace_ids(
            prompt_id=prompt.prompt_id, model="m", revision="recorded",
            sampling_id=sampling_id, n=SAMPLES,
        )  # fmt: skip
        hashes = verdict_hashes(source, checker)
        for i, key in enumerate(keys):
            trace_rows.append({**trace_row(i, prompt.prompt_id, "I add 1. " * 20), "trace_id": key})
            verdict = {"status": "fail", "reward": 0.0, "run_id": "r", "trace_id": key}
            verdict_rows.append({**verdict, "verdict_id": ids.verdict_id_of(key, hashes)})
        if len(trace_rows) >= 4096:
            traces.append(trace_rows)
            verdicts.append(verdict_rows)
            trace_rows, verdict_rows = [], []
    traces.append(trace_rows)
    verdicts.append(verdict_rows)
    traces.close()
    verdicts.close()
    store.table("traces").seal()
    store.table(f"verdicts.math@{math.VERSION}").seal()


def resume(root: str, n: str) -> None:
    """Start a run that wants 16 samples of every prompt; measure until the first request."""
    first: list[tuple[float, float]] = []

    class FirstRequest(Engine):
        def run(self, requests, on_partial=None):  # type: ignore[no-untyped-def]
            def noted():  # type: ignore[no-untyped-def]
                for request in requests:
                    if request is not None and not first:
                        first.append((time.perf_counter() - begun, time.process_time() - cpu))
                    yield request

            yield from super().run(noted(), on_partial)

    begun, cpu = time.perf_counter(), time.process_time()
    result = generate(
        Store(root), pairs_of(int(n)), FirstRequest("m", answers={}),
        sampling=Sampling(temperature=1.0, max_tokens=100), policy=Policy(kind="fixed", n=SAMPLES),
        n_workers=1,
    )  # fmt: skip
    assert result.progress.n_have == int(n) - SAMPLES
    print(
        f"resume with {result.progress.n_have:,} verified traces done: first request after "
        f"{first[0][0]:.1f} s ({first[0][1]:.1f} s CPU), whole run "
        f"{time.perf_counter() - begun:.1f} s, peak {own_peak_mib() / 1024:.2f} GiB"
    )


class timed:
    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        self.begun, self.cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *exc: object) -> None:
        wall, cpu = time.perf_counter() - self.begun, time.process_time() - self.cpu
        print(
            f"{self.what}: {wall:.1f} s ({cpu:.1f} s CPU), peak {own_peak_mib() / 1024:.2f} GiB",
            flush=True,
        )


PARTS: dict[str, Callable[..., None]] = {
    f.__name__: f
    for f in (write_narrow, look_up_narrow, recover_narrow, write_traces, recover_traces,
              write_done, resume)
}  # fmt: skip


def child(name: str, *arguments: object, killed: bool = False) -> None:
    command = [sys.executable, "-m", "tests.bench.bench_store", "--child", name]
    done = subprocess.run([*command, *map(str, arguments)], check=False)
    if done.returncode != (-signal.SIGKILL if killed else 0):
        raise SystemExit(f"{name} ended with {done.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parts = ["append", "narrow", "recover-narrow", "recover-traces", "resume"]
    parser.add_argument("parts", nargs="*", choices=parts, default=parts[:2])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of narrow and resume")
    parser.add_argument("--long-rows", type=int, default=10_000_000, help="of recover-narrow")
    parser.add_argument("--traces", type=int, default=100_000, help="of recover-traces")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--mib", type=int, nargs="+", default=[15, 64], help="of a run of append")
    parser.add_argument("--folder", default=None, help="where to write (a real disk)")
    parser.add_argument("--data", default="../shared/data", help="folder of public traces")
    args = parser.parse_args()
    for part in args.parts:
        folder = Path(tempfile.mkdtemp(dir=args.folder))
        root = folder / "data"
        try:
            if part == "append":
                samples = {"synthetic text": synthetic(2048), "real traces": real(Path(args.data))}
                for name, texts in samples.items():
                    for n_mib in args.mib if texts else []:
                        appends(folder, args.rounds, n_mib, name, texts)
                    if not texts:
                        print(f"append, {name}: no public data at {args.data}, left out")
            elif part == "narrow":
                child("write_narrow", root, args.rows, "close")
                child("look_up_narrow", root, args.rows)
            elif part == "recover-narrow":
                child("write_narrow", root, args.long_rows, "kill", killed=True)
                child("recover_narrow", root, args.long_rows)
            elif part == "recover-traces":
                for kind in ["4KB"] + ["10KB"] * bool(real(Path(args.data))):
                    print(f"texts of {kind}:", flush=True)
                    child("write_traces", root / kind, args.traces, kind, args.data, killed=True)
                    child("recover_traces", root / kind, args.traces)
            else:
                child("write_done", root, args.rows)
                child("resume", root, args.rows)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        PARTS[sys.argv[2]](*sys.argv[3:])
    else:
        main()
