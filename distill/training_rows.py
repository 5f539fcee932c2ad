"""Rows to train on: from files, and as tokens on disk that training maps into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.preflight import Row, check_row, read_row
from distill.templates import Template
from factory.errors import UsageError
from factory.rows import files

_CHUNK_ROWS = 1000
_IN_FOLDERS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


def read_rows(path: Path, *, max_rows: int | None = None) -> list[Row]:
    """Read prompt–completion rows, in the order of the file names and of the rows.

    Args:
        path: a file that ``factory.rows.files`` reads, or a folder of ``.jsonl`` (also ``.gz``,
            ``.zst``) and ``.parquet`` files.
        max_rows: stop after so many.

    Raises:
        UsageError: a missing file, an unknown ending, or a line that is no JSON object.
        Refused: a row without prompt or completion.
    """
    paths = [path]
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.is_file() and p.name.endswith(_IN_FOLDERS))
        if not paths:
            raise UsageError(f"{path} holds no .jsonl or .parquet file", "check the path")
    rows: list[Row] = []
    for file in paths:
        files.check_input(str(file))
        for index, values in enumerate(files.read_rows(str(file)), 1):
            if max_rows is not None and len(rows) >= max_rows:
                return rows
            if isinstance(values, files.Malformed):
                raise UsageError(f"{file} line {values.line}: {values.why}", "correct the file")
            rows.append(read_row(values, where=f"{file.name} row {index}"))
    return rows


def write_tokens(
    rows: Sequence[Row],
    *,
    tokenizer: Any,
    template: Template,
    max_length: int,
    path: Path,
) -> Any:
    """Write tokens and labels as an Arrow file and open it, mapped into memory.

    Every row is checked as in preflight: what preflight did not look at is looked at here. A file
    that a stopped run left at ``path`` is whole, and is taken as it is.

    Returns:
        A ``datasets.Dataset`` of ``input_ids`` and ``labels``; rows over ``max_length`` tokens are
        left out.

    Raises:
        Refused: a row that would train something else than it says.
    """
    import pyarrow as pa
    from datasets import Dataset

    if path.exists():
        return Dataset.from_file(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema({"input_ids": pa.list_(pa.int32()), "labels": pa.list_(pa.int32())})
    part = path.with_name(f".{path.name}.part")
    with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for begin in range(0, len(rows), _CHUNK_ROWS):
            chunk = []
            for at, row in enumerate(rows[begin : begin + _CHUNK_ROWS], begin + 1):
                seen = check_row(row, tokenizer=tokenizer, template=template, where=f"row {at}")
                if len(seen.input_ids) <= max_length:
                    chunk.append({"input_ids": seen.input_ids, "labels": seen.labels})
            writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=schema))
    part.replace(path)
    return Dataset.from_file(str(path))
