"""Others' samples: logs of lm-evaluation-harness read, written and graded again, row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill.cli import main
from distill.evaluate import evaluate
from distill.evaluate.harness import log_rows, read_log, replayed
from distill.evaluate.regrade import differences, read_graded, regrade, table
from factory.errors import UsageError
from factory.store import Store
from tests.helpers_run import SAMPLING, new_store, problems, replay

DATA = Path(__file__).parents[2] / "shared" / "data"


def _line(doc: int, text: str, score: float, **change: Any) -> dict[str, Any]:
    """A line as the harness writes it for GSM8K (version 0.4.13)."""
    return {
        "doc_id": doc,
        "doc": {"question": f"What is {doc} + 4?", "answer": f"We add.\n#### {doc + 4}"},
        "target": f"We add.\n#### {doc + 4}",
        "arguments": {
            "gen_args_0": {
                "arg_0": f"Question: What is {doc} + 4?\nAnswer:",
                "arg_1": {"until": ["Question:"], "do_sample": False, "temperature": 0.0,
                          "max_gen_toks": 64},
            }
        },
        "resps": [[text]], "filtered_resps": [text.rpartition("#### ")[2]],
        "filter": "strict-match", "metrics": ["exact_match"], "exact_match": score,
        "doc_hash": "d", "prompt_hash": "p", "target_hash": "t", **change,
    }  # fmt: skip


LINES = [
    _line(1, "1 + 4 = 5\n#### 5", 1.0),
    _line(2, "2 + 4 = 6\n#### 6 dollars", 0.0),  # strict matching misses it
    _line(3, "3 + 4 = 8\n#### 8", 0.0),
    _line(4, "I do not know.", 0.0),
    _line(5, "5 + 4 = 10\n#### 10", 1.0),  # a harness's mistake
]


def _log(tmp_path: Path, lines: list[dict[str, Any]]) -> Path:
    path = tmp_path / "samples_gsm8k_2026-11-30T08-00-00.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("benchmark", [None, "gsm8k"])
def test_a_log_is_graded_again_and_each_difference_is_a_row(
    tmp_path: Path, benchmark: str | None
) -> None:
    logged = list(read_log(_log(tmp_path, LINES), benchmark=benchmark))
    assert {x.group for x in logged} == {("gsm8k", "strict-match")}
    assert [x.gold for x in logged] == ["5", "6", "7", "8", "9"]
    rows = regrade(logged, n_workers=1)
    assert [r.verdict.status for r in rows] == ["pass", "pass", "fail", "fail", "fail"]
    assert [r.is_same for r in rows] == [True, False, True, True, False]
    said = list(table(rows))
    assert said[1].split()[:6] == ["5", "5", "40.00", "40.00", "+0.00", "2"]
    assert any("theirs wrong, ours right" in line for line in said)
    found = list(differences(rows))
    assert [(d["key"], d["gold"], d["ours"]) for d in found] == [
        ("2", "6", found[0]["ours"]), ("5", "9", "10")
    ]  # fmt: skip
    assert found[0]["theirs"] == "6 dollars"


def test_several_samples_and_both_forms_of_arguments_are_read(tmp_path: Path) -> None:
    older = _line(1, "", 0.5, resps=[["#### 5", "#### 6"]], filtered_resps=["5", "6"],
                  arguments=[["Q", {"temperature": 0.6}]])  # fmt: skip
    found = list(read_log(_log(tmp_path, [older])))
    assert [(x.key, x.prompt, x.extracted) for x in found] == [("1.0", "Q", "5"), ("1.1", "Q", "6")]
    assert found[0].sampling == {"temperature": 0.6}


def test_the_score_is_the_metric_that_is_named(tmp_path: Path) -> None:
    both = {"metrics": ["exact_match", "math_verify"], "math_verify": 1}
    log = str(_log(tmp_path, [_line(1, "#### 5", 0.0, **both)]))
    assert [read_graded(log, score=name)[0].score for name in (None, "math_verify")] == [0.0, 1.0]
    with pytest.raises(UsageError, match=r"no metric 'acc': it has exact_match, math_verify"):
        read_graded(log, score="acc")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"doc_id": 1}, "is no sample of lm-evaluation-harness"),
        (_line(1, "", 1.0, resps=[[[-1.5, False]], [[-2.5, False]]]), "likelihoods"),
    ],
)
def test_a_line_without_text_is_named(tmp_path: Path, line: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        list(read_log(_log(tmp_path, [LINES[0], line])))


def test_a_log_is_taken_into_a_store_and_evaluated_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    logged = list(read_log(_log(tmp_path, LINES), benchmark="gsm8k"))
    found = replayed(store, logged, model="other", benchmark="gsm8k", n_workers=1)
    assert (found.pass_at_1, found.n_samples) == (pytest.approx(0.4), 5)
    again = replayed(store, logged, model="other", benchmark="gsm8k", n_workers=1)
    assert again.evaluation_id == found.evaluation_id
    assert store.table("traces").n_rows() == 5


def test_what_is_written_is_read_again_and_graded_alike(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    found = evaluate(
        store, problems(6), replay(6, 4), benchmark="sums", k=4, sampling=SAMPLING, n_workers=1
    )
    rows = list(log_rows(store, found))
    assert len(rows) == 6
    logged = list(read_log(_log(tmp_path, rows)))
    graded = regrade(logged, verifier="math", n_workers=1)
    assert len(graded) == 24
    mean = sum(r["exact_match"] for r in rows) / 6
    assert mean == pytest.approx(found.pass_at_1)
    assert sum(g.verdict.status == "pass" for g in graded) / 24 == pytest.approx(found.pass_at_1)


def test_the_command_prints_both_scores_and_writes_the_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "differ.jsonl"
    command = ["regrade", str(_log(tmp_path, LINES)), "--out", str(out), "--rows", "1"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "gsm8k strict-match" in said
    assert said.count("  gold ") == 1
    assert len(out.read_text().splitlines()) == 2
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["differences"].values()) == found["groups"][-1]["differ"] == 2
    assert len(found["rows"]) == 1
    assert main([*command, "--store", str(tmp_path / "data")]) == 2
    assert "--model" in capsys.readouterr().err


def _shared(name: str) -> str:
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    return str(path)


@pytest.mark.slow
def test_real_outputs_get_the_scores_of_their_sources() -> None:
    rows = regrade(read_graded(_shared("math_model_outputs")), n_workers=1)
    groups: dict[tuple[str, ...], list[Any]] = {}
    for row in rows:
        if row.is_same is not None:
            groups.setdefault(row.logged.group, []).append(row)
    assert len(groups) >= 20
    for group, mine in groups.items():
        gap = sum((r.verdict.status == "pass") - float(r.logged.score) for r in mine)
        # Half a point, or a single row where the group is smaller than two hundred.
        assert abs(gap) <= max(1, 0.005 * len(mine)), group
    # Each remaining difference has its reason, read row by row.
    assert sum(r.is_same is False for r in rows) <= 4


def _last_answer(text: str) -> str:
    """BIG-Bench Hard's own extraction: what follows the last "the answer is"."""
    return text.rpartition("the answer is ")[2].strip().rstrip(".").strip()


@pytest.mark.slow
def test_real_logic_outputs_get_the_score_of_exact_matching() -> None:
    logged = read_graded(_shared("logic_model_outputs"))
    rows = regrade(logged, n_workers=1)
    assert all(r.verdict.status != "unscored" for r in rows)
    for task in {r.logged.group for r in rows}:
        mine = [r for r in rows if r.logged.group == task]
        theirs = sum(_last_answer(r.logged.text) == r.logged.gold for r in mine)
        ours = sum(r.verdict.status == "pass" for r in mine)
        assert abs(ours - theirs) <= max(1, 0.005 * len(mine)), (task, theirs, ours)
