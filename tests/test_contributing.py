"""The plug-ins of CONTRIBUTING.md are whole: their case tables pass, and commands take them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from factory.plugins import label
from factory.store import Store
from tests.helpers_docs import ROOT, run, take

BLOCKS = [b.text.removeprefix("# ").split("\n", 1) for b in take("CONTRIBUTING.md", "# my/")]
COMMANDS = [c for b in take("CONTRIBUTING.md", "factory ") for c in b.commands]
RUN = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules"]


@pytest.fixture
def my(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my").mkdir()
    for name, text in BLOCKS:
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "my"


def test_their_case_tables_pass(my: Path) -> None:
    assert {Path(name).name for name, _ in BLOCKS} >= {"dates.py", "questions.py"}
    done = subprocess.run(
        [*RUN, str(my)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b16 passed", done.stdout), done.stdout


def test_commands_take_them_by_path(my: Path) -> None:
    rows = [
        {"completion": "<think>Was it a Sunday? Yes.</think>1969-07-20", "gold": "1969-07-20"},
        {"completion": "<think>No.</think>1970-01-01", "gold": "1969-07-20"},
    ]
    for name in ("answers", "traces"):
        lines = [json.dumps({"prompt": "When?", **row}) for row in rows]
        Path(f"{name}.jsonl").write_text("\n".join(lines))
    assert run("factory import answers.jsonl --verifier my/dates.py") == 0
    for command in COMMANDS:
        assert run(command) == 0, command
    verdicts = [json.loads(line) for line in Path("verified.jsonl").read_text().splitlines()]
    assert [v["status"] for v in verdicts] == ["pass", "fail"]
    assert pl.read_parquet("scored.parquet")["n_questions"].to_list() == [1, 0]
    stored = Store("data").table(f"verdicts.{label('verifiers', 'my/dates.py')}").read()
    assert sorted(stored["status"]) == ["fail", "pass"]
