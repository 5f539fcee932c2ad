"""kill -9 at random moments of the whole chain: nothing lost, nothing double, the same release."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.stages.generate.commit import COMMIT_ROWS
from factory.stages.generate.policy import Policy
from factory.store import Store
from factory.store.repair import check
from tests.helpers_kill import N_PROMPTS, N_SAMPLES, SLOTS, Runner
from tests.helpers_run import SAMPLING
from tests.helpers_server import Server, recorded

N_KILLS = 36
"""Per policy and engine: 216 in all."""
KILLS_PER_ROUND = 12
SECONDS_PER_TOKEN = 0.0006
STAGES = {"generate": 0.8, "verify": 0.1, "score": 0.1, "select": 0.1, "release": 0.05}
"""Stage → longest wait after its beginning, seconds, before the kill."""
POLICIES = [
    Policy(kind="fixed", n=4),
    Policy(kind="until", passes=2, max_samples=8),
    Policy(kind="adaptive", passes=2, max_samples=8, give_up_after=3),
]


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.close()


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.kind)
@pytest.mark.parametrize("kind", ["replay", "server"])
def test_kill_9_at_random_moments(
    tmp_path: Path, runner: Runner, policy: Policy, kind: str
) -> None:
    generator = random.Random(f"{policy.kind} {kind}")
    record = recorded(
        N_PROMPTS, N_SAMPLES, model="recorded-model", revision="recorded", sampling=SAMPLING
    )
    job: dict[str, Any] = {
        "url": None, "seconds_per_token": SECONDS_PER_TOKEN, "verify": True, "order": 0,
        "policy": policy.model_dump(exclude_none=True), "log": str(tmp_path / "log"),
        "stage": str(tmp_path / "stage"),
    }  # fmt: skip
    if kind == "replay":
        _rounds(tmp_path, runner, job, generator, None)
        return
    with Server(record, seconds_per_token=SECONDS_PER_TOKEN) as server:
        _rounds(tmp_path, runner, {**job, "url": server.url}, generator, server)


def _rounds(
    tmp_path: Path, runner: Runner, job: dict[str, Any], generator: random.Random,
    server: Server | None,
) -> None:  # fmt: skip
    """Run fresh stores to their end, killing on the way, until there were enough kills."""
    expected = runner.run(_in(job, tmp_path / "calm"))
    n_kills, number, stages = 0, 0, Counter[str]()
    n_repeated = 0
    while n_kills < N_KILLS:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        if server is not None:
            server.asked.clear()
        kept: set[str] = set()
        n_here = 0
        while True:
            attempt = {**_in(job, folder), "order": generator.randrange(1000)}
            if job["policy"]["kind"] == "fixed":
                attempt["verify"] = generator.random() < 0.5
            stage = generator.choice(list(STAGES)) if n_here < KILLS_PER_ROUND else None
            delay = generator.random() * STAGES[stage or "generate"]
            answer = runner.run(attempt, kill_in=stage, kill_after_s=delay)
            store = Store(folder / "data")
            keys = store.table("traces").read(["trace_id"])["trace_id"]
            assert kept <= set(keys), "a committed trace is gone"
            kept = set(keys)
            assert len(kept) == len(keys), "a trace is there twice"
            if answer is not None:
                break
            n_here += 1
            stages[(tmp_path / "stage").read_text()] += 1
        assert answer == expected
        asked = server.asked if server is not None else (folder / "calls").read_text().split()
        n_repeated += len(asked) - len(set(asked))
        assert len(asked) <= len(set(asked)) + n_here * (SLOTS + COMMIT_ROWS)
        assert not check(store)
        n_kills += n_here
    print(json.dumps({"kills": n_kills, "rounds": number, "stages": stages,
                      "repeated": n_repeated}))  # fmt: skip


def _in(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return {**job, "store": str(folder / "data"), "calls": str(folder / "calls")}
