"""Parts rewritten without the rows of forgotten records (``factory.store.forgotten``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from factory.errors import CorruptError
from factory.store.durable import TMP_PREFIX
from factory.store.forgotten import ID_COLUMNS, TABLE, Forgotten
from factory.store.parts import read_part
from factory.store.table import Table


def raw_batches(table: Table, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield the rows of all parts that are in force, those of revoked runs too; seal first."""
    for part in table.manifest().parts:
        yield from read_part(table.vouched(part), columns)


def count_rows(table: Table, gone: Forgotten) -> int:
    """Return how many sealed rows of a table are of forgotten records."""
    columns = [c for c in ID_COLUMNS if c in table.form.columns]
    if not columns or table.name == TABLE:
        return 0
    return sum(int(gone.mask(frame).sum()) for frame in raw_batches(table, columns))


def remove_rows(table: Table, gone: Forgotten) -> tuple[int, list[Path]]:
    """Rewrite every part that holds rows of forgotten records, and remove the old ones.

    A kill at any moment leaves parts in force that are whole; the next call goes on.

    Returns:
        Rows removed, and files that may hold such rows and cannot be read.
    """
    columns = [c for c in ID_COLUMNS if c in table.form.columns]
    if not columns or table.name == TABLE:
        return 0, []
    n_removed, unread = 0, []
    with table.lock():
        found = table.manifest()
        parts, old = [], {}
        for part in found.parts:
            path = table.vouched(part)
            n = sum(int(gone.mask(f).sum()) for f in read_part(path, columns))
            if not n:
                parts.append(part)
                continue
            n_removed += n
            # As one whose rows are in others, so that a kill before its end loses it to gc.
            old[part.name] = 0.0
            if part.rows > n:
                parts.append(table.write_part(_rest(table, path, gone)))
        if old:
            superseded = {**found.superseded, **old}
            table.write_manifest(dataclasses.replace(found, parts=parts, superseded=superseded))
        known = {p.name for p in parts}
        for path in sorted(table.folder.glob("part-*.parquet")):
            if path.name in known:
                continue
            try:
                n = sum(int(gone.mask(f).sum()) for f in read_part(path, columns))
            except CorruptError:
                unread.append(path)
                continue
            if n and path.name not in found.superseded and path.name not in old:
                _keep_rest(table, path, gone)
            if n:
                path.unlink()
        for path in table.folder.glob(f"{TMP_PREFIX}part-*"):
            path.unlink(missing_ok=True)  # parts are written under this lock: nobody has it open
    return n_removed, unread


def _rest(table: Table, path: Path, gone: Forgotten) -> Iterator[pl.DataFrame]:
    for frame in read_part(path, list(table.form.columns)):
        rest = frame.filter(~gone.mask(frame))
        if rest.height:
            yield rest


def _keep_rest(table: Table, path: Path, gone: Forgotten) -> None:
    """Write the other rows of a part that no manifest names: a repair may bring them back."""
    frames = list(_rest(table, path, gone))
    if frames:
        table.write_part(frames)
