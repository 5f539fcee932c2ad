"""Plain files: JSON, CSV (also .gz, .zst), Arrow and Parquet, row by row, in bounded memory.

JSON is JSON Lines, an array, or objects over several lines. A line that is no JSON object, or not
UTF-8, becomes a ``Malformed`` row and does not stop the rest.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
import zstandard

from factory import dialects
from factory.errors import UsageError
from factory.records.text import clean, clean_text
from factory.rows import arrow, json_values, parquet, paths, tables
from factory.rows.bounds import SMALL_BYTES, Unpacked
from factory.store.durable import replacing

Row = dict[str, Any]
BATCH_ROWS = 1024
BATCH_CHARS = 16 << 20
MAX_ROW_BYTES = json_values.MAX_BYTES
ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst", ".parquet")
"""What can be written, and read."""
READ_ENDINGS = (
    *ENDINGS, ".ndjson", ".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz", ".tsv.zst", ".arrow",
    ".feather",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that could not be read: its 1-based number and why."""

    line: int
    why: str


def check_input(path: str) -> None:
    """Refuse an input that cannot be read, before any work.

    Raises:
        UsageError: missing, a folder, or an unknown ending.
    """
    if path == "-":
        return
    file = Path(path)
    if not file.exists():
        raise UsageError(f"no file {path!r}", "check the path")
    if file.is_dir():
        raise UsageError(f"{path!r} is a folder", f"give a file ({', '.join(READ_ENDINGS)})")
    if not file.is_file():  # a pipe without a writer would be waited for, a device has no end
        raise UsageError(f"{path!r} is no regular file", "- reads standard input")
    _check_ending(path, READ_ENDINGS)


def expanded(names: Sequence[str]) -> list[str]:
    """Return the files that names of files, folders and patterns name.

    A folder gives its data files in order of their names; one of ``datasets.save_to_disk`` the
    files of its state, or of its split ``train``.

    Raises:
        UsageError: nothing is there, or a file has an unknown ending.
    """
    out: list[str] = []
    for path in names:
        found = [path]
        if any(c in path for c in "*?[") and not Path(path).exists():
            found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - patterns are absolute too
            if not found:
                raise UsageError(f"no file fits {path!r}", "check the pattern")
        for one in found:
            out += _of_folder(Path(one)) if one != "-" and Path(one).is_dir() else [one]
    for one in out:
        check_input(one)
    return out


def _of_folder(folder: Path) -> list[str]:
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        names = json.loads(splits.read_text("utf-8")).get("splits") or []
        if "train" not in names:
            raise UsageError(
                f"{str(folder)!r} has no split 'train'", f"give the folder of one: {names}"
            )
        return _of_folder(folder / "train")
    state = folder / "state.json"
    if state.is_file():
        held = json.loads(state.read_text("utf-8")).get("_data_files") or []
        return [str(folder / f["filename"]) for f in held]
    others = {"dataset_info.json", "dataset_infos.json", "config.json", "package.json"}
    found = sorted(
        str(p) for p in folder.rglob("*")
        if p.is_file() and p.name.lower().endswith(READ_ENDINGS) and p.name not in others
        and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )  # fmt: skip
    if not found:
        raise UsageError(
            f"no data file in {str(folder)!r}",
            f"put one of {', '.join(READ_ENDINGS)} in it, or name another folder",
        )
    return found


def check_output(path: str) -> None:
    """Refuse an output that cannot be written, before any work.

    Raises:
        UsageError: an unknown ending or a missing folder.
    """
    if path == "-":
        return
    _check_ending(path)
    if not Path(path).resolve().parent.is_dir():
        raise UsageError(f"no folder {str(Path(path).parent)!r}", "make it first")


def _check_ending(path: str, endings: tuple[str, ...] = ENDINGS) -> None:
    if not path.lower().endswith(endings):
        raise UsageError(f"{path!r} has an unknown ending", f"use one of {', '.join(endings)}")


def read_rows(path: str) -> Iterator[Row | Malformed]:
    """Yield the rows of a file in order (``-`` is standard input as JSON Lines).

    Raises:
        UsageError: the file as a whole cannot be read (no Parquet, broken compression).
    """
    name = path.lower()
    if name.endswith(".parquet"):
        for number, row in enumerate(parquet.read(path, n_rows=BATCH_ROWS), start=1):
            yield Malformed(number, row) if isinstance(row, str) else row
        return
    if name.endswith((".arrow", ".feather")):
        yield from arrow.rows(path)
        return
    try:
        with _open_read(path) as handle:
            if name.removesuffix(".gz").removesuffix(".zst").endswith((".csv", ".tsv")):
                rows = tables.csv_rows(bounded_lines(handle), tabs=".tsv" in name[-8:])
                for number, row in enumerate(rows, start=2):
                    yield Malformed(number, row) if isinstance(row, str) else row
            elif ".json" in name[-9:] and not json_values.is_lines(_peek(handle)):
                yield from _json_rows(path, handle)
            else:
                yield from _lines(handle)
    except MemoryError:
        raise UsageError(f"{path} needs more memory than there is", "split it") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise UsageError(f"{path} is cut off or damaged ({error})", "fetch it again") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})", "check the file") from None


