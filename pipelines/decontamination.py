"""Every training set of a recipe is kept clear of every benchmark that the recipe evaluates on.

A prompt or a row goes that shares a run of words with a benchmark's question or reference solution
(DeepSeek-R1 v2, D.1: ten words), before anything is sampled; what is made later is looked through
once more before it is trained on. What went, and by which benchmark, is in the report.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field

from factory.cli.common import say
from factory.config import Config
from factory.stages.overlap import HEAD_ROWS, OverlapCheck, benchmark_items, texts_of_row
from factory.store.durable import write_json
from pipelines.common import Pair

_DATES = ("date", "contest_date", "release_date", "published", "created_at")


class Decontamination(Config):
    """How training sets are kept clear of benchmarks.

    Attributes:
        ngram: words that must run alike.
        against: benchmarks beside the recipe's own ``dev`` and ``eval``: files, or
            ``benchmark:NAME``.
        before: day, YYYY-MM-DD: prompts whose source dates them on it or later are left out, too;
            prompts without a date stay, and are counted.
    """

    ngram: int = Field(default=10, ge=5)
    against: tuple[str, ...] = ()
    before: date | None = None


@dataclasses.dataclass(frozen=True)
class Cleared:
    """What was done to one training set.

    Attributes:
        name: of the set.
        n_before: its rows.
        by_benchmark: benchmark → rows that hold a part of it; one row may hold parts of several.
        n_contaminated: rows that went for it.
        n_late: rows that went for their date.
        n_undated: rows that stayed without one, where there is a rule about dates.
        examples: of the matches, at most five: benchmark, item and the words.
    """

    name: str
    n_before: int
    by_benchmark: Mapping[str, int]
    n_contaminated: int
    n_late: int
    n_undated: int
    examples: Sequence[Mapping[str, Any]]

    def line(self) -> str:
        """Return it as one line."""
        by = ", ".join(f"{n} of {name}" for name, n in self.by_benchmark.items()) or "none"
        late = f"; {self.n_late} dated too late, {self.n_undated} without a date stay"
        return (
            f"{self.name}: {self.n_contaminated} of {self.n_before} rows hold a part of a "
            f"benchmark ({by})" + (late if self.n_late or self.n_undated else "")
        )


class Guard:
    """Keeps a recipe's training sets clear of its benchmarks.

    Args:
        values: of the recipe.
        evaluated: name → prompts that the recipe evaluates on.
        folder: where what was found is kept, a file for each set.
    """

    def __init__(
        self, values: Decontamination, evaluated: Mapping[str, Sequence[Pair]], *, folder: Path
    ) -> None:
        self.values, self.folder = values, folder
        self.items = {name: [p.text for p, _ in pairs] for name, pairs in evaluated.items()}
        for name in values.against:
            self.items[name] = benchmark_items(name, ngram=values.ngram)

    def pairs(self, name: str, pairs: Sequence[Pair]) -> list[Pair]:
        """Return the prompts that hold no part of a benchmark and are not too late."""
        texts = [[str(m["content"]) for m in p.messages] for p, _ in pairs]
        dates = [_date_of(s.meta) for _, s in pairs]
        keep = self._clear(name, texts, dates)
        return [pair for pair, kept in zip(pairs, keep, strict=True) if kept]

    def rows(self, path: Path) -> Path:
        """Rewrite a file of training rows without those that hold a part of a benchmark."""
        lines = path.read_text(encoding="utf-8").splitlines()
        texts = [texts_of_row(json.loads(line)) for line in lines]
        keep = self._clear(path.stem, texts, [None] * len(lines))
        if not all(keep):
            kept = [line + "\n" for line, is_kept in zip(lines, keep, strict=True) if is_kept]
            path.write_text("".join(kept), encoding="utf-8")
        return path

    def _clear(
        self, name: str, texts: Sequence[Sequence[str]], dates: Sequence[date | None]
    ) -> list[bool]:
        checker = OverlapCheck(self.items, texts[:HEAD_ROWS], ngram=self.values.ngram)
        found = checker.check(texts)
        bad = found["is_contaminated"].fill_null(False).to_list()
        before = self.values.before
        late = [before is not None and d is not None and d >= before for d in dates]
        by = Counter(n for names in found["contaminated_by"].to_list() for n in names or [])
        examples = [row for row in found.iter_rows(named=True) if row["is_contaminated"]][:5]
        cleared = Cleared(
            name=name, n_before=len(texts), by_benchmark=dict(by.most_common()),
            n_contaminated=sum(bad), n_late=sum(late), examples=examples,
            n_undated=0 if before is None else sum(d is None for d in dates),
        )  # fmt: skip
        say(f"  decontamination: {cleared.line()}")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{name}.json", dataclasses.asdict(cleared))
        return [not (b or is_late) for b, is_late in zip(bad, late, strict=True)]


def _date_of(meta: Mapping[str, Any]) -> date | None:
    for name in _DATES:
        try:
            return date.fromisoformat(str(meta.get(name))[:10])
        except ValueError:
            continue
    return None


def report_lines(folder: Path) -> Iterator[str]:
    """Yield what was found in each training set, for the report; nothing where nothing was asked.

    Args:
        folder: of ``Guard``.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        return
    yield from ("", "## Decontamination", "")
    for file in files:
        cleared = Cleared(**json.loads(file.read_text(encoding="utf-8")))
        yield f"- {cleared.line()}"
        for row in cleared.examples:
            yield (
                f"  - {', '.join(row['contaminated_by'])}, item {row['contaminated_item']}: "
                f"“{row['matched_ngram']}”"
            )
