"""Run folders: a finished run writes ``run.json`` last, and is never done twice."""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from factory.errors import CorruptError, UsageError
from factory.store.durable import write_json

MANIFEST = "run.json"
_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers")


def file_digest(path: Path) -> str:
    """Return the BLAKE2b digest of a file's bytes, 32 characters.

    Raises:
        UsageError: there is no such file.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UsageError(
            f"cannot read {str(path)!r} ({error.strerror})", "check the path"
        ) from None
    return digest.hexdigest()


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished run, or None where the run has not finished.

    Raises:
        CorruptError: the manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise CorruptError(f"{path} is damaged", "remove the folder and run again") from None
    if not isinstance(values, dict):
        raise CorruptError(f"{path} is damaged", "remove the folder and run again")
    return values


def finished(folder: Path, *, inputs: str) -> bool:
    """Return whether ``folder`` holds the finished run of these inputs.

    Raises:
        UsageError: it holds the run of other inputs, which is never overwritten.
    """
    run = read_run(folder)
    if run is None:
        return False
    if run.get("inputs") != inputs:
        raise UsageError(
            f"{folder} holds a finished run of other inputs", "choose another output folder"
        )
    return True


def write_run(
    folder: Path,
    *,
    kind: str,
    inputs: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    """Write the manifest, whole or not at all."""
    values = {
        "kind": kind,
        "inputs": inputs,
        "config": config,
        "metrics": metrics,
        "versions": versions(),
    }
    write_json(folder / MANIFEST, values)


def versions() -> dict[str, str]:
    """Return the versions of the training libraries that are installed."""
    out = {}
    for package in _PACKAGES:
        try:
            out[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return out


def cpu_s() -> float:
    """Return this process's CPU seconds, its finished children's included."""
    own, children = (
        resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    )  # fmt: skip
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
