"""Verifier of programs: standard input and output, function calls, assertions.

The candidate runs in the sandbox; expected outputs never enter it, and what comes out is compared
outside, on plain data. ``decided_by`` says how: ``stdin``, ``calls`` (assertions turned into calls
compared outside), ``tests_apart`` (test code of any shape in a box of its own, the candidate in
another: objects stay on their side, functions of the tests are called back), ``compile``.

The gold is a mapping or its JSON text::

    {"language", "entry_point"?, "setup"?, "prefix"?, "solution"?, "libraries"?,
     "test_cases": [{"input", "output", "type": "stdin_stdout" | "fn_call", "fn_name"?},
                    {"type": "assert", "code"}]}

``prefix`` runs before the program (or is continued by it, where the program is the body of the
function that the prefix begins), ``setup`` after it. What the tests import or ``libraries`` names
(numpy, and others of ``factory.sandbox.libraries`` that are installed) programs may import, too.
"""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import Any

from factory.errors import Refused
from factory.records import Item, Verdict
from factory.sandbox import BoxError, Limits, choose, retrying
from factory.verifiers.code.fences import program_of
from factory.verifiers.code.forms import is_tests
from factory.verifiers.code.gold import BadGold, CodeGold, read_gold
from factory.verifiers.code.run import Found, Ours, judge
from factory.verifiers.code.sanity import Sanity, mutants
from factory.verifiers.code.text import language_name

VERSION = 6
DEADLINE_S = 300.0
MEMORY_BYTES = 2 << 30
OPTIONS = ("cpu_s", "wall_s", "memory_mb", "float_tolerance", "prelude")
MOST_PER_ROW = {"cpu_s": 60, "wall_s": 600, "memory_mb": 4096, "float_tolerance": 1e-2}

_MAX_PROGRAM_CHARS = 200_000
_SHOWN_CHARS = 400
_BYTE_ORDER_MARK = re.compile("^\ufeff", re.MULTILINE)
"""Python takes it at the head of a file; a program may be made of several fences."""


def fits_gold(gold: object) -> bool:
    """Tell whether a gold without a verifier is a set of tests, in any form that is read."""
    return is_tests(gold)


def ready(**options: Any) -> None:
    """Refuse before any work where no sandbox tier holds.

    Raises:
        Refused: with each tier's exact error and its fix.
    """
    choose()


def quick(item: Item, **options: Any) -> Verdict | None:
    """Settle what needs no run: no program, or a gold that is none."""
    verdict, _, _ = _prepare(item, options)
    return verdict


def verify(item: Item, **options: Any) -> Verdict:
    """Run the program of the answer against every test of the gold.

    Args:
        item: the program is what ``fences.program_of`` finds; all of the answer where there is no
            fence.
        options: ``cpu_s`` (6) and ``wall_s`` (5 × that, without the time in which it waited for a
            core) per run, ``memory_mb`` (1024) per process,
            ``float_tolerance`` (0: exact) of floats in function-call tests and of printed numbers
            (assertions say their own), ``prelude`` (true):
            functions find the names that graders of functions usually import (``math``, ``re``,
            ``List``, ``Counter`` …); a whole program has to import what it uses.

    Returns:
        ``pass``; ``fail`` with ``no_code``, ``wrong``, ``runtime_error``, ``syntax_error``,
        ``compile_error``, ``result_not_plain``, ``output_tampered``, ``time_limit``,
        ``memory_limit`` or ``output_limit``; ``unscored`` with ``bad_gold`` (``bad_gold: needs
        numpy``, ``bad_gold: vacuous: …`` where tests ask or assert nothing), ``no_sandbox``,
        ``sandbox_failed``, ``missing_compiler_…``, ``unknown_language``.
    """
    verdict, program, gold = _prepare(item, options)
    if verdict is not None or gold is None:
        return verdict or Verdict.unscored("bad_gold")
    shown = program[:_SHOWN_CHARS]
    try:
        tier = choose()
        limits = _limits(options)
        found: Found = retrying(lambda: judge(program, gold, tier=tier, limits=limits))
    except Refused:
        return Verdict.unscored("no_sandbox", extracted=shown)
    except BoxError:
        return Verdict.unscored("sandbox_failed", extracted=shown)
    except Ours as ours:
        return Verdict.unscored(str(ours), decided_by="language", extracted=shown)
    if found.reason is None:
        return Verdict.passed(decided_by=found.decided_by, extracted=shown)
    return Verdict.failed(found.reason, decided_by=found.decided_by, extracted=shown)


