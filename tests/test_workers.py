"""The pool: one bad item among many changes nothing for the others, from anywhere."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from factory.workers import Outcome, Pool

TARGET = str(Path(__file__).with_name("helpers_pool.py")) + ":work"
BAD = {100: "hang", 300: "crash", 500: "memory", 700: "raise"}


def run_batch(pool: Pool, n: int = 1000, deadline_s: float = 0.5) -> list[str]:
    payloads: list[object] = [BAD.get(i, i) for i in range(n)]
    return [f"{o.fate}:{o.value}" for o in pool.map(TARGET, payloads, deadline_s=deadline_s)]


EXPECTED = [f"done:{2 * i}" for i in range(1000)]
for position, fate in ((100, "timeout"), (300, "crashed"), (500, "memory"), (700, "error")):
    EXPECTED[position] = f"{fate}:None"


def test_bad_items_change_no_other_verdict_from_the_main_thread() -> None:
    with Pool(n_workers=2) as pool:
        assert run_batch(pool) == EXPECTED


@pytest.mark.slow
def test_bad_items_change_no_other_verdict_from_eight_threads() -> None:
    results: dict[int, list[str]] = {}
    with Pool(n_workers=2) as pool:
        threads = [
            threading.Thread(target=lambda i=i: results.update({i: run_batch(pool)}))  # type: ignore[misc]
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wrong = [
        (i, n, found, wanted)
        for i in range(8)
        for n, (found, wanted) in enumerate(zip(results[i], EXPECTED, strict=True))
        if found != wanted
    ]
    assert not wrong


@pytest.mark.slow
def test_bad_items_change_no_other_verdict_from_asyncio() -> None:
    async def main() -> list[list[str]]:
        with Pool(n_workers=2) as pool:
            return await asyncio.gather(*(asyncio.to_thread(run_batch, pool) for _ in range(2)))

    assert asyncio.run(main()) == [EXPECTED, EXPECTED]


def _in_process(pipe: object) -> None:
    with Pool(n_workers=1) as pool:
        pipe.send(run_batch(pool))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_bad_items_change_no_other_verdict_from_a_spawned_daemon() -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_in_process, args=(there,), daemon=True)
    process.start()
    assert here.poll(120)
    assert here.recv() == EXPECTED
    process.join()


def test_a_sleeper_is_tried_once_more_alone_then_times_out() -> None:
    with Pool(n_workers=1) as pool:
        begun = time.monotonic()
        outcome = pool.map(TARGET, ["sleep"], deadline_s=0.3)[0]
        assert (outcome.fate, outcome.detail) == ("timeout", "wall")
        assert time.monotonic() - begun > 0.6, "two tries"


def test_what_a_library_prints_does_not_reach_the_replies(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Pool(n_workers=1) as pool:
        assert pool.map(TARGET, ["print", 4]) == [
            Outcome("done", "printed", None, pytest.approx(0, abs=10)),
            Outcome("done", 8, None, pytest.approx(0, abs=10)),
        ]


def test_large_payloads_pass_whole() -> None:
    text = "x" * (8 << 20)
    with Pool(n_workers=1) as pool:
        assert pool.map("factory.workers:echo", [text])[0].value == text


def test_workers_die_with_a_killed_parent() -> None:
    code = (
        "import time\nfrom factory.workers import Pool\np = Pool(n_workers=2)\n"
        "p.map('factory.workers:echo', [1] * 64)\n"
        "print(*[w._process.pid for w in p._workers], flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(p) for p in parent.stdout.readline().split()]
    assert pids
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(_runs(p) for p in pids):
        time.sleep(0.05)
    assert not any(_runs(p) for p in pids)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_no_worker_is_left_after_close() -> None:
    pool = Pool(n_workers=2)
    pool.map("factory.workers:echo", list(range(64)))
    pids = [w._process.pid for w in pool._workers]
    pool.close()
    assert not any(_runs(p) for p in pids)
    assert os.getpid() not in pids
