"""Ray on two local nodes: the same universe as one process, and a killed node ends nothing."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.stages.engines import open_engine
from factory.stages.facts import score_store
from factory.stages.generate import generate
from factory.stages.policy import Policy
from factory.stages.score_ray import score_on_ray
from factory.store import Store
from tests.helpers_run import SAMPLING, answers, problems, replay

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
N = 12
POLICY = Policy(kind="until", passes=2, max_samples=8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        size = 100 << 20
        cluster = Cluster(initialize_head=True, head_node_args={
            "num_cpus": 1, "include_dashboard": False, "object_store_memory": size})  # fmt: skip
        second = cluster.add_node(num_cpus=1, object_store_memory=size)
        root = str(Path(__file__).parent.parent)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False,
                 runtime_env={"env_vars": {"PYTHONPATH": root}})  # fmt: skip
        yield cluster, second
        ray.shutdown()
        cluster.shutdown()


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


def test_scores_from_a_cluster_are_those_of_this_process(tmp_path: Path, cluster: Any) -> None:
    scores = ["length", "readability"]  # the second reads what a verifier took out of the answer
    store, calm = Store(tmp_path / "data"), Store(tmp_path / "calm")
    for one in (store, calm):
        generate(one, problems(N), replay(N, 8), sampling=SAMPLING, policy=POLICY)
    score_store(store, ["length"], trace_ids=store.table("traces").keys()[:10])  # some are there
    counts = score_on_ray(store, scores)
    score_store(calm, scores)
    n = store.table("traces").n_rows()
    assert (counts.new["length@1"], counts.present["length@1"]) == (n - 10, 10)
    for table in [t for t in calm.tables() if t.startswith("scores.")]:
        here, there = (s.table(table).read().drop("run_id").sort("trace_id") for s in (calm, store))
        assert here.equals(there)
        assert here.height == n
    assert sum(score_on_ray(store, scores).new.values()) == 0
