"""Near-duplicates and contamination: quality and speed, side by side with rensa and datatrove.

usage: python tests/bench/bench_sets.py [--n 6000] [--data ../shared/data]
           [--rensa VENV/bin/python] [--datatrove VENV/bin/python] [--memory 1000000]

Every rate is per second of user and system CPU time of one process; sides alternate in one run.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from _corpus import DATA, Corpus, cpu_s, rows, traces  # noqa: E402

from factory.sets.decontaminate import Decontaminator  # noqa: E402
from factory.sets.near_duplicates import Sketches, near_duplicates, settings_for  # noqa: E402

THRESHOLD = 0.7


def peer(python: str, script: str, task: dict[str, Any]) -> Any:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "task.json"
        path.write_text(json.dumps(task))
        done = subprocess.run(
            [python, str(HERE / script), str(path)],
            capture_output=True, text=True, check=False,
            env={**os.environ, "RAYON_NUM_THREADS": "1"},
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def quartiles(theirs: list[float], ours: list[float]) -> str:
    """Median of the rounds' ratios, with its quartiles."""
    low, middle, high = np.quantile(np.divide(theirs, ours), [0.25, 0.5, 0.75])
    return f"{middle:5.1f} x [{low:.1f}, {high:.1f}]"


def recall(flags: list[bool], corpus: Corpus) -> float:
    return sum(flags[i] for i in corpus.planted) / len(corpus.planted)


def minhash(corpus: Corpus, rensa: str | None, rounds: int) -> None:
    texts = corpus.texts
    n, size = len(texts), sum(map(len, texts)) / len(texts)
    print(f"\nMinHash + LSH: {n} texts of {size:.0f} characters, threshold {THRESHOLD}, "
          f"word 5-grams, {len(corpus.planted)} planted")  # fmt: skip
    frame = pl.DataFrame({"text": texts})
    for ngram in (5, 1):  # compiled before the clock starts
        near_duplicates(frame.head(2), threshold=THRESHOLD, ngram=ngram)
    cpu: dict[str, list[float]] = collections.defaultdict(list)
    flags: dict[str, list[bool]] = {}
    for _ in range(rounds):
        for name, ngram in (("factory, 5-grams", 5), ("factory, single words", 1)):
            begin = cpu_s()
            out = near_duplicates(frame, threshold=THRESHOLD, ngram=ngram)
            cpu[name].append(cpu_s() - begin)
            flags[name] = out["is_duplicate"].to_list()
        if rensa:
            task = {"do": "dedup", "texts": texts, "threshold": THRESHOLD}
            for name, result in peer(rensa, "_peer_rensa.py", task).items():
                cpu[f"rensa {name}"].append(result["cpu_s"])
                flags[f"rensa {name}"] = result["flags"]
    for name, seconds in cpu.items():
        same = "single words" if "single words" in name else "5-grams"
        times = quartiles(seconds, cpu[f"factory, {same}"])
        print(f"  {name:44s} {n / min(seconds):8.0f} /s   we are {times}   "
              f"recall {recall(flags[name], corpus):.4f}   flagged {sum(flags[name])}")  # fmt: skip


