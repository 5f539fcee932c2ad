"""What commands and scripts share: how they run, what they print, how they read their options.

Nothing heavy is loaded here, since every command starts with this module.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.cli.arguments import DEFAULT_STORE
from factory.cli.printing import (
    Counting,
    complain,
    count_line,
    in_colour,
    note,
    out,
    remark,
    say,
    set_output,
    tell,
    waiting,
)
from factory.errors import UsageError

if TYPE_CHECKING:
    from factory.engines.base import Engine
    from factory.engines.opening import Work
    from factory.records import Sampling
    from factory.store import Store

__all__ = [
    "Counting", "count_line", "in_colour", "note", "out", "remark", "say", "tell", "waiting",
]  # fmt: skip
EXTRAS = {
    "accelerate": "train", "datasets": "datasets", "peft": "train", "ray": "ray", "trl": "train",
    "python_multipart": "browse", "starlette": "browse", "uvicorn": "browse",
}  # fmt: skip
"""Package that a verb may lack → the extra that brings it."""
FUNNEL_SAYS = (
    "in: what reaches a step, in this order; drops, only this: of all traces; undefined: NULL"
)
_BEGUN = time.monotonic()


# ---- running


def version() -> str:
    """Return the installed version, and the commit where the code is a checkout."""
    import importlib.metadata
    import subprocess

    number = importlib.metadata.version("r1-factory")
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return number
    command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return number
    commit = found.stdout.strip()
    return f"{number} ({commit})" if commit else number


class Version(argparse.Action):
    """``--version``: unlike argparse's own, the version is looked up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and leave")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and leave."""
        out(f"{parser.prog} {version()}")
        parser.exit()


