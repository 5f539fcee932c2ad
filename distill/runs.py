"""Run folders: a finished run writes ``run.json`` last, and is never done twice."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from factory.errors import CorruptError, UsageError
from factory.store.durable import write_json

MANIFEST = "run.json"
FOLLOW_PARENT = "DISTILL_DIES_WITH_PARENT"
"""Variable of the environment: process id of the program that launched ``distill`` for itself."""
_DEVICES = "devices.json"
_NOTED_S = 10.0
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
    # Its figures hold what was spent.
    (folder / _DEVICES).unlink(missing_ok=True)


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


class Spent:
    """CPU and wall seconds of a training, over all of its attempts.

    ``wall_s`` counts from the object's creation, ``cpu_s`` from ``begin``: what is spent before
    that (loading, starting an engine) is ``setup_cpu_s``.

    >>> spent = Spent()
    >>> spent.begin(before=100.0)
    >>> 100 <= spent.cpu_s < 101
    True
    """

    def __init__(self) -> None:
        self._wall, self._zero = time.monotonic(), cpu_s()
        self.setup_cpu_s = 0.0

    def begin(self, *, before: float = 0.0) -> None:
        """Count CPU seconds from now on, on top of those that earlier attempts spent."""
        now = cpu_s()
        self.setup_cpu_s, self._zero = now - self._zero, now - before

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the training, earlier attempts included."""
        return cpu_s() - self._zero

    @property
    def wall_s(self) -> float:
        """Wall seconds of this attempt, loading included."""
        return time.monotonic() - self._wall


@contextlib.contextmanager
def device_time(folder: Path, n_devices: int, *, writes: bool = True) -> Iterator[DeviceTime]:
    """Count the seconds of devices that a run holds, start-up included, over all its attempts.

    They are noted in the run's folder now and then, so that what a killed attempt has spent is
    known, too; a finished run keeps them as ``device_s`` of its figures.

    Args:
        folder: of the run.
        n_devices: that it holds: GPUs, or processes on a CPU.
        writes: whether this process notes them: the first of several.
    """
    spent = DeviceTime(folder / _DEVICES, n_devices)
    if not writes:
        yield spent
        return
    done = threading.Event()

    def note() -> None:
        while True:
            spent.note()
            if done.wait(_NOTED_S):
                return

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    try:
        yield spent
    finally:
        done.set()
        thread.join()
        spent.note()


def device_s_of(folder: Path) -> float:
    """Return the device seconds that a run has spent so far, finished or not; 0 before it began."""
    run = read_run(folder)
    if run is not None:
        return float(run["metrics"].get("device_s") or 0.0)
    try:
        return float(json.loads((folder / _DEVICES).read_text(encoding="utf-8"))["device_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


class DeviceTime:
    """Seconds × devices of a run; see ``device_time``.

    Args:
        path: file that earlier attempts have written, and this one writes.
        n_devices: that the run holds.
    """

    def __init__(self, path: Path, n_devices: int) -> None:
        self._path, self._n = path, n_devices
        self._before, self._began = device_s_of(path.parent), time.monotonic()

    @property
    def total_s(self) -> float:
        """Device seconds, those of earlier attempts included."""
        return round(self._before + (time.monotonic() - self._began) * self._n, 1)

    def note(self) -> None:
        """Write what was spent so far."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, {"device_s": self.total_s, "n_devices": self._n})


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent dies, however it dies (Linux).

    A stage's lock is freed by its holder's death: a trainer that lived on would train beside the
    one that a rerun starts, in the same folder. Launchers stand between the two and pass nothing
    on but the environment, so each trainer asks for itself; the chain falls link by link.
    """
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    # The one that launched it may have died before this line.
    launched_by = os.environ.get(FOLLOW_PARENT)
    if launched_by and not Path("/proc", launched_by).exists():
        os.kill(os.getpid(), signal.SIGKILL)
