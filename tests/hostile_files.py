"""Files that are made to hurt whoever reads them, and a process that gives one to every verb."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tests.helpers_memory import own_peak_mib

OK = json.dumps({"prompt": "What is 2+2?", "completion": "so \\boxed{4}", "gold": "4"}).encode()
MIB = 1 << 20


def _row(**fields: object) -> bytes:
    return json.dumps({"prompt": "What is 2+2?", "completion": "4", "gold": "4", **fields}).encode()


def _zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


def _parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()


def _arrow(table: pa.Table, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as w:
        w.write_table(table)
    return sink.getvalue()


def _nothing(n_batches: int) -> pa.ChunkedArray:
    # pa.nulls would take a bit of memory for each of them.
    return pa.chunked_array([pa.NullArray.from_buffers(pa.null(), 2**31 - 1, [None])] * n_batches)


def _texts(n: int, text: str) -> pa.Table:
    return pa.table({"prompt": ["p"] * n, "completion": [text] * n, "gold": ["4"] * n})


def _string_in_gzip() -> bytes:
    return (
        gzip.compress(b'{"prompt": "p", "gold": "4", "completion": "')
        + gzip.compress(b"a" * (64 * MIB), 9) * 48
        + gzip.compress(b'"}\n')
    )


def _nested(depth: int, open_: str, close: str, inner: str = "1") -> bytes:
    return (open_ * depth + inner + close * depth).encode()


_BYTES = pa.array([b"\xff\xfe" * 50] * 50, pa.binary()).cast(pa.string(), safe=False)

MAKERS: dict[str, Callable[[], bytes]] = {
    # what unpacks to far more than it is
    "string.jsonl.gz": _string_in_gzip,
    "string.jsonl.zst": lambda: _zst(b"a" * (1024 * MIB)) * 64,
    "string.json.zst": lambda: _zst(b'[{"completion": "') + _zst(b"a" * (1024 * MIB)) * 4,
    "cells.csv.zst": lambda: _zst(b"completion,gold\n") + _zst(b"a,4\n" * (64 * MIB)) * 4,
    "objects.jsonl.gz": lambda: gzip.compress(b"{}\n" * (8 * MIB), 9) * 64,
    "newlines.jsonl.gz": lambda: gzip.compress(b"\n" * (64 * MIB), 9) * 48,
    "layers.jsonl.gz": lambda: gzip.compress(gzip.compress(b"a" * (512 * MIB), 9), 9),
    "window.jsonl.zst": lambda: bytes.fromhex("28b52ffd00b8000000"),
    "skipped.jsonl.zst": lambda: (
        (bytes.fromhex("502a4d18") + (1024).to_bytes(4, "little") + b"x" * 1024) * 500
    ),
    # cut off, or something else
    "cut.jsonl.gz": lambda: gzip.compress(OK * 1000)[:-9],
    "cut.jsonl.zst": lambda: _zst(OK * 1000)[:-9],
    "noise.jsonl.gz": lambda: b"\x1f\x8b\x08" + bytes(range(256)) * 40,
    "noise.jsonl.zst": lambda: bytes.fromhex("28b52ffd") + bytes(range(256)) * 40,
    "empty.jsonl": lambda: b"",
    "nul.jsonl": lambda: b"\x00" * MIB + b"\n" + OK,
    "utf16.jsonl": lambda: OK.decode().encode("utf-16") * 50,
    # lines and values without end
    "line.jsonl": lambda: _row(completion="a" * (80 * MIB)) + b"\n" + OK + b"\n",
    "near.jsonl": lambda: _row(completion="The answer is 4. " * (2 * MIB)) + b"\n" + OK + b"\n",
    "brackets.jsonl": lambda: b"[" * (100 * MIB),
    "value.json": lambda: b"[" + _row(completion="a" * (80 * MIB)) + b"]",
    "open.json": lambda: b"[" + (OK + b",\n") * 1000,
    "digits.jsonl": lambda: b'{"completion": "4", "gold": ' + b"9" * (4 * MIB) + b"}\n",
    "keys.jsonl": lambda: json.dumps({f"k{i}": 1 for i in range(500_000)}).encode() + b"\n" + OK,
    "columns.jsonl": lambda: b"\n".join(_row(**{f"c{i}": i}) for i in range(20_000)),
    "messages.jsonl": lambda: _row(prompt=[{"role": "user", "content": "x"}] * 300_000),
    # nested without end
    "deep.jsonl": lambda: _nested(100_000, "[", "]") + b"\n" + OK,
    "objects.jsonl": lambda: _nested(990, '{"a":', "}") + b"\n" + OK,
    "deep.json": lambda: b"[" + _nested(100_000, "[", "]") + b"]",
    "gold.jsonl": lambda: _row(gold=json.dumps({"a": "["}) + "[" * 200_000) + b"\n",
    # CSV
    "line.csv": lambda: b"completion,gold\n" + b"a" * (80 * MIB) + b",4\n",
    "quote.csv": lambda: b'completion,gold\n"' + b"a\n" * (50 * MIB),
    "rows.csv": lambda: b'completion,gold\n"' + b'","\n' * (20 * MIB),
    "names.csv": lambda: b",".join(b"c%d" % i for i in range(300_000)) + b"\n" + b"1," * 299_999,
    "same.csv": lambda: b"completion,completion\n1,2\n",
    # Parquet and Arrow
    "dictionary.parquet": lambda: _parquet(_texts(2000, "a" * (2 * MIB))),
    "values.parquet": lambda: _parquet(_texts(1000, os.urandom(MIB).hex()), row_group_size=1000),
    "nothing.parquet": lambda: _parquet(pa.table({"completion": pa.nulls(1 << 27)})),
    "list.parquet": lambda: _parquet(
        pa.table({"completion": ["4"], "n": pa.array([[7] * (1 << 24)], pa.list_(pa.int8()))})
    ),
    "cut.parquet": lambda: _parquet(_texts(1000, "4"))[:-200],
    "footer.parquet": lambda: _parquet(_texts(10, "4"))[:-8] + b"\xff\xff\xff\x7fPAR1",
    "bytes.parquet": lambda: _parquet(pa.table({"completion": _BYTES})),
    "nothing.arrow": lambda: _arrow(pa.table({"completion": _nothing(500)})),
    "cut.arrow": lambda: _arrow(_texts(1000, "4"))[:-2000],
    "dictionary.arrow": lambda: _arrow(
        pa.table(
            {
                "completion": pa.DictionaryArray.from_arrays(
                    pa.array([0] * 200_000, pa.int8()), pa.array(["a" * (2 * MIB)])
                )
            }
        ),
        "zstd",
    ),
    "packed.arrow": lambda: _arrow(_texts(1000, "a" * (2 * MIB - 1000)), "zstd"),
}


def make(name: str, folder: Path) -> Path:
    """Write one of the files and return its path."""
    path = folder / name
    path.write_bytes(MAKERS[name]())
    return path


VERBS = ("inspect", "verify", "score", "dedup", "decontaminate", "against", "import", "generate")


def _call(verb: str, path: str, work: Path) -> list[str]:
    out, good = str(work / "out.jsonl"), work / "good.jsonl"
    good.write_bytes(OK + b"\n")
    recipe = work / "recipe.yaml"
    recipe.write_text(
        json.dumps({
            "source": {"kind": "files", "paths": [path]},
            "engine": {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"},
            "sampling": {"temperature": 0.6, "max_tokens": 16},
            "policy": {"kind": "fixed", "n": 1},
        })
    )  # fmt: skip
    return {
        "inspect": ["inspect", path],
        "verify": ["verify", path, "--out", out, "--workers", "1"],
        "score": ["score", path, "--out", out],
        "dedup": ["dedup", path, "--out", out, "--column", "completion"],
        "decontaminate": ["decontaminate", path, "--out", out, "--against", str(good)],
        "against": ["decontaminate", str(good), "--out", out, "--against", path],
        "import": ["import", path, "--store", str(work / "data")],
        "generate": ["generate", str(recipe), "--plan", "--store", str(work / "data")],
    }[verb]


def main() -> None:
    """Give a file to each verb; print what happened, a JSON object a line."""
    from factory.cli.main import main as factory

    path, work = sys.argv[1], Path(sys.argv[2])
    for verb in sys.argv[3:]:
        said, start, error = io.StringIO(), time.monotonic(), ""
        before = sys.stderr, sys.stdout
        sys.stderr = sys.stdout = said
        try:
            status = factory(_call(verb, path, work))
        except BaseException:  # noqa: BLE001 - what escapes is what is looked for
            status, error = -1, traceback.format_exc()
        sys.stderr, sys.stdout = before
        print(
            json.dumps({
                "verb": verb, "status": status, "seconds": time.monotonic() - start,
                "said": said.getvalue()[-1500:], "error": error[-1500:],
                "peak_mib": max(own_peak_mib(),
                                resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10),
            }),
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
