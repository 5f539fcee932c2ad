"""The catalog: one DuckDB file over the store, for questions in SQL. Derived, never the truth.

``build`` writes a new file beside the old one and swaps it in by rename: whoever has the old one
open keeps reading it, whoever opens the path gets a whole file. Nobody ever waits for a lock.

>>> import tempfile
>>> from factory.store import Store
>>> store = Store(tempfile.mkdtemp())
>>> build(store).name
'catalog.duckdb'
>>> with connect(store) as con:
...     con.execute("SELECT count(*) FROM wide").fetchone()
(0,)
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import orjson
import polars as pl
import pyarrow as pa

from catalogs import releases
from factory.errors import CorruptError, StoreError, UsageError
from factory.records import EVALUATIONS, SQL_TYPES, TABLES, TRAININGS
from factory.records.ids import key_of
from factory.rows.answers import Answer
from factory.sets.splits import evaluation_sql
from factory.store import Store, wide
from factory.store.durable import TMP_PREFIX, disk_error, is_writable, locked, replacing
from factory.store.wide import Pin, Plug, literal, quoted

CATALOG_FORMAT = 8
T = TypeVar("T")
_TRIES = 5
FILE_NAME = "catalog.duckdb"
STORAGE_VERSION = "v1.0.0"
"""So that any DuckDB from 1.0 on opens the file."""
_HERE = Path(__file__).parent
_COPIED = ("prompts", "prompt_sources", "samplings", "failures", "exclusions", "reviews")
_LEFT_OUT = {("prompts", "messages"), ("prompts", "text")}
"""Tables and columns that stay in Parquet."""
_PLACES = {"trace_id": "text", "filename": "text", "file_row_number": "int", "run_id": "text"}
"""DuckDB's own columns of Parquet files; ``run_id``, so that revoked runs are left out."""


_ELSEWHERE: dict[Path, Path] = {}
"""Root of a store that cannot be written → the folder of its catalog, which ends with us."""


def path_of(store: Store) -> Path:
    """Return where the store's catalog is or will be; absolute."""
    root = store.root.absolute()
    return _ELSEWHERE.get(root, root) / FILE_NAME


def build(store: Store, *, versions: Mapping[str, Pin] | None = None) -> Path:
    """Seal, build the catalog anew and swap it in; return its path.

    Args:
        store: the store.
        versions: versions of verifiers and scores that ``wide`` shows (``wide.choose``); by
            default the latest of each.

    Raises:
        CorruptError: a part cannot be read.
        StoreError: the disk is full, or another build held the lock for too long.
    """
    _refuse_name(path_of(store))
    store.seal()
    with _building(store):
        return beside_writers(store, lambda: _build(store, versions))


def beside_writers(store: Store, read: Callable[[], T]) -> T:
    """Read parts, again where one of them was replaced under the reading.

    What a part is replaced by has been there before it goes, and most go hours later; ``forget``
    alone takes its parts away at once.

    Raises:
        CorruptError: a part cannot be read, and nobody has replaced it.
    """
    for _ in range(_TRIES):
        before = _manifests(store)
        try:
            return read()
        except CorruptError:
            if _manifests(store) == before:
                raise
    return read()


def _manifests(store: Store) -> dict[str, int]:
    found = {}
    for path in store.root.glob("tables/*/manifest.json"):
        with contextlib.suppress(FileNotFoundError):
            found[path.parent.name] = path.stat().st_mtime_ns
    return found


def _refuse_name(path: Path) -> None:
    """Refuse a name that DuckDB cannot open: it makes a slash of a backslash, and ? ends a name."""
    if "\\" in str(path) or "?" in str(path):
        raise StoreError(
            f"no catalog can stand in {str(path.parent)!r}",
            "move the store to a folder whose name has no backslash and no question mark",
        )


def ensure(store: Store) -> Path:
    """Return the catalog's path, building it where it is absent or older than the store.

    A catalog of a store that was moved or copied is built anew: its views name files by absolute
    path.
    """
    _refuse_name(path_of(store))
    store.seal()
    return beside_writers(store, lambda: _ensured(store))


