"""The order of the slow tests and their end; how the fast ones are dealt out to processes."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

# Minutes each: where two processes share the files, the longest are begun first.
LONGEST = (
    "test_rehearsal", "test_real", "test_r1_run", "test_ranks", "test_store_damage",
    "test_browse_chromium", "test_kill", "test_quickstart", "test_grpo", "test_endpoints",
)  # fmt: skip
END = "FACTORY_TESTS_END"
"""Seconds since 1970 after which no slow test is begun; those left out are said, and skipped."""
TRAINING = {
    "all_scenarios_rl", "evaluate", "experts", "grpo", "grpo_loss", "grpo_options", "measure",
    "miniature", "mistakes", "model_card", "prepare", "preflight", "presets", "r1", "ranks",
    "real", "rehearsal", "reward_model", "rewards", "rewards_routed", "scales", "sft", "templates",
}  # fmt: skip
"""Files that load torch, transformers or TRL: one process does for all of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order within a file stays."""
    rank = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a slow test out where the time that was given is over."""
    end = float(os.environ.get(END, "inf"))
    if time.time() > end and item.get_closest_marker("slow"):
        pytest.skip(f"not begun: {END} is over")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal fast tests out file by file, as ``loadfile`` does, and the files of training together.

    The slow ones are dealt out as ``--dist`` says: a training takes minutes, loading torch seconds.
    """
    if config.getoption("dist") != "loadfile" or "not slow" not in config.getoption("markexpr"):
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            name = file.rpartition("/")[2].removeprefix("test_").removesuffix(".py")
            return "training" if name in TRAINING else file

    return Scheduling(config, log)
