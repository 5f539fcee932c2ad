"""Check a store's files, and bring back what is whole of a damaged one.

Nothing is deleted: what is damaged moves to ``damaged/`` under the store, in the folders that it
came from. What comes back: a lost ``table.json`` from the parts' own schema, a lost manifest from
the parts (each named by its own hash), of a damaged segment the whole blocks and of those the rows
that fit, of a damaged part those row groups whose pages are whole, where a damaged page explains
what is wrong (of a part with a damaged footer nothing). Rows that are gone count as missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import CorruptError, FactoryError, StoreError
from factory.records.schemas import KINDS, STORE_FORMAT, TABLES, TableForm, arrow_type, whole
from factory.store.durable import fsync_dir, sha256_file
from factory.store.key_sets import KeySet
from factory.store.ledger import Ledger, read_line
from factory.store.log import Damage, is_closed, scan
from factory.store.parts import Part, read_part
from factory.store.store import Store
from factory.store.table import Manifest, Table, write_form

DAMAGED = "damaged"


# ---- looking


def check(store: Store) -> list[str]:
    """Re-hash and re-read every file of the tables and runs; return one line per finding."""
    ledger = store.ledger
    lines = [f"{ledger.path} is damaged in line {n}" for n in ledger.bad_lines()]
    if lines:
        return lines
    try:
        lines += [f"{p} is missing" for p in ledger.lost("")]
        names = store.tables()
    except CorruptError as error:
        return [*dict.fromkeys([*lines, error.what])]
    for path in sorted((store.root / "runs").glob("*/run.json")):
        lines += _problem_of(ledger, path)
    for name in names:
        try:
            lines += _check_table(store.table(name))
        except FactoryError as error:
            lines.append(error.what)
    return list(dict.fromkeys(lines))


def _problem_of(ledger: Ledger, path: Path) -> list[str]:
    try:
        ledger.read_json(path)
    except (CorruptError, FileNotFoundError) as error:
        return [getattr(error, "what", f"{path} is missing")]
    return []


def _check_table(table: Table) -> Iterator[str]:
    found = table.manifest()
    for part in found.parts:
        path = table.folder / part.name
        if not path.exists():
            yield f"{path} is missing"
        elif sha256_file(path) != part.sha256:
            yield f"{path} is damaged (its SHA-256 changed)"
    known = {p.name for p in found.parts} | found.superseded.keys()
    for path in sorted(table.folder.glob("part-*.parquet")):
        if path.name not in known and not table.is_copy(path, found):
            yield f"{path} holds rows and is in no manifest"
    for path in table.segment_paths():
        if path.name not in found.sealed:
            with contextlib.suppress(FileNotFoundError):  # sealed meanwhile: its rows are in a part
                yield from _check_segment(table, path)


def _check_segment(table: Table, path: Path) -> Iterator[str]:
    with path.open("rb") as handle:
        for block in scan(handle):
            if isinstance(block, Damage):
                yield f"{path} is damaged at byte {block.start}"
            else:
                misfit = table.form.misfit(map(orjson.loads, block.splitlines()))
                if misfit:
                    yield f"{path} holds a bad row: {misfit}"


# ---- bringing back


def repair(root: Path) -> list[str]:
    """Bring back what is whole of the store at ``root``; return what was done, a line each.

    Raises:
        StoreError: no store is there, or a damaged segment is still being written.
    """
    if not (root / "tables").is_dir() and not (root / "store.json").exists():
        raise StoreError(f"no store at {str(root)!r}", "give --store DIR")
    ledger = Ledger(root)
    done = [*_mend_ledger(ledger), *_mend_marker(ledger)]
    store = Store(root, create=False)
    for folder in sorted((root / "tables").glob("*")):
        if folder.is_dir():
            done += _mend_form(ledger, folder)
            table = store.table(folder.name) if (folder / "table.json").exists() else None
            done += _mend_table(table) if table is not None else []
    done += _mend_runs(ledger)
    lost = [p for p in ledger.lost("") if "releases" not in p.parts]
    ledger.note(lost, there=False)
    return [*done, *(f"{p} is gone: what it held counts as missing" for p in lost)]


def set_aside(root: Path, path: Path) -> Path:
    """Move a damaged file, or folder, out of the way; return where it is now."""
    target = root / DAMAGED / path.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    n = 1
    while target.exists():
        target = target.with_name(f"{path.name}.{n}")
        n += 1
    path.rename(target)
    fsync_dir(target.parent)
    return target


def _mend_ledger(ledger: Ledger) -> list[str]:
    ledger.must_exist = (ledger.root / "store.json").exists()
    bad = ledger.bad_lines()
    if ledger.path.exists() and not bad:
        return []
    expected = _good_names(ledger) if bad else set()
    aside = set_aside(ledger.root, ledger.path) if bad else None
    patterns = ("store.json", "tables/*/*.json", "tables/*/segment-*.log", "runs/*/run.json",
                "releases/*/*/manifest.json")  # fmt: skip
    there = {p for pattern in patterns for p in ledger.root.glob(pattern)}
    ledger.rewrite(there | expected)
    return [f"{ledger.path} is written anew" + (f"; the old one: {aside}" if aside else "")]


def _good_names(ledger: Ledger) -> set[Path]:
    names: dict[str, str] = {}
    for line in ledger.path.read_bytes().split(b"\n"):
        found = read_line(line)
        if found is not None:
            names[found[1]] = found[0]
    return {ledger.root / name for name, state in names.items() if state == "+"}


def _mend_marker(ledger: Ledger) -> list[str]:
    path = ledger.root / "store.json"
    try:
        ledger.read_json(path)
    except (CorruptError, FileNotFoundError):
        if path.exists():
            set_aside(ledger.root, path)
        ledger.write_json(path, {"format": STORE_FORMAT, "ledger": True})
        return [f"{path} is written anew"]
    return []


def _mend_form(ledger: Ledger, folder: Path) -> list[str]:
    path = folder / "table.json"
    try:
        data = ledger.read_json(path)
        TableForm(data["key"], dict(data["columns"]))
        return []
    except FileNotFoundError:
        pass
    except (CorruptError, KeyError, ValueError, TypeError):
        if path.exists():
            set_aside(ledger.root, path)
    form = TABLES.get(folder.name.partition(".")[0]) or _form_of_parts(folder)
    if form is None:
        return [f"{path} cannot be brought back: run its verb again"]
    write_form(folder, form, ledger)
    return [f"{path} is written anew"]


def _form_of_parts(folder: Path) -> TableForm | None:
    kinds = {arrow_type(kind): kind for kind in KINDS}
    for path in sorted(folder.glob("part-*.parquet")):
        with contextlib.suppress(OSError, KeyError, ValueError, StopIteration):
            if _is_whole(path):
                schema = pq.read_schema(path.absolute())
                key = next(f.name for f in schema if not f.nullable)
                return TableForm(key, {f.name: kinds[f.type] for f in schema})
    return None


def _is_whole(path: Path) -> bool:
    """Tell whether a part is what its name, the beginning of its hash, says."""
    return path.stem == f"part-{sha256_file(path)[:16]}"


def _mend_table(table: Table) -> list[str]:
    root, done = table.ledger.root, []
    with table.lock():
        try:
            found = table.manifest()
        except CorruptError as error:
            path = table.folder / "manifest.json"
            if path.exists():
                set_aside(root, path)
            found = Manifest([])
            done.append(f"{error.what}: written anew from the parts")
        before = found.parts
        parts = [p for p in before if _good(table.folder / p.name, p.sha256)]
        kept = Manifest(parts, found.sealed, found.superseded)
        for part in before:
            if part not in parts:
                done.append(f"{table.folder / part.name} is damaged or missing")
        for path in sorted(table.folder.glob("part-*.parquet")):
            if path.name not in {p.name for p in kept.parts} | found.superseded.keys():
                done += _take_in(table, path, kept)
        if done:
            table.write_manifest(kept)
    for path in table.segment_paths():
        if path.name not in kept.sealed and any(_check_segment(table, path)):
            done += _salvage_segment(table, path)
    return done


def _good(path: Path, sha256: str) -> bool:
    return path.exists() and sha256_file(path) == sha256


def _take_in(table: Table, path: Path, kept: Manifest) -> list[str]:
    """Add the rows of a part that no other holds to what is in force."""
    if not _is_whole(path):
        return _take_in_groups(table, path, kept)
    key = table.form.key
    there = [f for p in kept.parts for f in read_part(table.folder / p.name, [key])]
    frames = list(read_part(path, list(table.form.columns)))
    if there:
        known = KeySet(pl.concat(there)[key])
        new = [f.filter(~known.has(f[key])) for f in frames]
    else:
        new = frames
    n_new, n_rows = sum(f.height for f in new), sum(f.height for f in frames)
    if not n_new:
        return []
    if n_new == n_rows:
        kept.parts.append(Part(path.name, sha256_file(path), n_rows, path.stat().st_size))
    else:
        kept.parts.append(table.write_part([f for f in new if f.height]))
    return [f"{path} is in force again: {n_new} rows"]


def _take_in_groups(table: Table, path: Path, kept: Manifest) -> list[str]:
    """Bring back the row groups of a damaged part whose pages are whole; set the part aside.

    Pages have checksums, the footer that says where they are has none. So it is trusted only where
    a page is found that explains the damage; where all pages fit, the footer itself is damaged.
    """
    frames, n_damaged = _whole_groups(table, path)
    key = table.form.key
    there = [f for p in kept.parts for f in read_part(table.folder / p.name, [key])]
    if there and frames:
        known = KeySet(pl.concat(there)[key])
        frames = [f.filter(~known.has(f[key])) for f in frames]
    n_rows = sum(f.height for f in frames)
    if n_damaged and n_rows:
        kept.parts.append(table.write_part([f for f in frames if f.height]))
    aside = set_aside(table.ledger.root, path)
    what = f"{n_rows} rows of whole row groups are kept" if n_damaged else "no row of it is sure"
    return [f"{aside} is a damaged part: {what}"]


def _whole_groups(table: Table, path: Path) -> tuple[list[pl.DataFrame], int]:
    """Return the row groups of a part whose pages fit their checksums, and how many do not."""
    frames: list[pl.DataFrame] = []
    n_damaged = 0
    columns = list(table.form.columns)
    try:
        with pq.ParquetFile(path.absolute(), page_checksum_verification=True) as file:
            if file.schema_arrow != table.form.arrow_schema():
                return [], 0
            for number in range(file.num_row_groups):
                try:
                    found = pl.from_arrow(file.read_row_group(number, columns=columns))
                except (OSError, pa.ArrowException):
                    n_damaged += 1
                    continue
                assert isinstance(found, pl.DataFrame)
                fits = table.form.misfit_keys(found) is None
                frames += [found] if fits else []
                n_damaged += not fits
    except (OSError, pa.ArrowException):
        return [], 0
    return frames, n_damaged


def _salvage_segment(table: Table, path: Path) -> list[str]:
    """Write the good rows of a segment to a new one, and set the damaged one aside."""
    if not is_closed(path):
        return [f"{path} is damaged and still being written: repair again when its run has ended"]
    rows: list[dict[str, Any]] = []
    n_bad = n_damaged = 0
    with path.open("rb") as handle:
        for block in scan(handle):
            if isinstance(block, Damage):
                n_damaged += 1
                continue
            for line in block.splitlines():
                row = mended(table.form, orjson.loads(line))
                rows += [row] if row is not None else []
                n_bad += row is None
    run_id = path.name.removeprefix("segment-").rpartition("-")[0]
    if rows:
        with table.writer(run_id) as writer:
            for start in range(0, len(rows), 256):
                writer.append(rows[start : start + 256])
    aside = set_aside(table.ledger.root, path)
    table.ledger.note([path], there=False)
    return [
        f"{path}: {len(rows)} rows are kept, {n_bad} bad rows and {n_damaged} damaged places are "
        f"left behind in {aside}"
    ]


def mended(form: TableForm, row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the row as its table can hold it: an odd number becomes whole or null; else None.

    >>> mended(TableForm("k", {"k": "text", "n": "int"}), {"k": "0" * 32, "n": 12.5})
    {'k': '00000000000000000000000000000000', 'n': None}
    """
    if form.misfit([row]) is None:
        return row
    out = dict(row)
    for name, kind in form.columns.items():
        if kind != "text" and form.misfit([{form.key: "0" * 32, name: row.get(name)}]):
            out[name] = whole(row.get(name)) if kind == "int" else None
    return out if form.misfit([out]) is None else None


def _mend_runs(ledger: Ledger) -> list[str]:
    done = []
    found = (ledger.root / "runs").glob("*/run.json")
    for path in sorted({*found, *ledger.expected("runs")}):
        if not _problem_of(ledger, path):
            continue
        if path.exists():
            set_aside(ledger.root, path)
        run_id = path.parent.name
        # Its facts bear this id; the record must be there for them to be revoked by it.
        ledger.write_json(path, {"run_id": run_id, "kind": "unknown", "details": {}})
        done.append(f"{path} is damaged or missing: what the run was is unknown now")
    return done
