"""Matrices and other environments with rows in answers (math)."""

from __future__ import annotations

from factory.verifiers.math.cursor import Cursor
from factory.verifiers.math.nodes import MAX_ITEMS, Node, ParseError, function

_MATRICES = frozenset(
    (
        "pmatrix", "bmatrix", "Bmatrix", "matrix", "vmatrix", "smallmatrix", "array", "cases",
        "aligned", "dcases", "rcases",
    )
)  # fmt: skip


def transposed(node: Node) -> Node:
    """Return a matrix with rows and columns exchanged; a tuple is a row and a column."""
    return ("mat", tuple(zip(*node[1], strict=True))) if node[0] == "mat" else node


_CONDITIONS = frozenset(("if", "when", "for", "where", "若", "当"))


class Matrices(Cursor):
    """The part of the grammar for environments: ``pmatrix``, ``array``, ``cases`` …."""

    def takes_transpose(self, node: Node) -> bool:
        """Take the T of ``A^T`` behind a matrix or a tuple; False where there is none."""
        if node[0] not in ("mat", "seq"):
            return False
        at = self.at + (self.peek() == ("op", "{"))
        if self.tokens[at][1] not in ("T", "top", "intercal"):
            return False
        if at > self.at and self.tokens[at + 1] != ("op", "}"):
            return False
        self.at = at + 1 + (at > self.at)
        return True

    def matrix(self) -> Node:
        """Read an environment with rows: ``pmatrix``, ``bmatrix``, ``array`` …."""
        name = self.environment()
        if name not in _MATRICES:
            raise ParseError(f"environment {name}")
        if self.take("["):  # pmatrix*[r]
            while self.next() not in (("op", "]"), ("end", "")):
                pass
        if name == "array" and self.take("{"):
            while self.next() not in (("op", "}"), ("end", "")):
                pass
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        while True:
            if self.take("&", ",") or self.takes_condition_word(name):
                continue
            if self.take("\\\\"):
                rows.append(tuple(row))
                row = []
                continue
            if self.take("hline"):
                continue
            if self.take("end"):
                if self.environment() != name:
                    raise ParseError("environment")
                if row:
                    rows.append(tuple(row))
                break
            row.append(self.relation())
            if len(row) + len(rows) > MAX_ITEMS:
                raise ParseError("too many entries")
        rows = [r for r in rows if r]
        if name in ("cases", "dcases", "rcases"):
            return ("list", tuple(r[0] for r in rows if len(r) == 1)) if all(
                len(r) == 1 for r in rows) else ("cases", tuple(rows))  # fmt: skip
        if not rows or len({len(r) for r in rows}) != 1:
            raise ParseError("ragged matrix")
        node: Node = ("mat", tuple(rows))
        return function("det", node) if name == "vmatrix" else node

    def takes_condition_word(self, name: str) -> bool:
        """Take the "if" before a condition in a row of cases."""
        kind, value = self.peek()
        found = name in ("cases", "array") and kind == "text" and value.strip(", ") in _CONDITIONS
        self.at += found
        return found

    def environment(self) -> str:
        """Read the name of an environment, without its star."""
        self.expect("{")
        name = ""
        while self.peek()[0] in ("sym", "text", "cmd"):
            name += self.next()[1]
        self.take("*")
        self.expect("}")
        return name
