"""Damage of any kind to any file of a store is named; what is whole comes back; nothing is lost."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson
import polars as pl
import pyarrow.parquet as pq
import pytest

from catalogs import query
from factory.cli.main import main
from factory.errors import CorruptError, FactoryError, UsageError
from factory.stages.export import export
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.release import open_release, release
from factory.stages.release_repair import check_releases, repair_releases
from factory.stages.score import score
from factory.stages.select import Selection, Universe, select
from factory.store import Store, check, repair
from factory.store.log import encode_block
from tests.helpers_run import SAMPLING, problems, replay

RECIPE = Selection(universe=Universe(), filters={"is_right": "echo_verifier_status = 'pass'"})
ASKED = (
    "SELECT count(*), count(status), sum(n_completion_tokens), count(completion_chars) FROM wide",
    "SELECT sum(hash(completion)), count(*) FROM trace_texts",
    "SELECT count(*), sum(hash(text)) FROM prompt_texts",
    "SELECT status, count(*) FROM verdicts GROUP BY ALL ORDER BY ALL",
    "SELECT release, version, count(*) FROM release_rows GROUP BY ALL ORDER BY ALL",
    "SELECT kind, count(*) FROM runs GROUP BY ALL ORDER BY ALL",
)

Damage = tuple[str, list[Path]]
"""What was done, and to which files."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two releases, sealed tables, and one segment that nobody has sealed."""
    store = Store(tmp_path_factory.mktemp("damage") / "data")
    generate(
        store, problems(12), replay(12, 4), sampling=SAMPLING, policy=Policy(kind="fixed", n=4),
        n_workers=1,
    )  # fmt: skip
    score(store, ["length"])
    release(store, "right", select(store, RECIPE))
    release(store, "all", select(store, Selection(universe=Universe())))
    query.run(store, ASKED[0])
    with store.table("failures").writer("r") as writer:
        for n in range(3):
            writer.append([{"failure_id": f"{n:032x}", "attempt": n, "kind": "k", "run_id": "r"}])
    return store.root


def answers(root: Path, tmp_path: Path) -> dict[str, object]:
    """What sql, export and release say of a store; each answer, or the error."""
    out: dict[str, object] = {}

    def ask(name: str, work: Callable[[], object]) -> None:
        try:
            out[name] = work()
        except FactoryError as error:
            out[name] = error

    def exported(form: str) -> bytes:
        store = Store(root, create=False)
        target = tmp_path / "out.jsonl"
        export(store, open_release(store, "right"), form=form, out=str(target))
        return target.read_bytes()

    def asked(text: str) -> object:
        answer = query.run(Store(root, create=False), text)
        return FactoryError(answer.note) if "left out" in answer.note else answer.rows

    for n, text in enumerate(ASKED):
        ask(f"sql {n}", lambda text=text: asked(text))  # type: ignore[misc]
    ask("failures", lambda: Store(root, create=False).table("failures").read().rows())
    ask("trl", lambda: exported("trl"))
    ask("dpo", lambda: exported("dpo"))
    ask("select", lambda: select(Store(root, create=False), RECIPE).keys.rows())
    return out


def kinds_of(root: Path) -> list[Path]:
    # Claims are of running processes alone: nothing is lost without them, and nothing to be named.
    files = [
        p
        for p in root.rglob("*")
        if p.is_file()
        and not p.name.startswith(".")
        and "claims" not in p.parts
        and p.stat().st_size
    ]
    return sorted(files)


def damage(generator: random.Random, root: Path) -> Damage:
    """Do one thing to one file (or two); return what, and which."""
    files = kinds_of(root)
    # Every kind of file as often as any other, however many there are of it.
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault(f"{path.relative_to(root).parts[0]} {path.name[:5]}", []).append(path)
    path = generator.choice(groups[generator.choice(sorted(groups))])
    what = generator.choice(["flip", "cut", "delete", "swap"])
    data = path.read_bytes()
    if what == "flip":
        at = generator.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << generator.randrange(8))])
                         + data[at + 1 :])  # fmt: skip
    elif what == "cut":
        path.write_bytes(data[: generator.randrange(len(data))])
    elif what == "delete":
        path.unlink()
    else:
        other = generator.choice(
            [p for p in files if p != path and p.suffix == path.suffix] or files
        )
        return swap(path, other)
    return what, [path]


