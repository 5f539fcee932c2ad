"""Answers in their plainest form: ± written out, lists flat, labels and units apart (math)."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from fractions import Fraction

from factory.verifiers.math.nodes import Node, ParseError, add, negate
from factory.verifiers.math.numbers import Peak, Unsettled, approximate, symbols
from factory.verifiers.math.words import NO_SOLUTION, REALS, number_in_words, word_form

INF: Node = ("const", "inf")
ALL_REALS: Node = ("seq", "(", ")", (("num*", -1), INF))
STRUCTURES = frozenset(
    (
        "seq",
        "set",
        "list",
        "union",
        "mat",
        "rel",
        "builder",
        "ratio",
        "empty",
        "text",
        "base",
        "cases",
        "where",
        "image",
    )
)


def kind_of(node: Node) -> str:
    """Return the kind of an answer: ``value`` for any scalar, else the structure's name."""
    if node[0] in STRUCTURES:
        return str(node[0])
    return "value"


def simplify(node: Node) -> Node:
    """Expand ±, flatten lists, unwrap sets of one, read ``x ∈ S`` as S and drop labels."""
    kind = node[0]
    if kind == "rel":
        return _simplify_relation(node)
    if kind in ("list", "set"):
        return _simplify_list(node)
    if kind == "ratio" and node[1][0][0] == "text" and len(node[1]) == 2:
        return simplify(node[1][1])
    if kind == "text":
        return _simplify_words(node)
    if kind == "seq" and _is_nested(node):
        return ("mat", tuple(row[3] for row in node[3]))
    if kind in ("seq", "mat", "union", "builder", "empty", "base", "cases", "ratio"):
        return node
    if kind == "where":
        return simplify(node[1])
    if has_pm(node):
        return ("list", (choose(node, 1), choose(node, -1)))
    if kind == "unit" and re.fullmatch(r"\W*(?:and|or)?\W*", str(node[2])):
        return simplify(node[1])
    return node


def _simplify_words(node: Node) -> Node:
    form = word_form(str(node[1]))
    if form == NO_SOLUTION:
        return ("empty",)
    if form == REALS:
        return ALL_REALS
    number = number_in_words(form)
    if number is not None:
        return ("num", Fraction(number))
    words = form.split(" ")
    for n in range(min(len(words) - 1, 8), 0, -1):  # "seven apples"
        counted = number_in_words(" ".join(words[:n]))
        if counted is not None:
            return ("unit", ("num", Fraction(counted)), " ".join(words[n:]))
    return node


def _is_nested(node: Node) -> bool:
    """Tell whether a node is a matrix written as rows in square brackets: ``[[1,0],[0,1]]``."""
    rows = node[3]
    return node[1] + node[2] == "[]" and all(
        row[0] == "seq" and row[1] + row[2] == "[]" and len(row[3]) == len(rows[0][3])
        for row in rows
    )


def _simplify_list(node: Node) -> Node:
    out: list[Node] = []
    items = node[1]
    n_named = sum(_is_named_tuple(i) for i in items)
    if n_named > 1 or (n_named and len(items) > 1 and all(i[0] == "seq" for i in items[1:])):
        items = tuple(
            _in_order_of_names(i[1][0], i[1][1]) if _is_named_tuple(i) else i for i in items
        )
    for item in _in_short(items):
        plain = simplify(item)
        if plain[0] == "list":
            out.extend(plain[1])
        else:
            out.append(plain)
    if len(out) == 1 and out[0][0] not in ("set", "list", "empty"):
        return out[0]
    return (node[0], tuple(out))


def _is_named_tuple(item: Node) -> bool:
    return bool(
        item[0] == "rel"
        and item[2] == ("=",)
        and all(s[0] == "seq" and s[1] + s[2] == "()" for s in item[1])
        and len(item[1][0][3]) == len(item[1][1][3])
        and all(n[0] == "sym" for n in item[1][0][3])
    )


def _in_order_of_names(names: Node, values: Node) -> Node:
    """Write one of several solutions ``(x, y) = (5, 8)`` as the tuple (5, 8)."""
    pairs = sorted(zip(names[3], values[3], strict=True), key=lambda pair: str(pair[0][1]))
    return ("seq", "(", ")", tuple(value for _, value in pairs))


def _in_short(items: tuple[Node, ...]) -> tuple[Node, ...]:
    """Write ``1, 2, 3, …, 2024`` with two members before the dots."""
    dots = ("sym", "…")
    if dots not in items:
        return items
    at = items.index(dots)
    head = items[:at]
    if len(head) < 3 or any(i[0] != "num" for i in head):
        return items
    step = head[1][1] - head[0][1]
    if any(b[1] - a[1] != step for a, b in itertools.pairwise(head)):
        return items
    return (*head[:2], *items[at:])


