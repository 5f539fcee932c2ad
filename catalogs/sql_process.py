"""The process that answers a user's SELECT and that its parent can kill (``query.stream``).

DuckDB's own limits do not hold against every statement: a scalar function is not interrupted by
the clock, and intermediate strings are not counted by ``memory_limit``. Here the kernel holds them.
The process has a hard memory limit, sees no environment, writes no file, opens no socket, reads
nothing but the store's files and what Python itself needs, and dies with its parent.

One request comes in (JSON, from standard input); messages go out, each one line of JSON: the
columns, rows in batches, and an end or an error. Values that JSON lacks are tagged (``encode``).
Nothing heavy but DuckDB is imported here, since every query starts such a process.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
import os
import re
import resource
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import IO, Any

import duckdb

from factory.errors import UsageError

BATCH_ROWS = 256
MESSAGE_BYTES = 64 << 20
"""Of one line at most; a batch of rows that is longer is sent row by row."""
_TAG = "$"
_HEAD = re.compile(
    r"(?:\s|--[^\n]*(?:\n|$))*"
    r"(?:(EXPLAIN\s+(?:ANALYZE\s+)?(?:\(\s*FORMAT\s+\w+\s*\)\s*)?)|(PIVOT|FROM|SELECT)\b)",
    re.IGNORECASE,
)
"""What a text begins with: (1) EXPLAIN and how, or (2) the first word. Comments of lines may stand
before it; of blocks not, as DuckDB nests them: ``/* /* */ SELECT */ COPY …`` begins with COPY."""
_PROBLEMS = (
    "SELECT release || '/' || version, problem FROM catalog.releases WHERE problem IS NOT NULL"
)
_READ = ("/proc", "/sys/devices/system", "/sys/fs/cgroup", "/usr/share/zoneinfo", "/etc/localtime")


# ---- values


def encode(value: Any) -> Any:
    """Return a value of DuckDB in JSON; what JSON lacks is ``{"$": kind, "v": text}``.

    >>> decode(json.loads(json.dumps(encode([1, decimal.Decimal("1.50"), None]))))
    [1, Decimal('1.50'), None]
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list):
        return [encode(v) for v in value]
    if isinstance(value, tuple):
        return {_TAG: "tuple", "v": [encode(v) for v in value]}
    if isinstance(value, dict):
        return {_TAG: "dict", "v": [[encode(k), encode(v)] for k, v in value.items()]}
    if isinstance(value, bytes | bytearray | memoryview):
        return {_TAG: "bytes", "v": bytes(value).hex()}
    if isinstance(value, datetime.timedelta):
        return {_TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}
    for kind, (type_, write, _) in _KINDS.items():
        if type(value) is type_:
            return {_TAG: kind, "v": write(value)}
    return str(value)


