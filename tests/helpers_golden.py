"""Case tables of ``tests/golden``: fields between " | ", "#" for comments, "⏎" for a line break."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def golden_rows(name: str, *, before: int, after: int) -> list[list[str]]:
    """Return a table's rows; the text, which may itself hold the mark, has fields on both sides.

    Args:
        name: of the file.
        before, after: number of fields before and after the text.
    """
    rows = []
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            *head, rest = line.split(" | ", before)
            text, *tail = rest.rsplit(" | ", after)
            rows.append([*head, text.replace("⏎", "\n"), *tail])
    return rows
