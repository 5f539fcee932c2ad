"""What the pages of releases show: all of them, one with its funnel, two compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from catalogs.diff import sections
from factory.browse.database import Database
from factory.errors import UsageError
from factory.report.data import ReportData, collect
from factory.rows.answers import Answer

MAX_MODELS = 500


def shelf(db: Database) -> list[dict[str, Any]]:
    """Return all releases, newest first."""
    return db.ask(
        "SELECT release, version, n_rows, n_universe, created_at, is_latest, problem "
        "FROM releases ORDER BY created_at DESC, release, version"
    ).dicts()


def named(db: Database, name: str) -> tuple[str, str]:
    """Return name and version of a release, given as ``name`` or ``name/version``.

    Raises:
        UsageError: there is none.
    """
    release, _, version = name.partition("/")
    for row in shelf(db):
        if row["release"] == release and (
            row["version"].startswith(version) if version else row["is_latest"]
        ):
            return row["release"], row["version"]
    raise UsageError(f"no release {name[:80]!r}", "the overview lists them")


def measured(db: Database, release: str, version: str) -> ReportData:
    """Return what the report of a release says."""
    return db.using(lambda con: collect(con, release, version, texts=False))


def compared(db: Database, before: tuple[str, str], after: tuple[str, str]) -> list[Answer]:
    """Return what changed between two releases."""
    return db.using(lambda con: sections(con, before, after))


# ---- who learned from it


def trainings(roots: list[Path]) -> list[dict[str, Any]]:
    """Return the trainings whose folders lie under ``roots``, newest first.

    A finished one has ``run.json``; one that runs has checkpoints with the trainer's state.
    """
    found: dict[Path, dict[str, Any]] = {}
    for root in roots:
        for path in sorted(root.glob("**/run.json"))[:MAX_MODELS]:
            data = _json(path)
            if data.get("kind") in ("sft", "grpo", "reward"):
                found[path.parent] = {
                    "folder": path.parent, "kind": data["kind"], "is_finished": True,
                    "config": data.get("config") or {}, "metrics": data.get("metrics") or {},
                    "log": (data.get("metrics") or {}).get("log") or [],
                    "at": path.stat().st_mtime,
                }  # fmt: skip
        states = sorted(
            root.glob("**/checkpoints/checkpoint-*/trainer_state.json"),
            key=lambda p: int(p.parent.name.rpartition("-")[2] or 0),
        )
        for path in states[-MAX_MODELS:]:
            folder = path.parent.parent.parent
            if folder not in found or not found[folder]["is_finished"]:
                state = _json(path)
                found[folder] = {
                    "folder": folder, "kind": "sft", "is_finished": False,
                    "config": _settings(path.parent / "whole"),
                    "metrics": {"steps": state.get("global_step")},
                    "log": state.get("log_history") or [], "at": path.stat().st_mtime,
                }  # fmt: skip
    return sorted(found.values(), key=lambda t: -t["at"])


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _settings(path: Path) -> dict[str, Any]:
    found = _json(path).get("settings")
    return found if isinstance(found, dict) else {}


def learned_from(training: dict[str, Any], release: str, version: str) -> bool:
    """Tell whether a training's data are an export of a release, by the name of its file."""
    data = str(training["config"].get("data") or "")
    return bool(data) and version in data and release in data


def lineage(
    trainings: list[dict[str, Any]], decisions: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the students that learned from the releases that kept a trace."""
    return [
        {"training": t, "release": d["release"], "version": d["version"]}
        for d in decisions
        if d["is_row"]
        for t in trainings
        if learned_from(t, d["release"], d["version"])
    ]
