"""Bad input through the file verbs and into a store: a row out for every row in, never a crash."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from factory.cli.main import main
from factory.errors import UsageError
from factory.rows.files import Malformed, read_rows, write_rows
from factory.stages import scorer as score_stage
from factory.store import Store

OK = json.dumps({"prompt": "2+2?", "completion": "so \\boxed{4}", "gold": "4"}).encode()
MANY = b"\n".join([OK] * 3000) + b"\n"
VARIED = b"".join(
    json.dumps({"completion": f"{i} so {i * 7919 % 10007} \\boxed{{4}}", "gold": "4"}).encode()
    + b"\n"
    for i in range(9000)
)
VERBS = ("verify", "score", "dedup", "decontaminate")

# (name, bytes, rows in, how many of them are malformed)
CASES: list[tuple[str, bytes, int, int]] = [
    ("byte order mark", b"\xef\xbb\xbf" + OK + b"\n" + OK, 2, 0),
    ("carriage returns and blank lines", OK + b"\r\n\r\n" + OK + b"\r\n", 2, 0),
    ("no line end at the end", OK, 1, 0),
    ("nothing", b"", 0, 0),
    ("blank lines only", b"\n \n\t\r\n", 0, 0),
    ("not UTF-8", OK + b'\n{"completion": "caf\xe9", "gold": "4"}\n' + OK, 3, 1),
    ("UTF-16", OK.decode().encode("utf-16"), 1, 1),
    ("a lone surrogate, escaped", b'{"completion": "a \\ud800 b", "prompt": "\\udfff"}\n', 1, 0),
    ("no JSON", b"so 4\n" + OK + b"\n{\n", 3, 2),
    ("JSON that is no object", b'[1]\n5\n"x"\nnull\ntrue\n' + OK + b"\n", 6, 5),
    ("an empty object", b"{}\n" + OK, 2, 0),
    ("keys twice", b'{"completion": "x", "completion": "so \\\\boxed{4}", "gold": "4"}\n', 1, 0),
    ("NUL bytes", b'{"completion": "a\\u0000b"}\n\x00\x00\n', 2, 1),
    ("nesting without end", b"[" * 100_000 + b"\n" + OK, 2, 1),
    (
        "huge numbers",
        b'{"completion": "4", "n": 123456789012345678901234567890, "f": 1e400, "h": NaN}\n'
        b'{"completion": "4", "n": ' + b"9" * 5000 + b"}\n",
        2, 1,
    ),
    (
        "wrong types",
        b'{"completion": 5}\n{"completion": ["a"]}\n{"completion": {"a": 1}, "gold": 7}\n'
        b'{"completion": true, "gold": {}}\n{"completion": null}\n{"completion": ""}\n'
        b'{"completion": "4", "gold": 4.5, "prompt": 7, "target_language": 5, "prefill": [1]}\n'
        b'{"completion": "4", "options": "x", "verifier": ["math"], "finish_reason": 3}\n'
        b'{"completion": "4", "gold": [], "verifier": "", "target_language": "\\ud800"}\n' + OK,
        10, 0,
    ),
]  # fmt: skip


def call(verb: str, source: str, out: str, tmp_path: Path) -> int:
    bench = tmp_path / "bench.jsonl"
    bench.write_text('{"prompt": "one two three four five six seven eight nine ten eleven"}\n')
    own = {
        "score": ["--scores", "length,repetition,language,readability,dynamics"],
        "dedup": ["--column", "completion"],
        "decontaminate": ["--column", "completion", "--against", str(bench)],
    }
    return main([verb, source, "--out", out, *own.get(verb, [])])


WRITES = {
    "verify": "status", "score": "completion_words", "dedup": "is_duplicate",
    "decontaminate": "is_contaminated",
}  # fmt: skip


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("name", "data", "n_rows", "n_malformed"), CASES, ids=[c[0] for c in CASES]
)
def test_every_row_in_is_a_row_out_and_the_reason_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, ending: str, name: str,
    data: bytes, n_rows: int, n_malformed: int,
) -> None:  # fmt: skip
    source, out = tmp_path / "in.jsonl", tmp_path / f"out{ending}"
    source.write_bytes(data)
    status = call(verb, str(source), str(out), tmp_path)
    said = capsys.readouterr().err
    found = [r for r in read_rows(str(out)) if isinstance(r, dict)]
    assert len(found) == n_rows
    bad = [i for i, r in enumerate(found) if r.get("reason") == "malformed_row"]
    assert len(bad) == n_malformed
    before = list(read_rows(str(source)))
    assert bad == [i for i, r in enumerate(before) if isinstance(r, Malformed)]
    for i in bad:
        assert found[i]["line"] == before[i].line  # type: ignore[union-attr]
        assert verb == "verify" or found[i][WRITES[verb]] is None
    if n_malformed:
        assert status == 1
        assert "(line " in said, "why is said"
    elif verb != "verify":  # there a row without a completion could not be handled either
        assert status == 0
    assert said.startswith(f"{n_rows} rows: ")


def test_the_inputs_columns_come_out_as_they_were(tmp_path: Path) -> None:
    row = b'{"completion": "4", "n": 123456789012345678901234567890, "z": -9223372036854775808}\n'
    (tmp_path / "in.jsonl").write_bytes(row)
    assert main(["score", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "o.jsonl"),
                 "--scores", "length"]) == 0  # fmt: skip
    out = json.loads((tmp_path / "o.jsonl").read_bytes())
    assert (out["n"], out["z"]) == (123456789012345678901234567890, -9223372036854775808)


# ---- compressed files


DAMAGED = {
    "cut.jsonl.gz": gzip.compress(MANY)[:-20],
    "no-gzip.jsonl.gz": b"hello",
    "flipped.jsonl.gz": gzip.compress(MANY)[:40] + b"\xff" * 40 + gzip.compress(MANY)[80:],
    "junk-at-the-end.jsonl.gz": gzip.compress(OK) + b"junk",
    "cut.jsonl.zst": zstandard.compress(MANY)[:-9],
    "cut-between-blocks.jsonl.zst": zstandard.compress(VARIED)[:20_000],
    "no-zstd.jsonl.zst": b"hello",
    "magic-only.parquet": b"PAR1xxxx",
    "empty.parquet": b"",
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("verb", VERBS)
def test_a_file_that_is_cut_off_or_damaged_is_one_line_and_no_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str
) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name])
    out = tmp_path / "out.jsonl"
    assert call(verb, str(tmp_path / name), str(out), tmp_path) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert name in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "data", "n_rows"),
    [
        ("two.jsonl.gz", gzip.compress(OK + b"\n") * 2, 2),
        ("two.jsonl.zst", zstandard.compress(OK + b"\n") * 2, 2),
        ("long.jsonl.zst", zstandard.compress(MANY * 3), 9_000),
        ("empty.jsonl.gz", b"", 0),
        ("empty.jsonl.zst", b"", 0),
    ],
)
def test_several_frames_and_empty_files_are_read(
    tmp_path: Path, name: str, data: bytes, n_rows: int
) -> None:
    (tmp_path / name).write_bytes(data)
    assert sum(isinstance(r, dict) for r in read_rows(str(tmp_path / name))) == n_rows


# ---- Parquet


def broken_strings() -> pa.Array:
    offsets = pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00\x0e\x00\x00\x00")
    return pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"\xff\xfeso \\boxed{4}"))


TABLES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "integers": ({"completion": pa.array([1, 2])}, ["no_completion", "no_completion"]),
    "bytes": ({"completion": pa.array([b"so \xff", b"ok"])}, ["no_completion"] * 2),
    "text that is not UTF-8": (
        {"completion": broken_strings(), "gold": pa.array(["4", "4"])}, ["malformed_row", ""],
    ),
    "a dictionary": (
        {"completion": pa.array(["\\boxed{4}"] * 2).dictionary_encode(), "gold": ["4", "4"]},
        ["", ""],
    ),
    "messages": (
        {"completion": [[{"role": "assistant", "content": "\\boxed{4}"}], None],
         "gold": ["4", "4"]},
        ["", "no_completion"],
    ),
    "other columns of all kinds": (
        {
            "completion": ["\\boxed{4}"], "gold": ["4"], "t": [datetime.datetime(2026, 1, 1)],
            "d": [decimal.Decimal("1.5")], "b": [b"\xff"], "u": pa.array([2**64 - 1], pa.uint64()),
            "m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            "e": pa.array([[]], pa.list_(pa.int8())),
        },
        [""],
    ),
    "no rows": ({"completion": pa.array([], pa.string())}, []),
}  # fmt: skip


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", TABLES)
def test_parquet_of_any_types_is_verified_row_by_row(
    tmp_path: Path, name: str, ending: str
) -> None:
    columns, reasons = TABLES[name]
    source, out = tmp_path / "in.parquet", tmp_path / f"out{ending}"
    pq.write_table(pa.table(columns), source)
    for verb in ("score", "dedup", "decontaminate"):
        assert call(verb, str(source), str(out), tmp_path) == ("malformed_row" in reasons)
        assert len(list(read_rows(str(out)))) == len(reasons)
    status = call("verify", str(source), str(out), tmp_path)
    found = [r for r in read_rows(str(out)) if isinstance(r, dict)]
    assert [r["reason"] if r["status"] == "unscored" else "" for r in found] == reasons
    assert status == any(reasons)


MIXED_COLUMNS: list[tuple[list[Any], list[Any], str]] = [
    ([1, 2.5, None], [1.0, 2.5, None], "an integer among floats"),
    (["a", {"b": 1}, None], ["a", '{"b":1}', None], "text here, an object there"),
    ([1, "x", True], ["1", "x", "true"], "anything"),
    ([{"a": 1}, {"b": "x"}], [{"a": 1, "b": None}, {"a": None, "b": "x"}], "objects differ"),
    ([[1], [2.5], []], [[1.0], [2.5], []], "lists of numbers"),
    ([{}, {}], ["{}", "{}"], "objects without a key, which Parquet cannot hold"),
    ([2**70, 5], [str(2**70), "5"], "beyond 64 bits"),
    ([None, None], [None, None], "nothing but null"),
    ([{"a": [{"b": None}]}, {"a": [{"b": 3}]}], [{"a": [{"b": None}]}, {"a": [{"b": 3}]}], "deep"),
]


@pytest.mark.parametrize(
    ("values", "expected", "why"), MIXED_COLUMNS, ids=[m[2] for m in MIXED_COLUMNS]
)
def test_parquet_takes_columns_whose_values_differ(
    tmp_path: Path, values: list[Any], expected: list[Any], why: str
) -> None:
    path = str(tmp_path / "x.parquet")
    # Spread over batches, and one row without the column.
    rows = [{"id": i, "v": v} for i, v in enumerate(values)]
    write_rows(path, [rows[:1], rows[1:], [{"id": 9}]])
    found = [r for r in read_rows(path) if isinstance(r, dict)]
    assert [r["v"] for r in found] == [*expected, None]
    assert [r["id"] for r in found] == [*range(len(values)), 9]


# ---- size


def test_a_text_beyond_the_limit_has_nulls_and_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_stage, "MAX_TEXT_BYTES", 1000)
    rows = [{"completion": "word " * n} for n in (10, 300, 20)]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main(["score", str(source), "--out", str(out), "--scores", "length"]) == 1
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["completion_words"] for r in found] == [10, None, 20]
    assert "1 too_long" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "unit", ["x", "so we add two and two again. ", "我们再检查一遍。", "\\boxed{"]
)
def test_fifty_megabytes_in_one_row_do_not_stop_the_rest(
    tmp_path: Path, verb: str, unit: str
) -> None:
    size = 50_000_000
    texts = ["so \\boxed{4}", unit * (size // len(unit.encode())), "so \\boxed{4}"]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    with source.open("w") as handle:
        for text in texts:
            handle.write(json.dumps({"completion": text, "gold": "4"}, ensure_ascii=False) + "\n")
    status = call(verb, str(source), str(out), tmp_path)
    found = [r for r in read_rows(str(out)) if isinstance(r, dict)]
    assert [len(r["completion"]) for r in found] == [len(t) for t in texts]
    if verb == "score":
        assert status == 1
        assert [r["completion_words"] is None for r in found] == [False, True, False]
    elif verb == "verify":
        assert [r["status"] for r in found] == ["pass", "fail", "pass"]
    else:
        assert status == 0


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_row_over_the_bound_is_named_and_the_rest_goes_on(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    with source.open("w") as handle:
        for text in ("so \\boxed{4}", "x" * 100_000_000, "or \\boxed{4}"):
            handle.write(json.dumps({"completion": text, "gold": "4"}) + "\n")
    assert call(verb, str(source), str(out), tmp_path) == 1
    assert "line 2: longer than 64 MiB" in capsys.readouterr().err
    found = [r for r in read_rows(str(out)) if isinstance(r, dict)]
    assert [r.get("completion") for r in found if "completion" in r] == [
        "so \\boxed{4}", "or \\boxed{4}"
    ]  # fmt: skip


# ---- the store


def test_import_counts_what_it_cannot_read_and_the_store_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_stage, "MAX_TEXT_BYTES", 5000)
    lines = [
        OK, b"not json", b"[1]", b'{"prompt": "caf\xe9", "completion": "x"}',
        b'{"prompt": "5?", "completion": "\\ud800 \\\\boxed{5}", "gold": "5"}',
        b'{"prompt": 7, "completion": "x"}', b'{"prompt": "a?", "completion": 5}',
        b'{"prompt": "b?", "completion": null}',
        json.dumps({"prompt": "c?", "completion": "go on " * 2000, "gold": "4"}).encode(),
        b'{"prompt": "d?", "completion": "", "gold": "4"}',
        b'{"prompt": "e?", "completion": "q\\u0000q", "gold": "4"}',
    ]  # fmt: skip
    source, store = tmp_path / "in.jsonl", str(tmp_path / "store")
    source.write_bytes(b"\n".join(lines) + b"\n")
    main(["import", str(source), "--store", store])
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "11 rows" in said
    assert "3 malformed_row" in said
    scores = "length,repetition,language,readability,dynamics"
    assert main(["score", "--store", store, "--scores", scores]) == 1
    assert "1 of them too long to measure" in capsys.readouterr().err
    assert main(["verify", "--store", store]) == 0
    opened = Store(store)
    n = opened.table("traces").n_rows()
    assert n >= 3
    words = opened.table("scores.length@1").read(["trace_id", "completion_words"])
    assert words.height == n
    assert words["completion_words"].null_count() == 1, "the text beyond the limit"


# ---- Arrow


def arrow_bytes(table: pa.Table, compression: str | None, *, as_file: bool = True) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = pa.ipc.new_file if as_file else pa.ipc.new_stream
    with new(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_arrow_is_read_packed_or_not_and_a_bomb_is_refused(
    tmp_path: Path, compression: str | None, as_file: bool
) -> None:
    path = tmp_path / "x.arrow"
    keys = pa.array(["x", "y"] * 500).dictionary_encode()
    whole = pa.table({"completion": ["4"] * 1000, "k": keys})
    path.write_bytes(arrow_bytes(whole, compression, as_file=as_file))
    assert list(read_rows(str(path))) == whole.to_pylist()
    again = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int8()), ["a" * (1 << 18)])
    path.write_bytes(arrow_bytes(pa.table({"completion": again}), compression, as_file=as_file))
    with pytest.raises(UsageError, match="200 times"):
        next(read_rows(str(path)))
    if compression:
        bomb = pa.table({"completion": ["a" * (1 << 20)] * 80})
        path.write_bytes(arrow_bytes(bomb, compression, as_file=as_file))
        with pytest.raises(UsageError, match="200 times"):
            next(read_rows(str(path)))


def test_polars_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.feather"
    pl.DataFrame({"completion": ["4", "5"]}).write_ipc(path, compression="zstd")
    assert list(read_rows(str(path))) == [{"completion": "4"}, {"completion": "5"}]


def test_a_flipped_bit_of_an_arrow_file_kills_nobody(tmp_path: Path) -> None:
    keys = pa.array(["x", "y"] * 20).dictionary_encode()
    whole = arrow_bytes(pa.table({"completion": ["4"] * 40, "k": keys}), "zstd")
    n_refused = 0
    for at in range(0, len(whole), 9):
        path = tmp_path / "x.arrow"
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            list(read_rows(str(path)))
        except UsageError:
            n_refused += 1
    assert n_refused > 20
