"""The store: one folder of append-only tables, releases and runs.

::

    data/store.json                                     format of the store
    data/ledger.log                                     files that must be there (.ledger)
    data/tables/<table>/table.json                      key column and columns
    data/tables/<table>/manifest.json                   parts with SHA-256; sealed segments
    data/tables/<table>/part-<sha16>.parquet            sealed, immutable
    data/tables/<table>/segment-<run_id>-<n>.log        open or not sealed yet
    data/releases/<name>/<version>/                     (factory.stages.release)
    data/runs/<run_id>/run.json

Any number of processes append, each to its own segment. Only sealing and gc take a short lock.
A reader sees the parts of the manifest and the whole blocks of the other segments, each key once.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.errors import CorruptError, StoreError
from factory.records.ids import key_of
from factory.records.schemas import STORE_FORMAT, TABLES, TableForm
from factory.store import forgotten
from factory.store.durable import TMP_PREFIX
from factory.store.forgotten import Forgotten
from factory.store.ledger import REPAIR, Ledger
from factory.store.log import is_closed
from factory.store.table import Table, check_name, open_form

__all__ = ["Store", "Table", "check_name", "new_run_id", "now"]

_ABOUT_OTHERS = ("exclusions", forgotten.TABLE)


def new_run_id() -> str:
    """Return a run id that sorts by time: ``20261120t193455-5f3a9c``."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dt%H%M%S}-{secrets.token_hex(3)}"


