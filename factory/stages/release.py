"""Release: a versioned dataset, written once.

``data/releases/<name>/<version>/`` holds ``part-*.parquet`` (rows with text), ``decisions.parquet``
(every trace of the universe: kept, or dropped by what) and ``manifest.json``, written last: a
release without it does not exist. The version is a hash of the sorted (trace_id, text hash,
categorical columns); no floats, no file bytes, so the same decision gives the same version.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from factory.durable import TMP_PREFIX, fsync_dir, sha256_file, write_json
from factory.errors import StoreError, UsageError
from factory.records import split_reasoning
from factory.stages.select import Selected
from factory.store import Store, check_name, now

CATEGORICAL = ("source", "split", "domain", "level", "prompt_language", "verifier", "status")
PART_ROWS = 20_000


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
    if selected.kept.is_empty():
        strictest = max(selected.funnel, key=lambda f: f["n_dropped"], default=None)
        hint = f"; filter {strictest['name']!r} drops most" if strictest else ""
        raise UsageError(
            f"nothing is kept of {selected.decisions.height} traces{hint}", "loosen the filters"
        )
    version = version_of(selected.kept)
    folder = store.root / "releases" / name / version
    if (folder / "manifest.json").exists():
        return open_release(store, name, version)
    work = folder.parent / f"{TMP_PREFIX}{version}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    parts = []
    for number, frame in enumerate(_rows(store, selected.kept)):
        path = work / f"part-{number:05d}.parquet"
        frame.write_parquet(path, compression="zstd")
        size = path.stat().st_size
        parts.append(
            {"name": path.name, "rows": frame.height, "bytes": size, "sha256": sha256_file(path)}
        )
    selected.decisions.write_parquet(work / "decisions.parquet", compression="zstd")
    manifest = {
        "name": name,
        "version": version,
        "created_at": now(),
        "rows": selected.kept.height,
        "prompts": selected.kept["prompt_id"].n_unique(),
        "n_universe": selected.decisions.height,
        "parts": parts,
        "decisions_sha256": sha256_file(work / "decisions.parquet"),
        "universe": selected.recipe.universe.model_dump(exclude_none=True),
        "filters": selected.funnel,
        "selection": selected.recipe.model_dump(exclude_none=True, exclude_defaults=True),
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


def _rows(store: Store, kept: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the kept rows with their texts, in the order of their keys, ``PART_ROWS`` at a time."""
    prompts = store.table("prompts").read(["prompt_id", "messages"])
    golds = store.table("prompt_sources").read(["prompt_id", "source", "item", "gold"])
    golds = golds.unique(["prompt_id", "source", "item"], keep="first", maintain_order=True)
    scores = [c for c in kept.columns if not c.startswith("_")]
    for start in range(0, kept.height, PART_ROWS):
        part = kept[start : start + PART_ROWS].select(scores)
        texts = [
            batch.join(part, on="trace_id", how="semi")
            for batch in store.table("traces").batches(["trace_id", "prefill", "completion"])
        ]
        frame = part.join(pl.concat(texts), on="trace_id").join(prompts, on="prompt_id", how="left")
        keys = [c for c in ("prompt_id", "source", "item") if c in frame.columns]
        frame = frame.join(golds, on=keys, how="left", nulls_equal=True)
        full = [(p or "") + c for p, c in frame.select("prefill", "completion").iter_rows()]
        halves = [split_reasoning(t) for t in full]
        yield (
            frame.drop("prefill")
            .with_columns(
                pl.Series("completion", full),
                pl.Series("reasoning", [h.reasoning for h in halves]),
                pl.Series("answer", [h.answer for h in halves]),
            )
            .sort("trace_id")
        )
