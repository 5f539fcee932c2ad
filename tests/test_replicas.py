"""Several engines as one: deaths, hangs, poison prompts, and the same universe as one engine."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from factory.engines.opening import open_engine
from factory.errors import EngineError
from factory.stages.generate import Generated, generate
from factory.stages.generate.policy import Policy
from factory.store import Store
from tests.helpers_run import SAMPLING, answers, new_store, problems, replay

DEADLY = str(Path(__file__).with_name("deadly_engine.py"))
FIXED = Policy(kind="fixed", n=4)
N = 12


def run(tmp_path: Path, policy: Policy = FIXED, **settings: Any) -> Generated:
    tmp_path.mkdir(exist_ok=True)
    file = tmp_path / "answers.jsonl"
    rows = [
        {**row, "prompt_id": key[:32], "sample_index": int(key[33:])}
        for key, row in answers(N, 8).items()
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    defaults = {"answers": str(file), "poison": [], "replicas": 2, "backoff_s": 0.01, "slots": 6}
    engine = open_engine(DEADLY, "recorded-model", {**defaults, **settings})
    try:
        return generate(
            new_store(tmp_path), problems(N), engine, sampling=SAMPLING, policy=policy, n_workers=1
        )
    finally:
        engine.close()


def test_two_replicas_give_the_universe_of_one_engine(tmp_path: Path) -> None:
    policy = Policy(kind="until", passes=2, max_samples=8)
    many = run(tmp_path / "many", policy)
    one = generate(
        Store(tmp_path / "one"), problems(N), replay(N, 8), sampling=SAMPLING, policy=policy
    )
    assert many.universe.equals(one.universe)
    assert many.missing == 0


@pytest.mark.slow
def test_a_replica_that_dies_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    result = run(tmp_path, once=str(tmp_path / "died"), replicas=1)
    assert (tmp_path / "died").exists()
    assert (result.missing, result.progress.n_failed) == (0, 0)


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_poison_prompt_is_set_aside_and_the_others_are_made(
    tmp_path: Path, replicas: int
) -> None:
    poison = problems(N)[5][0].prompt_id
    result = run(tmp_path, Policy(n=1), poison=[poison], replicas=replicas)
    assert (result.progress.n_new, result.progress.n_failed, result.missing) == (N - 1, 1, 1)
    failures = new_store(tmp_path).table("failures").read()
    assert failures["kind"].to_list() == ["poison"]
    assert "exit status 11" in failures["message"][0]


@pytest.mark.slow
def test_a_replica_that_hangs_is_replaced(tmp_path: Path) -> None:
    hang = problems(N)[5][0].prompt_id
    result = run(tmp_path, Policy(n=1), hang=[hang], hang_s=2.5, replicas=1, slots=2)
    assert (result.progress.n_new, result.progress.n_failed) == (N - 1, 1)


@pytest.mark.slow
def test_an_engine_that_never_starts_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no weights"):
        run(tmp_path, never=True)


@pytest.mark.slow
def test_a_stop_reaches_a_server_behind_replicas(tmp_path: Path) -> None:
    """What waits in a replica for a server that refuses is given back: one stop ends the run."""
    settings = {"base_url": "http://127.0.0.1:9/v1", "revision": "label", "replicas": 2}
    engine = open_engine("openai", "recorded-model", settings)
    stop = threading.Event()
    threading.Timer(6.0, stop.set).start()
    begun = time.monotonic()
    try:
        result = generate(
            new_store(tmp_path), problems(N), engine, sampling=SAMPLING, policy=FIXED, stop=stop,
            n_workers=1, verify=False,
        )  # fmt: skip
    finally:
        engine.close()
    assert time.monotonic() - begun < 40
    assert (result.stopped, result.progress.n_failed, result.missing) == ("interrupted", 0, 48)
