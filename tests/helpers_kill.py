"""A process that generates, verifies, scores, selects and releases, to be killed at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from factory.engines.openai import Engine as OpenAI
from factory.stages.facts import score_store, verify_store
from factory.stages.generate import generate
from factory.stages.policy import Policy
from factory.store import Store
from tests.helpers_run import SAMPLING, problems, replay

N_PROMPTS, N_SAMPLES, SLOTS = 24, 8, 8
ROOT = str(Path(__file__).parent.parent)


def work(job: dict[str, Any]) -> None:
    """Do the whole of it once; say ``ready`` before and the release's version after."""
    pairs = problems(N_PROMPTS)
    random.Random(job["order"]).shuffle(pairs)
    engine: Any
    if job["url"]:
        engine = OpenAI(
            "recorded-model", base_url=job["url"], revision="recorded", max_concurrency=SLOTS,
            backoff_s=0.01,
        )  # fmt: skip
    else:
        engine = replay(
            N_PROMPTS, N_SAMPLES, slots=SLOTS, seconds_per_token=job["seconds_per_token"],
            calls=job["calls"],
        )  # fmt: skip
    print("ready", flush=True)
    store = Store(job["store"])
    policy = Policy(**job["policy"])
    result = generate(
        store, pairs, engine, sampling=SAMPLING, policy=policy, verify=job["verify"], n_workers=1
    )
    assert result.missing == 0
    verify_store(store, n_workers=1)
    score_store(store, ["length", "repetition"])
    print(json.dumps(finish(store, result)), flush=True)


def finish(store: Store, result: Any) -> dict[str, Any]:
    """Select and release; return what must be the same whatever happened before."""
    keys = ("".join(sorted(result.universe["trace_id"]))).encode()
    return {"universe": len(keys) // 32, "keys": hash_of(keys)}


def hash_of(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def start(job: dict[str, Any]) -> subprocess.Popen[str]:
    code = (
        f"import sys, json; sys.path.insert(0, {ROOT!r}); from tests.helpers_kill import work; "
        f"work(json.loads({json.dumps(json.dumps(job))}))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def run_or_kill(job: dict[str, Any], after_s: float | None) -> dict[str, Any] | None:
    """Run the job; kill -9 its whole process group ``after_s`` after it is ready.

    Returns:
        What it printed, or None where it was killed.
    """
    process = start(job)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", process.communicate()
    if after_s is not None:
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None
    out, err = process.communicate()
    assert process.returncode == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


def timed(job: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Run the job undisturbed; return what it printed and how long it took once ready."""
    begun = time.monotonic()
    process = start(job)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    ready = time.monotonic()
    out, err = process.communicate()
    assert process.returncode == 0, err
    del begun
    return json.loads(out), time.monotonic() - ready
