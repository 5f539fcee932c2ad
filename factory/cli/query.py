"""The verbs that look into a store: sql, ls, show, sample, diff, browse."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable

from catalogs import show as catalog
from catalogs.printing import sample as print_sample
from catalogs.query import MAX_ROWS
from factory.cli.common import in_colour, note, out, store_of, waiting
from factory.rows.answers import printable

_ASKED = "the catalog is asked"
"""Said while a catalog is built, or a large one answers."""


def sql(args: Namespace) -> int:
    """``factory sql "SELECT …"`` or ``@query``."""
    store, notes = store_of(args), list[str]()
    found: Iterable[str]
    if args.form == "table":
        limit = MAX_ROWS if args.limit is None else args.limit
        with waiting(_ASKED):
            text, remark = catalog.sql(store, args.query, limit=limit)
        found, notes = [text], [remark]
    else:
        limit = args.limit or 0
        found = catalog.sql_pieces(store, args.query, form=args.form, limit=limit, notes=notes)
    # Texts are written by models: on a terminal no control character of theirs has an effect.
    on_terminal = sys.stdout.isatty()
    for piece in found:
        lines = "\n".join(printable(line) for line in piece.split("\n"))
        sys.stdout.write(lines if on_terminal else piece)
    note("; ".join(notes))
    return 0


def ls(args: Namespace) -> int:
    """``factory ls``."""
    with waiting(_ASKED):
        text = catalog.ls(store_of(args), form=args.form)
    out(text)
    return 0


def show(args: Namespace) -> int:
    """``factory show NAME``."""
    with waiting(_ASKED):
        text = catalog.show(store_of(args), args.name, form=args.form, colour=in_colour())
    out(text)
    return 0


def sample(args: Namespace) -> int:
    """``factory sample NAME``."""
    with waiting(_ASKED):
        text = print_sample(
            store_of(args),
            args.name,
            n=args.n,
            dropped_by=args.dropped_by,
            where=args.where,
            seed=args.seed,
            full=args.full,
            colour=in_colour(),
            form=args.form,
        )
    out(text)
    return 0


def diff(args: Namespace) -> int:
    """``factory diff A B``: what changed between two releases, and why."""
    from catalogs.diff import diff as compare

    with waiting(_ASKED):
        text = compare(store_of(args), args.before, args.after, form=args.form)
    out(text)
    return 0


def browse(args: Namespace) -> int:
    """``factory browse``: the local web application."""
    from pathlib import Path

    from factory.browse.server import serve
    from factory.cli.common import say

    def ready(address: str) -> None:
        say(address)
        note("Ctrl-C ends it. The address holds the key to this store: do not pass it on.")

    store, roots = store_of(args), [Path(m) for m in args.models]
    serve(store, port=args.port, author=args.author, roots=roots, on_ready=ready)
    return 0
