"""Review: what people say of traces, as facts that filters read.

A review is one more fact about a trace: ``keep``, ``drop``, ``wrong_verdict``, ``none`` (which
takes an earlier word back) or a note, with its author and time. ``wide`` shows the latest word on
each trace as ``review``, so that a recipe says ``review IS DISTINCT FROM 'drop'``. Nothing is
overwritten: whoever asks who said what when finds all of it in the table ``reviews``.

>>> import tempfile
>>> store = Store(tempfile.mkdtemp())
>>> with Reviewer(store, author="ada") as reviewer:
...     reviewer.add(["0" * 32], review="drop", note="the proof is circular")
1
>>> store.table("reviews").read()["review"].to_list()
['drop']
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl

from factory.errors import UsageError
from factory.records.ids import key_of
from factory.records.schemas import TABLES
from factory.rows import files
from factory.store import Store
from factory.store.log import SegmentWriter

WORDS = ("keep", "drop", "wrong_verdict", "none")
"""What a review may say; ``none`` takes back what was said before."""
NOTE_CHARS = 10_000
AUTHOR_CHARS = 120
_FIELDS = tuple(c for c in TABLES["reviews"].columns if c != "run_id")


class Reviewer:
    """Writes one person's reviews; each call of ``add`` is on disk when it returns.

    Args:
        store: whose traces are reviewed.
        author: who reviews.

    Raises:
        UsageError: no author, or a name that is too long.
    """

    def __init__(self, store: Store, *, author: str) -> None:
        self.store = store
        self.author = _checked("author", author.strip(), AUTHOR_CHARS)
        if not self.author:
            raise UsageError("a review needs its author", "give --author NAME")
        self._lock = threading.Lock()
        self._writer: SegmentWriter | None = None
        self._run_id = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(
        self, trace_ids: Sequence[str], *, review: str | None = None, note: str | None = None
    ) -> int:
        """Say one thing of some traces; return the number of facts.

        Args:
            trace_ids: keys; that they exist is for the caller to see.
            review: one of ``WORDS``; None leaves what was said before.
            note: free text; None leaves the earlier note, empty text removes it.

        Raises:
            UsageError: an unknown word, or neither a word nor a note.
        """
        rows = [
            _fact(key, review=review, note=note, author=self.author, created_at=_now())
            for key in trace_ids
        ]
        if rows:
            writer = self._opened()
            writer.append([{**row, "run_id": self._run_id} for row in rows])
        return len(rows)

    def _opened(self) -> SegmentWriter:
        """Return the segment; a run begins with its first review."""
        with self._lock:
            if self._writer is None:
                self._run_id = self.store.start_run("review", {"author": self.author})
                self._writer = self.store.table("reviews").writer(self._run_id)
            return self._writer

    def close(self) -> None:
        """Close the segment and record the end of the run; without a review there is none."""
        if self._writer is not None:
            n_rows = self._writer.n_rows
            self._writer.close()
            self._writer = None
            self.store.end_run(self._run_id, {"n_reviews": n_rows})


def export_reviews(store: Store, out: str) -> int:
    """Write all reviews, oldest first, one row per fact; return their number.

    Args:
        store: whose reviews.
        out: JSON Lines or Parquet, by its ending; ``-`` prints.
    """
    found = store.table("reviews").read(list(_FIELDS)).sort("created_at", "review_id")
    files.check_output(out)
    files.write_rows(out, [found.to_dicts()])
    return found.height


def import_reviews(store: Store, path: str) -> tuple[int, int]:
    """Take in reviews that ``export_reviews`` wrote; return how many are new and how many known.

    The key of a review is made of what it says, so a file that is read twice adds nothing.

    Raises:
        UsageError: a row that is no review; nothing is stored then.
    """
    rows = list(_read(path))
    if not rows:
        return 0, 0
    run_id = store.start_run("review", {"imported": Path(path).name})
    frame = pl.DataFrame(
        [{**row, "run_id": run_id} for row in rows], schema=TABLES["reviews"].polars_schema()
    )
    n_new = store.table("reviews").add(frame)
    store.end_run(run_id, {"n_reviews": n_new})
    return n_new, len(rows) - n_new


def _read(path: str) -> Iterator[dict[str, Any]]:
    files.check_input(path)
    for number, row in enumerate(files.read_rows(path), 1):
        where = f"{path} row {number}"
        if isinstance(row, files.Malformed):
            raise UsageError(f"{where}: {row.why}", "correct the file; nothing is stored")
        try:
            yield _fact(
                _text(row, "trace_id"), review=row.get("review"), note=row.get("note"),
                author=_text(row, "author"), created_at=_time(_text(row, "created_at")),
            )  # fmt: skip
        except UsageError as error:
            raise UsageError(f"{where}: {error}", "nothing is stored") from None


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"no {name}", "a review has trace_id, author, created_at")
    return value


def _time(text: str) -> str:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"created_at is {text[:40]!r}", "write it as ISO 8601") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.astimezone(datetime.UTC).isoformat(timespec="microseconds")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _checked(name: str, text: str, limit: int) -> str:
    if len(text) > limit:
        raise UsageError(f"{name} of {len(text):,} characters", f"at most {limit:,}")
    return text


def _fact(trace_id: str, *, review: Any, note: Any, author: str, created_at: str) -> dict[str, Any]:
    """Return one row of the table, its key made of all that it says."""
    if review is not None and review not in WORDS:
        raise UsageError(f"review {str(review)[:40]!r}", f"one of {', '.join(WORDS)}")
    if note is not None and not isinstance(note, str):
        raise UsageError("the note is no text", "write it as text")
    if review is None and note is None:
        raise UsageError("neither a review nor a note", f"say {', '.join(WORDS)} or give a note")
    said = {
        "trace_id": trace_id,
        "review": review,
        "note": None if note is None else _checked("note", note, NOTE_CHARS),
        "author": _checked("author", author, AUTHOR_CHARS),
        "created_at": created_at,
    }
    row = {"review_id": key_of(said), **said}
    misfit = TABLES["reviews"].misfit([row])
    if misfit is not None or len(trace_id) != 32:
        raise UsageError(f"{trace_id[:40]!r} is no trace", "a trace_id has 32 hexadecimal digits")
    return row
