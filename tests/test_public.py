"""The public names: loaded when they are used, and the same functions as in their modules."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import factory

ROOT = Path(__file__).parent.parent


def test_every_public_name_is_there_and_an_unknown_one_says_so() -> None:
    for name in factory.__all__:
        assert callable(getattr(factory, name)), name
    assert set(factory.__all__) <= set(dir(factory))
    assert factory.verify is importlib.import_module("factory.stages.verify").verify
    with pytest.raises(AttributeError, match="no attribute 'trasnform'"):
        factory.trasnform  # noqa: B018


@pytest.mark.parametrize("command", ["factory", "distill"])
def test_a_command_runs_as_a_module_and_tells_its_version(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", command, "--version"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert re.fullmatch(rf"{command} \d+\.\d+\.\d+( \([0-9a-f]+\))?\n", done.stdout)
