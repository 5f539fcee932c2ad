"""The paper's tables and curves from the catalog: what is planted comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from catalogs import query
from factory.records import EVALUATIONS, TRAININGS, Prompt, PromptSource, Trace, ids
from factory.stages.score import score
from factory.store import Store
from pipelines.r1_catalog import QUERIES, catalog_lines

WAIT = "<think>\nWait, wait. I check it: four.\n</think>\n\n\\boxed{4}"
PLAIN = "<think>\nTwo and two are four, but so what.\n</think>\n\n\\boxed{4}"
# step, text, status, language, level
ROLLOUTS = [
    (0, PLAIN, "pass", 0.9, "1"), (0, PLAIN, "fail", 0.7, "2"),
    (8, WAIT, "pass", 0.6, "1"), (8, WAIT + " ", "fail", 0.4, "2"),
    (8, PLAIN + " ", "pass", 0.5, "2"),
]  # fmt: skip


key = ids.text_hash


def frame(form: Any, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([dict.fromkeys(form.columns) | r for r in rows],
                        infer_schema_length=None)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("queries") / "data")
    traces, rollouts, prompts, sources = [], [], [], []
    for i, (step, text, status, language, level) in enumerate(ROLLOUTS):
        prompt = Prompt.of(f"{i}+1?")
        trace = Trace(
            trace_id=key(f"t{i}"), prompt_id=prompt.prompt_id, model="zero", revision="r",
            sampling_id="s", sample_index=0, completion=text, n_completion_tokens=100,
        )  # fmt: skip
        source = PromptSource(prompt_id=prompt.prompt_id, source="sums", item=str(i), gold="4",
                              domain="math", level=level)  # fmt: skip
        traces.append(trace.row("run"))
        prompts.append(prompt.row("run"))
        sources.append(source.row("run"))
        rollouts.append(
            {"trace_id": key(f"t{i}"), "rl_run": "zero-1", "prompt_id": prompt.prompt_id,
             "step": step, "attempt": 1, "status": status, "reward": float(status == "pass"),
             "accuracy": float(status == "pass"), "language": language, "n_completion_tokens": 100,
             "is_used": True, "run_id": "run"}
        )  # fmt: skip
    # An attempt that was sampled again after a kill does not count.
    rollouts.append({**rollouts[0], "trace_id": key("old"), "attempt": 0, "status": "fail"})
    for name, rows in (("traces", traces), ("prompts", prompts), ("prompt_sources", sources)):
        store.table(name).add(pl.DataFrame(rows, infer_schema_length=None))
    table = TRAININGS["rollouts"]
    store.table("rollouts", table).add(frame(table, rollouts))
    score(store, ["dynamics", "length"])
    evaluations = [
        {"benchmark": b, "model": m, "revision": r, "created_at": at, "pass_at_1": p, "k": 4,
         "n_prompts": 30, "cons_at_k": 1.0}
        for b, m, r, at, p in (
            ("aime24", "zero", "a", "1", 0.1), ("aime24", "zero", "a", "2", 0.2),
            ("aime24", "zero", "b", "1", 0.4), ("aime24", "r1", "c", "1", 0.8),
            ("math500", "dev1", "d", "1", 0.5), ("math500", "distilled-qwen", "e", "1", 0.75),
            ("math500", "other", "f", "1", 0.9),
        )
    ]  # fmt: skip
    for i, row in enumerate(evaluations):
        row["evaluation_id"] = key(f"e{i}")
    table = EVALUATIONS["evaluations"]
    store.table("evaluations", table).add(frame(table, evaluations))
    table = TRAININGS["rl_evaluations"]
    measured = [
        {"evaluation_id": key(f"m{i}"), "rl_run": "zero-1", "step": s, "attempt": a, "pass_rate": p}
        for i, (s, a, p) in enumerate([(0, 1, 0.1), (8, 1, 0.2), (8, 2, 0.3)])
    ]
    store.table("rl_evaluations", table).add(frame(table, measured))
    return store


@pytest.mark.parametrize(
    ("name", "columns", "rows"),
    [
        ("r1_stages", ("benchmark", "r1_zero", "dev1", "dev2", "r1", "n_models"),
         # The mean over revisions, each with its newest evaluation.
         [("aime24", 0.3, None, None, 0.8, 3), ("math500", None, 0.5, None, None, 1)]),
        ("r1_students", ("benchmark", "model", "pass_at_1", "cons_at_k"),
         [("math500", "distilled-qwen", 0.75, 1.0)]),
        ("r1_benchmark", ("step", "pass_rate"), [(0, 0.1), (8, 0.3)]),
        # but is one reflective word; wait, wait, check are three: (3 + 3 + 1) / 3 of an answer.
        ("r1_thinking", ("step", "n", "reflective", "waits", "times_step_0"),
         [(0, 2, 1.0, 0.0, 1.0), (8, 3, 2.333, 1.333, 2.33)]),
        ("r1_language", ("eighth", "n", "language", "since_first", "accuracy"),
         [(1, 2, 0.8, 0.0, 0.5), (8, 3, 0.5, -0.3, 0.6667)]),
        ("r1_levels", ("level", "from_step", "n", "accuracy"),
         [("1", 0, 1, 1.0), ("1", 8, 1, 1.0), ("2", 0, 1, 0.0), ("2", 8, 2, 0.5)]),
        # A wrong answer that says wait is no candidate; at step 0 none says it.
        ("r1_aha", ("trace_id", "step", "n_wait", "base_rate"), [(key("t2"), 8, 2, 0.0)]),
        ("r1_counts", ("stage", "name", "domain", "n_prompts", "n_traces", "n_pass", "n_fail"),
         [("RL", "zero", "math", 5, 5, 3, 2)]),
    ],
)  # fmt: skip
def test_a_query_gives_what_was_planted(
    store: Store, name: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]
) -> None:
    found = query.run(store, f"@{name}")
    at = [found.columns.index(c) for c in columns]
    assert [tuple(row[i] for i in at) for row in found.rows] == rows


@pytest.mark.slow
def test_the_report_shows_each_with_the_query_behind_it_and_no_other_run(store: Store) -> None:
    text = "\n".join(catalog_lines(store, ["zero-1"]))
    assert [name for name in QUERIES if f"`factory sql @{name}`" not in text] == []
    assert key("t2") in text
    others = "\n".join(catalog_lines(store, ["another"]))
    assert "zero-1" not in others
    assert "| aime24 | 0.3 |" in others


def test_a_store_without_any_has_an_empty_section(tmp_path: Path) -> None:
    assert catalog_lines(Store(tmp_path / "data"), []) == ["", "## From the catalog", ""]