def swap(path: Path, other: Path) -> Damage:
    mine, theirs = path.read_bytes(), other.read_bytes()
    if mine == theirs:
        return "nothing", []
    path.write_bytes(theirs)
    other.write_bytes(mine)
    return "swap", [path, other]


def one_trial(
    made: Path, tmp_path: Path, truth: dict[str, object], harm: Callable[[Path], Damage]
) -> str | None:
    """Damage a copy; return what went wrong, None where all was right."""
    root = tmp_path / "data"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(made, root)
    what, paths = harm(root)
    names = [str(p.relative_to(root)) for p in paths]
    told = f"{what} {' '.join(names)}"
    store_lines: list[str]
    try:
        store = Store(root, create=False)
        store_lines = [*check(store), *check_releases(store)]
    except FactoryError as error:
        store_lines = [str(error)]
    seen = answers(root, tmp_path)
    torn = what == "cut" and names[0].endswith(".log")
    if torn and "segment-" in names[0]:
        # The end of a segment may be cut by a power loss before it was acknowledged: no damage.
        seen["failures"] = truth["failures"]
    for name, answer in seen.items():
        if isinstance(answer, Exception):
            if not any(n in str(answer) for n in names):
                return f"{told}: {name} does not name it: {answer}"
        elif answer != truth[name]:
            return f"{told}: {name} is silently wrong"
    derived = ("catalog.duckdb", "catalog.json")
    whole = all(n in derived for n in names) or what == "nothing"
    if not whole and not torn and not any(n in line for n in names for line in store_lines):
        return f"{told}: check does not name it: {store_lines}"
    done = repair(root)
    store = Store(root, create=False)
    done += repair_releases(store)
    left = [*check(store), *check_releases(store)]
    if left:
        return f"{told}: after repair check says {left}; it did {done}"
    for name, answer in answers(root, tmp_path).items():
        if (
            isinstance(answer, Exception)
            and not isinstance(answer, UsageError)
            and ("no release" not in str(answer))
        ):
            return f"{told}: after repair {name}: {answer}"
    return None


@pytest.fixture(scope="module")
def truth(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("truth")
    shutil.copytree(made, folder / "data")
    found = answers(folder / "data", folder)
    assert not any(isinstance(a, Exception) for a in found.values()), found
    return found


@pytest.mark.slow
def test_two_swapped_files_are_named_and_mended(
    made: Path, tmp_path: Path, truth: dict[str, object]
) -> None:
    def harm(root: Path) -> Damage:
        (decisions,) = root.glob("releases/right/*/decisions.parquet")
        return swap(decisions, next(root.glob("tables/prompts/part-*")))

    assert one_trial(made, tmp_path, truth, harm) is None


@pytest.mark.slow
def test_many_damages_are_named_and_mended(
    made: Path, tmp_path: Path, truth: dict[str, object]
) -> None:
    """``FACTORY_DAMAGES=300`` is the full run."""
    n = int(os.environ.get("FACTORY_DAMAGES", "40"))
    wrong = []
    for seed in range(n):
        found = one_trial(made, tmp_path, truth, partial(damage, random.Random(seed)))
        wrong += [f"seed {seed}: {found}"] if found else []
    assert not wrong, "\n".join(wrong)


# ---- one by one


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*argv: str) -> tuple[int, str]:
        status = main(list(argv))
        seen = capsys.readouterr()
        assert "Traceback" not in seen.out + seen.err
        return status, seen.out + seen.err

    return run


@pytest.mark.parametrize("name", ["manifest.json", "table.json"])
def test_a_lost_manifest_is_named_and_gc_deletes_nothing(
    root: Path, says: Callable[..., tuple[int, str]], name: str
) -> None:
    before = Store(root).table("traces").read().sort("trace_id")
    parts = sorted((root / "tables/traces").glob("part-*"))
    (root / "tables/traces" / name).unlink()
    status, text = says("check", "--store", str(root))
    assert (status, f"tables/traces/{name} is missing" in text) == (1, True)
    status, text = says("gc", "--store", str(root))
    assert status == 1
    assert f"tables/traces/{name} is missing" in text
    assert sorted((root / "tables/traces").glob("part-*")) == parts
    assert says("sql", "SELECT count(*) FROM wide", "--store", str(root))[0] == 1
    status, text = says("check", "--repair", "--store", str(root))
    assert (status, "written anew" in text) == (0, True)
    assert Store(root).table("traces").read().sort("trace_id").equals(before)


