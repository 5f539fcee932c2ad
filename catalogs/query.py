"""SQL by a user, on the catalog and the store's own files, and on nothing else.

What holds the statement in:

* it is parsed once; exactly one statement, a SELECT (``DESCRIBE``, ``SUMMARIZE`` and ``SHOW`` are
  such), and that parsed statement is what runs;
* the catalog is attached read-only; external access is off, except for the Parquet parts, each
  named by its path. (A permitted folder could also be written to by DuckDB; a permitted file only
  by COPY, which is no SELECT.) No extension is installed or loaded, no Python variable is visible,
  no setting can be changed, nothing spills to disk;
* a clock interrupts it, memory is limited, rows are capped;
* on Linux with Landlock all of it, DuckDB's own threads included, runs in a thread that can write
  no file and open no TCP connection: that holds even where DuckDB has a fault.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import duckdb

from catalogs import build
from factory.errors import FactoryError, UsageError
from factory.rows.answers import Answer, unique_names
from factory.store import Store, wide
from factory.store.wide import literal

T = TypeVar("T")
MAX_ROWS = 1000
TIMEOUT_S = 60.0
MEMORY = "4GB"
_QUERIES = Path(__file__).parent / "queries"


def named_queries() -> dict[str, str]:
    """Return the named queries: name → what it shows, in one line.

    >>> named_queries()["pass_rate"].startswith("pass rate by source and model")
    True
    """
    found = {}
    for path in sorted(_QUERIES.glob("*.sql")):
        first = path.read_text("utf-8").partition("\n")[0]
        found[path.stem] = first.removeprefix("--").strip()
    return found


def text_of(query: str) -> str:
    """Return SQL as given, or that of a named query (``@pass_rate``).

    Raises:
        UsageError: no query of that name.
    """
    query = query.strip()
    if not query.startswith("@"):
        return query
    name = query[1:].strip()
    known = named_queries()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3) or list(known)
        raise UsageError(
            f"no query @{name[:40]}", f"try {', '.join('@' + c for c in close)}; `factory ls` lists"
        )
    return (_QUERIES / f"{name}.sql").read_text("utf-8")


def run(
    store: Store,
    query: str,
    *,
    max_rows: int | None = MAX_ROWS,
    timeout_s: float = TIMEOUT_S,
    refresh: bool = True,
) -> Answer:
    """Answer one SELECT, or a named query.

    Args:
        store: whose catalog is asked; built first where it is older than the store.
        query: SQL, or ``@name``.
        max_rows: rows shown at most, None for all; what is left out is noted.
        timeout_s: wall seconds after which it is stopped.
        refresh: whether to look if the catalog is older than the store.

    Raises:
        UsageError: it is no single SELECT, names what is not there, reaches for what it must not,
            or took too long; one line each.
    """
    text = text_of(query)
    path = build.ensure(store) if refresh else build.path_of(store)
    files = [p for parts in wide.part_lists(store).values() for p in parts]

    def work() -> Answer:
        with boxed(path, files) as con:
            return _answered(con, text, max_rows, timeout_s)

    return confined(work)


def _answered(
    con: duckdb.DuckDBPyConnection, text: str, max_rows: int | None, timeout_s: float
) -> Answer:
    statement = _one_select(con, text)
    stop = threading.Timer(timeout_s, con.interrupt)
    stop.daemon = True
    start = time.perf_counter()
    stop.start()
    try:
        result = con.execute(statement)
        columns = unique_names([d[0] for d in result.description or []])
        rows = result.fetchall() if max_rows is None else result.fetchmany(max_rows + 1)
    except duckdb.Error as error:
        raise _explained(error, timeout_s) from None
    finally:
        stop.cancel()
    notes = []
    if max_rows is not None and len(rows) > max_rows:
        rows = rows[:max_rows]
        notes = [f"only the first {max_rows} rows are shown; --limit N shows more, 0 all"]
    problems = con.execute(
        "SELECT release, version, problem FROM catalog.releases WHERE problem IS NOT NULL"
    ).fetchall()
    notes += [f"release {name}/{version} is left out: {why}" for name, version, why in problems]
    note = "; ".join(notes)
    return Answer(columns, rows, note=note, seconds=time.perf_counter() - start)


def confined(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that can write no file and open no connection.

    Landlock binds a thread and those that it starts, so the caller's own thread stays free. Where
    the kernel has no Landlock, what DuckDB forbids is all there is.
    """
    with ThreadPoolExecutor(1, initializer=_give_up_writing) as pool:
        return pool.submit(work).result()


def _give_up_writing() -> None:
    if sys.platform != "linux":
        return
    from factory.sandbox.inside import kernel

    # A kernel that refuses (too many nested rulesets, too old) leaves DuckDB's own bars.
    with contextlib.suppress(kernel.KernelError):
        # Reading stays with those: DuckDB aborts the process where it may not look at /proc.
        ruleset = kernel.make_landlock(["/"], ["/dev/null"])
        try:
            kernel.no_new_privileges()
            kernel.enter_landlock(ruleset)
        finally:
            os.close(ruleset)


@contextlib.contextmanager
def boxed(path: Path, files: list[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the catalog in a DuckDB that can read it and ``files``, and do nothing else.

    Attached to a database of its own rather than opened: settings would otherwise be shared with
    (and refused by) other connections of this process to the same path.
    """
    con = duckdb.connect(":memory:")
    try:
        allowed = ", ".join(literal(str(p.absolute())) for p in files)
        for setting in (
            f"ATTACH {literal(str(path))} AS catalog (READ_ONLY)",
            "USE catalog",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            "SET python_enable_replacements = false",
            "SET temp_directory = ''",
            f"SET memory_limit = {literal(MEMORY)}",
            f"SET allowed_paths = [{allowed}]",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            con.execute(setting)
        yield con
    finally:
        con.close()


def _one_select(con: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
    try:
        statements = con.extract_statements(text)
    except duckdb.Error as error:
        raise _explained(error, 0) from None
    if len(statements) != 1:
        found = "more than one statement" if statements else "no statement"
        raise UsageError(f"{found}: {text.strip()[:60]!r}", "give one SELECT")
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = str(statements[0].type).rpartition(".")[2].replace("_STATEMENT", "")
        raise UsageError(
            f"{kind} is not allowed", "give one SELECT; it reads the catalog and changes nothing"
        )
    return statements[0]


def _explained(error: duckdb.Error, timeout_s: float) -> FactoryError:
    """Turn DuckDB's message into one line that says what to do."""
    if isinstance(error, duckdb.InterruptException):
        return UsageError(
            f"the query was stopped after {timeout_s:g} s",
            "narrow it, or open the catalog with DuckDB itself",
        )
    detail = " ".join(str(error).partition("LINE 1:")[0].split())[:300]
    todo = "correct the SQL"
    if isinstance(error, duckdb.PermissionException) or "disabled" in detail:
        todo = "SQL here reads the catalog and the store's own files only"
    elif isinstance(error, duckdb.OutOfMemoryException):
        todo = f"it wants more than {MEMORY}: narrow it, or open the catalog with DuckDB itself"
    elif isinstance(error, duckdb.CatalogException):
        todo = "`factory ls` names the tables"
    elif isinstance(error, duckdb.BinderException):
        todo = "`factory show wide` names its columns; verifiers and scores add theirs"
    return UsageError(detail, todo)
