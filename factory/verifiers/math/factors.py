"""The inner grammar of answers: numbers, names, brackets, commands, functions, matrices (math).

A grammar of our own, written by hand, because sympy's text parser evaluates what it is given, and
the generated LaTeX parsers need milliseconds for what is decided here in microseconds, read several
notations of answers wrongly (tests/golden/math_cases.txt), and have no bound on depth or size. What
it refuses goes on to math-verify in a process that can be killed. It stands in a class of its own,
so that sums, relations and lists (``Parser``) can be read without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from factory.verifiers.math.matrices import Matrices, transposed
from factory.verifiers.math.nodes import (
    SCALAR,
    Node,
    ParseError,
    binomial,
    divide,
    factorial,
    function,
    multiply,
    negate,
    of_builder,
    power,
    show,
    signed,
)
from factory.verifiers.math.tokens import ALIAS, FUNCTIONS, GREEK
from factory.verifiers.math.words import number_in_words

_OF_WHOLE_NUMBERS: dict[str, Callable[..., int]] = {
    "max": lambda *n: max(n), "min": lambda *n: min(n), "gcd": math.gcd, "lcm": math.lcm,
}  # fmt: skip
_CALLED = frozenset("fgFGPQpquvyRThISVE")


class Factors(Matrices):
    """The inner grammar; sums, relations and lists around it are the subclass ``Parser``."""

    # ---- factors

    def factor(self) -> Node:
        """Parse one factor: a primary and what is written behind it."""
        self.enter()
        node = self.postfix(self.primary())
        self.depth -= 1
        return node

    def postfix(self, node: Node) -> Node:
        """Parse what is written behind a factor: powers, primes, factorials, indices, percent."""
        while True:
            kind, value = self.peek()
            if kind != "op":
                if kind == "cmd" and value == "prime":
                    self.at += 1
                    node = ("sym", show(node) + "'")
                    continue
                return node
            if value in ("^", "**"):
                self.at += 1
                if self.take("'") or self.take("prime"):
                    node = ("sym", show(node) + "'")
                    continue
                if self.takes_transpose(node):
                    node = transposed(node)
                    continue
                node = power(node, self.script())
            elif value == "!":
                self.at += 1
                node = factorial(node)
            elif value == "°":
                self.at += 1
                node = ("deg", node)
            elif value == "%":
                self.at += 1
                node = ("pct", node)
            elif value == "_":
                self.at += 1
                node = self.subscript(node)
            elif value == "'":
                self.at += 1
                node = ("sym", show(node) + "'")
            else:
                return node

    def script(self) -> Node:
        """Parse what follows ``^``: a group, or one sign."""
        if self.take("{"):
            node = self.sum()
            self.expect("}")
            return node
        if self.take("-"):
            return negate(self.script())
        kind, value = self.peek()
        if kind == "num" and len(value) > 1 and self.at and "\\" not in value:
            self.at += 1  # x^10 in plain text; in LaTeX a reader means the same
            return ("num", Fraction(value))
        node = self.primary()
        if self.peek() == ("op", "^"):
            self.at += 1
            return power(node, self.script())
        return node

    def subscript(self, node: Node) -> Node:
        """Parse an index and make it a part of the name, or the base of a number."""
        if self.take("{"):
            begin = self.at
            depth = 1
            while depth:
                kind, value = self.next()
                if kind == "end":
                    raise ParseError("open subscript")
                depth += (value == "{") - (value == "}")
            inside = self.tokens[begin : self.at - 1]
        else:
            inside = [self.next()]
        text = "".join(v for _, v in inside)
        if node[0] == "num" and len(inside) == 1 and inside[0][0] == "num":
            if node[1].denominator != 1 or not inside[0][1].isdigit() or len(inside[0][1]) > 3:
                raise ParseError("base")
            return ("base", str(node[1].numerator), inside[0][1])
        base = number_in_words(text.casefold())
        if node[0] == "num" and base is not None and node[1].denominator == 1:
            return ("base", str(node[1].numerator), str(base))
        if node[0] == "sym":
            if node[1] == "C" and self.peek() == ("op", "^") and inside:
                self.at += 1
                above = self.script()
                return binomial(self.nested(inside), above)
            return ("sym", f"{node[1]}_{text}")
        raise ParseError("subscript")

    def primary(self) -> Node:
        """Parse what a factor begins with: number, name, words, bracket or command."""
        kind, value = self.next()
        if kind == "num":
            return self.number(value)
        if kind == "sym":
            return self.symbol(value)
        if kind in ("text", "unit1"):
            return ("text", value) if kind == "text" else ("sym", value)
        if kind == "cmd":
            return self.command(value)
        if kind != "op":
            raise ParseError("unexpected end")
        if value == "{":
            return self.inner("}")
        if value in ("(", "["):
            return self.bracket(value)
        if value == "\\{":
            return self.braces()
        if value == "|":
            self.bars += 1
            node = self.sum()
            self.expect("|")
            self.bars -= 1
            return function("abs", node)
        if value in ("-", "+"):
            return signed(self.factor(), -1 if value == "-" else 1)
        if value == "<":
            items = self.items((">",))
            self.expect(">")
            return ("seq", "(", ")", tuple(items))
        raise ParseError(f"unexpected {value}")

    def inner(self, close: str) -> Node:
        """Parse what stands before ``close``; several things between commas are a list."""
        bars, self.bars = self.bars, 0
        items = self.items((close,))
        self.expect(close)
        self.bars = bars
        return items[0] if len(items) == 1 else ("list", tuple(items))

    def number(self, value: str) -> Node:
        """Read digits as an exact number: mixed, repeating or plain."""
        if len(value) > 5000:
            raise ParseError("too many digits")
        number = Fraction(value.rstrip("."))
        if "." in value and self.peek() in (("cmd", "overline"), ("cmd", "dot")):
            return self.repeating(value)
        kind, sign = self.peek()
        if (
            kind == "sym"
            and sign in ("e", "E")
            and (self.tokens[self.at + 1][0] == "num" or self.tokens[self.at + 1][1] in "+-")
        ):
            return self.scientific(number)
        return ("num", number)

    def scientific(self, number: Fraction) -> Node:
        """Read ``7.35e14``; anything else with an ``e`` is a product."""
        begin = self.at
        self.at += 1
        sign = -1 if self.take("-") else 1
        self.take("+")
        kind, digits = self.peek()
        if kind != "num" or not digits.isdigit() or len(digits) > 3:
            self.at = begin
            return ("num", number)
        self.at += 1
        return ("num", number * Fraction(10) ** (sign * int(digits)))

    def repeating(self, value: str) -> Node:
        """Read a decimal whose last digits are overlined or dotted, as an exact fraction."""
        self.at += 1
        self.expect("{")
        kind, digits = self.next()
        self.expect("}")
        if kind != "num" or not digits.isdigit():
            raise ParseError("repeating part")
        places = len(value.partition(".")[2])
        tail = Fraction(int(digits), (10 ** len(digits) - 1) * 10**places)
        return ("num", Fraction(value.rstrip(".")) + tail)

    def symbol(self, value: str) -> Node:
        """Read a letter: a constant, a function that is called, or a name."""
        if value == "e":
            return ("const", "e")
        if value == "i":
            return ("const", "i")
        if value in _CALLED and self.tokens[self.at : self.at + 1] == [("op", "(")]:
            inside = self.tokens[self.at + 1]
            if inside[0] in ("sym", "num") and self.tokens[self.at + 2] == ("op", ")"):
                self.at += 3
                return ("sym", f"{value}({inside[1]})")
        if value.isupper() and value != "C" and self.peek() == ("op", "(") and self.is_point():
            return self.bracket(self.next()[1])  # the point A(1, 2)
        return ("sym", value)

    def is_point(self) -> bool:
        """Tell whether brackets with a comma open here, behind a name that opens an item."""
        if self.at > 1 and self.tokens[self.at - 2][1] not in (",", ";", "="):
            return False
        depth = 0
        for kind, value in self.tokens[self.at :]:
            if kind == "op" and value in "([{":
                depth += 1
            elif kind == "op" and value in ")]}":
                depth -= 1
            elif depth == 1 and value == ",":
                return True
            if not depth:
                return False
        return False

    def bracket(self, opening: str) -> Node:
        """Parse a bracketed thing: an interval, a point, or grouped factors."""
        bars, self.bars = self.bars, 0
        items = self.items((")", "]"))
        closing = self.next()[1]
        self.bars = bars
        if closing not in (")", "]"):
            raise ParseError("open bracket")
        if len(items) == 1:
            if opening + closing in ("()", "[]"):
                return items[0]
            raise ParseError("brackets do not match")
        return ("seq", opening, closing, tuple(items))

    def braces(self) -> Node:
        """Parse a set: empty, built by a condition, or listed."""
        if self.take("\\}"):
            return ("empty",)
        builder = self.builder()
        if builder is not None:
            return builder
        bars, self.bars = self.bars, 0
        items = self.items(("\\}",))
        self.expect("\\}")
        self.bars = bars
        return ("set", tuple(items))

    def builder(self) -> Node | None:
        """Read ``x | condition \\}`` where the braces hold that; None (nothing taken) otherwise."""
        depth = 0
        for at in range(self.at, len(self.tokens)):
            kind, value = self.tokens[at]
            if kind == "end" or (value == "\\}" and depth == 0):
                return None
            depth += (value in ("(", "[", "{", "\\{")) - (value in (")", "]", "}", "\\}"))
            if depth == 0 and kind in ("op", "cmd") and value in ("|", "mid", ":", "colon", "vert"):
                head = self.tokens[self.at : at]
                try:
                    of = self.nested(head)
                except ParseError:
                    return None
                self.at = at + 1
                items = tuple(self.items(("\\}",)))
                self.expect("\\}")
                return of_builder(of, items)
        return None

    def command(self, value: str) -> Node:
        """Parse what a LaTeX command begins."""
        value = ALIAS.get(value, value)
        if value == "frac":
            return divide(self.argument(), self.argument())
        if value == "sqrt" or value == "cbrt":
            return self.root(value)
        if value == "binom":
            return binomial(self.argument(), self.argument())
        if value in ("pi", "Pi"):
            return ("const", "pi")
        if value in ("infty", "inf", "infinity", "oo"):
            return ("const", "inf")
        if value in FUNCTIONS:
            return self.call(value)
        if value in GREEK:
            return ("sym", value.removeprefix("var"))
        if value in ("langle", "lbrace", "lfloor", "lceil", "lvert", "lVert", "vert", "lbrack"):
            return self.fenced(value)
        if value in ("emptyset", "varnothing"):
            return ("empty",)
        if value.startswith("bb") and len(value) == 3:
            return self.number_set(value)
        if value == "begin":
            return self.matrix()
        if value == "angle":
            return self.named("angle")
        if value in ("triangle", "odot", "square"):
            return self.named(value)
        if value in ("boxed", "fbox"):
            return self.argument()
        if value in ("mathrm", "rm", "text", "bf", "mathbf", "operatorname"):
            return self.factor()
        if value in ("ldots", "dots", "cdots"):
            return ("sym", "…")
        raise ParseError(f"unknown command {value}")

    def number_set(self, name: str) -> Node:
        """Read a set of numbers with the sign that says which of them: ``\\mathbb{N}^*``."""
        suffix = ""
        if self.peek()[1] in ("^", "_"):
            at = self.at + 1
            end = at + 1
            if self.tokens[at] == ("op", "{"):
                end = (
                    next((i for i in range(at, len(self.tokens)) if self.tokens[i][1] == "}"), at)
                    + 1
                )
            sign = "".join(v for _, v in self.tokens[at:end] if v not in "{}")
            if sign in ("+", "*", ">0", "-", "<0", "ge0", ">=0", "geq0", "geqslant0", "++"):
                suffix, self.at = sign, end
        if name == "bbR" and suffix in ("+", ">0", "++"):
            return ("seq", "(", ")", (("num", Fraction(0)), ("const", "inf")))
        if name == "bbR" and not suffix:
            return ("seq", "(", ")", (("num*", -1), ("const", "inf")))
        return ("sym", name + suffix)

    def named(self, name: str) -> Node:
        """Read the letters behind a command such as ``\\angle`` as a part of the name."""
        letters = ""
        while self.peek()[0] == "sym" and len(letters) < 4:
            letters += self.next()[1]
        return ("sym", f"{name} {letters}")

    def argument(self) -> Node:
        """Parse a braced argument, or the one sign that LaTeX would take (``\\frac12``)."""
        if self.take("{"):
            node = self.sum_or_more()
            self.expect("}")
            return node
        kind, value = self.peek()
        if kind == "num" and len(value) > 1:
            self.tokens[self.at : self.at + 1] = [("num", c) for c in value]
            if "." in value:
                raise ParseError("short argument")
            return self.number(self.next()[1])
        return self.primary()

    def sum_or_more(self) -> Node:
        """Parse a sum and the unit in words behind it."""
        node = self.sum()
        if self.peek()[0] == "text":
            node = ("unit", node, self.unit_text())
        return node

    def root(self, name: str) -> Node:
        """Parse a root, with its index where one is given."""
        index: Node = ("num", Fraction(3 if name == "cbrt" else 2))
        if self.take("["):
            index = self.sum()
            self.expect("]")
        return ("fn2", "root", self.argument(), index)

    def call(self, name: str) -> Node:
        """Parse a function: its exponent or base, then its argument."""
        exponent: Node | None = None
        base: Node | None = None
        for _ in range(2):
            if self.take("^"):
                exponent = self.script()
            elif self.take("_"):
                base = self.script()
        grouped = self.peek()[1] in ("(", "{", "[")
        argument = self.primary() if grouped else self.plain_argument()
        if name in _OF_WHOLE_NUMBERS:
            return self.of_whole_numbers(name, argument)
        if argument[0] not in SCALAR:
            raise ParseError("argument")
        if name == "log" and base is not None:
            node: Node = ("fn2", "log", argument, base)
        elif name == "lg":
            node = ("fn2", "log", argument, ("num", Fraction(10)))
        else:
            node = function("ln" if name == "log" else name, argument)
        if exponent is None:
            return node
        if exponent == ("num", Fraction(-1)) and f"arc{name}" in FUNCTIONS:
            return ("fn", f"arc{name}", argument)
        return power(node, exponent)

    def of_whole_numbers(self, name: str, argument: Node) -> Node:
        """Compute a function of whole numbers, such as gcd.

        Raises:
            ParseError: an argument is no whole number.
        """
        items = argument[3] if argument[0] == "seq" else ()
        if not items or any(n[0] != "num" or n[1].denominator != 1 for n in items):
            raise ParseError(name)
        return ("num", Fraction(_OF_WHOLE_NUMBERS[name](*(int(n[1]) for n in items))))

    def plain_argument(self) -> Node:
        """Parse the argument of a function without brackets: factors up to a sign or a function."""
        node = self.signed_factor()
        while True:
            kind, value = self.peek()
            if kind in ("num", "sym") or (
                kind == "cmd" and (value in ("pi", "frac", "sqrt") or value in GREEK)
            ):
                node = multiply(node, self.factor())
            elif kind == "op" and value == "/" and self.tokens[self.at + 1][0] == "num":
                self.at += 1
                node = divide(node, self.factor())
            else:
                return node

    def fenced(self, value: str) -> Node:
        """Parse what stands between a pair of fences such as ``\\lfloor`` and ``\\rfloor``."""
        closing = {
            "langle": "rangle", "lbrace": "rbrace", "lfloor": "rfloor", "lceil": "rceil",
            "lvert": "rvert", "lVert": "rVert", "vert": "vert", "lbrack": "rbrack",
        }[value]  # fmt: skip
        items = self.items((closing,))
        self.expect(closing)
        if value in ("langle", "lbrack"):
            return ("seq", "(", ")", tuple(items))
        if value == "lbrace":
            return ("set", tuple(items))
        if len(items) != 1:
            raise ParseError("fence")
        name = {"lfloor": "floor", "lceil": "ceil"}.get(value, "abs")
        return function(name, items[0])
