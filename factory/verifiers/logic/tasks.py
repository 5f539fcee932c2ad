"""Procedural tasks: reasoning-gym's own scorers, kept from evaluating model text.

Several of those scorers hand the answer to ``eval`` or to sympy's ``parse_expr``, which evaluates
Python. Such an answer reaches them only when it has the form of a literal or of an expression,
checked here first. A scorer that evaluates text and is not known here is refused. Countdown and the
game of 24 are scored by ``arithmetic``.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import io
import itertools
import json
import re
import warnings
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from factory.verifiers.logic import arithmetic

PASSES = 0.999
"""A scorer's value from which an answer passes: partial credit is no pass."""
_MAX_ANSWER_CHARS = 20_000
# Whose scorers evaluate the answer, by what it has to be before they see it: a literal, or an
# expression for sympy; those of arithmetic are not asked.
LITERAL_TASKS = {
    "string_insertion",
    "spiral_matrix",
    "binary_matrix",
    "n_queens",
    "number_sorting",
}
ARITHMETIC_TASKS = {"countdown", "puzzle24"}
SYMBOLIC_TASKS = {"simple_integration", "intermediate_integration", "polynomial_multiplication"}
# tasks whose modules evaluate their own text only (questions, never answers)
_OWN_TEXT_TASKS = {"basic_arithmetic", "bitwise_arithmetic", "codeio", "propositional_logic"}
# one scorer calls every answer right that Python holds for true, one "0" for every small number
_WORD_TASKS = {"game_of_life_halting"}
_SMALL_NUMBERS = {"coin_flip"}
_EXAMPLES = ("possible_answer", "example_answer", "example_correct_answer")
_EVALUATES = re.compile(r"\b(?:eval|exec|parse_expr|sympify|parse_latex)\(")
_PLAIN_WORDS = re.compile(r"[\w\s.,;:|/\\+=<>?!-]*")
_SYMBOLIC = re.compile(
    r"(?:\d{1,12}(?:\.\d{1,12})?|\*\*\s*(?:-?\d{1,3}(?!\s*\*\*)|\([-\d\s/]{1,12}\)(?!\s*\*\*))|"
    r"(?<!\*)\*(?!\*)|[-+/()\s=]|(?:a?sin|a?cos|a?tan|sinh|cosh|tanh|exp|log|ln|sqrt|pi|Abs|erf|C|E|[a-zA-Z])\b)*"
)


class NotScored(Exception):
    """No scorer can be asked; the text is the reason."""


def harmless(task: str, answer: str) -> bool:
    """Tell whether the task's scorer may see the answer.

    >>> harmless("binary_matrix", "[[1, 0]]"), harmless("binary_matrix", "__import__('os')")
    (True, False)
    >>> harmless("simple_integration", "x**2/2 + C"), harmless("simple_integration", "x.func")
    (True, False)
    """
    if len(answer) > _MAX_ANSWER_CHARS:
        return False
    if task in LITERAL_TASKS:
        return bool(_PLAIN_WORDS.fullmatch(answer)) or _is_literal(answer)
    if task in SYMBOLIC_TASKS:
        return len(answer) <= 500 and bool(_SYMBOLIC.fullmatch(answer))
    return True


def _is_literal(answer: str) -> bool:
    if answer.count("[") + answer.count("(") + answer.count("{") > 2000:
        return False
    try:
        ast.literal_eval(answer)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return False
    return True


@functools.cache
def scorer_of(task: str) -> Callable[[str, Mapping[str, Any]], float]:
    """Return the task's own scorer.

    Raises:
        NotScored: no such task, or its scorer would evaluate text in a way not known here.
    """
    with warnings.catch_warnings():  # third-party modules warn when they are first compiled
        warnings.simplefilter("ignore")
        import reasoning_gym
        from reasoning_gym.factory import DATASETS

        if task not in DATASETS:
            raise NotScored("unknown_task")
        dataset_class, config_class = DATASETS[task]
        known = LITERAL_TASKS | ARITHMETIC_TASKS | SYMBOLIC_TASKS | _OWN_TEXT_TASKS
        if task not in known and _EVALUATES.search(
            inspect.getsource(inspect.getmodule(dataset_class) or reasoning_gym)
        ):
            raise NotScored("scorer_evaluates_text")
        try:
            scorer: Callable[[str, Mapping[str, Any]], float] = dataset_class(
                config=config_class(size=1, seed=0)
            ).score_answer
        except TypeError:
            scorer = dataset_class(config=config_class()).score_answer
        return scorer


