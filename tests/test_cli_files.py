"""File verbs: one output row per input row, in order; a user's mistake is one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from factory.cli.main import main
from factory.rows.files import Malformed, read_rows, write_rows

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
EXTERNAL = str(Path(__file__).with_name("echo_verifier.py"))

ROWS: list[dict[str, Any]] = [
    {"id": 1, "completion": "so \\boxed{4}", "gold": "4"},
    {"id": 2, "completion": "so \\boxed{5}", "gold": "4"},
    {"id": 3, "completion": "so \\boxed{4}", "gold": None},
    {"id": 4, "completion": None, "gold": "4"},
    {"id": 5, "reasoning": "2+2", "answer": "\\boxed{4}", "gold": "4"},
    {"id": 6, "completion": "\\boxed{4}", "gold": "4", "verifier": "nobody"},
]


def write(path: Path, rows: list[dict[str, Any]], broken_at: int | None = None) -> str:
    lines = [json.dumps(r) for r in rows]
    if broken_at is not None:
        lines.insert(broken_at, '{"id": 99, "completion": ')
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_verify_keeps_order_and_columns_and_says_what_it_could_not_do(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", ROWS, broken_at=2), tmp_path / "out.jsonl"
    assert main(["verify", source, "--out", str(out), "--mode", "auto"]) == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r.get("id") for r in rows] == [1, 2, None, 3, 4, 5, 6]
    assert [r["status"] for r in rows[:2]] == ["pass", "fail"]
    assert rows[2] == {"status": "unscored", "reward": None, "reason": "malformed_row",
                       "extracted": None, "decided_by": None, "line": 3}  # fmt: skip
    assert rows[4]["reason"] == "no_completion"
    assert rows[5]["status"] == "pass", "reasoning and answer are joined"


def test_a_second_opinion_is_a_report_beside_unchanged_verdicts(tmp_path: Path) -> None:
    answers = [("1/3", "0.3333333333333333"), ("4", "4"), ("4", "5"), (r"\sqrt{8}", r"2\sqrt{2}")]
    rows = [{"completion": f"\\boxed{{{a}}}", "gold": g} for g, a in answers]
    source, out, report = (
        write(tmp_path / "in.jsonl", rows),
        tmp_path / "o.jsonl",
        tmp_path / "d.jsonl",
    )
    assert main(["verify", source, "--out", str(out), "--disagree", str(report)]) == 0
    found = [json.loads(line)["status"] for line in out.read_text().splitlines()]
    assert found == ["fail", "pass", "fail", "pass"]
    differing = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(r["gold"], r["status"], r["second_opinion"]) for r in differing] == [
        ("1/3", "fail", "pass")
    ]
    assert main(["verify", "--store", str(tmp_path / "store"), "--disagree", str(report)]) == 2


def test_each_rows_own_verifier_is_used_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", [ROWS[0], ROWS[5]]), tmp_path / "out.jsonl"
    assert main(["verify", source, "--out", str(out)]) == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[0]["status"] == "pass"
    assert rows[1]["status"] == "unscored"
    assert "nobody" in rows[1]["reason"]


def test_why_rows_have_no_verdict_is_told_in_the_closing_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = {"language": "klingon", "test_cases": [{"input": "1", "output": "1"}]}
    row = {"completion": "```klingon\nqapla\n```", "gold": json.dumps(tests), "verifier": "code"}
    source = write(tmp_path / "in.jsonl", [row, row, ROWS[0]])
    assert main(["verify", source, "--out", str(tmp_path / "out.jsonl")]) == 0
    said = capsys.readouterr().err
    assert "3 rows: 2 unscored, 1 pass; unscored for unknown_language (2)" in said


def test_options_of_the_call_reach_each_verifier_that_takes_them(tmp_path: Path) -> None:
    rows = [
        {"completion": "the answer is 4", "gold": "4"},
        {"completion": "ANSWER: B", "gold": "B", "verifier": "choice"},
        {"completion": "the answer is 4", "gold": "4", "options": {"mode": "boxed"}},
    ]
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    assert main(["verify", source, "--out", str(out)]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["status"] for r in found] == ["pass", "pass", "fail"], "auto, its own, the row's"
    assert main(["verify", source, "--out", str(out), "--mode", "boxed"]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found[0]["status"] == "fail", "no box"


def test_a_verifier_from_outside_is_loaded_into_workers_by_path(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", ROWS[:2]), tmp_path / "out.jsonl"
    assert main(["verify", source, "--out", str(out), "--verifier", EXTERNAL]) == 0
    assert [json.loads(x)["status"] for x in out.read_text().splitlines()] == ["pass", "fail"]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_every_form_is_read_and_written(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"x{ending}")
    rows = [
        {"id": i, "completion": f"<think>hm</think>{i}", "nested": {"a": [i]}} for i in range(5)
    ]
    write_rows(path, [rows[:2], rows[2:]])
    assert list(read_rows(path)) == rows
    out = str(tmp_path / f"y{ending}")
    assert main(["score", path, "--out", out, "--scores", "length"]) == 0
    found = [r for r in read_rows(out) if isinstance(r, dict)]
    assert [r["id"] for r in found] == list(range(5))
    assert all(r["reasoning_words"] == 1 for r in found)


def test_score_gives_nulls_for_what_has_no_text(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", ROWS, broken_at=1), tmp_path / "out.jsonl"
    assert main(["score", source, "--out", str(out), "--scores", "length,repetition"]) == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 7
    assert rows[1]["completion_words"] is None
    assert rows[4]["completion_words"] is None
    assert rows[0]["completion_words"] > 0


def test_a_given_target_language_is_read_and_stays(tmp_path: Path) -> None:
    text = "<think>我先算二加三，得到五，然后检查一遍。</think> 答案是五。"
    rows = [
        {"completion": text, "target_language": "en"},
        {"completion": text, "prompt": "二加三是多少？"},
    ]
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    assert main(["score", source, "--out", str(out), "--scores", "language"]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert (found[0]["target_language"], found[1]["target_language"]) == ("en", "zh")
    assert found[0]["target_fraction"] < 0.1 < 0.9 < found[1]["target_fraction"]


def test_dedup_and_decontaminate(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog near the old river bank at dawn"
    other = "an entirely different sentence about numbers and proofs and many other lemmas today"
    source = write(
        tmp_path / "in.jsonl", [{"text": text}, {"text": other}, {"text": text + " now"}]
    )
    out = tmp_path / "out.jsonl"
    assert main(["dedup", source, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["is_duplicate"] for r in rows] == [False, False, True]
    assert rows[0]["cluster_id"] == rows[2]["cluster_id"] != rows[1]["cluster_id"]
    bench = write(tmp_path / "bench.jsonl", [{"prompt": other}])
    assert main(["decontaminate", source, "--against", bench, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["is_contaminated"] for r in rows] == [False, True, False]
    assert rows[1]["contaminated_by"] == [bench]


def test_standard_input_and_output(tmp_path: Path) -> None:
    text = "\n".join(json.dumps(r) for r in ROWS[:2])
    run = subprocess.run(
        [sys.executable, "-m", "factory", "verify", "-", "--out", "-", "--mode", "boxed"],
        input=text, capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert [json.loads(x)["status"] for x in run.stdout.splitlines()] == ["pass", "fail"]


TEXT_FILES = {
    "math_model_outputs": ["--map", "completion=output"],
    "math_grade_cases": ["--map", "completion=prediction"],
    "format_cases": ["--map", "completion=text"],
    "logic_model_outputs": ["--map", "completion=output"],
    "code_model_programs": ["--map", "completion=program"],
    "traces_misguided": [], "traces_r1_math500": ["--map", "completion=raw"],
    "traces_farel": ["--map", "completion=raw"], "traces_misc": [],
    "traces_farel_pl": ["--map", "completion=raw"],
    "langmix_real": ["--map", "completion=reasoning"],
    "prompts_gsm8k_train": ["--map", "completion=prompt"],
    "prompts_math_multi": ["--map", "completion=prompt"],
    "prompts_ifeval": ["--map", "completion=prompt"], "logic_tasks": ["--map", "completion=prompt"],
    "readability_onestop": ["--map", "completion=text"],
    "lang_sentences": ["--map", "completion=text"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXT_FILES)
@pytest.mark.parametrize("verb", ["verify", "score"])
def test_every_file_of_real_data_keeps_its_rows_in_order(
    tmp_path: Path, name: str, verb: str
) -> None:
    source = DATA / f"{name}.jsonl.gz"
    if not source.exists():
        pytest.skip(f"{source} is not here: it is test data kept outside of the project")
    out = str(tmp_path / "out.jsonl")
    extra = ["--verifier", "math"] if verb == "verify" else []
    status = main([verb, str(source), "--out", out, "--prefix", "x_", *TEXT_FILES[name], *extra])
    before = [r for r in read_rows(str(source)) if not isinstance(r, Malformed)]
    after = [r for r in read_rows(out) if not isinstance(r, Malformed)]
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        assert {k: b[k] for k in a} == a
    unhandled = verb == "verify" and any(
        (r["x_reason"] or "").startswith(("no_completion", "verifier_error", "malformed"))
        for r in after
    )
    assert status == (1 if unhandled else 0)
