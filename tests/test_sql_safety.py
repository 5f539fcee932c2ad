"""SQL by a user reads the catalog and the store's files, and reaches nothing else."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest

from catalogs import build, query, show
from factory.errors import UsageError
from factory.sandbox.inside import kernel
from factory.store import Store, wide
from tests import helpers_catalog as made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = made.make_store(tmp_path_factory.mktemp("sql") / "data")
    build.build(store)
    return store


def run(store: Store, text: str, **options: float) -> query.Answer:
    return query.run(store, text, refresh=False, **options)  # type: ignore[arg-type]


ALLOWED = [
    "SELECT count(*) FROM wide",
    "FROM wide LIMIT 1",
    "WITH a AS (SELECT 1 AS x) SELECT * FROM a",
    "DESCRIBE wide",
    "SUMMARIZE SELECT n_completion_tokens FROM wide",
    "SHOW TABLES",
    "VALUES (1)",
    "SELECT completion FROM trace_texts LIMIT 1 ;",
    "-- a comment\nSELECT 1",
    "SELECT ';' AS a; -- nothing behind",
    "SELECT pass_at_k(4, 1, 2)",
    "SELECT * FROM verdicts WHERE reason = ''');DROP TABLE wide;--'",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_a_select_is_answered(store: Store, text: str) -> None:
    assert run(store, text).columns


SECRET = "topsecret-4711"
PROBES = [  # {secret}: a file outside; {new}: a path that must not appear; {part}: a file of ours
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_csv_auto('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_parquet('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM parquet_metadata('{secret}')",
    "FROM '{secret}'",
    "SELECT * FROM '{secret}.csv'",
    "SELECT * FROM read_text('{part}/../../../../../secret.txt')",
    "SELECT * FROM read_text('{link}')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_text('http://127.0.0.1:9/x')",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT getenv('HOME')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM query('COPY wide TO ''{new}''')",
    "SELECT * FROM store",
    "SELECT * FROM planted",
    "COPY wide TO '{new}'",
    "COPY (SELECT 1) TO '{new}' (FORMAT parquet)",
    "COPY (SELECT 1) TO '{part}' (USE_TMP_FILE false)",
    "COPY wide FROM '{secret}'",
    "EXPORT DATABASE '{new}'",
    "IMPORT DATABASE '{folder}'",
    "ATTACH '{new}' AS other",
    "DETACH catalog",
    "USE memory",
    "CREATE TABLE memory.main.x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE OR REPLACE VIEW wide AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "INSERT INTO prompts VALUES ('a', 'b')",
    "UPDATE wide SET status = 'pass'",
    "DELETE FROM wide",
    "DROP TABLE wide",
    "ALTER TABLE wide RENAME TO other",
    "TRUNCATE wide",
    "WITH x AS (INSERT INTO prompts VALUES ('a', 'b') RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM prompts RETURNING *) SELECT * FROM x",
    "SET memory_limit = '100GB'",
    "RESET enable_external_access",
    "SET GLOBAL enable_external_access = true",
    "PRAGMA enable_external_access = true",
    "PRAGMA database_list",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "EXPLAIN ANALYZE COPY wide TO '{new}'",
    "BEGIN TRANSACTION",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY wide TO '{new}'",
    "SELECT 1;; DROP TABLE wide",
    "PIVOT wide ON status",
    "",
    ";",
    "-- only a comment",
    "SELEC 1",
    "SELECT * FROM no_such_table",
    "SELECT no_such_column FROM wide",
    "SELECT 1 / 'a'::INT",
    "@no_such_query",
    "@../catalog",
    "@",
    "SELECT '\x00' || 1 FROM",
]


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_gets_one_line_and_touches_nothing(
    store: Store, tmp_path: Path, probe: str
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    (tmp_path / "link.parquet").symlink_to(secret)
    part = store.table("traces").part_paths()[0]
    before = {p: p.read_bytes() for p in sorted(store.root.rglob("*")) if p.is_file()}
    planted = pl.DataFrame({"a": [SECRET]})
    text = probe
    for name, value in {
        "secret": secret, "new": tmp_path / "new", "part": part.absolute(),
        "link": tmp_path / "link.parquet", "folder": tmp_path,
    }.items():  # fmt: skip
        text = text.replace(f"{{{name}}}", str(value))
    with pytest.raises(UsageError) as caught:
        run(store, text)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 450
    after = {p: p.read_bytes() for p in sorted(store.root.rglob("*")) if p.is_file()}
    assert after == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.parquet", "secret.txt"]
    assert planted.height == 1


def test_the_box_holds_even_without_the_check_of_the_statement(
    store: Store, tmp_path: Path
) -> None:
    files = [p for parts in wide.part_lists(store).values() for p in parts]
    for text in (
        f"COPY (SELECT 1) TO '{tmp_path}/new.csv'",
        "SELECT * FROM read_text('/etc/hostname')",
        f"ATTACH '{tmp_path}/new.duckdb'",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "INSERT INTO prompts VALUES ('a', 'b')",
    ):
        with (
            query.boxed(build.path_of(store), files) as con,
            pytest.raises((duckdb.Error, RuntimeError)),
        ):
            con.execute(text).fetchall()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    sys.platform != "linux" or kernel.landlock_abi() < 1, reason="no Landlock in this kernel"
)
def test_the_thread_holds_even_a_duckdb_that_may_do_anything(store: Store, tmp_path: Path) -> None:
    part = store.table("traces").part_paths()[0].absolute()
    before = part.read_bytes()

    def tried(text: str) -> str:
        try:
            with duckdb.connect() as con:
                return str(con.execute(text).fetchall())
        except duckdb.Error as error:
            return f"refused: {error}"

    for text in (
        f"COPY (SELECT 1) TO '{part}' (FORMAT parquet, USE_TMP_FILE false)",
        f"COPY (SELECT 1) TO '{store.root}/new.csv'",
        f"COPY (SELECT range FROM range(9999999)) TO '{tmp_path}/new' (FORMAT parquet)",
        f"ATTACH '{tmp_path}/new.duckdb'",
    ):
        assert "ermission denied" in query.confined(lambda text=text: tried(text)), text  # type: ignore[misc]
    read = f"SELECT count(*) FROM read_parquet('{part}')"
    assert query.confined(lambda: tried(read)) == "[(24,)]"
    assert part.read_bytes() == before
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").write_text("the caller's own thread stays free")


def test_a_runaway_query_is_stopped_and_says_so(store: Store) -> None:
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"stopped after 0\.5 s.*DuckDB itself"):
        run(store, "SELECT sum(a.range * b.range) FROM range(9999999) a, range(9999999) b",
            timeout_s=0.5)  # fmt: skip
    assert time.monotonic() - start < 10


def test_a_query_that_wants_too_much_memory_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "MEMORY", "60MB")
    with pytest.raises(UsageError, match="wants more than"):
        run(store, "SELECT range % 3, list(range) FROM range(30000000) GROUP BY 1")


def test_rows_are_capped_and_the_rest_is_noted(store: Store) -> None:
    answer = run(store, "SELECT * FROM range(5000)")
    assert len(answer.rows) == 1000
    assert "first 1000" in answer.note
    assert len(run(store, "SELECT * FROM range(5000)", max_rows=None).rows) == 5000  # type: ignore[arg-type]
    assert run(store, "SELECT * FROM range(1000)").note == ""


def test_a_connection_of_ones_own_to_the_catalog_does_not_get_in_the_way(store: Store) -> None:
    with duckdb.connect(str(build.path_of(store)), read_only=True) as con:
        assert run(store, "SELECT count(*) FROM wide").rows == [(24,)]
        con.execute("SET threads = 1")  # its settings are its own


NAMED = sorted(query.named_queries())


@pytest.mark.parametrize("name", NAMED)
def test_every_named_query_runs_and_has_a_line_of_help(store: Store, name: str) -> None:
    assert run(store, f"@{name}").columns
    assert 10 < len(query.named_queries()[name]) < 110


def test_every_named_query_runs_on_an_empty_store(tmp_path: Path) -> None:
    empty = Store(tmp_path / "data")
    build.build(empty)
    for name in NAMED:
        if name == "languages":
            with pytest.raises(UsageError, match="scores add theirs"):
                run(empty, f"@{name}")
        else:
            assert run(empty, f"@{name}").rows == [], name


def test_audits_return_no_row_on_a_sound_store(store: Store) -> None:
    assert show.audit(store) == []
