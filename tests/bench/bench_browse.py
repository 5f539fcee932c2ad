"""How fast the browser's pages are on a big store: ``python -m tests.bench.bench_browse [ROWS]``.

Makes a store of ROWS short traces (default: a million) in a temporary folder, asks each page of
the application itself, and prints milliseconds: the first answer, and the median of five more, with
those of a core beside them, since on a busy machine the clock says little.
"""

from __future__ import annotations

import re
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from starlette.testclient import TestClient

from factory.browse.app import make_app
from factory.records import Verdict, ids, score_form
from factory.store import Store
from tests import helpers_catalog as made

PREDICATE = "where=language_consistency+%3C+1"
CHUNK = 100_000
SAMPLES = 4
RUN = made.RUN
LANGUAGE = score_form({"lang": "text", "language_consistency": "float", "mixed_spans": "text"})
WORDS = " ".join(
    f"We add the number {i} to what we have and look at the sum again." for i in range(6)
)


def make(store: Store, rows: int) -> None:
    """Fill a store: one in a thousand answers says ``seldom``, one in all says ``unique``."""
    store.table("samplings").add(pl.DataFrame([made.SAMPLING.row(RUN)]))
    gold = ids.text_hash("4")
    for begin in range(0, rows, CHUNK):
        numbers = range(begin, min(begin + CHUNK, rows))
        prompts = [ids.key_of(["p", i // SAMPLES]) for i in numbers]
        traces = [ids.key_of(["t", i]) for i in numbers]
        head = {"prompt_id": prompts, "run_id": [RUN] * len(prompts)}
        once = pl.DataFrame(head).unique("prompt_id", keep="first", maintain_order=True)
        text = pl.format("What is 2 + 2? Number {}", pl.int_range(pl.len()))
        _add(store, "prompts", once.with_columns(text=text, messages=pl.lit("[]")))
        n = pl.int_range(pl.len())
        _add(
            store, "prompt_sources",
            once.with_columns(
                source_id=pl.col("prompt_id"), source=pl.format("source-{}", n % 7),
                item=n.cast(pl.String), gold=pl.lit("4"), gold_hash=pl.lit(gold),
                verifier=pl.lit("math"), domain=pl.lit("math"), language=pl.lit("en"),
            ),
        )  # fmt: skip
        texts = [
            f"{WORDS} {i}.</think>It is{' seldom' if i % 1000 == 7 else ''}"
            f"{' unique' if i == rows // 2 else ''} \\boxed{{{3 + i % 3}}}"
            for i in numbers
        ]
        frame = pl.DataFrame({**head, "trace_id": traces, "completion": texts})
        _add(
            store, "traces",
            frame.with_columns(
                model=pl.format("model-{}", n % 5), revision=pl.lit("main"),
                sampling_id=pl.lit(made.SAMPLING.sampling_id), sample_index=n % SAMPLES,
                prefill=pl.lit("<think>\n"), finish_reason=pl.lit("stop"),
                n_completion_tokens=n % 9000, text_hash=pl.col("trace_id"),
            ),
        )  # fmt: skip
        verdict = Verdict.passed(decided_by="number", extracted="4").to_dict()
        rows_of = frame.select("trace_id", "run_id").with_columns(
            verdict_id=pl.col("trace_id"), gold_hash=pl.lit(gold), options_hash=pl.lit(gold),
            **{k: pl.lit(v) for k, v in verdict.items() if k != "status"},
            status=pl.when(n % 3 == 1).then(pl.lit("pass")).otherwise(pl.lit("fail")),
        )  # fmt: skip
        _add(store, "verdicts.math@1", rows_of)
        table = store.table("scores.language@2", LANGUAGE)
        consistency = pl.when(n % 50 == 0).then(0.9).otherwise(1.0)
        table.add(
            frame.select("trace_id", "run_id").with_columns(
                lang=pl.lit("en"), language_consistency=consistency, mixed_spans=pl.lit("[]")
            )
        )


def _add(store: Store, name: str, frame: pl.DataFrame) -> None:
    table = store.table(name)
    missing = [pl.lit(None).alias(c) for c in table.form.columns if c not in frame.columns]
    table.add(frame.with_columns(missing))


def cpu_s() -> float:
    """Return seconds of a core so far, those of ended processes that answered user SQL included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def measure(client: TestClient, base: str, path: str) -> str:
    """Return milliseconds of the first answer and the median of five more, both ways, and bytes."""
    times, cores = [], []
    for _ in range(6):
        begin, cpu = time.perf_counter(), cpu_s()
        answer = client.get(base + path)
        times.append(1000 * (time.perf_counter() - begin))
        cores.append(1000 * (cpu_s() - cpu))
        assert answer.status_code == 200, answer.text[:300]
    later, of_core = statistics.median(times[1:]), statistics.median(cores[1:])
    return (
        f"first {times[0]:6.0f} ms ({cores[0]:5.0f} of a core), then {later:6.0f} ms "
        f"({of_core:5.0f}), {len(answer.content):,} bytes"
    )


def main(rows: int) -> None:
    """Make the store, ask, print, and leave nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "data")
        begin = time.perf_counter()
        make(store, rows)
        print(f"store of {rows:,} traces: {time.perf_counter() - begin:.1f} s")
        begin = time.perf_counter()
        token = "token-of-the-benchmark"
        app = make_app(store, token=token, hosts=["127.0.0.1"], author="bench", roots=[])
        print(f"catalog and start: {time.perf_counter() - begin:.1f} s")
        key = ids.key_of(["t", rows // 3])
        with TestClient(app, base_url="http://127.0.0.1") as client:
            base = f"/t/{token}"
            asked: dict[str, Any] = {
                "overview": "/", "first page": "/traces", "facets": "/facets",
                "a facet": "/traces?status=fail&model=model-1",
                "facets of a facet": "/facets?status=fail&model=model-1",
                "sorted": "/traces?sort=n_completion_tokens&down=1",
                "a user's predicate": f"/traces?{PREDICATE}",
                "facets of a predicate": f"/facets?{PREDICATE}",
                "a trace among those": f"/trace/{key}?{PREDICATE}",
                "trace": f"/trace/{key}", "verdicts of a trace": f"/trace/{key}/verdicts",
                "prompt": f"/prompt/{ids.key_of(['p', rows // 3 // SAMPLES])}",
                "search, .1 % match": "/search?q=seldom",
            }  # fmt: skip
            for name, path in asked.items():
                print(f"{name:28} {measure(client, base, path)}", flush=True)
            for path in ("q=unique", "q=unique&case=1", "q=unique&status=fail"):
                scan(client, base, f"/search?{path}")


def scan(client: TestClient, base: str, path: str) -> None:
    """Search through everything, stretch by stretch, and print the speed."""
    begin, cpu, n_stretches, size = time.perf_counter(), time.process_time(), 0, ""
    following: str | None = path
    while following:
        page = client.get(base + following).text
        n_stretches += 1
        found = re.search(rf'hx-get="{base}([^"]+)"', page)
        following = found[1].replace("&amp;", "&") if found else None
        size = page
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    said = re.search(r"all ([\d.]+) MB of text", size)
    n_mb = float(said[1]) if said else float("nan")
    print(
        f"{path}: {n_mb:.0f} MB in {seconds:.2f} s and {n_stretches} stretches, "
        f"{cpu:.2f} CPU-s: {n_mb / cpu:.0f} MB/s per core"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
