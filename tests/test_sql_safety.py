"""SQL by a user reads the catalog and the store's files, and reaches nothing else."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest

from catalogs import build, query, show, sql_process
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


def ask(store: Store, text: str) -> list[str]:
    """What the process would send of ``text``, without starting one for each of many."""
    files = [p.absolute() for parts in wide.part_lists(store).values() for p in parts]
    sent = io.BytesIO()
    with duckdb.connect() as con:
        for setting in query.settings(build.path_of(store), files, 1 << 30):
            con.execute(setting)
        sql_process.answer(con, query.text_of(text), 1000, "1 GiB", sent)
    return sent.getvalue().decode().splitlines()


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
    "PIVOT wide ON status USING count(*) GROUP BY source",
    "FROM (PIVOT wide ON status) LIMIT 3",
    "-- by model\nSELECT * FROM (PIVOT (SELECT model, status FROM wide) ON status USING count(*))",
    "PIVOT wide ON status IN ('pass', 'fail') USING count(*) GROUP BY model",
    "UNPIVOT (SELECT trace_id, reward, seconds FROM wide) ON COLUMNS(* EXCLUDE trace_id)",
    "EXPLAIN SELECT count(*) FROM wide",
    "explain  analyze\nFROM wide",
    "EXPLAIN (FORMAT json) SELECT 1",
    "SELECT * FROM verdicts WHERE reason = ''');DROP TABLE wide;--'",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_a_select_is_answered(store: Store, text: str) -> None:
    assert json.loads(ask(store, text)[0])["columns"]


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
    "EXPLAIN COPY wide TO '{new}'",
    "EXPLAIN ANALYZE INSERT INTO prompts VALUES ('a', 'b')",
    "EXPLAIN ANALYZE CREATE TABLE memory.main.x AS SELECT 1",
    "EXPLAIN ANALYZE SELECT 1; DROP TABLE wide",
    "EXPLAIN ANALYZE SELECT * FROM read_text('{secret}')",
    "EXPLAIN EXPLAIN SELECT 1",
    "/* EXPLAIN */ EXPLAIN ANALYZE COPY wide TO '{new}'",
    "BEGIN TRANSACTION",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY wide TO '{new}'",
    "SELECT 1;; DROP TABLE wide",
    "COPY (PIVOT wide ON status) TO '{new}'",
    "/* /* */ SELECT */ COPY (PIVOT wide ON status) TO '{new}'",
    "CREATE TEMP TABLE x AS PIVOT wide ON status",
    "WITH p AS (PIVOT wide ON status) INSERT INTO prompts SELECT 'a', 'b' FROM p",
    "PIVOT read_csv('{secret}') ON a",
    "PIVOT wide ON status; DROP TABLE wide",
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
    try:
        said = " ".join(json.loads(ask(store, text)[-1])["error"])
    except UsageError as error:
        said = str(error)
    assert "\n" not in said
    assert SECRET not in said
    assert 0 < len(said) < 450
    after = {p: p.read_bytes() for p in sorted(store.root.rglob("*")) if p.is_file()}
    assert after == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.parquet", "secret.txt"]
    assert planted.height == 1


def test_the_settings_hold_even_without_the_check_of_the_statement(
    store: Store, tmp_path: Path
) -> None:
    files = [p.absolute() for parts in wide.part_lists(store).values() for p in parts]
    for text in (
        f"COPY (SELECT 1) TO '{tmp_path}/new.csv'",
        "SELECT * FROM read_text('/etc/hostname')",
        f"ATTACH '{tmp_path}/new.duckdb'",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET memory_limit = '100GB'",
        "INSERT INTO prompts VALUES ('a', 'b')",
    ):
        with duckdb.connect() as con:
            for setting in query.settings(build.path_of(store), files, 1 << 30):
                con.execute(setting)
            with pytest.raises((duckdb.Error, RuntimeError)):
                con.execute(text).fetchall()
    assert list(tmp_path.iterdir()) == []


CONFINED = """
import socket, subprocess, sys
import duckdb
from catalogs import sql_process

