"""The catalog as the pages read it: one DuckDB that can read the store's files and no more.

Questions of our own making run here. SQL that a user typed goes through ``catalogs.query.run``,
into a process of its own with limits; of a user's predicate there comes back which rows fit, and
that is all that a question of ours then holds of it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from catalogs import build, query
from factory.errors import FactoryError, UsageError
from factory.rows.answers import Answer
from factory.store import Store, wide
from factory.store.wide import literal

T = TypeVar("T")
N_THREADS = 3
LOOK_AGAIN_S = 10.0
MANY_REVIEWS = 1000
MANY_PREDICATES = 12
_FINGERPRINT = "SELECT value FROM catalog.catalog_info WHERE name = 'fingerprint'"


class Word(NamedTuple):
    """What was said last of a trace since the catalog was built."""

    review: str | None
    note: str | None
    author: str
    at: str


class Database:
    """The catalog of a store, and the reviews that are newer than it.

    Args:
        store: the store; its catalog is brought up to date first.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._pool = ThreadPoolExecutor(N_THREADS)
        self._lock = threading.Lock()
        self._own = threading.local()
        self._looked_at = 0.0
        self.is_stale = False
        """Whether the store holds more than the catalog shows; looked at now and then."""
        self.words: dict[str, Word] = {}
        self.n_said = 0
        self.generation = 0
        self._fitting: dict[tuple[int, int, str], Future[str]]
        self._users = ThreadPoolExecutor(N_THREADS)
        # In a thread that lives on: the kernel ends a process with the thread that started it.
        self._spare = self._users.submit(query.Spare).result()
        self.kept: dict[str, Any] = {}
        """Room for what pages found in it and want again."""
        self.columns: dict[str, str] = {}
        """Columns of ``wide`` → their SQL types."""
        self.built_at = ""
        self.n_traces = 0
        self._open()

    def refresh(self) -> None:
        """Bring the catalog up to date with the store and read it from now on."""
        with self._lock:
            old = self._con
            self._open()
            # Those that still ask it have cursors of their own.
            old.close()

    def close(self) -> None:
        """Close the catalog."""
        self._users.shutdown()
        self._pool.shutdown()
        self._spare.close()
        self._con.close()

    def _open(self) -> None:
        path = build.ensure(self.store)
        parts = wide.part_lists(self.store)
        files = [p for paths in parts.values() for p in paths]
        con = duckdb.connect(":memory:")
        for statement in query.settings(path, [f.absolute() for f in files], query.MEMORY_BYTES):
            con.execute(statement)
        self._con = con
        self.trace_parts: list[Path] = parts.get("traces", [])
        self.prompt_parts: list[Path] = parts.get("prompts", [])
        self.generation += 1
        self.words = {}
        self.is_stale, self._looked_at, self._seen = False, time.monotonic(), self._stamp()
        self.columns = dict(
            self.ask(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'wide' "
                "AND database_name = 'catalog' ORDER BY column_index"
            ).rows
        )
        self.n_traces = int(self.ask("SELECT count(*) FROM catalog.wide").rows[0][0])
        self._fingerprint = self.ask(_FINGERPRINT).rows[0][0]
        self._fitting = {}
        self.built_at = time.strftime("%H:%M:%S", time.localtime(path.stat().st_mtime))

    # ---- asking

    def ask(self, text: str, parameters: Sequence[Any] = ()) -> Answer:
        """Answer a question of our own making.

        Args:
            text: one SELECT.
            parameters: values of its question marks.
        """
        return self._pool.submit(self._asked, text, list(parameters)).result()

    def using(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Return what ``work`` makes of a connection of its own to the catalog."""

        def run() -> T:
            with self._con.cursor() as cursor:
                cursor.execute("USE catalog")
                return work(cursor)

        return self._pool.submit(run).result()

    def _asked(self, text: str, parameters: list[Any]) -> Answer:
        if getattr(self._own, "generation", None) != self.generation:
            self._own.cursor = self._con.cursor()
            self._own.cursor.execute("USE catalog")
            self._own.generation = self.generation
        try:
            result = self._own.cursor.execute(text, parameters)
        except duckdb.CatalogException:  # rows that fitted a predicate went with the old catalog
            raise UsageError(
                "the catalog was built anew meanwhile", "load the page again"
            ) from None
        return Answer(tuple(d[0] for d in result.description or []), result.fetchall())

    def ask_user(self, text: str, *, max_rows: int | None, timeout_s: float) -> Answer:
        """Answer SQL that a user wrote, or that holds a predicate of theirs.

        Raises:
            UsageError: as ``catalogs.query.run``.
        """
        return self._users.submit(
            query.run, self.store, text, max_rows=max_rows, timeout_s=timeout_s, refresh=False,
            spare=self._spare,
        ).result()  # fmt: skip

    def rows_where(self, predicate: str, *, timeout_s: float) -> str:
        """Return a condition of our own making that holds for the rows that a user's one fits.

        The predicate runs once over all traces, where user SQL runs, and answers with a bit for
        each row. List, count, facets, neighbours and search of that view then read the rows'
        numbers here, instead of starting a process each.

        Raises:
            UsageError: as ``ask_user``.
        """
        about_reviews = "review" in predicate.lower()
        key = (self.generation, self.n_said if about_reviews else 0, predicate)
        with self._lock:
            found = self._fitting.get(key)
            if found is None:
                mine: Future[str] = Future()
                while len(self._fitting) >= MANY_PREDICATES:
                    self._forget(next(iter(self._fitting)))
                self._fitting[key] = mine
        if found is not None:
            return found.result()
        try:
            condition = self._fit(key, timeout_s)
        except BaseException as error:
            with self._lock:
                self._fitting.pop(key, None)
            mine.set_exception(error)
            raise
        mine.set_result(condition)
        return condition

    def _fit(self, key: tuple[int, int, str], timeout_s: float) -> str:
        if not self.n_traces:
            return "false"
        # The line break ends a comment that the predicate may end with.
        answer = self.ask_user(
            f"{self.wide_cte()}SELECT bitstring_agg(row, 0, {self.n_traces - 1}), ({_FINGERPRINT}) "
            f"FROM (SELECT rowid AS row FROM wide WHERE ({key[2]}\n))",
            max_rows=2,
            timeout_s=timeout_s,
        )
        bits, of = answer.rows[0] if len(answer.rows) == 1 else ("", self._fingerprint)
        if of != self._fingerprint:  # another process has built it anew: numbers mean other rows
            self.refresh()
            raise UsageError("the catalog was built anew meanwhile", "load the page again")
        if bits is None:
            return "false"
        if not isinstance(bits, str) or len(bits) != self.n_traces:
            raise UsageError("it is no condition on a trace", "write what may follow WHERE")
        fits = np.frombuffer(bits.encode(), np.uint8) == ord("1")
        # The smaller side: what it costs to look numbers up grows with how many they are.
        is_most = bool(fits.sum() * 2 > len(fits))
        numbers = pa.table({"row": np.flatnonzero(fits != is_most)})
        if not numbers.num_rows:
            return "true" if is_most else "false"
        name = _table_name(key)

        def keep(con: duckdb.DuckDBPyConnection) -> None:
            con.register("_numbers", numbers)
            con.execute(f"CREATE OR REPLACE TABLE {name} AS FROM _numbers")
            con.unregister("_numbers")

        self.using(keep)
        return f"rowid {'NOT IN' if is_most else 'IN'} (FROM {name})"

    def _forget(self, key: tuple[int, int, str]) -> None:
        self._fitting.pop(key)
        self.using(lambda con: con.execute(f"DROP TABLE IF EXISTS {_table_name(key)}"))

    # ---- what is newer than the catalog

    def said(self, trace_ids: Sequence[str], word: Word) -> None:
        """Remember what was said, so that pages show it before the catalog is built anew."""
        self.n_said += 1
        for key in trace_ids:
            old = self.words.get(key) or self._stored_word(key)
            review = old.review if word.review is None else word.review
            note = old.note if word.note is None else word.note
            self.words[key] = Word(
                None if review == "none" else review, note or None, word.author, word.at
            )
        if len(self.words) > MANY_REVIEWS:
            self.refresh()

    def _stored_word(self, trace_id: str) -> Word:
        rows = self.ask(
            "SELECT review, review_note FROM catalog.wide WHERE trace_id = ?", [trace_id]
        ).rows
        review, note = rows[0] if rows else (None, None)
        return Word(review, note, "", "")

    def wide_cte(self) -> str:
        """Return ``WITH wide AS (…)`` in which the newest reviews stand; empty without any."""
        if not self.words:
            return ""

        def cell(text: str | None) -> str:
            return "NULL" if text is None else literal(text)

        values = ", ".join(
            f"({', '.join(cell(c) for c in (key, *word))})" for key, word in self.words.items()
        )
        shown = ", ".join(
            f"CASE WHEN n.trace_id IS NULL THEN w.{c} ELSE n.{c} END AS {c}"
            for c in wide.REVIEW_COLUMNS
        )
        names = ", ".join(wide.REVIEW_COLUMNS)
        return (
            f"WITH wide AS (SELECT w.rowid AS rowid, w.* REPLACE ({shown}) "
            f"FROM catalog.wide AS w LEFT JOIN (VALUES {values}) AS n(trace_id, {names}) "
            "USING (trace_id)) "
        )

    def _stamp(self) -> tuple[Any, ...]:
        """Return what changes when the store gets more than reviews."""
        segments = [
            (path.name, path.stat().st_size)
            for name in ("traces", "rollouts")
            for path in (self.store.root / "tables" / name).glob("segment-*.log")
        ]
        parts = {
            name: [p.name for p in paths]
            for name, paths in wide.part_lists(self.store).items()
            if name != "reviews"
        }
        manifests = len(list((self.store.root / "releases").glob("*/*/manifest.json")))
        return sorted(segments), parts, manifests

    def look(self) -> bool:
        """Tell whether the store has more than the catalog, asked at most every few seconds."""
        if time.monotonic() - self._looked_at > LOOK_AGAIN_S:
            self._looked_at = time.monotonic()
            try:
                self.is_stale = self._stamp() != self._seen
            except FactoryError:  # damage: bringing the catalog up to date will name it
                self.is_stale = True
        return self.is_stale


def _table_name(key: tuple[int, int, str]) -> str:
    return f"memory.main.rows_{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}"