def test_gc_takes_what_a_killed_seal_left_only_where_its_rows_are_elsewhere(root: Path) -> None:
    table = Store(root).table("traces")
    rows = table.read()
    copy = table.write_part([rows.head(5)])
    own = table.write_part([rows.tail(5).with_columns(trace_id=pl.col("trace_id").str.reverse())])
    assert [line for line in check(Store(root)) if own.name in line]
    assert not [line for line in check(Store(root)) if copy.name in line]
    assert Store(root).gc() > 0
    assert not (table.folder / copy.name).exists()
    assert (table.folder / own.name).exists()
    repair(root)
    assert Store(root).table("traces").n_rows() == rows.height + 5


def test_a_bad_row_of_an_old_store_is_named_and_the_others_come_back(
    root: Path, says: Callable[..., tuple[int, str]]
) -> None:
    good = [{"failure_id": f"{n:032x}", "attempt": n, "kind": "k", "run_id": "r"} for n in (7, 8)]
    odd = [{**good[0], "failure_id": "f" * 32, "attempt": 12.5},
           {**good[0], "failure_id": "no key", "attempt": 1}]  # fmt: skip
    path = root / "tables/failures/segment-old-1.log"
    path.write_bytes(encode_block(good) + encode_block(odd))
    for argv in (["check"], ["sql", "SELECT count(*) FROM failures"]):
        status, text = says(*argv, "--store", str(root))
        assert (status, str(path.name) in text) == (1, True), text
    status, text = says("check", "--repair", "--store", str(root))
    assert (status, "3 rows are kept, 1 bad rows" in text) == (0, True), text
    frame = Store(root).table("failures").read().sort("failure_id")
    assert frame["attempt"].to_list() == [0, 1, 2, 7, 8, None]
    assert (root / "damaged/tables/failures" / path.name).exists()


