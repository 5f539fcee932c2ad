"""Hostile files through every verb that reads files: bounded in memory and time, one line each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import hostile_files

MEMORY_MIB = 2048
SECONDS = 60.0


# All of them take an hour; these stand for the rest in CI: `pytest -m bench` runs the others.
IN_CI = ("string.json.zst", "window.jsonl.zst", "nul.jsonl", "deep.jsonl", "cut.parquet")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in IN_CI else pytest.mark.bench)
        for name in hostile_files.MAKERS
    ],
)
def test_a_hostile_file_is_read_or_refused_in_bounds(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    path = hostile_files.make(name, folder)
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile_files", str(path), str(tmp_path),
         *hostile_files.VERBS],
        capture_output=True, text=True, check=False, timeout=len(hostile_files.VERBS) * SECONDS,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (found[-1:], done.stderr[-500:])
    assert [f["verb"] for f in found] == list(hostile_files.VERBS), done.stderr[-500:]
    for f in found:
        assert not f["error"], f
        assert f["status"] in (0, 1, 2), f
        assert "Traceback" not in f["said"], f
        assert f["seconds"] < SECONDS, f
        assert f["peak_mib"] < MEMORY_MIB, f
        if f["status"] == 2:
            assert f["said"].rstrip().rpartition("\n")[2].startswith("factory "), f
