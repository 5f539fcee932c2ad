"""The tokens of an answer and the place in them: what the grammar's two halves share (math)."""

from __future__ import annotations

from factory.verifiers.math.nodes import MAX_DEPTH, Node, ParseError
from factory.verifiers.math.tokens import Token


class Cursor:
    """A place in the tokens: ``at`` is the next one's index."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = [*tokens, ("end", "")]
        self.at = 0
        self.depth = 0
        self.bars = 0

    # ---- helpers

    def peek(self) -> Token:
        """Return the token that comes next, and stay before it."""
        return self.tokens[self.at]

    def next(self) -> Token:
        """Take the token that comes next."""
        token = self.tokens[self.at]
        self.at += 1
        return token

    def take(self, *values: str) -> bool:
        """Take the next token if it is one of these signs or commands; tell whether it was."""
        token = self.tokens[self.at]
        if token[1] in values and token[0] in ("op", "cmd"):
            self.at += 1
            return True
        return False

    def expect(self, value: str) -> None:
        """Take this sign or command.

        Raises:
            ParseError: another one comes.
        """
        if not self.take(value):
            raise ParseError(f"expected {value}")

    def enter(self) -> None:
        """Go one level deeper into brackets and the like.

        Raises:
            ParseError: nested deeper than ``MAX_DEPTH``, which would exhaust the stack.
        """
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError("nested too deep")

    # ---- what the subclass defines

    def items(self, stops: tuple[str, ...]) -> list[Node]:
        """Parse relations between commas."""
        raise NotImplementedError

    def relation(self) -> Node:
        """Parse sides between relation signs."""
        raise NotImplementedError

    def sum(self) -> Node:
        """Parse terms between plus and minus."""
        raise NotImplementedError

    def signed_factor(self) -> Node:
        """Parse a factor with its signs."""
        raise NotImplementedError

    def unit_text(self) -> str:
        """Parse the words of a unit."""
        raise NotImplementedError

    def nested(self, tokens: list[Token]) -> Node:
        """Parse other tokens."""
        raise NotImplementedError
