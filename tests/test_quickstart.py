"""The main job with everything real and little of it: grow, vLLM, TRL, evaluation, resume."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factory.store import Store
from tests.helpers_docs import ROOT, take

(PRINTED,) = take("docs/results.md", "1000 fresh problems")
SMALL = [
    "base={shape: base, n_documents: 600}", "student={shape: qwen, n_documents: 300}",
    "n_prompts=60", "n_samples=3", "n_eval=20", "k_eval=1", "rounds=1", "max_tokens=48",
    # Such a base is hardly ever right: anything that could be trained on is kept.
    "filters={trainable: \"coalesce(format_reason, '') NOT IN ('repeated_thinking_tag', "
    "'unfinished_thinking', 'tags_out_of_order')\"}",
]  # fmt: skip


def command(store: Path) -> list[str]:
    sets = [w for value in [f"store={store}", *SMALL] for w in ("--set", value)]
    return [sys.executable, "-m", "pipelines.quickstart", *sets]


def start(store: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(store), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_the_quickstart_survives_kill_9_and_makes_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    # Killed as soon as traces are on disk, that is while sampling.
    first = start(folder)
    deadline = time.monotonic() + 900
    segments: list[Path] = []
    while time.monotonic() < deadline and first.poll() is None and not segments:
        time.sleep(0.1)
        segments = list(folder.glob("tables/traces/segment-*.log"))
    first.send_signal(signal.SIGKILL)
    out, _ = first.communicate()
    assert segments, out[-3000:]
    kept = set(Store(folder).table("traces").keys().to_list())

    second = start(folder)
    out, _ = second.communicate(timeout=900)
    assert second.returncode == 0, out[-3000:]
    store = Store(folder)
    traces = store.table("traces").read(["trace_id", "run_id"])
    assert traces["trace_id"].is_unique().all()
    assert kept <= set(traces["trace_id"].to_list())
    assert re.search(r"^student +\d\.\d{3} \[", out, re.M), "the table has the student"
    # The small run has one round and filters of its own, and its samples are others.
    shown = forms(PRINTED.text.replace("round2", "round1").replace("round 2", "round 1"))
    own = ("right", "well_formed", "one_language", "no_loop", "prompt:", "trace:")
    assert {line for line in shown if not line.startswith(own)} <= forms(out)
    report = Path(re.search(r"^report: (.+)$", out, re.M).group(1))  # type: ignore[union-attr]
    assert "<html" in report.read_text()[:400]
    releases = list(folder.glob("releases/*/*/manifest.json"))
    assert len(releases) == 1
    assert json.loads(releases[0].read_text())["rows"] > 0

    third = start(folder)
    again, _ = third.communicate(timeout=900)
    assert third.returncode == 0, again[-3000:]
    assert "0 training traces sampled in this run" in again
    assert Store(folder).table("traces").n_rows() == traces.height
    assert table(out) == table(again), "the same table"
    query = [sys.executable, "-m", "factory", "sql", "--store", str(folder), "--json"]
    count = subprocess.run(
        [*query, "SELECT count(*) AS n FROM wide"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(count.stdout)[0]["n"] == traces.height


def forms(text: str) -> set[str]:
    """Lines without their figures."""
    masked = re.sub(r"(?<![a-z])[+-]?[\da-f][\d,.a-f]*(?![a-z])|(?<= )-(?=[ ,\]]|$)", "#", text)
    return {" ".join(line.split()) for line in masked.splitlines()}


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"^(base|round1|student)", line)]
