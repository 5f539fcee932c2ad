"""Check the releases of a store, and bring back what is whole of a damaged one.

A release's version is a hash of its rows, so that a release that lost its manifest proves itself.
One whose rows are damaged cannot be mended; it is set aside, and the same recipe on the same facts
makes the same version again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from factory.errors import CorruptError
from factory.stages.release import version_of
from factory.store import Store
from factory.store.durable import TMP_PREFIX, sha256_file
from factory.store.repair import set_aside


def check_releases(store: Store) -> list[str]:
    """Re-hash every file of every release; return one line per finding."""
    lines = []
    for folder in _folders(store):
        try:
            manifest = store.ledger.read_json(folder / "manifest.json")
            digests = _digests(manifest)
        except FileNotFoundError:
            lines.append(f"{folder / 'manifest.json'} is missing")
            continue
        except CorruptError as error:
            lines.append(error.what)
            continue
        for name, digest in digests.items():
            path = folder / name
            if not path.exists():
                lines.append(f"{path} is missing")
            elif sha256_file(path) != digest:
                lines.append(f"{path} is damaged (its SHA-256 changed)")
    return lines


def repair_releases(store: Store) -> list[str]:
    """Rebuild lost manifests, set damaged releases aside; return what was done, a line each."""
    done = []
    for folder in _folders(store):
        path = folder / "manifest.json"
        try:
            digests = _digests(store.ledger.read_json(path))
        except (CorruptError, FileNotFoundError):
            found = _manifest_of(folder)
            if found is not None:
                if path.exists():
                    set_aside(store.root, path)
                store.ledger.write_json(path, found)
                done.append(f"{path} is written anew: its rows prove the version")
                continue
            digests = {"manifest.json": ""}
        if any(not (folder / n).exists() or sha256_file(folder / n) != d
               for n, d in digests.items()):  # fmt: skip
            store.ledger.note([path], there=False)
            aside = set_aside(store.root, folder) if folder.exists() else "nothing"
            done.append(
                f"{folder} is damaged; what is left of it: {aside}; "
                "release it again: the same recipe gives the same version"
            )
    return done


def _folders(store: Store) -> list[Path]:
    found = {p.parent for p in store.ledger.expected("releases")}
    found |= {p for p in (store.root / "releases").glob("*/*") if p.is_dir()}
    return sorted(p for p in found if not p.name.startswith(TMP_PREFIX))


def _digests(manifest: dict[str, Any]) -> dict[str, str]:
    digests = {p["name"]: p["sha256"] for p in manifest.get("parts", []) if "sha256" in p}
    if "decisions_sha256" in manifest:
        digests["decisions.parquet"] = manifest["decisions_sha256"]
    return digests


def _manifest_of(folder: Path) -> dict[str, Any] | None:
    """Return what a manifest must say of the rows that are there, if they prove the version."""
    try:
        paths = sorted(folder.glob("part-*.parquet"))
        frames = [pl.read_parquet(p.read_bytes()) for p in paths]
        decisions = folder / "decisions.parquet"
        rows = pl.concat(frames)
        kept = pl.read_parquet(decisions.read_bytes()).filter("is_kept")["trace_id"]
        if version_of(rows) != folder.name or set(kept) != set(rows["trace_id"]):
            return None
        n_universe = pl.read_parquet(decisions.read_bytes()).height
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return None
    parts = [
        {"name": p.name, "rows": f.height, "bytes": p.stat().st_size, "sha256": sha256_file(p)}
        for p, f in zip(paths, frames, strict=True)
    ]
    return {
        "name": folder.parent.name, "version": folder.name, "created_at": None,
        "rows": rows.height, "prompts": rows["prompt_id"].n_unique(), "n_universe": n_universe,
        "parts": parts, "decisions_sha256": sha256_file(decisions), "sequence": 0,
        "filters": [], "plugins": {}, "universe": {}, "selection": {}, "parents": [],
        "recipe": {}, "code_version": "rebuilt",
    }  # fmt: skip
