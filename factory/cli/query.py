"""The verbs that look into a store: sql, ls, show, sample, diff."""

from __future__ import annotations

import sys
from argparse import Namespace

from catalogs import show as catalog
from factory.cli.common import note, out, store_of
from factory.rows.answers import printable


def sql(args: Namespace) -> int:
    """``factory sql "SELECT …"`` or ``@query``."""
    text, remark = catalog.sql(store_of(args), args.query, form=args.form, limit=args.limit)
    # Texts are written by models: on a terminal no control character of theirs has an effect.
    on_terminal = sys.stdout.isatty()
    out("\n".join(printable(line) for line in text.split("\n")) if on_terminal else text)
    note(remark)
    return 0


def ls(args: Namespace) -> int:
    """``factory ls``."""
    out(catalog.ls(store_of(args), form=args.form))
    return 0


def show(args: Namespace) -> int:
    """``factory show NAME``."""
    out(catalog.show(store_of(args), args.name, form=args.form))
    return 0


def sample(args: Namespace) -> int:
    """``factory sample NAME``."""
    out(
        catalog.sample(
            store_of(args),
            args.name,
            n=args.n,
            dropped_by=args.dropped_by,
            seed=args.seed,
            form=args.form,
        )
    )
    return 0


def diff(args: Namespace) -> int:
    """``factory diff A B``: what changed between two releases, and why."""
    from catalogs.diff import diff as compare

    out(compare(store_of(args), args.before, args.after, form=args.form))
    return 0
