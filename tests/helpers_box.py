"""What is looked at after every attack: invariants I1 to I7 of the sandbox."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from factory.errors import Refused
from factory.sandbox import TIERS, Box, Limits, Outcome, Tier, choose
from factory.sandbox.tiers import SLOT_UIDS, TierError

# The tier that this machine would choose, fast; each tier by name among the slow tests.
TIER_PARAMS = ["chosen", *(pytest.param(tier, marks=pytest.mark.slow) for tier in TIERS)]


def resolve(name: str) -> Tier:
    """Return the tier, or skip the test where it does not start."""
    try:
        tier: Tier = choose() if name == "chosen" else name  # type: ignore[assignment]
        Box(tier).close()
    except (TierError, Refused) as error:
        pytest.skip(f"tier {name} does not start here: {error}")
    return tier


SECRET = "canary-" + secrets.token_hex(12)


def descendants(pid: int) -> set[int]:
    """Return the living processes below ``pid``, and those of slot users anywhere."""
    parents: dict[int, int] = {}
    slots = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            uid = entry.stat().st_uid
        except (OSError, IndexError):
            continue
        parents[int(entry.name)] = int(fields[1])
        if uid in SLOT_UIDS:
            slots.add(int(entry.name))
    found = {pid}
    while more := {p for p, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def tree_hash(folder: Path) -> str:
    """Hash names, contents, modes and owners of a tree."""
    lines = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        body = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        lines.append((str(path), status.st_mode, status.st_uid, status.st_mtime_ns, body))
    return hashlib.sha256(repr(lines).encode()).hexdigest()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_share() -> float:
    """Return what part of a core this process gets right now: 1 on an idle machine.

    Wall limits of tests are for an idle machine; where others compute, they are stretched by it.
    """
    begun, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.02:
        pass
    return max(0.02, min(1.0, 0.02 / (time.monotonic() - begun)))


class Guarded:
    """A box with canaries around it; ``attack`` runs a program and checks every invariant."""

    def __init__(self, tier: Tier, folder: Path, *, plain: bool | None = None) -> None:
        self.tier = tier
        self.plain = plain
        self.folder = folder / "canary"
        self.folder.mkdir()
        (self.folder / "secret.txt").write_text(SECRET)
        (self.folder / "expected.json").write_text(f'["{SECRET}"]')
        for path in (self.folder, *self.folder.iterdir()):
            path.chmod(0o777)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.tcp.setblocking(False)
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(self.folder / "socket"))
        self.unix.listen()
        self.abstract = f"\0factory-test-{os.getpid()}-{tier}"
        self.named = socket.socket(socket.AF_UNIX)
        self.named.bind(self.abstract)
        self.named.listen()
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
        )
        os.environ["FACTORY_CANARY"] = SECRET
        self.open_box()
        self.usual_s = min(self.benign() for _ in range(5))

    def open_box(self) -> None:
        self.box = Box(self.tier)
        self.benign()
        self.living = descendants(self.box.launched.process.pid)

    def close(self) -> None:
        del os.environ["FACTORY_CANARY"]
        self.process.kill()
        self.process.wait()
        for server in (self.tcp, self.unix, self.named):
            server.close()
        self.box.close()

    def benign(self) -> float:
        started = time.monotonic()
        outcome = self.box.run("program", {"program": "print(int(input()) * 2)"}, stdin=b"21\n")
        assert outcome.stdout == b"42\n", outcome
        return time.monotonic() - started

    def told(self) -> dict[str, object]:
        return {
            "file": str(self.folder / "secret.txt"), "folder": str(self.folder),
            "port": self.tcp.getsockname()[1], "unix": str(self.folder / "socket"),
            "abstract": self.abstract, "pid": self.process.pid, "harness": os.getpid(),
        }  # fmt: skip

    def attack(self, program: str, limits: Limits | None = None) -> Outcome:
        limits = limits or Limits()
        compile(program, "attack", "exec")  # one that is no Python would attack nothing
        if (share := cpu_share()) < 0.7:
            limits = replace(limits, wall_s=min(90.0, limits.wall_s / share))
        before, memory = tree_hash(self.folder), resident_bytes()
        head = f"T = {self.told()!r}\n"
        job = {"program": head + program}
        outcome = self.box.run("program", job, limits=limits, plain=self.plain)
        ended = time.monotonic()
        assert b"ESCAPED" not in outcome.stdout, outcome.stdout[:300]
        while (now := descendants(self.box.launched.process.pid)) - self.living:
            assert time.monotonic() - ended < 1.0 / share, f"I1: {now - self.living} survive"
            time.sleep(0.02)
        assert self.process.poll() is None, "S-14: the canary process was killed"
        assert tree_hash(self.folder) == before, "I2: the canary tree changed"
        assert SECRET.encode() not in outcome.stdout + outcome.stderr, "I3: the secret leaked"
        if self.box.launched.process.poll() is not None:
            # The kernel had no process to end but the box: the next sample gets a new one.
            assert outcome.ended == "memory_limit", outcome
            self.box.close()
            self.open_box()
        again = min(self.benign() for _ in range(3))
        allowed_s = max(2 * self.usual_s, 0.3)
        for _ in range(20):  # a box that is slow for good stays slow; a busy machine does not
            if again < allowed_s:
                break
            again = min(again, self.benign() * cpu_share())
        assert again < allowed_s, f"I4: {again:.3f} s after {self.usual_s:.3f} s"
        left = self.box.run("program", {"program": LEFT})
        assert left.stdout.split() in ([b"clean"], [b"closed"]), f"I5: {left.stdout!r}"
        assert resident_bytes() - memory < 64 << 20, "I7: the harness grew"
        try:
            self.tcp.accept()
        except BlockingIOError:
            return outcome
        raise AssertionError("S-07: the listener saw a connection")


LEFT = """
import os
try:
    found = os.listdir("/tmp") + os.listdir("/dev/shm")
    print("left " + str(found) if found else "clean")
except OSError:
    print("closed")
"""
