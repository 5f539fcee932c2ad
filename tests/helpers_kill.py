"""A process that generates, verifies, scores, selects and releases, to be killed at any moment."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from factory.engines.openai import Engine as OpenAI
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.release import release
from factory.stages.score import score
from factory.stages.select import Selection, Universe
from factory.stages.select import select as select_traces
from factory.stages.verify import verify
from factory.store import Store
from tests.helpers_run import SAMPLING, problems, replay

N_PROMPTS, N_SAMPLES, SLOTS = 24, 8, 8
ROOT = str(Path(__file__).parent.parent)


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Do the whole of it once; return what must be the same whatever happened before."""
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
    store = Store(job["store"])
    policy = Policy(**job["policy"])
    stage = Path(job["stage"])
    stage.write_text("generate")
    result = generate(
        store, pairs, engine, sampling=SAMPLING, policy=policy, verify=job["verify"], n_workers=1
    )
    assert result.missing == 0
    stage.write_text("verify")
    verify(store, n_workers=1)
    stage.write_text("score")
    score(store, ["length"])
    return finish(store, result, stage)


def finish(store: Store, result: Any, stage: Path) -> dict[str, Any]:
    """Select and release."""
    keys = "".join(sorted(result.universe["trace_id"])).encode()
    recipe = Selection(
        universe=Universe(), cap_per_prompt=2,
        filters={"is_right": "echo_verifier_status = 'pass'", "is_short": "completion_chars < 999"},
    )  # fmt: skip
    stage.write_text("select")
    selected = select_traces(store, recipe, trace_ids=result.universe["trace_id"])
    stage.write_text("release")
    made = release(store, "kept", selected)
    return {"universe": hashlib.sha256(keys).hexdigest(), "version": made.version}


def serve() -> None:
    """Read jobs from standard input, one a line, and do each in a forked process.

    Everything is imported once: a start costs milliseconds, so that many kills are affordable. At
    the fork no library has done anything yet; its thread pools start in the child.
    """
    for line in sys.stdin:
        print(json.dumps(_fork(json.loads(line))), flush=True)


def _fork(job: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(read)
        os.dup2(os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        status = 1
        try:
            os.write(write, json.dumps(work(job)).encode())
            status = 0
        except BaseException:  # noqa: BLE001 - the child must not run its parent's loop
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(write)
    killed = False
    with os.fdopen(read) as pipe:
        if job["kill_in"] is not None:
            # Wait until the stage has begun, then a little.
            while not _has(job, pipe):
                time.sleep(0.001)
            if not select.select([pipe], [], [], job["kill_after_s"])[0]:
                os.kill(pid, signal.SIGKILL)
                killed = True
        answer = pipe.read() if not killed else ""
    _, status = os.waitpid(pid, 0)
    return {"killed": killed, "status": status, "answer": json.loads(answer or "null")}


def _has(job: dict[str, Any], pipe: Any) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if Path(job["stage"]).read_text() == job["kill_in"]:
            return True
    return bool(select.select([pipe], [], [], 0)[0])


class Runner:
    """Starts jobs and kills them."""

    def __init__(self) -> None:
        # Not with -c: DuckDB takes that for a person at a prompt and draws progress on its output.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers_kill"], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(
        self, job: dict[str, Any], *, kill_in: str | None = None, kill_after_s: float = 0.0
    ) -> dict[str, Any] | None:
        """Run the job, killing it in some stage; return its answer, None where it was killed."""
        Path(job["stage"]).unlink(missing_ok=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(
            json.dumps({**job, "kill_in": kill_in, "kill_after_s": kill_after_s}) + "\n"
        )
        self._process.stdin.flush()
        out = json.loads(self._process.stdout.readline())
        if out["killed"]:
            return None
        assert out["status"] == 0, Path(job["log"]).read_text()[-3000:]
        answer: dict[str, Any] = out["answer"]
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()


if __name__ == "__main__":
    serve()