sql_process.confine([sys.argv[1]], 1 << 30)
for text in sys.argv[2:]:
    try:
        with duckdb.connect() as con:
            print(con.execute(text).fetchall())
    except duckdb.Error as error:
        print("refused", " ".join(str(error).split()))
for attempt in (
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: subprocess.run(["true"]),
    lambda: bytearray(2 << 30),
):
    try:
        print("done", attempt())
    except (OSError, MemoryError) as error:
        print("refused", type(error).__name__)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or kernel.landlock_abi() < 1, reason="no Landlock in this kernel"
)
def test_the_process_holds_even_a_duckdb_that_may_do_anything(store: Store, tmp_path: Path) -> None:
    part = store.table("traces").part_paths()[0].absolute()
    before = part.read_bytes()
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    texts = [
        f"SELECT count(*) FROM read_parquet('{part}')",
        f"COPY (SELECT 1) TO '{part}' (FORMAT parquet, USE_TMP_FILE false)",
        f"COPY (SELECT 1) TO '{part.parent}/new.csv'",
        f"COPY (SELECT range FROM range(9999999)) TO '{tmp_path}/new' (FORMAT parquet)",
        f"ATTACH '{tmp_path}/new.duckdb'",
        f"SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_text('/etc/passwd')",
    ]
    found = subprocess.run(
        [sys.executable, "-c", CONFINED, str(part.parent), *texts],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    assert found[0] == "[(24,)]"
    assert len(found) == len(texts) + 3
    assert [line for line in found[1:] if not line.startswith("refused")] == []
    assert SECRET not in str(found)
    assert part.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["secret.txt"]


ENDLESS = {
    "a cross join": "SELECT sum(a.range * b.range) FROM range(9999999) a, range(9999999) b",
    "a recursion": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) "
    "SELECT max(n) FROM t",
    "a scalar that no clock interrupts": "SELECT list_sum(list_transform(range(400000), lambda x: "
    "list_sum(list_transform(range(400000), lambda y: x * y))))",
    "an expression of many regular expressions": "SELECT count(*) FROM range(999999999) WHERE "
    "regexp_matches(repeat('a', 20000) || range, '(a|aa)+$')",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_runaway_query_is_stopped_and_says_so(store: Store, name: str) -> None:
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"stopped after 0\.5 s.*DuckDB itself"):
        run(store, ENDLESS[name], timeout_s=0.5)
    assert time.monotonic() - start < 5


LARGE = {
    "a list": "SELECT range % 3, list(range) FROM range(30000000) GROUP BY 1",
    "one string": "SELECT repeat('a', 10000000000)",
    "strings in strings": "SELECT length(repeat(repeat(repeat('a', 1000), 1000), 4000))",
    "a string that doubles": "WITH RECURSIVE t(n, s) AS (SELECT 1, 'x' UNION ALL "
    "SELECT n + 1, s || s FROM t) SELECT max(n) FROM t",
    "a join of strings": "SELECT string_agg(repeat('a', 1000000), '') FROM range(20000)",
    "a sort": "SELECT * FROM range(100000000) ORDER BY hash(range) LIMIT 1 OFFSET 99000000",
    "a wide pivot": "SELECT list_transform(range(100000), lambda x: range(x)) AS a",
    "a row that no message holds": "SELECT repeat('a', 70000000)",
}


