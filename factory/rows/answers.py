"""Answers of queries, and their printed forms: table, JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from factory.errors import UsageError

Format = Literal["table", "json", "csv", "md"]
CELL_CHARS = 60
LEAST_CELL_CHARS = 8
LAST_CELL_CHARS = 110
"""Of the last column, which pushes nothing aside."""


@dataclass(frozen=True)
class Answer:
    """Rows with their column names.

    Attributes:
        columns: names, each once.
        rows: shape (n_rows, n_columns).
        title: heading, where several answers are shown together.
        note: what the reader should know beside the rows (rows left out); for standard error.
        seconds: wall seconds that the query took.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    title: str = ""
    note: str = ""
    seconds: float = 0.0

    def dicts(self) -> list[dict[str, Any]]:
        """Return one dict per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def render(self, form: Format = "table") -> str:
        r"""Return the printed form, ending in a newline.

        Raises:
            UsageError: no such form.

        >>> print(Answer(("name", "n"), [("a", 1), ("b|", None)]).render("md"), end="")
        | name | n |
        | --- | ---: |
        | a | 1 |
        | b\| |  |
        """
        if form not in get_args(Format):
            raise UsageError(f"unknown format {form!r}", f"known: {', '.join(get_args(Format))}")
        head = f"{self.title}\n" if self.title and form == "table" else ""
        head = f"### {self.title}\n\n" if self.title and form == "md" else head
        return head + _FORMS[form](self)


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names with repeated ones numbered, so that no column hides another.

    >>> unique_names(["n", "n", "n_1"])
    ('n', 'n_2', 'n_1')
    """
    taken, out = set(names), []
    seen: set[str] = set()
    for name in names:
        chosen, i = name, 2
        while chosen in seen:
            if f"{name}_{i}" not in taken | seen:
                chosen = f"{name}_{i}"
            i += 1
        seen.add(chosen)
        out.append(chosen)
    return tuple(out)


def plain(value: Any) -> Any:
    """Return a JSON-ready value; what JSON lacks becomes text, NaN and infinity null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def printable(text: str) -> str:
    r"""Return one line that is safe on a terminal: control characters become visible.

    Texts are written by models and may hold escape sequences.

    >>> printable("a\n\x1b[31mred")
    'a\\n\\x1b[31mred'
    """
    if text.isprintable():
        return text
    names = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return "".join(
        c if c.isprintable() else names.get(c) or c.encode("unicode_escape").decode() for c in text
    )


def md_text(text: str) -> str:
    r"""Return one line of Markdown that shows the text: no cell, no HTML, no code begins in it.

    >>> print(md_text("a|<b>"))
    a\|&lt;b>
    """
    return printable(text).replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")


def width(text: str) -> int:
    """Return the columns that a text takes on a terminal (wide East Asian characters take two).

    >>> width("a中")
    3
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _table(answer: Answer) -> str:
    if not answer.columns:
        return ""
    limits = [*[CELL_CHARS] * (len(answer.columns) - 1), LAST_CELL_CHARS]
    cells = [[_cell(v, n) for v, n in zip(row, limits, strict=True)] for row in answer.rows]
    widths = [
        max([width(name), *(width(row[i]) for row in cells)])
        for i, name in enumerate(answer.columns)
    ]
    right, names, n_left_out = _is_number(answer), list(answer.columns), 0
    if sys.stdout.isatty():  # what is piped is read by programs: nothing of it is cut
        widths = fitted(widths, shutil.get_terminal_size().columns)
        n_left_out = len(names) - len(widths)
        names = [_cut(name, w) for name, w in zip(names, widths, strict=False)]
        cells = [[_cut(c, w) for c, w in zip(row, widths, strict=False)] for row in cells]
        right = right[: len(widths)]
    lines = [_line(names, widths, right), "  ".join("-" * w for w in widths)]
    lines += [_line(row, widths, right) for row in cells]
    lines += [f"({n_left_out} more columns; --json shows all)"] if n_left_out else []
    return "\n".join(line.rstrip() for line in lines) + "\n"


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """Return the widths of the columns that a terminal has room for: the widest give way first.

    >>> fitted([4, 50, 9], 40), fitted([20] * 9, 40)
    ([4, 23, 9], [8, 8, 9, 9])
    """
    n = len(widths)
    while n > 1 and sum(min(w, LEAST_CELL_CHARS) for w in widths[:n]) + 2 * (n - 1) > room:
        n -= 1
    left, out = room - 2 * (n - 1), list(widths[:n])
    for place, at in enumerate(sorted(range(n), key=lambda i: widths[i])):
        out[at] = max(1, min(widths[at], left // (n - place)))
        left -= out[at]
    return out


def _cut(text: str, room: int) -> str:
    if width(text) <= room:
        return text
    while width(text) > room - 1:
        text = text[:-1]
    return text + "…"


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = []
    for cell, wide, is_right in zip(cells, widths, right, strict=True):
        pad = " " * (wide - width(cell))
        parts.append(pad + cell if is_right else cell + pad)
    return "  ".join(parts)


def _cell(value: Any, limit: int) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{value:.6g}" if not float(value).is_integer() else f"{value:.1f}"
    elif isinstance(value, dict | list | tuple):
        text = json.dumps(plain(value), ensure_ascii=False)
    else:
        text = str(value)
    text = printable(text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _is_number(answer: Answer) -> list[bool]:
    def numeric(column: int) -> bool:
        values = [row[column] for row in answer.rows if row[column] is not None]
        return bool(values) and all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in values
        )

    return [numeric(i) for i in range(len(answer.columns))]


def _json(answer: Answer) -> str:
    rows = [json.dumps(plain(row), ensure_ascii=False) for row in answer.dicts()]
    return "[" + ",\n ".join(rows) + "]\n"


def _csv(answer: Answer) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answer.columns)
    for row in answer.rows:
        flat = (json.dumps(plain(v)) if isinstance(v, dict | list | tuple) else v for v in row)
        writer.writerow(["" if v is None else _cell_text(v) for v in flat])
    return out.getvalue()


_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\s\d.]*$)\S")


def _cell_text(value: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would run as a formula; JSON is exact."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _md(answer: Answer) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(md_text(c) for c in cells) + " |"

    rule = ["---:" if right else "---" for right in _is_number(answer)]
    lines = [
        row(answer.columns),
        row(rule),
        *(row([_cell(v, 400) for v in r]) for r in answer.rows),
    ]
    return "\n".join(lines) + "\n"


def pieces(
    columns: tuple[str, ...], batches: Iterable[list[tuple[Any, ...]]], form: Format
) -> Iterator[str]:
    r"""Yield a printed form piece by piece, however many rows there are; not that of a table.

    >>> batches = [[(1,), (2,)], [(3,)]]
    >>> "".join(pieces(("a",), batches, "json")) == Answer(("a",), sum(batches, [])).render("json")
    True
    >>> "".join(pieces(("a",), [], "csv"))
    'a\n'
    """
    n_head = {"csv": 1, "md": 2}.get(form, 0)
    is_first = True
    for rows in (b for b in batches if b):
        text = Answer(columns, rows).render(form)
        if form == "json":
            yield ("[" if is_first else ",\n ") + text[1:-2]
        else:
            yield text if is_first else text.split("\n", n_head)[n_head]
        is_first = False
    if is_first:
        yield Answer(columns, []).render(form)
    elif form == "json":
        yield "]\n"


_FORMS = {"table": _table, "json": _json, "csv": _csv, "md": _md}
