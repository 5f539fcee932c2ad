from __future__ import annotations

import polars as pl
import pytest

from factory.scores import repetition


def measure(*texts: str | None) -> pl.DataFrame:
    return repetition.score(pl.DataFrame({"completion": texts}, schema={"completion": pl.String}))


PROSE = (
    "First I restate the task: a train covers ninety miles in an hour and a half. "
    "Its speed is therefore sixty miles an hour, and three hours give one hundred and eighty. "
)


@pytest.mark.parametrize(
    ("unit", "copies"),
    [
        ("Wait, let me check that once more. ", 20),
        ("ab", 400),
        ("0", 700),
        ("等等，我再检查一遍。", 60),
        ("So the answer is 12.\n\nAlternatively, the answer is 15.\n\n", 12),
        ("погоди, проверю ещё раз. ", 30),
        ("\\frac{1}{", 100),
    ],
)
@pytest.mark.parametrize("tail", ["", "\nNow I stop repeating myself and answer plainly."])
def test_a_built_loop_is_found_where_it_starts(unit: str, copies: int, tail: str) -> None:
    row = measure(PROSE + unit * copies + tail).row(0, named=True)
    assert row["has_loop"]
    assert abs(row["loop_start"] - len(PROSE)) <= max(2 * len(unit), 80)
    assert row["loop_chars"] == pytest.approx(len(unit) * copies, abs=2 * len(unit) + 80)


def test_a_counter_inside_the_loop_does_not_hide_it() -> None:
    step = "Step {}: we add one to the total and go on as before. "
    text = PROSE + "".join(step.format(n) for n in range(40))
    assert measure(text)["has_loop"].to_list() == [True]


TABLE = "| a | b |\n| --- | --- |\n" + PROSE


@pytest.mark.parametrize("text", [PROSE, PROSE * 2, TABLE, "=" * 80, "", " \n"])
def test_ordinary_text_is_no_loop(text: str) -> None:
    assert measure(text)["has_loop"].to_list() == [False]


def test_null_stays_null_and_blank_has_no_shares() -> None:
    out = measure(None, "")
    assert set(out.row(0)) == {None}
    assert out["dup_5gram_fraction"].to_list() == [None, None]
    assert out["compression_ratio"].to_list() == [None, None]


def test_a_text_scores_the_same_alone_and_among_others() -> None:
    texts = [PROSE, "a b " * 300, None, "好" * 50, PROSE * 3, "x"]
    together = measure(*texts)
    assert together.rows() == [measure(text).row(0) for text in texts]


def test_duplicate_shares_follow_the_definition() -> None:
    row = measure("a b c d e f a b c d e f").row(0, named=True)
    assert row["dup_5gram_fraction"] == pytest.approx(6 / 23)
    assert row["top_2gram_fraction"] == pytest.approx(2 * 3 / 23)
    lines = measure("one\ntwo\none\n\none").row(0, named=True)
    assert lines["dup_line_fraction"] == pytest.approx(0.5)
    assert lines["dup_line_char_fraction"] == pytest.approx(6 / 16)
    assert lines["dup_paragraph_fraction"] == 0.0


def test_a_text_longer_than_one_sort_batch() -> None:
    words = " ".join(f"w{n * 7919 % 100003}" for n in range(70_000))
    row = measure(words + " " + words[:2000]).row(0, named=True)
    assert not row["has_loop"]
    assert 0 < row["dup_10gram_fraction"] < 0.02
