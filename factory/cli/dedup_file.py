"""``factory dedup`` and ``factory decontaminate`` on plain files.

Both write one output row per input row, in input order, the input's columns kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from factory.cli.file_rows import Tally, check_paths, refuse_collision, refuse_unread
from factory.cli.printing import counted
from factory.errors import UsageError, listed
from factory.records.text import clean_text
from factory.rows import files
from factory.rows.files import Malformed, Row
from factory.rows.paths import compiled, opened
from factory.rows.texts import joined

DEDUP_COLUMNS = ("cluster_id", "is_duplicate")
CONTAMINATION_COLUMNS = ("is_contaminated", "contaminated_by", "matched_ngram")


def dedup_file(
    source: str,
    out: str,
    *,
    column: str,
    threshold: float | None,
    ngram: int | None,
    mapping: Mapping[str, str],
    prefix: str = "",
) -> Tally:
    """Write ``cluster_id`` and ``is_duplicate``; the first row of a cluster is no duplicate.

    Args:
        source: path (no standard input: the file is read twice).
        out: path or ``-``.
        column: text column.
        threshold: Jaccard similarity of word n-grams at and above which two texts are one; None:
            0.7, or 0.55 for short texts.
        ngram: words per n-gram; None: 5, or 2 for short texts.
        mapping: name that we read → column of the input.
        prefix: put before the written columns.
    """
    from factory.sets.near_duplicates import cluster, mark

    check_paths(source, out)
    if source == "-":
        raise UsageError("dedup reads its input twice", "give a file instead of -")
    refuse_unread(mapping, _names_of([column]))
    is_null: list[bool] = []
    have: set[str] = set()

    def texts() -> Iterator[list[str | None]]:
        for batch in counted("rows read", files.read_batches(source)):
            rows = [None if isinstance(r, Malformed) else r for r in batch]
            have.update(name for row in rows if row for name in row)
            found = [None if row is None else _text(row, column, mapping) for row in rows]
            is_null.extend(text is None for text in found)
            yield found

    label = cluster(texts(), threshold=threshold, ngram=ngram)
    if have and all(is_null):
        _refuse_no_text([dict.fromkeys(have)], [], list(mapping.values()))
    if have and all(is_null) and column not in have:
        raise UsageError(
            f"no column {column!r} in the input",
            f"it has {listed(sorted(have))}: use --column or --map",
        )
    frame = mark(pl.DataFrame({"null": is_null}, schema={"null": pl.Boolean}), label)
    nothing = pl.when("null").then(None)
    frame = frame.with_columns(nothing.otherwise(pl.col(c)).alias(c) for c in DEDUP_COLUMNS)
    found = frame.select(DEDUP_COLUMNS).iter_rows()
    tally = Tally()

    def batches() -> Iterator[list[Row]]:
        for batch in counted("rows written", files.read_batches(source)):
            refuse_collision(batch, [prefix + c for c in DEDUP_COLUMNS])
            rows = []
            for row in batch:
                values = dict(zip(DEDUP_COLUMNS, next(found), strict=True))
                rows.append(_merge(row, values, prefix, tally, "duplicate", values["is_duplicate"]))
            yield rows

    files.write_rows(out, batches())
    return tally


def decontaminate_file(
    source: str,
    out: str,
    *,
    against: Sequence[str],
    columns: Sequence[str] | None,
    ngram: int,
    mapping: Mapping[str, str],
    against_mapping: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    prefix: str = "",
) -> tuple[Tally, list[str]]:
    """Write ``is_contaminated``, ``contaminated_by`` and ``matched_ngram``.

    Args:
        source: path or ``-``.
        out: path or ``-``.
        against: benchmark files; their prompts and reference solutions are looked for.
        columns: columns (or paths) to check; default: every text of a row, wherever it stands.
        ngram: words that must run alike (DeepSeek-R1: 10).
        mapping: name that we read → column, path or template of the input; read beside the rest.
        against_mapping: ``prompt`` and ``solution`` → the same of the benchmarks.
        ignore: instructions that are no sign of contamination.
        prefix: put before the written columns.

    Returns:
        The tally, and a line for each instruction that was set aside.
    """
    from factory.stages.overlap import HEAD_ROWS, OverlapCheck, benchmark_items, texts_of_row

    check_paths(source, out)
    refuse_unread(mapping, {*(columns or ()), *_TEXT_COLUMNS})
    refuse_unread(against_mapping or {}, ("prompt", "solution"))
    benchmarks = {path: benchmark_items(path, against_mapping, ngram=ngram) for path in against}
    wanted = None if columns is None else [mapping.get(c, c) for c in columns]

    def texts_of(row: Row | Malformed) -> list[str]:
        if isinstance(row, Malformed):
            return []
        found = texts_of_row(row, wanted)
        return found if columns is not None else found + texts_of_row(row, list(mapping.values()))

    reading = files.read_batches(source)
    first: list[list[Row | Malformed]] = []
    while sum(map(len, first)) < HEAD_ROWS and (batch := next(reading, None)):
        first.append(batch)
    rows = [row for batch in first for row in batch if isinstance(row, dict)]
    _refuse_no_text(rows, wanted or [], list(mapping.values()))
    checker = OverlapCheck(benchmarks, [texts_of(r) for r in rows], ngram=ngram, ignore=ignore)
    tally = Tally()

    def batches() -> Iterator[list[Row]]:
        for batch in counted("rows", itertools.chain(first, reading)):
            refuse_collision(batch, [prefix + c for c in CONTAMINATION_COLUMNS])
            checked = checker.check([texts_of(row) for row in batch]).select(CONTAMINATION_COLUMNS)
            yield [
                _merge(row, values, prefix, tally, "contaminated", values["is_contaminated"])
                for row, values in zip(batch, checked.iter_rows(named=True), strict=True)
            ]

    files.write_rows(out, batches())
    return tally, list(checker.notes())


_TEXT_COLUMNS = ("prompt", "problem", "question", "completion", "reasoning", "answer", "text",
                 "output", "raw", "solution", "messages")  # fmt: skip
_WHOLE = ("messages", "conversations", "generations", "prompt", "problem", "question",
          "instruction")  # fmt: skip


def _refuse_no_text(rows: Sequence[Row], wanted: Sequence[str], mapped: Sequence[str]) -> None:
    """Refuse a file in which a named column stands nowhere, or no row holds any text."""
    have = {name for row in rows for name in row}
    for name in (*wanted, *mapped):
        if rows and compiled(name, have) is None:
            raise UsageError(f"no column {name!r} in the input", f"it has {listed(sorted(have))}")


def _names_of(columns: Sequence[str]) -> set[str]:
    """Return the names that are read for these columns (``_text``)."""
    joined = {"completion", "reasoning", "answer"}
    return {*columns, *(joined if {"text", "completion"}.intersection(columns) else ())}


def _text(row: Row, column: str, mapping: Mapping[str, str]) -> str | None:
    """Return the text of a column (or path); by default of whichever there is, as one text."""
    view = {**row, **{name: _value(row, path) for name, path in mapping.items()}}
    value = _value(view, column)
    if value is None and column in ("text", "completion"):
        value = files.completion_of(view)
    if value is None and column == "text":
        value = next((view[name] for name in _WHOLE if view.get(name)), None)
    text = joined(opened(value))
    return clean_text(text) if text is not None else value if isinstance(value, str) else None


def _value(row: Row, path: str) -> Any:
    value = compiled(path, row.keys())
    return None if value is None else value.of(row)


def _merge(
    row: Row | Malformed, values: Mapping[str, Any], prefix: str, tally: Tally, word: str, hit: Any
) -> Row:
    fields = {prefix + key: value for key, value in values.items()}
    if isinstance(row, Malformed):
        tally.add_malformed(row)
        return {"status": "unscored", "reason": "malformed_row", "line": row.line} | fields
    tally.add("no text" if hit is None else word if hit else "clean", unhandled=False)
    return {**row, **fields}
