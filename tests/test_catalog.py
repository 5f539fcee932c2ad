"""The catalog: what it holds, which verdict it shows, and that readers never notice a rebuild."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import polars as pl
import pytest

from catalogs import build
from factory.errors import CorruptError, UsageError
from factory.records import Prompt, PromptSource, Verdict, ids, score_form
from factory.store import Store, wide
from factory.store.durable import write_json
from tests import helpers_catalog as made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return made.make_store(tmp_path / "data")


def ask(store: Store, sql: str) -> list[tuple[object, ...]]:
    with build.connect(store) as con:
        return con.execute(sql).fetchall()


def test_wide_has_exactly_one_row_per_trace_with_sources_verdicts_and_scores(store: Store) -> None:
    assert ask(store, "SELECT count(*), count(DISTINCT trace_id) FROM wide") == [(24, 24)]
    row = ask(
        store,
        "SELECT source, prompt_language, n_sources, status, math_status, extracted, temperature, "
        "completion_words, language_consistency FROM wide WHERE item = '6' AND sample_index = 0",
    )
    assert row == [("doubles", "en", 1, "pass", "pass", "12", 0.6, 6, 0.75)]
    unscored = "SELECT reward, status FROM wide WHERE item = '1' ORDER BY sample_index"
    assert ask(store, unscored) == [(0, "fail"), (0, "fail"), (None, None), (None, "unscored")]


def test_the_files_give_the_same_wide_as_the_catalog(store: Store) -> None:
    store.seal()
    with duckdb.connect() as con:
        rows = con.execute(f"{wide.wide_sql(store)} ORDER BY trace_id").fetchall()
        names = [d[0] for d in con.description or []]
    assert rows == ask(store, "SELECT * FROM wide ORDER BY trace_id")
    assert names == list(wide.columns_of(wide.choose(wide.stored_plugs(store))))


def test_texts_are_read_through_views(store: Store) -> None:
    sql = (
        "SELECT p.text, t.completion FROM wide JOIN trace_texts t USING (trace_id) "
        "JOIN prompt_texts p ON p.prompt_id = wide.prompt_id WHERE item = '2' AND sample_index = 0"
    )
    assert ask(store, sql) == [("What is 2 + 2?", "So the sum must be 4.\n</think>\n\n\\boxed{4}")]
    assert ask(store, "SELECT gold FROM golds ORDER BY gold::INT LIMIT 1") == [("2",)]


def test_a_second_source_adds_no_row_and_the_choice_is_fixed(store: Store) -> None:
    prompt = made.prompts()[1]
    more = [
        PromptSource(prompt_id=prompt.prompt_id, source="aaa", item="9"),
        PromptSource(prompt_id=prompt.prompt_id, source="zzz", item="9", gold="4", verifier="math"),
    ]
    store.table("prompt_sources").add(pl.DataFrame([s.row("r2") for s in more]))
    found = ask(store, f"SELECT source, n_sources FROM wide WHERE prompt_id = '{prompt.prompt_id}'")
    assert found == [("doubles", 3)] * 4, "with a gold before without, then by name"
    assert ask(store, "SELECT count(*) FROM wide") == [(24,)]


def test_of_several_verdicts_the_one_on_the_sources_gold_counts_then_the_latest_run(
    store: Store,
) -> None:
    prompt = made.prompts()[5]
    key = made.trace(prompt, 0, "").trace_id
    other = made.verdict_row(key, "13", Verdict.failed("wrong", decided_by="x"), "z-latest")
    again = made.verdict_row(
        key, "12", Verdict.failed("no_box", decided_by="x"), "20261121t", options='{"mode":"boxed"}'
    )
    store.table("verdicts.math@1").add(pl.DataFrame([other]))
    sql = f"SELECT count(*), any_value(status) FROM wide WHERE trace_id = '{key}'"
    assert ask(store, sql) == [(1, "pass")], "a verdict on another gold stands back"
    store.table("verdicts.math@1").add(pl.DataFrame([again]))
    assert ask(store, sql) == [(1, "fail")], "of those on this gold, the latest run"
    assert ask(store, f"SELECT count(*) FROM verdicts WHERE trace_id = '{key}'") == [(3,)]


def test_status_is_of_the_verifier_that_the_source_names_even_by_a_path(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    sources = {"my/check.py": "1", None: "2", "absent": "3"}
    for n, (verifier, gold) in enumerate(sources.items()):
        prompt = Prompt.of(gold)
        source = PromptSource(
            prompt_id=prompt.prompt_id, source="s", item=str(n), gold=gold, verifier=verifier
        )
        store.table("prompt_sources").add(pl.DataFrame([source.row("r")]))
        trace = made.trace(prompt, 0, "x")
        store.table("traces").add(pl.DataFrame([trace.row("r")]))
        good = Verdict.passed(decided_by="x")
        bad = Verdict.failed("no_tags", decided_by="x")
        store.table("verdicts.check@1").add(
            pl.DataFrame([made.verdict_row(trace.trace_id, gold, good)])
        )
        store.table("verdicts.format@1").add(
            pl.DataFrame([made.verdict_row(trace.trace_id, "", bad)])
        )
    sql = "SELECT item, status, check_status, format_status FROM wide ORDER BY item"
    assert ask(store, sql) == [
        ("0", "pass", "pass", "fail"),
        ("1", "pass", "pass", "fail"),  # no verifier named: the verdict that used the gold
        ("2", None, "pass", "fail"),  # a verifier without any fact
    ]


def test_the_latest_version_is_shown_and_another_can_be_pinned(store: Store) -> None:
    key = made.trace(made.prompts()[0], 0, "").trace_id
    for version, words in (("length@10", 77), ("length@2", 55), ("length@10+ab", 88)):
        row = pl.DataFrame([{"trace_id": key, "completion_words": words, "run_id": "r"}])
        store.table(f"scores.{version}", made.LENGTH).add(row)
    sql = f"SELECT completion_words FROM wide WHERE trace_id = '{key}'"
    assert ask(store, sql) == [(77,)], "10 comes after 2, and before its form with parameters"
    for pin, words in ((1, 6), ("2", 55), ("length@10+ab", 88), ("10+ab", 88)):
        build.build(store, versions={"length": pin})
        with build.connect(store, refresh=False) as con:
            assert con.execute(sql).fetchall() == [(words,)]
    left_out = wide.wide_sql(store, {"length": None})
    assert "completion_words" not in left_out
    with pytest.raises(UsageError, match=r"no facts of math '7': the store has math@1"):
        wide.wide_sql(store, {"math": 7})
    with pytest.raises(UsageError, match="versions pin maths"):
        wide.wide_sql(store, {"maths": 1})


@pytest.mark.parametrize("column", ["lang", "STATUS", "math_reward"])
def test_a_column_written_twice_is_refused_by_name(store: Store, column: str) -> None:
    form = score_form({column: "text"})
    key = made.trace(made.prompts()[0], 0, "").trace_id
    store.table("scores.mine@1", form).add(
        pl.DataFrame([{"trace_id": key, column: "x", "run_id": "r"}])
    )
    with pytest.raises(UsageError, match=f"{column.lower()}' by .*mine@1"):
        wide.wide_sql(store)
    assert wide.wide_sql(store, {"mine": None}), "leaving one out settles it"
    notes = ask(store, "SELECT written_by, note FROM wide_columns WHERE note IS NOT NULL")
    assert len(notes) == 1, "the catalog itself says so and goes on"


def test_predicates_bind_before_any_fact_exists(tmp_path: Path) -> None:
    plug = tmp_path / "mood.py"
    plug.write_text(
        "VERSION = 3\nREADS = ('completion',)\nWRITES = {'is_glad': 'bool'}\n"
        "def score(df):\n    return df\n"
    )
    check = tmp_path / "check.py"
    check.write_text("VERSION = 1\ndef verify(item):\n    return None\n")
    with duckdb.connect() as con:
        wide.empty_wide(con, [str(check)], [str(plug)])
        where = "check_status = 'pass' AND is_glad AND n_completion_tokens < 9 AND source = 'a'"
        assert con.execute(f"SELECT count(*) FROM wide WHERE {where}").fetchall() == [(0,)]
        with pytest.raises(duckdb.BinderException):
            con.execute("SELECT count(*) FROM wide WHERE is_gald")
    store = made.make_store(tmp_path / "data")
    store.seal()
    sql = wide.wide_sql(store, verifiers=[str(check)], scores=[str(plug)])
    with duckdb.connect() as con:
        assert con.execute(
            f"SELECT count(*), count(is_glad), count(check_status) FROM ({sql})"
        ).fetchall() == [(24, 0, 0)]


def test_revoked_runs_are_left_out_everywhere(store: Store) -> None:
    bad = made.trace(made.prompts()[0], 9, "bad")
    store.table("traces").add(pl.DataFrame([bad.row("bad-run")]))
    assert ask(store, "SELECT count(*) FROM wide") == [(25,)]
    store.revoke("bad-run", reason="wrong template", by="op")
    for table in ("wide", "traces", "trace_texts"):
        assert ask(store, f"SELECT count(*) FROM {table}") == [(24,)], table
    assert ask(store, "SELECT excluded_run_id FROM exclusions") == [("bad-run",)]


def test_an_empty_store_has_a_catalog(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    tables = ask(store, "SELECT table_name FROM duckdb_tables() ORDER BY 1")
    assert ("wide",) in tables
    assert ask(store, "SELECT count(*) FROM wide") == [(0,)]
    for view in ("traces", "verdicts", "trace_texts", "prompt_texts", "golds"):
        assert ask(store, f"SELECT count(*) FROM {view}") == [(0,)], view


def test_it_is_built_only_when_the_store_has_changed(store: Store) -> None:
    path = build.ensure(store)
    before = path.stat().st_ino
    assert build.ensure(store).stat().st_ino == before
    store.table("traces").add(pl.DataFrame([made.trace(made.prompts()[0], 7, "new").row("r")]))
    assert build.ensure(store).stat().st_ino != before
    assert ask(store, "SELECT count(*) FROM wide") == [(25,)]


def test_a_moved_store_gets_a_catalog_that_finds_its_files(store: Store, tmp_path: Path) -> None:
    build.build(store)
    moved = tmp_path / "else where [1]" / "it's"
    moved.parent.mkdir()
    shutil.move(store.root, moved)
    assert ask(Store(moved), "SELECT count(completion) FROM trace_texts") == [(24,)]


def test_it_opens_from_another_folder_by_a_relative_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    build.build(made.make_store(Path("data")))
    monkeypatch.chdir("/")
    with duckdb.connect(str(tmp_path / "data/catalog.duckdb"), read_only=True) as con:
        assert con.execute("SELECT count(completion) FROM trace_texts").fetchall() == [(24,)]


def test_a_damaged_catalog_is_built_anew_and_a_damaged_part_is_named(store: Store) -> None:
    path = build.ensure(store)
    path.write_bytes(b"no database at all" * 1000)
    assert ask(store, "SELECT count(*) FROM wide") == [(24,)]
    part = store.table("traces").part_paths()[0]
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(CorruptError, match="factory check"):
        build.build(store)
    with build.connect(store, refresh=False) as con:
        assert con.execute("SELECT count(*) FROM wide").fetchall() == [(24,)], "the old one is kept"
    assert not list(store.root.glob(".tmp-*")), "nothing half-made is left"


def test_further_tables_of_the_store_appear_by_their_name(store: Store) -> None:
    form = score_form({"step": "int", "loss": "float"})
    key = ids.key_of("step 1")
    store.table("train_metrics", form).add(
        pl.DataFrame([{"trace_id": key, "step": 1, "loss": 0.5, "run_id": "r"}])
    )
    assert ask(store, "SELECT step, loss FROM train_metrics") == [(1, 0.5)]
    assert ask(store, 'SELECT count(*) FROM "scores.length@1"') == [(24,)]


def write_release(store: Store, version: str, keys: list[str], **manifest: object) -> Path:
    folder = store.root / "releases" / "demo" / version
    folder.mkdir(parents=True)
    pl.DataFrame({"trace_id": keys, "text": ["…"] * len(keys)}).write_parquet(
        folder / "part-1.parquet"
    )
    write_json(
        folder / "manifest.json",
        {"name": "demo", "version": version, "rows": len(keys), **manifest},
    )
    return folder


def test_releases_their_rows_and_filters_are_tables(store: Store) -> None:
    keys = [row[0] for row in ask(store, "SELECT trace_id FROM wide WHERE status = 'pass'")]
    counts = {"n_in": 24, "n_dropped": 13, "n_dropped_only": 12, "n_undefined": 1}
    write_release(store, "b", [str(k) for k in keys[:3]], created_at="2026-11-19T00:00:00+00:00")
    write_release(
        store,
        "a",
        [str(k) for k in keys],
        created_at="2026-11-20T00:00:00+00:00",
        parents=["demo@b"],
        filters=[{"name": "right", "sql": "status = 'pass'", **counts}],
    )
    assert ask(store, "SELECT version, n_rows, is_latest, problem FROM releases") == [
        ("b", 3, False, None),
        ("a", len(keys), True, None),
    ]
    assert ask(
        store,
        "SELECT count(*) FROM release_rows JOIN wide USING (trace_id) "
        "WHERE version = 'a' AND status = 'pass'",
    ) == [(len(keys),)]
    assert ask(
        store, "SELECT filter, predicate, is_on, n_in, n_undefined FROM release_filters"
    ) == [("right", "status = 'pass'", True, 24, 1)]


def test_a_broken_release_is_said_and_stops_nothing(store: Store) -> None:
    (write_release(store, "x", ["k"]) / "part-1.parquet").write_bytes(b"PAR1 no")
    folder = write_release(store, "y", ["k"])
    (folder / "manifest.json").write_text("{")
    problems = ask(store, "SELECT version, problem FROM releases ORDER BY version")
    assert [v for v, p in problems if p] == ["x", "y"]


READER = """
import duckdb, sys, time
end = time.monotonic() + float(sys.argv[2]); n = 0
while time.monotonic() < end:
    con = duckdb.connect(sys.argv[1], read_only=True)
    assert con.execute("SELECT count(*), count(DISTINCT trace_id) FROM wide").fetchone() == (24, 24)
    con.close(); n += 1
print(n)
"""


@pytest.mark.slow
def test_readers_never_fail_while_it_is_rebuilt(store: Store) -> None:
    path = build.build(store)
    command = [sys.executable, "-c", READER, str(path), "2.5"]
    readers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    held = duckdb.connect(str(path), read_only=True)
    builds = 0
    while any(r.poll() is None for r in readers):
        build.build(store)
        builds += 1
    for reader in readers:
        out, err = reader.communicate()
        assert reader.returncode == 0, err
        assert int(out) > 0
    assert builds >= 2
    assert held.execute("SELECT count(*) FROM wide").fetchone() == (24,), "the old one stays open"
    held.close()


def test_two_builds_at_once_both_leave_a_whole_catalog(store: Store) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            build.build(store)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert ask(store, "SELECT count(*) FROM wide") == [(24,)]
