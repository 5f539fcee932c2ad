"""What a filter is worth: variants of a recipe, the table, and a real run that is killed once."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from distill.evaluate import Evaluation
from factory.errors import UsageError
from factory.metrics import mean_interval
from factory.stages.select import Selection
from factory.store import Store
from pipelines.filter_effects import ALL, NONE, Recipe, plan_lines, variants
from pipelines.filter_effects_results import Result, cells, lines_of
from tests.helpers_docs import ROOT, take

((COMMAND,),) = [b.commands for b in take("docs/results.md", "python -m pipelines.filter_effects")]
RECIPE = ROOT / "pipelines" / "recipes" / "filter-effects.yaml"
SELECTION = Selection.make(
    {
        "presets": ["r1_rejection"], "filters": {"right": "status = 'pass'", "long": "true"},
        "disabled": ["long"], "near_duplicates": {}, "cap_per_prompt": 2,
        "exact_duplicates": None,
    }
)  # fmt: skip
TOGGLED = ["one_language", "short_paragraphs", "no_code_in_thinking", "near_duplicates"]


def test_variants_leave_out_each_filter_and_each_step_that_drops_for_quality() -> None:
    found = {v.label: v.selection.disabled for v in variants(
        SELECTION, always=["right"], each_alone=True)}  # fmt: skip
    assert list(found)[:2] == [ALL, NONE]
    assert found[ALL] == ["long"]
    assert found[NONE] == ["long", *TOGGLED]
    for name in TOGGLED:
        assert found[f"without {name}"] == ["long", name]
        assert found[f"only {name}"] == ["long", *(n for n in TOGGLED if n != name)]
    assert len(found) == 2 + 2 * len(TOGGLED)
    assert all(v.selection.cap_per_prompt == 2 for v in variants(
        SELECTION, always=[], each_alone=False))  # fmt: skip


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(UsageError, match="always names beauty"):
        variants(SELECTION, always=["beauty"], each_alone=False)
    with pytest.raises(UsageError, match="no filter to leave out"):
        variants(Selection(cap_per_prompt=1, exact_duplicates=None), always=[], each_alone=False)


def test_a_plan_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.load(RECIPE)
    text = "\n".join(plan_lines(recipe))
    assert "train: 48 students" in text, "8 variants, two modes, three seeds"
    assert "sample: 4,000 traces" in text
    assert text.endswith("nothing was started")
    stored = Recipe.load(RECIPE, overrides=["sample=null", "rows=[equal]", "seeds=[0]"])
    assert "train: 8 students" in "\n".join(plan_lines(stored))
    assert list(tmp_path.iterdir()) == []


def test_a_selection_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    own = tmp_path / "select.yaml"
    own.write_text("filters: {right: \"status = 'pass'\"}\n")
    recipe = Recipe.load(RECIPE, overrides=[f"selection={own}", "always=[]", "sample=null"])
    assert list(recipe.selected().all_filters()) == ["right"]


def evaluation(rates: list[float | None], *, revision: str, tokens: float = 40.0) -> Evaluation:
    frame = pl.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(len(rates))], "pass_rate": rates,
            "language_consistency": [0.5] * len(rates), "format": [1.0] * len(rates),
            "completion_tokens": [tokens] * len(rates),
        },
        schema_overrides={"pass_rate": pl.Float64},
    )  # fmt: skip
    return Evaluation(
        benchmark="b", model="m", revision=revision, sampling_id="s", k=1, n_samples=len(rates),
        n_unscored=0, n_missing=0, per_prompt=frame, metrics={"pass@1": mean_interval(rates)},
        pass_at={},
    )  # fmt: skip


def test_differences_are_paired_with_all_filters_of_the_same_mode_and_seed() -> None:
    rates = {
        # variant → rates of four problems, of seeds 0 and 1
        ALL: ([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]),
        NONE: ([0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]),
        "without right": ([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]),
    }
    results = [
        Result(label, mode, seed, 10 + seed, evaluation(
            values[seed], revision=f"{'same' if label != NONE else 'none'}-{seed}"))
        for mode in ("equal", "all")
        for label, values in rates.items()
        for seed in (0, 1)
    ]  # fmt: skip
    lines = {(line.variant, line.mode): line for line in lines_of(results)}
    assert len(lines) == 6
    none = lines[NONE, "equal"]
    assert none.pass_at_1.mean == pytest.approx(0.25)
    assert none.gain is not None
    assert none.gain.mean == pytest.approx(0.25 - 0.625)
    assert none.gain_by_seed == pytest.approx((-0.25, -0.5))
    assert none.n_rows == (10, 11)
    assert lines[ALL, "equal"].gain is None
    assert cells(lines["without right", "equal"])[3] == "the same rows"
    assert not none.same_rows


def test_a_problem_that_a_seed_leaves_undefined_does_not_count() -> None:
    results = [
        Result(label, "equal", seed, 5, evaluation(values, revision=f"{label}{seed}"))
        for label, values in ((ALL, [1.0, 0.0, None]), (NONE, [0.0, None, 1.0]))
        for seed in (0, 1)
    ]
    none = lines_of(results)[1]
    assert none.gain is not None
    assert (none.gain.mean, none.gain.n, none.gain.n_undefined) == (-1.0, 1, 2)


SMALL = [
    "seeds=[0]", "rows=[equal]", "sample.teacher.n_documents=300",
    "sample.prompts.options.n=30", "sample.n_samples=2", "sample.max_tokens=40",
    "student.base.n_documents=150", "student.overrides=[trl.num_train_epochs=1]",
    "prompts.options.n=10", "evaluation.max_tokens=40", "selection.presets=[]",
    # Such a teacher is hardly ever right: what can be trained on is kept, and half of it dropped.
    "selection.filters={trainable: \"coalesce(format_reason, '') NOT IN ('repeated_thinking_tag', "
    "'unfinished_thinking', 'tags_out_of_order')\", half: \"trace_id < '8'\", no_op: 'true'}",
    "selection.cap_per_prompt=null",
]  # fmt: skip


def start(store: Path) -> subprocess.Popen[str]:
    sets = [word for value in [f"store={store}", *SMALL] for word in ("--set", value)]
    return subprocess.Popen(
        [sys.executable, *shlex.split(COMMAND)[1:], *sets], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_repeats_no_training(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    models = folder / "models" / "filter-effects"
    first = start(folder)
    deadline = time.monotonic() + 900
    done: list[Path] = []
    while time.monotonic() < deadline and first.poll() is None and not done:
        time.sleep(0.1)
        done = list(models.glob("*-s0/run.json"))
        done = [p for p in done if not p.parent.name.startswith("base")]
    first.send_signal(signal.SIGKILL)
    out, _ = first.communicate()
    assert done, out[-3000:]
    before = {p: p.stat().st_mtime_ns for p in done}
    n_traces = Store(folder).table("traces").n_rows()

    second = start(folder)
    out, _ = second.communicate(timeout=900)
    assert second.returncode == 0, out[-3000:]
    assert {p: p.stat().st_mtime_ns for p in before} == before, "a finished training is not redone"
    effects: list[dict[str, Any]] = json.loads((models / "effects.json").read_text())
    rows = {line["variant"]: line for line in effects}
    assert set(rows) == {"nothing (its base)", ALL, NONE, "without half", "without no_op"}
    assert len({tuple(r["n_rows"]) for v, r in rows.items() if not v.startswith("nothing")}) == 1
    assert rows["without no_op"]["same_rows"]
    assert not rows[NONE]["same_rows"]
    trained = [p for p in models.glob("*-s0/run.json") if not p.parent.name.startswith("base")]
    assert len(trained) == 2, "with the filter and without it; the rest holds the same rows"
    assert "| without half |" in (models / "effects.md").read_text()
    assert "<td>without half</td>" in (models / "effects.html").read_text()
    # Traces of the universe and of the evaluation, each once.
    store = Store(folder)
    assert store.table("traces").keys().is_unique().all()
    assert n_traces >= 60
    assert store.table("traces").n_rows() == 60 + 10 * 3
