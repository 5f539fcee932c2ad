"""What is forgotten is gone from every layer of a store, whatever is killed, and stays gone."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import polars as pl
import pytest

from catalogs import query
from catalogs.show import audit
from factory.cli.main import main
from factory.errors import StoreError
from factory.stages.forget import forget, unfinished
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.importing import import_rows
from factory.stages.release import open_release
from factory.stages.release_repair import check_releases
from factory.store import Store, check
from factory.store.addition import Addition
from tests.helpers_run import SAMPLING, problems, replay

SECRET = "Jane Roe lives at 7 Elm Street"
ROWS = [
    {"prompt": f"What is {i}+{i}?", "completion": f"<think>\nadd {i}\n</think>\n\n{2 * i}",
     "gold": str(2 * i), "model": "m"}
    for i in range(1, 40)
]  # fmt: skip
HERS = {"prompt": f"{SECRET}. Where?", "completion": f"<think>\n{SECRET}\n</think>\n\nElm",
        "gold": f"{SECRET} gold", "model": "m", "note": SECRET}  # fmt: skip
RECIPE = "universe: {}\nfilters:\n  long_enough: completion_words > 0\n"


def cli(*words: str) -> int:
    return main(list(words))


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("made")
    data = tmp_path / "rows.jsonl"
    data.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in [*ROWS, HERS]))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    store = str(tmp_path / "data")
    assert cli("import", str(data), "--store", store) == 0
    assert cli("verify", "--store", store) == 0
    assert cli("score", "--scores", "length", "--store", store) == 0
    assert cli("release", "all", str(tmp_path / "recipe.yaml"), "--store", store) == 0
    assert cli("export", "all", "--form", "trl", "--out", str(tmp_path / "out.jsonl"),
               "--store", store) == 0  # fmt: skip
    assert cli("report", "all", "--store", store) == 0
    return tmp_path


def holders(root: Path, text: str) -> list[str]:
    """Files under the store in which the text stands, Parquet and DuckDB read as what they are."""
    found = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        if path.suffix == ".parquet":
            held = text in pl.read_parquet(path).write_json()
        else:
            held = text.encode() in path.read_bytes()
        if held:
            found.append(str(path.relative_to(root)))
    return found


def ids(root: Path) -> tuple[str, str]:
    where = f"completion LIKE '%{SECRET}%'"
    read = "SELECT w.prompt_id, w.trace_id FROM trace_texts JOIN wide AS w USING (trace_id)"
    sql = f"{read} WHERE {where}"
    ((prompt_id, trace_id),) = query.run(Store(root), sql).rows
    return prompt_id, trace_id


def is_sound(root: Path) -> None:
    store = Store(root, create=False)
    assert [*check(store), *check_releases(store)] == []
    assert audit(store) == []
    assert unfinished(store) == []


def test_a_forgotten_prompt_is_gone_from_every_layer_and_stays_gone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt_id, _ = ids(root)
    assert holders(root, SECRET)
    old = open_release(Store(root), "all")
    assert cli("forget", prompt_id, "--dry-run", "--store", str(root)) == 0
    assert "1 prompts and 1 traces would go" in capsys.readouterr().out
    assert open_release(Store(root), "all").version == old.version
    assert cli("forget", prompt_id, "--store", str(root)) == 0
    said = capsys.readouterr().out
    assert "1 prompts and 1 traces are gone" in said
    assert "out.jsonl is an export (trl) of all/" in said
    assert holders(root, SECRET) == []
    assert holders(root, "Elm") == []
    is_sound(root)
    new = open_release(Store(root), "all")
    assert new.manifest["rows"] == old.manifest["rows"] - 1
    assert new.manifest["replaces"] == [old.version]
    with pytest.raises(StoreError, match=f"forgotten: all/{new.version} stands in its place"):
        open_release(Store(root), f"all/{old.version}")
    # The same file again, and the same text read in another way.
    data = root.parent / "again.jsonl"
    again = {**HERS, "prompt": f"  {SECRET}.  Where? ", "system": "Be kind."}
    data.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in [ROWS[0], HERS, again]))
    assert cli("import", str(data), "--store", str(root)) == 0
    assert "2 forgotten" in capsys.readouterr().err
    assert holders(root, SECRET) == []
    assert cli("forget", prompt_id, "--store", str(root)) == 0  # twice is once
    is_sound(root)


def test_a_forgotten_trace_leaves_its_prompt(root: Path) -> None:
    prompt_id, trace_id = ids(root)
    done = forget(Store(root), [trace_id])
    assert (done.prompts, done.traces) == (set(), {trace_id})
    assert {n.partition(".")[0] for n in done.rows if done.rows[n]} == {
        "traces", "verdicts", "scores",
    }  # fmt: skip
    assert holders(root, "add nothing") == []
    held = holders(root, SECRET)
    assert all("prompt" in name for name in held), held
    import_rows(Store(root), [("again", 1, HERS)])
    assert query.run(Store(root), "SELECT count(*) FROM wide").rows == [(39,)]
    assert query.run(Store(root), f"FROM prompts WHERE prompt_id = '{prompt_id}'").rows
    is_sound(root)


def test_what_fits_a_predicate_is_forgotten(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = "CAST(gold AS INT) > 60 -- all of them"
    assert cli("forget", "--prompts", "--where", "gold_short LIKE 'Jane%'", "--store",
               str(root)) == 0  # fmt: skip
    assert cli("forget", "--where", "prompt_id IS NULL", "--store", str(root)) == 0
    assert "nothing is forgotten" in capsys.readouterr().err
    assert cli("forget", "--where", "completion_words > 0 -- every one", "--store", str(root)) == 0
    assert query.run(Store(root), "SELECT count(*) FROM wide").rows == [(0,)]
    assert not list((root / "releases" / "all").glob("*/manifest.json"))
    assert holders(root, SECRET) == []
    is_sound(root)
    assert cli("forget", "--where", f"{where}) OR (true", "--store", str(root)) == 2
    assert cli("forget", "f" * 32, "--store", str(root)) == 2


def test_generate_does_not_make_again_what_was_forgotten(tmp_path: Path) -> None:
    store, pairs = Store(tmp_path / "data"), problems(3)
    policy = Policy(kind="fixed", n=2)

    def made() -> tuple[int, int, int]:
        got = generate(store, pairs, replay(3, 2), sampling=SAMPLING, policy=policy, verify=False)
        return got.progress.n_new, got.missing, got.universe.height

    assert made() == (6, 0, 6)
    keys = store.table("traces").keys().to_list()
    forget(store, [pairs[0][0].prompt_id])
    one = next(k for k in keys if k in set(store.table("traces").keys()))
    forget(store, [one])
    assert made() == (0, 0, 3)
    assert store.table("traces").n_rows() == 3
    assert store.table("prompts").n_rows() == 2
    is_sound(store.root)


def test_the_judge_forgets_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    import_rows(store, [("a", i, r) for i, r in enumerate([*ROWS[:3], HERS])])
    frame = store.table("traces").read(["trace_id", "completion"])
    own = Store(store.root / "judge")
    trace_id = frame.filter(pl.col("completion").str.contains(SECRET))["trace_id"].item()
    from factory.records import Prompt, PromptSource

    asked = Prompt.of(f"Is this right? {SECRET}")
    pair = (asked, PromptSource(prompt_id=asked.prompt_id, source="judge", item=trace_id))
    own.table("prompts").add(pl.DataFrame([asked.row("r")]))
    own.table("prompt_sources").add(pl.DataFrame([pair[1].row("r")], infer_schema_length=None))
    assert holders(store.root / "judge", SECRET)
    forget(store, [trace_id])
    assert holders(store.root / "judge", SECRET) == []


def test_facts_of_revoked_runs_and_of_earlier_readings_go_as_well(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    done = import_rows(store, [("a", 0, HERS)])
    store.revoke(done.run_id, reason="bad", by=done.run_id)
    assert store.table("traces").n_rows() == 0
    (key,) = [r for f in store.table("traces").batches(["trace_id"], with_revoked=True)
              for r in f["trace_id"]]  # fmt: skip
    forget(store, [key])
    assert not [p for p in holders(store.root, SECRET) if "traces" in p]


def test_a_living_writer_is_waited_for_and_takes_nothing_in(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    import_rows(store, [("a", i, r) for i, r in enumerate([*ROWS[:3], HERS])])
    key = ids(store.root)[0]
    with store.table("failures").writer("living"):
        with pytest.raises(StoreError, match="run living is still writing"):
            forget(store, [key])
        assert unfinished(store)
        row = store.table("traces").read().row(0, named=True)
        with store.table("traces").writer("later") as late:
            late.append([{**row, "trace_id": "0" * 32, "prompt_id": key}])
            assert late.n_rows == 0
    assert cli("check", "--store", str(store.root)) == 1
    assert cli("forget", "--store", str(store.root)) == 0
    assert holders(store.root, SECRET) == []
    assert cli("check", "--audit", "--store", str(store.root)) == 0


def test_what_is_forgotten_beside_an_import_is_not_put_into_force(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    import_rows(store, [("a", i, r) for i, r in enumerate([*ROWS[:3], HERS])])
    row = store.table("traces").read().row(0, named=True)
    key = ids(store.root)[0]
    more = Addition(store.table("traces"))
    more.append([{**row, "trace_id": "0" * 32, "prompt_id": key, "completion": SECRET}])
    more.append([{**row, "trace_id": "1" * 32}])
    forget(store, [key])
    assert holders(store.root, SECRET) == [], "what waits has no name, and dies with its process"
    assert more.commit() == 1
    assert holders(store.root, SECRET) == []


def test_a_release_that_selected_before_is_refused(root: Path) -> None:
    from factory.stages.release import release
    from factory.stages.select import Selection, select

    store = Store(root)
    selected = select(store, Selection(filters={"some": "completion_words > 0"}))
    prompt_id, _ = ids(root)
    assert selected.keys.height == 40
    names = list(store.table("forgotten").form.columns)
    store.table("forgotten").add(
        pl.DataFrame([(prompt_id, "prompt", "", "r")], schema=names, orient="row")
    )
    with pytest.raises(StoreError, match="forgotten meanwhile"):
        release(store, "late", selected)
    assert not list(root.glob("releases/late/[!.]*"))


KILLED = """
import sys
from factory.store import Store
from factory.store.addition import Addition
from factory.stages.forget import forget
forget(Store(sys.argv[1]), sys.argv[2:])
"""


@pytest.mark.slow
def test_kills_at_any_moment_are_finished_by_the_next_call(root: Path) -> None:
    prompt_id, _ = ids(root)
    n_killed = 0
    for n in range(12):
        copy = root.parent / f"copy{n}" / "data"
        shutil.copytree(root, copy)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(copy), prompt_id], stderr=subprocess.DEVNULL
        )
        # From the moment that its run is there on.
        while process.poll() is None and not unfinished(Store(copy)):
            time.sleep(0.002)
        time.sleep(0.02 * n)
        process.send_signal(signal.SIGKILL)
        n_killed += process.wait() == -signal.SIGKILL
        again = [] if unfinished(Store(copy)) and Store(copy).forgotten() else [prompt_id]
        assert cli("forget", *again, "--store", str(copy)) == 0
        assert holders(copy, SECRET) == [], n
        is_sound(copy)
        shutil.rmtree(copy.parent)
    assert n_killed >= 6
