r"""A small grammar of final answers, from LaTeX and plain text to nested tuples (math).

The nodes stand in ``_math_nodes``. Length, nesting and list sizes are capped; what the grammar
does not know raises ``ParseError`` and goes on to the next step of the cascade.
"""

from __future__ import annotations

import re

from factory.verifiers.math import reading
from factory.verifiers.math.factors import Factors
from factory.verifiers.math.nodes import (
    INEQUALITIES,
    MAX_ITEMS,
    UNREAD,
    Node,
    ParseError,
    UndefinedError,
    add,
    divide,
    is_mixed,
    multiply,
    negate,
    show,
    signed,
)
from factory.verifiers.math.numbers import symbols
from factory.verifiers.math.tokens import RELATIONS, Token, tokenize

_SEPARATORS = frozenset((("op", ","), ("op", ";"), ("op", "or")))
_NOT_FACTORS = frozenset(
    (
        "cdot", "times", "ast", "bullet", "div", "pm", "mp", "cup", "cap", "setminus", "backslash",
        "land", "lor", "mid", "colon", "rangle", "rbrace", "rfloor", "rceil", "rvert", "rVert",
        "rbrack", "end", "hline", "to", "rightarrow", "implies", "Rightarrow",
    )
)  # fmt: skip


def parse(text: str, *, thousands: bool = True) -> Node:
    r"""Parse an answer that is already in ``ascii_form``.

    Raises:
        ParseError: it is empty, over a cap, or beyond the grammar.

    >>> parse(r"\frac{1}{2}")
    ('num', Fraction(1, 2))
    >>> parse("3, 5")
    ('list', (('num', Fraction(3, 1)), ('num', Fraction(5, 1))))
    """
    tokens = tokenize(text, thousands=thousands)
    while tokens and tokens[-1][1] in (".", ",", ";"):
        tokens.pop()
    if tokens and tokens[0][1] in ("=", "approx"):
        del tokens[0]
    if not tokens:
        raise ParseError("empty")
    try:
        node = _read(tokens)
        if node[0] == "where":
            body = ("builder", node[1][1]) if _is_conjunction(text, node[1]) else node[1]
            return ("where", body, node[2])
        return ("builder", node[1]) if _is_conjunction(text, node) else node
    except (RecursionError, ValueError, OverflowError) as error:
        # Python refuses to write integers of more than 4,300 digits, for one.
        raise ParseError(str(error)) from error


def _read(tokens: list[Token]) -> Node:
    """Parse an answer, first as it stands, then without what stands around it."""
    tokens = _with_unions(tokens)
    try:
        plain = reading.without_label(tokens)
        if reading.says_another_number(plain):
            raise ParseError("two numbers")
        plain, conditions = reading.without_qualifier(plain, lambda part: Parser(part).whole())
        node = Parser(plain).whole()
        return ("where", node, conditions) if conditions else node
    except UndefinedError:
        raise
    except ParseError:
        side = _right_side(plain)
        if side is None:
            raise
        return ("rel", (UNREAD, Parser(side).whole()), ("=",))


_AND = re.compile(r"\band\b|\\land\b|\\wedge\b|且")
_OR = re.compile(r"[,;]|\bor\b|\\lor\b|\\vee\b|\\cup\b|或")


def _is_conjunction(text: str, node: Node) -> bool:
    """Tell whether inequalities of one name are joined by nothing but "and": both must hold."""
    if node[0] != "list" or not _AND.search(text) or _OR.search(text):
        return False
    return (
        all(n[0] == "rel" and set(n[2]) <= INEQUALITIES for n in node[1])
        and len({s for n in node[1] for side in n[1] for s in symbols(side)}) == 1
    )


def _with_unions(tokens: list[Token]) -> list[Token]:
    """Read ``x < 1 \\cup x > 3`` as "or": a union of what two inequalities say."""
    if ("cmd", "cup") not in tokens:
        return tokens
    signs = {RELATIONS.get(value) for kind, value in tokens if kind in ("op", "cmd")}
    if not signs & INEQUALITIES or ("op", "\\{") in tokens:
        return tokens
    return [("op", "or") if t == ("cmd", "cup") else t for t in tokens]


def _right_side(tokens: list[Token]) -> list[Token] | None:
    """Return what stands behind the last ``=`` outside of brackets, where names stand before it."""
    depth, at = 0, -1
    for here, (kind, value) in enumerate(tokens):
        if kind not in ("op", "cmd"):
            continue
        depth += (value in ("(", "[", "{", "\\{")) - (value in (")", "]", "}", "\\}"))
        if depth == 0 and value == "=":
            at = here
        elif depth == 0 and (RELATIONS.get(value, "=") != "=" or value in ("not", "or", ",")):
            return None
    head = tokens[:at]
    if at < 1 or at + 1 == len(tokens) or any(k == "text" and reading.denies(v) for k, v in head):
        return None
    return tokens[at + 1 :] if any(k in ("sym", "cmd") for k, _ in head) else None


