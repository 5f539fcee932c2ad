"""The verbs on plain files, as the command line calls them."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from factory.cli.common import assignments, columns, note, out, score_params, tell
from factory.errors import UsageError

if TYPE_CHECKING:
    from factory.cli.file_rows import Tally


def verify(args: Namespace) -> int:
    """``factory verify IN --out OUT``; without IN on the store."""
    from factory.cli.verify_file import verify_file

    if not _on_files(args):
        from factory.cli import store

        return store.verify(args)

    options = assignments(args.option, flag="--option")
    if args.mode is not None:
        options["mode"] = args.mode
    tally = verify_file(
        args.input,
        args.out,
        verifier=args.verifier,
        options=options,
        mapping=columns(args.map),
        prefix=args.prefix,
        n_workers=args.workers,
        disagree=args.disagree,
    )
    _tell(args, tally)
    return tally.exit_code


def score(args: Namespace) -> int:
    """``factory score IN --out OUT``; without IN on the store."""
    from factory.cli.score_file import score_file

    if not _on_files(args):
        from factory.cli import store

        return store.score(args)

    names = None if args.scores is None else [s for s in args.scores.split(",") if s]
    tally = score_file(
        args.input,
        args.out,
        scores=names,
        params=score_params(args.param),
        mapping=columns(args.map),
        prefix=args.prefix,
    )
    _tell(args, tally)
    return tally.exit_code


def dedup(args: Namespace) -> int:
    """``factory dedup IN --out OUT``."""
    from factory.cli.dedup_file import dedup_file

    _on_files(args)
    tally = dedup_file(
        args.input,
        args.out,
        column=args.column,
        threshold=args.threshold,
        ngram=args.ngram,
        mapping=columns(args.map),
        prefix=args.prefix,
    )
    _tell(args, tally)
    return tally.exit_code


def decontaminate(args: Namespace) -> int:
    """``factory decontaminate IN --against FILE… --out OUT``."""
    from factory.cli.dedup_file import decontaminate_file
    from factory.stages.overlap import ignored_texts

    _on_files(args)
    tally, notes = decontaminate_file(
        args.input,
        args.out,
        against=args.against,
        columns=args.column or None,
        ngram=args.ngram,
        mapping=columns(args.map),
        against_mapping=columns(args.against_map),
        ignore=[text for path in args.ignore_text for text in ignored_texts(path)],
        prefix=args.prefix,
    )
    for line in notes:
        note(line)
    _tell(args, tally)
    return tally.exit_code


def completion(args: Namespace) -> int:
    """``factory completion SHELL``: for both commands, to be read by the shell's own file."""
    import shtab

    import factory.cli.main as factory

    out(shtab.complete(factory.build_parser(), shell=args.shell))
    return 0


def _tell(args: Namespace, tally: Tally) -> None:
    figures = {"rows": tally.rows, "unhandled": tally.unhandled, "outcomes": tally.counts,
               "reasons": tally.reasons, "notes": tally.notes}  # fmt: skip
    tell(args, figures, [tally.line()])


_OF_FILES = ("map", "prefix", "mode", "option", "disagree")
_OF_STORES = ("diff", "on")


def _on_files(args: Namespace) -> bool:
    """Tell files from the store; half of each is a mistake, and so is what the other one takes."""
    if args.input is None and args.out is None:
        for name in _OF_FILES:
            if getattr(args, name, None):
                raise UsageError(
                    f"--{name} reads files, not a store", "give IN and --out, or leave it out"
                )
        return False
    if args.input is None or args.out is None:
        raise UsageError("IN and --out belong together", "give both, or neither to work on --store")
    if args.json and args.out == "-":
        raise UsageError("--json and --out - both print", "write the rows to a file")
    if getattr(args, "store", None) is not None:
        raise UsageError("--store and IN exclude each other", "give one of them")
    for name in _OF_STORES:
        if getattr(args, name, None) not in (None, False, "here"):
            raise UsageError(
                f"--{name} is for a store, not for files", "import them first, or leave it out"
            )
    return True


def doctor(args: Namespace) -> int:
    """``factory doctor``."""
    from factory.cli.doctor import print_table

    return print_table(as_json=args.json)
