"""Errors: few, and each says what happened, where, and what to do next.

Every error that a user can cause is a ``FactoryError``; the command line prints its text as one
line and exits with its ``exit_code``. Anything else that escapes is a bug of ours.

A row that cannot be handled is no error: it is data (an ``unscored`` verdict, a null score,
a failure row) and never stops the rest.
"""

from __future__ import annotations

from collections.abc import Iterable


class FactoryError(Exception):
    """Base of all errors with a user-facing message.

    Args:
        what: what happened, and where.
        todo: what to do next; may be empty where the first part says it.

    >>> str(FactoryError("no file 'x.jsonl'", "check the path"))
    "no file 'x.jsonl': check the path"
    """

    exit_code = 1

    def __init__(self, what: str, todo: str = "") -> None:
        super().__init__(what, todo)  # both in args, so that the error survives pickling
        self.what = what
        self.todo = todo

    def __str__(self) -> str:
        return f"{self.what}: {self.todo}" if self.todo else self.what


class UsageError(FactoryError):
    """The call itself is wrong: unknown name, missing file, colliding column, bad option."""

    exit_code = 2


class ConfigError(UsageError):
    """A recipe or an option does not fit its declared form."""


class PluginError(UsageError):
    """A verifier, score, engine or source cannot be found or does not keep its contract."""


class StoreError(FactoryError):
    """The store is damaged, of another format version, full, or held by somebody else."""


class CorruptError(StoreError):
    """A file's bytes differ from what was written; the message names the file."""


class Refused(FactoryError):
    """Work was refused before it began because it could not have been done safely.

    Raised, for example, by the code verifier where no sandbox tier holds.
    """


class EngineError(FactoryError):
    """The engine died or cannot start; what was committed is kept."""


def listed(names: Iterable[str]) -> str:
    """Return names, of columns or files, as a message tells them: cut where they are many.

    >>> listed(["a", "b"]), len(listed(["column"] * 1000))
    ('a, b', 298)
    """
    text = ", ".join(names)
    return text if len(text) <= 300 else text[:297] + "…"
