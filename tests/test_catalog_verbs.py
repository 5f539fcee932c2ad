"""What ``ls``, ``show``, ``sample`` and ``sql`` print."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from catalogs import build, printing, show
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
    text = printing.sample(store, "sums", n=2)
    assert text == printing.sample(store, "sums", n=2)
    assert text.count("━━") == 2
    assert "pass" in text
    assert "<think>" in text
    rows = json.loads(printing.sample(store, "sums", n=100, form="json"))
    assert len(rows) == 13
    assert {r["status"] for r in rows} == {"pass"}
    assert all(r["completion"] and r["prompt"] and r["gold"] for r in rows)
    other = [printing.sample(store, "wide", n=1, seed=s) for s in range(5)]
    assert len(set(other)) > 1


def test_sample_shows_what_a_filter_dropped(store: Store) -> None:
    rows = json.loads(printing.sample(store, "sums", n=99, dropped_by="readable", form="json"))
    assert [r["item"] for r in rows] == ["6"]
    assert rows[0]["completion"].startswith("所以")
    assert "dropped by readable" in printing.sample(store, "sums", dropped_by="readable")
    assert printing.sample(store, "sums", dropped_by="off").startswith("no trace of sums")


def test_diff_says_which_rows_came_and_went_and_why(tmp_path: Path) -> None:
    store = made.make_store(tmp_path / "data")
    made.make_release(store)
    # A second version: another predicate, one trace not in its universe, one undefined, one new.
    kept = [r["trace_id"] for r in json.loads(printing.sample(store, "sums", n=99, form="json"))]
    dropped = json.loads(printing.sample(store, "sums", n=1, dropped_by="readable", form="json"))
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


@pytest.mark.parametrize("form", ["json", "csv", "md"])
def test_forms_for_programs_have_all_rows(store: Store, form: str) -> None:
    query = "SELECT range AS n, 'a\nb' AS t FROM range(2500) ORDER BY n"
    notes: list[str] = []
    text = "".join(show.sql_pieces(store, query, form=form, notes=notes))  # type: ignore[arg-type]
    assert notes == []
    if form == "json":
        assert json.loads(text) == [{"n": n, "t": "a\nb"} for n in range(2500)]
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(text)))
        assert rows == [["n", "t"], *([str(n), "a\nb"] for n in range(2500))]
    else:
        assert len(text.splitlines()) == 2502
    text = "".join(show.sql_pieces(store, query, form=form, limit=3, notes=notes))  # type: ignore[arg-type]
    assert len(text.splitlines()) <= 7
    assert notes == ["only the first 3 rows are shown; --limit N shows more, 0 all"]


VIEWS = [
    ("SELECT count(*), count(prompt), count(completion) FROM release_texts", (13, 13, 13)),
    ("SELECT count(*), max(release) FROM funnel WHERE n_dropped_here > 0", (2, "sums")),
    ("SELECT list(parent ORDER BY parent) FROM release_parents", (["models/a", "sums/v0"],)),
    ("SELECT count(*) FROM evaluation_texts", (0,)),
]


@pytest.mark.parametrize(("query", "row"), VIEWS)
def test_views_have_texts_and_where_rows_come_from(
    store: Store, query: str, row: tuple[object, ...]
) -> None:
    with build.connect(store) as con:
        assert con.execute(query).fetchall() == [row]


MISTAKES = [
    (lambda s: show.show(s, "nothing"), "nothing is named 'nothing': `factory ls`"),
    (lambda s: show.show(s, "sums/w"), "release 'sums' has no version 'w': it has v1"),
    (lambda s: show.show(s, "x' OR '1'='1"), "nothing is named"),
    (lambda s: printing.sample(s, "none"), "no release 'none': `factory ls`"),
    (
        lambda s: printing.sample(s, "sums", dropped_by="x"),
        "has no filter 'x': it has right, readable",
    ),
    (lambda s: printing.sample(s, "wide", dropped_by="x"), "--dropped-by needs a release"),
    (lambda s: printing.sample(s, "sums", n=0), "-n 0: give at least 1"),
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


# ---- one trace on a terminal


def test_a_trace_is_shown_by_the_beginning_of_its_key(store: Store) -> None:
    rows = json.loads(printing.sample(store, "sums", n=1, dropped_by="readable", form="json"))
    key = rows[0]["trace_id"]
    text = show.show(store, key[:8])
    assert f"trace  {key}" in text
    assert "sums/v1: dropped by readable" in text
    assert text == show.show(store, key)
    assert json.loads(show.show(store, key[:8], form="json"))[0]["trace_id"] == key
    assert "nothing is named" in _problem(lambda: show.show(store, "f" * 32))


def _problem(run: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        run()
    return str(caught.value)


def test_sample_takes_a_predicate_that_runs_as_user_sql(store: Store) -> None:
    rows = json.loads(
        printing.sample(store, "wide", n=99, where="status = 'fail' AND item = '3' --", form="json")
    )
    assert {(r["status"], r["item"]) for r in rows} == {("fail", "3")}
    kept = printing.sample(store, "sums", n=99, where="status = 'fail'")
    assert kept == "no traces\n"
    for bad in ("nothing = 1", "true); DROP TABLE wide; --", "trace_id IN (FROM '/etc/passwd')"):
        assert _problem(lambda bad=bad: printing.sample(store, "wide", where=bad))


def test_colours_are_ours_alone_and_long_texts_are_whole_where_asked(tmp_path: Path) -> None:
    store = made.make_store(tmp_path / "data")
    hostile = "\x1b[31m\x1b]0;title\x07 \u202egnp \x9b2J <think>" + "long " * 2000 + "\\boxed{4}"
    trace = made.trace(made.prompts()[1], 9, hostile)
    store.table("traces").add(pl.DataFrame([trace.row("r")]))
    for colour in (False, True):
        for full in (False, True):
            text = printing.print_traces(
                store_built(store), [trace.trace_id], full=full, colour=colour
            )
            ours = re.sub("\x1b\\[[0-9;]*m", "", text) if colour else text
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", ours)
            assert ("characters …]" in text) is not full
    key = next(k for k, mixed in mixed_of(store).items() if mixed)
    painted = printing.print_traces(store, [key], full=True, colour=True)
    assert "\x1b[" in painted
    plain = printing.print_traces(store, [key], full=True)
    assert re.sub("\x1b\\[[0-9;]*m", "", painted) == plain


def store_built(store: Store) -> Store:
    build.ensure(store)
    return store


def mixed_of(store: Store) -> dict[str, bool]:
    with build.connect(store) as con:
        rows = con.execute("SELECT trace_id, language_consistency < 1 FROM wide").fetchall()
    return {k: bool(mixed) for k, mixed in rows}