class Store:
    """One store directory.

    Args:
        root: the folder; made where absent, unless ``create`` is False.

    Raises:
        StoreError: the folder is no store, or one of another format.
    """

    def __init__(self, root: Path | str, *, create: bool = True) -> None:
        self.root = Path(root)
        try:
            str(self.root).encode()
        except UnicodeEncodeError:
            raise StoreError(
                f"{os.fsencode(self.root)!r} is no UTF-8", "give a --store whose name is text"
            ) from None
        self._forms: dict[str, TableForm] = {}
        self.ledger = Ledger(self.root)
        marker = self.root / "store.json"
        try:
            data = self.ledger.read_json(marker)
        except FileNotFoundError:
            if (self.root / "tables").is_dir():
                raise CorruptError(f"{marker} is missing", REPAIR) from None
            if not create:
                raise StoreError(
                    f"no store at {str(self.root)!r}",
                    "give --store DIR, or generate or import first",
                ) from None
            if self.root.is_dir() and any(p.name != "catalog.duckdb" for p in self.root.iterdir()):
                raise StoreError(
                    f"{str(self.root)!r} holds other files",
                    "give an empty or new folder as --store",
                ) from None
            data = {"format": STORE_FORMAT, "ledger": True}
            self.ledger.write_json(marker, data)
        self.ledger.must_exist = data.get("ledger") is True
        found = data.get("format")
        if found != STORE_FORMAT:
            raise StoreError(
                f"store {str(self.root)!r} has format {found}, this version reads {STORE_FORMAT}",
                "use the version of the factory that wrote it, or another --store",
            )

    def table(self, name: str, form: TableForm | None = None) -> Table:
        """Return a table; ``form`` is needed once for tables whose columns are their plug-in's.

        Args:
            name: ``traces``, ``verdicts.math@1``, ``scores.length@1`` …
            form: key and columns; by default that of ``records.TABLES`` for the part before the
                first dot.
        """
        check_name(name, what="table")
        folder = self.root / "tables" / name
        declared = form or TABLES.get(name.partition(".")[0])
        if name not in self._forms:
            self._forms[name] = open_form(folder, name, declared, self.ledger)
        stored = self._forms[name]
        if declared is not None and dict(stored.columns) != dict(declared.columns):
            raise StoreError(
                f"table {name!r} has columns {', '.join(stored.columns)}",
                f"its plug-in now writes {', '.join(declared.columns)}: bump its VERSION",
            )
        # What says which runs are revoked, or which records are forgotten, is never revoked.
        revoked = self.excluded_runs if name not in _ABOUT_OTHERS else list
        return Table(name, folder, stored, self.ledger, revoked=revoked, forgotten=self.forgotten)

    def tables(self) -> list[str]:
        """Return the names of all tables that exist.

        Raises:
            CorruptError: a table's ``table.json`` is lost; the message names it.
        """
        folder = self.root / "tables"
        found = {p.parent.name for p in folder.glob("*/table.json")}
        # A table that is just being made has a manifest for a moment before it has this file.
        expected = [p for p in self.ledger.expected("tables") if p.name == "table.json"]
        for path in [*expected, *folder.glob("*/part-*.parquet")]:
            lost = path.with_name("table.json")
            if path.parent.name not in found and not lost.exists():
                raise CorruptError(f"{lost} is missing, says {self.ledger.path}", REPAIR)
        return sorted(found)

    def has(self, name: str) -> bool:
        """Tell whether the table exists."""
        return name in self.tables()

    def seal(self) -> int:
        """Seal what closed writers left behind in any table; return the number of rows moved."""
        return sum(self.table(name).seal() for name in self.tables())

    def excluded_runs(self) -> list[str]:
        """Return the ids of revoked runs; their facts count as missing."""
        if not self.has("exclusions"):
            return []
        return self.table("exclusions").read(["excluded_run_id"])["excluded_run_id"].to_list()

    def forgotten(self) -> Forgotten:
        """Return the hashes of what was forgotten here (``factory forget``)."""
        if not self.has(forgotten.TABLE):
            return Forgotten([])
        return Forgotten(self.table(forgotten.TABLE).keys())

    def revoke(self, run_id: str, *, reason: str, by: str) -> None:
        """Exclude every fact of a run by one more fact; nothing is deleted."""
        row = {
            "exclusion_id": key_of(run_id),
            "excluded_run_id": run_id,
            "reason": reason,
            "created_at": now(),
            "run_id": by,
        }
        with self.table("exclusions").writer(by) as writer:
            writer.append([row])

    def start_run(self, kind: str, details: Mapping[str, Any]) -> str:
        """Record the start of a run and return its id."""
        run_id = new_run_id()
        record = {"run_id": run_id, "kind": kind, "started_at": now(), "details": details}
        self.ledger.write_json(self.root / "runs" / run_id / "run.json", record)
        return run_id

    def end_run(self, run_id: str, results: Mapping[str, Any]) -> None:
        """Record the end of a run. A run without an end was killed."""
        path = self.root / "runs" / run_id / "run.json"
        record = self.ledger.read_json(path)
        self.ledger.write_json(path, {**record, "ended_at": now(), "results": results})

    def runs(self) -> list[dict[str, Any]]:
        """Return the records of all runs, oldest first.

        Raises:
            CorruptError: a record is damaged or lost; the message names it.
        """
        found = (self.root / "runs").glob("*/run.json")
        paths = sorted({*found, *self.ledger.expected("runs")})
        return [self.ledger.read_json(p) for p in paths]

    def living_runs(self) -> list[str]:
        """Return the ids of the runs that hold a segment open at the moment."""
        paths = (self.root / "tables").glob("*/segment-*.log")
        runs = {(p, p.name.removeprefix("segment-").rpartition("-")[0]) for p in paths}
        return sorted({run for path, run in runs if path.exists() and not is_closed(path)})

    def gc(self) -> int:
        """Remove temporary files and parts whose rows others hold; return bytes freed."""
        freed = sum(self.table(name).gc() for name in self.tables())
        for tmp in self.root.glob(f"**/{TMP_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):  # finished meanwhile by its writer
                if time.time() - tmp.stat().st_mtime > 3600:
                    freed += tmp.stat().st_size
                    shutil.rmtree(tmp) if tmp.is_dir() else tmp.unlink()
        return freed


def now() -> str:
    """Return the present time, UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
