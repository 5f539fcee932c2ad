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
import ctypes, errno, fcntl, json, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
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
for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    attempt("make a pair of datagram sockets", lambda: socket.socketpair(UNIX, kind))
pair = socket.socketpair()
attempt("send a message", lambda: pair[0].sendmsg([b"x"]))
for number in (0x8901, 0x8902):
    owner = struct.pack("i", os.getppid())
    attempt("own a socket for another", lambda: fcntl.ioctl(pair[0], number, owner) is not None)
def refused(done):
    return done != -1 or ctypes.get_errno() != errno.EPERM
address = b"\x01\x00" + told["unix"].encode() + b"\x00"
attempt("send to an address",
        lambda: refused(libc.sendto(pair[0].fileno(), b"x", 1, 0, address, len(address))))
attempt("send messages", lambda: refused(libc.sendmmsg(pair[0].fileno(), None, 0, 0)))
for end in pair:
    end.close()
attempt("make a memory file", lambda: os.memfd_create("x") >= 0)
attempt("outlive its server", lambda: libc.prctl(1, 0, 0, 0, 0) == 0)
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

# As many processes as it gets hold 64 MiB each, half of it in shared pages; it tells how many.
_HOLD = """
import mmap, os, time
alive, done = {}, b""
read, write = os.pipe()
try:
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            shared = mmap.mmap(-1, 32 << 20)
            own = bytearray(b"x") * (32 << 20)
            for at in range(0, 32 << 20, 4096):
                shared[at] = 1
            os.write(write, bytes([number]))
            time.sleep(30)
        alive[pid] = number
except OSError:
    pass
os.set_blocking(read, False)
until = time.monotonic() + 5
while not set(alive.values()) <= set(done) and time.monotonic() < until:
    time.sleep(0.02)
    alive = {pid: n for pid, n in alive.items() if os.waitpid(pid, os.WNOHANG)[0] == 0}
    try:
        done += os.read(read, 64)
    except BlockingIOError:
        pass
print(len(alive))
"""
_HELD_BYTES = 64 << 20


def overruns(box: Box) -> list[str]:
    """Let the box overrun its clocks; return the names of those that did not end it.

    Takes about two seconds, so it is for ``factory doctor`` alone.

    Raises:
        BoxError: the box could not run them at all.
    """
    found = []
    spun = box.run("program", {"program": "while True: pass"}, limits=Limits(cpu_s=1, wall_s=20))
    if spun.ended != "time_limit" or spun.cpu_s > 1.5:
        found.append("use more CPU time")
    slept = box.run(
        "program", {"program": "import time\ntime.sleep(60)"}, limits=Limits(cpu_s=1, wall_s=0.3)
    )
    if slept.ended != "time_limit":
        found.append("sleep longer")
    return found


def _holds_too_much(box: Box) -> bool:
    limits = Limits(cpu_s=5, wall_s=15, memory_bytes=160 << 20, scratch_bytes=16 << 20)
    outcome = box.run("program", {"program": _HOLD}, limits=limits)
    said = outcome.stdout.strip()
    return said.isdigit() and int(said) * _HELD_BYTES > 1.2 * limits.memory_bytes


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
        got = _attacked(box, told, plain=False)
        if box.tier == "bwrap":  # there, plain programs run behind other walls
            got = sorted({*got, *_attacked(box, told, plain=True)})
        if file.read_text() != secret or file.stat().st_mode & 0o777 != 0o666:
            got.append("change a file")
        if _holds_too_much(box):
            got.append("hold more memory")
        return got


def _attacked(box: Box, told: dict[str, Any], *, plain: bool) -> list[str]:
    limits = Limits(cpu_s=5, wall_s=15)
    given = json.dumps(told).encode()
    outcome = box.run("program", {"program": _ATTACKS}, stdin=given, limits=limits, plain=plain)
    try:
        got, forks = json.loads(outcome.stdout)
    except ValueError:
        said = outcome.stderr.decode(errors="replace").strip()[-300:]
        raise BoxError(f"the self-test did not finish ({outcome.ended}): {said}") from None
    if forks >= (1 if plain else limits.processes):
        got.append(f"make {forks} processes")
    return sorted(set(got))


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