def _simplify_relation(node: Node) -> Node:
    sides, operators = node[1], node[2]
    if operators == ("=",) and all(s[0] == "seq" and s[1] + s[2] == "()" for s in sides):
        names, values = (s[3] for s in sides)
        if len(names) == len(values) and all(is_name(n) for n in names):
            pairs = zip(names, values, strict=True)
            return ("list", tuple(("rel", pair, ("=",)) for pair in pairs))
    if "in" in operators:
        return simplify(sides[operators.index("in") + 1])
    if has_pm(sides[-1]) and set(operators) == {"="}:
        head = sides[:-1]
        return ("list", tuple(("rel", (*head, choose(sides[-1], s)), operators) for s in (1, -1)))
    if set(operators) == {"="} and sides[-1][0] in ("list", "set") and is_name(sides[0]):
        return simplify(sides[-1])
    return node


def has_pm(node: Node) -> bool:
    """Tell whether a ± stands anywhere in the node."""
    if node[0] == "pm":
        return True
    return any(isinstance(part, tuple) and part and has_pm(part) for part in node[1:])


def choose(node: Node, sign: int) -> Node:
    """Take the upper (+1) or lower (−1) signs of every ±."""
    if node[0] == "pm":
        inner = choose(node[1], sign)
        return inner if sign > 0 else negate(inner)
    return tuple(
        choose(part, sign) if isinstance(part, tuple) and part and isinstance(part[0], str | tuple)
        else part
        for part in node
    )  # fmt: skip


def with_name(node: Node, old: str, new: str) -> Node:
    """Return the expression with a symbol renamed."""
    return substituted(node, old, ("sym", new))


def substituted(node: Node, name: str, value: Node) -> Node:
    """Return the expression with a symbol replaced."""
    if node[0] == "sym":
        return _renamed(node, name, value)
    return tuple(substituted(p, name, value) if isinstance(p, tuple) and p else p for p in node)


def _renamed(node: Node, name: str, value: Node) -> Node:
    """Replace a symbol; in ``f(t)`` and ``a_n`` only by another symbol."""
    if node[1] == name:
        return value
    if value[0] == "sym":
        for before, after in ((f"({name})", f"({value[1]})"), (f"_{name}", f"_{value[1]}")):
            if str(node[1]).endswith(before):
                return ("sym", str(node[1]).removesuffix(before) + after)
    return node


def strip(node: Node) -> tuple[Node, str, str]:
    """Return a scalar without its wrapping, and the wrapping's kind and text."""
    if node[0] == "unit":
        inner, kind, text = strip(node[1])
        unit = str(node[2])
        low = unit.strip().lower().rstrip("s.")
        if low in ("degree", "度", "°"):
            return inner, "deg", ""
        if low in ("percent", "per cent", "pct"):
            return inner, "pct", ""
        return inner, kind or "unit", f"{text} {unit}".strip()
    if node[0] in ("deg", "pct"):
        return strip(node[1])[0], node[0], ""
    return node, "", ""


def float_of(node: Node) -> float | None:
    """Return the real value of a symbol-free scalar; ±inf for ±∞; None where there is none."""
    if node == INF:
        return math.inf
    if node[0] == "num*" or node == ("mul", ("num", Fraction(-1)), INF):
        return -math.inf
    if symbols(node):
        return None
    try:
        value = approximate(node, 0, Peak())
    except (OverflowError, ValueError, ZeroDivisionError, Unsettled, KeyError):
        return None
    if isinstance(value, complex):
        return value.real if abs(value.imag) < 1e-9 * max(1.0, abs(value)) else None
    return float(value)


def difference(a: Node, b: Node) -> Node | None:
    """Return a − b; None where one of them is no value."""
    a, b = strip(a)[0], strip(b)[0]
    if kind_of(a) != "value" or kind_of(b) != "value":
        return None
    with contextlib.suppress(ParseError):
        return add([a, negate(b)])
    return None


def is_name(node: Node) -> bool:
    """Tell whether a left side only names something: symbols without any number."""
    if node[0] in ("sym", "text"):
        return True
    if node[0] == "const":
        return bool(node[1] != "inf")
    if node[0] == "seq":
        return all(is_name(n) for n in node[3])
    if node[0] == "ratio":
        return all(is_name(n) for n in node[1])
    if node[0] == "pow" and node[2] == ("num", Fraction(-1)):
        return is_name(node[1])
    if node[0] == "unit":
        return is_name(node[1])
    if node[0] in ("add", "mul", "div", "pow"):
        return all(is_name(n) for n in node[1:])
    if node[0] in ("fn", "fn2"):
        return all(is_name(n) for n in node[2:])
    return False
