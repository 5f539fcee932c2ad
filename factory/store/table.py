"""Tables of the store: rows are appended to segments, sealed into parts, and read from both."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson
import polars as pl

from factory.errors import CorruptError, StoreError, UsageError
from factory.records.schemas import TableForm, polars_schema
from factory.store.durable import locked, sha256_file, write_json
from factory.store.key_sets import absent, first_of_each
from factory.store.log import SegmentWriter, is_closed, read_lines
from factory.store.parts import Part, PartWriter, halves_of, read_part

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,127}")
BATCH_BYTES = 32 << 20
PART_BYTES = 512 << 20
_WRITER_COUNT = itertools.count()


@dataclass(frozen=True)
class _Snapshot:
    parts: list[Part]
    segments: list[tuple[Path, BinaryIO]]

    def close(self) -> None:
        for _, handle in self.segments:
            handle.close()


def check_name(name: str, *, what: str) -> str:
    """Refuse a name that could leave the store's folder.

    >>> check_name("r1-reasoning", what="release")
    'r1-reasoning'
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise UsageError(
            f"{what} name {name[:80]!r} cannot be used",
            "use a-z, 0-9, dot, dash, underscore; begin with a letter or digit; at most 128",
        )
    return name


class Table:
    """One append-only table: facts with one key column. Made by ``Store.table``.

    Args:
        name: of the table.
        folder: where its files are.
        form: key and columns.
        revoked: returns the runs whose facts do not count at the moment.
    """

    def __init__(
        self, name: str, folder: Path, form: TableForm, *, revoked: Callable[[], list[str]]
    ) -> None:
        self.name = name
        self.folder = folder
        self.form = form
        self._revoked = revoked

    # ---- writing

    def writer(self, run_id: str) -> SegmentWriter:
        """Open a segment of one's own; once closed (or its process dead) it can be sealed."""
        check_name(run_id, what="run")
        n = f"{os.getpid():x}{next(_WRITER_COUNT):x}{secrets.token_hex(2)}"
        return SegmentWriter(self.folder / f"segment-{run_id}-{n}.log", self.form)

    def add(self, frame: pl.DataFrame) -> int:
        """Write rows straight to a part (facts that can be computed again); keys stay unique.

        Returns:
            Number of rows that were new.

        Raises:
            StoreError: a column is not of its kind; nothing is written.
        """
        misfit = self.form.misfit_frame(frame)
        if misfit is not None:
            raise StoreError(f"{self.name}: {misfit}", "nothing of it is stored")
        frame = frame.select(list(self.form.columns)).cast(self.form.polars_schema())
        floats = [name for name, kind in self.form.columns.items() if kind == "float"]
        frame = frame.with_columns(pl.col(floats).fill_nan(None))  # undefined, as in a log
        frame = frame.unique(self.form.key, keep="first", maintain_order=True)
        with self._lock():
            new = self.missing_frame(frame)
            if new.height:
                part = self._write_part([new])
                parts, sealed = self._manifest()
                self._write_manifest([*parts, part], sealed)
        return new.height

    def seal(self) -> int:
        """Move closed segments into parts, each key once; return the number of rows moved.

        Segments of living writers are left alone. A kill at any moment leaves either the segments
        or the parts in force, never both and never neither.
        """
        if not any(self.folder.glob("segment-*.log")):
            return 0
        with self._lock():
            parts, sealed = self._manifest()
            self._drop_sealed(sealed)
            closed = [p for p in self._segment_paths() if is_closed(p)]
            if not closed:
                return 0
            keep = self._first_of_each_key(parts, closed)
            new_parts, n_rows = self._write_parts(closed, keep)
            self._write_manifest([*parts, *new_parts], [p.name for p in closed])
            self._drop_sealed([p.name for p in closed])
        return n_rows

    # ---- reading

    def keys(self) -> pl.Series:
        """Return the keys of all facts that count (revoked runs left out), each once."""
        return self.read([self.form.key])[self.form.key]

    def missing(self, wanted: Iterable[str] | pl.Series) -> pl.Series:
        """Return the wanted keys that no fact has, in their order, each once."""
        series = (
            wanted if isinstance(wanted, pl.Series) else pl.Series(list(wanted), dtype=pl.String)
        )
        frame = series.alias(self.form.key).to_frame().unique(maintain_order=True)
        return self.missing_frame(frame)[self.form.key]

    def missing_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of ``frame`` whose key no fact has, in their order."""
        if frame.is_empty():
            return frame
        present = [halves_of(b[self.form.key]) for b in self.batches([self.form.key])]
        if not present:
            return frame
        return frame[absent(halves_of(frame[self.form.key]), present)]

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return all facts that count as one frame (use ``batches`` where text is large)."""
        names = list(columns or self.form.columns)
        frames = list(self.batches(names))
        empty = pl.DataFrame(schema=self._schema(names))
        return pl.concat([empty, *frames])

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """Yield the facts that count, each key once, in frames of bounded size."""
        names = list(columns or self.form.columns)
        unknown = [c for c in names if c not in self.form.columns]
        if unknown:
            raise UsageError(
                f"table {self.name!r} has no column {', '.join(unknown)}",
                f"it has {', '.join(self.form.columns)}",
            )
        excluded = self._revoked()
        snapshot = self._snapshot()
        try:
            yield from self._batches(snapshot, names, excluded)
        finally:
            snapshot.close()

    def n_rows(self) -> int:
        """Number of facts that count."""
        return sum(b.height for b in self.batches([self.form.key]))

    def check(self) -> list[str]:
        """Re-hash every part and re-read every segment; return one line per damaged file."""
        lines = []
        parts, sealed = self._manifest()
        for part in parts:
            path = self.folder / part.name
            if not path.exists():
                lines.append(f"{path} is missing: restore it from a copy")
            elif sha256_file(path) != part.sha256:
                lines.append(f"{path} is damaged (its SHA-256 changed): restore it from a copy")
        for path in self._segment_paths():
            if path.name in sealed:
                continue
            try:
                with path.open("rb") as handle:
                    for _ in read_lines(handle, path):
                        pass
            except FileNotFoundError:
                continue  # sealed meanwhile: its rows are in a part
            except CorruptError as error:
                lines.append(str(error))
        return lines

    def gc(self) -> int:
        """Remove parts that the manifest does not name; return bytes freed."""
        with self._lock():
            parts, sealed = self._manifest()
            self._drop_sealed(sealed)
            known = {p.name for p in parts}
            orphans = [p for p in self.folder.glob("part-*.parquet") if p.name not in known]
            freed = sum(p.stat().st_size for p in orphans)
            for path in orphans:
                path.unlink()
        return freed

    def part_paths(self) -> list[Path]:
        """Paths of the sealed parts (seal first to have all facts in them)."""
        return [self.folder / p.name for p in self._manifest()[0]]

    # ---- inside

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.folder / ".lock")

    def _schema(self, names: Iterable[str]) -> pl.Schema:
        return polars_schema({name: self.form.columns[name] for name in names})

    def _manifest(self) -> tuple[list[Part], list[str]]:
        path = self.folder / "manifest.json"
        try:
            data = orjson.loads(path.read_bytes())
            return [Part(**p) for p in data["parts"]], data["sealed"]
        except FileNotFoundError:
            return [], []
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise CorruptError(f"{path} is damaged", "restore it from a copy") from None

    def _write_manifest(self, parts: list[Part], sealed: list[str]) -> None:
        value = {"parts": [vars(p) for p in parts], "sealed": sealed}
        write_json(self.folder / "manifest.json", value)

    def _drop_sealed(self, sealed: list[str]) -> None:
        for name in sealed:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).unlink()

    def _segment_paths(self) -> list[Path]:
        return sorted(self.folder.glob("segment-*.log"))

    def _snapshot(self) -> _Snapshot:
        """Open the segments that no part holds yet. Open files outlive a seal that removes them."""
        for _ in range(200):
            before = self._manifest()
            handles: list[tuple[Path, BinaryIO]] = []
            snapshot = _Snapshot(before[0], handles)
            try:
                for path in self._segment_paths():
                    if path.name not in before[1]:
                        handles.append((path, path.open("rb")))
            except FileNotFoundError:
                snapshot.close()
                continue
            if self._manifest() == before:
                return snapshot
            snapshot.close()
            time.sleep(0.005)
        raise StoreError(f"table {self.name!r} keeps changing", "run it again when it is calmer")

    def _batches(
        self, snapshot: _Snapshot, names: list[str], excluded: list[str]
    ) -> Iterator[pl.DataFrame]:
        key = self.form.key
        need = list(dict.fromkeys([*names, *([key] if snapshot.segments else []), "run_id"]))
        if "run_id" not in self.form.columns or not excluded:
            need = [c for c in need if c != "run_id" or c in names]
        seen: list[pl.DataFrame] = []
        for part in snapshot.parts:
            for frame in read_part(self.folder / part.name, need):
                counted = _without(frame, excluded)
                if snapshot.segments:
                    seen.append(halves_of(counted[key]))
                yield counted.select(names)
        for path, handle in snapshot.segments:
            for frame in self._segment_frames(path, handle, need):
                counted = _without(frame, excluded).unique(key, keep="first", maintain_order=True)
                halves = halves_of(counted[key])
                if seen:
                    rows = halves.with_row_index("_row")
                    for earlier in seen:
                        rows = rows.join(earlier, on=["hi", "lo"], how="anti")
                    counted = counted[rows["_row"].sort()]
                    halves = halves_of(counted[key])
                seen.append(halves)
                if len(seen) > 64:
                    seen = [pl.concat(seen)]
                yield counted.select(names)

    def _segment_frames(
        self, path: Path, handle: BinaryIO, names: Sequence[str]
    ) -> Iterator[pl.DataFrame]:
        schema = self._schema(names)
        buffer: list[bytes] = []
        size = 0
        for lines in itertools.chain(read_lines(handle, path), [None]):
            if lines is not None:
                buffer.append(lines)
                size += len(lines)
            if buffer and (lines is None or size >= BATCH_BYTES):
                yield pl.read_ndjson(b"".join(buffer), schema=schema)
                buffer, size = [], 0

    def _first_of_each_key(self, parts: list[Part], closed: list[Path]) -> pl.Series:
        """Return, for every row of the closed segments in order, whether it is to be written."""
        excluded = self._revoked()
        key, columns = self.form.key, [self.form.key, "run_id"]
        old = [
            halves_of(_without(frame, excluded)[key])
            for part in parts
            for frame in read_part(self.folder / part.name, columns)
        ]
        new = []
        for frame in self._closed_frames(closed, columns):
            # A revoked row is kept as history, but does not stand in the way of its successor.
            exempt = frame["run_id"].is_in(excluded).fill_null(False)
            new.append(halves_of(frame[key]).with_columns(exempt.alias("exempt")))
        return first_of_each(pl.concat(new), old) if new else pl.Series([], dtype=pl.Boolean)

    def _write_parts(self, closed: list[Path], keep: pl.Series) -> tuple[list[Part], int]:
        parts: list[Part] = []
        start = size = n_rows = 0
        frame_stream = self._closed_frames(closed, list(self.form.columns))
        writer = PartWriter(self.folder, self.form)
        try:
            for frame in frame_stream:
                kept = frame.filter(keep[start : start + frame.height])
                start += frame.height
                n_rows += kept.height
                if kept.height:
                    size += writer.write(kept)
                if size >= PART_BYTES:
                    parts.append(writer.finish())
                    writer, size = PartWriter(self.folder, self.form), 0
            if size:
                parts.append(writer.finish())
        finally:
            writer.abandon()
        return parts, n_rows

    def _closed_frames(self, closed: list[Path], names: Sequence[str]) -> Iterator[pl.DataFrame]:
        for path in closed:
            with path.open("rb") as handle:
                yield from self._segment_frames(path, handle, names)

    def _write_part(self, frames: Iterable[pl.DataFrame]) -> Part:
        writer = PartWriter(self.folder, self.form)
        try:
            for frame in frames:
                writer.write(frame)
            return writer.finish()
        finally:
            writer.abandon()


def open_form(folder: Path, name: str, declared: TableForm | None) -> TableForm:
    """Return the stored form of a table, which is ``declared`` where the table is new."""
    path = folder / "table.json"
    for _ in range(2):
        try:
            data = orjson.loads(path.read_bytes())
            return TableForm(data["key"], dict(data["columns"]))
        except FileNotFoundError:
            if declared is None:
                raise StoreError(f"no table {name!r}", "`factory ls` names the tables") from None
            # Two processes may both write it: the content is the same.
            write_json(path, {"key": declared.key, "columns": list(declared.columns.items())})
            return declared
        except (ValueError, KeyError, TypeError):
            raise CorruptError(f"{path} is damaged", "restore it from a copy") from None
    raise AssertionError("unreachable")


def _without(frame: pl.DataFrame, excluded: list[str]) -> pl.DataFrame:
    if not excluded or "run_id" not in frame.columns:
        return frame
    return frame.filter(~pl.col("run_id").is_in(excluded).fill_null(False))
