"""Benchmarks, one small file each: where the rows lie, how they are asked, and how often.

A file defines ``BENCHMARK``. Nothing is bundled: rows come from the hub by name and revision, or
from a local file or folder of the same shape (``factory.sources.benchmark``). ``NOT_OFFERED`` names
what DeepSeek-R1's tables hold and this does not run, each with the reason.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.errors import UsageError

Row = Mapping[str, Any]

MAX_TOKENS = 32_768
"""Of every benchmark in the paper, with temperature 0.6 and top-p 0.95 (v2, D.1)."""


class LeftOut(Exception):
    """A row that is no question of the benchmark, with the reason: it is counted and said."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a row asks, before a template puts the instructions around it.

    Attributes:
        text: the question with its options, nothing else: what decontamination looks for.
        gold: answer key or tests.
        verifier: None where a judge has to compare with the gold.
        options: of the verifier; the template adds those that fit what it asks for.
        also: texts that decontamination looks for as well (a reference solution).
    """

    text: str
    gold: str
    verifier: str | None
    options: Mapping[str, Any] = field(default_factory=dict)
    item: str | None = None
    domain: str | None = None
    level: str | None = None
    language: str = "en"
    also: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Where a benchmark lies and how its rows are read.

    Attributes:
        about: what it is, in a line.
        dataset: name on the hub.
        read: row, seed of the order of options → question; may raise ``LeftOut``.
        template: prompt template by name; the paper's words where they are known.
        k: samples per prompt.
        licence: of the data, as its page says.
        config: configuration names; several are read one after the other.
        split: its split.
        revision: commit, tag or branch; the commit that was read is part of every source's name.
        files: release → files of the data set, where it can only be read by file.
        release: the one that is read where nobody says another.
        of_paper: whether DeepSeek-R1's tables hold it; ``k_of_paper``: whether k is theirs (v2,
            D.1 gives AIME and GPQA 64, MATH and Codeforces 16, LiveCodeBench 8) or ours by size.
        headline: what is reported: ``pass@1``, or ``reward`` where the verdict is graded (F1).
        has_options: whether the order of options depends on the seed.
        needs_judge: whether answers are judged (``factory judge``) and not verified.
        day: row → ISO date, where problems have one.
    """

    about: str
    dataset: str
    read: Callable[[Row, int], Question]
    template: str
    k: int
    licence: str
    config: tuple[str | None, ...] = (None,)
    split: str = "test"
    revision: str | None = None
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    release: str | None = None
    of_paper: bool = False
    k_of_paper: bool = False
    headline: str = "pass@1"
    has_options: bool = False
    needs_judge: bool = False
    day: Callable[[Row], str | None] | None = None


NOT_OFFERED = {
    "alpaca-eval-2": "pairs for a judge of its own (GPT-4-Turbo against its own answers): "
    "`distill winrate` computes win rates from recorded judgements",
    "arena-hard": "pairs for a judge of its own, as AlpacaEval 2; `distill winrate` on judgements",
    "swe-verified": "needs a container per repository and an agent that edits files",
    "aider-polyglot": "needs Aider's own edit loop and the tool chains of six languages",
    "frames": "needs retrieval over Wikipedia and a judge; without it a number would be another's",
}
"""Benchmarks of the paper that do not run here → why."""


def names() -> list[str]:
    """Return the benchmarks that come with the factory.

    >>> "gpqa-diamond" in names()
    True
    """
    found = Path(__file__).parent.glob("[!_]*.py")
    return sorted(p.stem.replace("_", "-") for p in found if p.stem != "readers")


@functools.cache
def load(name: str) -> Benchmark:
    """Return a benchmark by name.

    Raises:
        UsageError: there is none, or it is not offered; the message says why.
    """
    if name in NOT_OFFERED:
        raise UsageError(f"benchmark {name!r} is not offered", NOT_OFFERED[name])
    if name not in names():
        raise UsageError(f"unknown benchmark {name!r}", f"known: {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    made: Benchmark = module.BENCHMARK
    return made
