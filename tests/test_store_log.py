"""Long segments: rows move from stored tails to the packed file, and are never out of sight."""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

import orjson
import polars as pl
import pytest
import zstandard

from factory.errors import CorruptError, StoreError
from factory.records import TableForm
from factory.records.ids import key_of
from factory.store import Store, Table, key_sets
from factory.store import log as log_module
from factory.store import table as table_module
from factory.store.log import SegmentWriter, reading_order
from factory.store.log_format import LineBuffer, packed_frame, read_payloads, stored_frame

FORM = TableForm("k", {"k": "text", "n": "int", "s": "text", "run_id": "text"})


def rows(numbers: range) -> list[dict[str, object]]:
    return [
        {"k": key_of(n), "n": n, "s": f"we add {n} and check {n * 7} é中" * 20, "run_id": "r"}
        for n in numbers
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tails so small that a test fills many."""
    monkeypatch.setattr(log_module, "HEAD_BYTES", 1 << 10)
    monkeypatch.setattr(log_module, "TAIL_BYTES", 16 << 10)
    monkeypatch.setattr(log_module, "PAUSE_S", 0)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Store(tmp_path / "data").table("t", FORM)


def files(table: Table) -> list[str]:
    return sorted(p.name.partition("-r-")[2].partition(".")[2] for p in segment_paths(table))


def segment_paths(table: Table) -> list[Path]:
    return sorted(table.folder.glob("segment-*"))


def encoded(rows: list[dict[str, object]]) -> bytes:
    with LineBuffer().encode(rows) as lines:
        return bytes(lines)


def fill(writer: SegmentWriter, numbers: range, *, batch: int = 8) -> None:
    """Append with pauses, so that tails are made and packed on the way."""
    for start in range(numbers.start, numbers.stop, batch):
        writer.append(rows(range(start, min(numbers.stop, start + batch))))
        time.sleep(0.002)


def fail_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, tail: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log_module._Packer, "_pack", full)


def test_a_long_segment_ends_as_one_packed_file(table: Table, small: None) -> None:
    seen = set()
    with table.writer("r") as writer:
        for start in range(0, 800, 8):
            fill(writer, range(start, start + 8))
            seen.update(files(table))
        committed = writer.n_bytes
    assert len([name for name in seen if name.endswith(".log")]) > 3, "tails came and went"
    assert files(table) == ["packed.log"]
    assert segment_paths(table)[0].stat().st_size < 0.4 * committed
    assert sorted(table.read()["n"]) == list(range(800))
    assert table.seal() == 800
    assert table.store.check() == []


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


def test_a_short_segment_is_one_file_from_first_to_last(table: Table) -> None:
    with table.writer("r") as writer:
        writer.append(rows(range(8)))
        assert files(table) == ["log"]
        assert writer._packer is None, "no thread for a few rows"
        assert segment_paths(table)[0].stat().st_size == writer.n_bytes, "nothing is reserved"
    assert table.read().height == 8


def test_frames_of_the_first_form_are_read(tmp_path: Path) -> None:
    lines = b'{"k":"00","n":1}\n'
    payload = zstandard.ZstdCompressor(level=3).compress(lines)
    old = struct.pack("<4sII", b"R1F\x01", len(payload), zlib.crc32(payload)) + payload
    path = tmp_path / "segment-r-1.log"
    path.write_bytes(old + b"".join(stored_frame(b"stored\n")) + old)
    with path.open("rb") as handle:
        assert list(read_payloads(handle, path)) == [lines, b"stored\n", lines]


def test_stored_rows_are_plain_json_lines() -> None:
    batch = rows(range(3))
    header, lines = stored_frame(encoded(batch))
    assert header[:4] == b"R1F\x02"
    assert [orjson.loads(line) for line in bytes(lines).splitlines()] == batch


@pytest.mark.parametrize("form", [stored_frame, lambda lines: packed_frame([lines])])
def test_every_flipped_bit_is_named_and_every_torn_tail_ignored(tmp_path: Path, form) -> None:
    path = tmp_path / "segment-r-1.log"
    first, last = (b"".join(form(encoded([{"n": n, "s": f"we add {n}"}]))) for n in (1, 2))
    data = first + last

    def read() -> int:
        with path.open("rb") as handle:
            return sum(payload.count(b"\n") for payload in read_payloads(handle, path))

    for cut in range(len(first), len(data)):
        path.write_bytes(data[:cut])
        assert read() == 1, f"cut at {cut}"
        path.write_bytes(data[:cut] + bytes(max(8, len(data) - cut)))
        assert read() == 1, f"zeros from {cut}"
    generator = random.Random(3)
    spots = {*range(12), *range(len(first), len(first) + 12)}  # both headers, bit by bit
    spots |= {generator.randrange(len(data)) for _ in range(100)}
    for position in sorted(spots):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(CorruptError, match=path.name):
                read()


def test_reserved_space_hides_no_damage_and_an_unfinished_frame_is_no_damage(
    tmp_path: Path,
) -> None:
    """Behind the last frame are zeros; of a frame under way any sectors may be on the disk."""
    path = tmp_path / "segment-r-1.log"
    first, last = (b"".join(stored_frame(encoded(rows(range(n, n + 8))))) for n in (1, 9))
    reserved = bytes(5000)

    def read(data: bytes) -> int:
        path.write_bytes(data)
        with path.open("rb") as handle:
            return len(list(read_payloads(handle, path)))

    whole = first + last
    assert read(whole + reserved) == 2
    generator = random.Random(4)
    spots = {*range(12), *range(len(first), len(first) + 12), len(whole) - 1}
    spots |= {generator.randrange(len(whole)) for _ in range(30)}
    for position in sorted(spots):
        for bit in range(8):
            damaged = bytearray(whole + reserved)
            damaged[position] ^= 1 << bit
            with pytest.raises(CorruptError, match=path.name):
                read(damaged)
    starts = [len(first), *range(-(-len(first) // 512) * 512, len(whole), 512)]
    for cut in [*starts, *generator.sample(range(len(first), len(whole)), k=100)]:
        assert read(whole[:cut] + reserved) == 1, f"killed while writing byte {cut}"
    for _ in range(60):
        lost = bytearray(whole + reserved)
        for start in generator.sample(starts, k=generator.randrange(1, len(starts))):
            stop = min(len(whole), start // 512 * 512 + 512)
            lost[start:stop] = bytes(stop - start)
        assert read(lost) == 1, "power went while sectors were written in any order"
    lost = bytearray(whole + reserved)
    lost[512:1024] = bytes(512)
    with pytest.raises(CorruptError, match=path.name):
        read(lost)  # a frame follows: this one was committed


def test_full_tails_wait_for_a_pause_of_the_writer(
    table: Table, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "PAUSE_S", 3600.0)
    with table.writer("r") as writer:
        fill(writer, range(400))
        assert len(files(table)) > 5
        assert "packed.log" not in files(table)
        monkeypatch.setattr(log_module, "PAUSE_S", 0.01)
        fill(writer, range(400, 440))
        deadline = time.monotonic() + 60
        while writer._packer._full and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "packed.log" in files(table)
        assert len(files(table)) < 5
    assert files(table) == ["packed.log"]
    assert sorted(table.read()["n"]) == list(range(440))


@pytest.mark.parametrize("disk", ["as it is", "needs no time"])
def test_a_writer_that_never_pauses_keeps_a_bounded_amount_unpacked(
    table: Table, small: None, monkeypatch: pytest.MonkeyPatch, disk: str
) -> None:
    if disk == "needs no time":
        # Rows come hundreds of times while one tail is packed.
        monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    monkeypatch.setattr(log_module, "PAUSE_S", 3600.0)
    monkeypatch.setattr(log_module, "BACKLOG_BYTES", 48 << 10)
    monkeypatch.setattr(log_module, "MOST_BYTES", 96 << 10)
    pack, peak = log_module._Packer._pack, [0]

    def slow(self: log_module._Packer, tail: log_module._Log) -> None:
        for _ in range(20):
            unpacked = {id(log): log.size for log in [*self._full, writer._current]}
            peak[0] = max(peak[0], sum(unpacked.values()))
            time.sleep(0.001)
        pack(self, tail)

    monkeypatch.setattr(log_module._Packer, "_pack", slow)
    with table.writer("r") as writer:
        for start in range(0, 2400, 8):
            writer.append(rows(range(start, start + 8)))
        total = writer.n_bytes
    assert 48 << 10 <= peak[0] < 160 << 10 < total / 4
    assert sorted(table.read()["n"]) == list(range(2400))


def test_every_packed_frame_is_durable_before_the_next_is_written(
    table: Table, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power loss could leave a whole frame behind a torn one, which is read as damage."""
    monkeypatch.setattr(log_module, "FRAME_BYTES", 4 << 10)
    write, unsynced, n_frames = log_module._Log.write, [0], [0]

    def noted(self: log_module._Log, pieces: list[bytes]) -> int:
        if self.path.name.endswith(".packed.log"):
            unsynced[0] = max(unsynced[0], os.fstat(self._fd).st_size - self.size)
            n_frames[0] += 1
        return write(self, pieces)

    monkeypatch.setattr(log_module._Log, "write", noted)
    with table.writer("r") as writer:
        fill(writer, range(200))
    assert n_frames[0] > 10
    assert unsynced[0] == 0


def test_a_list_of_files_made_while_rows_moved_is_made_again(
    table: Table, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with table.writer("r") as writer:
        fill(writer, range(200))
    lists = [0]

    def unlucky(paths: Iterable[Path]) -> list[Path]:
        lists[0] += 1  # the tail was gone, and the file that it moved to not yet there
        return [] if lists[0] == 1 else log_module.reading_order(paths)

    monkeypatch.setattr(table_module, "reading_order", unlucky)
    assert table.read().height == 200


def test_a_file_removed_while_its_lock_is_tried_is_not_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "segment-r-1.log"
    path.write_bytes(b"")
    assert log_module.is_closed(path)
    monkeypatch.setattr(log_module.fcntl, "flock", lambda fd, how: path.unlink())
    assert not log_module.is_closed(path)


def test_segments_packed_into_their_first_file_are_read(table: Table) -> None:
    """The earlier layout: a killed writer's packed file, and a tail of the same rows."""
    name = table.folder / "segment-r-1a.log"
    name.write_bytes(
        b"".join(b"".join(packed_frame([encoded(rows(range(n, n + 4)))])) for n in (0, 4))
    )
    name.with_suffix(".1.log").write_bytes(b"".join(stored_frame(encoded(rows(range(2, 10))))))
    assert reading_order(segment_paths(table)) == [name.with_suffix(".1.log"), name]
    assert sorted(table.read()["n"]) == list(range(10))
    assert table.seal() == 10
    assert files(table) == []


def test_readers_see_every_committed_row_once_while_tails_are_packed(
    table: Table, small: None
) -> None:
    committed, stop, problems = [0], threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            before = committed[0]
            found = table.read(["n"])["n"]
            if found.n_unique() != len(found) or not set(range(before)) <= set(found):
                problems.append((before, len(found)))

    reader = threading.Thread(target=read)
    reader.start()
    with table.writer("r") as writer:
        for start in range(0, 1200, 8):
            writer.append(rows(range(start, start + 8)))
            committed[0] = start + 8
            time.sleep(0.002)
    stop.set()
    reader.join()
    assert not problems


def test_a_reader_that_began_before_the_packing_still_gets_the_rows(
    table: Table, small: None
) -> None:
    with table.writer("r") as writer:
        fill(writer, range(40))
        reading = table.batches(["n"])
        first = next(reading)
        fill(writer, range(40, 400))
    table.seal()
    found = {*first["n"], *(n for frame in reading for n in frame["n"])}
    assert found >= set(range(40))


def test_rows_both_packed_and_in_their_tail_count_once(
    table: Table, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(self: log_module._Log, *, remove: bool) -> None:
        os.close(self._fd)  # as if killed after the packing and before the removal

    monkeypatch.setattr(log_module._Log, "close", keep)
    with table.writer("r") as writer:
        fill(writer, range(200))
    assert len(files(table)) > 2
    assert sorted(table.read()["n"]) == list(range(200))
    assert table.seal() == 200
    assert sorted(table.read()["n"]) == list(range(200))
    assert files(table) == []


def test_a_disk_that_is_full_while_packing_keeps_everything_and_packs_later(
    table: Table, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = log_module._Log.write, [0]

    def full(self: log_module._Log, pieces: list[bytes]) -> int:
        if threading.current_thread().name == "pack" and failures[0] < 4:
            failures[0] += 1
            os.pwrite(self._fd, pieces[0] + b"half a frame", self.size)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, pieces)

    monkeypatch.setattr(log_module._Log, "write", full)
    with table.writer("r") as writer:
        fill(writer, range(400))
        assert sorted(table.read()["n"]) == list(range(400))
    assert failures[0] == 4
    assert files(table) == ["packed.log"]
    assert sorted(table.read()["n"]) == list(range(400))
    assert table.store.check() == []


def test_tails_that_could_never_be_packed_are_segments_like_any_other(
    table: Table, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_packing(monkeypatch)
    with table.writer("r") as writer:
        fill(writer, range(200))
    assert len(files(table)) > 2
    assert table.seal() == 200
    assert sorted(table.read()["n"]) == list(range(200))


@pytest.mark.parametrize("where", ["middle", "end"])
def test_a_damaged_tail_is_named_and_not_removed(
    table: Table, small: None, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as patch:
        fail_packing(patch)
        writer = table.writer("r")
        fill(writer, range(100))
    tail = writer._current.path
    committed = writer._current.size
    data = bytearray(tail.read_bytes())
    assert data[committed:] == bytes(len(data) - committed), "reserved space is zeros"
    if where == "middle":
        data[committed // 2] ^= 4
        tail.write_bytes(data)
    else:
        os.truncate(tail, committed - 5)  # committed bytes that the disk lost
    writer.close()
    assert tail.exists(), "what cannot be read whole is not thrown away"
    found = table.store.check()
    assert [tail.name in line for line in found] == ([True] if where == "middle" else [])
    packed = writer.path.with_suffix(".packed.log")
    assert segment_paths(table) == [tail, packed], "the other tails were packed"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_small_disk_that_fills_up_while_tails_are_packed_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "TAIL_BYTES", 256 << 10)
    monkeypatch.setattr(log_module, "PAUSE_S", 3600.0)  # nothing is packed before it must be
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        table = Store(disk / "data").table("t", FORM)
        generator = random.Random(1)
        committed = 0
        with table.writer("r") as writer:
            with pytest.raises(StoreError, match=r"disk is full.*rows are kept"):  # noqa: PT012
                while committed < 10_000:
                    text = generator.randbytes(3000).hex()
                    writer.append([{"k": key_of(committed), "n": 1, "s": text, "run_id": "r"}])
                    committed += 1
            assert table.read(["n"]).height == committed
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            writer.append(rows(range(100_000, 100_001)))
        assert committed > 600, "4 MiB hold more than 4 MiB of hexadecimal text once packed"
        assert files(table) == ["packed.log"]
        assert table.seal() == committed + 1
        assert table.store.check() == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
