"""The ``factory`` command. Parsers here; each verb's work is imported when it is called.

Exit status: 0 every row handled; 1 some malformed or failed through our own fault; 2 usage error.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

DEFAULT_STORE = "data"


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}: `{self.prog} --help` shows the options\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = _Parser(
        prog="factory",
        description="Build datasets of verified reasoning traces: generate, verify, score, select, "
        "release; query them with SQL.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for name, summary, add in VERBS:
        verb = verbs.add_parser(name, help=summary, description=summary)
        add(verb)
    return parser


def _files(p: argparse.ArgumentParser, *, required: bool = True) -> None:
    p.add_argument("input", metavar="IN", nargs=None if required else "?",
                   help="JSON Lines (.gz, .zst) or Parquet; - is standard input")  # fmt: skip
    p.add_argument(
        "--out",
        metavar="OUT",
        required=required,
        help="output; its ending chooses the form; - prints",
    )
    p.add_argument("--map", metavar="NAME=COLUMN", action="append", default=[],
                   help="read NAME from the input's COLUMN, e.g. completion=output")  # fmt: skip
    p.add_argument("--prefix", metavar="P", default="", help="put P before the new columns")


def _store(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--store", metavar="DIR", default=None, help=f"store directory (default: {DEFAULT_STORE})"
    )


def _verify(p: argparse.ArgumentParser) -> None:
    _files(p)
    p.add_argument(
        "--verifier",
        metavar="NAME",
        help="name or path of a .py file (default: each row's, else math)",
    )
    p.add_argument(
        "--mode",
        metavar="M",
        help="mode of the math verifier: boxed or auto (default on files: auto)",
    )
    p.add_argument(
        "--option", metavar="KEY=VALUE", action="append", default=[], help="option of the verifier"
    )
    p.add_argument("--workers", metavar="N", type=int, help="processes (default: cores)")
    p.set_defaults(run="factory.cli_files:verify")


def _score(p: argparse.ArgumentParser) -> None:
    _files(p)
    p.add_argument("--scores", metavar="A,B", help="names or paths, comma separated (default: all)")
    p.add_argument(
        "--param",
        metavar="SCORE.KEY=VALUE",
        action="append",
        default=[],
        help="parameter of a score",
    )
    p.set_defaults(run="factory.cli_files:score")


def _doctor(p: argparse.ArgumentParser) -> None:
    p.add_argument("--json", action="store_true", help="print JSON")
    p.set_defaults(run="factory.cli_files:doctor")


Adder = Callable[[argparse.ArgumentParser], None]
VERBS: list[tuple[str, str, Adder]] = [
    ("verify", "verify completions against their golds", _verify),
    ("score", "measure completions: language, readability, repetition, length", _score),
    ("doctor", "say what this machine can do: devices, engines, sandbox tiers", _doctor),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_cli(build_parser(), argv)


def run_cli(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse, run the verb, and turn a user's mistake into one line."""
    from factory.errors import FactoryError

    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    module, _, function = args.run.partition(":")
    run: Callable[[Any], int] = getattr(importlib.import_module(module), function)
    try:
        return run(args)
    except FactoryError as error:
        print(f"{parser.prog} {args.verb}: {_one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{parser.prog} {args.verb}: stopped; what was committed is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) went away; that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
