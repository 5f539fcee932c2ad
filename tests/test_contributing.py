"""The plug-ins of CONTRIBUTING.md are whole: their case tables pass, and commands take them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from factory.cli.main import main

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(
    r"```python\n# (my/\w+\.py)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S
)
VERIFY = ["verify", "answers.jsonl", "--out", "v.jsonl", "--verifier"]
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
    Path("answers.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main([*VERIFY, str(my / "dates.py")]) == 0
    verdicts = [json.loads(line) for line in Path("v.jsonl").read_text().splitlines()]
    assert [v["status"] for v in verdicts] == ["pass", "fail"]
    assert main(["score", "answers.jsonl", "--out", "s.jsonl", "--scores", "my/questions.py"]) == 0
    scores = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert [s["n_questions"] for s in scores] == [1, 0]
