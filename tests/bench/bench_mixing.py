"""How well mixing of languages is found: spliced texts, clean texts, real rows one by one.

Run: PYTHONPATH=. python tests/bench/bench_mixing.py [--half held] [--show] [--seed 0]

Spliced: five MGSM problems of one language with a sentence of another put in at a random place, or
with a stretch of words put into one of their sentences; as many unspliced ones beside them. Rows of
even number are the half for development, odd ones are held out. Clean: real traces, solutions,
problems, articles and sentences that no script found to be mixed, and traces into which glosses,
quotations and proper names were built.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

import polars as pl  # noqa: E402
from _corpus import rows  # noqa: E402

from factory.scores import language  # noqa: E402

LATIN = ("en", "es", "fr", "de", "sw")
OTHER = ("ru", "zh", "ja", "th", "bn", "te")
COLUMNS = ("completion", "reasoning", "prompt", "target_language")
GLOSSES = (
    'The German word "Schadenfreude" has no short translation.',
    "In French one says « c'est la vie » when nothing can be done.",
    "The motto was “Liberté, égalité, fraternité”, as everyone knows.",
    'He only wrote "quod erat demonstrandum" under the last line.',
    "The novel Cien años de soledad by Gabriel García Márquez is long.",
    "Ludwig van Beethoven and Johann Sebastian Bach lived in different cities.",
    "She studied at the Universidad Nacional Autónoma de México for four years.",
    "The train from Saint-Germain-en-Laye to Paris takes twenty minutes.",
    "By reductio ad absurdum, and ceteris paribus, the claim holds a priori.",
    "Les Misérables and Der Ring des Nibelungen are both very long works.",
    'The sign read "Bitte nicht auf den Rasen treten" (please keep off the grass).',
    "São Paulo, Rio de Janeiro and Belo Horizonte are the three largest cities.",
    "The words el, la, los and las are articles.",
    "The Rue de la Paix crosses the Avenue de l'Opéra near the Place Vendôme.",
    "The chef made coq au vin, crème brûlée and pain au chocolat for us.",
    "Real Madrid, Bayern München and Paris Saint-Germain each won two games.",
    'They sang "Alle Menschen werden Brüder" at the end of the evening.',
    "The Hakuna Matata song (hakuna matata means no worries) is in Swahili.",
    "Vincent van Gogh painted De sterrennacht in Saint-Rémy-de-Provence.",
    "Der Spiegel, Le Monde, El País and La Repubblica reported it the same day.",
    'The prompt says "cuántas manzanas le quedan", so we count apples.',
    "The function calcula_total(precio, cantidad) returns the sum of the prices.",
    'The word "合计" means total, and 合计 is what we look for.',
    "The kitchen (厨房) is on the left, the garden （花园） on the right.",
    "In Russian, the word «спасибо» means thank you.",
    "Let θ and φ be the angles, with ∠ABC = 2πr and Δx → 0.",
    "The Japanese term 「もったいない」 (mottainai) is about waste.",
)


def parallel(half: str) -> list[dict[str, str]]:
    """MGSM problems in eleven languages each, of one half."""
    out: dict[int, dict[str, str]] = collections.defaultdict(dict)
    for row in rows("prompts_math_multi"):
        out[row["meta"]["row"]][row["lang"]] = row["prompt"]
    parity = {"dev": (0,), "held": (1,), "both": (0, 1)}[half]
    return [texts for n, texts in sorted(out.items()) if len(texts) == 11 and n % 2 in parity]


def sentences(text: str, least: int = 5) -> list[str]:
    """Sentences of at least ``least`` words (of 3 × as many characters without spaces)."""
    parts = re.split(r"(?<=[.?!。？！।])\s*", text)
    return [p for p in parts if len(p.split()) >= least or len(p.encode()) > 6 * least > len(p) > 3]


def spliced(
    problems: list[dict[str, str]], host: str, guest: str, n: int, rng: random.Random, inside: int
) -> tuple[list[str], list[str]]:
    """Texts in ``host`` with a sentence (``inside`` words) of ``guest`` put in, and clean ones."""
    mixed, clean = [], []
    while len(mixed) < n:
        base = [row[host] for row in rng.sample(problems, 5)]
        guests = [row[guest] for row in problems if row[host] not in base]
        if inside:
            words = rng.choice(guests).split()
            place = rng.randrange(5)
            around = base[place].split()
            if len(words) < inside or len(around) < 8:
                continue
            start = rng.randrange(len(words) - inside + 1)
            at = rng.randrange(3, len(around) - 2)
            around[at:at] = words[start : start + inside]
            base[place] = " ".join(around)
        else:
            long = sentences(rng.choice(guests))
            if not long:
                continue
            base.insert(rng.randrange(6), rng.choice(long))
        mixed.append(rng.choice(["\n", " ", "\n\n"]).join(base))
        clean.append(rng.choice(["\n", " "]).join(r[host] for r in rng.sample(problems, 5)))
    return mixed, clean


def found(texts: list[str], prompt: list[str | None] | None = None) -> list[list[Any]]:
    given = prompt or [None] * len(texts)
    data = [(text, text, p, None) for text, p in zip(texts, given, strict=True)]
    frame = pl.DataFrame(data, dict.fromkeys(COLUMNS, pl.String), orient="row")
    return [json.loads(spans) for spans in language.score(frame)["mixed_spans"]]


def bench_spliced(half: str, seed: int, n: int, show: bool) -> None:
    problems = parallel(half)
    print(f"spliced, {len(problems)} problems of half {half!r}")
    kinds: dict[str, list[tuple[str, str]]] = {
        "other script, sentence": [
            (a, b)
            for a, b in itertools.permutations(LATIN + OTHER, 2)
            if not {a, b} <= set(LATIN) and not {a, b} <= {"zh", "ja"}
        ],
        "Chinese and Japanese": [("zh", "ja"), ("ja", "zh")],
        "same script, sentence": list(itertools.permutations(LATIN, 2)),
    }
    for name, pairs in kinds.items():
        _f1(name, problems, pairs, n, random.Random(seed), 0, show)
    for inside in (8, 6):
        pairs = kinds["same script, sentence"]
        _f1(
            f"same script, {inside} words inside",
            problems,
            pairs,
            n,
            random.Random(seed),
            inside,
            show,
        )


def _f1(
    name: str, problems: list[dict[str, str]], pairs: list[tuple[str, str]], n: int,
    rng: random.Random, inside: int, show: bool,
) -> None:  # fmt: skip
    hits = alarms = total = 0
    worst: list[tuple[float, str]] = []
    for host, guest in pairs:
        mixed, clean = spliced(problems, host, guest, n, rng, inside)
        mine = sum(map(bool, found(mixed)))
        hits, total = hits + mine, total + n
        for text, spans in zip(clean, found(clean), strict=True):
            alarms += bool(spans)
            if spans and show:
                print("     ", host, _around(text, spans[0]))
        worst.append((mine / n, f"{host}<{guest}"))
    f1 = 2 * hits / (hits + total + alarms)
    low = ", ".join(f"{pair} {share:.2f}" for share, pair in sorted(worst)[:4])
    print(
        f"  {name:32s} F1 {f1:.3f}  recall {hits / total:.3f}  alarms {alarms}/{total}  "
        f"lowest recall: {low}"
    )


def _around(text: str, span: list[Any]) -> str:
    begin, end, lang = span
    around = text[max(0, begin - 25) : begin] + "⟦" + text[begin:end] + "⟧"
    return f"{lang} {around + text[end : end + 25]!r}"[:230]


def clean_texts(n_each: int, rng: random.Random) -> dict[str, list[str]]:
    """Texts in one language by source; what is known to be mixed is left out."""
    mixed = {row["trace_id"] for row in rows("langmix_real")}
    out: dict[str, list[str]] = collections.defaultdict(list)
    for name in ("traces_misguided", "traces_farel", "traces_farel_pl", "traces_r1_math500",
                 "traces_misc"):  # fmt: skip
        for row in rows(name):
            text = row.get("raw") or f"{row.get('reasoning') or ''}\n{row.get('answer') or ''}"
            if row["id"] not in mixed:
                out[name].append(text)
    for name, field in (("logic_model_outputs", "output"), ("math_model_outputs", "output"),
                        ("prompts_gsm8k_train", "solution"), ("prompts_math_en", "solution"),
                        ("prompts_math_zh", "prompt"), ("prompts_math_multi", "prompt"),
                        ("readability_onestop", "text"), ("lang_sentences", "text"),
                        ("prompts_ifeval", "prompt")):  # fmt: skip
        texts = [row[field] for row in rows(name) if row.get(field)]
        out[name] = rng.sample(texts, min(n_each, len(texts)))
    bases = [t for t in out["traces_farel"] + out["math_model_outputs"] if ". " in t[200:-100]]
    for gloss in GLOSSES:
        for base in rng.sample(bases, 20):
            cut = base.find(". ", 200) + 2
            out["built glosses"].append(f"{base[:cut]}{gloss} {base[cut:]}")
    return out


def bench_clean(n_each: int, seed: int, show: bool) -> None:
    print("clean")
    total = alarms = 0
    for name, texts in clean_texts(n_each, random.Random(seed)).items():
        spans = found(texts)
        mine = [(t, s) for t, s in zip(texts, spans, strict=True) if s]
        total, alarms = total + len(texts), alarms + len(mine)
        print(f"  {name:24s} {len(mine):4d} / {len(texts)}")
        if show:
            for text, found_in in mine:
                for span in found_in[:3]:
                    print("     ", _around(text, span))
    print(f"  all: {alarms} / {total} = {alarms / total:.4f}")


def bench_real() -> None:
    print("real rows: spans expected, those hit, spans found besides (nature as labelled)")
    data = list(rows("langmix_real"))
    spans = found([row["reasoning"] for row in data], [row["prompt"] for row in data])
    for row, mine in zip(data, spans, strict=True):
        wanted = [(s[0], s[1]) if isinstance(s, list) else (s["start"], s["end"])
                  for s in row["spans"]]  # fmt: skip
        hit = sum(any(a < q and p < b for a, b, _ in mine) for p, q in wanted)
        extra = [m for m in mine if not any(m[0] < q and p < m[1] for p, q in wanted)]
        print(
            f"  {row['id']:18s} {row['main_lang']} < {row['intruding_lang']:6s} expected "
            f"{len(wanted):2d}  hit {hit:2d}  besides {len(extra):2d}  {row['nature']}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", default="held", choices=("dev", "held", "both"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=20, help="texts for each pair of languages")
    parser.add_argument("--clean", type=int, default=500, help="texts for each source, at most")
    parser.add_argument("--show", action="store_true", help="print every alarm")
    known = parser.parse_args()
    bench_spliced(known.half, known.seed, known.n, known.show)
    bench_clean(known.clean, known.seed, known.show)
    bench_real()


if __name__ == "__main__":
    main()