def test_a_flipped_bit_in_a_segment_costs_its_block_alone(root: Path) -> None:
    path = next((root / "tables/failures").glob("segment-r-*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=path.name):
        Store(root).table("failures").read()
    repair(root)
    assert Store(root).table("failures").read()["attempt"].to_list() == [0, 2]


def test_a_truncated_run_record_is_named_and_its_run_can_still_be_revoked(
    root: Path, says: Callable[..., tuple[int, str]]
) -> None:
    path = sorted((root / "runs").glob("*/run.json"))[0]
    path.write_bytes(path.read_bytes()[:50])
    for argv in (["check"], ["sql", "SELECT 1"], ["check", "--audit"]):
        status, text = says(*argv, "--store", str(root))
        assert (status, str(path) in text) == (1, True), text
    assert says("check", "--repair", "--store", str(root))[0] == 0
    assert says("revoke", path.parent.name, "--reason", "x", "--store", str(root))[0] == 0


def test_a_part_that_changed_is_hashed_again_and_an_unchanged_one_is_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query.run(Store(root), ASKED[0])
    hashed: list[str] = []
    from factory.store import ledger

    honest = ledger.sha256_file
    monkeypatch.setattr(ledger, "sha256_file", lambda p: (hashed.append(p.name), honest(p))[1])
    query.run(Store(root), ASKED[0])
    assert hashed == []
    part = Store(root).table("traces").part_paths()[0]
    data = part.read_bytes()
    part.write_bytes(data)
    os.utime(part, ns=(1, 1))
    query.run(Store(root), ASKED[0])
    assert part.name in hashed
    part.write_bytes(data[:-200] + bytes([data[-200] ^ 1]) + data[-199:])
    with pytest.raises(CorruptError, match=f"{part.name} is damaged"):
        query.run(Store(root), ASKED[1])


def test_a_damaged_release_is_never_exported(root: Path, tmp_path: Path) -> None:
    folder = next((root / "releases/right").glob("*/"))
    for path in (folder / "part-00000.parquet", folder / "decisions.parquet"):
        data = path.read_bytes()
        for at in range(4, len(data), len(data) // 12):
            path.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
            store = Store(root)
            with pytest.raises(CorruptError, match=path.name):
                export(
                    store, open_release(store, "right"), form="dpo", out=str(tmp_path / "o.jsonl")
                )
        path.write_bytes(data)


def test_a_release_without_manifest_proves_its_version_and_comes_back(root: Path) -> None:
    store = Store(root)
    before = open_release(store, "right")
    rows = before.read()
    (before.folder / "manifest.json").write_text("{}")
    assert repair_releases(store)
    after = open_release(Store(root), "right")
    assert (after.version, after.read().equals(rows)) == (before.version, True)


def test_the_newest_release_is_the_last_written_whatever_the_clock_says(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(root)
    from factory.stages import release as module

    monkeypatch.setattr(module, "now", lambda: "1999-01-01T00:00:00+00:00")
    last = release(store, "right", select(store, Selection(universe=Universe(n=2))))
    assert open_release(store, "right").version == last.version
    latest = query.run(store, "SELECT version FROM releases WHERE is_latest AND release = 'right'")
    assert latest.rows == [(last.version,)]


def test_dpo_rejects_what_the_verifier_of_the_release_fails_and_nothing_else(
    root: Path, tmp_path: Path
) -> None:
    store = Store(root)
    out = tmp_path / "o.jsonl"
    n = export(store, open_release(store, "right"), form="dpo", out=str(out))
    right = store.table("verdicts.echo_verifier@1").read().filter(pl.col("status") == "pass")
    lies = right.with_columns(status=pl.lit("fail"), reward=pl.lit(0.0))
    store.table("verdicts.grumpy@1").add(lies)
    store.table("verdicts.echo_verifier@2").add(lies)
    before = out.read_bytes()
    assert export(store, open_release(store, "right"), form="dpo", out=str(out)) == n
    assert out.read_bytes() == before
    rejected = [orjson.loads(line)["rejected"][0]["content"] for line in before.splitlines()]
    texts = (
        store.table("traces").read().filter(pl.col("trace_id").is_in(right["trace_id"].implode()))
    )
    prompts = set(texts["prefill"] + texts["completion"])
    assert n > 3
    assert not prompts & set(rejected)


def test_after_a_revoke_the_audit_reports_no_orphans(
    root: Path, says: Callable[..., tuple[int, str]]
) -> None:
    run = Store(root).table("traces").read(["run_id"])["run_id"][0]
    other = Store(root)
    verdicts = other.table("verdicts.echo_verifier@1").read().head(6)
    keys = verdicts["verdict_id"].str.reverse()
    other.table("verdicts.echo_verifier@2").add(
        verdicts.with_columns(verdict_id=keys, run_id=pl.lit("20261130t000000-another"))
    )
    assert says("revoke", run, "--reason", "x", "--store", str(root))[0] == 0
    _, text = says("check", "--audit", "--store", str(root))
    assert "audit_orphans" not in text, text


def test_the_whole_row_groups_of_a_damaged_part_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    table = store.table("traces")
    empty = dict.fromkeys(table.form.columns)
    for start in range(0, 4000, 1000):
        rows = [
            {**empty, "trace_id": f"{n:032x}", "completion": f"text {n} " * 40, "run_id": "r"}
            for n in range(start, start + 1000)
        ]
        with table.writer("r") as writer:
            writer.append(rows)
    table.seal()
    (part,) = table.part_paths()
    whole = part.read_bytes()
    groups = pq.read_metadata(part)
    assert groups.num_row_groups >= 3
    chunk = groups.row_group(1).column(groups.schema.names.index("completion"))
    at = chunk.data_page_offset + chunk.total_compressed_size // 2
    outcomes = {}
    for name, place in {"page": at, "footer": len(whole) - 200}.items():
        damaged = bytearray(whole)
        damaged[place] ^= 1
        part.write_bytes(bytes(damaged))
        copy = tmp_path / name / "data"
        shutil.copytree(store.root, copy)
        lines = repair(copy)
        kept = Store(copy).table("traces").read(["trace_id", "completion"])
        assert all(text == f"text {int(key, 16)} " * 40 for key, text in kept.iter_rows()), (
            "nothing that comes back is wrong"
        )
        outcomes[name] = kept.height
        assert any("is a damaged part" in line for line in lines)
        assert check(Store(copy)) == []
        assert list((copy / "damaged").rglob(part.name))
    assert outcomes == {"page": 4000 - groups.row_group(1).num_rows, "footer": 0}