Span = tuple[int, int] | None
"""A part of a file: bytes of JSON Lines, row groups of Parquet, first and behind the last."""


def spans(path: str, n_bytes: int) -> list[Span]:
    """Return the parts of a file that can be read by themselves, each of about ``n_bytes``.

    Plain JSON Lines and Parquet have parts; any other file is one, ``None``: all of it.
    """
    name, size = path.lower(), Path(path).stat().st_size
    if name.endswith(".parquet"):
        import pyarrow.parquet as pq

        n = pq.read_metadata(path).num_row_groups
        step = max(1, n_bytes * n // max(1, size))
        return [(i, min(n, i + step)) for i in range(0, n, step)]
    if not name.endswith((".jsonl", ".ndjson")):
        return [None]
    with Path(path).open("rb") as handle:
        if not json_values.is_lines(_peek(cast(BinaryIO, handle))):
            return [None]
    return [(i, min(size, i + n_bytes)) for i in range(0, size, n_bytes)]


def read_span(path: str, span: Span) -> Iterator[Row | Malformed]:
    """Yield the rows of one of a file's ``spans``; a line belongs to that in which it begins.

    Numbers of malformed lines count from the beginning of the part.

    Raises:
        UsageError: as ``read_rows``.
    """
    if span is None:
        yield from read_rows(path)
        return
    begin, end = span
    if path.lower().endswith(".parquet"):
        found = parquet.read(path, n_rows=BATCH_ROWS, groups=range(begin, end))
        for number, row in enumerate(found, start=1):
            yield Malformed(number, row) if isinstance(row, str) else row
        return
    with Path(path).open("rb", 1 << 20) as handle:
        if begin:
            handle.seek(begin - 1)
            handle.readline()
        yield from _lines(handle, end)


_BOM = b"\xef\xbb\xbf"


def _peek(handle: BinaryIO) -> bytes:
    """Return the beginning of a file that can be read once only, without taking it."""
    found: bytes = cast(Any, handle).peek(1 << 16)
    return found.removeprefix(_BOM)


def _lines(handle: BinaryIO, end: int | None = None) -> Iterator[Row | Malformed]:
    for number, line in enumerate(bounded_lines(handle, end), start=1):
        if line is None:
            yield Malformed(number, f"longer than {MAX_ROW_BYTES >> 20} MiB")
            continue
        if number == 1:
            line = line.removeprefix(_BOM)
        if line and not line.isspace():
            yield _parse(line, number)


def _json_rows(path: str, handle: BinaryIO) -> Iterator[Row | Malformed]:
    number = 0
    try:
        for number, value in enumerate(json_values.values(handle), start=1):
            if isinstance(value, list):  # a row without names: its columns are 0, 1, 2 …
                value = {str(i): item for i, item in enumerate(value)}
            what = f"a JSON {type(value).__name__}, not an object"
            yield clean(value) if isinstance(value, dict) else Malformed(number, what)
    except (ValueError, RecursionError) as error:
        why = f"no JSON from the value {number + 1} on ({str(error)[:80]})"
        raise UsageError(f"{path}: {why}", "check the file; JSON Lines has a row a line") from None


def _parse(line: bytes, number: int) -> Row | Malformed:
    try:
        row = parquet.loads(line)
    except (ValueError, RecursionError):
        try:  # the standard library takes NaN and lone surrogates, which others do write
            row = clean(json.loads(line.decode("utf-8")))
        except UnicodeDecodeError as error:
            return Malformed(number, f"invalid UTF-8 ({error.reason})")
        except (ValueError, RecursionError) as error:
            return Malformed(number, f"no JSON ({str(error)[:80]})")
    if not isinstance(row, dict):
        return Malformed(number, f"a JSON {type(row).__name__}, not an object")
    return row


@contextlib.contextmanager
def _open_read(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
    elif path.lower().endswith((".gz", ".zst")):
        size = Path(path).stat().st_size
        for is_rehearsal in (True, False) if size < SMALL_BYTES else (False,):
            with Path(path).open("rb") as raw:
                is_gzip = path.lower().endswith(".gz")
                inner: Any = gzip.GzipFile(fileobj=raw) if is_gzip else _Zstd(raw)
                unpacked = io.BufferedReader(_Bounded(inner, size), 1 << 20)
                if is_rehearsal:
                    with contextlib.suppress(EOFError, OSError, zlib.error, zstandard.ZstdError):
                        while unpacked.read(1 << 20):
                            pass
                else:
                    yield cast(BinaryIO, unpacked)
    else:
        with Path(path).open("rb", 1 << 20) as plain:
            yield plain


class _Bounded(io.RawIOBase):
    """What is unpacked, up to what a text may be packed to; beyond that it is a bomb."""

    def __init__(self, inner: Any, packed_bytes: int) -> None:
        self._inner, self._unpacked = inner, Unpacked(packed_bytes)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; 0 at the end.

        Raises:
            UsageError: far more comes out than ever was a text.
        """
        n = int(self._inner.readinto(buffer))
        self._unpacked.add(n)
        return n


def bounded_lines(handle: BinaryIO, end: int | None = None) -> Iterator[bytes | None]:
    """Yield the lines of a file; None for one longer than ``MAX_ROW_BYTES``, which is not held.

    Args:
        handle: read from where it stands.
        end: yield the lines that begin before it; None: all.
    """
    while (end is None or handle.tell() < end) and (line := handle.readline(MAX_ROW_BYTES + 1)):
        if len(line) <= MAX_ROW_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = handle.readline(1 << 20)
        yield None


class _Zstd(io.RawIOBase):
    """Reads zstd frames one after the other.

    Unlike the library's own reader, an end inside a frame is an error.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; 0 at the end.

        Raises:
            EOFError: the file ends inside a frame.
        """
        while not self._ready:
            # Small pieces: four bytes may stand for 128 KiB.
            piece = self._raw.read(1 << 12)
            if not piece:
                if self._frame is not None:
                    raise EOFError("it ends inside a frame")
                return 0
            found = b""
            while piece:
                self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
                found += self._frame.decompress(piece)
                piece = b""
                if self._frame.eof:
                    piece, self._frame = self._frame.unused_data, None
            self._ready = memoryview(found)
        n = min(len(buffer), len(self._ready))
        buffer[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n


def read_batches(
    path: str, *, n_rows: int = BATCH_ROWS, n_chars: int = BATCH_CHARS
) -> Iterator[list[Row | Malformed]]:
    """Yield the rows in lists that are bounded in number and in characters of text."""
    batch: list[Row | Malformed] = []
    size = 0
    for row in read_rows(path):
        batch.append(row)
        if isinstance(row, dict):
            size += sum(len(v) for v in row.values() if isinstance(v, str))
        if len(batch) >= n_rows or size >= n_chars:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def write_rows(path: str, batches: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    """Write rows in the form that the ending names; the file appears whole or not at all."""
    if path == "-":
        for batch in batches:
            for row in batch:
                sys.stdout.buffer.write(_dump(row))
        sys.stdout.buffer.flush()
        return
    with replacing(Path(path)) as tmp:
        if path.endswith(".parquet"):
            _write_parquet(tmp, batches)
        else:
            with _open_write(tmp, path) as handle:
                for batch in batches:
                    for row in batch:
                        handle.write(_dump(row))


def _dump(row: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE, default=str)
    except TypeError:  # a lone surrogate or an integer beyond 64 bits
        text = json.dumps(row, ensure_ascii=False, default=str)
        return clean_text(text).encode() + b"\n"


@contextlib.contextmanager
def _open_write(tmp: Path, path: str) -> Iterator[BinaryIO]:
    if path.endswith(".gz"):
        # No time in the header: the same rows give the same bytes.
        with tmp.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as zipped:
            yield cast(BinaryIO, zipped)
    elif path.endswith(".zst"):
        with tmp.open("wb") as raw, zstandard.ZstdCompressor(level=3).stream_writer(raw) as writer:
            yield cast(BinaryIO, writer)
    else:
        with tmp.open("wb") as plain:
            yield plain


def _write_parquet(tmp: Path, batches: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    spool = tmp.with_name(tmp.name + ".spool")
    try:
        waiting = parquet.Spool(spool)
        with spool.open("wb") as handle:
            waiting.fill(batches, _dump, handle=handle)
        waiting.write(tmp)
    finally:
        spool.unlink(missing_ok=True)


def map_columns(row: Row, mapping: Mapping[str, str]) -> Row:
    """Return what a verb reads: the row with the mapped names beside its own.

    >>> map_columns({"output": "4"}, {"completion": "output"})["completion"]
    '4'
    """
    if not mapping:
        return row
    return {**row, **{name: _mapped(row, text) for name, text in mapping.items()}}


def _mapped(row: Row, text: str) -> Any:
    """Return the value of a path, a template or a constant; None where the row lacks it."""
    if text in row:
        return row[text]
    value = _compiled(text, tuple(row))
    return None if value is None else value.of(row)


@functools.lru_cache(maxsize=256)
def _compiled(text: str, columns: tuple[str, ...]) -> paths.Value | None:
    return paths.compiled(text, columns)


SWITCHES = frozenset(
    ("", "on", "off", "true", "false", "yes", "no", "none", "low", "medium", "high")
)
"""Values of a column ``reasoning`` that switch thinking on or off and are none."""


def completion_of(row: Mapping[str, Any]) -> str | None:
    """Return the completion of a plain row, or its two halves joined; None where there is none."""
    text = row.get("completion")
    if isinstance(text, str):
        return text
    if isinstance(text, list) and text and isinstance(text[-1], dict):  # conversational TRL form
        content = text[-1].get("content")
        return content if isinstance(content, str) else None
    reasoning, answer = row.get("reasoning"), row.get("answer")
    # An answer alone is a key, more often than not.
    if isinstance(reasoning, str) and reasoning.strip().lower() not in SWITCHES:
        inner = dialects.split(reasoning)
        own = inner.reasoning if inner.dialect is not None else reasoning
        return dialects.join_reasoning(own, answer if isinstance(answer, str) else "")
    return None
