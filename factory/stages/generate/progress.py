"""Live figures of a generate run, in a terminal as one line in place, elsewhere as plain log lines.

Both go to standard error: standard output belongs to data.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

LOG_EVERY_S = 30.0
DRAW_EVERY_S = 0.2


@dataclass
class Progress:
    """Live figures of a run, handed to ``on_progress`` after every commit.

    Attributes:
        n_prompts: prompts in the job; n_prompts_done: those that want no further sample;
            n_prompts_done_before: those of them that did so at the start.
        n_have: wanted traces that were there before; n_new: made in this run.
        n_pass, n_fail, n_unscored: verdicts of this run's traces.
        n_truncated, n_aborted: traces of this run that our limit or an abort rule ended.
        n_thinking_closed: traces of this run whose thinking we closed at its budget.
        n_in_flight: requests with the engine; n_checking: traces with the verifiers.
        n_failed: requests given up; n_retried: requests asked again.
        failures: kind of failure → requests given up for it.
        n_wanted_at_most: prompts × the policy's limit.
        n_prompt_tokens, n_completion_tokens: of this run.
        seconds: wall seconds since the start; gpu_seconds: those × the engine's devices.
        check_seconds: CPU-side wall seconds of verification, summed over its threads.
        cost: money of this run by the given price; None where no price was given.
        waits_for: what the engine waits for, such as a server that starts; None where nothing.
    """

    n_prompts: int = 0
    n_prompts_done: int = 0
    n_prompts_done_before: int = 0
    n_have: int = 0
    n_new: int = 0
    n_pass: int = 0
    n_fail: int = 0
    n_unscored: int = 0
    n_truncated: int = 0
    n_aborted: int = 0
    n_thinking_closed: int = 0
    n_in_flight: int = 0
    n_checking: int = 0
    n_failed: int = 0
    n_retried: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    n_wanted_at_most: int = 0
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    check_seconds: float = 0.0
    cost: float | None = None
    waits_for: str | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Completion tokens per wall second; None before anything was made."""
        return self.n_completion_tokens / self.seconds if self.seconds and self.n_new else None

    @property
    def eta_s(self) -> float | None:
        """Seconds until the prompts are done at the pace so far; None where there is no pace.

        From the prompts that want nothing more: with a closed loop nobody knows how many samples
        will be asked, but every prompt ends.
        """
        left = self.n_prompts - self.n_prompts_done
        if not left:
            return 0.0
        made = self.n_prompts_done_now
        return self.seconds / made * left if made > 0 and self.seconds else None

    @property
    def n_prompts_done_now(self) -> int:
        """Prompts that this run brought to their end."""
        return self.n_prompts_done - self.n_prompts_done_before


def line_of(progress: Progress) -> str:
    """Return the figures as one line.

    >>> line_of(Progress(n_prompts=4, n_prompts_done=2, n_new=6, n_pass=3, seconds=2.0,
    ...     n_completion_tokens=600))
    'prompts 2/4 | traces 6 | pass 3 fail 0 | in flight 0 | checking 0 | 300 tok/s | ETA 2 s'
    """
    p = progress
    parts = [
        f"prompts {p.n_prompts_done}/{p.n_prompts}",
        f"traces {p.n_new}" + (f" (+{p.n_have} there)" if p.n_have else ""),
        f"pass {p.n_pass} fail {p.n_fail}" + (f" unscored {p.n_unscored}" if p.n_unscored else ""),
        f"in flight {p.n_in_flight}",
        f"checking {p.n_checking}",
    ]
    if p.n_failed:
        parts.append(f"given up {p.n_failed}")
    if p.tokens_per_second is not None:
        parts.append(f"{p.tokens_per_second:.0f} tok/s")
    if p.cost is not None:
        parts.append(f"cost {p.cost:.2f}")
    if p.eta_s is not None:
        parts.append(f"ETA {duration(p.eta_s)}")
    if p.waits_for is not None:
        parts.append(p.waits_for)
    return " | ".join(parts)


def duration(seconds: float) -> str:
    """Return seconds in the unit that fits.

    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class View:
    """Shows progress: pass it as ``on_progress``; ``close`` ends the line.

    Args:
        stream: default: standard error.
        every_s: seconds between two lines of a plain log.

    >>> import io
    >>> out = io.StringIO()
    >>> view = View(out)
    >>> view(Progress(n_prompts=1)); view.close()
    >>> out.getvalue().count("\\n")
    1
    """

    def __init__(self, stream: TextIO | None = None, *, every_s: float = LOG_EVERY_S) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._every_s = DRAW_EVERY_S if self._is_terminal else every_s
        self._next = 0.0
        self._last: Progress | None = None
        self._shown = ""

    def __call__(self, progress: Progress) -> None:
        """Show the figures, not more often than is useful."""
        self._last = progress
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every_s
            self._show(line_of(progress))

    def close(self) -> None:
        """Show the final figures and end the line."""
        if self._last is not None:
            line = line_of(self._last)
            if line != self._shown:
                self._show(line)
            if self._is_terminal:
                self._stream.write("\n")
                self._stream.flush()

    def _show(self, line: str) -> None:
        self._shown = line
        if self._is_terminal:
            self._stream.write(f"\r\x1b[K{line}")
        else:
            self._stream.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        self._stream.flush()
