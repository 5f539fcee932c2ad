"""Durable files: what is written is on disk before anybody is told so.

A file appears under its final name whole or not at all: write a temporary file beside it, fsync
it, rename it, fsync the folder. No Parquet writer does this by itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from factory.errors import FactoryError, StoreError

TMP_PREFIX = ".tmp-"
SPEAK_S = 2.0
"""How long a lock is waited for in silence."""
_JSON = (
    orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    | orjson.OPT_SERIALIZE_NUMPY
)  # fmt: skip


def fsync_dir(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def disk_error(error: OSError, path: Path, kept: str) -> FactoryError:
    """Turn an ``OSError`` of a write into one line that says what is kept and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"the disk is full at {path}", f"{kept}; free some space and run it again"
        )
    return StoreError(
        f"cannot write {path} ({os.strerror(error.errno or 0)})", f"{kept}; check rights"
    )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it becomes ``path``, durably.

    On any error the temporary file is removed and ``path`` is as it was.
    """
    tmp = path.parent / f"{TMP_PREFIX}{path.name}-{os.getpid()}-{time.monotonic_ns()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield tmp
        with tmp.open("rb") as handle:
            os.fsync(handle.fileno())
        tmp.replace(path)
        fsync_dir(path.parent)
    except OSError as error:
        raise disk_error(error, path, "the old content is kept") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            tmp.unlink()


def is_writable(folder: Path) -> bool:
    """Tell whether a file can be made in a folder, or the folder itself where it is absent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN and infinity become null."""
    data = orjson.dumps(value, option=_JSON)
    with replacing(path) as tmp:
        tmp.write_bytes(data + b"\n")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _owner(fd: int) -> str:
    """Return who says of itself that it holds a lock."""
    return os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "another process"


@contextlib.contextmanager
def locked(path: Path, *, timeout_s: float = 120.0) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (created where absent) for a short time.

    The kernel drops the lock of a process that dies, so there is no stale lock to clear.

    Raises:
        StoreError: somebody else held it for longer than ``timeout_s``; the message names them.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise disk_error(error, path, "nothing was changed") from error
    try:
        begun = time.monotonic()
        said = False
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - begun
                if waited > timeout_s:
                    raise StoreError(
                        f"{path} is held by {_owner(fd)}", "wait for it to end"
                    ) from None
                if waited > SPEAK_S and not said:
                    said = True
                    sys.stderr.write(
                        f"waiting for {_owner(fd)}, which holds {path}; at most {timeout_s:.0f} s\n"
                    )
                time.sleep(0.01)
        with contextlib.suppress(
            OSError
        ):  # the owner's name is a courtesy; a full disk may refuse it
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(fd)
