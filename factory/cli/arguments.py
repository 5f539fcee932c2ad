"""What parsers of verbs share: their complaints, how values are read, options that several have."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import math
import re
from collections.abc import Sequence
from typing import NoReturn

DEFAULT_STORE = "data"


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line; a misspelt choice gets the nearest one."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave with status 2."""
        found = re.fullmatch(r"(.*invalid choice: )'(.*)' \(choose from (.*)\)", message, re.DOTALL)
        if found:
            known = re.findall(r"'([^']+)'", found[3])
            near = difflib.get_close_matches(found[2], known, n=3)
            shown = " or ".join(near) if near else ", ".join(known)
            message = f"{found[1]}{found[2]!r}: {'did you mean ' if near else 'known: '}{shown}"
        self.exit(2, f"{self.prog}: {' '.join(message.split())}: `{self.prog} --help` shows all\n")


class VerbParser(Parser):
    """A verb's parser: what it does not know is its own complaint, not that of the command."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, and refuse what is left over."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def add_common(p: argparse.ArgumentParser) -> None:
    """Add what every verb takes."""
    group = p.add_mutually_exclusive_group()
    group.add_argument("-q", "--quiet", action="store_true", help="no remarks, no progress")
    group.add_argument("-v", "--verbose", action="store_true",
                       help="libraries log; a mistake shows where it was found")  # fmt: skip


def count(text: str) -> int:
    """Read a whole number of 1 or more, for ``type=``."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def count_or_0(text: str) -> int:
    """Read a whole number of 0 or more, for ``type=``."""
    return 0 if text == "0" else count(text)


def money(text: str) -> float:
    """Read an amount above 0, for ``type=``."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no amount above 0")


def similarity(text: str) -> float:
    """Read a similarity above 0 and at most 1, for ``type=``."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and at most 1")


def port(text: str) -> int:
    """Read a port, for ``type=``."""
    if text.isdecimal() and int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to 65535, or 0 for a free one")


def add_files(p: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the files of a verb that works on plain ones."""
    p.add_argument(
        "input",
        metavar="IN",
        nargs=None if required else "?",
        default=None,
        help="JSON Lines (.gz, .zst) or Parquet; - is standard input",
    )
    p.add_argument(
        "--out",
        metavar="OUT",
        required=required,
        help="output; its ending chooses the form; - prints",
    )
    p.add_argument(
        "--map",
        metavar="NAME=COLUMN",
        action="append",
        default=[],
        help="read NAME from the input's COLUMN, e.g. completion=output",
    )
    p.add_argument("--prefix", metavar="P", default="", help="put P before the new columns")


def add_store(p: argparse.ArgumentParser) -> None:
    """Add ``--store``."""
    p.add_argument(
        "--store", metavar="DIR", default=None, help=f"store directory (default: {DEFAULT_STORE})"
    )


def add_pair(p: argparse.ArgumentParser, flag: str, metavar: str, text: str) -> None:
    """Add an option that is given as often as wanted."""
    dest = {"--set": "overrides"}.get(flag, flag.removeprefix("--").replace("-", "_"))
    p.add_argument(flag, metavar=metavar, action="append", default=[], help=text, dest=dest)


def add_figures(p: argparse.ArgumentParser) -> None:
    """Add ``--json`` for a verb's figures."""
    p.add_argument("--json", action="store_true", help="print its figures as one JSON object")


def add_form(p: argparse.ArgumentParser) -> None:
    """Add the printed forms of a table."""
    group = p.add_mutually_exclusive_group()
    for form in ("json", "csv", "md"):
        group.add_argument(
            f"--{form}", dest="form", action="store_const", const=form, help=f"print {form}"
        )
    p.set_defaults(form="table")


def add_recipe(p: argparse.ArgumentParser) -> None:
    """Add a recipe, what wins over it, and the store."""
    p.add_argument("recipe", metavar="RECIPE", help="YAML file")
    add_pair(p, "--set", "KEY=VALUE", "wins over the recipe; dotted keys reach inside")
    add_store(p)
