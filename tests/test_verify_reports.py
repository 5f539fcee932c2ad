"""Verdicts on small cases after public reports of graders and rewards, one verifier at a time."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from factory import plugins
from factory.records import Item

REPORTS = Path(__file__).parent.parent.parent / "shared" / "data" / "verify_reports.jsonl.gz"
needs_data = pytest.mark.skipif(
    not REPORTS.exists(), reason="needs the public rows in ../shared/data beside the repository"
)
EXCEPTIONS: dict[str, dict[str, str]] = {
    name: {} for name in ("choice", "code", "constraints", "format", "logic", "math")
}
"""Verifier → id of a row that we judge otherwise → why."""


def reports(verifier: str) -> list[dict[str, Any]]:
    with gzip.open(REPORTS, "rt", encoding="utf-8") as lines:
        return [row for line in lines if (row := json.loads(line))["verifier"] == verifier]


def status(row: dict[str, Any]) -> str:
    """Judge one row as a run would: the cheap steps first, then the whole verifier."""
    verifier = plugins.load("verifiers", row["verifier"])
    options = row.get("options") or {}
    prefill = row.get("prefill") or ""
    prompt = row.get("prompt")
    item = Item(
        text=prefill + row["completion"],
        gold=row["gold"],
        prefill=prefill,
        messages=({"role": "user", "content": prompt},) if prompt else (),
    )
    quick = getattr(verifier, "quick", None)
    verdict = quick(item, **options) if quick else None
    found: str = (verdict or verifier.verify(item, **options)).status
    return found


@needs_data
@pytest.mark.parametrize("verifier", sorted(EXCEPTIONS))
def test_verdicts_on_the_reported_kinds(verifier: str) -> None:
    """At least 99 % as expected; nothing that must fail passes; every exception has its reason."""
    rows = reports(verifier)
    got = {row["id"]: (status(row), row["expected"].split("|")) for row in rows}
    other = {key for key, (found, expected) in got.items() if found not in expected}
    assert {key for key in other if got[key][0] == "pass"} == set()
    assert other == set(EXCEPTIONS[verifier])
    assert len(other) <= 0.01 * len(rows)