def decode(value: Any) -> Any:
    """Return what ``encode`` was given."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    kind, inner = value[_TAG], value["v"]
    if kind == "tuple":
        return tuple(decode(v) for v in inner)
    if kind == "dict":
        return {decode(k): decode(v) for k, v in inner}
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind == "timedelta":
        return datetime.timedelta(*inner)
    return _KINDS[kind][2](inner)


_KINDS: dict[str, tuple[type, Any, Any]] = {
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "datetime": (
        datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat
    ),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "uuid": (uuid.UUID, str, uuid.UUID),
}  # fmt: skip


# ---- the answer


def answer(
    con: duckdb.DuckDBPyConnection, text: str, max_rows: int | None, memory: str, pipe: IO[bytes]
) -> None:
    """Run one SELECT and send its columns and rows, at most ``max_rows``, and how it ended."""
    try:
        statement = one_select(con, text)
        result = con.execute(statement)
        columns = [d[0] for d in result.description or []]
        problems = con.cursor().execute(_PROBLEMS).fetchall()
        _send(pipe, {"columns": columns, "problems": problems})
        left = max_rows
        while left is None or left > 0:
            rows = result.fetchmany(BATCH_ROWS if left is None else min(left, BATCH_ROWS))
            if not rows:
                break
            left = None if left is None else left - len(rows)
            _send_rows(pipe, rows)
        more = left == 0 and bool(result.fetchmany(1))
        _send(pipe, {"end": True, "more": more})
    except UsageError as error:
        _send(pipe, {"error": [error.what, error.todo]})
    except (duckdb.Error, RuntimeError) as error:
        _send(pipe, {"error": explained(error, memory)})


def one_select(con: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
    """Return the one statement of a text, parsed.

    An EXPLAIN is one where what it explains is, since ANALYZE runs that. A PIVOT without an IN list
    is two for DuckDB: it makes a temporary type of the values that it finds, then selects. Nothing
    else that counts as several begins with PIVOT, FROM or SELECT.

    Raises:
        UsageError: there is none, or more than one, or it is no SELECT.
    """
    statements = con.extract_statements(text)
    if len(statements) != 1:
        found = "more than one statement" if statements else "no statement"
        raise UsageError(f"{found}: {text.strip()[:60]!r}", "give one SELECT")
    kind, begins = statements[0].type, _HEAD.match(text)
    if kind == duckdb.StatementType.EXPLAIN and begins and begins[1]:
        one_select(con, text[begins.end() :])
        return statements[0]
    if kind == duckdb.StatementType.MULTI and begins and begins[2]:
        return statements[0]
    if kind != duckdb.StatementType.SELECT:
        name = str(kind).rpartition(".")[2].replace("_STATEMENT", "")
        raise UsageError(
            f"{name} is not allowed", "give one SELECT; it reads the catalog and changes nothing"
        )
    return statements[0]


_TEXT = re.compile(r'column "?(completion|reasoning|answer|prompt_text|prompt)"? ')


def explained(error: Exception, memory: str) -> list[str]:
    """Turn DuckDB's message into what happened, in one line, and what to do."""
    detail = " ".join(str(error).partition("LINE 1:")[0].split())[:300]
    todo = "correct the SQL"
    if isinstance(error, duckdb.PermissionException) or "disabled" in detail:
        todo = "SQL here reads the catalog and the store's own files only"
    elif isinstance(error, duckdb.OutOfMemoryException) or "bad_alloc" in detail:
        todo = f"it wants more than {memory}: narrow it, or open the catalog with DuckDB itself"
    elif isinstance(error, duckdb.CatalogException):
        todo = "`factory ls` names the tables"
    elif isinstance(error, duckdb.BinderException) and _TEXT.search(detail):
        todo = "texts stand in trace_texts and prompt_texts: JOIN trace_texts USING (trace_id)"
    elif isinstance(error, duckdb.BinderException):
        todo = "`factory show wide` names its columns; verifiers and scores add theirs"
    return [detail, todo]


def _send_rows(pipe: IO[bytes], rows: Sequence[tuple[Any, ...]]) -> None:
    lines = [json.dumps([encode(v) for v in row]) for row in rows]
    if sum(map(len, lines)) < MESSAGE_BYTES:
        pipe.write(b'{"rows":[' + ",".join(lines).encode() + b"]}\n")
        pipe.flush()
        return
    for line in lines:
        if len(line) >= MESSAGE_BYTES:
            raise UsageError(
                f"one row is {len(line) >> 20} MiB", "ask for less of it, such as left(text, 1000)"
            )
        pipe.write(b'{"rows":[' + line.encode() + b"]}\n")
    pipe.flush()


def _send(pipe: IO[bytes], message: Mapping[str, Any]) -> None:
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()


# ---- the process


def confine(readable: Sequence[str], memory_bytes: int) -> None:
    """Give up, for ever, all that answering a SELECT does not need; where the kernel can do it.

    What no kernel refuses: core dumps and memory. Landlock (what may be read) and seccomp (no
    socket, no new process) are left out where they are not to be had; DuckDB's bars hold there.
    """
    from factory.sandbox.inside import kernel

    with contextlib.suppress(kernel.KernelError):
        kernel.die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Anonymous memory alone: address space that DuckDB reserves and never touches is free.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with contextlib.suppress(kernel.KernelError):
        kernel.no_new_privileges()
        own = [p for p in (*sys.path, sys.prefix, sys.base_prefix) if p]
        ruleset = kernel.make_landlock([*readable, *own, *_READ], ["/dev/null"])
        try:
            kernel.enter_landlock(ruleset)
        finally:
            os.close(ruleset)
    with contextlib.suppress(kernel.KernelError):
        kernel.prepared_seccomp(kernel.seccomp_filter(allow_fork=False))()


def main() -> None:
    """Answer the request on standard input."""
    parent = int(sys.argv[1])
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix into the answer
    line = sys.stdin.buffer.readline()
    if not line or os.getppid() != parent:
        return
    request = json.loads(line)
    confine(request["readable"], request["memory_bytes"])
    memory = f"{request['memory_bytes'] >> 20} MiB"
    with contextlib.suppress(BrokenPipeError):
        try:
            with duckdb.connect(":memory:") as con:
                for setting in request["settings"]:
                    con.execute(setting)
                answer(con, request["query"], request["max_rows"], memory, pipe)
        except MemoryError:
            _send(pipe, {"error": explained(duckdb.OutOfMemoryException("no memory"), memory)})
        except duckdb.Error as error:
            _send(pipe, {"error": explained(error, memory)})


if __name__ == "__main__":
    main()
