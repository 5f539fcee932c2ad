"""The log: committed rows are read whatever came after them, damage is named and kept apart."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from factory.errors import CorruptError, StoreError
from factory.records import TableForm
from factory.records.ids import key_of
from factory.store import Store, Table, key_sets
from factory.store.log import Damage, SegmentWriter, encode_block, is_closed, read_lines, scan
from factory.store.repair import check

FORM = TableForm("k", {"k": "text", "n": "int", "s": "text", "run_id": "text"})
SECTOR = 512


def rows(numbers: range) -> list[dict[str, object]]:
    generator = random.Random(numbers.start)
    return [
        {"k": key_of(n), "n": n, "s": f"é中 {n} " + generator.randbytes(300).hex(), "run_id": "r"}
        for n in numbers
    ]


def block(number: int) -> bytes:
    """A block of 8 rows, several sectors long."""
    return encode_block(rows(range(number * 8, number * 8 + 8)))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Store(tmp_path / "data").table("t", FORM)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], list[int]]:
    """Write bytes as a segment and return the numbers of the rows that are read from it."""
    path = tmp_path / "segment-r-1.log"

    def numbers_in(data: bytes) -> list[int]:
        path.write_bytes(data)
        with path.open("rb") as handle:
            lines = b"".join(read_lines(handle, path)).splitlines()
        return [orjson.loads(line)["n"] for line in lines]

    return numbers_in


def salvaged(tmp_path: Path, data: bytes) -> tuple[list[int], list[Damage]]:
    """Return the numbers of the blocks that are whole, and the damage between them."""
    path = tmp_path / "segment-r-1.log"
    path.write_bytes(data)
    with path.open("rb") as handle:
        found = list(scan(handle))
    lines = [x for x in found if isinstance(x, bytes)]
    numbers = [orjson.loads(x.partition(b"\n")[0])["n"] // 8 for x in lines]
    return numbers, [x for x in found if isinstance(x, Damage)]


# ---- one writer


def test_a_segment_is_one_compressed_file_of_the_size_that_was_committed(table: Table) -> None:
    text = "First, we add the two numbers and check the sum. " * 40
    with table.writer("r") as writer:
        for n in range(20):
            writer.append([{"k": key_of(n), "n": n, "s": text, "run_id": "r"}])
            assert writer.path.stat().st_size == writer.n_bytes
        assert writer.n_bytes < 20 * len(text) / 4
        assert [p.name for p in table.folder.glob("segment-*")] == [writer.path.name]
    assert table.read()["s"].to_list() == [text] * 20
    assert table.seal() == 20
    assert not list(table.folder.glob("segment-*"))


def test_a_writer_without_rows_leaves_no_file_and_a_closed_one_takes_no_rows(table: Table) -> None:
    writer = table.writer("r")
    assert writer.path.exists()
    writer.append([])
    writer.close()
    assert not writer.path.exists()
    with pytest.raises(StoreError, match="is closed"):
        writer.append(rows(range(1)))


def test_what_a_writer_killed_before_its_first_row_leaves_goes_with_the_next_seal(
    table: Table,
) -> None:
    living = table.writer("r")
    # Nobody holds the lock of this one.
    (table.folder / "segment-r-0.log").touch()
    assert len(table.segment_paths()) == 2
    table.seal()
    assert table.segment_paths() == [living.path]
    living.close()


def test_an_append_that_fails_half_way_leaves_nothing_behind(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, left = os.pwrite, [0]

    def fails(fd: int, data: Any, offset: int) -> int:
        if left[0]:
            left[0] -= 1
            return pwrite(fd, data[:300], offset)  # some of it: the rest is asked for
        raise OSError(errno.ENOSPC, "No space left on device")

    with table.writer("r") as writer:
        writer.append(rows(range(8)))
        with monkeypatch.context() as patch:
            left[0] = 2
            patch.setattr(os, "pwrite", fails)
            with pytest.raises(StoreError, match=r"disk is full.*8 rows are kept"):
                writer.append(rows(range(8, 16)))
        assert writer.path.stat().st_size == writer.n_bytes
        writer.append(rows(range(16, 17)))  # shorter than what failed
    assert table.read()["n"].to_list() == [*range(8), 16]
    assert check(Store(table.folder.parent.parent)) == []


def test_a_writer_that_cannot_undo_a_failed_append_takes_no_more_rows(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with table.writer("r") as writer:
        writer.append(rows(range(8)))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fails)
            patch.setattr(os, "ftruncate", fails)
            with pytest.raises(StoreError, match="8 rows are kept"):
                writer.append(rows(range(8, 16)))
        with pytest.raises(StoreError, match="is closed"):
            writer.append(rows(range(16, 17)))
    assert set(range(8)) <= set(table.read()["n"])


def test_a_file_removed_while_its_lock_is_tried_is_not_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "segment-r-1.log"
    path.write_bytes(b"")
    assert is_closed(path)
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: path.unlink())
    assert not is_closed(path)


def test_a_segment_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*0 rows are kept"):
        SegmentWriter(tmp_path / "file" / "segment-r-1.log")


# ---- torn tails and damage


def test_every_torn_tail_is_ignored(read: Callable[[bytes], list[int]]) -> None:
    first, last = block(0), block(1)
    committed = list(range(8))
    assert read(first + last) == list(range(16))
    for cut in range(len(last)):
        assert read(first + last[:cut]) == committed, f"killed while writing byte {cut}"
    for n_zeros in (1, 20, 511, 5000):
        assert read(first + bytes(n_zeros)) == committed, "a size without its sectors"
    assert read(b"") == read(last[:10]) == read(bytes(3000)) == []


def test_sectors_that_a_power_loss_left_out_make_a_torn_tail(
    read: Callable[[bytes], list[int]],
) -> None:
    first, last = block(0), block(1)
    whole = first + last
    starts = [len(first), *range(-(-len(first) // SECTOR) * SECTOR, len(whole), SECTOR)]
    assert len(starts) > 3
    generator = random.Random(4)
    for n_lost in range(1, len(starts) + 1):
        for _ in range(20):
            lost = bytearray(whole)
            for start in generator.sample(starts, k=n_lost):
                stop = min(len(whole), start // SECTOR * SECTOR + SECTOR)
                lost[start:stop] = bytes(stop - start)
            assert read(bytes(lost)) == list(range(8)), "sectors are written in any order"
            with pytest.raises(CorruptError, match="damaged at byte"):
                read(bytes(lost) + block(2))  # a block follows: this one was committed


@pytest.mark.parametrize("place", ["first", "last"])
def test_every_flipped_bit_is_named(read: Callable[[bytes], list[int]], place: str) -> None:
    data = block(0) + block(1)
    start = 0 if place == "first" else len(block(0))
    generator = random.Random(3)
    stop = len(block(0)) if place == "first" else len(data)
    spots = {*range(start, start + 24), stop - 1}  # the header, bit by bit, and the end
    spots |= {generator.randrange(start, stop) for _ in range(100)}
    for position in sorted(spots):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(CorruptError, match=rf"segment-r-1.log is damaged at byte {start}"):
                read(bytes(damaged))


def cut_out(data: bytes, start: int, stop: int) -> bytes:
    return data[:start] + data[stop:]


def zeroed(data: bytes, start: int, stop: int) -> bytes:
    return data[:start] + bytes(stop - start) + data[stop:]


def filled(data: bytes, start: int, stop: int) -> bytes:
    return data[:start] + b"R1\xff\x03" * (stop - start) + data[stop:]


@pytest.mark.parametrize("harm", [cut_out, zeroed, filled])
@pytest.mark.parametrize("at", [0, 2, 10, 100], ids=lambda at: f"from byte {at} of the block")
def test_whole_blocks_behind_a_damaged_one_are_found(
    tmp_path: Path, harm: Callable[[bytes, int, int], bytes], at: int
) -> None:
    blocks = [block(n) for n in range(5)]
    starts = [sum(map(len, blocks[:n])) for n in range(6)]
    data = b"".join(blocks)
    for hit in range(4):
        harmed = harm(data, starts[hit] + at, starts[hit] + at + 90)
        numbers, damage = salvaged(tmp_path, harmed)
        assert numbers == [n for n in range(5) if n != hit]
        assert damage == [Damage(starts[hit], starts[hit + 1] + len(harmed) - len(data))]


def test_a_torn_tail_does_not_hide_the_damaged_block_before_it(tmp_path: Path) -> None:
    first, second, third = block(0), block(1), block(2)
    hurt = zeroed(second, 40, 60)
    for torn in (third[:50], bytes(2000)):
        numbers, damage = salvaged(tmp_path, first + hurt + torn)
        assert numbers == [0]
        assert damage == [Damage(len(first), len(first) + len(second))]


def test_a_log_is_read_alike_in_any_damage(tmp_path: Path) -> None:
    """Random harm of any kind: what is yielded was committed, and once harmed is never silent."""
    blocks = [block(n) for n in range(6)]
    data = b"".join(blocks)
    committed = {b"".join(scan_bytes(tmp_path, b)) for b in blocks}
    generator = random.Random(11)
    for _ in range(300):
        harm = generator.choice([cut_out, zeroed, filled])
        start = generator.randrange(len(data) - len(blocks[-1]))
        harmed = harm(data, start, start + generator.randrange(1, 3000))
        found = scan_bytes(tmp_path, harmed)
        whole = [x for x in found if isinstance(x, bytes)]
        assert set(whole) <= committed
        assert len(set(whole)) == len(whole)
        assert harmed == data or len(whole) < 6


def scan_bytes(tmp_path: Path, data: bytes) -> list[Any]:
    path = tmp_path / "segment-r-2.log"
    path.write_bytes(data)
    with path.open("rb") as handle:
        return list(scan(handle))


def test_the_text_of_a_row_cannot_pass_for_a_block() -> None:
    inner = block(0).decode("latin-1")
    data = encode_block([{"s": inner * 3}])
    assert data.count(b"R1\xff\x03") == 1
    assert io.BytesIO(data).read(4) == b"R1\xff\x03"


# ---- readers beside writers


def test_readers_see_every_committed_row_once_while_rows_come(table: Table) -> None:
    committed, stop, problems, n_reads = [0], threading.Event(), [], [0]

    def read() -> None:
        while not stop.is_set():
            before = committed[0]
            found = table.read(["n"])["n"]
            n_reads[0] += 1
            if found.n_unique() != len(found) or not set(range(before)) <= set(found):
                problems.append((before, len(found)))

    reader = threading.Thread(target=read)
    reader.start()
    for start in range(0, 1200, 400):
        with table.writer("r") as writer:
            for n in range(start, start + 400, 8):
                writer.append(rows(range(n, n + 8)))
                committed[0] = n + 8
        table.seal()
    stop.set()
    reader.join()
    assert n_reads[0] > 3
    assert not problems


def test_a_reader_that_began_before_the_seal_still_gets_the_rows(table: Table) -> None:
    for start in (0, 100):
        with table.writer("r") as writer:
            writer.append(rows(range(start, start + 40)))
    reading = table.batches(["n"])
    first = next(reading)
    table.seal()
    found = [*first["n"], *(n for frame in reading for n in frame["n"])]
    assert sorted(found) == [*range(40), *range(100, 140)]


# ---- sets of keys


def test_keys_are_found_in_slices_as_in_one(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sets, "SLICE_KEYS", 10)
    for numbers in (range(100), range(50, 150)):
        with table.writer("r") as writer:
            writer.append(rows(numbers))
    assert table.seal() == 150
    with table.writer("r") as writer:
        writer.append(rows(range(140, 160)))
    wanted = [key_of(n) for n in range(170, -1, -1)]
    assert table.missing(wanted).to_list() == wanted[:11]
    assert table.seal() == 10
    assert sorted(table.read()["n"]) == list(range(160))


@pytest.mark.parametrize("n", [0, 1, 50])
def test_a_set_of_keys_answers_as_a_set_does(n: int) -> None:
    keys = [key_of(i) for i in range(n)]
    twins = [k[:16] + key_of(k)[16:] for k in keys[:5]]  # agree in the first half of their bits
    asked = [*twins, *keys[::2], key_of(-1), "0" * 32, "f" * 32]
    for some in (keys, [*keys, *twins]):
        found = key_sets.KeySet(pl.Series(some, dtype=pl.String)).has(pl.Series(asked))
        assert found.to_list() == [k in some for k in asked]
