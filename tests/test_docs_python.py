"""The sessions of docs/python.md run as they stand."""

from __future__ import annotations

import doctest

import pytest

from tests.helpers_docs import ROOT, take

BLOCKS = take("docs/python.md")


def test_the_sessions_of_python_md(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False)
    assert found.attempted > 15
    assert all(block.text.startswith(">>> ") for block in BLOCKS)
    assert found.failed == 0
