"""Verifier of verifiable instructions: the IFEval types (length, format, case, keywords, language).

The gold is a mapping or its JSON text: ``{"instruction_ids": ["punctuation:no_comma", …],
"kwargs": [{…}, …]}``. A completion passes when its answer, without the thinking, follows all.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Mapping
from typing import Any

from factory.records import Item, Verdict
from factory.verifiers.constraints.checks import CHECKS
from factory.verifiers.constraints.golds import fault_of

VERSION = 3
DEADLINE_S = 10.0
OPTIONS = ("loose",)
_MAX_CHARS = 500_000


def fits_gold(gold: object) -> bool:
    """Tell whether a gold without a verifier is a list of instructions."""
    if isinstance(gold, str) and gold.lstrip()[:1] == "{" and '"instruction_id' in gold:
        try:
            gold = json.loads(gold)
        except (ValueError, RecursionError):
            return False
    return isinstance(gold, Mapping) and bool(
        {"instruction_ids", "instruction_id_list"} & set(gold)
    )


def verify(item: Item, *, loose: bool = False) -> Verdict:
    """Judge whether the answer follows every instruction of the gold.

    Args:
        item: with a gold of the form above.
        loose: also accept what follows an instruction once a first or last line or the asterisks
            are taken away (IFEval's loose accuracy).

    Returns:
        ``fail`` with ``not_followed``, and the types that were not in ``extracted``; ``unscored``
        with ``bad_gold`` (also where an instruction asks nothing, or two exclude each other) or
        ``unknown_instruction``.

    >>> gold = {"instruction_ids": ["punctuation:no_comma"], "kwargs": [{}]}
    >>> [verify(Item(text=text, gold=gold)).status for text in ("One two", "One, two")]
    ['pass', 'fail']
    """
    gold = item.gold
    try:
        if isinstance(gold, Mapping):
            gold = json.dumps(gold)
        wanted, fault = _read(gold) if isinstance(gold, str) else (None, None)
    except (TypeError, ValueError, RecursionError):
        wanted, fault = None, None
    if wanted is None or fault is not None:
        return Verdict.unscored(f"bad_gold: {fault}" if fault else "bad_gold", decided_by="gold")
    if any(name not in CHECKS for name, _ in wanted):
        return Verdict.unscored("unknown_instruction", decided_by="gold")
    answer = item.answer
    if not answer.strip():
        return Verdict.failed("empty_answer", decided_by="extraction")
    if len(answer) > _MAX_CHARS:
        return Verdict.failed("too_long", decided_by="extraction")
    readings = _loose_readings(answer) if loose else [answer.strip("\n")]
    broken = []
    for name, kwargs in wanted:
        try:
            followed = any(text.strip() and CHECKS[name](text, **kwargs) for text in readings)
        except (TypeError, ValueError, AttributeError):
            return Verdict.unscored("bad_gold", decided_by="gold")
        if not followed:
            broken.append(name)
    if broken:
        return Verdict.failed("not_followed", decided_by="checks", extracted=", ".join(broken))
    return Verdict.passed(decided_by="checks")


@functools.lru_cache(maxsize=1024)
def _read(gold: str) -> tuple[tuple[tuple[str, dict[str, Any]], ...] | None, str | None]:
    """Return (type, its keyword arguments), None where the gold has another form; and its fault."""
    fields = json.loads(gold)
    if not isinstance(fields, dict):
        return None, None
    names = fields.get("instruction_ids") or fields.get("instruction_id_list")
    kwargs = fields.get("kwargs")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        return None, None
    kwargs = [{} for _ in names] if kwargs is None else kwargs
    if not isinstance(kwargs, list) or len(kwargs) != len(names):
        return None, None
    out = []
    for name, given in zip(names, kwargs, strict=True):
        if given is not None and not isinstance(given, dict):
            return None, None
        # some copies of the set carry every argument of every type, null where it is not meant
        filled = {k: v for k, v in (given or {}).items() if v is not None}
        known = inspect.signature(CHECKS[name]).parameters if name in CHECKS else {}
        needed = [k for k, p in known.items() if p.kind is p.KEYWORD_ONLY]
        if any(k not in filled for k in needed):
            return None, None
        out.append((name, {k: v for k, v in filled.items() if k in needed}))
    if any(name not in CHECKS for name, _ in out):
        return tuple(out), None
    try:
        return tuple(out), fault_of(out)
    except (TypeError, ValueError, AttributeError):
        return None, None


def _loose_readings(answer: str) -> list[str]:
    lines = answer.strip("\n").split("\n")
    cuts = [lines, lines[1:], lines[:-1], lines[1:-1]]
    texts = ["\n".join(cut).strip() for cut in cuts]
    return [*texts, *(text.replace("*", "") for text in texts)]
