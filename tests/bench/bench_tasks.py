"""Every reasoning-gym task: do its golds pass the ``logic`` verifier, and do other golds fail?

For each task, items are made by the procedural source. Each gold must pass, written as an answer
would be, in both modes; the gold of another item must not, nor may an empty answer, a word, or
every number be right. A different gold that passes is not always a fault: a task may have many
right answers, and where another item's answer is one of them, it is said to be right by its scorer.

    python -m tests.bench.bench_tasks [--n 6] [--tasks countdown,puzzle24]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any, NamedTuple

from factory.records import Item
from factory.sources import procedural
from factory.verifiers import logic
from factory.verifiers.logic import tasks

JUNK = ("none", "0", "1", "qqq", "[]", "True", "[[0]]", "{}")


class Row(NamedTuple):
    """What was found of one task, in numbers of items and of pairs of items."""

    task: str
    n: int
    n_bad: int
    """Golds that their verifier refuses (premises that contradict); counted in no other column."""
    n_own: int
    """Own golds that pass, of those that name an answer."""
    n_without: int
    """Items whose gold names no answer."""
    n_pairs: int
    n_other: int
    """Golds of other items (of another text) that pass."""
    n_junk: int
    """Of eight answers that are no answer, how many pass at more than half of the items."""
    slowest_s: float


def task_names() -> list[str]:
    """Return the names of all tasks that a text can be asked of and a text can answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import reasoning_gym  # noqa: F401 - fills the table of its tasks
        from reasoning_gym.factory import DATASETS

    return sorted(set(DATASETS) - {"composite"})


def golds_of(task: str, n: int) -> list[dict[str, Any]]:
    return [json.loads(str(s.gold)) for _, s in procedural.prompts(task, n=n, seed=0)]


def passes(answer: str, gold: dict[str, Any]) -> bool:
    """Judge one answer in a box; a tag holds it where its own braces would break a box."""
    verdict = logic.verify(Item(text=f"\\boxed{{{answer}}}", gold=gold))
    tagged = logic.verify(Item(text=f"<answer>{answer}</answer>", gold=gold), mode="auto")
    return verdict.status == "pass" or tagged.status == "pass"


def measure(task: str, n: int) -> Row:
    golds = golds_of(task, n)
    if len({tasks.example_of(gold) for gold in golds}) == 1:  # yes or no: more are needed
        golds = golds_of(task, 6 * n)
    sound = [gold for gold in golds if tasks.fault_of(json.dumps(gold)) is None]
    n_bad = len(golds) - len(sound)
    golds = sound
    answers = [tasks.example_of(gold) for gold in golds]
    known = [(g, a) for g, a in zip(golds, answers, strict=True) if a is not None]
    slowest = 0.0
    n_own = 0
    for gold, _ in known:
        begun = time.monotonic()
        n_own += logic.verify(Item(text=logic.as_completion(gold), gold=gold)).status == "pass"
        slowest = max(slowest, time.monotonic() - begun)
    pairs = [(g, other) for g, a in known for _, other in known if other != a]
    n_other = sum(passes(other, gold) for gold, other in pairs)
    junk = [j for j in JUNK if all(j.lower() != (a or "").strip().lower() for a in answers)]
    n_junk = sum(2 * sum(passes(j, gold) for gold in golds) > len(golds) for j in junk)
    return Row(
        task,
        len(golds),
        n_bad,
        n_own,
        len(golds) - len(known),
        len(pairs),
        n_other,
        n_junk,
        slowest,
    )


def main() -> None:
    """Print the table and its sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=6)
    parser.add_argument("--tasks", default="", help="comma-separated; default: all")
    arguments = parser.parse_args()
    names = arguments.tasks.split(",") if arguments.tasks else task_names()
    heads = ("bad", "own", "without", "other", "junk", "slowest s")
    print(f"{'task':28}" + "".join(f"{head:>10}" for head in heads))
    rows = []
    for name in names:
        row = measure(name, arguments.n)
        rows.append(row)
        own, other = f"{row.n_own}/{row.n - row.n_without}", f"{row.n_other}/{row.n_pairs}"
        cells = (row.n_bad, own, row.n_without, other, row.n_junk, f"{row.slowest_s:.2f}")
        print(f"{name:28}" + "".join(f"{cell:>10}" for cell in cells), flush=True)
    n_known = sum(r.n - r.n_without for r in rows)
    print(
        f"{len(rows)} tasks: bad golds {sum(r.n_bad for r in rows)}, "
        f"own {sum(r.n_own for r in rows)} of {n_known}, "
        f"other {sum(r.n_other for r in rows)} of {sum(r.n_pairs for r in rows)}, "
        f"junk {sum(r.n_junk for r in rows)}"
    )


if __name__ == "__main__":
    main()
