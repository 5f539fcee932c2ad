"""Math verdicts per second of CPU beside math-verify, in one process, sides alternated.

    python tests/bench/bench_math.py [--data ../shared/data] [--n 300] [--sets latex]

Distinct (gold, answer) pairs. "no memo" clears our cache of parsed golds before every pair. Both
sides run in this process, math-verify with its own timers on (it would hang without), ours with
its last step as a pool worker would run it. Golds are parsed each time on both sides.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import resource
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from factory.records import Item
from factory.verifiers import math as ours
from factory.verifiers.math.text import without_delimiters


class Pair(NamedTuple):
    gold: str
    text: str
    label: bool


def rows(data: Path, name: str) -> list[dict]:
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def gsm8k(data: Path, n: int) -> list[Pair]:
    sources = ("openai/grade-school-math", "qtli/GSM-Plus")
    found = [
        Pair(r["gold"], f"So the answer is \\boxed{{{r['pred']}}}.", r["label"])
        for r in rows(data, "math_model_outputs")
        if r["source"] in sources and r["label"] is not None and r["pred"]
    ]
    return distinct(found, n)


def math_outputs(data: Path, n: int) -> list[Pair]:
    sources = ("QwenLM/Qwen2.5-Math", "rasbt/reasoning-from-scratch")
    found = [
        Pair(r["gold"], r["output"], r["label"])
        for r in rows(data, "math_model_outputs")
        if r["source"] in sources and r["label"] is not None
    ]
    return distinct(found, n)


def hard_latex(data: Path, n: int) -> list[Pair]:
    """Golds beyond plain numbers: respelled, rewritten, and another problem's gold."""
    names = ("olympiadbench", "minerva_math", "gaokao2023en", "math500", "olymmath", "gaokao_math")
    golds = sorted(
        {
            without_delimiters(str(r["gold"]))
            for f in ("prompts_math_en", "prompts_math_zh")
            for r in rows(data, f)
            if r["benchmark"].startswith(names) and re.search(r"\\[a-z]", str(r["gold"]))
        }
    )
    golds = [g for g in golds if "$" not in g and "boxed" not in g and len(g) < 200]
    rng = random.Random(0)
    out = []
    for i in range(n):
        gold = golds[i % len(golds)] if i < len(golds) else rng.choice(golds)
        if i % 3 == 0:
            other, label = respelled(gold), True
        elif i % 3 == 1:
            other, label = rewritten(gold), True
        else:
            other, label = rng.choice([g for g in golds if g != gold]), False
        out.append(Pair(gold, f"\\boxed{{{other}}}", label))
    return distinct(out, n)


def respelled(gold: str) -> str:
    """Spell a gold as another author would."""
    text = gold.replace("\\frac", "\\dfrac").replace("(", "\\left(").replace(")", "\\right)")
    return text.replace("+", " + ").replace("=", " = ")


def rewritten(gold: str) -> str:
    """Write fractions with a slash and roots as powers, so that no text comparison can tell."""
    text = re.sub(r"\\frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}", r"((\1)/(\2))", gold)
    return re.sub(r"\\sqrt\s*\{([^{}]+)\}", r"(\1)^{1/2}", text)


def distinct(pairs: list[Pair], n: int) -> list[Pair]:
    return list({(p.gold, p.text): p for p in pairs}.values())[:n]


def cpu() -> float:
    """Return CPU seconds of this process and its ended children (the last step runs in a fork)."""
    own, below = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--sets", default="gsm8k,math outputs,latex", help="comma-separated")
    arguments = parser.parse_args()
    from math_verify import parse
    from math_verify import verify as equal

    def theirs(pair: Pair) -> bool:
        return bool(equal(parse(f"${pair.gold}$"), parse(pair.text)))

    steps: dict[str, int] = {}

    def mine(pair: Pair) -> bool:
        item = Item(text=pair.text, gold=pair.gold)
        return (ours.quick(item) or ours.verify(item)).status == "pass"

    def step(pair: Pair) -> None:
        item = Item(text=pair.text, gold=pair.gold)
        name = (ours.quick(item) or ours.verify(item)).decided_by or "-"
        steps[name] = steps.get(name, 0) + 1

    def cold(pair: Pair) -> bool:
        ours.clear_caches()
        return mine(pair)

    print(f"{'set':14} {'side':18} {'pairs/s':>9} {'p50 us':>9} {'p99 us':>9} {'ratio':>7} agree")
    for name, make in (("gsm8k", gsm8k), ("math outputs", math_outputs), ("latex", hard_latex)):
        if name not in arguments.sets.split(","):
            continue
        pairs = make(arguments.data, arguments.n)
        for pair in pairs[:20]:  # ANTLR and regex caches warm on both sides
            theirs(pair)
            mine(pair)
        times: dict[str, list[float]] = {"math-verify": [], "ours, no memo": [], "ours": []}
        agree = dict.fromkeys(times, 0)
        steps.clear()
        repeat = 50  # one getrusage tick is longer than one of our verdicts
        for pair in pairs:
            step(pair)
            begun = cpu()
            agree["math-verify"] += theirs(pair) == pair.label
            times["math-verify"].append(cpu() - begun)
            for side, function in (("ours, no memo", cold), ("ours", mine)):
                begun = cpu()
                verdict = function(pair)
                spent = cpu() - begun
                if spent < 2e-3:
                    begun = cpu()
                    for _ in range(repeat):
                        function(pair)
                    spent = (cpu() - begun) / repeat
                times[side].append(spent)
                agree[side] += verdict == pair.label
        base = sum(times["math-verify"])
        for side, spent in times.items():
            ordered = sorted(spent)
            total = sum(spent)
            print(
                f"{name:14} {side:18} {len(pairs) / total:9.0f} "
                f"{statistics.median(ordered) * 1e6:9.1f} "
                f"{ordered[int(0.99 * (len(ordered) - 1))] * 1e6:9.1f} "
                f"{base / total:7.1f} {agree[side] / len(pairs):.4f}"
            )
        n_steps = sum(steps.values())
        share = 1 - steps.get("sympy", 0) / n_steps
        print(f"{'':14} settled without sympy: {share:.1%} of {len(pairs)} pairs; steps {steps}")


if __name__ == "__main__":
    main()