class Parser(Factors):
    """The outer grammar: lists, relations, ratios, unions, sums and products."""

    def nested(self, tokens: list[Token]) -> Node:
        """Parse tokens of their own, such as a cell of a matrix."""
        return Parser(tokens).whole()

    # ---- structures

    def whole(self) -> Node:
        """Parse all tokens; things between commas are a list.

        Raises:
            ParseError: something is left over.
        """
        items = self.items(("end",))
        if self.peek()[0] != "end":
            raise ParseError("left over")
        return items[0] if len(items) == 1 else ("list", tuple(items))

    def items(self, stops: tuple[str, ...]) -> list[Node]:
        """Parse relations between commas, until a stop sign (not taken) or the end."""
        out: list[Node] = []
        groups: list[int] = []  # how many items stood before each "or"
        while True:
            while self.peek()[0] == "op" and self.peek()[1] in (",", ";", "or"):
                if self.next()[1] == "or" and out and (not groups or groups[-1] < len(out)):
                    groups.append(len(out))
            kind, value = self.peek()
            if kind == "end" or (kind != "text" and value in stops):
                break
            out.append(self.relation())
            if len(out) > MAX_ITEMS:
                raise ParseError("too many items")
            kind, value = self.peek()
            if kind == "end" or (kind != "text" and value in stops):
                break
            if self.peek() not in _SEPARATORS:
                raise ParseError(f"unexpected {value}")
        if not out:
            raise ParseError("empty")
        return _alternatives(out, groups) if groups else out

    def relation(self) -> Node:
        """Parse sides with ``=``, ``<``, ``∈`` and the like between them."""
        self.enter()
        sides = [self.ratio()]
        operators: list[str] = []
        while True:
            kind, value = self.peek()
            operator = RELATIONS.get(value) if kind in ("op", "cmd") else None
            if operator is None:
                break
            self.at += 1
            if operator == "<" and self.take("="):
                operator = "<="
            elif operator == ">" and self.take("="):
                operator = ">="
            operators.append(operator)
            sides.append(self.ratio())
        self.depth -= 1
        if not operators:
            return sides[0]
        return ("rel", tuple(sides), tuple(operators))

    def ratio(self) -> Node:
        """Parse sides with colons between them."""
        first = self.union()
        if self.peek() != ("op", ":"):
            return first
        items = [first]
        while self.take(":"):
            items.append(self.union())
        return ("ratio", tuple(items))

    def union(self) -> Node:
        """Parse sums that are joined, cut or taken from each other as sets."""
        first = self.sum()
        if self.peek()[1] not in ("cup", "cap", "setminus", "backslash", "lor", "land"):
            return first
        items = [first]
        while True:
            if self.take("cup", "lor"):
                items.append(self.sum())
            elif self.take("setminus", "backslash"):
                items.append(("minus", self.sum()))
            elif self.take("land"):
                items.append(("meet", self.sum()))
            else:
                break
        if any(i[0] == "meet" for i in items):
            if any(i[0] == "minus" for i in items):
                raise ParseError("mixed")
            return ("list", tuple(i[1] if i[0] == "meet" else i for i in items))
        return ("union", tuple(items))

    def sum(self) -> Node:
        """Parse terms with signs before them."""
        self.enter()
        terms: list[Node] = []
        sign = 1
        kind, value = self.peek()
        if kind in ("op", "cmd") and value in ("-", "+", "pm", "mp"):
            self.at += 1
            sign = -1 if value in ("-", "mp") else 1
            first = self.product()
            terms.append(
                ("pm", signed(first, sign)) if value in ("pm", "mp") else signed(first, sign)
            )
        else:
            terms.append(self.product())
        while True:
            kind, value = self.peek()
            if kind not in ("op", "cmd") or value not in ("-", "+", "pm", "mp"):
                break
            self.at += 1
            extra = 1
            while self.peek()[0] == "op" and self.peek()[1] in "+-":
                extra *= -1 if self.next()[1] == "-" else 1
            term = self.product()
            if value in ("pm", "mp"):
                terms.append(("pm", signed(term, extra if value == "pm" else -extra)))
            else:
                terms.append(signed(term, extra if value == "+" else -extra))
        self.depth -= 1
        return add(terms)

    def product(self) -> Node:
        """Parse factors, with or without a sign between them."""
        left = self.factor()
        while True:
            kind, value = self.peek()
            if (kind == "op" and value == "*") or (kind == "cmd" and value in (
                "cdot", "times", "ast", "bullet",
            )):  # fmt: skip
                self.at += 1
                left = multiply(left, self.signed_factor())
            elif (kind == "op" and value == "/") or (kind == "cmd" and value == "div"):
                self.at += 1
                if self.peek()[0] == "text" and left[0] == "unit":
                    left = ("unit", left[1], f"{left[2]}/{self.unit_text()}")
                    continue
                if self.peek()[0] == "text":
                    left = ("unit", left, f"/{self.unit_text()}")
                    continue
                left = divide(left, self.signed_factor())
            elif kind in ("text", "unit1", "letter"):
                if kind == "letter" and self.tokens[self.at + 1][0] in ("sym", "num"):
                    self.tokens[self.at] = ("sym", value)
                    continue
                if kind == "unit1" and left[0] != "num":
                    self.at += 1
                    left = multiply(left, self.postfix(("sym", value)))
                    continue
                left = ("unit", left, self.unit_text())
            elif kind == "num" and self.tokens[self.at - 1][0] in ("text", "unit1"):
                left = self.compound(left)
            elif self.starts_factor(kind, value):
                right_is_number = kind == "num"
                previous = self.tokens[self.at - 1]
                right = self.factor()
                if right_is_number and previous[0] == "num":
                    left = self.mixed(left, right)
                elif (
                    previous[0] == "num"
                    and value == "frac"
                    and right[0] in ("pct", "deg")
                    and is_mixed(left, right[1])
                ):
                    left = (right[0], add([left, right[1]]))
                elif previous[0] == "num" and value == "frac" and is_mixed(left, right):
                    left = add([left, right]) if left[1] >= 0 else add([left, negate(right)])
                else:
                    left = multiply(left, right)
            else:
                return left

    def compound(self, left: Node) -> Node:
        """Read ``2 hours 30 minutes``: quantities side by side, added up where units compare."""
        right = self.factor()
        if left[0] not in ("unit", "list") or self.peek()[0] not in ("text", "unit1"):
            raise ParseError("a number behind a unit")
        right = ("unit", right, self.unit_text())
        return ("list", (*(left[1] if left[0] == "list" else (left,)), right))

    def mixed(self, left: Node, right: Node) -> Node:
        """Read ``3 1/2``; any other two numbers side by side are no answer that we know."""
        if self.take("/"):
            below = self.factor()
            part = divide(right, below)
            if is_mixed(left, part):
                return add([left, part])
        raise ParseError("two numbers side by side")

    def signed_factor(self) -> Node:
        """Parse a factor with any number of signs before it."""
        sign = 1
        while self.peek()[0] == "op" and self.peek()[1] in "+-":
            sign *= -1 if self.next()[1] == "-" else 1
        return signed(self.factor(), sign)

    def starts_factor(self, kind: str, value: str) -> bool:
        """Tell whether a token can begin a factor without a sign before it."""
        if kind in ("num", "sym"):
            return True
        if kind == "cmd":
            return value not in RELATIONS and value not in _NOT_FACTORS
        return kind == "op" and (
            value in ("(", "{", "\\{", "[") or (value == "|" and not self.bars)
        )

    def unit_text(self) -> str:
        """Read the words of a unit with its exponents."""
        parts: list[str] = []
        while True:
            kind, value = self.peek()
            if kind in ("text", "unit1", "letter"):
                parts.append(value)
                self.at += 1
            elif value == "^" and kind == "op" and parts:
                self.at += 1
                parts.append("^" + show(self.script()))
            elif (
                kind in ("op", "cmd")
                and value in ("/", "cdot")
                and self.tokens[self.at + 1][0] in ("text", "unit1", "letter")
            ):
                parts.append("/" if value == "/" else "*")
                self.at += 1
            else:
                return " ".join(parts)


