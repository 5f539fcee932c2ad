"""Judging a store: measured before it is used, never lifting, asking nothing twice."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from factory import plugins
from factory.cli.main import main
from factory.errors import Refused
from factory.records import Item, Prompt, PromptSource, Sampling, Trace, Verdict, ids
from factory.stages.judge import Judging, grading, judge_store, measured_sample, plan_judging
from factory.stages.verify import verify
from factory.store import Store
from tests.helpers_judge import JudgeModel
from tests.helpers_server import Server

SAMPLING = Sampling(temperature=0.6, max_tokens=64)
RIGHT, WRONG = "It is \\boxed{4}.", "It is \\boxed{5}."
YES = '{"analysis": "Both say 4.", "correctness": "correct"}'
NO = '{"analysis": "It says 5.", "correctness": "incorrect"}'
ESSAY = "Rain falls where warm air rises and cools."
N = 12


def world(folder: Path) -> Store:
    """Return a copy of N sums that the rules decide (half of them fails), and N essays."""
    shutil.copytree(made(folder.parent), folder / "data")
    return Store(folder / "data")


@functools.cache
def made(folder: Path) -> Path:
    store = Store(folder / "judged-rows")
    run = store.start_run("import", {})
    prompts, sources, traces = [], [], []
    for i in range(2 * N):
        is_sum = i < N
        prompt = Prompt.of(f"What is 2 + 2 in world {i}?" if is_sum else f"Why does it rain? {i}")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source="sums" if is_sum else "essays", item=str(i),
            gold="4" if is_sum else "Moist air rises and cools.",
            verifier="math" if is_sum else None,
        )  # fmt: skip
        text = (RIGHT if i % 2 else WRONG) if is_sum else (ESSAY if i % 3 else "Thought process:")
        trace = Trace(
            trace_id=ids.imported_trace_id(prompt_id=prompt.prompt_id, model="m", completion=text),
            prompt_id=prompt.prompt_id, model="m", revision="r", sampling_id="0" * 32,
            sample_index=0, completion=text,
        )  # fmt: skip
        prompts.append(prompt.row(run))
        sources.append(source.row(run))
        traces.append(trace.row(run))
    for name, rows in (("prompts", prompts), ("prompt_sources", sources), ("traces", traces)):
        store.table(name).add(pl.DataFrame(rows, infer_schema_length=None))
    verify(store, n_workers=1)
    store.seal()
    return store.root


def truth(text: str) -> str:
    """A good judge's reply to one of our prompts."""
    candidate = text.rpartition("<candidate ")[2]
    return YES if "boxed{4}" in candidate or "Rain" in candidate else NO


def verdicts(store: Store) -> dict[str, str]:
    frame = store.table(f"verdicts.judge@{grading.VERSION}").read(["trace_id", "status"])
    return dict(frame.iter_rows())


RECIPE = Judging.make({"measure": {"n": 10, "min_n": 8}})


def test_a_judge_that_agrees_scores_what_no_rule_can(tmp_path: Path) -> None:
    store, model = world(tmp_path), JudgeModel(lambda text, _: truth(text))
    done = judge_store(store, model, sampling=SAMPLING, recipe=RECIPE)
    assert (done.measured.n, done.measured.agreement, done.measured.false_accept) == (10, 1.0, 0.0)
    assert done.n_empty == 4
    found = verdicts(store)
    assert len(found) == 10 + N
    assert sorted(found.values()).count("pass") == 5 + 8
    assert model.asked == 10 + 8, "empty answers never reach it"
    again = judge_store(store, model, sampling=SAMPLING, recipe=RECIPE)
    assert (again.present, sum(again.by_status.values())) == (10 + N, 0)
    assert model.asked == 10 + 8, "the second run asks nothing"
    assert verdicts(store) == found


