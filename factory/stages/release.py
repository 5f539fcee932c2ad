"""Release: a versioned dataset, written once.

``data/releases/<name>/<version>/`` holds ``part-*.parquet`` (rows with text), ``decisions.parquet``
(every trace of the universe: kept, or dropped by what) and ``manifest.json``, written last: a
release without it does not exist. The version is a hash of the sorted (trace_id, text hash,
categorical columns); no floats, no file bytes, so the same decision gives the same version.

Memory: one part at a time. Rows and texts are first dealt out to one file per part, in the order
in which the store holds them, so that each text is read once however many parts there are.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import orjson
import polars as pl

from factory.dialects import split_reasoning
from factory.errors import StoreError, UsageError
from factory.records.text import trace_text
from factory.stages.contents import Contents
from factory.stages.select import CATEGORICAL, Selected
from factory.store import Store, check_name, now
from factory.store.durable import TMP_PREFIX, disk_error, fsync_dir, locked, sha256_file
from factory.store.ledger import Ledger

PART_ROWS = 20_000
PART_TEXT_BYTES = 96 << 20
_MOST_PARTS = 400  # files that are open at once


@dataclass(frozen=True)
class Release:
    """A finished release on disk."""

    name: str
    version: str
    folder: Path
    manifest: dict[str, Any]
    ledger: Ledger

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return its rows, sorted by trace_id.

        Raises:
            CorruptError: a part is damaged or lost; the message names it.
        """
        frames = list(self.parts(columns))
        if not frames:
            return pl.DataFrame(schema=dict.fromkeys(columns or ["trace_id"], pl.String))
        return pl.concat(frames, how="diagonal_relaxed")

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """Yield its parts, each seen to be whole, in the order of their keys."""
        for part in self.manifest["parts"]:
            path = self.ledger.vouch(self.folder / part["name"], part["sha256"])
            yield pl.read_parquet(path.read_bytes(), columns=list(columns) if columns else None)

    def decisions(self) -> pl.DataFrame:
        """Return one row per trace of the universe: trace_id, is_kept, dropped_by, undefined_by."""
        path = self.folder / "decisions.parquet"
        self.ledger.vouch(path, self.manifest["decisions_sha256"])
        return pl.read_parquet(path.read_bytes())


def release(
    store: Store,
    name: str,
    selected: Selected,
    *,
    recipe: dict[str, Any] | None = None,
    parents: Sequence[str] = (),
) -> Release:
    """Write a selection as a release; the same selection again gives the one that is there.

    Args:
        store: where it goes.
        name: a-z, 0-9, dots, dashes.
        selected: result of ``select``.
        recipe: whatever else should stand in the manifest (the pipeline's own recipe).
        parents: ``name/version`` of the releases and models that it came from.

    Raises:
        UsageError: a name that cannot be used, or nothing was kept.
        StoreError: the disk is full or cannot be written; nothing of it is left.
    """
    check_name(name, what="release")
    keys = selected.keys
    if keys.is_empty():
        strictest = max(selected.funnel, key=lambda f: f["n_dropped"], default=None)
        hint = f"; filter {strictest['name']!r} drops most" if strictest else ""
        raise UsageError(
            f"nothing is kept of {selected.decisions.height} traces{hint}", "loosen the filters"
        )
    version = version_of(keys)
    folder = store.root / "releases" / name / version
    if (folder / "manifest.json").exists():
        return open_release(store, name, version)
    work = folder.parent / f"{TMP_PREFIX}{version}"
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        manifest = _write_files(store, name, version, selected, work)
        manifest |= {
            "universe": selected.recipe.universe.model_dump(exclude_none=True),
            "selection": selected.recipe.model_dump(exclude_defaults=True),
            "parents": list(parents),
            "recipe": recipe or {},
            "running": store.living_runs(),
            "code_version": importlib.metadata.version("r1-factory") if _installed() else "source",
        }
        publish(store, manifest, work)
    except _WRITE_ERRORS as error:
        raise disk_error(as_os_error(error), folder, "nothing of the release is there") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return open_release(store, name, version)


_WRITE_ERRORS = (OSError, pl.exceptions.ComputeError, duckdb.IOException)


def as_os_error(error: Exception) -> OSError:
    """Return what a library says of a failed write as the error of the system that it was.

    >>> as_os_error(ValueError("No space left on device (os error 28)")).errno
    28
    """
    if isinstance(error, OSError) and error.errno:
        return error
    code = errno.ENOSPC if "No space left" in str(error) else errno.EIO
    return OSError(code, os.strerror(code))


