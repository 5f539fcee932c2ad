"""Runs a candidate's program against the plan of a gold, and says what happened.

Everything that is compared is compared here, outside of the box, on plain data.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory.processes import Clock
from factory.sandbox import Box, BoxError, Limits, Outcome, Tier, borrow
from factory.sandbox.plain_data import NotPlain
from factory.verifiers.code import languages
from factory.verifiers.code.gold import CodeGold, argument_of_check, candidate
from factory.verifiers.code.text import same_output


@dataclass(frozen=True)
class Found:
    """What a run found: ``reason`` is None where every test held."""

    reason: str | None
    decided_by: str


class Ours(Exception):
    """The program could not be judged through no fault of its own."""


def judge(program: str, gold: CodeGold, *, tier: Tier, limits: Limits) -> Found:
    """Run every test of the gold, cheapest first, until one does not hold.

    Raises:
        BoxError: the box failed.
        Ours: the language cannot be run here.
    """
    found = Found(None, "none")
    if gold.language not in ("python", "python3", "py"):
        return _compiled(program, gold, tier, limits)
    if gold.checks:
        found = _calls(program, gold, tier, limits)
    if found.reason is None and gold.tests.code:
        found = _tests(program, gold, tier, limits)
    if found.reason is None and gold.streams:
        found = _streams(program, gold, tier, limits)
    return found


# --- whole programs ------------------------------------------------------------------------------


def _streams(program: str, gold: CodeGold, tier: Tier, limits: Limits) -> Found:
    source = "\n".join(part for part in (gold.prefix, program) if part)
    with borrow(tier, libraries=gold.libraries) as box:
        for stream in gold.streams:
            outcome = _run_fairly(
                box, "program", {"program": source}, stdin=stream.stdin.encode(), limits=limits
            )
            reason = _reason(outcome) or _compare(outcome, stream.expected, gold.tolerance)
            if reason:
                return Found(reason, "stdin")
    return Found(None, "stdin")


def _compiled(program: str, gold: CodeGold, tier: Tier, limits: Limits) -> Found:
    if gold.checks or gold.tests.code:
        raise Ours("tests_not_for_language")
    language = languages.known(gold.language)
    if language is None:
        raise Ours("unknown_language")
    if not language.installed():
        raise Ours(f"missing_compiler_{language.compiler}")
    if tier != "bwrap":
        raise Ours("compiler_needs_bwrap")
    with borrow(tier, compilers=True) as box:
        job = {"program": program, **language.job()}
        made = box.run("command", job, limits=languages.COMPILE_LIMITS)
        if made.code == 87:
            raise Ours(f"missing_compiler_{language.compiler}")
        if made.ended != "exited" or made.code or not made.stdout:
            return Found("compile_error" if made.ended == "exited" else made.ended, "compile")
        for stream in gold.streams:
            outcome = _run_fairly(
                box, "binary", {}, stdin=stream.stdin.encode(), limits=limits, program=made.stdout
            )
            reason = _reason(outcome) or _compare(outcome, stream.expected, gold.tolerance)
            if reason:
                return Found(reason, "stdin")
    return Found(None, "stdin")


def _compare(outcome: Outcome, expected: str, tolerance: float) -> str | None:
    got = outcome.stdout.decode("utf-8", errors="replace")
    return None if same_output(got, expected, tolerance) else "wrong"


def _reason(outcome: Outcome) -> str | None:
    """Name the fault of an ended program; None where it ended well."""
    if outcome.ended != "exited":
        return outcome.ended
    if outcome.code == 0:
        return None
    error = outcome.stderr[-300:]
    return (
        "syntax_error"
        if b"SyntaxError" in error or b"IndentationError" in error
        else "runtime_error"
    )


def _run_fairly(
    box: Box,
    mode: str,
    sample: dict[str, Any],
    *,
    stdin: bytes,
    limits: Limits,
    program: bytes | None = None,
) -> Outcome:
    """Run; an end that may be the machine's doing is tried once more, alone.

    Raises:
        BoxError: it was disturbed again.
    """
    outcome = box.run(mode, sample, stdin=stdin, limits=limits, program=program)
    if outcome.disturbed:
        with _alone():
            outcome = box.run(mode, sample, stdin=stdin, limits=limits, program=program)
    return _undisturbed(outcome)


def _undisturbed(outcome: Outcome) -> Outcome:
    if outcome.disturbed and outcome.ended == "exited":
        raise BoxError("a sample was killed by neither side")
    return outcome


class _alone:
    """Holds one lock for all second tries on this machine."""

    def __enter__(self) -> None:
        path = Path(tempfile.gettempdir()) / f"factory-alone-{os.getuid()}"
        self.held = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self.held, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self.held)


# --- calls ---------------------------------------------------------------------------------------


def _calls(program: str, gold: CodeGold, tier: Tier, limits: Limits) -> Found:
    sample = {**candidate(program, gold), "batch": True}
    requests = b"".join(json.dumps(c.request).encode() + b"\n" for c in gold.checks)
    with borrow(tier, libraries=gold.libraries) as box:
        outcome = _run_fairly(box, "calls", sample, stdin=requests, limits=limits)
    return Found(_judge_frames(outcome, gold), "calls")


def _judge_frames(outcome: Outcome, gold: CodeGold) -> str | None:
    if outcome.ended != "exited":
        return outcome.ended
    frames: list[Any] = []
    for line in outcome.stdout.split(b"\n")[:-1]:
        try:
            frames.append(json.loads(line))
        except (ValueError, RecursionError):
            return "output_tampered"
    if not frames:
        return "runtime_error"
    if len(frames) > 1 + len(gold.checks) or not all(type(f) is dict for f in frames):
        return "output_tampered"
    if frames[0] != {"ready": True}:
        return _raised(frames[0])
    for check, frame in zip(gold.checks, frames[1:], strict=False):
        if "ok" not in frame:
            return _raised(frame)
        try:
            if not check.holds(frame["ok"]):
                return "wrong"
        except (
            NotPlain,
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            ArithmeticError,
            RecursionError,
        ):
            return "result_not_plain"
    # fewer answers than calls: the program left in the middle of one
    return None if len(frames) == 1 + len(gold.checks) else "runtime_error"


def _raised(frame: dict[str, Any]) -> str:
    name = str(frame.get("error"))
    return {
        "SyntaxError": "syntax_error", "IndentationError": "syntax_error",
        "TabError": "syntax_error", "MemoryError": "memory_limit", "NotPlain": "result_not_plain",
    }.get(name, "runtime_error")  # fmt: skip


# --- tests of any shape --------------------------------------------------------------------------


def _tests(program: str, gold: CodeGold, tier: Tier, limits: Limits) -> Found:
    """Run the test code in a box of its own, the candidate in another.

    They speak with each other, and the tests alone with us: nothing that the candidate sends can
    be read as their report.
    """
    found, stretched = _tests_once(program, gold, tier, limits)
    if found.reason == "time_limit" and stretched:
        with _alone():
            found, _ = _tests_once(program, gold, tier, limits)
    return found


def _tests_once(program: str, gold: CodeGold, tier: Tier, limits: Limits) -> tuple[Found, bool]:
    sample = {**candidate(program, gold), "batch": False}
    tests = {
        "tests": gold.tests.code, "prefix": gold.prefix, "setup": gold.setup,
        "asked": gold.tests.asked, "standard": gold.tests.standard, "wanted": gold.entry_point,
        "entry_point": argument_of_check(gold),
    }  # fmt: skip
    report: dict[str, Any] | None = None
    shown = gold.libraries
    with borrow(tier, libraries=shown) as theirs, borrow(tier, libraries=shown) as ours:
        # one works while the other waits: one clock, and what either waited for a core is left out
        servers = [box.launched.server for box in (theirs, ours)]
        clock = Clock(limits.wall_s, lambda: theirs.pids() + ours.pids(), servers)
        with theirs.talk("calls", sample, limits) as program_box:
            first = _frame(program_box.line(clock))
            if first is not None and first != {"ready": True}:
                return Found(_raised(first), "tests_apart"), False
            if program_box.held:  # before it was asked anything
                return Found("output_tampered", "tests_apart"), False
            if first is not None:
                own = replace(limits, cpu_s=limits.cpu_s * 2)
                asked = ours.ask("tests", tests, own, program_box, clock)
                report = _report(_undisturbed(asked))
        outcome = _undisturbed(theirs.last)
    if report is None:
        late = outcome.ended == "exited" and outcome.cpu_s < limits.cpu_s and outcome.code > 0
        ended = outcome.ended if outcome.ended not in ("exited", "stopped") else "time_limit"
        return Found("runtime_error" if late else ended, "tests_apart"), clock.stretched
    if report.get("held") is True:
        return Found(None, "tests_apart"), False
    return Found(str(report.get("failed", "runtime_error")), "tests_apart"), False


def _report(tests: Outcome) -> dict[str, Any] | None:
    """Return what the tests report; None: they or the program left before."""
    if tests.ended != "exited" or tests.code != 0:
        return None
    try:
        return dict(json.loads(tests.stderr.splitlines()[-1])["report"])
    except (ValueError, KeyError, TypeError, IndexError):  # the test code itself wrote there
        return {"failed": "tests_disturbed"}


def _frame(line: bytes | None) -> dict[str, Any] | None:
    """Return a line as a mapping; what is none counts as an error of the candidate."""
    if line is None:
        return None
    try:
        frame = json.loads(line)
    except (ValueError, RecursionError):
        frame = None
    return frame if isinstance(frame, dict) else {"error": "?"}


__all__ = ["BoxError", "Found", "Ours", "judge"]
