"""What the catalog knows of releases: read from each ``manifest.json`` and the files beside it.

A release that cannot be read stays in the list with its ``problem``; it never stops the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from factory.errors import CorruptError
from factory.store import Store
from factory.store.durable import TMP_PREFIX

_COUNTS = ("n_in", "n_dropped_here", "n_dropped", "n_dropped_only", "n_undefined")


@dataclass(frozen=True)
class ReleaseFiles:
    """One version of one release on disk.

    Attributes:
        row: its row of ``releases``.
        filters: its rows of ``release_filters``.
        parts: Parquet files with its rows, one ``trace_id`` each.
        sequence: the higher, the newer.
        decisions: Parquet file of ``trace_id, is_kept, dropped_by, undefined_by``, where written.
    """

    row: dict[str, Any]
    filters: list[dict[str, Any]] = field(default_factory=list)
    parts: list[Path] = field(default_factory=list)
    decisions: Path | None = None
    sequence: int = 0


def manifest_paths(store: Store) -> list[Path]:
    """Return the manifests of all releases; one without manifest was never finished."""
    found = (store.root / "releases").glob("*/*/manifest.json")
    there = {p for p in found if not p.parent.name.startswith(TMP_PREFIX)}
    return sorted({*there, *store.ledger.expected("releases")})


def read_releases(store: Store) -> list[ReleaseFiles]:
    """Read all releases, oldest first; the latest version of each name is marked."""
    found = [_read(store, path) for path in manifest_paths(store)]
    found.sort(key=lambda r: (r.sequence, r.row["created_at"] or "", r.row["version"]))
    latest = {r.row["release"]: r.row["version"] for r in found}
    for release in found:
        release.row["is_latest"] = release.row["version"] == latest[release.row["release"]]
    return found


def _read(store: Store, path: Path) -> ReleaseFiles:
    name, version = path.parts[-3], path.parts[-2]
    row: dict[str, Any] = {
        "release": name, "version": version, "n_rows": None, "n_universe": None,
        "created_at": None, "universe": None, "parents": None, "recipe": None,
        "manifest": None, "problem": None,
    }  # fmt: skip
    try:
        data = store.ledger.read_json(path)
    except (OSError, CorruptError) as error:
        return ReleaseFiles({**row, "problem": f"{error}"})
    row |= {
        "n_rows": data.get("rows"),
        "n_universe": data.get("n_universe"),
        "created_at": data.get("created_at"),
        "manifest": orjson.dumps(data).decode(),
    }
    for key in ("universe", "parents", "recipe"):
        if data.get(key) is not None:
            row[key] = orjson.dumps(data[key]).decode()
    parts = [path.parent / str(p["name"]) for p in data.get("parts", []) if "name" in p]
    parts = parts or sorted(path.parent.glob("part-*.parquet"))
    decisions = path.parent / "decisions.parquet"
    digests = {path.parent / str(p["name"]): p.get("sha256") for p in data.get("parts", [])}
    digests[decisions] = data.get("decisions_sha256")
    try:
        for file in [*parts, *([decisions] if digests[decisions] else [])]:
            if digests.get(file):
                store.ledger.vouch(file, digests[file])
            elif not file.is_file():
                raise CorruptError(f"{file} is missing")
    except CorruptError as error:
        row["problem"] = str(error)
        parts, decisions = [], path.parent / "none"
    filters = _filters(data.get("filters"), name, version)
    files = decisions if decisions.is_file() else None
    return ReleaseFiles(row, filters, parts, files, data.get("sequence", 0))


def _filters(found: Any, name: str, version: str) -> list[dict[str, Any]]:
    if isinstance(found, Mapping):
        found = [
            {"name": k, **(v if isinstance(v, Mapping) else {"sql": v})} for k, v in found.items()
        ]
    return [
        {
            "release": name,
            "version": version,
            "position": position,
            "filter": str(item.get("name")),
            "predicate": item.get("sql"),
            "is_on": bool(item.get("is_on", True)),
            **{count: item.get(count) for count in _COUNTS},
        }
        for position, item in enumerate(found or [], 1)
        if isinstance(item, Mapping)
    ]