def test_a_filter_names_the_judges_status_and_no_dataset_takes_its_replies(tmp_path: Path) -> None:
    from factory.stages.select import Selection, select

    store = world(tmp_path)
    judge_store(store, JudgeModel(lambda text, _: truth(text)), sampling=SAMPLING, recipe=RECIPE)
    selected = select(store, Selection(filters={"judged": "judge_status = 'pass'"}))
    assert selected.kept.height == 5 + 8
    assert selected.decisions.height == 2 * N
    assert Store(store.root / "judge").table("traces").keys().len() == 18


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (lambda text, i: YES, "false accepts 1.000 exceed"),
        (lambda text, i: NO, "agreement 0.5 is below"),
        (lambda text, i: "The answer is correct.", "measured on 0 rows"),
    ],
)
def test_a_judge_that_does_not_agree_is_refused_and_writes_nothing(
    tmp_path: Path, reply: Any, why: str
) -> None:
    store = world(tmp_path)
    with pytest.raises(Refused, match=why):
        judge_store(store, JudgeModel(reply), sampling=SAMPLING, recipe=RECIPE)
    assert verdicts(store) == {}


def test_a_recipe_may_warn_and_the_judge_still_never_lifts_a_fail(tmp_path: Path) -> None:
    store = world(tmp_path)
    rules = dict(
        store.table(f"verdicts.{plugins.label('verifiers', 'math')}")
        .read(["trace_id", "status"])
        .iter_rows()
    )
    recipe = Judging.make({"ask": "not_failed", "measure": {"n": N, "on_short": "warn"}})
    done = judge_store(store, JudgeModel(lambda text, _: YES), sampling=SAMPLING, recipe=recipe)
    assert done.shortfall
    found = verdicts(store)
    assert {found[t] for t, status in rules.items() if status == "fail"} == {"fail"}
    lowered = judge_store(
        store, JudgeModel(lambda text, _: NO), sampling=Sampling(temperature=0.7, max_tokens=64),
        recipe=recipe,
    )  # fmt: skip
    assert lowered.by_status == {"fail": 2 * N}


def test_a_malformed_reply_is_asked_for_again_and_then_unknown(tmp_path: Path) -> None:
    def reply(text: str, index: int) -> str:
        if "rain? 13" in text:
            return "Correct!"  # never a judgement
        return "hm" if index == 0 else truth(text)

    store, model = world(tmp_path), JudgeModel(reply)
    done = judge_store(store, model, sampling=SAMPLING, recipe=RECIPE)
    assert model.asked == 17 * 2 + grading.MAX_TRIES
    assert done.by_status["unscored"] == 1
    frame = store.table(f"verdicts.judge@{grading.VERSION}").read()
    unknown = frame.filter(pl.col("status") == "unscored").row(0, named=True)
    assert (unknown["reason"], unknown["reward"]) == ("judge_error", None)


def test_the_measured_rows_hold_passes_and_fails(tmp_path: Path) -> None:
    def case(i: int, status: str) -> Any:
        from factory.stages.judge import Case

        rule = Verdict.passed(decided_by="t") if status == "pass" else Verdict.failed(
            "wrong", decided_by="t")  # fmt: skip
        return Case(f"{i:032x}", "g", rule, Prompt.of(str(i)), False)

    for n_passes, n_fails, n, wanted in ((50, 50, 20, (10, 10)), (50, 3, 20, (17, 3)),
                                         (2, 50, 20, (2, 18)), (1, 1, 20, (1, 1))):  # fmt: skip
        cases = [case(i, "pass") for i in range(n_passes)]
        cases += [case(1000 + i, "fail") for i in range(n_fails)]
        found = [c.rule.status for c in measured_sample(cases, n) if c.rule]
        assert (found.count("pass"), found.count("fail")) == wanted


def test_a_plan_starts_nothing_and_counts_what_is_there(tmp_path: Path) -> None:
    store, model = world(tmp_path), JudgeModel(lambda text, _: truth(text))
    before = plan_judging(store, engine=model, sampling=SAMPLING, recipe=RECIPE)
    assert before["judge_missing_at_most"] == 18
    assert before["failed_without_the_judge"] == 4
    assert not (store.root / "judge").exists()
    assert model.asked == 0
    judge_store(store, model, sampling=SAMPLING, recipe=RECIPE)
    after = plan_judging(store, engine=model, sampling=SAMPLING, recipe=RECIPE)
    assert (after["judge_present"], after["judge_missing_at_most"]) == (18, 0)


