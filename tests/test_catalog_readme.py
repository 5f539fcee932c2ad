"""Every command of catalogs/README.md gives the output printed there."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from catalogs import build, printing, query, show
from factory.errors import FactoryError
from factory.store import Store
from tests import helpers_catalog as made
from tests.helpers_docs import take

README = Path(__file__).parents[1] / "catalogs" / "README.md"
BLOCKS = [s for b in take("catalogs/README.md", "$ ", language="console") for s in b.sessions]
(PYTHON,) = take("catalogs/README.md", language="python")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = made.make_store(tmp_path_factory.mktemp("readme") / "data")
    made.make_release(store)
    return store


def answer(store: Store, command: str) -> str:
    """What the command prints, complaints as the command line words them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("verb")
    parser.add_argument("what", nargs="?")
    for form in ("json", "csv", "md"):
        parser.add_argument(f"--{form}", dest="form", action="store_const", const=form)
    parser.set_defaults(form="table")
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("--dropped-by")
    args = parser.parse_args(shlex.split(command))
    try:
        if args.verb == "sql":
            return show.sql(store, args.what, form=args.form)[0]
        if args.verb == "sample":
            return printing.sample(
                store, args.what, n=args.n, dropped_by=args.dropped_by, form=args.form
            )
        if args.verb == "show":
            return show.show(store, args.what, form=args.form)
        return show.ls(store, form=args.form)
    except FactoryError as error:
        return f"factory {args.verb}: {error}\n"


@pytest.mark.parametrize(("command", "printed"), BLOCKS)
def test_a_command_prints_what_the_readme_says(store: Store, command: str, printed: str) -> None:
    assert answer(store, command) == printed


def test_any_duckdb_opens_the_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    build.ensure(store)
    monkeypatch.chdir(store.root.parent)
    *lines, asked, answer = PYTHON.text.splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    with names["con"]:
        assert f"# {eval(asked, names)!r}" == answer


def test_it_names_every_table_and_every_query(store: Store) -> None:
    text = README.read_text("utf-8")
    with build.connect(store) as con:
        names = [
            r[0]
            for r in con.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'catalog' UNION ALL "
                "SELECT view_name FROM duckdb_views() WHERE database_name = 'catalog' "
                "AND NOT internal"
            ).fetchall()
        ]
        columns = [r[0] for r in con.execute("SELECT name FROM wide_columns").fetchall()]
    assert [n for n in names if f"`{n}`" not in text and not n.startswith("scores.")] == []
    assert [q for q in query.named_queries() if f"| `@{q}` |" not in text] == []
    fixed = [c for c in columns if not c.startswith(("math_", "lang", "completion_words"))]
    assert [c for c in fixed if not re.search(rf"\b{c}\b", text)] == []
    assert len(BLOCKS) >= 9
