"""kill -9 at random moments of concurrent writers, sealing and reading."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factory.store import Store
from factory.store.repair import check
from tests.helpers_store import FORM

ROOT = Path(__file__).parent.parent
N_KILLS = 120


@pytest.mark.slow
def test_committed_rows_are_all_there_and_none_twice_after_many_kills(tmp_path: Path) -> None:
    root = tmp_path / "data"
    Store(root).table("t", FORM)
    generator = random.Random(7)
    live: list[subprocess.Popen[bytes]] = []
    kills = starts = 0

    def start(kind: str) -> subprocess.Popen[bytes]:
        nonlocal starts
        starts += 1
        extra = [str(tmp_path / f"ack-{starts}"), str(starts * 1_000_000), "1"]
        arguments = [str(root), *(extra if kind == "write" else [])]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.helpers_store", kind, *arguments],
            cwd=ROOT, stderr=subprocess.PIPE,
        )  # fmt: skip

    kinds = ["write", "write", "write", "seal"]
    live = [start(kind) for kind in kinds]
    numbers = [1, 2, 3, 4]
    time.sleep(1.0)
    while kills < N_KILLS:
        i = generator.randrange(len(live))
        ack = tmp_path / f"ack-{numbers[i]}"
        # Most kills find a writer at work, some find it starting.
        deadline = time.monotonic() + (60 if generator.random() < 0.8 else 0)
        while kinds[i] == "write" and time.monotonic() < deadline and not ack.exists():
            time.sleep(0.02)
        time.sleep(generator.random() * 0.25)
        assert live[i].poll() is None, (live[i].stderr.read() if live[i].stderr else b"").decode()
        live[i].send_signal(signal.SIGKILL)
        live[i].communicate()
        kills += 1
        live[i] = start(kinds[i])
        numbers[i] = starts
    for process in live:
        process.kill()
        process.communicate()
    store = Store(root)
    assert check(store) == []
    found = store.table("t").read(["k", "n"])
    assert found["k"].is_unique().all()
    acknowledged = {
        int(line) for path in tmp_path.glob("ack-*") for line in path.read_text().split()
    }
    stored = set(found["n"].to_list())
    assert len(acknowledged) > 500
    assert acknowledged <= stored, f"{len(acknowledged - stored)} committed rows are lost"
    store.table("t").seal()
    assert set(store.table("t").read(["n"])["n"].to_list()) == stored
    assert not list((root / "tables" / "t").glob("segment-*"))
