"""The ``distill`` command: train and check students. Parsers here; work is imported when called.

Exit status: 0 done; 1 refused or failed; 2 usage error. Every mistake of a user is one line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from factory.cli import run_cli

Adder = Callable[[argparse.ArgumentParser], None]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="distill", description="Train students on releases, with TRL; check before training."
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary, add in VERBS:
        add(verbs.add_parser(name, help=summary, description=summary))
    return parser


def _training(p: argparse.ArgumentParser) -> None:
    p.add_argument("student", metavar="STUDENT", help="a name in distill/students, or a .yaml path")
    p.add_argument("data", metavar="DATA", help="prompt-completion rows: .jsonl, .parquet, folder")
    p.add_argument("--base", metavar="MODEL", help="instead of the student file's base")
    p.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                   help="over the student file, e.g. trl.learning_rate=1e-4")  # fmt: skip
    p.add_argument("--max-rows", metavar="N", type=int, help="use the first N rows only")


def _sft(p: argparse.ArgumentParser) -> None:
    _training(p)
    p.add_argument("--out", metavar="DIR", required=True, help="folder of the trained model")
    p.add_argument("--seed", type=int, default=0)
    p.set_defaults(run="distill.cli:sft")


def _preflight(p: argparse.ArgumentParser) -> None:
    _training(p)
    p.add_argument("--example", action="store_true", help="print the first row as the model reads")
    p.set_defaults(run="distill.cli:preflight")


VERBS: list[tuple[str, str, Adder]] = [
    ("sft", "train a student on a release, or go on where a run was stopped", _sft),
    ("preflight", "check what a training run would see, and train nothing", _preflight),
]


def _say(line: str) -> None:
    print(line, flush=True)


def sft(args: argparse.Namespace) -> int:
    """Run ``distill sft``."""
    from distill.sft import SftConfig
    from distill.sft import sft as train

    fields = ("student", "data", "base", "overrides", "max_rows", "out", "seed")
    config = SftConfig.make({name: getattr(args, name) for name in fields}, where="distill sft")
    _say(str(train(config, say=_say)))
    return 0


def preflight(args: argparse.Namespace) -> int:
    """Run ``distill preflight``."""
    from pathlib import Path

    from distill.sft import check, load_student

    student = load_student(args.student, overrides=args.overrides, base=args.base)
    seen = check(student, Path(args.data), max_rows=args.max_rows)
    for line in seen.lines():
        _say(line)
    if args.example:
        _say(f"--- prompt, no loss\n{seen.example.prompt}")
        _say(f"--- completion, with loss\n{seen.example.completion}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_cli(build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
