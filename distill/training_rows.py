"""Rows to train on: from files, and as tokens on disk that training maps into memory."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from distill.preflight import Row, check_row, read_row
from distill.templates import Template
from factory.errors import UsageError

_CHUNK_ROWS = 1000


def read_rows(path: Path, *, max_rows: int | None = None) -> list[Row]:
    """Read prompt–completion rows, in the order of the file names and of the rows.

    Args:
        path: JSON Lines (``.jsonl``, ``.gz`` and ``.zst`` too), Parquet, or a folder of them.
        max_rows: stop after so many.

    Raises:
        UsageError: a missing file, an unknown ending, or a line that is no JSON object.
        Refused: a row without prompt or completion.
    """
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and _kind(p))
        if not files:
            raise UsageError(f"{path} holds no .jsonl or .parquet file", "check the path")
    else:
        files = [path]
    rows: list[Row] = []
    for file in files:
        for index, values in enumerate(_values(file), 1):
            if max_rows is not None and len(rows) >= max_rows:
                return rows
            rows.append(read_row(values, where=f"{file.name} row {index}"))
    return rows


def _kind(path: Path) -> str | None:
    suffixes = [s for s in path.suffixes if s not in (".gz", ".zst")]
    return {".jsonl": "jsonl", ".parquet": "parquet"}.get(suffixes[-1] if suffixes else "")


def _values(path: Path) -> Iterator[dict[str, Any]]:
    kind = _kind(path)
    if kind is None:
        raise UsageError(f"{str(path)!r} is neither .jsonl nor .parquet", "export the release")
    if not path.is_file():
        raise UsageError(f"no file {str(path)!r}", "check the path")
    if kind == "parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches(columns=["prompt", "completion"]):
            yield from batch.to_pylist()
        return
    with _text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except ValueError:
                raise UsageError(f"{path} line {number} is no JSON", "correct the file") from None
            if not isinstance(values, dict):
                raise UsageError(f"{path} line {number} is no object", "correct the file")
            yield values


def _text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    if path.suffix == ".zst":
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(path.open("rb"))
        return io.TextIOWrapper(reader, encoding="utf-8")
    return path.open(encoding="utf-8")


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
