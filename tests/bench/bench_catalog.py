"""The catalog at scale: rebuild, aggregate against SQLite, readers during rebuilds.

Run by hand: ``python tests/bench/bench_catalog.py --traces 1000000``. CPU time is user + system
of this process; the SQLite side holds the same columns in one table with the same rows.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

from catalogs import build
from factory.records import TABLES, score_form
from factory.store import Store, wide

READER = """
import duckdb, sys, time
end = time.monotonic() + float(sys.argv[2]); n = 0; failed = 0
while time.monotonic() < end:
    try:
        con = duckdb.connect(sys.argv[1], read_only=True)
        con.execute("SELECT count(*) FROM wide").fetchone()
        con.close(); n += 1
    except Exception as error:
        failed += 1; print(error, file=sys.stderr)
print(n, failed)
"""
FACTS = {
    "prompts": "SELECT md5('p' || i) prompt_id, '[]' messages, '?' AS text FROM range({p}) t(i)",
    "prompt_sources": """SELECT md5('s' || i) source_id, md5('p' || i) prompt_id,
        'source-' || i % 12 source, i::VARCHAR item, 'train' split, (i % 97)::VARCHAR gold,
        md5('g' || i % 97) gold_hash, 'math' verifier, '{{}}' options, 'math' AS domain,
        'level ' || i % 5 AS level, 'en' AS language FROM range({p}) t(i)""",
    "samplings": """SELECT md5('x' || i) sampling_id, 1.0 temperature, 1.0 top_p, 8192 max_tokens,
        '' prefill, '{{}}' fields FROM range(3) t(i)""",
    "traces": """SELECT md5('t' || i) trace_id, md5('p' || i // 8) prompt_id,
        'model-' || i % 5 model,
        'main' revision, md5('x' || i % 3) sampling_id, i % 8 sample_index,
        'so \\boxed{{' || i % 97 || '}}' completion, '<think>' prefill,
        CASE WHEN i % 10 = 0 THEN 'length' ELSE 'stop' END finish_reason, NULL stop_reason,
        i % 300 n_prompt_tokens, i * 7919 % 8192 n_completion_tokens, i % 1000 / 10 AS seconds,
        -(i % 5000) / 7 cumulative_logprob, NULL meta, md5('h' || i) text_hash
        FROM range({n}) t(i)""",
    "verdicts.math@1": """SELECT md5('v' || i) verdict_id, md5('t' || i) trace_id,
        md5('g' || i // 8 % 97) gold_hash, md5('o') options_hash,
        CASE WHEN hash(i) % 100 < 40 THEN 'pass' ELSE 'fail' END status,
        CASE WHEN hash(i) % 100 < 40 THEN 1.0 ELSE 0.0 END reward,
        CASE WHEN hash(i) % 100 >= 40 THEN 'wrong' END reason, (i % 97)::VARCHAR extracted,
        'number' decided_by, 0.001 AS seconds FROM range({n}) t(i)""",
    "scores.length@1": """SELECT md5('t' || i) trace_id, i % 30000 completion_chars,
        i % 6000 reasoning_words, i % 200 answer_words FROM range({n}) t(i)""",
}
LENGTH = score_form({"completion_chars": "int", "reasoning_words": "int", "answer_words": "int"})


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(work: Callable[[], object], *, repeat: int = 1) -> tuple[float, float]:
    """Return the best (wall, CPU) seconds."""
    walls, used = [], []
    for _ in range(repeat):
        wall, before = time.perf_counter(), cpu()
        work()
        walls.append(time.perf_counter() - wall)
        used.append(cpu() - before)
    return min(walls), min(used)


def fill(store: Store, n: int) -> int:
    """Write ``n`` made-up traces, 8 per prompt, with a verdict and a score each; count facts."""
    total = 0
    for name, sql in FACTS.items():
        form = LENGTH if name.startswith("scores.") else TABLES[name.partition(".")[0]]
        with duckdb.connect() as con:
            made = con.sql(sql.format(n=n, p=n // 8)).to_arrow_table()
        frame = pl.DataFrame(pl.from_arrow(made)).with_columns(run_id=pl.lit("r"))
        schema = form.polars_schema()  # what is asked of no row here is left empty
        rest = [pl.lit(None, kind).alias(c) for c, kind in schema.items() if c not in frame.columns]
        total += store.table(name, form).add(frame.with_columns(rest).select(list(schema)))
    return total


def compare(store: Store) -> None:
    question = (
        "SELECT source, model, count(*), sum(CASE WHEN status = 'pass' THEN 1 ELSE 0 END) * 1.0 "
        "/ count(*), avg(n_completion_tokens) FROM {} GROUP BY source, model ORDER BY 1, 2"
    )
    columns = [
        *("trace_id", "prompt_id", "model", "revision", "sampling_id", "sample_index"),
        *("finish_reason", "n_prompt_tokens", "n_completion_tokens", "seconds", "source", "item"),
        *("domain", "level", "status", "reward", "reason", "completion_chars"),
    ]
    with build.connect(store) as con:
        lite = sqlite3.connect(":memory:")
        lite.execute(f"CREATE TABLE wide ({', '.join(columns)})")
        marks = ", ".join("?" * len(columns))
        cursor = con.execute(f"SELECT {', '.join(columns)} FROM wide")
        while rows := cursor.fetchmany(50_000):
            lite.executemany(f"INSERT INTO wide VALUES ({marks})", rows)
        for threads in (1, 2):
            con.execute(f"SET threads = {threads}")
            ours, theirs = [], []
            for _ in range(5):  # sides alternate
                ours.append(timed(lambda: con.execute(question.format("wide")).fetchall()))
                theirs.append(timed(lambda: lite.execute(question.format("wide")).fetchall()))
            wall, used = (min(t[i] for t in ours) for i in (0, 1))
            other = min(t[1] for t in theirs)
            print(
                f"aggregate   {threads} threads: {wall * 1e3:.1f} ms wall, {used * 1e3:.1f} ms "
                f"CPU; SQLite {other * 1e3:.0f} ms CPU: {other / used:.1f}x"
            )
        a, b = (c.execute(question.format("wide")).fetchall() for c in (con, lite))
        assert [r[:3] for r in a] == [tuple(r[:3]) for r in b]
        key = con.execute("SELECT trace_id FROM wide USING SAMPLE 1").fetchone()
        look = "SELECT model FROM wide WHERE trace_id = ?"
        used = timed(lambda: con.execute(look, key).fetchall(), repeat=5)[1]
        print(f"by key      {used * 1e3:.1f} ms CPU")
        view = f"({wide.wide_sql(store)})"
        wall, used = timed(lambda: con.execute(question.format(view)).fetchall())
        print(f"from files  the same aggregate, joins and all: {wall:.2f} s, {used:.2f} s CPU")


def readers(store: Store, n: int, seconds: float) -> None:
    build.build(store)
    command = [sys.executable, "-c", READER, str(build.path_of(store)), str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(n)]
    builds = 0
    while any(p.poll() is None for p in running):
        build.build(store)
        builds += 1
    counts = [[int(word) for word in p.communicate()[0].split()] for p in running]
    opened, failed = (sum(c[i] for c in counts) for i in (0, 1))
    print(f"readers     {n}: {opened:,} opens during {builds} rebuilds, {failed} failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=1_000_000)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "data")
        n_facts = fill(store, args.traces)
        wall, used = timed(lambda: build.build(store))
        size = build.path_of(store).stat().st_size
        print(
            f"rebuild     {n_facts:,} facts of {args.traces:,} traces: {wall:.2f} s wall, "
            f"{used:.2f} s CPU; {n_facts / used:,.0f} facts/s of CPU, {n_facts / wall:,.0f}/s; "
            f"{size / 1e6:.0f} MB"
        )
        print(f"fresh       {timed(lambda: build.ensure(store), repeat=3)[0] * 1e3:.0f} ms")
        compare(store)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "data")
        fill(store, 20_000)
        readers(store, args.readers, args.seconds)


if __name__ == "__main__":
    main()
