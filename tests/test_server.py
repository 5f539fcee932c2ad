"""Servers that we start: waited for, started again, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from factory.engines.openai import Engine
from factory.engines.server import vllm_command
from factory.errors import EngineError, UsageError
from factory.stages.generate import Generated, generate
from factory.stages.generate.policy import Policy
from factory.stages.generate.progress import line_of
from tests.helpers_run import SAMPLING, new_store, problems

PROGRAM = str(Path(__file__).with_name("server_program.py"))
ROOT = str(Path(__file__).parent.parent)


def engine_of(folder: Path, what: str, **options: Any) -> Engine:
    command = [sys.executable, PROGRAM, "{port}", str(folder), what]
    serve = {"command": command, "log": str(folder / "log"), **options}
    return Engine("recorded-model", revision="recorded", serve=serve, backoff_s=0.01, tries=9)


def run(folder: Path, what: str, **options: Any) -> Generated:
    engine = engine_of(folder, what, **options)
    try:
        return generate(
            new_store(folder), problems(12), engine, sampling=SAMPLING, policy=Policy(n=4),
            n_workers=1,
        )  # fmt: skip
    finally:
        engine.close()


def living(folder: Path) -> list[int]:
    """Pids of the program and its child that are still there, after a moment of grace."""
    noted = folder / "pids"  # not there where the process ended before it noted its own
    pids = [int(p) for p in noted.read_text().split()] if noted.exists() else []
    for _ in range(100):
        found = [p for p in pids if _is_alive(p)]
        if not found:
            break
        time.sleep(0.1)
    return found


def _is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_server_is_started_waited_for_and_ended_with_all_that_it_started(tmp_path: Path) -> None:
    result = run(tmp_path, "answers")
    assert (result.progress.n_new, result.missing) == (48, 0)
    assert living(tmp_path) == []


@pytest.mark.slow
def test_a_server_that_dies_on_the_way_is_started_again(tmp_path: Path) -> None:
    result = run(tmp_path, "dies_once")
    assert (result.progress.n_new, result.missing) == (48, 0)
    assert len((tmp_path / "pids").read_text().split()) == 4, "two servers"
    assert living(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "options", "says"),
    [
        ("dies", {}, "ended with status 1; the last that it said: no room for the key-value cache"),
        ("sleeps", {"start_s": 4.0}, "not healthy after 4 s"),
        ("dies_often", {"restarts": 1}, "ended with status 9, 2 times.*out of memory"),
    ],
)
def test_a_server_that_does_not_work_ends_the_run_with_its_last_words(
    tmp_path: Path, what: str, options: dict[str, Any], says: str
) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineError, match=says):
        run(tmp_path, what, **options)
    assert time.monotonic() - begun < 30
    assert living(tmp_path) == []


def test_the_first_stop_ends_the_wait_for_a_server_that_starts(tmp_path: Path) -> None:
    stop, stopped_at = threading.Event(), []

    def later() -> None:
        time.sleep(1.5)
        stopped_at.append(time.monotonic())
        stop.set()

    threading.Thread(target=later).start()
    engine, lines = engine_of(tmp_path, "sleeps"), []
    result = generate(
        new_store(tmp_path), problems(2), engine, sampling=SAMPLING, policy=Policy(n=1), stop=stop,
        on_progress=lambda progress: lines.append(line_of(progress)),
    )  # fmt: skip
    assert time.monotonic() - stopped_at[0] < 3.0
    assert any("the server starts: 1 s of at most 900 s" in line for line in lines)
    engine.close()
    assert (result.stopped, result.missing) == ("interrupted", 2)
    assert living(tmp_path) == []


@pytest.mark.slow
def test_a_killed_run_leaves_no_server_behind(tmp_path: Path) -> None:
    code = (
        f"import sys, time; sys.path.insert(0, {ROOT!r})\n"
        "from pathlib import Path\n"
        "from tests.test_server import engine_of\n"
        f"engine_of(Path({str(tmp_path)!r}), 'answers')._served.ensure()\n"
        "print('up', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        os.kill(process.pid, signal.SIGKILL)
    assert len((tmp_path / "pids").read_text().split()) == 2
    assert living(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"serve": {"port": 1}}, "serve: .*port"),
        ({"serve": {"command": ["x"], "args": {"a": 1}}}, "both command and args"),
        ({"serve": {"command": ["x"]}, "base_url": "http://h/v1"}, "both base_url and serve"),
        ({"base_url": "http://h/v1", "revision": None}, "no revision"),
        ({"serve": {"args": {"trust_remote_code": True}}}, "trust-remote-code"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Engine("m", **{"revision": "r", **options})


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    engine = Engine("m", revision="r", serve={"command": ["/no/such/program"]})
    with pytest.raises(EngineError, match="cannot start /no/such/program"):
        generate(new_store(tmp_path), problems(1), engine, sampling=SAMPLING, policy=Policy(n=1))


def test_settings_become_arguments_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 1024}')
    command, _ = vllm_command(str(tmp_path), {"max_model_len": 512, "enforce_eager": True})
    assert command[command.index("--max-model-len") + 1] == "512"
    assert "--enforce-eager" in command
    assert "--trust-remote-code" not in command
