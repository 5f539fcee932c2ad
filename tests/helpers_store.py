"""A writer, a sealer and a reader of one table, as processes that a test kills."""

from __future__ import annotations

import sys
from pathlib import Path

from factory.records import TableForm
from factory.records.ids import key_of
from factory.store import Store

FORM = TableForm("k", {"k": "text", "n": "int", "s": "text", "run_id": "text"})


def write(root: str, acknowledged: str, start: int, step: int) -> None:
    """Append rows start, start + step, … and note each batch once it is committed."""
    table = Store(root).table("t", FORM)
    run = f"w{start}"
    n = start
    with table.writer(run) as writer, Path(acknowledged).open("a") as log:
        while True:
            batch = [n + i * step for i in range(16)]
            writer.append(
                [{"k": key_of(i), "n": i, "s": f"row {i} " * 20, "run_id": run} for i in batch]
            )
            log.write("".join(f"{i}\n" for i in batch))
            log.flush()
            n = batch[-1] + step


def seal(root: str) -> None:
    """Seal again and again, and read in between: no key may ever be seen twice."""
    table = Store(root).table("t", FORM)
    while True:
        table.seal()
        keys = table.keys()
        assert keys.n_unique() == len(keys), "a key was read twice"


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    if kind == "write":
        write(arguments[0], arguments[1], int(arguments[2]), int(arguments[3]))
    else:
        seal(arguments[0])