def _ensured(store: Store) -> Path:
    if _is_fresh(store):
        return path_of(store)
    root = store.root.absolute()
    if not is_writable(root):
        if root not in _ELSEWHERE:
            folder = Path(tempfile.mkdtemp(prefix="factory-catalog-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            _ELSEWHERE[root] = folder
        return _build(store, None)
    with _building(store):
        return path_of(store) if _is_fresh(store) else _build(store, None)


@contextlib.contextmanager
def _building(store: Store) -> Iterator[None]:
    try:
        with locked(store.root / ".catalog.lock", timeout_s=600):
            yield
    except OSError as error:
        raise disk_error(error, path_of(store), "the old catalog is kept") from None
    except duckdb.Error as error:
        if "No space left" not in str(error):
            raise
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise disk_error(full, path_of(store), "the old catalog is kept") from None


def connect(store: Store, *, refresh: bool = True) -> duckdb.DuckDBPyConnection:
    """Open the catalog for reading.

    A plain ``duckdb.connect("data/catalog.duckdb", read_only=True)`` does as well; but a process
    that still holds an older connection to the same path is given the older file again.

    Args:
        store: the store.
        refresh: build first where the catalog is older than the store.
    """
    path = ensure(store) if refresh else path_of(store)
    if not path.exists():
        raise StoreError(f"no catalog at {path}", "`factory ls` builds it")
    con = duckdb.connect(":memory:")
    try:
        con.execute(f"ATTACH {literal(str(path))} AS catalog (READ_ONLY)")
        con.execute("USE catalog")
    except duckdb.Error as error:
        con.close()
        detail = " ".join(str(error).split())[:160]
        raise CorruptError(
            f"{path} cannot be opened ({detail})", "delete it and try again"
        ) from None
    return con


def asked(store: Store, text: str, title: str = "") -> Answer:
    """Answer a question of our own making to the catalog as it is."""
    with connect(store, refresh=False) as con:
        result = con.execute(text)
        columns = tuple(d[0] for d in result.description or [])
        return Answer(columns, result.fetchall(), title=title)


def find_release(store: Store, name: str) -> tuple[str, str] | None:
    """Return (name, version) of a release given as ``name`` (the latest) or ``name/version``.

    The catalog must have been brought up to date (``ensure``).

    Raises:
        UsageError: the name exists but not this version.
    """
    release, _, version = name.replace("@", "/").partition("/")
    rows = asked(
        store,
        f"SELECT version, is_latest FROM releases WHERE release = {literal(release)} "
        "ORDER BY created_at",
    ).rows
    if not rows:
        return None
    fits = [v for v, latest in rows if (v.startswith(version) if version else latest)]
    if not fits:
        raise UsageError(
            f"release {release!r} has no version {version[:40]!r}",
            f"it has {', '.join(v for v, _ in rows)}",
        )
    return release, fits[-1]


def fingerprint(store: Store) -> str:
    """Return a key of all that a catalog is built from; an equal one means nothing to do."""
    runs = sorted((store.root / "runs").glob("*/run.json"))
    files = (*runs, *releases.manifest_paths(store))
    return key_of(
        {
            "format": CATALOG_FORMAT,
            "root": str(path_of(store)),
            "parts": {n: [p.name for p in paths] for n, paths in wide.part_lists(store).items()},
            "revoked": sorted(store.excluded_runs()),
            "files": [[str(p), p.stat().st_mtime_ns if p.exists() else None] for p in files],
        }
    )


def _is_fresh(store: Store) -> bool:
    path = path_of(store)
    if not path.exists():
        return False
    try:
        with connect(store, refresh=False) as con:
            row = con.execute(
                "SELECT value FROM catalog_info WHERE name = 'fingerprint'"
            ).fetchone()
    except (CorruptError, duckdb.Error):
        return False  # damaged, or of another making: it can always be built again
    return row is not None and row[0] == fingerprint(store)


def _build(store: Store, versions: Mapping[str, Pin] | None) -> Path:
    path = path_of(store)
    temp = path.parent / f"{TMP_PREFIX}duckdb"
    with replacing(path) as tmp, contextlib.closing(duckdb.connect(":memory:")) as con:
        try:
            con.execute(f"SET temp_directory = {literal(str(temp.absolute()))}")
            con.execute("SET preserve_insertion_order = false")
            con.execute(
                f"ATTACH {literal(str(tmp))} AS new (STORAGE_VERSION {literal(STORAGE_VERSION)})"
            )
            con.execute("USE new")
            con.execute("BEGIN")
            _fill(con, store, versions)
            con.execute("COMMIT")
            con.execute("CHECKPOINT new")
            con.execute("USE memory")
            con.execute("DETACH new")
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            detail = " ".join(str(error).split())[:200]
            if "No space left" in detail:
                raise StoreError(
                    f"the disk is full at {path}", "the old catalog is kept; free some space"
                ) from None
            raise CorruptError(
                f"the catalog cannot be built ({detail})", "`factory check` names damaged files"
            ) from None
        finally:
            shutil.rmtree(temp, ignore_errors=True)
            tmp.with_name(tmp.name + ".wal").unlink(missing_ok=True)
    return path


def _fill(con: duckdb.DuckDBPyConnection, store: Store, versions: Mapping[str, Pin] | None) -> None:
    stamp = fingerprint(store)
    shelf = releases.read_releases(store)
    relation = wide.parquet_relation(store)
    plugs = wide.stored_plugs(store)
    for statement in _statements("schema.sql", {name: _column_list(name) for name in _COPIED}):
        con.execute(statement)
    chosen, notes = _without_collisions(wide.choose(plugs, versions))
    several = wide.repeated(con, chosen, relation)
    # In the order of keys: DuckDB keeps the least and the largest of every 120,000 rows, so that a
    # trace, its neighbours and a page of a list are found without reading all the others.
    rows = wide.wide_of(chosen, relation, several)
    con.execute(f"CREATE TABLE wide AS SELECT * FROM ({rows}) ORDER BY trace_id")
    con.execute(
        "INSERT INTO trace_places SELECT trace_id, filename, file_row_number "
        f"FROM {relation('traces', _PLACES)} ORDER BY trace_id"
    )
    columns = _wide_columns(chosen)
    _insert(con, "wide_columns", [*columns, *notes])
    for row in columns:
        if row["meaning"]:
            name, meaning = quoted(row["name"]), literal(row["meaning"])
            con.execute(f"COMMENT ON COLUMN wide.{name} IS {meaning}")
    there = _columns_by_table(con)
    for name in _COPIED:
        source = relation(name, TABLES[name].columns)
        if name == "prompt_sources":
            source = wide.current_sources(source)
            source = f"(SELECT *, left(gold, 200) AS gold_short FROM {source})"
        shown = ", ".join(quoted(c) for c in there[name])
        con.execute(f"INSERT INTO {name} BY NAME SELECT {shown} FROM {source}")
    # They are there, empty, where nothing was evaluated or trained: queries name them.
    of_distill = {**EVALUATIONS, **TRAININGS}
    for name in sorted({*store.tables(), *of_distill}):
        if name.partition(".")[0] not in TABLES:
            form = store.table(name).form if store.has(name) else of_distill[name]
            source = relation(name, form.columns)
            shown = f"store_{name}" if name in there else name
            con.execute(f"CREATE VIEW {quoted(shown)} AS SELECT * FROM {source}")
            if name in of_distill:
                comment = literal(of_distill[name].comment)
                con.execute(f"COMMENT ON VIEW {quoted(shown)} IS {comment}")
    _views(con, store, relation, [p for p in plugs if p.kind == "verdicts"])
    _fill_releases(con, shelf)
    _insert(con, "runs", [_run_row(r, store.excluded_runs()) for r in store.runs()])
    info = {
        "store": str(store.root.absolute()), "format": str(CATALOG_FORMAT), "fingerprint": stamp,
        "duckdb": duckdb.__version__,
    }  # fmt: skip
    _insert(con, "catalog_info", [{"name": n, "value": v} for n, v in info.items()])


def _views(
    con: duckdb.DuckDBPyConnection,
    store: Store,
    relation: wide.Relation,
    verifiers: Sequence[Plug],
) -> None:
    """Make what ``views.sql`` says, with the files of this store in the places that it names."""
    places = {
        name: relation(name, TABLES[name].columns)
        for name in ("traces", "prompts", "prompt_sources")
    }
    for name in ("traces", "prompts"):
        paths = store.table(name).part_paths()
        places[f"all_{name}"] = wide.files_sql(paths, TABLES[name].columns, [])
    places["prompt_sources"] = wide.current_sources(places["prompt_sources"])
    places["evaluation_split"] = evaluation_sql("split")
    places["trace_columns"] = ", ".join(quoted(c) for c in wide.TRACE_COLUMNS)
    selects = [
        f"SELECT {literal(p.name)} AS verifier, {literal(p.label.rpartition('@')[2])} AS version, "
        f"* FROM {relation(p.table, p.stored_columns)}"
        for p in verifiers
    ] or [
        "SELECT NULL::VARCHAR AS verifier, NULL::VARCHAR AS version, * FROM "
        + relation("verdicts", TABLES["verdicts"].columns)
    ]
    places["verdicts"] = f"({' UNION ALL '.join(selects)})"
    for statement in _statements("views.sql", places):
        con.execute(statement)


def _column_list(table: str) -> str:
    """Return what ``CREATE TABLE`` says of the catalog's copy of a table of the store."""
    names = [c for c in TABLES[table].columns if (table, c) not in _LEFT_OUT]
    return ", ".join(
        f"{'gold_short' if c == 'gold' else quoted(c)} {SQL_TYPES[TABLES[table].columns[c]]}"
        for c in names
    )


def _wide_columns(chosen: Sequence[Plug]) -> list[dict[str, Any]]:
    owners = {w: p.label for p in chosen for w, _ in p.columns.values()}
    said = wide.meanings_of(chosen)
    return [
        {"name": c, "kind": SQL_TYPES[kind], "written_by": owners.get(c), "note": None,
         "meaning": said.get(c)}
        for c, kind in wide.columns_of(chosen).items()
    ]  # fmt: skip


def _without_collisions(plugs: Sequence[Plug]) -> tuple[list[Plug], list[dict[str, Any]]]:
    """Leave out a plug-in whose column another has; said in ``wide_columns``.

    A release refuses instead (``wide.wide_sql``); here one bad name must not hide the whole store.
    """
    kept: list[Plug] = []
    notes = []
    for plug in plugs:
        clashes = wide.collisions([*kept, plug])
        if clashes:
            notes += [
                {"name": column, "kind": None, "written_by": plug.label,
                 "note": f"left out of wide: also written by {who[0]}", "meaning": None}
                for column, who in clashes.items()
            ]  # fmt: skip
        else:
            kept.append(plug)
    return kept, notes


def _fill_releases(con: duckdb.DuckDBPyConnection, shelf: Sequence[releases.ReleaseFiles]) -> None:
    for release in shelf:
        reads: list[tuple[str, list[str], list[Path]]] = [
            ("release_rows", ["trace_id"], release.parts)
        ]
        if release.decisions:
            columns = ["trace_id", "is_kept", "dropped_by", "undefined_by"]
            reads.append(("release_decisions", columns, [release.decisions]))
        for table, columns, paths in reads:
            for path in paths:
                try:
                    # Read outside the transaction, which a failed INSERT would end.
                    found = pl.read_parquet(path, columns=columns, glob=False)
                except (OSError, pl.exceptions.PolarsError) as error:
                    release.row["problem"] = f"{path.name}: {' '.join(str(error).split())[:160]}"
                    continue
                mark = {c: pl.lit(release.row[c]) for c in ("release", "version")}
                _insert_frame(con, table, found.sort("trace_id").with_columns(**mark).to_arrow())
        _insert(con, "release_filters", release.filters)
    _insert(con, "releases", [r.row for r in shelf])


def _run_row(record: Mapping[str, Any], revoked: Sequence[str]) -> dict[str, Any]:
    results = record.get("results") or {}
    return {
        "run_id": record.get("run_id"),
        "kind": record.get("kind"),
        "started_at": record.get("started_at"),
        "ended_at": record.get("ended_at"),
        "is_revoked": record.get("run_id") in revoked,
        "device_s": results.get("device_s", results.get("gpu_seconds")),
        "details": orjson.dumps(record.get("details")).decode(),
        "results": orjson.dumps(record["results"]).decode() if "results" in record else None,
    }


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    # Not by pyarrow's from_pylist: it loads pandas, half a second of every command's first catalog.
    frame = pl.from_dicts([dict(row) for row in rows], infer_schema_length=None, strict=False)
    _insert_frame(con, table, frame.to_arrow())


def _insert_frame(con: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    con.register("_rows", rows)
    con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM _rows")
    con.unregister("_rows")


def _statements(file: str, places: Mapping[str, str]) -> Iterator[str]:
    """Yield the statements of a file, with SQL in the places ``{name}``."""
    text = (_HERE / file).read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    for statement in "\n".join(lines).split(";\n"):
        if statement.strip():
            # In one pass: a path in a place may itself look like one.
            yield re.sub(r"\{(\w+)\}", lambda found: places[found[1]], statement)


def _columns_by_table(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    rows = con.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
        "WHERE database_name = current_database() GROUP BY table_name"
    ).fetchall()
    return dict(rows)
