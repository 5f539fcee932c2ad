"""Price, limits, progress and rules that end loops."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from factory.errors import UsageError
from factory.stages.generate import generate
from factory.stages.generate.aborts import Loops, rule_of
from factory.stages.generate.policy import Policy
from factory.stages.generate.price import Price
from factory.stages.generate.progress import Progress, View
from tests.helpers_run import SAMPLING, new_store, problems, replay

PRICE = Price(per_million_completion_tokens=10.0)


def test_what_has_no_price_costs_nothing_known_and_not_zero(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    result = generate(store, problems(2), replay(2, 1), sampling=SAMPLING, policy=Policy(n=1))
    assert result.progress.cost is None
    assert store.runs()[-1]["results"]["cost"] is None
    priced = generate(
        store, problems(4), replay(4, 1), sampling=SAMPLING, policy=Policy(n=1), price=PRICE
    )
    assert priced.progress.cost == pytest.approx(priced.progress.n_completion_tokens * 10e-6)


def test_a_cost_limit_stops_in_order_and_needs_a_price(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(UsageError, match="needs a price"):
        generate(
            store, problems(2), replay(2, 1), sampling=SAMPLING, policy=Policy(n=1), max_cost=1.0
        )
    result = generate(
        store, problems(50), replay(50, 4, slots=4), sampling=SAMPLING, policy=Policy(n=4),
        max_cost=0.01, price=PRICE,
    )  # fmt: skip
    assert result.stopped == "max_cost"
    assert result.progress.cost is not None
    assert 0.01 <= result.progress.cost < 0.06
    assert store.runs()[-1]["results"]["stopped"] == "max_cost"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_in_place_and_a_log_gets_few_plain_lines() -> None:
    for stream, n_lines in ((Terminal(), 1), (io.StringIO(), 2)):
        view = View(stream)
        for n in range(500):
            view(Progress(n_prompts=500, n_prompts_done=n, n_new=n, seconds=1.0))
        view.close()
        assert stream.getvalue().count("\n") == n_lines
        assert ("\r" in stream.getvalue()) == stream.isatty()
        assert "prompts 499/500" in stream.getvalue()


LOOPY = "We compute the sum of the first terms. "


@pytest.mark.parametrize(
    ("text", "ends", "why"),
    [
        (LOOPY * 60, True, "a sentence again and again"),
        ("Let us see. " + "=" * 2000, True, "one character"),
        ("<think>\n" + "\n" * 1600, True, "white space"),
        ("intro " * 3 + ("x" * 700 + LOOPY * 3) * 4, True, "a long period"),
        (LOOPY * 20, False, "too short to be sure"),
        (LOOPY * 60 + "So the answer is 4, and that ends it all, at last.", False, "it got out"),
        (" ".join(f"Step {n}: {n * n}" for n in range(400)), False, "counting is no copy"),
        ("", False, "nothing"),
    ],
)
def test_loops_are_ended_and_nothing_else(text: str, ends: bool, why: str) -> None:
    assert (Loops()("t", text) == "loops@1") == ends, why


def test_the_rule_of_a_sampling_is_in_force(tmp_path: Path) -> None:
    from dataclasses import replace

    from factory.engines.replay import Engine

    engine = Engine("m", answers={f"{problems(1)[0][0].prompt_id}:0": {"completion": LOOPY * 60}})
    store = new_store(tmp_path)
    sampling = replace(SAMPLING, abort="loops@1")
    result = generate(store, problems(1), engine, sampling=sampling, policy=Policy(n=1))
    assert result.progress.n_aborted == 1
    trace = store.table("traces").read().row(0, named=True)
    assert (trace["finish_reason"], trace["stop_reason"]) == ("abort", "loops@1")
    with pytest.raises(UsageError, match="unknown abort rule"):
        rule_of("loop")
