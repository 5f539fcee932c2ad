"""SQL by a user, on the catalog and the store's own files, and on nothing else.

What holds the statement in:

* it runs in a process of its own (``catalogs.sql_process``) with a hard memory limit, which is
  killed when its time is up, when its caller is interrupted, and when its caller dies;
* it is parsed once; exactly one statement, a SELECT (``DESCRIBE``, ``SUMMARIZE`` and ``SHOW`` are
  such), and that parsed statement is what runs;
* the catalog is attached read-only; external access is off, except for the Parquet parts, each
  named by its path. (A permitted folder could also be written to by DuckDB; a permitted file only
  by COPY, which is no SELECT.) No extension is installed or loaded, no Python variable is visible,
  no setting can be changed, nothing spills to disk;
* on Linux the process can write no file, open no socket, start no other process and, with
  Landlock, read nothing but the store's files: that holds even where DuckDB has a fault.

The answer comes back as a stream of rows; ``run`` takes at most ``MAX_BYTES`` of it.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from catalogs import build, sql_process
from factory.errors import UsageError
from factory.rows.answers import Answer, unique_names
from factory.store import Store, wide
from factory.store.wide import literal

MAX_ROWS = 1000
TIMEOUT_S = 60.0
MEMORY_BYTES = 4 << 30
MAX_BYTES = 256 << 20
_TRIES = 3
_GONE = re.compile("IO Error: .*(does not exist|No files found|No such file)")
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
"""What the process sees of the environment: it may hold keys and passwords."""
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
        close = difflib.get_close_matches(name, known, n=3)
        tried = f"try {', '.join('@' + c for c in close)}; " if close else ""
        raise UsageError(f"no query @{name[:40]}", f"{tried}`factory ls` lists")
    return (_QUERIES / f"{name}.sql").read_text("utf-8")


@contextlib.contextmanager
def stream(
    store: Store,
    query: str,
    *,
    max_rows: int | None = MAX_ROWS,
    timeout_s: float = TIMEOUT_S,
    refresh: bool = True,
    memory_bytes: int = MEMORY_BYTES,
    spare: Spare | None = None,
) -> Iterator[Rows]:
    """Answer one SELECT, or a named query, as rows that come while they are read.

    Safe from any thread. On leaving, the process that answers is ended, whatever it is doing.

    Args:
        store: whose catalog is asked; built first where it is older than the store.
        query: SQL, or ``@name``.
        max_rows: rows at most, None for all; ``Rows.has_more`` says whether some were left out.
        timeout_s: wall seconds from the start of the query, reading included.
        refresh: whether to look if the catalog is older than the store.
        memory_bytes: hard limit of the process's memory.
        spare: where a process waits already; its own limit of memory holds then.

    Raises:
        UsageError: it is no single SELECT, names what is not there, reaches for what it must not,
            wanted too much memory or took too long; one line each, some only while reading.

    >>> import tempfile
    >>> with stream(Store(tempfile.mkdtemp()), "SELECT 1 AS a UNION ALL SELECT 2") as rows:
    ...     rows.columns, list(rows)
    (('a',), [[(1,), (2,)]])
    """
    text = text_of(query)
    for left in reversed(range(_TRIES)):
        try:
            # Started first: it loads DuckDB while the catalog is looked after here.
            with spare.take() if spare is not None else _Process(memory_bytes) as process:
                path = build.ensure(store) if refresh else build.path_of(store)
                lists = build.beside_writers(store, lambda: wide.part_lists(store))
                files = [p.absolute() for parts in lists.values() for p in parts]
                try:
                    rows = process.ask(path, files, text, max_rows, timeout_s)
                except UsageError as error:
                    if left and refresh and _GONE.match(error.what):
                        continue  # `forget` takes the catalog and its parts away at once
                    raise
                yield rows
                return
        finally:
            if spare is not None:
                spare.refill()


class Asked(TypedDict, total=False):
    """What ``stream`` takes beside the question, and means by it."""

    max_rows: int | None
    timeout_s: float
    refresh: bool
    memory_bytes: int
    spare: Spare | None


def run(store: Store, query: str, **asked: Unpack[Asked]) -> Answer:
    """Answer one SELECT, or a named query, whole; arguments as those of ``stream``.

    Raises:
        UsageError: as ``stream``; or the answer is larger than ``MAX_BYTES``.
    """
    start = time.perf_counter()
    found: list[tuple[Any, ...]] = []
    with stream(store, query, **asked) as rows:
        for batch in rows:
            found += batch
            if rows.n_bytes > MAX_BYTES:
                raise UsageError(
                    f"the answer is larger than {MAX_BYTES >> 20} MiB",
                    "ask for fewer rows or columns, or open the catalog with DuckDB itself",
                )
    seconds = time.perf_counter() - start
    note = "; ".join(notes_of(rows, len(found)))
    return Answer(rows.columns, found, note=note, seconds=seconds)


def notes_of(rows: Rows, n: int) -> list[str]:
    """Return what should be known of an answer whose first ``n`` rows were read."""
    notes = []
    if rows.has_more:
        notes = [f"only the first {n} rows are shown; --limit N shows more, 0 all"]
    return notes + [f"release {name} is left out: {why}" for name, why in rows.problems]


class Rows:
    """Rows that come in batches while the query runs; made by ``stream``.

    Attributes:
        columns: names, each once.
        n_bytes: of the answer so far, as it was sent.
        has_more: whether rows were left out at the end, once all were read.
        problems: (release/version, why) of the releases that the catalog could not read.
    """

    def __init__(self, messages: Iterator[tuple[dict[str, Any], int]]) -> None:
        self._messages = messages
        head, self.n_bytes = next(messages)
        self.columns = unique_names(head["columns"])
        self.problems = [(str(name), str(why)) for name, why in head["problems"]]
        self.has_more = False

    def __iter__(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yield batches of rows."""
        for message, n_bytes in self._messages:
            self.n_bytes += n_bytes
            if "end" in message:
                self.has_more = message["more"]
                return
            yield [tuple(sql_process.decode(row)) for row in message["rows"]]