def run_cli(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse, run the verb, and turn a user's mistake into one line."""
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    set_output(quiet=getattr(args, "quiet", False), as_json=getattr(args, "json", False))
    module, _, function = args.run.partition(":")

    def run() -> int:
        verb: Callable[[Any], int] = getattr(importlib.import_module(module), function)
        return verb(args)

    return run_script(f"{parser.prog} {args.verb}", run, verbose=getattr(args, "verbose", False))


def run_parsed(
    name: str, args: argparse.Namespace, run: Callable[[argparse.Namespace], int | None]
) -> int:
    """Run a script with its own arguments and those of every verb (``add_common``)."""
    set_output(quiet=args.quiet, as_json=False)
    return run_script(name, lambda: run(args), verbose=args.verbose)


def run_script(name: str, run: Callable[[], int | None], *, verbose: bool = False) -> int:
    """Run ``run`` and return the exit status; a user's mistake becomes one line.

    Args:
        name: stands before the line.
        run: returns an exit status, or None for 0.
        verbose: whether libraries log what they do, and a mistake shows where it was found.
    """
    import traceback

    from factory.errors import FactoryError

    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        return run() or 0
    except FactoryError as error:
        if verbose:
            traceback.print_exc()
        complain(f"{name}: {_one_line(str(error))}")
        return error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        complain(f"{name}: {package} is not installed: pip install 'r1-factory[{EXTRAS[package]}]'")
        return UsageError.exit_code
    except KeyboardInterrupt:
        complain(f"{name}: stopped; what was committed is kept, run it again")
        return 130
    except BrokenPipeError:
        # The reader (head, less) went away; that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A disk, a right, a name: of the machine, not of the program.
        what = f"{os.fsdecode(error.filename)!r}: " if error.filename is not None else ""
        detail = _one_line(f"{what}{error.strerror or error}")
        complain(f"{name}: {detail}: nothing that was committed is lost")
        return 1
    except MemoryError:
        complain(f"{name}: the memory is used up: give it less at once, or a larger machine")
        return 1


def _one_line(text: str) -> str:
    return " ".join(text.split())


@contextlib.contextmanager
def draining() -> Iterator[threading.Event]:
    """First Ctrl-C (or SIGTERM): ask nothing new, finish and keep; second: leave at once."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        note("\nfinishing what is in flight; press Ctrl-C again to leave at once")

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


# ---- printing


def step(title: str) -> None:
    """Print the title of a stage of a script with the seconds since the process began."""
    say(f"\n[{time.monotonic() - _BEGUN:5.0f} s] {title}")


def funnel_lines(funnel: Iterable[Mapping[str, Any]], *, kept: int) -> list[str]:
    """Return a selection's funnel as lines of text, the one form in which it is printed.

    Args:
        funnel: ``Selected.funnel``, or that of a release's manifest: one mapping per step.
        kept: traces that are kept.

    >>> one = {"name": "right", "is_on": True, "n_in": 4, "n_dropped": 1, "n_dropped_only": 1,
    ...     "n_undefined": 0}
    >>> for line in funnel_lines([one], kept=3):
    ...     print(line)
    step                           in    drops  only this  undefined
    right                           4        1          1          0
    kept                            3
    in: what reaches a step, in this order; drops, only this: of all traces; undefined: NULL
    """
    lines = [f"{'step':24}{'in':>9}{'drops':>9}{'only this':>11}{'undefined':>11}"]
    for f in funnel:
        off = "" if f["is_on"] else "  (off)"
        lines.append(
            f"{f['name'][:23]:24}{f['n_in']:>9}{f['n_dropped']:>9}{f['n_dropped_only']:>11}"
            f"{f['n_undefined']:>11}{off}"
        )
    return [*lines, f"{'kept':24}{kept:>9}", FUNNEL_SAYS]


# ---- reading options


def store_of(args: argparse.Namespace, *, create: bool = False) -> Store:
    """Open the store that ``--store``, or FACTORY_STORE, names."""
    from factory.store import Store

    return Store(folder_of(args), create=create)


def folder_of(args: argparse.Namespace) -> str:
    """Return the folder of the store that ``--store``, or FACTORY_STORE, names.

    Raises:
        UsageError: it is a file.
    """
    folder: str = args.store or os.environ.get("FACTORY_STORE") or DEFAULT_STORE
    if Path(folder).is_file():
        raise UsageError(f"store {folder!r} is a file", "give --store the folder of a store")
    return folder


def assignments(words: list[str], *, flag: str) -> dict[str, Any]:
    """Read ``KEY=VALUE`` words; values are YAML.

    >>> assignments(["mode=boxed", "n=3"], flag="--option")
    {'mode': 'boxed', 'n': 3}
    """
    import yaml

    from factory.config import yaml_value

    out: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {word!r}", f"write it as {flag} KEY=VALUE")
        try:
            out[key] = yaml_value(text)
        except yaml.YAMLError:
            out[key] = text
    return out


def score_params(words: list[str]) -> dict[str, dict[str, Any]]:
    """Read ``SCORE.KEY=VALUE`` words of ``--param``.

    >>> score_params(["language.min_words=3"])
    {'language': {'min_words': 3}}
    """
    params: dict[str, dict[str, Any]] = {}
    for key, value in assignments(words, flag="--param").items():
        name, dot, parameter = key.rpartition(".")
        if not dot:
            raise UsageError(f"--param {key}", "write it as SCORE.KEY=VALUE")
        params.setdefault(name, {})[parameter] = value
    return params


def columns(words: list[str]) -> dict[str, str]:
    r"""Read ``NAME=COLUMN`` words of ``--map``: paths, templates and constants, letter by letter.

    >>> columns(["prompt={instruction}\\n{input}", "model==R1"])
    {'prompt': '{instruction}\n{input}', 'model': '=R1'}
    """
    out = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name or not text:
            raise UsageError(f"--map {word!r}", "write it as --map NAME=COLUMN")
        out[name] = text.replace("\\n", "\n").replace("\\t", "\t")
    return out


def sampling_of(fields: dict[str, Any], *, seed: int | None) -> Sampling:
    """Return the sampling of a recipe; ``seed`` wins over its own."""
    from factory.records import Sampling

    if isinstance(fields.get("stop"), str):  # not its letters
        fields = {**fields, "stop": (fields["stop"],)}
    known = {f.name: f.default is dataclasses.MISSING for f in dataclasses.fields(Sampling)}
    lacking = [n for n, is_needed in known.items() if is_needed and n not in fields]
    if stray := [name for name in fields if name not in known]:
        raise UsageError(f"sampling has no key {stray[0]!r}", f"known: {', '.join(known)}")
    if lacking:
        raise UsageError(
            f"sampling lacks {' and '.join(lacking)}", "`factory recipe generate` shows a whole one"
        )
    try:
        return Sampling(**{**fields, **({} if seed is None else {"seed": seed})})
    except (TypeError, ValueError) as error:
        raise UsageError(f"sampling: {error}", "temperature, top_p … are numbers") from None


def start_engine(
    kind: str, model: str, settings: Mapping[str, Any], *, work: Work | None = None
) -> Engine:
    """Start an engine as ``open_engine`` does, and say how long it takes."""
    from factory.engines.opening import open_engine

    with waiting(f"engine {kind} starts on {model}"):
        return open_engine(kind, model, settings, work=work)
