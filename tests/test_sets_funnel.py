"""The funnel counts every filter on every row, and a predicate that cannot hold is named."""

from __future__ import annotations

import itertools
import random

import duckdb
import polars as pl
import pytest

from factory.errors import UsageError
from factory.records import SQL_TYPES
from factory.sets.filters import PRESETS, preset, right
from factory.stages.select.funnel import check_filters, compose, funnel

FRAME = pl.DataFrame(
    {
        "n": [1, 5, None, 9, 2, None],
        "ok": [True, True, True, False, None, False],
        "name": ["a", "b'c", "", None, "Ä", "a"],
    }
)


def plain(filters: dict[str, list[bool | None]]) -> list[tuple[int, int, int, int, int]]:
    """The definition, row by row."""
    rows = list(zip(*filters.values(), strict=True))
    out = []
    for i in range(len(filters)):
        left = [r for r in rows if all(v is True for v in r[:i])]
        dropped = [r for r in rows if r[i] is not True]
        here = [r for r in left if r[i] is not True]
        only = [r for r in dropped if all(v is True for j, v in enumerate(r) if j != i)]
        undefined = sum(r[i] is None for r in rows)
        out.append((len(left), len(here), len(dropped), len(only), undefined))
    return out


def test_counts_are_those_of_the_definition() -> None:
    rng = random.Random(0)
    values = {f"f{k}": [rng.choice([True, True, False, None]) for _ in range(300)] for k in "abcd"}
    result = funnel(pl.DataFrame(values), {name: name for name in values})
    counts = [
        (c.n_in, c.n_dropped_here, c.n_dropped, c.n_dropped_only, c.n_undefined)
        for c in result.counts
    ]
    assert counts == plain(values)
    assert result.keep.to_list() == [
        all(v is True for v in row) for row in zip(*values.values(), strict=True)
    ]


def test_the_order_of_the_filters_does_not_change_what_each_drops() -> None:
    filters = {"small": "n < 6", "right": "ok", "named": "name <> ''"}

    def counts(order: tuple[str, ...]) -> dict[str, tuple[int, int, int]]:
        found = funnel(FRAME, {name: filters[name] for name in order}).counts
        assert found[0].n_in == FRAME.height
        for one, after in itertools.pairwise(found):
            assert after.n_in == one.n_in - one.n_dropped_here
        return {c.name: (c.n_dropped, c.n_dropped_only, c.n_undefined) for c in found}

    expected = counts(tuple(filters))
    for order in itertools.permutations(filters):
        assert counts(order) == expected


def test_no_filter_keeps_all_and_no_row_is_no_error() -> None:
    assert funnel(FRAME, {}).keep.to_list() == [True] * 6
    empty = funnel(FRAME.clear(), {"small": "n < 6"})
    assert (empty.keep.len(), empty.counts[0].n_in) == (0, 0)


def test_a_connection_with_a_view_named_wide() -> None:
    with duckdb.connect() as con:
        con.execute("CREATE VIEW wide AS SELECT range AS n FROM range(100)")
        result = funnel(con, {"low": "n < 30", "even": "n % 2 = 0"})
    assert result.keep.sum() == 15
    assert [c.n_dropped for c in result.counts] == [70, 50]


BAD = [
    ("nope > 1", "nope", "an unknown column"),
    ("n + 1", "comparison", "not Boolean"),
    ("n <", "does not bind", "a syntax error"),
    ("n < 1) OR (1 = 1", "by itself", "closed and opened brackets"),
    ("n < 1, ok", "comparison", "two expressions"),
    ("sum(n) > 3", "one row", "an aggregate"),
    ("true) FROM wide; DROP VIEW wide; SELECT (true", "more than one", "a second statement"),
    ("ok -- the comment", None, "a comment at the end is fine"),
    ("read_text('/etc/passwd') IS NOT NULL", "does not bind", "a file"),
]


@pytest.mark.parametrize(("sql", "message", "why"), BAD, ids=[b[2] for b in BAD])
def test_a_predicate_is_one_boolean_expression(sql: str, message: str | None, why: str) -> None:
    if message is None:
        assert funnel(FRAME, {"f": sql}).keep.len() == FRAME.height
        return
    with pytest.raises(UsageError, match=message):
        funnel(FRAME, {"my_filter": sql})


def test_the_filter_that_does_not_bind_is_named() -> None:
    with pytest.raises(UsageError, match="'second'"):
        funnel(FRAME, {"first": "ok", "second": "nope", "third": "ok"})


def test_a_filter_that_fails_on_a_row_is_an_error_and_no_drop() -> None:
    with pytest.raises(UsageError, match="fails on a row"):
        funnel(FRAME, {"cast": "name::INTEGER > 1"})


def test_presets_compose_replace_and_switch_off() -> None:
    filters = compose(
        preset("r1_rejection"), right(), own={"short_paragraphs": "max_paragraph_words <= 90"},
        off=["one_language"],
    )  # fmt: skip
    assert list(filters) == ["short_paragraphs", "no_code_in_thinking", "right"]
    assert filters["short_paragraphs"] == "max_paragraph_words <= 90"
    with pytest.raises(UsageError, match="switch off"):
        compose(filters, off=["nope"])
    with pytest.raises(UsageError, match="no preset"):
        preset("r2")


def test_every_preset_binds_against_the_columns_that_the_scores_declare() -> None:
    from factory import plugins

    columns = {"finish_reason": "VARCHAR", "math_status": "VARCHAR"}
    if "readability" not in plugins.names("scores"):
        pytest.skip("the readability score is not there")
    for name in plugins.names("scores"):
        for column, kind in plugins.load("scores", name).WRITES.items():
            columns[column] = SQL_TYPES[kind]
    fields = ", ".join(f"NULL::{kind} AS {column}" for column, kind in columns.items())
    with duckdb.connect() as con:
        con.execute(f"CREATE VIEW wide AS SELECT {fields} WHERE false")
        for filters in (*PRESETS.values(), right()):
            check_filters(con, filters)