SLOW_LARGE = {"a list", "strings in strings", "a string that doubles", "a sort", "a wide pivot"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW_LARGE else ()) for n in LARGE]
)
def test_a_query_that_wants_too_much_memory_is_refused(store: Store, name: str) -> None:
    # In a small process: a child's peak, as the kernel counts it, is at least its parent's.
    code = (
        "import resource, sys; from catalogs import query; from factory.errors import UsageError\n"
        "from factory.store import Store\n"
        "try: query.run(Store(sys.argv[1]), sys.argv[2], refresh=False, memory_bytes=400 << 20,"
        " timeout_s=5)\n"
        "except UsageError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.root), LARGE[name]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, peak_kib = done.stdout.splitlines()
    assert said
    assert int(peak_kib) < 700 << 10


def test_an_answer_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "MAX_BYTES", 1 << 20)
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        run(store, "SELECT range FROM range(100000000)", max_rows=None)  # type: ignore[arg-type]


def test_rows_come_while_the_query_runs(store: Store) -> None:
    with query.stream(store, "SELECT range FROM range(100000000000)", max_rows=None) as rows:
        first = next(iter(rows))
    assert (rows.columns, first[:2]) == (("range",), [(0,), (1,)])


VALUES = [
    "1::HUGEINT", "170141183460469231731687303715884105727", "1.50::DECIMAL(4, 2)", "'nan'::FLOAT",
    "'-inf'::DOUBLE", "DATE '2020-02-29'", "TIME '01:02:03.5'", "TIMETZ '01:02:03+02'",
    "TIMESTAMP '2020-01-01 10:00:00'", "INTERVAL 3 DAY",
    "'00000000-0000-0000-0000-00000000abcd'::UUID",
    "'a\\x00'::BLOB", "MAP {'a': 1, 'b': NULL}", "{'x': [1, NULL], 'y': {'z': 'q'}}",
    "array_value(1, 2)", "BIT '101'", "'{\"a\": 1}'::JSON", "NULL", "true", "''", "chr(0) || 'ü'",
]  # fmt: skip


def test_values_come_over_as_duckdb_gives_them(store: Store) -> None:
    asked = f"SELECT {', '.join(VALUES)}"  # in one process: each starts for a third of a second
    with duckdb.connect() as con:
        (expected,) = con.execute(asked).fetchall()
    (found,) = run(store, asked).rows
    for value, one, other in zip(VALUES, found, expected, strict=True):
        assert repr(one) == repr(other), value


def test_nothing_of_the_environment_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with query.stream(store, "SELECT range FROM range(100000000000)", max_rows=None) as rows:
        next(iter(rows))
        children = subprocess.run(
            ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="], capture_output=True, text=True
        ).stdout
        (pid,) = [line.split()[0] for line in children.splitlines() if "sql_process" in line]
        assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_query_and_its_process(store: Store, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "factory", "sql", ENDLESS["a cross join"], "--store",
               str(store.root)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    child = ""
    while not child and process.poll() is None:
        found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        child = found[0] if found else ""
        time.sleep(0.05)
    time.sleep(1.0)
    start = time.monotonic()
    process.send_signal(number)
    said = process.communicate(timeout=10)[1]
    assert time.monotonic() - start < 5
    assert "Traceback" not in said
    for _ in range(20):
        if not Path(f"/proc/{child}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


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
OF_SCORES = {"languages", "r1_aha", "r1_thinking"}
"""Queries on columns of scores that not every store has."""


@pytest.mark.parametrize("name", NAMED)
def test_every_named_query_runs_and_has_a_line_of_help(store: Store, name: str) -> None:
    if name in OF_SCORES - {"languages"}:
        assert "scores add theirs" in ask(store, f"@{name}")[0]
    else:
        assert json.loads(ask(store, f"@{name}")[0])["columns"]
    assert 10 < len(query.named_queries()[name]) < 110


def test_every_named_query_runs_on_an_empty_store(tmp_path: Path) -> None:
    empty = Store(tmp_path / "data")
    build.build(empty)
    for name in NAMED:
        said = ask(empty, f"@{name}")
        if name in OF_SCORES:
            assert "scores add theirs" in said[0]
        else:
            assert len(said) == 2, name


def test_audits_return_no_row_on_a_sound_store(store: Store) -> None:
    assert show.audit(store) == []
