"""Stores in odd places: names with every kind of character, no right to write, a full disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from factory.cli.main import main
from factory.store import Store

ROWS = [
    {"prompt": f"What is {i}+{i}?", "completion": f"<think>\nadd {i}\n</think>\n\n{2 * i} it is",
     "gold": str(2 * i), "model": "m"}
    for i in range(1, 13)
]  # fmt: skip
RECIPE = "universe: {}\nfilters:\n  some: completion_words > 0\n"
EVERYTHING = "a b'c\"d[e]f*g%20h{i}&j;kl\nm$HOME~:ü日-"
NAMES = {
    "everything": EVERYTHING, "space": "a b", "quote": "it's", "double": 'a"b', "newline": "a\nb",
    "percent": "50%25 %s", "glob": "[a]*b", "braces": "{a,b}",
    "colon": "s3:x", "dash": "-data", "tilde": "~root", "dollar": "$HOME",
    "unicode": "Ünïcode 日本", "long": "a" * 200,
}  # fmt: skip


def made_in(folder: Path) -> Path:
    """Make a store with a release; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    data, recipe, store = folder / "rows.jsonl", folder / "r.yaml", str(folder / "data")
    data.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in ROWS))
    recipe.write_text(RECIPE)
    for words in (
        ["import", str(data), "--store", store],
        ["verify", "--store", store, "--workers", "1"],
        ["score", "--scores", "length", "--store", store],
        ["release", "all", str(recipe), "--store", store],
    ):
        assert main(words) == 0, words
    return folder / "data"


def look(root: Path, out: Path) -> list[int]:
    """Call the verbs that only read; return their exit statuses."""
    store = str(root)
    return [
        main([*words, "--store", store])
        for words in (
            ["sql", "SELECT count(*), sum(length(completion)) FROM trace_texts"],
            ["ls"], ["show", "all"], ["show", "wide"], ["sample", "all", "-n", "1"],
            ["sample", "wide", "-n", "1"], ["diff", "all", "all"], ["select", str(out / "r.yaml")],
            ["export", "all", "--form", "trl", "--out", str(out / "trl.jsonl")],
            ["export", "all", "--form", "dpo", "--out", str(out / "dpo.jsonl")],
            ["export", "all", "--form", "hf", "--out", str(out / "hub")],
            ["push", "all", "--dry-run"], ["check", "--audit"], ["check", "--gold"],
        )
    ]  # fmt: skip


