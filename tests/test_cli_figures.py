"""What verbs print for scripts: ``--json``, ``-q``, completion; and how far long work is."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from factory.cli import printing
from factory.cli.main import build_parser, main
from factory.engines.vllm_start import quiet_stderr
from factory.rows.answers import Answer, width
from factory.stages.reading import OnCount
from factory.stages.score import score
from factory.stages.select import NearDuplicates, Selection, select
from factory.stages.verify import verify
from factory.store import Store
from factory.verifiers import math
from tests import helpers_catalog as made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    here = tmp_path_factory.mktemp("figures")
    made.make_release(made.make_store(here / "data"))
    (here / "in.jsonl").write_text(
        '{"completion": "\\\\boxed{4}", "gold": "4", "prompt": "2+2?"}\n'
    )
    (here / "select.yaml").write_text("filters: {right: \"status = 'pass'\"}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        yield here


VERBS = [
    ("verify in.jsonl --out v.jsonl", "outcomes", {"pass": 1}),
    ("score in.jsonl --out s.jsonl --scores length", "rows", 1),
    ("verify", "new", {f"math@{math.VERSION}": 24}),
    ("score --scores repetition", "new", None),
    ("select select.yaml", "kept", 10),
    ("release right select.yaml", "rows", 10),
    ("export right --form trl --out t.jsonl", "rows", 10),
    ("import in.jsonl", "new", 1),
    ("check", "findings", []),
    ("reviews --out r.jsonl", "reviews", 0),
    ("forget --where 'false' --dry-run", "traces", []),
    ("gc", "bytes_freed", 0),
]


@pytest.mark.parametrize(("command", "name", "value"), VERBS, ids=[v[0] for v in VERBS])
def test_figures_are_one_object_of_json(
    world: Path, capsys: pytest.CaptureFixture[str], command: str, name: str, value: object
) -> None:
    assert main([*shlex.split(command), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert name in found
    if value is not None:
        assert found[name] == value


def test_a_verdict_that_several_sources_ask_for_was_not_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": "2+2?", "completion": f"<think>{i}</think>4", "gold": "4"} for i in range(3)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["import", "in.jsonl"]) == 0
    for new, present in ((3, 0), (0, 3)):
        capsys.readouterr()
        assert main(["verify", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        label = f"math@{math.VERSION}"
        assert (found["new"].get(label, 0), found["present"][label]) == (new, present)


@pytest.mark.parametrize("command", ["verify in.jsonl --out q.jsonl", "gc", "check"])
def test_quiet_leaves_out_remarks_and_no_mistake(
    world: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([*shlex.split(command), "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["show", "nothing", "-q"]) == 2
    assert "nothing is named" in capsys.readouterr().err
    assert main(["gc"]) == 0
    assert "bytes freed" in capsys.readouterr().err


def test_a_shell_completes_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    verbs = next(a for a in build_parser()._actions if a.dest == "verb").choices
    assert verbs
    assert all(f"_shtab_factory_{verb}_" in script for verb in verbs)


def test_long_work_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with printing.Counting() as counting:
        counting("math@5", 1, 100)
    assert capsys.readouterr().err == "", "what is short shows nothing"
    monkeypatch.setattr(printing, "LOGGED_AFTER_S", 0.0)
    with printing.Counting() as counting:
        for done in (25, 50):
            counting("math@5", done, 100)
            time.sleep(0.01)
    (line,) = capsys.readouterr().err.splitlines()
    assert "math@5: 50 of 100" in line
    assert "ETA" in line


def test_what_gives_no_count_is_told_by_its_seconds_while_libraries_are_silenced(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with printing.waiting("vllm starts"):
        time.sleep(0.02)
    assert capfd.readouterr().err == "", "what is short shows nothing"
    for name, value in {"LOGGED_AFTER_S": 0.0, "TICK_S": 0.01, "LOG_EVERY_S": 0.01}.items():
        monkeypatch.setattr(printing, name, value)
    with printing.waiting("vllm starts"), quiet_stderr():
        time.sleep(0.1)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) > 1
    assert all(line.endswith("vllm starts | 0 s") for line in lines)


@pytest.mark.parametrize(
    ("stage", "labels"),
    [
        (lambda s, c: verify(s, on_count=c), {f"math@{math.VERSION}"}),
        (lambda s, c: score(s, ["dynamics", "repetition"], on_count=c), {"scores"}),
        (
            lambda s, c: select(
                s, Selection(filters={"all": "TRUE"}, near_duplicates=NearDuplicates()), on_count=c
            ),
            {"filters", "exact_duplicates", "near_duplicates"},
        ),
    ],
    ids=["verify", "score", "select"],
)
def test_a_stage_counts_from_nothing_to_all_under_one_label(
    tmp_path: Path, stage: Callable[[Store, OnCount], object], labels: set[str]
) -> None:
    store = made.make_store(tmp_path / "data")
    told: dict[str, list[tuple[int, int]]] = {}
    stage(store, lambda label, done, total: told.setdefault(label, []).append((done, total)))
    assert set(told) == labels
    label = max(told, key=lambda name: len(told[name]))
    done = [done for done, _ in told[label]]
    assert (done[0], done[-1]) == (0, told[label][-1][1])
    assert done == sorted(done)
    assert done[-1] > 0


def test_a_table_fits_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Answer(tuple(f"column_{i}" for i in range(30)), [tuple("中" * 30 for _ in range(30))])
    assert max(map(len, answer.render().splitlines())) > 300, "whole in a pipe"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    lines = answer.render().splitlines()
    assert max(width(line) for line in lines) <= 100
    assert lines[-1] == "(20 more columns; --json shows all)"
