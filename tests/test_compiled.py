"""Kernels are kept on disk wherever that is possible, and work where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = """
from factory.compiled import kernel

@kernel
def twice(x):
    return 2 * x
"""
CALL = "import sys; sys.path.insert(0, sys.argv[1]); import some_kernels; some_kernels.twice(3)"


def run(folder: Path, **env: str) -> str:
    """Call the kernel in a process of its own and return what that said."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(folder)], check=True, cwd=ROOT, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env}, text=True,
    )  # fmt: skip
    return done.stderr


@pytest.mark.parametrize("home", ["writable", "missing"])
def test_a_kernel_runs_where_its_folder_takes_no_cache(tmp_path: Path, home: str) -> None:
    folder, cache = tmp_path / "code", tmp_path / "cache"
    folder.mkdir()
    (folder / "some_kernels.py").write_text(SOURCE)
    # A file in the place of the folder: also root cannot write into it.
    (folder / "__pycache__").write_text("")
    if home == "missing":
        cache.write_text("")
    run(folder, XDG_CACHE_HOME=str(cache), HOME=str(cache))
    kept = list(tmp_path.rglob("some_kernels.twice*.nbc"))
    assert len(kept) == (1 if home == "writable" else 0)


def test_a_kernel_is_compiled_once_and_the_wait_is_told(tmp_path: Path) -> None:
    (tmp_path / "some_kernels.py").write_text(SOURCE)
    assert "kernels, once after an installation" in run(tmp_path)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb[ci]")}
    assert run(tmp_path) == ""
    assert first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb[ci]")} == first