def _write_files(
    store: Store, name: str, version: str, selected: Selected, work: Path
) -> dict[str, Any]:
    """Write parts and decisions into ``work``; return what the manifest says of them."""
    keys, contents, parts = selected.keys, Contents(), []
    for number, frame in enumerate(_rows(store, selected, work)):
        contents.add(frame)
        parts.append(write_part(work, number, frame))
    selected.decisions.write_parquet(work / "decisions.parquet", compression="zstd")
    return {
        "name": name,
        "version": version,
        "created_at": now(),
        "rows": keys.height,
        "prompts": keys["prompt_id"].n_unique(),
        "n_universe": selected.decisions.height,
        **contents.row(),
        "parts": parts,
        "decisions_sha256": sha256_file(work / "decisions.parquet"),
        "filters": selected.funnel,
        "plugins": selected.labels,
    }


def write_part(folder: Path, number: int, frame: pl.DataFrame) -> dict[str, Any]:
    """Write one part of a release; return its entry in the manifest."""
    path = folder / f"part-{number:05d}.parquet"
    frame.write_parquet(path, compression="zstd", row_group_size=2048)
    size = path.stat().st_size
    return {"name": path.name, "rows": frame.height, "bytes": size, "sha256": sha256_file(path)}


def publish(store: Store, manifest: dict[str, Any], work: Path) -> None:
    """Give a finished folder its manifest, its number and its name: from then on it exists."""
    releases = store.root / "releases" / manifest["name"]
    folder = releases / manifest["version"]
    with locked(releases / ".lock"):
        if (folder / "manifest.json").exists():
            return  # another process was first with the same version
        _refuse_forgotten(store, work)
        numbers = [m.get("sequence", 0) for _, m in manifests(store, manifest["name"])]
        numbered = {**manifest, "sequence": 1 + max(numbers, default=0)}
        store.ledger.write_json(work / "manifest.json", numbered, at=folder / "manifest.json")
        for path in work.iterdir():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
        fsync_dir(work)
        work.rename(folder)
        fsync_dir(releases)
        store.ledger.note([folder / "manifest.json"], there=True)


def _refuse_forgotten(store: Store, work: Path) -> None:
    """Refuse rows that were forgotten after they were selected."""
    gone = store.forgotten()
    paths = sorted(work.glob("part-*.parquet")) if gone else []
    for path in paths:
        if gone.mask(pl.read_parquet(path.read_bytes(), columns=["trace_id", "prompt_id"])).any():
            raise StoreError(
                "records of this release were forgotten meanwhile",
                "select and release again; a `factory forget` that did not end goes on by that "
                "verb alone, first",
            )


def manifests(store: Store, name: str) -> list[tuple[Path, dict[str, Any]]]:
    """Return the manifests of all versions of a release, oldest first.

    Raises:
        CorruptError: one is damaged or lost; the message names it.
    """
    folder = store.root / "releases" / name
    paths = {*folder.glob("*/manifest.json"), *store.ledger.expected(f"releases/{name}")}
    found = [
        (path, store.ledger.read_json(path))
        for path in sorted(paths)
        if not path.parent.name.startswith(TMP_PREFIX)
    ]
    # Numbers, since a clock may be set back; releases of earlier versions have none.
    return sorted(found, key=lambda f: (f[1].get("sequence", 0), f[1].get("created_at") or ""))


def _installed() -> bool:
    try:
        importlib.metadata.version("r1-factory")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def version_of(kept: pl.DataFrame) -> str:
    """Return 12 hexadecimal characters that stand for which texts are kept, under which labels.

    >>> a = pl.DataFrame({"trace_id": ["b", "a"], "text_hash": ["2", "1"]})
    >>> version_of(a) == version_of(a.reverse())
    True
    """
    names = ["trace_id", "text_hash", *[c for c in CATEGORICAL if c in kept.columns]]
    digest = hashlib.blake2b(digest_size=6)
    for row in kept.select(names).sort("trace_id").iter_rows():
        digest.update(orjson.dumps(row))
    return digest.hexdigest()


def open_release(store: Store, name: str, version: str | None = None) -> Release:
    """Open a release; without a version the latest.

    Args:
        store: the store.
        name: ``name`` or ``name/version``.
        version: its version.

    Raises:
        UsageError: there is none of that name or version.
        StoreError: it held records that were forgotten.
    """
    name, _, inside = name.partition("/")
    version = version or inside or None
    check_name(name, what="release")
    found = [
        (path, manifest)
        for path, manifest in manifests(store, name)
        if version is None or manifest["version"] == version
    ]
    if not found:
        for _, manifest in manifests(store, name):
            if version in manifest.get("replaces", []):
                raise StoreError(
                    f"{name}/{version} held records that were forgotten",
                    f"{name}/{manifest['version']} stands in its place",
                )
        have = sorted(p.name for p in (store.root / "releases").glob("*") if p.is_dir())
        wanted = f"{name}/{version}" if version else name
        raise UsageError(f"no release {wanted!r}", f"there is: {', '.join(have) or 'none yet'}")
    path, manifest = found[-1]
    return Release(name, path.parent.name, path.parent, manifest, store.ledger)


