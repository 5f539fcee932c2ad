"""``factory dedup`` and ``factory decontaminate`` on plain files.

Both write one output row per input row, in input order, the input's columns kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from factory.cli.file_rows import Tally, check_paths, refuse_collision, refuse_unread
from factory.errors import UsageError
from factory.records.text import clean_text
from factory.rows import files
from factory.rows.files import Malformed, Row

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
        for batch in files.read_batches(source):
            rows = [None if isinstance(r, Malformed) else r for r in batch]
            have.update(name for row in rows if row for name in files.map_columns(row, mapping))
            found = [None if row is None else _text(row, column, mapping) for row in rows]
            is_null.extend(text is None for text in found)
            yield found

    label = cluster(texts(), threshold=threshold, ngram=ngram)
    if have and column not in have and all(is_null):
        raise UsageError(
            f"no column {column!r} in the input",
            f"it has {', '.join(sorted(have))[:300]}: use --column or --map",
        )
    frame = mark(pl.DataFrame({"null": is_null}, schema={"null": pl.Boolean}), label)
    nothing = pl.when("null").then(None)
    frame = frame.with_columns(nothing.otherwise(pl.col(c)).alias(c) for c in DEDUP_COLUMNS)
    found = frame.select(DEDUP_COLUMNS).iter_rows()
    tally = Tally()

    def batches() -> Iterator[list[Row]]:
        for batch in files.read_batches(source):
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
    prefix: str = "",
) -> Tally:
    """Write ``is_contaminated``, ``contaminated_by`` and ``matched_ngram``.

    Args:
        source: path or ``-``.
        out: path or ``-``.
        against: benchmark files; their prompts and reference solutions are looked for.
        columns: text columns to check; default: those of prompt, completion, text … that are there.
        ngram: words that must run alike (DeepSeek-R1: 10).
        mapping: name that we read → column of the input.
        prefix: put before the written columns.
    """
    from factory.sets.decontaminate import Decontaminator, benchmark_texts

    check_paths(source, out)
    refuse_unread(mapping, _names_of(columns) if columns else _TEXT_COLUMNS)
    benchmarks = {}
    for path in against:
        files.check_input(path)
        rows = [r for r in files.read_rows(path) if isinstance(r, dict)]
        texts = benchmark_texts(rows)
        if not texts:
            raise UsageError(f"no prompt in benchmark {path!r}", "its rows need prompt or problem")
        benchmarks[path] = texts
    checker = Decontaminator(benchmarks, ngram=ngram)
    tally = Tally()

    def batches() -> Iterator[list[Row]]:
        for batch in files.read_batches(source):
            refuse_collision(batch, [prefix + c for c in CONTAMINATION_COLUMNS])
            wanted = list(columns or _text_columns(batch, mapping))
            frame = pl.DataFrame(
                {
                    c: [None if isinstance(r, Malformed) else _text(r, c, mapping) for r in batch]
                    for c in wanted
                },
                schema=dict.fromkeys(wanted, pl.String),
            )
            checked = checker.check(frame, columns=wanted).select(CONTAMINATION_COLUMNS)
            yield [
                _merge(row, values, prefix, tally, "contaminated", values["is_contaminated"])
                for row, values in zip(batch, checked.iter_rows(named=True), strict=True)
            ]

    files.write_rows(out, batches())
    return tally


_TEXT_COLUMNS = ("prompt", "problem", "question", "completion", "reasoning", "answer", "text",
                 "output", "raw", "solution")  # fmt: skip


def _names_of(columns: Sequence[str]) -> set[str]:
    """Return the names that are read for these columns (``_text``)."""
    joined = {"completion", "reasoning", "answer"}
    return {*columns, *(joined if {"text", "completion"}.intersection(columns) else ())}


def _text_columns(batch: Sequence[Row | Malformed], mapping: Mapping[str, str]) -> list[str]:
    rows = [files.map_columns(r, mapping) for r in batch if isinstance(r, dict)]
    found = [c for c in _TEXT_COLUMNS if any(isinstance(r.get(c), str) for r in rows)]
    if rows and not found:
        raise UsageError(
            f"no text column in the input ({', '.join(sorted(rows[0]))[:200]})",
            "give --column NAME",
        )
    return found or ["text"]


def _text(row: Row, column: str, mapping: Mapping[str, str]) -> str | None:
    view = files.map_columns(row, mapping)
    value = view.get(column)
    if not isinstance(value, str) and column in ("text", "completion"):
        value = files.completion_of(view)
    return clean_text(value) if isinstance(value, str) else None


def _merge(
    row: Row | Malformed, values: Mapping[str, Any], prefix: str, tally: Tally, word: str, hit: Any
) -> Row:
    fields = {prefix + key: value for key, value in values.items()}
    if isinstance(row, Malformed):
        tally.add_malformed(row)
        return {"status": "unscored", "reason": "malformed_row", "line": row.line} | fields
    tally.add("no text" if hit is None else word if hit else "clean", unhandled=False)
    return {**row, **fields}
