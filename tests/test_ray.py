"""Ray on two local nodes: the same universe as one process, and a killed node ends nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.engines.opening import open_engine
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.store import Store
from tests.helpers_ray import two_nodes
from tests.helpers_run import SAMPLING, answers, problems, replay

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
N = 12
POLICY = Policy(kind="until", passes=2, max_samples=8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as nodes:
        yield nodes


def engine_of(tmp_path: Path, **options: Any) -> Any:
    file = tmp_path / "answers.jsonl"
    rows = [
        {**row, "prompt_id": key[:32], "sample_index": int(key[33:])}
        for key, row in answers(N, 8).items()
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    inner = {"answers": str(file), "slots": 4, **options}
    return open_engine(
        "ray", "recorded-model",
        {"replicas": 2, "engine": "replay", "options": inner, "backoff_s": 0.1, "num_cpus": 0.5},
    )  # fmt: skip


def test_two_nodes_give_the_same_universe_and_survive_the_loss_of_one(
    tmp_path: Path, cluster: Any
) -> None:
    calm = generate(Store(tmp_path / "calm"), problems(N), replay(N, 8), sampling=SAMPLING,
                    policy=POLICY)  # fmt: skip
    engine = engine_of(tmp_path)
    result = generate(Store(tmp_path / "two"), problems(N), engine, sampling=SAMPLING,
                      policy=POLICY)  # fmt: skip
    engine.close()
    assert result.missing == 0
    assert result.universe.equals(calm.universe)

    engine = engine_of(tmp_path, seconds_per_token=0.02)
    nodes, second = cluster
    lost = threading.Event()

    def lose(progress: Any) -> None:
        if progress.n_new >= 4 and not lost.is_set():
            lost.set()
            threading.Thread(target=nodes.remove_node, args=(second, False)).start()

    result = generate(Store(tmp_path / "lost"), problems(N), engine, sampling=SAMPLING,
                      policy=POLICY, on_progress=lose)  # fmt: skip
    engine.close()
    assert lost.is_set()
    assert engine.n_deaths >= 1
    assert result.missing == 0
    assert result.universe.equals(calm.universe)
