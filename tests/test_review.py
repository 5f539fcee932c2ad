"""Reviews: facts that survive kills and two writers, and that filters read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from catalogs import build
from factory.cli.main import main
from factory.errors import UsageError
from factory.stages.release import release
from factory.stages.review import Reviewer, export_reviews, import_reviews
from factory.stages.select import Selection, select
from factory.store import Store
from tests import helpers_catalog as made

ROOT = Path(__file__).parent.parent
WRITER = """
import os, sys
from factory.stages.review import Reviewer
from factory.store import Store
store, author, begin = Store(sys.argv[1], create=False), sys.argv[2], int(sys.argv[3])
reviewer = Reviewer(store, author=author)
for i in range(begin, begin + 40):
    reviewer.add([f"{i:032x}"], review="drop")
    print(i, flush=True)
    if i == begin + 30 and author == "killed":
        os.kill(os.getpid(), 9)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return made.make_store(tmp_path / "data")


def trace_ids(store: Store) -> list[str]:
    with build.connect(store) as con:
        return [r[0] for r in con.execute("SELECT trace_id FROM wide ORDER BY 1").fetchall()]


def said(store: Store) -> dict[str, tuple[str | None, ...]]:
    with build.connect(store) as con:
        rows = con.execute(
            "SELECT trace_id, review, review_note, reviewed_by FROM wide "
            "WHERE reviewed_at IS NOT NULL"
        ).fetchall()
    return {r[0]: r[1:] for r in rows}


def test_the_latest_word_counts_whoever_said_it(store: Store) -> None:
    a, b, c, *_ = trace_ids(store)
    with Reviewer(store, author="ada") as ada, Reviewer(store, author="bob") as bob:
        ada.add([a, b, c], review="drop")
        bob.add([a], review="keep", note="fine")
        ada.add([b], review="none")
        bob.add([c], note="why?")
        assert said(store) == {
            a: ("keep", "fine", "bob"), b: (None, None, "ada"), c: ("drop", "why?", "bob"),
        }  # fmt: skip
    assert store.table("reviews").n_rows() == 6


def test_a_filter_on_reviews_changes_the_release_and_stands_in_its_funnel(store: Store) -> None:
    filters = {"right": "status = 'pass'", "reviewed": "review IS DISTINCT FROM 'drop'"}

    def made_release() -> tuple[str, int, dict[str, int]]:
        chosen = select(
            store, Selection(filters=filters, exact_duplicates=None), verifiers=["math"], scores=[]
        )
        out = release(store, "reviewed", chosen, recipe={})
        funnel = {f["name"]: f["n_dropped"] for f in chosen.funnel}
        return out.version, out.manifest["rows"], funnel

    version, rows, funnel = made_release()
    assert funnel["reviewed"] == 0
    with build.connect(store) as con:
        query = "SELECT trace_id FROM wide WHERE status = 'pass' ORDER BY 1 LIMIT 5"
        passed = [r[0] for r in con.execute(query).fetchall()]
    with Reviewer(store, author="ada") as reviewer:
        reviewer.add(passed, review="drop")
    again, fewer, funnel = made_release()
    assert (again != version, rows - fewer, funnel["reviewed"]) == (True, 5, 5)


def test_kill_nine_and_two_reviewers_at_once_lose_nothing(store: Store) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.root), author, begin],
            stdout=subprocess.PIPE, text=True, env=env,
        )
        for author, begin in (("killed", "0"), ("ada", "20"))
    ]  # fmt: skip
    printed = [set(p.communicate()[0].split()) for p in processes]
    assert [p.returncode for p in processes] == [-signal.SIGKILL, 0]
    frame = store.table("reviews").read(["trace_id", "author"])
    stored = [
        {str(int(t, 16)) for t, who in frame.iter_rows() if who == author}
        for author in ("killed", "ada")
    ]
    assert stored == printed
    assert [len(s) for s in stored] == [31, 40]


def test_they_travel_as_files(store: Store, tmp_path: Path) -> None:
    a, b, *_ = trace_ids(store)
    with Reviewer(store, author="ada") as reviewer:
        reviewer.add([a], review="wrong_verdict", note="gold\u202e is <b>wrong</b>\n")
        reviewer.add([b], review="keep")
    out = str(tmp_path / "reviews.jsonl")
    assert export_reviews(store, out) == 2
    other = made.make_store(tmp_path / "other")
    assert import_reviews(other, out) == (2, 0)
    assert import_reviews(other, out) == (0, 2)
    assert said(other) == said(store)
    assert main(["reviews", "--from", out, "--store", str(other.root)]) == 0


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"trace_id": "x", "author": "a", "created_at": "2026-01-01", "review": "keep"}', "trace"),
        ('{"author": "a", "created_at": "2026-01-01", "review": "keep"}', "no trace_id"),
        (f'{{"trace_id": "{"0" * 32}", "author": "a", "created_at": "now", "review": "keep"}}',
         "ISO 8601"),
        (f'{{"trace_id": "{"0" * 32}", "author": "a", "created_at": "2026-01-01"}}', "neither"),
        (f'{{"trace_id": "{"0" * 32}", "author": "a", "created_at": "2026-01-01", "review": 1}}',
         "review '1'"),
        ("no json", "row 1"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_review_stores_nothing(
    store: Store, tmp_path: Path, row: str, says: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(UsageError, match=says):
        import_reviews(store, str(path))
    assert not store.has("reviews") or store.table("reviews").n_rows() == 0


@pytest.mark.parametrize(
    ("author", "word", "note"), [("", "keep", None), ("a", "perhaps", None), ("a", None, None)]
)
def test_a_word_that_is_none_is_refused(
    store: Store, author: str, word: str | None, note: str | None
) -> None:
    with pytest.raises(UsageError):
        Reviewer(store, author=author).add(["0" * 32], review=word, note=note)
    assert not store.has("reviews")
