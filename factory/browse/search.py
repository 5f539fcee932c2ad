"""Search in texts: a scan of the store's files, a stretch at a time, that stops when nobody asks.

There is no index: a store grows while it is looked at, and what is searched for once is seldom
searched for again. Each request scans for a fraction of a second from a place that its address
names, returns what it found, and the place to go on from. The page asks for the next stretch only
while it is open; a search that nobody waits for costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from factory.browse.database import Database
from factory.browse.traces import condition_of
from factory.browse.view import View
from factory.dialects import split
from factory.errors import UsageError
from factory.records.text import trace_text

STRETCH_S = 0.35
HITS = 50
MAX_CHARS = 200
AROUND = 90
Where = Literal["all", "answers"]
Numbers = npt.NDArray[np.int64]
_DIGITS = 15


@dataclass(frozen=True)
class Place:
    """Where a search goes on: files of prompts come first, then those of traces.

    Attributes:
        file: number of the file, prompts and traces counted through.
        group: number of the row group in it.
        skip: hits of that group that were given before.
        n_bytes: text that was looked at so far.
    """

    file: int = 0
    group: int = 0
    skip: int = 0
    n_bytes: int = 0

    @classmethod
    def read(cls, text: str) -> Place:
        """Read what ``str`` wrote.

        Raises:
            UsageError: it is no place.
        """
        parts = text.split("-") if text else ["0"] * 4
        if len(parts) != 4 or not all(p.isdecimal() and len(p) < 20 for p in parts):
            raise UsageError("the address does not say where the search goes on", "search again")
        return cls(*map(int, parts))

    def __str__(self) -> str:
        return f"{self.file}-{self.group}-{self.skip}-{self.n_bytes}"


@dataclass(frozen=True)
class Keys:
    """Which traces and prompts a view has: the first digits of their keys, as sorted numbers.

    Sixty bits each: among ten million keys the odds of taking one for another are one in ten
    thousand, for an eighth of the memory and a fiftieth of the time of whole ones.
    """

    traces: Numbers
    prompts: Numbers


@dataclass(frozen=True)
class Found:
    """What a stretch of a search found.

    Attributes:
        hits: ``trace_id``, ``part`` (prompt, answer, thinking), ``before``, ``match``, ``after``.
        place: where to go on; None at the end.
        done: fraction of the files that was looked at.
        n_bytes: text that was looked at so far.
        seconds: that this stretch took.
    """

    hits: list[dict[str, Any]]
    place: Place | None
    done: float
    n_bytes: int
    seconds: float


def search(
    db: Database,
    view: View,
    text: str,
    *,
    place: Place,
    where: Where = "all",
    any_case: bool = True,
    stretch_s: float = STRETCH_S,
) -> Found:
    """Search from a place on, for a while or until there is a page of hits.

    Args:
        db: the catalog.
        view: traces to search among.
        text: what is searched for, letter by letter.
        place: where to begin.
        where: ``answers`` leaves out what stands in the thinking alone.
        any_case: whether upper and lower case are one.
        stretch_s: seconds after which it comes back.

    Raises:
        UsageError: nothing to search for, or too much.
    """
    if not text.strip() or len(text) > MAX_CHARS:
        raise UsageError("nothing to search for" if not text.strip() else "too much to search for",
                         f"give 1 to {MAX_CHARS} characters")  # fmt: skip
    begun = time.perf_counter()
    files = [*db.prompt_parts, *db.trace_parts]
    keys = _keys(db, view)
    seen_bytes = place.n_bytes
    hits: list[dict[str, Any]] = []
    at: Place | None = place
    for number, group, n_groups in _groups(files, place):
        is_prompt = number < len(db.prompt_parts)
        found, n_bytes = _scan(
            files[number], group, text, keys, is_prompt=is_prompt, where=where, any_case=any_case
        )
        skip = place.skip if (number, group) == (place.file, place.group) else 0
        room = HITS - len(hits)
        fresh = found[skip:]
        hits += fresh[:room]
        if len(fresh) > room:  # the rest of this group is the next page
            at = Place(number, group, skip + room, seen_bytes)
            break
        seen_bytes += n_bytes
        last = group + 1 == n_groups
        at = Place(number + 1 if last else number, 0 if last else group + 1, 0, seen_bytes)
        if len(hits) >= HITS or time.perf_counter() - begun > stretch_s:
            break
    if at is None or at.file >= len(files):
        at = None
    done = 1.0 if at is None else at.file / max(1, len(files))
    return Found(hits, at, done, seen_bytes, time.perf_counter() - begun)


def _groups(files: list[Path], place: Place) -> Iterator[tuple[int, int, int]]:
    for number in range(place.file, len(files)):
        n_groups = pq.read_metadata(files[number]).num_row_groups
        for group in range(place.group if number == place.file else 0, n_groups):
            yield number, group, n_groups


def _keys(db: Database, view: View) -> Keys | None:
    """Return the keys of a view as sorted numbers; None: all of them. The last few are kept."""
    condition = condition_of(db, view)
    if condition == "true":
        return None
    name = f"{db.generation} {db.n_said} {condition}"
    keys: Keys | None = db.kept.get(name)
    if keys is None:
        rows = f"{db.wide_cte()}SELECT DISTINCT {{0}} FROM wide WHERE {condition} ORDER BY 1"

        def read(column: str) -> Numbers:
            number = f"('0x' || left({column}, {_DIGITS}))::BIGINT"
            found = db.using(lambda con: con.execute(rows.format(number)).fetchnumpy())
            return np.asarray(next(iter(found.values())), np.int64)

        while len(db.kept) > 3:
            db.kept.pop(next(iter(db.kept)), None)
        keys = db.kept[name] = Keys(read("trace_id"), read("prompt_id"))
    return keys


def _scan(
    path: Path,
    group: int,
    text: str,
    keys: Keys | None,
    *,
    is_prompt: bool,
    where: Where,
    any_case: bool,
) -> tuple[list[dict[str, Any]], int]:
    """Search one row group; return its hits and the bytes of text in it."""
    key = "prompt_id" if is_prompt else "trace_id"
    column = "text" if is_prompt else "completion"
    wanted = [key, column] if is_prompt else [key, "prefill", column]
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    table = file.read_row_group(group, columns=[key, column], use_threads=False)
    frame = pl.DataFrame(table)
    n_bytes = int(frame[column].str.len_bytes().sum() or 0)
    if any_case:
        matches = pl.col(column).str.contains_any([text], ascii_case_insensitive=True)
    else:
        matches = pl.col(column).str.contains(text, literal=True)
    frame = frame.with_row_index("_row").filter(matches.fill_null(False))
    if keys is not None and not frame.is_empty():
        known = keys.prompts if is_prompt else keys.traces
        numbers = frame[key].str.slice(0, _DIGITS).str.to_integer(base=16).to_numpy()
        at = np.searchsorted(known, numbers)
        frame = frame.filter(
            pl.Series(known.take(at, mode="clip") == numbers) if len(known) else False
        )
    if frame.is_empty():
        return [], n_bytes
    if "prefill" in wanted and "prefill" in names:
        prefills = file.read_row_group(group, columns=["prefill"], use_threads=False)
        prefill = pl.Series(prefills["prefill"])[frame["_row"]]
        frame = frame.with_columns(prefill.alias("prefill"))
    hits = [_hit(row, text, is_prompt, any_case) for row in frame.iter_rows(named=True)]
    if where == "answers":
        hits = [h for h in hits if h["part"] != "thinking"]
    # Within a stretch what stands in answers comes first: thinking says everything somewhere.
    return sorted(hits, key=lambda h: h["part"] == "thinking"), n_bytes


def _hit(row: dict[str, Any], text: str, is_prompt: bool, any_case: bool) -> dict[str, Any]:
    if is_prompt:
        whole, part, at = row["text"], "prompt", _find(row["text"], text, any_case)
    else:
        whole = trace_text(row.get("prefill"), row["completion"])
        found = split(whole)
        in_answer = _find(found.answer, text, any_case)
        part = "answer" if in_answer >= 0 else "thinking"
        whole = found.answer if in_answer >= 0 else whole
        at = in_answer if in_answer >= 0 else _find(whole, text, any_case)
    at = max(at, 0)
    return {
        "trace_id": row.get("trace_id"),
        "prompt_id": row.get("prompt_id"),
        "part": part,
        "before": ("…" if at > AROUND else "") + whole[max(0, at - AROUND) : at],
        "match": whole[at : at + len(text)],
        "after": whole[at + len(text) : at + len(text) + AROUND],
    }


def _find(whole: str, text: str, any_case: bool) -> int:
    if not any_case:
        return whole.find(text)
    # As the scan does: ASCII letters alone, so that offsets stay those of the text.
    return whole.translate(_LOWER).find(text.translate(_LOWER))


_LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}
