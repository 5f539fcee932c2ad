"""Evaluation: counts are asserted, metrics by hand, more samples only add what is missing."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from distill.evaluate import (
    PAPER,
    evaluate,
    measure,
    paired,
    summarise,
    unique_pairs,
)
from distill.evaluate.compare import compare, recorded
from distill.evaluate.contamination import Contamination, contamination
from distill.evaluate.fitting import fitted
from distill.evaluate.page import page
from distill.evaluate.queries import query
from factory.engines.replay import Engine
from factory.errors import EngineError, Refused, UsageError
from factory.records import Prompt, PromptSource, Sampling
from factory.sources import benchmark
from factory.sources.benchmarks import load
from factory.store import Store
from tests.helpers_run import VERIFIER, answers, new_store, problems, replay

SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=64, prefill="<think>\n")


def _sample(prompt: str, index: int, status: str, extracted: str | None = None) -> dict[str, Any]:
    return {
        "prompt_id": prompt, "sample_index": index, "status": status, "extracted": extracted,
        "finish_reason": "length" if extracted is None else "stop", "n_completion_tokens": 10,
        "format": extracted is not None, "language_consistency": 1.0, "readability": 0.5,
        "reasoning_chars": 3, "reward": {"pass": 1.0, "fail": 0.0}.get(status),
        "vote": "right" if status == "pass" else extracted,
    }  # fmt: skip


def test_metrics_equal_hand_computed_values() -> None:
    samples = [
        *(_sample("a", i, s, x) for i, (s, x) in enumerate(
            [("pass", "4"), ("fail", "5"), ("pass", "4.0"), ("fail", None)])),
        *(_sample("b", i, "fail", x) for i, x in enumerate(["1", "1", "2", "3"])),
        *(_sample("c", i, s, x) for i, (s, x) in enumerate(
            [("unscored", None), ("unscored", None), ("unscored", None), ("unscored", None)])),
        *(_sample("d", i, s, x) for i, (s, x) in enumerate(
            [("pass", "7"), ("fail", "8"), ("pass", "7"), ("fail", "8")])),
    ]  # fmt: skip
    frame, pass_at = summarise(samples, prompts=["a", "b", "c", "d"], k=4)
    assert frame["pass_rate"].to_list() == [0.5, 0.0, None, 0.5]
    # a: two right answers written differently are one class; d: a tie shares the point.
    assert frame["cons"].to_list() == [1.0, 0.0, None, 0.5]
    assert frame["truncated"].to_list() == [0.25, 0.0, 1.0, 0.0]
    # pass@2 with n=4, c=2: 1 - C(2,2)/C(4,2) = 5/6; the prompt without verdicts is left out.
    assert pass_at[2] == pytest.approx((5 / 6 + 0 + 5 / 6) / 3)
    assert pass_at[4] == pytest.approx(2 / 3)
    assert pass_at[1] == pytest.approx(1 / 3)


def test_pass_at_k_is_what_drawing_k_samples_gives() -> None:
    generator = random.Random(0)
    statuses = ["pass"] * 3 + ["fail"] * 7
    samples = [_sample("p", i, s, str(i)) for i, s in enumerate(statuses)]
    _, pass_at = summarise(samples, prompts=["p"], k=10)
    for k in (1, 2, 4, 8):
        drawn = sum("pass" in generator.sample(statuses, k) for _ in range(20_000)) / 20_000
        assert pass_at[k] == pytest.approx(drawn, abs=0.015)


def _evaluate(store: Store, *, k: int, n: int = 10, **options: Any) -> Any:
    return evaluate(
        store, problems(n), replay(n, 8, **options), benchmark="sums", k=k, sampling=SAMPLING,
        n_workers=1,
    )  # fmt: skip


def test_an_evaluation_is_traces_and_a_row_of_its_table(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    out = _evaluate(store, k=4)
    assert store.table("traces").n_rows() == 40
    assert out.n_samples == 40
    expected = Counter[int]()
    recorded = answers(10, 8)
    for at, (prompt, source) in enumerate(problems(10)):
        for j in range(4):
            text = recorded[f"{prompt.prompt_id}:{j}"]["completion"]
            expected[at] += f"boxed{{{source.gold}}}" in text
    assert out.pass_at_1 == pytest.approx(sum(expected.values()) / 40)
    assert out.metrics["format"].mean == 1.0
    assert out.lines()[0].startswith("sums: 10 prompts x k=4 = 40 samples of recorded-model")
    row = store.table("evaluations").read().row(0, named=True)
    assert (row["pass_at_1"], row["n_prompts"], row["k"]) == (out.pass_at_1, 10, 4)


def test_more_samples_make_only_what_is_missing(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _evaluate(store, k=2)
    calls = tmp_path / "calls"
    _evaluate(store, k=6, calls=calls)
    assert len(calls.read_text().split()) == 40
    calls.unlink()
    _evaluate(store, k=6, calls=calls)
    assert not calls.exists()
    assert store.table("evaluations").n_rows() == 2


def test_missing_samples_are_refused_or_printed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(Refused, match=r"20 of 100 samples are missing \(.*not_recorded"):
        _evaluate(store, k=10)
    out = evaluate(
        store, problems(10), replay(10, 8), benchmark="sums", k=10, sampling=SAMPLING,
        n_workers=1, allow_missing=True,
    )  # fmt: skip
    assert "20 MISSING" in out.lines()[0]
    assert "20 not_recorded" in out.lines()[1]
    assert sum(out.gaps.values()) == 20
    assert out.pass_at[10] is None
    assert out.metrics["cons@k"].mean is None


def test_two_models_are_compared_prompt_by_prompt(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    before = _evaluate(store, k=4)
    better = before.per_prompt.with_columns(
        pl.min_horizontal(pl.col("pass_rate") + 0.25, 1).alias("pass_rate")
    ).reverse()
    after = type(before)(**{**before.__dict__, "per_prompt": better})
    difference = paired(before, after).differences["pass_rate"]
    assert difference.mean is not None
    assert 0.1 < difference.mean <= 0.25
    with pytest.raises(UsageError, match="different prompts"):
        paired(before, type(before)(**{**before.__dict__, "per_prompt": better.head(3)}))


def test_other_samplings_and_models_do_not_mix(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    out = _evaluate(store, k=2)
    with pytest.raises(Refused, match="20 of 20 samples are missing"):
        measure(
            store, unique_pairs(problems(10)), model="another", revision=out.revision,
            sampling_id=out.sampling_id, k=2, benchmark="sums",
        )  # fmt: skip


def test_a_prompt_without_gold_is_refused() -> None:
    prompt = Prompt.of("?")
    source = PromptSource(prompt_id=prompt.prompt_id, source="s", item="1", verifier=VERIFIER)
    with pytest.raises(UsageError, match="has no gold"):
        unique_pairs([(prompt, source)])


def test_the_protocol_is_the_papers() -> None:
    assert (PAPER.temperature, PAPER.top_p, PAPER.max_tokens) == (0.6, 0.95, 32768)
    named = ("aime24", "gpqa-diamond", "math500", "codeforces", "livecodebench")
    assert [load(name).k for name in named] == [64, 64, 16, 16, 8]
    assert all(load(name).k_of_paper for name in named)


class _Dying(Engine):
    """Answers from a record, and dies after so many answers."""

    def __init__(self, *args: Any, after: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._after = after

    def run(self, requests: Any, on_partial: Any = None) -> Any:
        for n, made in enumerate(super().run(requests, on_partial)):
            if n >= self._after:
                raise EngineError("the engine died")
            yield made


def test_more_samples_after_interruptions_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    store, record = new_store(tmp_path), answers(6, 64)
    for k, after in ((4, 9), (4, None), (16, 31), (16, None), (64, 100), (64, None)):
        n_there = store.table("traces").n_rows() if store.has("traces") else 0
        calls = tmp_path / f"calls-{k}-{after}"
        options: dict[str, Any] = {"answers": record, "calls": str(calls)}
        engine = (
            Engine("recorded-model", **options)
            if after is None
            else _Dying("recorded-model", after=after, **options)
        )
        try:
            out = evaluate(
                store, problems(6), engine, benchmark="sums", k=k, sampling=SAMPLING, n_workers=1
            )
        except EngineError:
            continue
        # Nothing that was committed is asked again, and nothing more than is missing.
        asked = calls.read_text().split()
        assert len(asked) == len(set(asked)) == 6 * k - n_there
    other = new_store(tmp_path / "other")
    once = evaluate(
        other, problems(6), Engine("recorded-model", answers=record), benchmark="sums", k=64,
        sampling=SAMPLING, n_workers=1,
    )  # fmt: skip
    assert out.lines() == once.lines()
    assert out.evaluation_id == once.evaluation_id


def test_a_seed_and_a_temperature_are_other_samples(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    ids = {
        evaluate(
            store, problems(3), replay(3, 8), benchmark="sums", k=2, n_workers=1,
            sampling=dataclasses.replace(SAMPLING, **change),
        ).sampling_id
        for change in ({}, {"seed": 1}, {"temperature": 0.7})
    }  # fmt: skip
    assert len(ids) == 3
    assert store.table("traces").n_rows() == 3 * 3 * 2


def test_every_number_has_its_query(tmp_path: Path) -> None:
    from catalogs import build

    store = new_store(tmp_path)
    hit = frozenset(p.prompt_id for p, _ in problems(3))
    out = evaluate(
        store, problems(10), replay(10, 8), benchmark="sums", k=10, sampling=SAMPLING,
        n_workers=1, allow_missing=True, trained_on=Contamination("data", 5, 3, hit),
    )  # fmt: skip
    eight = _evaluate(store, k=8)
    with build.connect(store) as con:
        for found in (out, eight):
            said = {name: interval.mean for name, interval in found.metrics.items()}
            said |= {f"pass@{k}": v for k, v in found.pass_at.items()}
            said["seeds"] = found.seeds.mean
            for name, value in said.items():
                sql = query(name, evaluation_id=found.evaluation_id, k=found.k)
                (answer,) = con.execute(sql).fetchone() or (None,)
                assert answer == (None if value is None else pytest.approx(value)), name
        gaps = con.execute("SELECT count(*) FROM evaluation_samples WHERE status = 'missing'")
        assert gaps.fetchone() == (20,)
    assert out.metrics["pass@1 uncontaminated"].n == 7


def test_the_page_shows_numbers_queries_and_gaps_and_escapes(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    out = evaluate(
        store, problems(10), replay(10, 8), benchmark="<b>sums</b>", k=10, sampling=SAMPLING,
        n_workers=1, allow_missing=True,
    )  # fmt: skip
    made = page([out])
    assert "<b>sums" not in made
    assert "&lt;b&gt;sums" in made
    assert f"{out.pass_at_1:.4g}" in made
    assert made.count("<summary>SQL</summary>") == len(out.metrics) + 1 + len(out.pass_at)
    assert "not_recorded" in made
    assert "http" not in made.partition("</head>")[2]


def test_two_recorded_evaluations_are_compared(tmp_path: Path, capsys: Any) -> None:
    from distill.cli import main

    store = new_store(tmp_path)
    _evaluate(store, k=4)
    better = {k: {**v} for k, v in answers(10, 8).items()}
    for at, (prompt, source) in enumerate(problems(10)):
        if at < 9:
            for j in range(8):
                text = f"Sum.\n</think>\n\n\\boxed{{{source.gold}}}"
                better[f"{prompt.prompt_id}:{j}"] = {"completion": text, "n_completion_tokens": 9}
    other = Engine("better-model", answers=better)
    found = evaluate(
        store, problems(10), other, benchmark="sums", k=4, sampling=SAMPLING, n_workers=1
    )
    rows = compare(recorded(store, "recorded-model"), recorded(store, found.evaluation_id[:8]))
    by_name = {d.metric: d for d in rows}
    assert by_name["pass_rate"].verdict == "higher"
    assert by_name["pass_rate"].gain.mean == pytest.approx(
        (found.pass_at_1 or 0) - (recorded(store, "recorded-model").row["pass_at_1"])
    )
    assert by_name["pass_rate"].smallest
    assert by_name["truncated"].verdict == "not told apart"
    folder = str(tmp_path / "data")
    both = ["recorded-model", "better-model", "--store", folder]
    assert main(["compare", *both, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["prompts"] == 10
    assert said["differences"][0]["gain"]["mean"] == by_name["pass_rate"].gain.mean
    _evaluate(store, k=4, n=5)
    assert main(["compare", "recorded-model", "better-model", "--store", folder]) == 2
    assert "different prompts (5 and 10, 5 in common)" in capsys.readouterr().err
    assert main(["compare", "better-model", "nobody", "--store", folder]) == 2
    assert "no evaluation of 'nobody': models: better-model" in capsys.readouterr().err


def test_a_context_is_shared_by_prompt_and_answer() -> None:
    said: list[str] = []
    asked = Sampling(temperature=0.6, max_tokens=32_768)
    full = fitted(asked, context=32_768, longest=713, name="m", say=said.append)
    assert full.max_tokens == 31_744
    assert said == [
        "m: context 32,768: answers of at most 31,744 tokens instead of 32,768; 1,024 are kept for "
        "the prompt (longest 713)"
    ]
    # Another limit of prompts keeps the keys; room enough changes nothing.
    again = fitted(asked, context=32_768, longest=560, name="m", say=said.append)
    assert again.sampling_id == full.sampling_id
    assert fitted(asked, context=131_072, longest=900, name="m", say=said.append) == asked
    assert fitted(asked, context=0, longest=900, name="m", say=said.append) == asked
    with pytest.raises(UsageError, match="holds no answer to a prompt of 4,000"):
        fitted(asked, context=2048, longest=4000, name="m", say=said.append)


def test_problems_that_training_data_hold_are_found(tmp_path: Path) -> None:
    words = [f"w{n}" for n in "abcdefghijkl"]
    problems_ = {f"p{i}": " ".join(f"{w}{i}" for w in words) + "?" for i in range(4)}
    rows = [
        {"messages": [{"role": "user", "content": f"Solve this. {problems_['p2']}"}]},
        {"messages": [{"role": "user", "content": "Something else that nobody has asked before."}]},
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = contamination(str(path), problems_)
    assert (found.n_rows, found.n_rows_hit) == (2, 1)
    assert found.prompts == {"p2"}
    assert found.line(4).endswith("1 of 2 rows of " + str(path))


def test_the_table_of_models_is_a_query(tmp_path: Path) -> None:
    from catalogs import build

    store = new_store(tmp_path)
    out = _evaluate(store, k=2)
    with build.connect(store) as con:
        sql = "SELECT benchmark, model, k, pass_at_1, n_samples FROM evaluations"
        assert con.execute(sql).fetchall() == [("sums", "recorded-model", 2, out.pass_at_1, 20)]


def test_the_command_plans_samples_and_prints_counts(tmp_path: Path, capsys: Any) -> None:
    from distill.cli import main
    from pipelines.common import write_pairs

    write_pairs(problems(5), tmp_path / "mine.jsonl")
    record = tmp_path / "answers.jsonl"
    rows = []
    for key, row in answers(5, 4).items():
        prompt_id, _, index = key.partition(":")
        rows.append({**row, "prompt_id": prompt_id, "sample_index": int(index)})
    record.write_text("".join(json.dumps(r) + "\n" for r in rows))
    command = ["evaluate", "--model", "recorded", "--engine", "replay", "--engine-option",
               f"answers={record}", "--prompts", str(tmp_path / "mine.jsonl"), "--k", "4",
               "--store", str(tmp_path / "data"), "--prefill", "<think>\n"]  # fmt: skip
    assert main([*command, "--plan"]) == 0
    assert "nothing was started" in capsys.readouterr().out
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith("mine: 5 prompts x k=4 = 20 samples of recorded")
    assert "pass@1" in said
    assert main([*command, "--plan", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["plans"][0].values()) >= {0, 20}
    assert main([*command, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["evaluations"]
    assert (found["n_prompts"], found["n_samples"], found["step"]) == (5, 20, None)
    assert found["metrics"]["pass@1"]["mean"] == found["pass_at_1"] == found["pass_at"]["1"]
    assert main(["evaluate", "--model", "m", "--store", str(tmp_path / "data")]) == 2
    assert "which prompts?" in capsys.readouterr().err


def test_a_judged_benchmark_is_counted_by_its_judge(tmp_path: Path, capsys: Any) -> None:
    from distill.cli import main
    from factory.stages.judge import Judging, judge_store
    from tests.helpers_judge import JudgeModel
    from tests.test_judge_store import NO, YES

    rows = [{"problem": f"Who was number {i}?", "answer": "Ann"} for i in range(4)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    record = tmp_path / "answers.jsonl"
    pairs = list(benchmark.prompts("simpleqa", path=path))
    said = [{"prompt_id": p.prompt_id, "sample_index": j, "completion": "Ann." if i else "Bob."}
            for i, (p, _) in enumerate(pairs) for j in range(2)]  # fmt: skip
    record.write_text("".join(json.dumps(r) + "\n" for r in said))
    folder = tmp_path / "data"
    command = ["evaluate", "--model", "recorded", "--engine", "replay", "--engine-option",
               f"answers={record}", "--benchmark", "simpleqa", "--file", str(path), "--k", "2",
               "--store", str(folder)]  # fmt: skip
    assert main(command) == 1
    assert "8 of 8 samples wait for a judge: run `factory judge`" in capsys.readouterr().err
    reader = JudgeModel(lambda text, _: YES if "Ann." in text.rpartition("<candidate ")[2] else NO)
    asked = Sampling(temperature=0.6, max_tokens=64)
    recipe = Judging.make({"measure": {"n": 0, "min_n": 0, "on_short": "warn"}})
    judge_store(Store(folder), reader, sampling=asked, recipe=recipe)
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "pass@1                 0.750" in out
    assert "cons@k                 undefined" in out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_model_at_its_full_context_and_its_checkpoints_give_samples(
    tmp_path: Path, capfd: Any
) -> None:
    from distill.cli import main
    from pipelines.common import write_pairs
    from tests.tiny_model import make_tiny_model

    run = tmp_path / "run"
    for step in (2, 10):
        make_tiny_model(run / "checkpoints" / f"checkpoint-{step}", seed=step)
    write_pairs(problems(3), tmp_path / "mine.jsonl")
    command = ["evaluate", "--model", str(run), "--checkpoints", "--prompts",
               str(tmp_path / "mine.jsonl"), "--k", "2", "--store", str(tmp_path / "data"),
               "--engine-option", "max_num_seqs=4"]  # fmt: skip
    assert main(command) == 0  # 32,768 tokens are asked for, the context holds 512
    said = capfd.readouterr().out
    assert said.count("context 512: answers of at most") == 2
    assert said.index("step 2\n") < said.index("step 10\n")
    assert said.count("3 prompts x k=2 = 6 samples of checkpoint-") == 2
    assert "MISSING" not in said
