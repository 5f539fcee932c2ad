"""Tables of the store: rows are appended to segments, sealed into parts, and read from both."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import orjson
import polars as pl

from factory.errors import CorruptError, StoreError, UsageError
from factory.records.schemas import TableForm, polars_schema
from factory.store.durable import is_writable, locked
from factory.store.forgotten import ID_COLUMNS, TABLE, Forgotten
from factory.store.key_sets import absent, first_of_each
from factory.store.ledger import REPAIR, Ledger
from factory.store.log import SegmentWriter, is_closed, read_lines
from factory.store.parts import Part, PartWriter, halves_of, read_part

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,127}")
BATCH_BYTES = 32 << 20
PART_BYTES = 512 << 20
SMALL_BYTES = 1 << 20
MANY_SMALL = 32
KEPT_S = 3600.0
"""How long a part stays after others took in its rows: a reader may still have its name."""
_WRITER_COUNT = itertools.count()


@dataclass(frozen=True)
class Manifest:
    """What is in force in a table's folder.

    Attributes:
        parts: the sealed parts.
        sealed: segments whose rows are in the parts; they may still be there.
        superseded: parts whose rows are all in others → seconds since 1970 of when that was so.
    """

    parts: list[Part]
    sealed: list[str] = field(default_factory=list)
    superseded: dict[str, float] = field(default_factory=dict)


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
        ledger: of the store.
        revoked: returns the runs whose facts do not count at the moment.
        forgotten: returns the records of which nothing is stored any more.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        form: TableForm,
        ledger: Ledger,
        *,
        revoked: Callable[[], list[str]],
        forgotten: Callable[[], Forgotten],
    ) -> None:
        self.name = name
        self.folder = folder
        self.form = form
        self.ledger = ledger
        self._revoked = revoked
        self._forgotten = forgotten
        self._holds_records = name != TABLE and any(c in form.columns for c in ID_COLUMNS)

    # ---- writing

    def writer(self, run_id: str) -> SegmentWriter:
        """Open a segment of one's own; once closed (or its process dead) it can be sealed."""
        check_name(run_id, what="run")
        n = f"{os.getpid():x}{next(_WRITER_COUNT):x}{secrets.token_hex(2)}"
        path = self.folder / f"segment-{run_id}-{n}.log"
        # Asked for after the segment is there: who forgets meanwhile sees it, or is seen by it.
        skip = (lambda: self._forgotten().hashes) if self._holds_records else None
        return SegmentWriter(path, self.form, self.ledger, skip=skip)

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
        with self.lock():
            new = self.unknown(frame)
            if new.height:
                self.put(lambda: self.write_part([new]))
        return new.height

    def unknown(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that may be added, in their order, each key once; under the lock.

        Args:
            frame: the key and, of ``ID_COLUMNS``, those that the table has, beside others.
        """
        frame = frame.unique(self.form.key, keep="first", maintain_order=True)
        if self._holds_records and (gone := self._forgotten()):
            frame = frame.filter(~gone.mask(frame))
        return self.missing_frame(frame)

    def put(self, write: Callable[[], Part]) -> None:
        """Put one more part into force; under the lock.

        Args:
            write: writes it; its keys are in no other.
        """
        found = self._begun()
        self.write_manifest(replace(found, parts=[*found.parts, write()]))

    def seal(self) -> int:
        """Move closed segments into parts, each key once; return the number of rows moved.

        Committed rows of living writers are copied, so that what reads parts alone (SQL, select)
        has them; their segments stay until they are closed. A kill at any moment leaves either
        the segments or the parts in force, never both and never neither.
        """
        if not any(self.folder.glob("segment-*.log")) or not os.access(self.folder, os.W_OK):
            return 0
        with self.lock():
            found = self._begun()
            # Looked at after its lock: one that is empty now was closed empty, by a kill.
            empty = [p for p in self.segment_paths() if is_closed(p) and not _size_of(p)]
            self._drop_sealed([*found.sealed, *(p.name for p in empty)])
            # Sizes first: a segment that is closed now was whole then.
            sizes = [(p, _size_of(p)) for p in self.segment_paths()]
            segments = [(p, size) for p, size in sizes if size]
            closed = {p for p, _ in segments if is_closed(p)}
            if not segments:
                return 0
            keep = self._first_of_each_key(found.parts, segments, closed)
            new_parts, n_rows = self._write_parts(segments, keep)
            if not closed and not new_parts:
                return 0
            parts, superseded = self._merged([*found.parts, *new_parts])
            superseded = {**found.superseded, **superseded}
            self.write_manifest(Manifest(parts, sorted(p.name for p in closed), superseded))
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

    def batches(
        self, columns: Sequence[str] | None = None, *, with_revoked: bool = False
    ) -> Iterator[pl.DataFrame]:
        """Yield the facts that count, each key once, in frames of bounded size.

        Args:
            columns: all by default.
            with_revoked: those of revoked runs too.
        """
        names = list(columns or self.form.columns)
        unknown = [c for c in names if c not in self.form.columns]
        if unknown:
            raise UsageError(
                f"table {self.name!r} has no column {', '.join(unknown)}",
                f"it has {', '.join(self.form.columns)}",
            )
        excluded = [] if with_revoked else self._revoked()
        snapshot = self._snapshot()
        try:
            yield from self._batches(snapshot, names, excluded)
        finally:
            snapshot.close()

    def n_rows(self) -> int:
        """Number of facts that count."""
        return sum(b.height for b in self.batches([self.form.key]))

    def gc(self) -> int:
        """Remove parts that others are proven to hold the rows of; return bytes freed.

        Raises:
            CorruptError: the manifest is damaged or lost: nothing is removed then.
        """
        with self.lock():
            found = self.manifest()
            self._drop_sealed(found.sealed)
            known = {p.name for p in found.parts}
            old = {n for n, since in found.superseded.items() if time.time() - since > KEPT_S}
            freed = 0
            for path in sorted(self.folder.glob("part-*.parquet")):
                if path.name in known or (path.name in found.superseded and path.name not in old):
                    continue
                # What no manifest names is left by a kill; it is a copy where its keys are there.
                if path.name in old or self.is_copy(path, found):
                    freed += path.stat().st_size
                    path.unlink()
            if old:
                kept = {n: t for n, t in found.superseded.items() if n not in old}
                self.write_manifest(replace(found, superseded=kept))
        return freed

    def is_copy(self, path: Path, found: Manifest) -> bool:
        """Tell whether all rows of a part that no manifest names are in those of the manifest."""
        try:
            mine = [halves_of(f[self.form.key]) for f in read_part(path, [self.form.key])]
        except CorruptError:
            return False
        there = [
            halves_of(f[self.form.key])
            for part in found.parts
            for f in read_part(self.folder / part.name, [self.form.key])
        ]
        return not mine or absent(pl.concat(mine), there).is_empty()

    def part_paths(self) -> list[Path]:
        """Paths of the sealed parts (seal first to have all facts in them), each seen to be whole.

        Raises:
            CorruptError: a part is damaged or lost; the message names it.
        """
        return [self.vouched(part) for part in self.manifest().parts]

    def vouched(self, part: Part) -> Path:
        """Return the path of a part that was seen to be whole since it changed."""
        return self.ledger.vouch(self.folder / part.name, part.sha256)

    # ---- inside

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Return the lock under which parts come into force."""
        return locked(self.folder / ".lock")

    def _schema(self, names: Iterable[str]) -> pl.Schema:
        return polars_schema({name: self.form.columns[name] for name in names})

    def manifest(self) -> Manifest:
        """Return what is in force.

        Raises:
            CorruptError: the manifest is damaged or lost; the message names it.
        """
        path = self.folder / "manifest.json"
        try:
            data = self.ledger.read_json(path)
            parts = [Part(**p) for p in data["parts"]]
            return Manifest(parts, data["sealed"], data.get("superseded", {}))
        except FileNotFoundError:
            if any(self.folder.glob("part-*.parquet")):
                raise CorruptError(f"{path} is missing", REPAIR) from None
            return Manifest([])
        except (KeyError, TypeError):
            raise CorruptError(f"{path} is damaged", REPAIR) from None

    def _begun(self) -> Manifest:
        """Return what is in force, before a part is written: parts without a manifest lost it."""
        found = self.manifest()
        if not (self.folder / "manifest.json").exists():
            self.write_manifest(found)
        return found

    def write_manifest(self, found: Manifest) -> None:
        """Put parts into force."""
        self.ledger.write_json(self.folder / "manifest.json", asdict(found))

    def _drop_sealed(self, sealed: list[str]) -> None:
        paths = [self.folder / name for name in sealed]
        self.ledger.note(paths, there=False)
        for path in paths:
            path.unlink(missing_ok=True)

    def _merged(self, parts: list[Part]) -> tuple[list[Part], dict[str, float]]:
        """Make one part of the small ones, once there are many: a query during a run makes one."""
        small = [p for p in parts if p.bytes < SMALL_BYTES]
        if len(small) < MANY_SMALL:
            return parts, {}
        frames = (f for p in small for f in read_part(self.vouched(p), list(self.form.columns)))
        merged = self.write_part(frames)
        gone = {p.name: time.time() for p in small if p.name != merged.name}
        return [*(p for p in parts if p.name not in gone), merged], gone

    def segment_paths(self) -> list[Path]:
        """Paths of the segments that are there, sealed or not."""
        return sorted(self.folder.glob("segment-*.log"))

    def _snapshot(self) -> _Snapshot:
        """Open the segments that no part holds yet. Open files outlive a seal that removes them."""
        for _ in range(200):
            before = self.manifest()
            handles: list[tuple[Path, BinaryIO]] = []
            snapshot = _Snapshot(before.parts, handles)
            try:
                for path in self.segment_paths():
                    if path.name not in before.sealed:
                        handles.append((path, path.open("rb")))
            except FileNotFoundError:
                snapshot.close()
                continue
            if self.manifest() == before:
                lost = self.ledger.lost(self.ledger.name_of(self.folder))
                if lost:
                    snapshot.close()
                    raise CorruptError(f"{lost[0]} is missing, says {self.ledger.path}", REPAIR)
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
            for frame in read_part(self.vouched(part), need):
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
        self, path: Path, handle: BinaryIO, names: Sequence[str], size: int | None = None
    ) -> Iterator[pl.DataFrame]:
        schema = self._schema(names)
        buffer: list[bytes] = []
        n_bytes = 0
        for lines in itertools.chain(read_lines(handle, path, size), [None]):
            if lines is not None:
                if not buffer and not self._is_mine(lines):
                    raise CorruptError(f"{path} holds rows of another table", REPAIR)
                buffer.append(lines)
                n_bytes += len(lines)
            if buffer and (lines is None or n_bytes >= BATCH_BYTES):
                try:
                    frame = pl.read_ndjson(b"".join(buffer), schema=schema)
                except pl.exceptions.PolarsError as error:
                    detail = " ".join(str(error).split())[:80]
                    raise CorruptError(f"{path} holds a bad row ({detail})", REPAIR) from None
                misfit = self.form.misfit_keys(frame)
                if misfit is not None:
                    raise CorruptError(f"{path} holds a bad row ({misfit})", REPAIR)
                yield frame
                buffer, n_bytes = [], 0

    def _is_mine(self, lines: bytes) -> bool:
        first = orjson.loads(lines[: lines.index(b"\n")])
        return self.form.key in first and first.keys() <= self.form.columns.keys()

    def _first_of_each_key(
        self, parts: list[Part], segments: list[tuple[Path, int]], closed: set[Path]
    ) -> pl.Series:
        """Return, for every row of the segments in order, whether it is to be written."""
        excluded = self._revoked()
        key, columns = self.form.key, [self.form.key, "run_id"]
        old = [
            halves_of(_without(frame, excluded)[key])
            for part in parts
            for frame in read_part(self.vouched(part), columns)
        ]
        new, mine = [], []
        for path, frame in self._sized_frames(segments, columns):
            # A revoked row is kept as history, but does not stand in the way of its successor.
            exempt = frame["run_id"].is_in(excluded).fill_null(False)
            new.append(halves_of(frame[key]).with_columns(exempt.alias("exempt")))
            # It is written once: when its segment is closed.
            mine.append(~exempt | (path in closed))
        if not new:
            return pl.Series([], dtype=pl.Boolean)
        return first_of_each(pl.concat(new), old) & pl.concat(mine)

    def _write_parts(
        self, segments: list[tuple[Path, int]], keep: pl.Series
    ) -> tuple[list[Part], int]:
        parts: list[Part] = []
        start = size = n_rows = 0
        writer = PartWriter(self.folder, self.form)
        try:
            for _, frame in self._sized_frames(segments, list(self.form.columns)):
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

    def _sized_frames(
        self, segments: list[tuple[Path, int]], names: Sequence[str]
    ) -> Iterator[tuple[Path, pl.DataFrame]]:
        for path, size in segments:
            with path.open("rb") as handle:
                for frame in self._segment_frames(path, handle, names, size):
                    yield path, frame

    def write_part(self, frames: Iterable[pl.DataFrame]) -> Part:
        """Write one part; it is in force once the manifest names it."""
        writer = PartWriter(self.folder, self.form)
        try:
            for frame in frames:
                writer.write(frame)
            return writer.finish()
        finally:
            writer.abandon()


