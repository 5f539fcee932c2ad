"""Attacks that a box must withstand before it gets any work.

Each is tried for real, against canaries that this process sets up; whatever gets through is named.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any

from factory.sandbox.box import Box, BoxError, Limits

# The box gets this text; lines that fail are what is hoped for.
_ATTACKS = r"""
import json, os, socket, sys, time
told = json.loads(sys.stdin.readline())
got = []
TCP, UNIX, STREAM = socket.AF_INET, socket.AF_UNIX, socket.SOCK_STREAM

def attempt(name, work):
    try:
        if work():
            got.append(name)
    except BaseException:
        pass

def read(path):
    with open(path, "rb") as f:
        return path.endswith("mem") or told["secret"].encode() in f.read()

def connect(family, where):
    s = socket.socket(family, STREAM)
    s.settimeout(0.5)
    s.connect(where)
    return True

def write(path):
    with open(path, "w") as f:
        return f.write("x")

def held(fd):
    try:
        return bool(os.fstat(fd))
    except OSError:
        return False

attempt("read a file", lambda: read(told["file"]))
attempt("see the environment", lambda: told["secret"] in str(dict(os.environ)))
for pid in (told["pid"], os.getppid()):
    for what in ("environ", "mem"):
        attempt("read /proc", lambda: read(f"/proc/{pid}/{what}"))
attempt("open a TCP connection", lambda: connect(TCP, ("127.0.0.1", told["port"])))
attempt("open a UNIX connection", lambda: connect(UNIX, told["unix"]))
attempt("open an abstract UNIX connection", lambda: connect(UNIX, told["abstract"]))
attempt("make a socket", lambda: socket.socket(TCP, socket.SOCK_DGRAM))
attempt("write a file", lambda: write(told["file"] + ".new"))
attempt("change a file", lambda: os.chmod(told["file"], 0o777) is None)
if told["pid"] != os.getpid():
    attempt("signal a process", lambda: os.kill(told["pid"], 0) is None)
attempt("hold descriptors", lambda: any(map(held, range(3, 256))))
made = 0
try:
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        made += 1
except OSError:
    pass
print(json.dumps([got, made]))
"""


def escapes(box: Box) -> list[str]:
    """Attack the box; return the names of what got through, none where it holds.

    Raises:
        BoxError: the box could not run the attacks at all.
    """
    secret = secrets.token_hex(16)
    canary = tempfile.TemporaryDirectory(prefix="factory-canary-")
    with canary as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o777)  # the box, not the file's mode, has to keep it
        file = Path(folder) / "canary"
        file.write_text(secret)
        file.chmod(0o666)
        told: dict[str, Any] = {"file": str(file), "pid": os.getpid(), "secret": secret}
        told["port"] = _listen(stack, socket.AF_INET, ("127.0.0.1", 0))[1]
        told["unix"] = str(Path(folder) / "socket")
        _listen(stack, socket.AF_UNIX, told["unix"])
        told["abstract"] = "\0factory-" + secret[:8]
        _listen(stack, socket.AF_UNIX, told["abstract"])
        limits = Limits(cpu_s=5, wall_s=15)
        outcome = box.run(
            "program", {"program": _ATTACKS}, stdin=json.dumps(told).encode(), limits=limits
        )
        try:
            got, forks = json.loads(outcome.stdout)
        except ValueError:
            said = outcome.stderr.decode(errors="replace").strip()[-300:]
            raise BoxError(f"the self-test did not finish ({outcome.ended}): {said}") from None
        got = sorted(set(got))
        if forks >= limits.processes:
            got.append(f"make {forks} processes")
        if file.read_text() != secret or file.stat().st_mode & 0o777 != 0o666:
            got.append("change a file")
        return got


def _listen(stack: contextlib.ExitStack, family: int, where: Any) -> Any:
    try:
        server = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return where  # no network here at all: nothing to reach
    stack.callback(server.close)
    with contextlib.suppress(OSError):
        server.bind(where)
        server.listen(4)
    return server.getsockname()