class _Process:
    """The process that answers, and this end of its pipes."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        root = str(Path(__file__).resolve().parent.parent)
        kept = {k: v for k, v in os.environ.items() if k in _ENVIRONMENT}
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "catalogs.sql_process", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**kept, "PYTHONPATH": paths, "MALLOC_ARENA_MAX": "2"},
            start_new_session=True,  # Ctrl-C is for the caller, who ends us
        )

    @property
    def waits(self) -> bool:
        """Whether it is there to be asked."""
        return self._process.poll() is None

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def ask(
        self, path: Path, files: list[Path], text: str, max_rows: int | None, timeout_s: float
    ) -> Rows:
        """Send the one request, and return the rows that will come."""
        request = {
            "settings": settings(path, files, self._memory_bytes),
            # Folders of parts rather than thousands of parts; DuckDB opens those named alone.
            "readable": [str(path), *sorted({str(f.parent) for f in files})],
            "memory_bytes": self._memory_bytes,
            "query": text,
            "max_rows": max_rows,
        }
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: said when its answer is read
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return Rows(self._messages(time.monotonic() + timeout_s, timeout_s))

    def _messages(self, deadline: float, timeout_s: float) -> Iterator[tuple[dict[str, Any], int]]:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        data = bytearray()
        poller = select.poll()  # select() cannot watch descriptors above 1023
        poller.register(fd, select.POLLIN | select.POLLHUP)
        while True:
            end = data.find(b"\n")
            if end >= 0:
                message = json.loads(data[:end])
                del data[: end + 1]
                if "error" in message:
                    raise UsageError(*message["error"])
                yield message, end
                continue
            left = deadline - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                raise UsageError(
                    f"the query was stopped after {timeout_s:g} s",
                    "narrow it, or open the catalog with DuckDB itself",
                )
            block = os.read(fd, 1 << 20)
            if not block:
                raise UsageError(self._last_words(), "narrow it, or open the catalog with DuckDB")
            data += block

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        return (
            f"the query ended its process (exit {self._process.returncode}), most likely over its "
            f"limit of {self._memory_bytes >> 20} MiB of memory"
        )


class Spare:
    """A process that waits for the next query, so that who asks often need not wait for it.

    A process answers one query and ends; to start one takes longer than most queries. Safe from
    any thread, of which the one that takes must live as long as the query runs.

    Args:
        memory_bytes: hard limit of each process's memory.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._waiting: _Process | None = _Process(memory_bytes)
        self._is_closed = False

    def take(self) -> _Process:
        """Return the process that waits; a new one where none does."""
        with self._lock:
            taken, self._waiting = self._waiting, None
        return taken if taken is not None and taken.waits else _Process(self._memory_bytes)

    def refill(self) -> None:
        """Start the next one: only when an answer is there, since starting takes a core."""
        with self._lock:
            if self._waiting is None and not self._is_closed:
                self._waiting = _Process(self._memory_bytes)

    def close(self) -> None:
        """End the process that waits, and start no more."""
        with self._lock:
            self._is_closed = True
            if self._waiting is not None:
                self._waiting.__exit__()
            self._waiting = None


def settings(path: Path, files: Sequence[Path], memory_bytes: int) -> list[str]:
    """Return the statements after which a DuckDB reads the catalog and ``files`` and no more.

    The catalog is attached to a database of its own rather than opened: settings would otherwise
    be shared with (and refused by) other connections to the same path.
    """
    allowed = ", ".join(literal(str(p)) for p in files)
    return [
        f"ATTACH {literal(str(path))} AS catalog (READ_ONLY)",
        "USE catalog",
        "SET autoinstall_known_extensions = false",
        "SET autoload_known_extensions = false",
        "SET python_enable_replacements = false",
        "SET temp_directory = ''",
        # Its own count comes first: it says what happened, where the kernel's limit only ends it.
        f"SET memory_limit = '{memory_bytes * 3 // 4}B'",
        f"SET allowed_paths = [{allowed}]",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ]
