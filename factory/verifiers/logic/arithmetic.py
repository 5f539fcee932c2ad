r"""Countdown and the game of 24: an expression of the given numbers, each once, with a value.

Read exactly and by our own rules. reasoning-gym's scorers take no LaTeX and no "= 26" behind the
expression, and the one of the game of 24 looks neither at which numbers are used nor behind the
decimal point.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

_MAX_CHARS = 400
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SIGNS = (
    (re.compile(r"\\left|\\right|\\[ ,;:!]|\\q?quad|\$|\\\(|\\\)|\\\[|\\\]|[`*]{2,}(?=\s|$)"), ""),
    (re.compile(r"\\times(?![a-z])|\\cdot(?![a-z])|\\ast(?![a-z])|[×·∙⋅✕✖*]"), "*"),
    (re.compile(r"(?<=[\d)\s])[xX](?=[\d(\s])"), "*"),
    (re.compile(r"\\div(?![a-z])|[÷∕⁄:]"), "/"),
    (re.compile("[−–—]"), "-"),
    (re.compile(r"[\[{]"), "("),
    (re.compile(r"[\]}]"), ")"),
)
_SHOWN = re.compile(r"=|\\approx(?![a-z])|≈|\\Rightarrow|→|->|⇒")
_PLAIN = re.compile(r"[-+*/()\d\s]+")


def plain(text: str) -> str:
    r"""Write an expression with ``+ - * / ( )`` alone where that can be done.

    >>> plain(r"\frac{6}{2} \times \left(7 − 5\right)")
    '((6)/(2)) * (7 - 5)'
    """
    for _ in range(6):
        text, n = _FRACTION.subn(r"((\1)/(\2))", text)
        if not n:
            break
    for pattern, sign in _SIGNS:
        text = pattern.sub(sign, text)
    return text.strip()


def value_of(expression: str) -> tuple[Fraction, list[int]] | None:
    """Return the value of an expression and the numbers in it; None where it is none.

    >>> value_of("3*7+5")
    (Fraction(26, 1), [3, 7, 5])
    """
    if len(expression) > _MAX_CHARS or not _PLAIN.fullmatch(expression) or "**" in expression:
        return None
    try:
        tree = ast.parse(expression.strip().replace("\n", " "), mode="eval")
        numbers: list[int] = []
        return _value(tree.body, numbers), numbers
    except (ValueError, SyntaxError, RecursionError, MemoryError, ZeroDivisionError):
        return None


def _value(node: ast.expr, numbers: list[int]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value < 10**12:
        numbers.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        inner = _value(node.operand, numbers)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, numbers), _value(node.right, numbers)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
    raise ValueError("no arithmetic")


def numbers_and_target(task: str, gold: Mapping[str, Any]) -> tuple[list[int], Fraction] | None:
    """Return what has to be used and reached; None where the gold does not say it."""
    metadata = gold.get("metadata") or {}
    numbers: Any = metadata.get("numbers")
    target: Any = metadata.get("target", 24 if task == "puzzle24" else None)
    try:
        return sorted(int(n) for n in numbers), Fraction(target)
    except (TypeError, ValueError):
        return None


def solves(answer: str, numbers: list[int], target: Fraction) -> bool | None:
    r"""Tell whether an answer is such an expression; None where it is no arithmetic at all.

    ``26 = …`` and ``… = 26`` say the target beside it; each side shown must have its value.

    >>> numbers, target = [3, 5, 7], Fraction(26)
    >>> [solves(a, numbers, target) for a in ("5 + 3*7", r"3 \times 7 + 5 = 26", "3*7+5=27", "26")]
    [True, True, False, False]
    """
    if len(answer) > _MAX_CHARS:
        return None
    sides = [value_of(plain(side)) for side in _SHOWN.split(answer.strip().rstrip(". "))]
    read = [side for side in sides if side is not None]
    if not read or len(read) < len(sides):
        return None
    if any(value != target for value, _ in read):
        return False
    # the target beside the expression, and steps that lead on from it, use other numbers
    return sorted(read[0][1]) == numbers or (
        len(read[0][1]) == 1 and sorted(read[-1][1]) == numbers
    )
