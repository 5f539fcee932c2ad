"""Thinking budgets: closed where they must be, untouched elsewhere, counted, keyed, repeatable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory.dialects import THINK_CLOSE
from factory.engines.base import Request
from factory.engines.openai import Engine as OpenAI
from factory.errors import UsageError
from factory.stages.generate import Generated, generate
from factory.stages.generate.budget import closing
from factory.stages.generate.policy import Policy
from factory.store import Store
from tests.helpers_run import SAMPLING, new_store, problems, replay

N = 9
BUDGETED = replace(SAMPLING, thinking_budget=20, max_tokens=64)
ANSWER = ["So", "it", "is", "\\boxed{7}."]


def words_of(prompt: str) -> int:
    """Words of thinking that the engine below spends on a prompt: 0, 5, 10 … 40."""
    return int(prompt.split()[2]) % N * 5


class Words:
    """A model whose tokens are words: it goes on from its prefill and stops at max_tokens."""

    model, revision, template = "words", "1", None

    def __init__(self, slots: int = 4) -> None:
        self.asked: list[Request] = []
        self.slots = slots

    def run(self, requests: Iterator[Request | None], on_partial: Any = None) -> Iterator[Any]:
        busy: list[Request] = []
        more = True
        while more or busy:
            while more and len(busy) < self.slots:
                try:
                    request = next(requests)
                except StopIteration:
                    more = False
                    break
                if request is None:
                    break
                busy.append(request)
            yield self._answer(busy.pop()) if busy else None

    def _answer(self, request: Request) -> Any:
        self.asked.append(request)
        n = words_of(request.messages[0]["content"])
        thinking, said = [f"w{i}" for i in range(n)], request.sampling.prefill
        if THINK_CLOSE in said:
            left = ANSWER[len(said.rpartition(THINK_CLOSE)[2].split()) :]
        else:
            left = [*thinking[len(said.split()) - 1 :], THINK_CLOSE, *ANSWER]
        words = left[: request.sampling.max_tokens]
        is_cut = words != left
        return request.trace(
            " ".join(words) + " " * is_cut, finish_reason="length" if is_cut else "stop",
            n_prompt_tokens=9 + len(said.split()), n_completion_tokens=len(words), seconds=1.0,
        )  # fmt: skip

    def cancel(self, trace_ids: object) -> None: ...

    def close(self) -> None: ...


def run(store: Store, engine: Any, **changes: Any) -> Generated:
    sampling = replace(BUDGETED, **changes)
    return generate(store, problems(N), engine, sampling=sampling, policy=Policy(n=2), verify=False)


def traces(store: Store) -> pl.DataFrame:
    return store.table("traces").read().drop("run_id").sort("trace_id")


def test_thinking_over_its_budget_is_closed_and_the_answer_asked_for(tmp_path: Path) -> None:
    store, engine = new_store(tmp_path), Words()
    result = run(store, engine)
    assert (result.missing, result.progress.n_new) == (0, 2 * N)
    texts = {p.prompt_id: p.text for p, _ in problems(N)}
    n_closed = 0
    for row in traces(store).iter_rows(named=True):
        n, text = words_of(texts[row["prompt_id"]]), row["completion"]
        thinking, _, answer = text.partition(THINK_CLOSE)
        assert answer.split() == ANSWER
        assert len(thinking.split()) == min(n, 20)
        assert row["n_completion_tokens"] == len(text.split()), "ours are counted, too"
        assert (row["prefill"], row["finish_reason"], row["n_prompt_tokens"]) == (
            "<think>\n", "stop", 10
        )  # fmt: skip
        if n > 19:  # the tag itself is a word of the budget
            at = json.loads(row["meta"])["thinking_closed_at"]
            assert text[at:].startswith("\n</think>\n\n")
            n_closed += 1
        else:
            assert row["meta"] is None
    assert n_closed == result.progress.n_thinking_closed == 10
    assert run(store, engine).progress.n_new == 0, "nothing is asked again"


def test_an_answer_under_way_at_the_budget_goes_on_as_it_was(tmp_path: Path) -> None:
    """15 words, the tag and 4 of the answer are exactly 20; a budget of 18 cuts the answer."""
    store, engine = new_store(tmp_path), Words()
    run(store, engine, thinking_budget=18)
    key = problems(N)[3][0].prompt_id
    for row in traces(store).filter(pl.col("prompt_id") == key).iter_rows(named=True):
        assert row["completion"].split() == [*(f"w{i}" for i in range(15)), THINK_CLOSE, *ANSWER]
        assert row["meta"] is None
        assert row["n_completion_tokens"] == 20


def test_the_parts_stay_within_max_tokens_and_differ_in_their_seeds(tmp_path: Path) -> None:
    engine = Words()
    run(new_store(tmp_path), engine, max_tokens=34)
    seconds = [r for r in engine.asked if r.part == "answer"]
    assert seconds
    for request in seconds:
        assert request.sampling.max_tokens <= 34 - 20
        first = next(r for r in engine.asked if r.trace_id == request.trace_id)
        assert first.sampling.max_tokens == 20
        assert first.seed != request.seed
        assert request.sampling.prefill.endswith("\n</think>\n\n")


@pytest.mark.parametrize("make", [Words, lambda slots: replay(N, 2, slots=slots)])
def test_the_traces_do_not_depend_on_slots(tmp_path: Path, make: Any) -> None:
    stores = [Store(tmp_path / str(slots)) for slots in (1, 5)]
    for store, slots in zip(stores, (1, 5), strict=True):
        assert run(store, make(slots)).progress.n_thinking_closed > 0
    assert traces(stores[0]).equals(traces(stores[1]))


def test_a_record_of_such_a_run_replays_as_it_is(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    run(store, Words())
    rows = {r["trace_id"]: r for r in traces(store).iter_rows(named=True)}
    engine = replay(N, 2)
    engine.model, engine.revision, engine._answers = "words", "1", rows
    again = Store(tmp_path / "again")
    run(again, engine)
    assert traces(again).drop("seconds").equals(traces(store).drop("seconds"))


def test_budget_and_closing_text_are_part_of_the_key() -> None:
    ids = {
        replace(SAMPLING, **c).sampling_id
        for c in (
            {}, {"thinking_budget": 20}, {"thinking_budget": 21},
            {"thinking_budget": 20, "thinking_end": "\nTime is up.</think>\n"},
        )
    }  # fmt: skip
    assert len(ids) == 4
    assert SAMPLING.sampling_id == replace(SAMPLING, thinking_end="\n</think>\n\n").sampling_id


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"thinking_budget": 60}, "leaves no answer"), ({"thinking_budget": 0}, "leaves no answer"),
        ({"thinking_end": "so"}, "does not close"),
    ],
)  # fmt: skip
def test_budgets_that_cannot_be_kept_are_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        run(new_store(tmp_path), Words(), **changes)


def test_a_server_that_cannot_continue_a_beginning_is_refused(tmp_path: Path) -> None:
    engine = OpenAI("m", base_url="http://h/v1", revision="r", prefill="native")
    with pytest.raises(UsageError, match="cannot keep a thinking budget"):
        run(new_store(tmp_path), engine)


@pytest.mark.parametrize(
    ("text", "opened", "adds"),
    [
        ("<think>\nI add", False, "\n</think>\n\n"), ("I add", True, "\n</think>\n\n"),
        ("I add", False, ""), ("<think>a</think>b", False, ""),
        ("<think>a<", False, "\n</think>\n\n"),
        ("<think>a</", False, "think>\n\n"), ("<think>a</think", False, ">\n\n"),
    ],
)  # fmt: skip
def test_what_closes_a_text(text: str, opened: bool, adds: str) -> None:
    assert closing(text, "\n</think>\n\n", opened=opened) == adds