def _as_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _as_tuples(v) for k, v in value.items()}
    return tuple(_as_tuples(v) for v in value) if isinstance(value, list) else value


def score(gold: Mapping[str, Any], answers: list[str]) -> float | None:
    """Return the best score of the readings of one answer, None where the scorer takes none.

    Args:
        gold: ``task``, ``answer`` and ``metadata``, as the procedural source writes them.
        answers: the answer as it stands, and without its LaTeX.

    Raises:
        NotScored: the gold names no task that can be scored.
    """
    task = str(gold.get("task"))
    if task in ARITHMETIC_TASKS:
        return _arithmetic(task, gold, answers)
    if task in _WORD_TASKS:
        wanted = str(gold.get("answer")).casefold()
        return float(any(answer.strip().casefold() == wanted for answer in answers))
    scorer = scorer_of(task)
    metadata = gold.get("metadata") or {}
    entries = [
        {"question": gold.get("question", ""), "answer": gold.get("answer"), "metadata": form}
        # JSON made lists of the tuples that some scorers compare with
        for form in (metadata, _as_tuples(metadata))
    ]
    best: float | None = None
    for answer, entry in itertools.product(answers, entries):
        if not answer or not harmless(task, answer):
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # some say there what they dislike
                value = float(scorer(answer, entry))
        except Exception:  # noqa: BLE001 - third-party scorers raise what they like on odd answers
            continue
        if task in _SMALL_NUMBERS and not _is_near(answer, str(gold.get("answer"))):
            value = min(value, 0.5)
        best = value if best is None else max(best, value)
    return best


def _arithmetic(task: str, gold: Mapping[str, Any], answers: list[str]) -> float | None:
    wanted = arithmetic.numbers_and_target(task, gold)
    if wanted is None:
        raise NotScored("bad_gold")
    found = [arithmetic.solves(answer, *wanted) for answer in answers]
    read = [is_right for is_right in found if is_right is not None]
    return float(any(read)) if read else None


def _is_near(answer: str, wanted: str) -> bool:
    try:
        number, gold = Fraction(answer.replace(",", "")), Fraction(wanted.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return True  # no number: the scorer alone decides
    return abs(number - gold) <= abs(gold) / 100


def example_of(gold: Mapping[str, Any]) -> str | None:
    """Return a right answer: the gold's, else one of many that its metadata shows.

    >>> example_of({"answer": None, "metadata": {"possible_answer": {"0": 1}}})
    '{"0": 1}'
    """
    metadata = gold.get("metadata") or {}
    found = [gold.get("answer"), *(metadata.get(name) for name in _EXAMPLES)]
    answer = next((x for x in found if x is not None), None)
    return json.dumps(answer) if isinstance(answer, (dict, list)) else answer and str(answer)


@functools.lru_cache(maxsize=4096)
def fault_of(text: str) -> str | None:
    """Tell why a gold (its JSON text) pays nobody rightly; None where nothing is wrong with it.

    Its own answer, or the example that its metadata shows, must pass; and what proves a
    contradiction proves whatever is said.

    Raises:
        NotScored: the gold names no task that can be scored.
    """
    gold = json.loads(text)
    right = example_of(gold)
    if right is not None and (score(gold, [right]) or 0.0) < PASSES:
        return "bad_gold"
    if gold.get("task") == "propositional_logic":
        name = next(iter((gold.get("metadata") or {}).get("variables") or ["P"]))
        if (score(gold, [f"({name} ∧ ¬{name})"]) or 0.0) > 0.2:
            return "bad_gold: vacuous"
    return None
