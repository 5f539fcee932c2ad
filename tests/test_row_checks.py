"""Rows are checked before they are durable: one odd number must not make a store unreadable."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory.engines.base import Request, with_defaults
from factory.engines.openai.answers import Answer
from factory.errors import StoreError
from factory.records import TABLES, Sampling, TableForm
from factory.records.ids import key_of
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.store import Store, check
from tests.helpers_run import SAMPLING, new_store, problems, replay

FORM = TableForm(
    "k", {"k": "text", "n": "int", "x": "float", "b": "bool", "s": "text", "run_id": "text"}
)
BAD: list[tuple[str, dict[str, Any]]] = [
    ("a float as an int", {"n": 12.0}),
    ("a fraction as an int", {"n": 12.5}),
    ("text as an int", {"n": "12"}),
    ("a bool as an int", {"n": True}),
    ("an int beyond 64 bits", {"n": 1 << 63}),
    ("an int below 64 bits", {"n": -(1 << 63) - 1}),
    ("a bool as a float", {"x": True}),
    ("text as a float", {"x": "1.5"}),
    ("a float beyond 64 bits", {"x": 10**400}),
    ("an int as a bool", {"b": 1}),
    ("a number as text", {"s": 5}),
    ("a list as text", {"s": ["a"]}),
    ("an object as text", {"s": {"a": 1}}),
    ("bytes as text", {"s": b"a"}),
    ("no key", {"k": None}),
    ("NaN as a key", {"k": float("nan")}),
    ("a key that is no hash", {"k": "abc"}),
    ("an unknown column", {"z": 1}),
]


@pytest.mark.parametrize("change", [b[1] for b in BAD], ids=[b[0] for b in BAD])
def test_a_row_that_does_not_fit_is_refused_and_the_store_stays_whole(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    store = Store(tmp_path / "data")
    table = store.table("t", FORM)
    good = {"k": key_of(1), "n": 1, "x": 0.5, "b": True, "s": "a", "run_id": "r"}
    with table.writer("r") as writer:
        writer.append([good])
        with pytest.raises(StoreError, match=f"t: .*{next(iter(change))}"):
            writer.append([{**good, "k": key_of(2)}, {**good, "k": key_of(3), **change}])
        writer.append([{**good, "k": key_of(4), "x": 2, "n": None}])
    assert sorted(table.read()["k"]) == sorted([key_of(1), key_of(4)])
    assert table.seal() == 2
    assert check(store) == []


@pytest.mark.parametrize(
    "change",
    [{"n": 12.5}, {"n": "12"}, {"n": True}, {"n": 1 << 63}, {"x": "1"}, {"b": 1}, {"s": 5},
     {"k": "abc"}, {"k": None}],
    ids=repr,
)  # fmt: skip
def test_a_frame_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    table = Store(tmp_path / "data").table("t", FORM)
    good = {"k": key_of(1), "n": 1, "x": 0.5, "b": True, "s": "a", "run_id": "r"}
    table.add(pl.DataFrame([good]))
    rows = [{**good, **change}]
    types = {"n": pl.UInt64} if change.get("n") == 1 << 63 else None
    with pytest.raises(StoreError, match=f"t: {next(iter(change))}"):
        table.add(pl.DataFrame(rows, schema_overrides=types))
    assert table.read().height == 1


@pytest.mark.parametrize(
    ("said", "kept"),
    [(12, 12), (12.0, 12), ("12", 12), (12.5, None), ("x", None), (True, None), (1 << 63, None),
     (-3, None), (None, None), ([1], None), (float("inf"), None)],
    ids=repr,
)  # fmt: skip
def test_an_odd_usage_of_a_server_is_mended_where_it_comes_in(said: object, kept: object) -> None:
    answer = Answer()
    answer.feed({
        "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": said, "completion_tokens": said},
    })  # fmt: skip
    request = Request(
        trace_id=key_of("t"), prompt_id=key_of("p"), messages=(), model="m", revision="r",
        sampling=Sampling(temperature=1.0, max_tokens=9), sampling_id=key_of("s"), sample_index=0,
    )  # fmt: skip
    trace = answer.trace(request, seconds=0.1)
    counts = (trace.n_prompt_tokens, trace.n_completion_tokens)
    if kept is not None:
        assert counts == (kept, kept)
    # Where the server says nothing that is a count, the engine counts for itself.
    assert TABLES["traces"].misfit([trace.row("r")]) is None
    assert counts == (kept, kept) or max(n or 0 for n in counts) < 9


def test_an_odd_answer_of_an_engine_file_costs_that_answer_and_not_the_run(tmp_path: Path) -> None:
    engine = with_defaults(replay(6, 4))
    honest = engine.run
    n = 0

    def lying(requests: Any, on_partial: Any) -> Any:
        nonlocal n
        for answer in honest(requests, on_partial):
            n += answer is not None
            odd = answer is not None and n % 5 == 0
            yield dataclasses.replace(answer, n_completion_tokens=12.5) if odd else answer

    engine.run = lying  # type: ignore[method-assign]
    store = new_store(tmp_path)
    made = generate(store, problems(6), engine, sampling=SAMPLING, policy=Policy(kind="fixed", n=4))
    assert made.progress.failures == {"bad_answer": 4}
    assert (made.progress.n_new, made.missing) == (20, 4)
    failures = store.table("failures").read()["message"]
    assert all("n_completion_tokens is 12.5" in message for message in failures)
    assert check(store) == []
