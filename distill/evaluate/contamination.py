"""Which problems of a benchmark stand in the data that a model was trained on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

CHUNK = 2000


@dataclass(frozen=True)
class Contamination:
    """What of a benchmark stands in training data.

    Attributes:
        data: the file or folder.
        n_rows: its rows; ``n_rows_hit``: those that share an n-gram with a problem.
        prompts: prompt_id of the problems that share one with a row.
    """

    data: str
    n_rows: int
    n_rows_hit: int
    prompts: frozenset[str]

    def line(self, n_prompts: int) -> str:
        """Return it as text."""
        return (
            f"{len(self.prompts)} of {n_prompts} problems share a 10-gram with "
            f"{self.n_rows_hit:,} of {self.n_rows:,} rows of {self.data}"
        )


def contamination(data: str, problems: Mapping[str, str], *, ngram: int = 10) -> Contamination:
    """Look for problems in training data, both ways round.

    Args:
        data: file, folder (a release) or pattern; every text of a row counts.
        problems: prompt_id → the bare question.
        ngram: words that must run alike (DeepSeek-R1: 10).

    Raises:
        UsageError: the data cannot be read.
    """
    from factory.stages.overlap import HEAD_ROWS, OverlapCheck

    rows = _rows(data)
    head = list(itertools.islice(rows, HEAD_ROWS))
    checker = OverlapCheck({"benchmark": list(problems.values())}, head, ngram=ngram)
    n_rows, hits = 0, []
    every = itertools.chain(head, rows)
    while chunk := list(itertools.islice(every, CHUNK)):
        n_rows += len(chunk)
        found = checker.check(chunk)["is_contaminated"].fill_null(False).to_list()
        hits += [row for row, is_hit in zip(chunk, found, strict=True) if is_hit]
    if not hits:
        return Contamination(data, n_rows, 0, frozenset())
    # The rows that were hit say which problems they hold: a check tells the first match alone.
    texts = [[text] for text in problems.values()]
    back = OverlapCheck({"rows": [t for row in hits for t in row if t]}, texts, ngram=ngram)
    flags = back.check(texts)["is_contaminated"].fill_null(False).to_list()
    which = frozenset(p for p, flag in zip(problems, flags, strict=True) if flag)
    return Contamination(data, n_rows, len(hits), which)


def _rows(data: str) -> Iterator[list[str]]:
    from factory.rows import files
    from factory.stages.overlap import texts_of_row

    for path in files.expanded([data]):
        for row in files.read_rows(path):
            if isinstance(row, dict):
                yield texts_of_row(row)