def as_completion(gold: Any, **options: Any) -> str:
    """Return the gold's reference solution as a completion; '' where none can be read from it."""
    try:
        held = read_gold(gold)
    except BadGold:
        return ""  # whatever is answered, its verdict is ``bad_gold``
    return f"```{held.language}\n{held.solution}\n```" if held.solution else ""


def sanity(
    gold: Any, *, solution: str | None = None, most_mutants: int = 8, **options: Any
) -> Sanity:
    """Tell whether a gold is worth generating for: its reference passes, mutants of it fail.

    Args:
        gold: the tests.
        solution: the reference; by default the gold's own.
        most_mutants: Python only; 0 checks the reference alone.
        options: those of ``verify``.

    Returns:
        What was found; a gold without a reference has the reason ``no_solution``.
    """
    try:
        held = read_gold(gold)
    except BadGold as bad:
        return Sanity(reason=_named(bad))
    solution = held.solution if solution is None else solution
    if not solution:
        return Sanity(reason="no_solution")

    def judged(program: str) -> Verdict:
        fence = "`" * 8  # longer than any fence that a docstring could hold
        return verify(
            Item(text=f"{fence}{held.language}\n{program}\n{fence}", gold=gold), **options
        )

    own = judged(solution)
    if own.status != "pass":
        return Sanity(reason=own.reason, is_ours=own.status == "unscored")
    whole, _ = _join(solution, held)
    made = mutants(whole, most=most_mutants) if language_name(held.language) == "python" else []
    survivors = tuple(what for what, program in made if judged(program).status == "pass")
    return Sanity(
        reason=None, n_mutants=len(made), n_killed=len(made) - len(survivors), survivors=survivors
    )


def gold_fault(gold: Any, **options: Any) -> str | None:
    """Tell what makes a gold that passes itself not worth generating for; None where nothing does.

    Tests that most mutants of their own reference pass say little about a candidate.
    """
    found = sanity(gold, **options)
    if found.is_sane or found.is_ours or found.reason == "no_solution":
        return None
    n_passed = found.n_mutants - found.n_killed
    return found.reason or f"weak_tests: {n_passed} of {found.n_mutants} mutants pass"


def _named(bad: BadGold) -> str:
    """Return the reason of a verdict: what is missing, and tests that say nothing, by name."""
    text = str(bad)
    return f"bad_gold: {text}" if text.startswith(("needs ", "vacuous")) else "bad_gold"


def _limits(options: dict[str, Any]) -> Limits:
    cpu_s = max(1, round(float(options.get("cpu_s", 6))))
    return Limits(
        cpu_s=cpu_s,
        wall_s=float(options.get("wall_s", 5 * cpu_s)),
        memory_bytes=int(options.get("memory_mb", 1024)) << 20,
    )


def _prepare(item: Item, options: dict[str, Any]) -> tuple[Verdict | None, str, CodeGold | None]:
    try:
        gold = read_gold(item.gold, tolerance=float(options.get("float_tolerance", 0.0)))
    except BadGold as bad:
        return Verdict.unscored(_named(bad), decided_by="gold"), "", None
    runs = bool(gold.streams) and not gold.wanted
    program = program_of(item.answer, gold.language, gold.wanted, runs=runs)
    if program is None:
        return Verdict.failed("no_code", decided_by="extraction"), "", None
    if len(program) > _MAX_PROGRAM_CHARS:
        return Verdict.failed("too_long", decided_by="extraction"), "", None
    if "\x00" in program:
        return Verdict.failed("syntax_error", decided_by="extraction"), "", None
    gold = replace(gold, prelude=bool(options.get("prelude", True)))
    return None, *_join(_BYTE_ORDER_MARK.sub("", program.replace("\r\n", "\n")), gold)


def _join(program: str, gold: CodeGold) -> tuple[str, CodeGold]:
    """Let the program continue the prefix where it is the body of what the prefix begins."""
    if not gold.prefix:
        return program, gold
    first = next((line for line in program.split("\n") if line.strip()), "")
    if first[:1] in (" ", "\t") or not _parses(gold.prefix):
        return gold.prefix.rstrip("\n") + "\n" + program, replace(
            gold, prefix=_imports(gold.prefix)
        )
    return program, gold


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _imports(prefix: str) -> str:
    """Keep what a test box may use of a prefix that the program has swallowed: all that parses."""
    return prefix if _parses(prefix) else ""
