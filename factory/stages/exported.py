"""Which exports were made of a release: a store does not reach them, but can name them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import orjson

from factory.stages.release import Release
from factory.store import Store, now

NAME = "exports.jsonl"


def note(store: Store, release: Release, *, form: str, out: str) -> None:
    """Write down where a release went; a store that cannot be written is exported all the same."""
    where = out if form == "hub" or out == "-" else str(Path(out).absolute())
    row = {"release": f"{release.name}/{release.version}", "form": form, "out": where, "at": now()}
    with contextlib.suppress(OSError, TypeError), (store.root / NAME).open("ab") as handle:
        handle.write(orjson.dumps(row) + b"\n")


def of(store: Store, release: Release) -> list[str]:
    """Return a line for each export of a release that was written down."""
    lines = []
    with contextlib.suppress(OSError):
        for line in (store.root / NAME).read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                row = orjson.loads(line)
                if row["release"] == f"{release.name}/{release.version}":
                    lines.append(f"{row['out']} is an export ({row['form']}) of {row['release']}")
    return list(dict.fromkeys(lines))
