"""What a command prints: data on standard output; remarks, mistakes and progress on the other.

``-q`` leaves out remarks and progress, never a mistake; ``--json`` turns a verb's figures into one
JSON object on standard output, so that a script need not read sentences.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

SHOWN_AFTER_S = 2.0
LOGGED_AFTER_S = 10.0
LOG_EVERY_S = 30.0
DRAW_EVERY_S = 0.2
TICK_S = 0.5
Batch = TypeVar("Batch", bound=Sized)
_quiet = False
_as_json = False


def set_output(*, quiet: bool, as_json: bool) -> None:
    """Choose what is printed from now on.

    Args:
        quiet: leave out remarks and progress.
        as_json: standard output bears one JSON object and nothing else.
    """
    global _quiet, _as_json
    _quiet, _as_json = quiet, as_json


def out(text: str) -> None:
    """Print text that ends its own lines."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def in_colour() -> bool:
    """Tell whether standard output takes colours: a terminal, and NO_COLOR is not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def complain(text: str) -> None:
    """Print one line to standard error, whatever else is left out."""
    sys.stderr.write(text.rstrip("\n") + "\n")


def note(text: str) -> None:
    """Print one line to standard error; with ``-q`` not."""
    if text and not _quiet:
        complain(text)


def remark(text: str) -> None:
    """Print how long work goes on: to standard output, or beside it where that bears JSON.

    With ``-q`` nothing.
    """
    if _as_json:
        note(text)
    elif not _quiet:
        say(text)


def say(text: str) -> None:
    """Print one line to standard output at once, also where it goes into a file or a pipe."""
    out(text)
    sys.stdout.flush()


def tell(
    args: Namespace, figures: Mapping[str, Any], lines: Iterable[str] = (), *, on_out: bool = False
) -> None:
    """Print a verb's figures: with ``--json`` as one object, else its lines.

    Args:
        args: of the call.
        figures: names and values, those of JSON.
        lines: the same for a reader, one line each.
        on_out: whether the lines are what was asked for, and no remark.
    """
    if getattr(args, "json", False):
        import orjson

        options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        out(orjson.dumps(dict(figures), option=options, default=str).decode())
        return
    for line in lines:
        (out if on_out else note)(line)


class Counting:
    """One line that says how far long work is: in place on a terminal, now and then elsewhere.

    Pass it as ``on_count``; used as a context, so that its line ends. Nothing is shown of what is
    over within two seconds, or ten where it is no terminal. A thread draws the line again where no
    count comes for a while, as while a model is loaded.
    """

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._stream = sys.stderr
        self._begun = self._shown_at = time.monotonic()
        self._counted: tuple[str, int, int] = ("", 0, 0)
        self._is_open = False
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def __enter__(self) -> Counting:
        # Under a number of its own: what libraries write to standard error while they load is
        # sent elsewhere, and the line must show just then.
        with contextlib.suppress(OSError, ValueError):
            own = os.dup(sys.stderr.fileno())
            self._stream = os.fdopen(own, "w", encoding="utf-8", errors="replace")
        threading.Thread(target=self._tick, name="counting", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        with self._lock:
            self._end()
            if self._stream is not sys.stderr:
                self._stream.close()

    def __call__(self, label: str, done: int, total: int = 0) -> None:
        """Take a count: ``done`` of ``total`` (0: nobody knows) of what ``label`` names."""
        with self._lock:
            now = time.monotonic()
            if label != self._counted[0]:
                self._end()
                self._begun = now
            self._counted = (label, done, total)
            self._show(now)

    def _tick(self) -> None:
        while not self._is_over.wait(TICK_S):
            with self._lock:
                if self._counted[0] and not self._is_over.is_set():
                    self._show(time.monotonic())

    def _show(self, now: float) -> None:
        every = DRAW_EVERY_S if self._is_terminal else LOG_EVERY_S
        after = SHOWN_AFTER_S if self._is_terminal else LOGGED_AFTER_S
        is_first = not self._is_open and now - self._begun > after
        if _quiet or not (is_first or (self._is_open and now - self._shown_at > every)):
            return
        self._shown_at, self._is_open = now, True
        line = count_line(*self._counted, now - self._begun)
        if self._is_terminal:
            self._stream.write(f"\r\x1b[K{line}")
        else:
            self._stream.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        self._stream.flush()

    def _end(self) -> None:
        if self._is_open and self._is_terminal:
            self._stream.write("\n")
        self._is_open = False


def counted(label: str, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield batches, and say how many rows have gone by.

    Args:
        label: what is counted.
        batches: of rows.
    """
    done = 0
    with Counting() as counting:
        for batch in batches:
            yield batch
            done += len(batch)
            counting(label, done)


@contextlib.contextmanager
def waiting(label: str) -> Iterator[None]:
    """Say how long something takes that gives no count, once it takes more than two seconds."""
    with Counting() as counting:
        counting(label, 0)
        yield


def count_line(label: str, done: int, total: int, seconds: float) -> str:
    """Return how far work is as one line.

    >>> count_line("math@7", 500, 2000, 10.0)
    'math@7: 500 of 2,000 | 50 a second | ETA 30 s'
    >>> count_line("rows", 500, 0, 10.0)
    'rows: 500 | 50 a second'
    >>> count_line("rows", 4, 0, 10.0)
    'rows: 4 | 0.4 a second'
    >>> count_line("vllm starts on models/base", 0, 0, 10.0)
    'vllm starts on models/base | 10 s'
    """
    from factory.stages.generate.progress import duration

    counted = f": {done:,}" + (f" of {total:,}" if total else "") if done or total else ""
    parts = [label + counted]
    if not done:
        parts.append(duration(seconds))
    elif seconds > 0:
        rate = done / seconds
        parts.append(f"{rate:,.{0 if rate >= 10 else 1}f} a second")
        if total > done:
            parts.append(f"ETA {duration((total - done) * seconds / done)}")
    return " | ".join(parts)
