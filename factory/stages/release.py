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
import hashlib
import importlib.metadata
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from factory.dialects import split_reasoning
from factory.errors import StoreError, UsageError
from factory.records.text import trace_text
from factory.stages.contents import Contents
from factory.stages.select import CATEGORICAL, Selected
from factory.store import Store, check_name, now
from factory.store.durable import TMP_PREFIX, fsync_dir, sha256_file, write_json

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

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return its rows, sorted by trace_id."""
        paths = [self.folder / p["name"] for p in self.manifest["parts"]]
        if not paths:
            return pl.DataFrame(schema=dict.fromkeys(columns or ["trace_id"], pl.String))
        frames = [pl.read_parquet(p, columns=list(columns) if columns else None) for p in paths]
        return pl.concat(frames, how="diagonal_relaxed")


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
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    parts = []
    contents = Contents()
    for number, frame in enumerate(_rows(store, selected, work)):
        contents.add(frame)
        path = work / f"part-{number:05d}.parquet"
        frame.write_parquet(path, compression="zstd", row_group_size=2048)
        size = path.stat().st_size
        parts.append(
            {"name": path.name, "rows": frame.height, "bytes": size, "sha256": sha256_file(path)}
        )
    selected.decisions.write_parquet(work / "decisions.parquet", compression="zstd")
    manifest = {
        "name": name,
        "version": version,
        "created_at": now(),
        "rows": keys.height,
        "prompts": keys["prompt_id"].n_unique(),
        "n_universe": selected.decisions.height,
        **contents.row(),
        "parts": parts,
        "decisions_sha256": sha256_file(work / "decisions.parquet"),
        "universe": selected.recipe.universe.model_dump(exclude_none=True),
        "filters": selected.funnel,
        "selection": selected.recipe.model_dump(exclude_defaults=True),
        "plugins": selected.labels,
        "parents": list(parents),
        "recipe": recipe or {},
        "code_version": importlib.metadata.version("r1-factory") if _installed() else "source",
    }
    write_json(work / "manifest.json", manifest)
    fsync_dir(work)
    try:
        work.rename(folder)
    except OSError:
        if not (folder / "manifest.json").exists():
            raise
        shutil.rmtree(work, ignore_errors=True)  # another process was first with the same version
    fsync_dir(folder.parent)
    return open_release(store, name, version)


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
        StoreError: there is none of that name or version.
    """
    name, _, inside = name.partition("/")
    version = version or inside or None
    check_name(name, what="release")
    found = []
    for path in (store.root / "releases" / name).glob("*/manifest.json"):
        if path.parent.name.startswith(TMP_PREFIX):
            continue
        manifest = orjson.loads(path.read_bytes())
        if version is None or manifest["version"] == version:
            found.append((manifest["created_at"], path))
    if not found:
        have = sorted(p.name for p in (store.root / "releases").glob("*") if p.is_dir())
        wanted = f"{name}/{version}" if version else name
        raise StoreError(f"no release {wanted!r}", f"there is: {', '.join(have) or 'none yet'}")
    path = max(found)[1]
    return Release(name, path.parent.name, path.parent, orjson.loads(path.read_bytes()))


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
        ("gold", "prompt_sources", [*_GOLD_KEYS, "gold"]),
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
    golds = parts["gold"].unique(_GOLD_KEYS, keep="first", maintain_order=True)
    frame = frame.join(parts["prompt"], on="prompt_id", how="left")
    frame = frame.join(golds, on=_GOLD_KEYS, how="left", nulls_equal=True)
    return frame.sort("trace_id")


def _part_rows(store: Store, n_rows: int) -> int:
    """Return rows per part: fewer where traces are long."""
    import pyarrow.parquet as pq

    n = size = 0
    for path in store.table("traces").part_paths():
        meta = pq.read_metadata(path)
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
