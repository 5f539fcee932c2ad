"""The order of the slow tests, and their end where a machine is slow."""

from __future__ import annotations

import os
import time

import pytest

# Minutes each: where two processes share the files, the longest are begun first.
LONGEST = (
    "test_rehearsal", "test_real", "test_r1_run", "test_ranks", "test_store_damage",
    "test_browse_chromium", "test_kill", "test_quickstart", "test_grpo", "test_endpoints",
)  # fmt: skip
END = "FACTORY_TESTS_END"
"""Seconds since 1970 after which no slow test is begun; those left out are said, and skipped."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order within a file stays."""
    rank = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a slow test out where the time that was given is over."""
    end = float(os.environ.get(END, "inf"))
    if time.time() > end and item.get_closest_marker("slow"):
        pytest.skip(f"not begun: {END} is over")
