"""The store: rows once committed stay, none twice, damage is named."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from pathlib import Path

import polars as pl
import pytest

from factory.errors import CorruptError, StoreError, UsageError
from factory.records import TableForm
from factory.records.ids import key_of
from factory.store import Store, new_run_id
from factory.store.addition import Addition
from factory.store.repair import check

FORM = TableForm("k", {"k": "text", "n": "int", "x": "float", "s": "text", "run_id": "text"})


def rows(numbers: range, run_id: str) -> list[dict[str, object]]:
    return [
        {"k": key_of(n), "n": n, "x": n / 7, "s": f"text {n} é中" * 3, "run_id": run_id}
        for n in numbers
    ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


def test_rows_survive_append_seal_and_reading_in_any_state(store: Store) -> None:
    table = store.table("t", FORM)
    run = new_run_id()
    with table.writer(run) as writer:
        writer.append(rows(range(10), run))
        assert sorted(table.read()["n"]) == list(range(10)), "readers see an open segment"
        assert table.seal() == 10, "what a living writer has committed is copied"
        assert table.seal() == 0
        assert writer.path.exists(), "its segment stays"
        writer.append(rows(range(10, 20), run))
    assert table.read().height == 20
    assert table.seal() == 10
    assert table.seal() == 0
    with table.writer(run) as writer:
        writer.append(rows(range(15, 25), run))  # half of them known
    assert table.read().height == 25
    assert table.seal() == 5
    frame = table.read().sort("n")
    assert frame["n"].to_list() == list(range(25))
    assert frame["s"][3] == "text 3 é中" * 3
    assert not list(table.folder.glob("segment-*"))


def test_an_addition_counts_once_it_is_committed(store: Store) -> None:
    table = store.table("t", FORM)
    table.add(pl.DataFrame(rows(range(3), "r")))
    one, other = Addition(table), Addition(table)
    one.append(rows(range(2, 6), "one"))
    one.append([{**rows(range(6, 7), "one")[0], "x": float("nan"), "s": "lone \ud800"}])
    one.append(rows(range(5, 8), "one"))  # 5 and 6 twice in itself
    other.append(rows(range(6, 10), "other"))
    assert table.n_rows() == 3, "nothing of them counts yet"
    assert other.commit() == 4
    assert one.commit() == 3, "3, 4 and 5: the others were there"
    found = table.read().sort("n")
    assert found["n"].to_list() == list(range(10))
    assert found["run_id"].to_list() == ["r"] * 3 + ["one"] * 3 + ["other"] * 4
    assert found["s"][3] == "text 3 é中" * 3
    assert one.commit() == 0
    one.append([{"k": key_of("odd"), "x": float("nan"), "s": "lone \ud800"}])
    assert one.commit() == 1
    assert table.read().filter(k=key_of("odd")).row(0) == (
        key_of("odd"),
        None,
        None,
        "lone \ufffd",
        None,
    )
    assert check(store) == []


def test_an_addition_that_does_not_fit_or_is_dropped_leaves_nothing(store: Store) -> None:
    table = store.table("t", FORM)
    more = Addition(table)
    more.append(rows(range(3), "r"))
    with pytest.raises(StoreError, match="n is '7', which is no int"):
        more.append([{"k": key_of(7), "n": "7"}])
    more.close()
    assert more.commit() == 0
    assert table.n_rows() == 0
    assert not [p for p in table.folder.iterdir() if "part" in p.name]


def test_threads_may_share_one_writer(store: Store) -> None:
    table = store.table("t", FORM)
    generator = random.Random(0)
    batches = [
        [{"k": key_of(n), "n": n, "s": generator.randbytes(1500).hex()} for n in range(b, b + 32)]
        for b in range(0, 32 * 80, 32)
    ]
    with table.writer("r") as writer:
        threads = [
            threading.Thread(target=lambda t=t: [writer.append(b) for b in batches[t::4]])
            for t in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(table.read(["n"])["n"]) == list(range(32 * 80))
    assert not check(store)


def test_missing_is_wanted_minus_present_in_order(store: Store) -> None:
    table = store.table("t", FORM)
    with table.writer("r1") as writer:
        writer.append(rows(range(0, 10, 2), "r1"))
    wanted = [key_of(n) for n in (9, 2, 7, 4, 9)]
    assert table.missing(wanted).to_list() == [key_of(9), key_of(7)]
    table.seal()
    assert table.missing(wanted).to_list() == [key_of(9), key_of(7)]


def test_add_writes_only_new_keys(store: Store) -> None:
    table = store.table("t", FORM)
    assert table.add(pl.DataFrame(rows(range(5), "r"))) == 5
    assert table.add(pl.DataFrame(rows(range(3, 8), "r"))) == 3
    assert table.read().height == 8


def test_a_revoked_run_counts_as_missing_and_can_be_made_again(store: Store) -> None:
    table = store.table("t", FORM)
    with table.writer("bad") as writer:
        writer.append(rows(range(5), "bad"))
    table.seal()
    store.revoke("bad", reason="wrong template", by="op")
    assert table.read().height == 0
    assert len(table.missing([key_of(1)])) == 1
    with table.writer("good") as writer:
        writer.append(rows(range(3), "good"))
    assert table.read().height == 3
    assert table.seal() == 3
    assert set(table.read()["run_id"]) == {"good"}


def test_a_torn_tail_is_ignored_at_every_length(store: Store) -> None:
    table = store.table("t", FORM)
    with table.writer("r") as writer:
        writer.append(rows(range(3), "r"))
        whole = writer.n_bytes
        writer.append(rows(range(3, 6), "r"))
        path = writer.path
    data = path.read_bytes()
    for cut in range(whole, len(data)):
        path.write_bytes(data[:cut])
        assert table.read()["n"].to_list() == [0, 1, 2], f"cut at {cut}"
    path.write_bytes(data[:whole] + bytes(100))
    assert table.read().height == 3, "zeros, as a power loss leaves them"
    assert check(store) == []


@pytest.mark.parametrize("kind", ["segment", "part"])
def test_a_flipped_bit_is_named(store: Store, kind: str) -> None:
    table = store.table("t", FORM)
    with table.writer("r") as writer:
        for start in range(0, 300, 100):
            writer.append(rows(range(start, start + 100), "r"))
    if kind == "part":
        table.seal()
    path = next(table.folder.glob(f"{kind}-*"))
    data = path.read_bytes()
    generator = random.Random(5)
    for _ in range(40):
        position = generator.randrange(len(data))
        damaged = bytearray(data)
        damaged[position] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        found = check(store)
        assert len(found) == 1, f"bit at byte {position} of {len(data)}"
        assert path.name in found[0]
    path.write_bytes(data)
    assert check(store) == []


def test_reading_a_damaged_part_fails_with_its_name(store: Store) -> None:
    table = store.table("t", FORM)
    table.add(pl.DataFrame(rows(range(2000), "r")))
    path = table.part_paths()[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=path.name):
        table.read()


class Killed(BaseException):
    """Stands for a kill at the point where it is raised."""


@pytest.mark.parametrize("victim", ["write_manifest", "_drop_sealed"])
def test_a_kill_between_the_steps_of_a_seal_leaves_old_or_new(
    store: Store, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    table = store.table("t", FORM)
    with table.writer("r") as writer:
        writer.append(rows(range(50), "r"))

    def dies(self: object, *args: list[str]) -> None:
        if args[0]:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(table), victim, dies)
        with pytest.raises(Killed):
            table.seal()
    assert list(table.folder.glob("segment-*")), "the kill came before the segments were removed"
    assert sorted(table.read()["n"]) == list(range(50))
    table.seal()
    with table.writer("r") as writer:
        writer.append(rows(range(50, 51), "r"))
    table.seal()
    assert sorted(table.read()["n"]) == list(range(51))
    assert not list(table.folder.glob("segment-*"))


def test_changed_columns_are_refused_until_the_version_is_bumped(store: Store) -> None:
    store.table("scores.x@1", FORM)
    other = TableForm("k", {"k": "text", "run_id": "text"})
    with pytest.raises(StoreError, match="bump its VERSION"):
        Store(store.root).table("scores.x@1", other)


def test_store_of_another_format_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "d")
    store.ledger.write_json(store.root / "store.json", {"format": 99})
    with pytest.raises(StoreError, match="format 99"):
        Store(tmp_path / "d")


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(StoreError, match="holds other files"):
        Store(tmp_path)


BAD_NAMES = ["../x", "/abs", "a/../../b", "", "A", "-x", "x" * 200, "~", "a\0b", ".hidden", "a..b"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_could_leave_the_folder_are_refused(store: Store, name: str) -> None:
    before = sorted(store.root.rglob("*"))
    with pytest.raises(UsageError):
        store.table(name, FORM)
    assert sorted(store.root.rglob("*")) == before


def test_lone_surrogates_and_missing_fields_are_stored(store: Store) -> None:
    table = store.table("t", FORM)
    with table.writer("r") as writer:
        writer.append([{"k": key_of(1), "s": "bad \ud800 text", "run_id": "r"}])
    table.seal()
    row = table.read().row(0, named=True)
    assert row["s"] == "bad \ufffd text"
    assert row["n"] is None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_keeps_what_was_committed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        store = Store(disk / "data")
        table = store.table("t", FORM)
        generator = random.Random(1)
        committed = 0
        with table.writer("r") as writer:
            with pytest.raises(StoreError, match="disk is full"):  # noqa: PT012
                while committed < 10_000:
                    text = generator.randbytes(3000).hex()
                    writer.append(
                        [{"k": key_of(committed), "n": 1, "x": 0.0, "s": text, "run_id": "r"}]
                    )
                    committed += 1
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            writer.append(rows(range(100_000, 100_001), "r"))
        assert committed > 100
        assert table.read().height == committed + 1
        assert table.seal() == committed + 1
        assert check(store) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
