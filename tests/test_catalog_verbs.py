"""What ``ls``, ``show``, ``sample`` and ``sql`` print."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import polars as pl
import pytest

from catalogs import build, show
from catalogs.diff import diff
from factory.errors import UsageError
from factory.rows import answers
from factory.rows.answers import Answer
from factory.store import Store
from factory.store.durable import write_json
from tests import helpers_catalog as made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = made.make_store(tmp_path_factory.mktemp("verbs") / "data")
    made.make_release(store)
    return store


def test_ls_lists_releases_tables_and_queries(store: Store) -> None:
    rows = json.loads(show.ls(store, form="json"))
    named = {(r["kind"], r["name"]): r["rows"] for r in rows}
    assert named["release", "sums/v1"] == 13
    assert named["table", "wide"] == 24
    assert ("query", "@pass_rate") in named
    assert all(r["what"] for r in rows if not str(r["name"]).startswith("scores."))


@pytest.mark.parametrize("name", ["sums", "sums/v1", "sums@v1", "sums/v"])
def test_show_of_a_release_has_its_funnel_and_makeup(store: Store, name: str) -> None:
    found = json.loads(show.show(store, name, form="json"))
    assert list(found) == ["release sums/v1", "funnel", "made of"]
    assert [f["filter"] for f in found["funnel"]] == ["right", "readable", "off"]
    assert sum(m["n_rows"] for m in found["made of"]) == 13


def test_show_of_tables_runs_and_queries(store: Store) -> None:
    wide = show.show(store, "wide")
    assert "language@2" in wide
    assert "completion_words" in wide
    assert "quantiles" not in show.show(store, "scores.length@1")
    assert "generate" in show.show(store, made.RUN)
    assert show.show(store, "@cost").startswith("-- tokens and seconds")


def test_sample_shows_whole_traces_and_the_same_ones_each_time(store: Store) -> None:
    text = show.sample(store, "sums", n=2)
    assert text == show.sample(store, "sums", n=2)
    assert text.count("━━") == 2
    assert "pass" in text
    assert "<think>" in text
    rows = json.loads(show.sample(store, "sums", n=100, form="json"))
    assert len(rows) == 13
    assert {r["status"] for r in rows} == {"pass"}
    assert all(r["completion"] and r["prompt"] and r["gold"] for r in rows)
    other = [show.sample(store, "wide", n=1, seed=s) for s in range(5)]
    assert len(set(other)) > 1


def test_sample_shows_what_a_filter_dropped(store: Store) -> None:
    rows = json.loads(show.sample(store, "sums", n=99, dropped_by="readable", form="json"))
    assert [r["item"] for r in rows] == ["6"]
    assert rows[0]["completion"].startswith("所以")
    assert "dropped by readable" in show.sample(store, "sums", dropped_by="readable")
    assert show.sample(store, "sums", dropped_by="off").startswith("no trace of sums")


def test_diff_says_which_rows_came_and_went_and_why(tmp_path: Path) -> None:
    store = made.make_store(tmp_path / "data")
    made.make_release(store)
    # A second version: another predicate, one trace not in its universe, one undefined, one new.
    kept = [r["trace_id"] for r in json.loads(show.sample(store, "sums", n=99, form="json"))]
    dropped = json.loads(show.sample(store, "sums", n=1, dropped_by="readable", form="json"))
    outside, undefined, short = kept[:3]
    new = dropped[0]["trace_id"]
    folder = store.root / "releases" / "sums" / "v2"
    folder.mkdir()
    rows = [*kept[3:], new]
    pl.DataFrame({"trace_id": rows}).write_parquet(folder / "part-00000.parquet")
    decisions = [(key, True, [], []) for key in rows]
    decisions += [(undefined, False, ["short"], ["right"]), (short, False, ["short"], [])]
    texts = pl.List(pl.String)
    schema = {"trace_id": pl.String, "is_kept": pl.Boolean, "dropped_by": texts}
    pl.DataFrame(decisions, {**schema, "undefined_by": texts}, orient="row").write_parquet(
        folder / "decisions.parquet"
    )
    manifest = json.loads((folder.parent / "v1" / "manifest.json").read_text())
    manifest |= {"version": "v2", "rows": len(rows), "created_at": "2026-11-20T13:00:00+00:00"}
    manifest["parts"] = [{"name": "part-00000.parquet", "rows": len(rows)}]
    manifest["filters"][1:] = [{"name": "short", "sql": "completion_words < 9"}]
    manifest["plugins"] = {**manifest["plugins"], "math": "math@2"}
    write_json(folder / "manifest.json", manifest)

    found = json.loads(diff(store, "sums/v1", "sums", form="json"))
    counts = {r["what"]: (r["in_both"], r["gone"], r["new"]) for r in found["sums/v1 -> sums/v2"]}
    assert counts == {"rows": (10, 3, 1), "universe": (13, 11, 0)}
    gone = {r["why"]: r["a_trace_id"] for r in found["gone: why sums/v2 lacks them"]}
    assert gone == {
        "not in its universe": outside,
        "right (undefined), short": undefined,
        "short": short,
    }
    assert [(r["why"], r["a_trace_id"]) for r in found["new: why sums/v1 lacked them"]] == [
        ("readable", new)
    ]
    changes = {(r["what"], r["name"]): (r["before"], r["after"])
               for r in found["what decided differently"]}  # fmt: skip
    assert changes == {
        ("filter", "readable"): ("language_consistency = 1", None),
        ("filter", "off"): ("completion_words < 9  (off)", None),
        ("filter", "short"): (None, "completion_words < 9"),
        ("version of", "math"): ("math@1", "math@2"),
    }
    same = diff(store, "sums", "sums/v2")
    assert "gone" not in same.split("\n", 3)[3]
    with pytest.raises(UsageError, match="no release 'other': `factory ls`"):
        diff(store, "sums", "other")


MISTAKES = [
    (lambda s: show.show(s, "nothing"), "nothing is named 'nothing': `factory ls`"),
    (lambda s: show.show(s, "sums/w"), "release 'sums' has no version 'w': it has v1"),
    (lambda s: show.show(s, "x' OR '1'='1"), "nothing is named"),
    (lambda s: show.sample(s, "none"), "no release 'none': `factory ls`"),
    (
        lambda s: show.sample(s, "sums", dropped_by="x"),
        "has no filter 'x': it has right, readable",
    ),
    (lambda s: show.sample(s, "wide", dropped_by="x"), "--dropped-by needs a release"),
    (lambda s: show.sample(s, "sums", n=0), "-n 0: give at least 1"),
    (lambda s: show.sql(s, "SELECT 1", form="xml"), "unknown format 'xml': known: table, json"),
    (lambda s: show.sql(s, "@pas_rate"), "no query @pas_rate: try @pass_rate"),
    (lambda s: show.sql(s, "SELECT stats FROM wide"), "stats.*`factory show wide`"),
]


@pytest.mark.parametrize(("mistake", "line"), MISTAKES)
def test_a_mistake_gets_one_line(store: Store, mistake: object, line: str) -> None:
    with pytest.raises(UsageError, match=line) as caught:
        mistake(store)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


HOSTILE = 'a|b,"c"\n\x1b[31mred\x07\u202e中'


def test_every_form_keeps_hostile_text_apart() -> None:
    answer = Answer(("text", "n"), [(HOSTILE, 1), (None, float("nan"))])
    table = answer.render("table")
    assert "\x1b" not in table
    assert "\x07" not in table
    assert "\u202e" not in table, "a direction mark could reorder what a terminal shows"
    assert len(table.splitlines()) == 4
    assert json.loads(answer.render("json")) == [
        {"text": HOSTILE, "n": 1}, {"text": None, "n": None}
    ]  # fmt: skip
    assert list(csv.reader(io.StringIO(answer.render("csv"))))[1][0] == HOSTILE
    assert "\\|" in answer.render("md")
    assert len(answer.render("md").splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"), ("@SUM(1)", "'@SUM(1)"), ("+A1", "'+A1"),
        ("-2+3+cmd|x", "'-2+3+cmd|x"), ("\t=1", "'\t=1"), ("- a list", "- a list"),
        ("-5.5", "-5.5"), ("+ 1", "+ 1"), (-5, "-5"), ("a=1", "a=1"),
    ],
)  # fmt: skip
def test_a_spreadsheet_runs_no_cell_as_a_formula(text: object, cell: str) -> None:
    rows = list(csv.reader(io.StringIO(Answer(("t", "u"), [(text, 1)]).render("csv"))))
    assert rows[1] == [cell, "1"]


def test_wide_characters_keep_columns_straight() -> None:
    table = Answer(("a", "b"), [("中文", "x"), ("ab", "y")]).render()
    assert table.splitlines()[2:] == ["中文  x", "ab    y"]
    assert answers.width("中文") == 4


def test_repeated_column_names_hide_nothing(store: Store) -> None:
    text, _ = show.sql(store, "SELECT 1 AS a, 2 AS a", form="json")
    assert json.loads(text) == [{"a": 1, "a_2": 2}]


def test_values_that_json_lacks_become_text(store: Store) -> None:
    text, _ = show.sql(
        store,
        "SELECT DATE '2026-11-20' AS d, 1.5::DECIMAL(4, 1) AS x, "
        "170141183460469231731687303715884105727 AS big, [1, NULL] AS l, "
        "{'a': 'nan'::DOUBLE} AS s, 'ab'::BLOB AS b",
        form="json",
    )
    row = json.loads(text)[0]
    assert row["d"] == "2026-11-20"
    assert row["x"] == "1.5"
    assert row["big"] == 2**127 - 1
    assert row["l"] == [1, None]
    assert row["s"] == {"a": None}


def test_audits_find_what_they_are_for(tmp_path: Path) -> None:
    store = made.make_store(tmp_path / "data")
    made.make_release(store)
    assert show.audit(store) == []
    stray = made.verdict_row("f" * 32, "1", made.Verdict.passed(decided_by="x", reward=7.0))
    store.table("verdicts.math@1").add(pl.DataFrame([stray]))
    folder = store.root / "releases" / "sums" / "v2"
    folder.mkdir()
    pl.DataFrame({"trace_id": ["0" * 32]}).write_parquet(folder / "part-0.parquet")
    pl.DataFrame(
        {"trace_id": ["0" * 32], "is_kept": [False], "dropped_by": [["x"]], "undefined_by": [[]]},
        schema_overrides={"undefined_by": pl.List(pl.String)},
    ).write_parquet(folder / "decisions.parquet")
    write_json(folder / "manifest.json", {"name": "sums", "version": "v2", "rows": 2})
    build.build(store)
    assert {a.title for a in show.audit(store)} == {
        "@audit_orphans", "@audit_rewards", "@audit_releases", "@audit_decisions"
    }  # fmt: skip
