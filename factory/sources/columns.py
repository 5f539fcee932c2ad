"""Rows to prompts, golds and completions, by the shape of their file."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from factory.records import Prompt, PromptSource, Trace, ids
from factory.sources import recognise
from factory.sources.exported import lifted
from factory.sources.plan import Found as Found
from factory.sources.plan import Plan
from factory.sources.plan import Wishes as Wishes
from factory.sources.recognise import Sample, Unknown, filled
from factory.sources.replies import Reply as Reply
from factory.sources.shape import Shape

Row = Mapping[str, Any]

MALFORMED = "_malformed"
"""Column of a row that could not be read: why."""


class Reader:
    """Reads the rows of one file.

    Args:
        sample: its first rows; they decide the shape.
        label: of the file, for messages.
        wishes: what the caller says.

    Raises:
        Unknown: no shape and no mapping explains the rows.
    """

    def __init__(self, sample: Sequence[Row], *, label: str, wishes: Wishes) -> None:
        self.label = label
        self._wishes = wishes
        if wishes.mapping:
            self.shape = recognise.with_mapping(
                wishes.mapping, sample, label=label, traces=wishes.traces, given=wishes.shape
            )
        else:
            self.shape = wishes.shape or recognise.recognised(
                sample, label=label, traces=wishes.traces
            )
        self._plan = Plan(self.shape, Sample(sample), wishes)
        self._others: dict[tuple[str, ...], Plan | None] = {}

    @property
    def reads(self) -> Mapping[str, tuple[str, ...]]:
        """Field → the paths that it is read from in this file."""
        return self._plan.reads

    def read(self, number: int, row: Row) -> Found:
        """Return what a row holds; a row that cannot be read says why."""
        if MALFORMED in row:
            return Found(why="malformed_row")
        found = self._plan.read(self.label, number, row)
        if found.why is None and (found.replies or not self._wishes.traces):
            return found
        # A file of several shapes: this row may have another.
        other = self._other(row)
        return found if other is None else other.read(self.label, number, row)

    def _other(self, row: Row) -> Plan | None:
        if self._wishes.mapping or self._wishes.shape:
            return None
        columns = tuple(sorted(c for c, v in row.items() if filled(v)))
        if columns not in self._others:
            try:
                one = recognise.recognised([row], label=self.label, traces=self._wishes.traces)
            except Unknown:
                self._others[columns] = None
            else:
                is_new = one != self.shape
                self._others[columns] = Plan(one, Sample([row]), self._wishes) if is_new else None
        return self._others[columns]


# ---- files of rows


def reading(
    rows: Iterable[tuple[str, int, Row]], wishes: Wishes
) -> Iterator[tuple[Reader, int, Row, Found]]:
    """Yield each row with its file's reader and what it holds; each file has its own shape.

    Args:
        rows: (label, row number, row), as the sources ``files`` and ``hub`` yield them.
        wishes: what the caller says of all rows.

    Raises:
        Unknown: a file's rows are explained by no shape and no mapping.
    """
    for label, group in itertools.groupby(rows, key=lambda row: row[0]):
        group = ((name, number, lifted(row)) for name, number, row in group)
        first = list(itertools.islice(group, recognise.SAMPLE_ROWS))
        sample = [row for _, _, row in first if MALFORMED not in row]
        if not sample:
            first_reader: Reader | None = None
            for _, number, row in itertools.chain(first, group):
                first_reader = first_reader or _no_reader(label, wishes)
                yield first_reader, number, row, Found(why="malformed_row")
            continue
        reader = Reader(sample, label=label, wishes=wishes)
        for _, number, row in itertools.chain(first, group):
            yield reader, number, row, reader.read(number, row)


def _no_reader(label: str, wishes: Wishes) -> Reader:
    nothing = Shape(name="no readable row", has=())
    return Reader([], label=label, wishes=Wishes(shape=nothing, source=wishes.source))


def pairs_of(
    rows: Iterable[tuple[str, int, Row]], wishes: Wishes, *, limit: int | None = None,
    nothing: Exception | None = None,
) -> Iterator[tuple[Prompt, PromptSource]]:  # fmt: skip
    """Yield the prompts of rows with where they come from, exact copies once.

    Args:
        rows: of one or more files or data sets.
        wishes: what the caller says of all rows.
        limit: at most so many prompts.
        nothing: raised where no row has a prompt.
    """
    seen: set[tuple[str, str | None, str]] = set()
    skipped: Counter[str] = Counter()
    for _, _, _, found in reading(rows, wishes):
        if found.prompt is None or found.source is None:
            skipped[found.why or "no_prompt"] += 1
            continue
        key = (found.source.prompt_id, found.source.gold, found.source.source)
        if key in seen:
            continue
        if limit is not None and len(seen) >= limit:
            return
        seen.add(key)
        yield found.prompt, found.source
    if not seen and nothing is not None:
        raise nothing


_IMPORTED = ids.key_of("imported")


def trace_of(prompt_id: str, reply: Reply, *, model: str, item: str) -> Trace:
    """Return an imported trace: a content hash stands for its sampling."""
    meta = {"item": item, **reply.meta}
    if reply.dialect is not None:
        meta["dialect"] = reply.dialect
    if reply.ending:
        meta["cut_tokens"] = list(reply.ending)
    return Trace(
        trace_id=ids.imported_trace_id(prompt_id=prompt_id, model=model, completion=reply.text),
        prompt_id=prompt_id,
        model=model,
        revision="imported",
        sampling_id=_IMPORTED,
        sample_index=0,
        completion=reply.text,
        finish_reason=reply.finish_reason or "imported",
        n_completion_tokens=reply.n_tokens,
        meta=orjson.dumps(meta, default=str, option=orjson.OPT_NON_STR_KEYS).decode(),
    )