def _alternatives(items: list[Node], groups: list[int]) -> list[Node]:
    """Join what stands between "or"s: inequalities are a union, other alternatives a list."""
    ends = [*groups, len(items)]
    parts = [items[a:b] for a, b in zip([0, *groups], ends, strict=True) if b > a]
    if not any(
        n[0] == "rel" and (INEQUALITIES & set(n[2]) or n[1][1][0] in ("seq", "union"))
        for n in items
    ):
        solutions = [_solution(p) for p in parts]
        return items if None in solutions else [s for s in solutions if s is not None]
    if not all(n[0] in ("rel", "seq", "set", "builder", "union") for n in items):
        told = [parts[0][-1], *(n for p in parts[1:] for n in p)]
        is_told = all(n[0] == "rel" and set(n[2]) <= INEQUALITIES for n in told)
        if is_told and len(parts) == len(told):
            return [*parts[0][:-1], ("union", tuple(told))]  # f(x), x < 1 or x > 3
        return items
    return [("union", tuple(p[0] if len(p) == 1 else ("builder", tuple(p)) for p in parts))]


def _solution(items: list[Node]) -> Node | None:
    """Write one of several solutions ``x = 5, y = 8`` as the equation of two tuples."""
    named = all(n[0] == "rel" and n[2] == ("=",) and n[1][0][0] == "sym" for n in items)
    if not named or len({n[1][0] for n in items}) != len(items) or len(items) < 2:
        return None
    sides = (("seq", "(", ")", tuple(n[1][at] for n in items)) for at in (0, 1))
    return ("rel", tuple(sides), ("=",))
