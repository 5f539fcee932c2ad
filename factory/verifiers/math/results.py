"""What an equation gives where it is the answer to a question for one value (math)."""

from __future__ import annotations

from factory.verifiers.math.nodes import Node
from factory.verifiers.math.numbers import symbols
from factory.verifiers.math.plain import is_name, kind_of, strip
from factory.verifiers.math.same import same


def result_of(node: Node) -> Node | None:
    r"""Return what an equation gives where its left side only says what was asked for.

    ``a^2+b^2 = 42``, ``|z|^2 = 1/3``, ``3 \times 4 = 12``. An equation that is still to be solved
    (``2x = 42``) gives nothing.
    """
    if node[0] == "where":
        result = result_of(node[1])
        return None if result is None else ("where", result, node[2])
    if node[0] != "rel" or set(node[2]) != {"="} or "~" in node[2]:
        return None
    left: Node = node[1][-2]
    right: Node = node[1][-1]
    if kind_of(left) == "value" and not symbols(left):
        is_work = left[0] != "num" or right[0] == "unit"
        return right if is_work and same(left, strip(right)[0]) else None
    if kind_of(left) not in ("value", "text", "ratio"):
        return None
    names = symbols(left)
    called = any(
        not name.partition("_")[0].isalpha() or len(name.partition("_")[0]) > 1 for name in names
    )
    if is_name(left) or len(names) > 1 or called or _has_function(left):
        return right
    return None


def _has_function(node: Node) -> bool:
    if node[0] in ("fn", "fn2"):
        return True
    return any(isinstance(part, tuple) and part and _has_function(part) for part in node[1:])