def open_form(folder: Path, name: str, declared: TableForm | None, ledger: Ledger) -> TableForm:
    """Return the stored form of a table, which is ``declared`` where the table is new."""
    path = folder / "table.json"
    try:
        data = ledger.read_json(path)
        return TableForm(data["key"], dict(data["columns"]))
    except FileNotFoundError:
        if declared is not None and not any(folder.glob("part-*")) and not is_writable(folder):
            return declared  # of a store that is only read: a table that is not there is empty
        with locked(folder / ".lock") if declared is not None else contextlib.nullcontext():
            if path.exists():  # another process was faster
                return open_form(folder, name, declared, ledger)
            if any(folder.glob("part-*")):
                raise CorruptError(f"{path} is missing", REPAIR) from None
            if declared is None:
                raise StoreError(f"no table {name!r}", "`factory ls` names the tables") from None
            # The manifest first, so that a table without one is a table that lost it.
            if not (folder / "manifest.json").exists():
                ledger.write_json(folder / "manifest.json", asdict(Manifest([])))
            write_form(folder, declared, ledger)
            return declared
    except (ValueError, KeyError, TypeError):
        raise CorruptError(f"{path} is damaged", REPAIR) from None


def write_form(folder: Path, form: TableForm, ledger: Ledger) -> None:
    """Write down the form of a table."""
    value = {"key": form.key, "columns": list(form.columns.items())}
    ledger.write_json(folder / "table.json", value)


def _without(frame: pl.DataFrame, excluded: list[str]) -> pl.DataFrame:
    if not excluded or "run_id" not in frame.columns:
        return frame
    return frame.filter(~pl.col("run_id").is_in(excluded).fill_null(False))


def _size_of(path: Path) -> int:
    """Return the bytes of a file; 0 where its writer, who wrote nothing, has just removed it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