LOOKED = [0] * 9 + [2] + [0] * 4
"""Statuses of ``look``: no prompt here has a pass and a fail, so that dpo has nothing to write."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_verb_works_in_a_folder_of_any_name(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / NAMES[name]
    root = made_in(folder)
    assert look(root, folder) == LOOKED, capsys.readouterr().err
    key = Store(root).table("traces").keys()[0]
    run = next(r["run_id"] for r in Store(root).runs() if r["kind"] == "verify")
    for words in (
        ["report", "all"], ["forget", key], ["gc"], ["check", "--repair"], ["check", "--audit"],
        ["revoke", run, "--reason", "x"], ["check", "--audit"],
    ):  # fmt: skip
        assert main([*words, "--store", str(root)]) == 0, (words, capsys.readouterr().err)
    files = [str(folder / "rows.jsonl"), "--out", str(folder / "out.parquet")]
    for words in (["verify", *files], ["score", *files, "--scores", "length"],
                  ["dedup", *files, "--column", "completion"], ["inspect", files[0]]):  # fmt: skip
        assert main(words) == 0, words


def test_a_relative_name_with_odd_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sql", "SELECT 1", "--store", str(made_in(Path("s3:a [b]")))]) == 0


def run_cli(*words: str | bytes) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "factory", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_name_that_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(folder)).mkdir()
    Path(os.fsdecode(folder + b"/in.jsonl")).write_bytes(orjson.dumps(ROWS[0]) + b"\n")
    for words in (
        [b"import", folder + b"/in.jsonl", b"--store", folder + b"/data"],
        [b"sql", b"SELECT 1", b"--store", folder + b"/data"],
        [b"score", folder + b"/in.jsonl", b"--out", folder + b"/o.jsonl", b"--scores", b"length"],
        [b"inspect", folder + b"/in.jsonl"],
        [b"ls", b"--store", folder + b"/data"],
    ):
        done = run_cli(*words)
        assert "Traceback" not in done.stderr, (words, done.stderr)
        assert done.returncode in (0, 1, 2), done


# ---- no right to write


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    """A store on a mount that cannot be written, with the catalog of an earlier state."""
    root = made_in(tmp_path)
    assert main(["ls", "--store", str(root)]) == 0
    more = tmp_path / "more.jsonl"
    row = {**ROWS[0], "prompt": "What is 50+50?", "completion": "100 it is", "gold": "100"}
    more.write_bytes(orjson.dumps(row) + b"\n")
    assert main(["import", str(more), "--store", str(root)]) == 0
    if subprocess.run(["mount", "--bind", str(root), str(root)], capture_output=True).returncode:
        pytest.skip("this machine does not let us mount")
    again = ["mount", "-o", "remount,ro,bind", str(root), str(root)]
    if subprocess.run(again, capture_output=True).returncode:
        subprocess.run(["umount", str(root)], check=True)
        pytest.skip("this machine does not let us mount read-only")
    return root


@pytest.mark.slow
def test_a_store_that_cannot_be_written_is_read(
    read_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        assert look(read_only, tmp_path) == LOOKED, capsys.readouterr().err
        assert main(["sql", "SELECT count(*) AS n FROM wide", "--csv", "--store",
                     str(read_only)]) == 0  # fmt: skip
        assert capsys.readouterr().out.endswith("n\n13\n")
        more = str(tmp_path / "more.jsonl")
        for words in (
            ["import", more], ["verify"], ["score", "--scores", "length,repetition"],
            ["release", "b", str(tmp_path / "r.yaml")], ["report", "all"], ["gc"],
            ["revoke", Store(read_only).runs()[0]["run_id"], "--reason", "x"],
            ["forget", Store(read_only).table("traces").keys()[0]], ["check", "--repair"],
        ):  # fmt: skip
            status = main([*words, "--store", str(read_only)])
            said = capsys.readouterr().err.strip().splitlines()
            assert status in (0, 1), words
            assert "Traceback" not in str(said), words
            assert status == 0 or "cannot write" in said[-1] or "Read-only" in said[-1], said
    finally:
        subprocess.run(["umount", str(read_only)], check=True)


# ---- a full disk


# Minutes long, so run by hand: `pytest -m bench`.
@pytest.mark.bench
def test_a_full_disk_loses_nothing_and_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(disk)],
                      capture_output=True).returncode:  # fmt: skip
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        root = made_in(disk)
        rows = Store(root).table("traces").n_rows()
        data = tmp_path / "more.jsonl"
        data.write_bytes(b"".join(
            orjson.dumps({**r, "prompt": f"{i} {r['prompt']}", "completion": os.urandom(600).hex()})
            + b"\n" for i in range(40) for r in ROWS
        ))  # fmt: skip
        verbs = (
            ["import", str(data)], ["verify", "--workers", "1"],
            ["score", "--scores", "length,repetition"], ["release", "more", str(disk / "r.yaml")],
            ["sql", "SELECT count(*) FROM wide"], ["report", "all"], ["gc"],
            ["export", "all", "--form", "trl", "--out", str(disk / "trl.jsonl")],
            ["forget", Store(root).table("traces").keys()[0]], ["check", "--repair"],
        )  # fmt: skip
        filler = disk / "filler"
        n_refused = 0
        for left in (0, 4096, 20_000, 60_000, 200_000, 700_000):
            for words in verbs:
                filler.write_bytes(b"")
                free = shutil.disk_usage(disk).free
                filler.write_bytes(b"x" * max(0, free - left))
                status = main([*words, "--store", str(root)])
                said = capsys.readouterr().err.strip().splitlines()
                assert "Traceback" not in str(said)
                if status:
                    n_refused += 1
                    # A forget that could not end is a finding, whatever fits now.
                    of_forget = ["did not end"] if words[0] in ("check", "release") else []
                    why = ("full", "No space", *of_forget)
                    assert said, (words, left)
                    assert any(w in said[-1] for w in why), (words, left, said)
                filler.unlink()
                left_over = [p for p in root.rglob(".tmp-*") if "seen" not in p.name]
                assert left_over == [], (words, left)
        assert n_refused > 20
        for words in (*verbs, ["check", "--audit"]):
            assert main([*words, "--store", str(root)]) == 0, (words, capsys.readouterr().err)
        assert Store(root).table("traces").n_rows() == rows + 480 - 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_name_that_duckdb_cannot_open_has_no_catalog_and_all_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = made_in(tmp_path / "a\\b?c")
    assert main(["export", "all", "--form", "trl", "--out", str(tmp_path / "trl.jsonl"),
                 "--store", str(root)]) == 0  # fmt: skip
    capsys.readouterr()
    assert main(["sql", "SELECT 1", "--store", str(root)]) == 1
    assert "no catalog can stand in" in capsys.readouterr().err


def test_a_wait_for_a_lock_says_who_holds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from factory.errors import StoreError
    from factory.store import durable

    monkeypatch.setattr(durable, "SPEAK_S", 0.1)
    with (
        durable.locked(tmp_path / ".lock"),
        pytest.raises(StoreError, match=f"held by process {os.getpid()}"),
        durable.locked(tmp_path / ".lock", timeout_s=0.5),
    ):
        raise AssertionError("two hold one lock")
    said = capsys.readouterr().err
    assert said.count("waiting for process") == 1
    assert "at most 0 s" in said or "at most 1 s" in said