# ---- as a user calls it


def recorded(store: Store) -> list[dict[str, Any]]:
    """Recorded replies to every prompt that judging this store can make."""
    golds = {r["prompt_id"]: r["gold"] for r in store.table("prompt_sources").read().to_dicts()}
    texts = {r["prompt_id"]: r["text"] for r in store.table("prompts").read().to_dicts()}
    rows = []
    for trace in store.table("traces").read().to_dicts():
        prompt = grading.prompt_for(
            question=texts[trace["prompt_id"]], reference=golds[trace["prompt_id"]],
            item=Item(text=trace["completion"]),
        )  # fmt: skip
        rows.append({"prompt_id": prompt.prompt_id, "sample_index": 0,
                     "completion": truth(prompt.text), "n_completion_tokens": 9})  # fmt: skip
    return rows


def recipe_file(folder: Path, engine: dict[str, Any]) -> Path:
    path = folder / "judge.yaml"
    path.write_text(
        yaml.safe_dump(
            {"engine": engine, "sampling": {"temperature": 0.6, "max_tokens": 64},
             "judge": {"measure": {"n": 10, "min_n": 8}}}
        )
    )  # fmt: skip
    return path


def test_the_verb_with_recorded_replies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = world(tmp_path)
    answers = tmp_path / "replies.jsonl"
    answers.write_text("".join(json.dumps(r) + "\n" for r in recorded(store)))
    recipe = recipe_file(tmp_path, {"kind": "replay", "model": "recorded", "answers": str(answers)})
    where = ["--store", str(store.root)]
    assert main(["judge", str(recipe), "--plan", *where]) == 0
    assert "judge missing at most" in capsys.readouterr().out
    assert main(["judge", str(recipe), *where]) == 0
    said = capsys.readouterr().err
    assert "agreement with the rules 100.0% on 10 rows" in said
    assert "22 new verdicts" in said
    assert main(["judge", str(recipe), *where]) == 0
    assert "0 new verdicts, 22 were there" in capsys.readouterr().err
    assert main(["judge", str(recipe), "--set", "judge.measure.min_n=500", *where]) != 0
    assert "500 with fails among them are needed" in capsys.readouterr().err
    assert main(["judge", str(recipe), "--set", "judge.asks=all", *where]) == 2
    assert "asks" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_judges_and_a_kill_loses_nothing(tmp_path: Path) -> None:
    store = world(tmp_path)
    seeds: dict[int, dict[str, Any]] = {}
    for row in recorded(store):
        key = ids.trace_id(
            prompt_id=row["prompt_id"], model="served", revision="label",
            sampling_id=SAMPLING.sampling_id, sample_index=0,
        )  # fmt: skip
        seeds[ids.seed_of(base=0, trace_id=key)] = {**row, "trace_id": key}
    with Server(seeds, seconds_per_token=0.02) as server:
        recipe = recipe_file(
            tmp_path,
            {"kind": "openai", "model": "served", "revision": "label", "base_url": server.url,
             "max_concurrency": 2},
        )  # fmt: skip
        command = [sys.executable, "-m", "factory", "judge", str(recipe), "--store",
                   str(store.root)]  # fmt: skip
        first = subprocess.Popen(command, start_new_session=True, env=dict(os.environ))
        deadline = time.monotonic() + 60
        while len(server.asked) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        n_before = len(server.asked)
        assert 6 <= n_before < 18
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "22 new verdicts" in done.stderr
        assert len(server.asked) <= 18 + 2 + 6  # in flight, and one commit batch at this pace
        n_after = len(server.asked)
        subprocess.run(command, check=True, capture_output=True)
        assert len(server.asked) == n_after
    counts = sorted(verdicts(store).values())
    assert (counts.count("pass"), counts.count("fail")) == (13, 9)
