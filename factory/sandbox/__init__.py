"""The box for model-written code: which tier holds here, and boxes of it.

>>> from factory.sandbox import TIERS
>>> TIERS
('bwrap', 'slot', 'landlock')
"""

from __future__ import annotations

import functools
import os
from typing import Any

from factory.errors import Refused
from factory.sandbox.box import (
    Box,
    BoxError,
    Limits,
    Outcome,
    Talk,
    borrow,
    close_all,
    retrying,
)
from factory.sandbox.selftest import escapes, overruns
from factory.sandbox.tiers import TIERS, Tier, TierError, fix_of

__all__ = [
    "TIERS", "Box", "BoxError", "Limits", "Outcome", "Talk", "Tier", "borrow", "choose",
    "close_all", "doctor", "forget_probes", "retrying",
]  # fmt: skip


def _probe(tier: Tier, *, clocks: bool) -> str:
    """Start a box of the tier and let the self-test attack it; return '' where it holds."""
    try:
        box = Box(tier)
    except TierError as error:
        return str(error)
    try:
        got_out = [*escapes(box), *(overruns(box) if clocks else ())]
    except BoxError as error:
        return str(error)
    finally:
        box.close()
    return f"self-test: {', '.join(got_out)} got through" if got_out else ""


def forget_probes() -> None:
    """Forget which tiers held, so that ``choose`` probes them again."""
    _probed.cache_clear()


@functools.cache
def _probed(tier: Tier) -> str:
    return _probe(tier, clocks=False)


def _wanted() -> tuple[Tier, ...]:
    named = os.environ.get("FACTORY_SANDBOX", "")
    return tuple(t for t in TIERS if not named or t == named)


def doctor() -> list[dict[str, Any]]:
    """Probe every tier, live: start it and attack it.

    Returns:
        One row per tier: ``tier``, ``available``, ``error`` (exact, '' where it holds), ``fix``.
    """
    rows = []
    for tier in TIERS:
        error = _probe(tier, clocks=True)
        fix = fix_of(tier) if error else ""
        rows.append({"tier": tier, "available": not error, "error": error, "fix": fix})
    return rows


def choose() -> Tier:
    """Return the strongest tier that starts here and withstands the self-test.

    The environment variable ``FACTORY_SANDBOX`` narrows the choice to one tier. The result is kept
    for this process; a refusal is not.

    Raises:
        Refused: none holds; nothing has been run. The text has each tier's error and its fix.
    """
    errors = []
    for tier in _wanted():
        error = _probed(tier)
        if not error:
            return tier
        errors.append(f"{tier}: {error} (fix: {fix_of(tier)})")
    if not errors:
        name = os.environ.get("FACTORY_SANDBOX")
        raise Refused(f"FACTORY_SANDBOX={name!r} names no tier", f"use one of {', '.join(TIERS)}")
    forget_probes()
    raise Refused("no sandbox tier holds here, so no model-written code was run", "; ".join(errors))
