"""Judged tasks on recorded judgements, held against closed forms."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.cli import main
from distill.evaluate.judged import (
    Judgement,
    contest_rating,
    expected_rank,
    length_controlled,
    percentile,
    problem_rating,
    ratings,
    read_judgements,
    win_rate,
)
from factory.errors import UsageError


def _rows(verdicts: list[tuple[str, str]], **more: Any) -> list[dict[str, Any]]:
    """Each prompt's verdicts in both orders, the model shown first and then second."""
    out = []
    for i, (first, second) in enumerate(verdicts):
        out.append({"prompt": f"p{i}", "a": "m", "b": "base", "verdict": first, **more})
        out.append({"prompt": f"p{i}", "a": "base", "b": "m", "verdict": second, **more})
    return out


@pytest.mark.parametrize(
    ("verdicts", "rate", "n_flipped", "first_rate"),
    [
        ([("A", "B"), ("A", "B")], 1.0, 0, 0.5),
        ([("A", "A"), ("A", "A")], 0.5, 2, 1.0),  # a judge that always takes the first
        ([("B", "B")], 0.5, 1, 0.0),
        ([("tie", "tie"), ("A", "tie")], 0.625, 0, 0.625),
        ([("[[A>>B]]", "[[B>A]]"), ("[[B>A]]", "[[A>>B]]")], 0.5, 0, 0.5),
        ([("[[A>>B]]", "[[A>B]]")], 0.75, 1, 1.0),
        ([("0.8", "0.4")], 0.7, 0, 0.6),
    ],
)
def test_both_orders_cancel_the_position(
    verdicts: list[tuple[str, str]], rate: float, n_flipped: int, first_rate: float
) -> None:
    found = win_rate(read_judgements(_rows(verdicts), "m"))
    other = win_rate(read_judgements(_rows(verdicts), "base"))
    assert found.rate.mean == pytest.approx(rate)
    assert other.rate.mean == pytest.approx(1 - rate)
    assert (found.n_flipped, found.n_both) == (n_flipped, len(verdicts))
    assert found.first_rate == pytest.approx(first_rate)


def test_a_much_better_answer_counts_three_times() -> None:
    rows = [{"prompt": "p", "a": "m", "b": "x", "verdict": v} for v in ("[[A>>B]]", "[[B>A]]")]
    assert win_rate(read_judgements(rows, "m")).rate.mean == pytest.approx(3 / 4)
    assert "one order" in list(win_rate(read_judgements(rows, "m")).lines())[-1]


def _judged(wins: list[float], lengths: list[float]) -> list[Judgement]:
    return [
        Judgement(prompt=str(i), is_first=True, first=w, n_chars=1000 + d, n_chars_baseline=1000)
        for i, (w, d) in enumerate(zip(wins, lengths, strict=True))
    ]


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize(("longer", "shorter"), [(0.9, 0.3), (0.75, 0.25), (0.6, 0.6), (0.99, 0.8)])
def test_length_control_is_the_closed_form_of_two_lengths(longer: float, shorter: float) -> None:
    # Half of the answers longer by as much as the others are shorter: θ is the mean of both logits.
    found = length_controlled(_judged([longer] * 50 + [shorter] * 50, [200] * 50 + [-200] * 50))
    theta = (_logit(longer) + _logit(shorter)) / 2
    assert found == pytest.approx(1 / (1 + math.exp(-theta)), abs=1e-5)


def test_at_equal_lengths_the_controlled_rate_is_the_plain_one() -> None:
    assert length_controlled(_judged([1, 1, 1, 0], [0] * 4)) == pytest.approx(0.75, abs=1e-5)
    assert length_controlled(_judged([1, 1], [0, 0])) > 0.99  # finite where nothing is lost


def test_a_judge_that_loves_length_is_seen_through() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.normal(300, 200, 20_000)  # this model writes more
    love = 1 / (1 + np.exp(-2 * np.tanh(lengths / lengths.std())))
    wins = (generator.random(len(lengths)) < love).astype(float)
    assert wins.mean() > 0.75
    assert length_controlled(_judged(wins.tolist(), lengths.tolist())) == pytest.approx(
        0.5, abs=0.03
    )


def test_a_known_difficulty_of_prompts_is_an_offset() -> None:
    chances = [1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(0.5))]
    hard = [
        Judgement(prompt=str(i), is_first=True, first=p, n_chars=1, n_chars_baseline=1,
                  difficulty=d)
        for i, (p, d) in enumerate(zip(chances, (1.0, -1.0), strict=True))
    ]  # fmt: skip
    # θ = ½ explains both: logit p = θ + γ.
    assert length_controlled(hard) == pytest.approx(sum(chances) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "p", "a": "m", "b": "x"}, "row 1 is no judgement"),
        ({"prompt": "p", "a": "m", "b": "x", "verdict": "perhaps"}, "row 1 is no judgement"),
        ({"prompt": "p", "a": "m", "b": "x", "verdict": 2}, "row 1 is no judgement"),
        ({"prompt": "p", "a": "y", "b": "x", "verdict": "A"}, "no judgement of 'm'"),
    ],
)
def test_what_is_no_judgement_is_refused(row: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_judgements([row], "m")


@pytest.mark.parametrize("rating", [800.0, 1500.0, 2029.0, 2800.0])
def test_a_rank_gives_back_the_rating_that_expects_it(rating: float) -> None:
    others = [float(r) for r in np.random.default_rng(1).normal(1400, 350, 2000)]
    rank = expected_rank(rating, others)
    assert contest_rating(rank, others) == pytest.approx(rating, abs=0.01)
    # Against n equals of rating d, the rank m + 1 has a closed form.
    assert contest_rating(1 + 25, [1200.0] * 100) == pytest.approx(1200 + 400 * math.log10(3))
    assert contest_rating(1, others) is None
    assert contest_rating(len(others) + 1, others) is None


def test_problems_of_one_rating_give_the_closed_form() -> None:
    assert problem_rating([1, 1, 1, 0], [1600] * 4) == pytest.approx(1600 + 400 * math.log10(3))
    truth, levels = 1900.0, [800.0 + 100 * i for i in range(25)]
    chances = [1 / (1 + 10 ** ((d - truth) / 400)) for d in levels]
    assert problem_rating(chances, levels) == pytest.approx(truth, abs=0.01)
    assert problem_rating([1, 1], [800, 900]) is None
    assert percentile(2029, [1000.0] * 96 + [2500.0] * 4) == 0.96


def test_the_commands_read_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    rows = _rows([("A", "B"), ("A", "A")], len_a=10, len_b=10)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main(["winrate", str(path), "--model", "m"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("win rate 75.00 %")
    assert "win rate at equal length 75.00 %" in said
    assert main(["winrate", str(path), "--model", "m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rate"]["mean"] == 0.75
    path.write_text(json.dumps({"rank": 26, "ratings": [1200] * 100}) + "\n")
    assert main(["rating", str(path)]) == 0
    assert capsys.readouterr().out.startswith("1 contests: rating 1391, above 100.0 %")
    assert main(["rating", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert round(found["of_contests"]) == 1391
    assert (found["n_problems"], found["of_problems"]) == (0, None)
    with pytest.raises(UsageError, match="row 1 is neither"):
        ratings([{"x": 1}])
