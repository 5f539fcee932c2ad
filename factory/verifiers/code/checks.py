"""One check of a code task: a call for the box, and what must hold of its result outside."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.sandbox.plain_data import canonical, encode


class BadGold(ValueError):
    """The gold is not of the declared form; the text says where."""


@dataclass(frozen=True)
class Check:
    """One call and what must hold of its result.

    Attributes:
        request: the call, as the box reads it: nothing in it tells the expected value.
        holds: judges the encoded result, outside of the box.
        expected: encoded results that hold, where the test names any.
    """

    request: dict[str, Any]
    holds: Callable[[Any], bool]
    expected: tuple[Any, ...] = ()


def expect_one(checks: Sequence[Check]) -> bool:
    """Tell whether one constant is right for several different calls, so that it passes them all.

    >>> yes = [Check({"args": [n]}, lambda got: got is True, (True,)) for n in (2, 3)]
    >>> expect_one(yes), expect_one(yes[:1])
    (True, False)
    """
    if len({json.dumps(c.request, sort_keys=True) for c in checks}) < 2:
        return False
    return any(all(c.holds(value) for c in checks) for value in checks[0].expected)


def request_of(name: str, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what asks the box for a call of that name.

    Raises:
        NotPlain: an argument is no plain data.
    """
    return {
        "op": "call",
        "on": {"name": name},
        "args": [encode(x) for x in args],
        "kwargs": {str(k): encode(v) for k, v in kwargs.items()},
    }


def same(got: Any, wanted: Any, tolerance: float) -> bool:
    """Compare encoded data as JSON: tuples are lists, floats within the declared tolerance.

    >>> same({"t": [1, 2]}, [1, 2], 0.0), same(0.1 + 0.2, 0.3, 0.0), same(0.1, 0.1000001, 1e-6)
    (True, False, True)
    """
    if canonical(got, tuple_is_list=True) == canonical(wanted, tuple_is_list=True):
        return True
    return tolerance > 0 and _near(got, wanted, tolerance)


def _near(got: Any, wanted: Any, tolerance: float) -> bool:
    if isinstance(got, dict) and set(got) == {"t"}:
        got = got["t"]
    if isinstance(got, list) and isinstance(wanted, list):
        pairs = zip(got, wanted, strict=False)
        return len(got) == len(wanted) and all(_near(a, b, tolerance) for a, b in pairs)
    if _is(got, "d") and _is(wanted, "d"):
        return _near_values(got["d"], wanted["d"], tolerance)
    # A whole number is a count or a code: only a fraction may be near it. inf and nan are tagged.
    if type(got) is float and type(wanted) is int:
        return abs(got - wanted) <= min(tolerance, 0.01)
    if type(got) in (int, float) and type(wanted) is float:
        return math.isclose(got, wanted, rel_tol=tolerance, abs_tol=tolerance)
    return canonical(got) == canonical(wanted)


def _is(data: Any, tag: str) -> bool:
    return isinstance(data, dict) and set(data) == {tag}


def _near_values(got: Any, wanted: Any, tolerance: float) -> bool:
    """Compare two mappings: keys exactly, values within the tolerance."""
    left = {canonical(k, tuple_is_list=True): v for k, v in got}
    right = {canonical(k, tuple_is_list=True): v for k, v in wanted}
    return left.keys() == right.keys() and all(_near(left[k], right[k], tolerance) for k in right)
