"""Several runs on one store: nothing is paid twice, and what is committed is seen at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from catalogs import query
from factory.stages.generate import Generated, generate
from factory.stages.generate.policy import Policy
from factory.stages.release import release
from factory.stages.select import Selection, Universe, select
from factory.store import Store
from factory.store.claims import Claims
from tests.helpers_run import SAMPLING, new_store, problems, replay

FIXED = Policy(kind="fixed", n=4)
UNTIL = Policy(kind="until", passes=2, max_samples=8)


@pytest.mark.parametrize(
    "policies", [(FIXED, FIXED), (UNTIL, UNTIL), (FIXED, Policy(kind="fixed", n=6))],
    ids=["fixed", "until", "4 and 6"],
)  # fmt: skip
def test_two_runs_at_once_pay_for_each_trace_once(
    tmp_path: Path, policies: tuple[Policy, Policy]
) -> None:
    calls = tmp_path / "calls"
    results: dict[int, Generated] = {}

    def run(number: int) -> None:
        engine = replay(24, 8, slots=4, seconds_per_token=0.0005, calls=str(calls))
        pairs = problems(24) if number == 0 else problems(24)[::-1]
        results[number] = generate(
            Store(tmp_path / "data"), pairs, engine, sampling=SAMPLING, policy=policies[number],
            n_workers=1,
        )  # fmt: skip

    Store(tmp_path / "data")
    threads = [threading.Thread(target=run, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    asked = calls.read_text().split()
    assert len(asked) == len(set(asked)), "a trace was paid for twice"
    assert [results[n].missing for n in range(2)] == [0, 0]
    assert all(results[n].progress.n_new for n in range(2)), "both did some of the work"
    for number, policy in enumerate(policies):
        calm = Store(tmp_path / f"calm{number}")
        alone = generate(calm, problems(24), replay(24, 8), sampling=SAMPLING, policy=policy)
        assert results[number].universe.sort("trace_id").equals(alone.universe.sort("trace_id"))


def test_the_claims_of_a_dead_run_are_gone_with_it(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from factory.store.claims import Claims; "
        "c = Claims(pathlib.Path(sys.argv[1]), 'dead'); c.take('a'); print(1, flush=True); "
        "time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    other.stdout.readline()
    mine = Claims(tmp_path, "mine")
    assert (mine.take("a"), mine.freed(["a"])) == (False, [])
    other.kill()
    other.wait()
    assert mine.freed(["a"]) == ["a"]
    mine.close()


@pytest.mark.slow
def test_sql_and_release_see_what_a_running_generate_has_committed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    engine = replay(30, 4, slots=2, seconds_per_token=0.01)
    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: generate(
            store, problems(30), engine, sampling=SAMPLING, policy=FIXED, stop=stop, n_workers=1
        )
    )
    thread.start()
    try:
        deadline = time.monotonic() + 60
        seen = 0
        while not seen and time.monotonic() < deadline:
            time.sleep(0.3)
            seen = query.run(Store(store.root), "SELECT count(*) FROM wide").rows[0][0]
        assert thread.is_alive()
        assert 0 < seen < 120
        texts = query.run(Store(store.root), "SELECT count(completion) FROM trace_texts").rows[0][0]
        assert texts >= seen
        made = release(store, "early", select(store, Selection(universe=Universe())))
        assert made.manifest["rows"] >= seen
        assert len(made.manifest["running"]) == 1
    finally:
        stop.set()
        thread.join(60)
    done = generate(store, problems(30), replay(30, 4), sampling=SAMPLING, policy=FIXED)
    assert store.table("traces").keys().n_unique() == store.table("traces").n_rows() == 120
    assert done.missing == 0
