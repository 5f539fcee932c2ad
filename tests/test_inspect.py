"""Inspect: a dry run of import and sources; nothing is written."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from factory.cli.main import main

REPLY = "<think>\n7 x 12 = 84\n</think>\n\nIt is \\boxed{54}."
ROWS: list[dict[str, Any]] = [
    {"problem": "How many rolls?", "answer": "54", "generations": [REPLY, "[THINK]a[/THINK]7"],
     "finish_reasons": ["stop", "length"], "source": "x"},
    {"problem": "How many rolls?", "answer": "54", "generations": [REPLY, None], "source": "x"},
    {"problem": "-", "answer": "54", "generations": [REPLY], "source": "x"},
]  # fmt: skip


def inspected(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["inspect", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\nno json\n")
    return str(path)


def test_one_object_says_what_would_be_read(rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(capsys, rows)
    assert found["files"]["rows"]["shape"] == "OpenR1-Math"
    assert found["files"]["rows"]["reads"]["completion"] == ["generations"]
    assert (found["kind"], found["n_rows"], found["n_found"], found["copies"]) == (
        "traces",
        4,
        2,
        1,
    )
    assert found["refused"] == {"empty_prompt": 1, "malformed_row": 1}
    assert (found["thinking"], found["verifiers"], found["dialects"]) == (
        2, {"math": 2}, {"mistral": 1},
    )  # fmt: skip
    first, second = found["rows"]
    assert {k: first[k] for k in ("user", "thinking", "answer", "gold", "verifier")} == {
        "user": "How many rolls?", "thinking": "7 x 12 = 84", "answer": "It is \\boxed{54}.",
        "gold": "54", "verifier": "math",
    }  # fmt: skip
    assert (first["completion"], first["finish_reason"], second["finish_reason"]) == (
        REPLY, "stop", "length",
    )  # fmt: skip
    assert first["meta"]["source"] == "x"
    assert len(inspected(capsys, rows, "--rows", "1")["rows"]) == 1


def test_prompts_have_no_completion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"question": "2+2?", "gold": "4", "license": "mit"}]))
    found = inspected(capsys, str(path))
    assert (found["kind"], found["n_found"]) == ("prompts", 1)
    assert (found["rows"][0]["completion"], found["rows"][0]["meta"]) == (None, {"license": "mit"})


def test_text_shows_the_shape_three_rows_and_what_is_refused(
    rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", rows]) == 0
    said = capsys.readouterr().out
    parts = ("read as OpenR1-Math", "completion     from generations", "not read: ", "languages",
             "golds: 2 of 2, by verifier: math 2", "thinking: 2 of 2")  # fmt: skip
    for part in parts:
        assert part in said


def test_an_unknown_shape_or_column_is_a_usage_error(
    tmp_path: Path, rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"frage": "2+2?"}\n')
    assert main(["inspect", str(path)]) == 2
    assert "it has frage" in capsys.readouterr().err
    assert main(["inspect", rows, "--map", "gold=lable"]) == 2
    assert "no column lable" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "none.jsonl")]) == 2


def test_a_large_file_is_not_read_to_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        for i in range(2000):
            row = {"prompt": f"{i}?", "response": REPLY + "x " * 500}
            file.write(json.dumps(row).encode() + b"\n")
        file.truncate(10 << 30)  # a hole: ten gigabytes that take no room
    begun = time.monotonic()
    found = inspected(capsys, str(path))
    assert found["n_found"] == 500
    assert time.monotonic() - begun < 5