def pair_rows(data: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return list(rows("neardup_pairs", data)), list(rows("neardup_onestop_sentences", data))


def is_negative(row: dict[str, Any]) -> bool:
    return "hard_negative" in row["label"]


def quality(data: Path, rensa: str | None, datatrove: str | None) -> None:
    families, sentences = pair_rows(data)
    families = [r for r in families if "unlabelled" not in r["label"]]
    # Negatives for the sentences: each with the next pair's other side.
    shifted = [
        {**a, "text_b": b["text_b"], "label": "hard_negative", "family": "onestop"}
        for a, b in zip(sentences, sentences[7:], strict=False)
        if a["text_a"] != b["text_a"] and a["text_b"] != b["text_b"]
    ]
    all_rows = families + [{**r, "family": "onestop"} for r in sentences] + shifted
    left, right = [r["text_a"] for r in all_rows], [r["text_b"] for r in all_rows]
    usual = settings_for(pl.Series(left + right))
    found: dict[str, list[bool]] = {}
    for n, t in [usual, (1, 0.7), (2, 0.5), (5, 0.7)]:
        sketches = Sketches(ngram=n)
        sketches.add(left + right)
        label = sketches.clusters(threshold=t)
        mark = " (default here)" if (n, t) == usual else ""
        found[f"factory {n}-gram {t}{mark}"] = (label[: len(left)] == label[len(left) :]).tolist()
    if rensa:
        settings = [usual, (1, 0.7), (1, 0.8), (2, 0.5), (5, 0.7)]
        task = {"do": "pairs", "left": left, "right": right, "settings": settings}
        for name, values in peer(rensa, "_peer_rensa.py", task).items():
            found[f"rensa {name.replace(' ', '-gram ')}"] = values
    if datatrove:
        task = {"do": "pairs", "left": left, "right": right}
        found["datatrove 5-gram 14x8"] = peer(datatrove, "_peer_datatrove.py", task)
    for group, keep in (("neardup_pairs", False), ("onestop sentences", True)):
        chosen = [(r["family"] == "onestop") == keep for r in all_rows]
        print(f"\n{group}: precision, recall, F1 over labelled pairs")
        for name, values in found.items():
            tp, fp, fn = confusion(all_rows, values, chosen)
            p, r = tp / max(1, tp + fp), tp / max(1, tp + fn)
            f1 = 2 * p * r / max(1e-9, p + r)
            print(f"  {name:40s} P {p:.3f}  R {r:.3f}  F1 {f1:.3f}  false {fp}")
    names = list(found)
    print("\nby family: share found (of the negatives: falsely)")
    print("  " + " " * 46 + "  ".join(f"{i}" for i in range(len(names))))
    for i, name in enumerate(names):
        print(f"    {i} = {name}")
    for key in sorted({(r["family"], r["label"]) for r in all_rows}):
        at = [i for i, r in enumerate(all_rows) if (r["family"], r["label"]) == key]
        shares = "  ".join(f"{sum(v[i] for i in at) / len(at):.2f}" for v in found.values())
        print(f"  {key[0][:26]:26s} {key[1][:26]:26s} {len(at):5d}  {shares}")


def confusion(
    all_rows: list[dict[str, Any]], values: list[bool], chosen: list[bool]
) -> tuple[int, int, int]:
    marked = [(v, is_negative(r)) for r, v, c in zip(all_rows, values, chosen, strict=True) if c]
    tp = sum(v and not neg for v, neg in marked)
    fp = sum(v and neg for v, neg in marked)
    return tp, fp, sum(not v and not neg for v, neg in marked)


def script(texts: list[str], prompts: list[str], n: int) -> list[bool]:
    """The method of open-r1's decontamination script for one benchmark."""

    def grams(text: str) -> list[str]:
        words = " ".join(text.lower().strip().split()).split()
        return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]

    lookup: dict[str, set[int]] = collections.defaultdict(set)
    for number, prompt in enumerate(prompts):
        for gram in grams(prompt):
            lookup[gram].add(number)
    return [any(set(gram in lookup for gram in set(grams(text)))) for text in texts]  # noqa: C401


