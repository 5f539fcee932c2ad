"""A local Ray cluster of two nodes with one CPU each."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[Any, Any]]:
    """Yield the cluster and its second node, which a test may remove."""
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
        try:
            yield cluster, second
        finally:
            ray.shutdown()
            cluster.shutdown()
