"""What the verbs on plain files share: the tally of rows, refusals, batches side by side."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from factory.cli.printing import Counting
from factory.errors import UsageError, listed
from factory.rows import files
from factory.rows.files import Malformed, Row

A = TypeVar("A", bound=Sized)
B = TypeVar("B")
Batch = list[Row | Malformed]
_NOTES = 3


@dataclass
class Tally:
    """What happened to the rows; decides the exit status.

    Attributes:
        rows: rows read.
        counts: outcome → rows.
        reasons: why rows have no verdict → rows.
        unhandled: malformed rows, and those that failed through our own fault.
        notes: why the first malformed lines could not be read.
    """

    rows: int = 0
    unhandled: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: str, *, unhandled: bool, reason: str | None = None) -> None:
        """Count one row; batches are handled by several threads."""
        with self._lock:
            self.rows += 1
            self.counts[outcome] += 1
            self.unhandled += unhandled
            if reason is not None:
                self.reasons[reason.partition(":")[0]] += 1

    def add_malformed(self, row: Malformed, outcome: str = "malformed") -> None:
        """Count a row that could not be read; why is noted for the first few."""
        self.add(outcome, unhandled=True)
        with self._lock:
            if len(self.notes) < _NOTES:
                self.notes.append(f"line {row.line}: {row.why}")

    @property
    def exit_code(self) -> int:
        """0 when every row was handled, else 1."""
        return 1 if self.unhandled else 0

    def line(self) -> str:
        """Return one line for the user."""
        parts = ", ".join(f"{n} {name}" for name, n in self.counts.most_common())
        if self.reasons:
            parts += "; unscored for " + ", ".join(
                f"{reason} ({n})" for reason, n in self.reasons.most_common(_NOTES)
            )
        why = f" ({'; '.join(self.notes)})" if self.notes else ""
        return f"{self.rows} rows: {parts or 'nothing to do'}{why}"


def check_paths(source: str, out: str) -> None:
    """Refuse paths that cannot be read or written, before any work."""
    files.check_input(source)
    files.check_output(out)
    if source == out and source != "-":
        raise UsageError(f"{source!r} is both input and output", "give another --out")


def refuse_unread(mapping: Mapping[str, str], reads: Iterable[str]) -> None:
    """Refuse a mapped name that nothing reads: a slip of the pen would change nothing, silently."""
    if unread := sorted(set(mapping) - set(reads)):
        raise UsageError(
            f"--map {unread[0]}={mapping[unread[0]]}: nothing reads {', '.join(unread)}",
            f"names that are read: {', '.join(sorted(reads))}",
        )


def refuse_collision(batch: Batch, columns: Sequence[str]) -> None:
    """Refuse an input that already has a column that would be written."""
    for row in batch:
        if isinstance(row, dict):
            taken = [c for c in columns if c in row]
            if taken:
                raise UsageError(
                    f"the input already has {', '.join(taken)}",
                    "give --prefix P for the new columns",
                )


def need_completion(
    batches: Iterator[Batch], mapping: Mapping[str, str], also: str | None = None
) -> Iterator[Batch]:
    """Refuse a file whose first rows have nothing to read: the mapping is missing or wrong."""
    for number, batch in enumerate(batches):
        rows = [r for r in batch if isinstance(r, dict)]
        if number == 0 and rows:
            names = {"completion", *([also] if also else [])}
            views = [files.map_columns(row, mapping) for row in rows]
            have = {name for view in views for name in view}
            have |= {"completion" for view in views if files.completion_of(view) is not None}
            absent = sorted(
                text
                for name, text in mapping.items()
                if all(text not in r for r in rows) and all(v.get(name) is None for v in views)
            )
            if absent or not names & have:
                raise UsageError(
                    f"no column {', '.join(absent) or 'completion'!r} in the input",
                    f"it has {listed(sorted(rows[0]))}: use --map completion=COLUMN; "
                    "`factory inspect` shows what an import would read",
                )
        yield batch


def ordered(batches: Iterable[A], handle: Callable[[A], B], *, depth: int) -> Iterator[B]:
    """Yield ``handle(batch)`` in order, with up to ``depth`` batches under way at once.

    So that one slow item at the end of a batch leaves no worker idle. How far it is, is shown.
    """
    pending: deque[Future[B]] = deque()
    done = 0
    with ThreadPoolExecutor(depth) as executor, Counting() as counting:
        try:
            for batch in batches:
                pending.append(executor.submit(handle, batch))
                if len(pending) >= depth:
                    yield pending.popleft().result()
                done += len(batch)
                counting("rows", done)
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
