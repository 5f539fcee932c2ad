"""Generation: nothing is asked twice, nothing is lost, and the universe never depends on timing."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pytest

from factory.engines.base import Failure
from factory.errors import PluginError, UsageError
from factory.stages.generate import Generated, generate, plan
from factory.stages.generate.policy import Policy
from factory.stages.score import score
from factory.store import Store
from tests.helpers_run import SAMPLING, VERDICTS, new_store, problems, replay

FIXED = Policy(kind="fixed", n=4)
UNTIL = Policy(kind="until", passes=2, max_samples=8)
ADAPTIVE = Policy(kind="adaptive", passes=2, max_samples=8, give_up_after=3)


def run(store: Store, n: int, policy: Policy, **options: object) -> Generated:
    engine = replay(n, 8, **{k: v for k, v in options.items() if k in ("slots", "calls")})
    rest = {k: v for k, v in options.items() if k not in ("slots", "calls")}
    return generate(store, problems(n), engine, sampling=SAMPLING, policy=policy, **rest)  # type: ignore[arg-type]


def test_wanted_samples_are_made_and_verified_and_a_second_run_asks_nothing(tmp_path: Path) -> None:
    store, calls = new_store(tmp_path), tmp_path / "calls"
    first = run(store, 20, FIXED, calls=str(calls))
    assert first.progress.n_new == 80
    assert first.universe.height == 80
    assert first.missing == 0
    assert first.progress.n_pass + first.progress.n_fail == 80
    assert store.table(VERDICTS).n_rows() == 80
    again = run(store, 20, FIXED, calls=str(calls))
    assert again.progress.n_new == 0
    assert again.progress.n_have == 80
    assert again.universe.equals(first.universe)
    assert len(calls.read_text().split()) == 80


def test_more_samples_make_only_those_that_are_missing(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    run(store, 10, FIXED)
    more = run(store, 10, Policy(kind="fixed", n=8))
    assert more.progress.n_new == 40
    assert set(more.universe["sample_index"]) == set(range(8))


@pytest.mark.parametrize("policy", [UNTIL, ADAPTIVE], ids=["until", "adaptive"])
def test_the_universe_does_not_depend_on_slots_or_speculation(
    tmp_path: Path, policy: Policy
) -> None:
    universes = []
    for number, (slots, ahead) in enumerate([(1, 1), (7, 1), (64, 4)]):
        store = Store(tmp_path / str(number))
        result = run(store, 30, policy.model_copy(update={"ahead": ahead}), slots=slots)
        universes.append(result.universe)
    assert universes[0].equals(universes[1])
    assert universes[0].equals(universes[2])
    assert universes[0].height < 30 * 8


def test_until_stops_at_the_wanted_number_of_passes(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    result = run(store, 25, UNTIL)
    verdicts = store.table(VERDICTS).read()
    joined = result.universe.join(verdicts, on="trace_id")
    for (_,), group in joined.sort("sample_index").group_by(["prompt_id"], maintain_order=True):
        statuses = group["status"].to_list()
        assert statuses[:-1].count("pass") < 2, "a sample was asked after enough had passed"
        assert statuses.count("pass") == 2 or len(statuses) == 8
    assert result.progress.n_new == result.universe.height, "ahead=1 makes nothing beyond"


def test_adaptive_gives_hopeless_prompts_up(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    result = run(store, 25, ADAPTIVE)
    verdicts = store.table(VERDICTS).read(["trace_id", "status"])
    joined = result.universe.join(verdicts, on="trace_id").sort("sample_index")
    for (_,), group in joined.group_by(["prompt_id"], maintain_order=True):
        statuses = group["status"].to_list()
        gave_up = len(statuses) == 3 and "pass" not in statuses
        assert gave_up or statuses.count("pass") == 2 or len(statuses) == 8
        assert gave_up or "pass" in statuses[:3], "went on although the first three all failed"
    zero = problems(25)[0][0].prompt_id  # recorded with a pass rate of 0
    assert result.universe.filter(pl.col("prompt_id") == zero).height == 3


def test_changed_settings_do_not_reuse_old_answers(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    run(store, 5, FIXED)
    from dataclasses import replace

    hotter = replace(SAMPLING, temperature=1.0)
    other = generate(store, problems(5), replay(5, 8), sampling=hotter, policy=FIXED)
    assert other.progress.n_new == 20


def test_traces_without_verdicts_are_verified_by_the_next_run(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    run(store, 10, FIXED, verify=False)
    assert not store.has(VERDICTS)
    again = run(store, 10, UNTIL)
    assert store.table(VERDICTS).n_rows() >= 40
    assert again.progress.n_have == 40


class Flaky:
    """An engine that fails every request once, and some for ever."""

    template = None

    def __init__(self, inner: object, for_ever: set[str]) -> None:
        self.inner, self.for_ever = inner, for_ever
        self.model, self.revision = inner.model, inner.revision  # type: ignore[attr-defined]
        self.seen: set[str] = set()

    def run(self, requests, on_partial=None):  # type: ignore[no-untyped-def]
        for request in requests:
            if request is None:
                yield None
            elif request.trace_id in self.for_ever or request.trace_id not in self.seen:
                self.seen.add(request.trace_id)
                yield Failure(trace_id=request.trace_id, kind="http_500", message="oops")
            else:
                yield self.inner._answer(request, None)  # type: ignore[attr-defined]

    def cancel(self, trace_ids: object) -> None: ...

    def close(self) -> None: ...


def test_failures_are_retried_logged_and_never_facts(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    dry = run(Store(tmp_path / "other"), 5, FIXED)
    lost = set(dry.universe["trace_id"].to_list()[:2])
    engine = Flaky(replay(5, 8), lost)
    result = generate(store, problems(5), engine, sampling=SAMPLING, policy=FIXED)  # type: ignore[arg-type]
    assert result.progress.n_new == 18
    assert result.progress.n_failed == 2
    assert result.missing == 2
    failures = store.table("failures").read()
    assert failures.filter(pl.col("trace_id").is_in(list(lost)))["attempt"].max() == 3
    healed = run(store, 5, FIXED)
    assert healed.progress.n_new == 2
    assert healed.universe.equals(dry.universe)


def test_a_token_limit_stops_in_order(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    result = run(store, 50, FIXED, max_tokens=500, slots=4)
    assert result.stopped == "max_tokens"
    # What is in flight is finished: four answers of less than 60 tokens.
    assert 500 <= result.progress.n_completion_tokens < 500 + 4 * 60
    assert run(store, 50, FIXED).universe.height == 200


def test_a_stop_request_finishes_what_is_in_flight(tmp_path: Path) -> None:
    stop = threading.Event()
    store = new_store(tmp_path)
    result = run(store, 200, FIXED, stop=stop, on_progress=lambda p: stop.set(), slots=4)
    assert result.stopped == "interrupted"
    assert store.table("traces").n_rows() == result.progress.n_new < 800


def test_plan_counts_without_asking(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    run(store, 10, FIXED)
    planned = plan(store, problems(12), engine=replay(12, 8), sampling=SAMPLING, policy=Policy(n=8))
    assert planned["present"] == 40
    assert planned["missing_at_most"] == 12 * 8 - 40
    assert planned["completion_tokens_at_most"] == 56 * SAMPLING.max_tokens


@pytest.mark.parametrize(
    "values",
    [{"kind": "fixed"}, {"kind": "until", "passes": 1}, {"n": 0}, {"kind": "some", "n": 1}],
)
def test_a_policy_without_its_numbers_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Policy.make(values)


def test_a_policy_that_needs_verdicts_refuses_to_go_without(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs verdicts"):
        run(new_store(tmp_path), 3, UNTIL, verify=False)


SCORED = ["length", "readability"]  # the second reads what a verifier took out of the answer


def scored(store: Store) -> list[pl.DataFrame]:
    return [
        store.table(t).read().drop("run_id").sort("trace_id")
        for t in store.tables()
        if t.startswith("scores.")
    ]


def test_scores_beside_the_engine_are_those_of_a_score_run_after_it(tmp_path: Path) -> None:
    beside, after = new_store(tmp_path), Store(tmp_path / "after")
    made = run(beside, 12, UNTIL, scores=SCORED)
    run(after, 12, UNTIL)
    score(after, SCORED)
    frames = scored(beside)
    assert [f.height for f in frames] == [made.progress.n_new] * 2
    assert all(a.equals(b) for a, b in zip(frames, scored(after), strict=True))


def test_traces_of_an_earlier_run_without_scores_get_them(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    run(store, 5, FIXED)
    again = run(store, 5, FIXED, scores=["length"])
    assert again.progress.n_new == 0
    assert scored(store)[0].height == 20
    runs = len(store.runs())
    run(store, 5, FIXED, scores=["length"])
    assert len(store.runs()) == runs + 1, "nothing is scored twice"


def test_a_score_that_is_unknown_ends_the_run_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="unknown score"):
        run(new_store(tmp_path), 3, FIXED, scores=["beauty"], calls=str(tmp_path / "calls"))
    assert not (tmp_path / "calls").exists()