def benchmarks(data: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = collections.defaultdict(list)
    for name in ("prompts_math_en", "prompts_gsm8k_test", "prompts_math_zh"):
        for row in rows(name, data):
            found[row["benchmark"]].append(row["prompt"])
    largest = sorted(found.items(), key=lambda item: -len(item[1]))[:5]
    return dict(largest)


def decontamination(corpus: Corpus, data: Path, rounds: int) -> None:
    benches = benchmarks(data)
    sizes = ", ".join(f"{k} {len(v)}" for k, v in benches.items())
    print(f"\nContamination: {len(corpus.texts)} texts, five benchmarks ({sizes}); index included")
    frame = pl.DataFrame({"text": corpus.texts})
    for n in (8, 10, 13):
        ours, theirs, by_words = list[float](), list[float](), list[float]()
        for _ in range(rounds):
            begin = cpu_s()
            out = Decontaminator(benches, ngram=n, folding="whitespace").check(frame)
            ours.append(cpu_s() - begin)
            begin = cpu_s()
            hits = {name: script(corpus.texts, prompts, n) for name, prompts in benches.items()}
            theirs.append(cpu_s() - begin)
            begin = cpu_s()
            default = Decontaminator(benches, ngram=n).check(frame)
            by_words.append(cpu_s() - begin)
        by = out["contaminated_by"].to_list()
        same = all(hits[b] == [v is not None and b in v for v in by] for b in benches)
        count = len(corpus.texts)
        print(f"  {n:2d}-grams: script {count / min(theirs):6.0f} /s   "
              f"ours {count / min(ours):6.0f} /s  {quartiles(theirs, ours)}   "
              f"identical hits: {same} "
              f"({out['is_contaminated'].sum()})   folding=words {quartiles(theirs, by_words)} "
              f"({default['is_contaminated'].sum()})")  # fmt: skip


def clean_control(data: Path) -> None:
    """Texts that share no source with the benchmark: what is flagged is nearly all false."""
    prompts = [r["prompt"] for r in rows("prompts_gsm8k_test", data)]
    train = [r["prompt"] for r in rows("prompts_gsm8k_train", data)]
    other = [r["prompt"] for r in rows("prompts_ifeval", data)]
    logic = list({r["prompt"] for r in rows("logic_tasks", data)})
    print("\nClean control, flagged against GSM8K test (folding=words); twins reported apart")
    for n in (8, 10, 13):
        checker = Decontaminator({"gsm8k": prompts}, ngram=n, twins=True)
        for name, texts in (("gsm8k train", train), ("ifeval", other), ("logic", logic)):
            out = checker.check(pl.DataFrame({"text": texts}))
            print(f"  {n:2d}-grams {name:12s} {len(texts):5d} texts: "
                  f"{out['is_contaminated'].mean():.4f} contaminated, "
                  f"{out['is_template_twin'].mean():.4f} twins")  # fmt: skip


def planted_runs(data: Path) -> None:
    """Prompts spliced into other texts: all must be found, by name."""
    benches = benchmarks(data)
    hosts = [r["text"] for r in rows("readability_onestop", data)]
    checker = Decontaminator(benches, ngram=10)
    texts, truth = [], []
    for name, prompts in benches.items():
        for i, prompt in enumerate(prompts):
            host = hosts[i % len(hosts)]
            texts += [
                host[: len(host) // 2] + "\n\n" + prompt + "\n\n" + host[len(host) // 2 :],
                host,
            ]
            truth += [name, None]
    out = checker.check(pl.DataFrame({"text": texts}))["contaminated_by"].to_list()
    tp = sum(t is not None and o is not None and t in o for t, o in zip(truth, out, strict=True))
    fn = sum(t is not None and (o is None or t not in o) for t, o in zip(truth, out, strict=True))
    fp = sum(t is None and o is not None for t, o in zip(truth, out, strict=True))
    p, r = tp / max(1, tp + fp), tp / max(1, tp + fn)
    print(f"\nSpliced prompts, 10-grams: P {p:.3f} R {r:.3f} F1 {2 * p * r / (p + r):.3f} "
          f"(missed {fn}, of prompts below 10 words)")  # fmt: skip


def memory(n: int) -> None:
    """n traces of 4 KB in batches: sketches, clusters and contamination, no text kept."""
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"w{i}" for i in range(50_000)])

    def batches(size: int = 10_000) -> Iterator[list[str]]:
        for begin in range(0, n, size):
            picks = rng.integers(0, 50_000, (min(size, n - begin), 640))
            yield [" ".join(row) for row in vocabulary[picks].tolist()]

    sketches, checker = Sketches(ngram=5), Decontaminator({"toy": ["some words " * 10]})
    begin = cpu_s()
    build = 0.0
    for texts in batches():
        start = cpu_s()
        sketches.add(texts)
        checker.check(pl.DataFrame({"text": texts}))
        build += cpu_s() - start
    mid = cpu_s()
    label = sketches.clusters(threshold=THRESHOLD)
    end = cpu_s()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nMemory: {n} traces of 4 KB: peak {peak:.2f} GiB; sketches and contamination "
          f"{build / n * 1e6:.1f} us, clusters {(end - mid) / n * 1e6:.1f} us per trace "
          f"({len(np.unique(label))} clusters; {end - begin:.0f} s in all)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rensa")
    parser.add_argument("--datatrove")
    parser.add_argument("--memory", type=int, default=0, help="traces for the memory run")
    parser.add_argument("--only", default="", help="part of the run, by name")
    args = parser.parse_args()
    corpus = traces(args.n, args.data)
    parts: dict[str, Callable[[], None]] = {
        "minhash": lambda: minhash(corpus, args.rensa, args.rounds),
        "decontamination": lambda: decontamination(corpus, args.data, args.rounds),
        "quality": lambda: quality(args.data, args.rensa, args.datatrove),
        "control": lambda: clean_control(args.data),
        "spliced": lambda: planted_runs(args.data),
    }
    if args.memory:
        memory(args.memory)
        return
    for name, part in parts.items():
        if args.only in ("", name):
            part()


if __name__ == "__main__":
    main()