def _rows(store: Store, selected: Selected, work: Path) -> Iterator[pl.DataFrame]:
    """Yield the kept rows with their texts, in the order of their keys, one part at a time."""
    keys = selected.keys
    n_parts = -(-keys.height // _part_rows(store, keys.height))
    per_part = -(-keys.height // n_parts)
    row = pl.int_range(pl.len(), dtype=pl.UInt32)
    owner = keys.select("trace_id", (row // per_part).cast(pl.UInt32).alias("_part"))
    dealt = work / ".dealt"
    dealt.mkdir()
    by_prompt = keys.select("prompt_id", owner["_part"]).unique()
    with _Deal(dealt, "wide", owner, on="trace_id") as deal:
        for frame in selected.batches():
            deal.write(frame.select(c for c in frame.columns if not c.startswith("_")))
    for name, table, columns in (
        ("text", "traces", ["trace_id", "prefill", "completion"]),
        ("prompt", "prompts", ["prompt_id", "messages"]),
        ("gold", "prompt_sources", [*_GOLD_KEYS, "gold", "options", "correction"]),
    ):
        key = columns[0]
        with _Deal(dealt, name, owner if key == "trace_id" else by_prompt, on=key) as deal:
            for frame in store.table(table).batches(columns):
                deal.write(frame)
    for number in range(n_parts):
        paths = {name: dealt / f"{name}-{number}" for name in ("wide", "text", "prompt", "gold")}
        parts = {name: pl.read_ipc_stream(path.read_bytes()) for name, path in paths.items()}
        for path in paths.values():
            path.unlink()
        yield _joined(parts)
    dealt.rmdir()


_GOLD_KEYS = ["prompt_id", "source", "item"]


def _joined(parts: dict[str, pl.DataFrame]) -> pl.DataFrame:
    frame = parts["wide"].join(parts["text"], on="trace_id")
    full = [trace_text(p, c) for p, c in frame.select("prefill", "completion").iter_rows()]
    halves = [split_reasoning(t) for t in full]
    frame = frame.drop("prefill").with_columns(
        pl.Series("completion", full, dtype=pl.String),
        pl.Series("reasoning", [h.reasoning for h in halves], dtype=pl.String),
        pl.Series("answer", [h.answer for h in halves], dtype=pl.String),
    )
    # Of a corrected gold the last correction.
    golds = parts["gold"].sort("correction").unique(_GOLD_KEYS, keep="last").drop("correction")
    frame = frame.join(parts["prompt"], on="prompt_id", how="left")
    frame = frame.join(golds, on=_GOLD_KEYS, how="left", nulls_equal=True)
    return frame.sort("trace_id")


def _part_rows(store: Store, n_rows: int) -> int:
    """Return rows per part: fewer where traces are long."""
    import pyarrow.parquet as pq

    n = size = 0
    for path in store.table("traces").part_paths():
        meta = pq.read_metadata(path.absolute())
        at = meta.schema.names.index("completion")
        n += meta.num_rows
        groups = range(meta.num_row_groups)
        size += sum(meta.row_group(g).column(at).total_uncompressed_size for g in groups)
    fitting = PART_TEXT_BYTES * n // max(1, size)
    return max(1, min(PART_ROWS, fitting), -(-n_rows // _MOST_PARTS))


class _Deal:
    """Deals rows out to one file per part, in batches of any order.

    Args:
        folder: where the files go.
        name: ``<name>-<part>``.
        owner: key → ``_part``, several where a row goes to several; other rows are left out.
        on: the key.
    """

    def __init__(self, folder: Path, name: str, owner: pl.DataFrame, *, on: str) -> None:
        self._folder, self._name, self._owner, self._on = folder, name, owner, on
        self._writers: dict[int, Any] = {}
        self._files = contextlib.ExitStack()

    def __enter__(self) -> _Deal:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def write(self, frame: pl.DataFrame) -> None:
        """Deal out a batch."""
        import pyarrow as pa

        mine = frame.join(self._owner, on=self._on, how="inner")
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        for (part,), rows in mine.partition_by("_part", as_dict=True, include_key=False).items():
            table = rows.to_arrow()
            if part not in self._writers:
                path = self._folder / f"{self._name}-{part}"
                sink = self._files.enter_context(pa.OSFile(str(path), "wb"))
                self._writers[part] = self._files.enter_context(
                    pa.ipc.new_stream(sink, table.schema, options=options)
                )
            self._writers[part].write_table(table)
