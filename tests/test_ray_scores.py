"""Scores mapped by Ray Data over a store, on a cluster of their own: no other test's dead nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.score import score
from factory.stages.score_ray import score_on_ray
from factory.store import Store
from tests.helpers_ray import two_nodes
from tests.helpers_run import SAMPLING, problems, replay

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
N = 12
POLICY = Policy(kind="until", passes=2, max_samples=8)


@pytest.fixture
def cluster() -> Iterator[Any]:
    with two_nodes() as nodes:
        yield nodes


def test_scores_from_a_cluster_are_those_of_this_process(tmp_path: Path, cluster: Any) -> None:
    scores = ["length", "readability"]  # the second reads what a verifier took out of the answer
    store, calm = Store(tmp_path / "data"), Store(tmp_path / "calm")
    for one in (store, calm):
        generate(one, problems(N), replay(N, 8), sampling=SAMPLING, policy=POLICY)
    score(store, ["length"], trace_ids=store.table("traces").keys()[:10])  # some are there
    counts = score_on_ray(store, scores)
    score(calm, scores)
    n = store.table("traces").n_rows()
    assert (counts.new["length@1"], counts.present["length@1"]) == (n - 10, 10)
    for table in [t for t in calm.tables() if t.startswith("scores.")]:
        here, there = (s.table(table).read().drop("run_id").sort("trace_id") for s in (calm, store))
        assert here.equals(there)
        assert here.height == n
    assert sum(score_on_ray(store, scores).new.values()) == 0
