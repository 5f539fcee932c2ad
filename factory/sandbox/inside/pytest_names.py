"""The few names of pytest that tests of programs use, for a box that holds no pytest.

Imports nothing of this project.
"""

from __future__ import annotations

import functools
import math
import re
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any


class _Raises:
    def __init__(self, expected: Any, match: str | None = None) -> None:
        self.expected, self.match, self.value = expected, match, None

    def __enter__(self) -> _Raises:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if kind is None:
            raise AssertionError("did not raise")
        self.value = error
        return issubclass(kind, self.expected) and (
            self.match is None or re.search(self.match, str(error)) is not None
        )


def _raises(expected: Any, *call: Any, match: str | None = None, **kwargs: Any) -> Any:
    held = _Raises(expected, match)
    if call:
        with held:
            call[0](*call[1:], **kwargs)
    return held


class _Near:
    """``pytest.approx``: its numbers within 1e-6 of it, 1e-12 absolutely."""

    def __init__(self, wanted: Any, rel: float | None = None, abs: float | None = None) -> None:
        self.wanted = wanted
        # An absolute tolerance alone leaves the relative one out, as pytest does.
        self.rel = (0.0 if abs is not None else 1e-6) if rel is None else rel
        self.abs = 1e-12 if abs is None else abs

    def __eq__(self, got: object) -> bool:
        return self._same(got, self.wanted)

    __hash__ = None  # type: ignore[assignment]

    def _same(self, got: Any, wanted: Any) -> bool:
        if type(wanted) in (list, tuple):
            return type(got) is type(wanted) and len(got) == len(wanted) and all(
                self._same(g, w) for g, w in zip(got, wanted, strict=True)
            )  # fmt: skip
        if type(wanted) is dict:
            return type(got) is dict and got.keys() == wanted.keys() and all(
                self._same(got[k], wanted[k]) for k in wanted
            )  # fmt: skip
        if type(got) not in (bool, int, float) or type(wanted) not in (bool, int, float):
            return False
        return math.isclose(got, wanted, rel_tol=self.rel, abs_tol=self.abs)


def _parametrize(names: Any, rows: Sequence[Any], **_: Any) -> Callable[[Any], Any]:
    split = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)

    def wrap(function: Any) -> Any:
        @functools.wraps(function)
        def run(*args: Any, **more: Any) -> None:
            for row in rows:
                values = row if len(split) > 1 else (row,)
                function(*args, **dict(zip(split, values, strict=True)), **more)

        del run.__wrapped__
        return run

    return wrap


class _Marks:
    parametrize = staticmethod(_parametrize)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **_: args[0] if args and callable(args[0]) else lambda f: f


def _fail(reason: str = "", **_: Any) -> None:
    raise AssertionError(reason)


def install() -> None:
    """Let ``import pytest`` find these names in this process."""
    module = types.ModuleType("pytest")
    module.__dict__.update(
        raises=_raises, approx=_Near, mark=_Marks(), fail=_fail, param=lambda *row, **_: row
    )
    sys.modules["pytest"] = module
