"""The OpenAI-compatible engine against a server that misbehaves in every way we know."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory.engines.openai import Engine
from factory.engines.openai.answers import Answer
from factory.engines.openai.faults import Fault
from factory.errors import EngineError, UsageError
from factory.records import Sampling
from factory.stages.generate import Generated, generate
from factory.stages.generate.policy import Policy
from factory.store import Store
from tests.helpers_run import SAMPLING, new_store, problems, replay
from tests.helpers_server import Behave, Server, recorded

MODEL, REVISION = "recorded-model", "recorded"
FIXED = Policy(kind="fixed", n=4)
UNTIL = Policy(kind="until", passes=2, max_samples=8)
QUICK: dict[str, Any] = {"backoff_s": 0.01, "max_backoff_s": 0.05}


def record(n: int, n_samples: int = 8, sampling: Sampling = SAMPLING) -> dict[int, dict[str, Any]]:
    return recorded(n, n_samples, model=MODEL, revision=REVISION, sampling=sampling)


def engine_for(url: str | list[str], **options: Any) -> Engine:
    return Engine(MODEL, base_url=url, revision=REVISION, **{**QUICK, **options})


def run(store: Store, engine: Engine, n: int = 6, policy: Policy = FIXED) -> Generated:
    return generate(store, problems(n), engine, sampling=SAMPLING, policy=policy)


@pytest.mark.parametrize(
    ("policy", "stream"), [(FIXED, True), (UNTIL, False)], ids=["fixed-stream", "until-whole"]
)
def test_a_server_gives_the_universe_that_the_replay_engine_gives(
    tmp_path: Path, policy: Policy, stream: bool
) -> None:
    with Server(record(12)) as server:
        store = new_store(tmp_path)
        result = run(store, engine_for(server.url, stream=stream), 12, policy)
        again = run(store, engine_for(server.url, stream=stream), 12, policy)
    calm = Store(tmp_path / "calm")
    same = generate(calm, problems(12), replay(12, 8), sampling=SAMPLING, policy=policy)
    columns = ["trace_id", "completion", "prefill", "n_completion_tokens", "finish_reason"]
    frames = [s.table("traces").read(columns).sort("trace_id") for s in (store, calm)]
    assert frames[0].equals(frames[1])
    assert result.universe.equals(same.universe)
    assert again.progress.n_new == 0
    assert len(server.asked) == len(set(server.asked)) == result.progress.n_new


def every(n: int) -> range:
    """Each n-th of the first requests: at most seven faults, so that eight tries outlast them.

    Requests are numbered as they arrive. A fault at each n-th for ever could meet one prompt at
    each of its tries.
    """
    return range(0, 7 * n, n)


BEFORE: list[tuple[str, Behave]] = [  # before any answer: streamed or not is not yet seen
    ("500 three times, then well", lambda i, b: "500" if i < 3 else "answer"),
    ("429 with seconds", lambda i, b: "429 0.2" if i in (1, 4) else "answer"),
    ("429 with a date", lambda i, b: "429 date" if i == 2 else "answer"),
    ("429 without a word", lambda i, b: "429" if i in every(5) else "answer"),
]
FAULTS: list[tuple[str, Behave]] = [
    ("half bodies", lambda i, b: "half" if i in every(3) else "answer"),
    ("a proxy's page", lambda i, b: "garbage" if i in every(3) else "answer"),
    ("empty choices", lambda i, b: "empty" if i in every(3) else "answer"),
    ("an empty answer", lambda i, b: "blank" if i in every(3) else "answer"),
    ("an error with status 200", lambda i, b: "error" if i in every(3) else "answer"),
    ("two choices", lambda i, b: "two" if i in every(3) else "answer"),
    ("resets", lambda i, b: "reset" if i in every(3) else "answer"),
    ("never answered", lambda i, b: "hang" if i in every(6) else "answer"),
]


@pytest.mark.parametrize(
    ("behave", "stream"),
    [pytest.param(f, s, id=f"{n}-{'stream' if s else 'whole'}") for n, f in FAULTS
     for s in (True, False)] + [pytest.param(f, True, id=n) for n, f in BEFORE],
)  # fmt: skip
def test_passing_faults_cost_tries_and_nothing_else(
    tmp_path: Path, behave: Behave, stream: bool
) -> None:
    with Server(record(6), behave=behave) as server:
        engine = engine_for(
            server.url, stream=stream, stall_s=0.5, deadline_s=1.0, tries=8, max_concurrency=4
        )
        result = run(new_store(tmp_path), engine)
    assert result.missing == 0
    assert result.progress.n_new == 24
    assert result.progress.n_failed == 0


@pytest.mark.parametrize(
    ("what", "kind", "n_tries"),
    [
        ("500", "http_500", 3), ("half", "half_answer", 3),
        ("empty", "empty_choices", 3), ("two", "wrong_n", 3), ("hang", "stalled", 3),
        ("loris", "stalled", 3), ("blank", "empty_answer", 3), ("400", "http_400", 1),
        ("400 maximum context length is 9", "too_long", 1), ("reset", "broken_off", 3),
    ],
)  # fmt: skip
def test_a_fault_that_stays_ends_as_a_failure_with_its_reason(
    tmp_path: Path, what: str, kind: str, n_tries: int
) -> None:
    """One prompt meets the fault for ever; the others are made and kept."""
    victim = problems(5)[2][0].text

    def behave(number: int, body: dict[str, Any]) -> str:
        return what if body["messages"][0]["content"] == victim else "answer"

    with Server(record(5), behave=behave) as server:
        engine = engine_for(server.url, tries=3, stall_s=0.4, deadline_s=5.0)
        store = new_store(tmp_path)
        result = run(store, engine, 5, Policy(n=2))
        n_asked = sum(b["messages"][0]["content"] == victim for b in server.bodies)
    assert (result.progress.n_new, result.progress.n_failed, result.missing) == (8, 2, 2)
    failures = store.table("failures").read()
    accepted = {kind, "broken_off"} if what == "half" else {kind}
    assert set(failures["kind"]) <= accepted
    assert n_asked == 2 * n_tries
    assert store.table("traces").n_rows() == 8, "a failure is no fact"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_comes_up_late_is_waited_for(tmp_path: Path) -> None:
    """Refused for a while: no try is used up, and no storm follows."""
    port = free_port()
    servers: list[Server] = []

    def later() -> None:
        time.sleep(1.0)
        servers.append(Server(record(6), port=port, seconds_per_token=0.002).__enter__())

    thread = threading.Thread(target=later)
    thread.start()
    engine = engine_for(f"http://127.0.0.1:{port}/v1", tries=1, wait_s=30, max_concurrency=64)
    result = run(new_store(tmp_path), engine)
    thread.join()
    servers[0].__exit__()
    assert result.missing == 0
    assert servers[0].n_most <= 24


@pytest.mark.slow
@pytest.mark.parametrize("n_before", [0, 20], ids=["from the start", "on the way"])
def test_thirty_seconds_of_refusal_lose_nothing_and_are_over_soon_after(
    tmp_path: Path, n_before: int
) -> None:
    """With the engine's own waits. What is under way when a server goes costs a try, no more."""
    port = free_port()
    gone, servers, up_at = threading.Event(), [], []

    def start(**options: Any) -> None:
        servers.append(Server(record(12), port=port, seconds_per_token=0.002, **options))
        servers[-1].__enter__()

    def behave(number: int, body: dict[str, Any]) -> str:
        if number < n_before:
            return "answer"
        gone.set()
        return "reset"

    def outage() -> None:
        if servers:
            gone.wait()
            servers[0].__exit__()
        time.sleep(30.0)
        start()
        up_at.append(time.monotonic())

    if n_before:
        start(behave=behave)
    thread = threading.Thread(target=outage)
    thread.start()
    begun = time.monotonic()
    engine = Engine(MODEL, base_url=f"http://127.0.0.1:{port}/v1", revision=REVISION, tries=3)
    store = new_store(tmp_path)
    result = run(store, engine, 12)
    ended = time.monotonic()
    thread.join()
    servers[-1].__exit__()
    assert up_at[0] - begun >= 30.0
    assert ended - up_at[0] < 20.0, "the longest wait for a server that is down is 10 s"
    assert (result.missing, result.progress.n_new, result.progress.n_failed) == (0, 48, 0)
    assert store.table("traces").n_rows() == 48
    assert len(servers[-1].asked) == 48 - n_before, "what was answered before is not asked again"
    assert servers[-1].n_most <= 24, "no storm when it is back"


def test_a_server_that_never_comes_ends_the_run_with_one_line(tmp_path: Path) -> None:
    engine = engine_for(f"http://127.0.0.1:{free_port()}/v1", wait_s=0.5)
    with pytest.raises(EngineError, match="nobody has answered"):
        run(new_store(tmp_path), engine)


def test_a_server_that_fails_everything_ends_the_run_and_keeps_what_was_made(
    tmp_path: Path,
) -> None:
    store = new_store(tmp_path)
    with Server(record(30), behave=lambda i, b: "answer" if i < 20 else "500") as server:
        engine = engine_for(server.url, tries=2, give_up_after=10, max_concurrency=4)
        with pytest.raises(EngineError, match="in a row failed"):
            run(store, engine, 30)
    assert store.table("traces").n_rows() == 20
    with Server(record(30)) as server:
        healed = run(store, engine_for(server.url), 30)
    assert healed.progress.n_new == 100
    assert healed.missing == 0


def test_a_dead_server_is_left_and_the_other_one_does_its_work(tmp_path: Path) -> None:
    with Server(record(10)) as server:
        engine = engine_for([f"http://127.0.0.1:{free_port()}/v1", server.url], tries=1)
        result = run(new_store(tmp_path), engine, 10)
    assert result.missing == 0


def test_several_servers_are_balanced(tmp_path: Path) -> None:
    with (
        Server(record(20), seconds_per_token=0.0005) as a,
        Server(record(20), seconds_per_token=0.0005) as b,
    ):
        result = run(new_store(tmp_path), engine_for([a.url, b.url]), 20)
    assert result.missing == 0
    assert min(len(a.asked), len(b.asked)) > 10


def test_concurrency_grows_while_it_goes_well_and_falls_when_it_is_too_much(
    tmp_path: Path,
) -> None:
    def crowd(number: int, body: dict[str, Any]) -> str:
        return "429 0.01" if server.n_now > 8 else "answer"

    with Server(record(40), behave=crowd, seconds_per_token=0.0003) as server:
        result = run(new_store(tmp_path), engine_for(server.url, tries=50), 40)
        n_refused = len(server.bodies) - 160
    assert result.missing == 0
    assert n_refused < 80
    with Server(record(60), seconds_per_token=0.002) as server:
        run(new_store(tmp_path / "b"), engine_for(server.url), 60)
        assert server.n_most > 20


def test_the_key_is_sent_and_never_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    caplog.set_level(logging.DEBUG)
    with (
        Server(record(2), behave=lambda i, b: "401 wrong sk-very-secret") as server,
        pytest.raises(EngineError, match="refuses every request") as caught,
    ):
        run(new_store(tmp_path), engine_for(server.url, key_env="SOME_KEY"), 2)
    assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
    told = str(caught.value) + caplog.text
    told += "".join(p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file())
    assert "very-secret" not in told
    with pytest.raises(UsageError, match="NO_SUCH_KEY"):
        engine_for(server.url, key_env="NO_SUCH_KEY")


def test_every_sampling_field_is_sent() -> None:
    from factory.engines.base import Request

    sampling = Sampling(
        temperature=0.6, max_tokens=99, top_p=0.95, top_k=20, min_p=0.1, min_tokens=2,
        repetition_penalty=1.1, presence_penalty=0.2, frequency_penalty=0.3, seed=5,
        prefill="<think>\n", stop=("END",),
    )  # fmt: skip
    prompt = problems(1)[0][0]
    request = Request(
        trace_id="ab", prompt_id=prompt.prompt_id, messages=prompt.messages, model=MODEL,
        revision=REVISION, sampling=sampling, sampling_id=sampling.sampling_id, sample_index=0,
    )  # fmt: skip
    body = engine_for("http://h/v1", served_as="served", fields="all").body(request)
    expected = {
        "model": "served", "temperature": 0.6, "max_tokens": 99, "top_p": 0.95, "top_k": 20,
        "min_p": 0.1, "min_tokens": 2, "repetition_penalty": 1.1, "presence_penalty": 0.2,
        "frequency_penalty": 0.3, "stop": ["END"], "seed": request.seed, "n": 1,
        "continue_final_message": True, "add_generation_prompt": False,
    }  # fmt: skip
    assert {k: body[k] for k in expected} == expected
    assert body["messages"][-1] == {"role": "assistant", "content": "<think>\n"}
    usual = Request(**{f: getattr(request, f) for f in request.__slots__} | {"sampling": SAMPLING})
    plain = engine_for("http://h/v1", prefill="native").body(usual)
    assert set(plain) == {
        "model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens",
        "seed",
    }  # fmt: skip
    changed = engine_for(
        "http://h/v1", prefill="native", drop=["temperature", "stream_options"],
        rename={"max_tokens": "max_completion_tokens"}, extra_body={"reasoning_effort": "high"},
        logprobs=2,
    ).body(usual)  # fmt: skip
    assert set(changed) == {
        "model", "messages", "stream", "top_p", "max_completion_tokens", "seed",
        "reasoning_effort", "logprobs", "top_logprobs",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize(
    ("reasoning", "content", "finish", "prefill", "expected"),
    [
        ("I add.", "4", "stop", "", "<think>\nI add.\n</think>\n\n4"),
        ("\nI add.\n", "\n\n4", "stop", "", "<think>\nI add.\n</think>\n\n4"),
        ("I add.", "4", "stop", "<think>\n", "I add.\n</think>\n\n4"),
        ("I ad", "", "length", "", "<think>\nI ad"),
        ("", "4", "stop", "", "4"),
    ],
)
def test_reasoning_that_a_server_split_off_is_joined_by_one_rule(
    name: str, reasoning: str, content: str, finish: str, prefill: str, expected: str
) -> None:
    answer = Answer()
    answer.feed({"choices": [{"index": 0, "delta": {name: reasoning}}]})
    answer.feed({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]})
    assert answer.text(prefill) == expected


def test_an_answer_without_an_end_is_half_an_answer() -> None:
    answer = Answer()
    answer.feed({"choices": [{"index": 0, "delta": {"content": "4"}}]})
    with pytest.raises(Fault, match="half_answer"):
        answer.check()


def test_loops_are_ended_on_the_way(tmp_path: Path) -> None:
    from dataclasses import replace

    sampling = replace(SAMPLING, abort="loops@1")
    rows = record(1, 1, sampling)
    for row in rows.values():
        row["completion"] = "Wait, let me check this again. " * 400
    with Server(rows) as server:
        store = new_store(tmp_path)
        result = generate(
            store, problems(1), engine_for(server.url), sampling=sampling, policy=Policy(n=1)
        )
    assert result.progress.n_aborted == 1
    trace = store.table("traces").read().row(0, named=True)
    assert trace["finish_reason"] == "abort"
    assert len(trace["completion"]) < 10_000
    assert trace["n_completion_tokens"] > 0


def test_a_stop_request_lets_the_answers_under_way_come_in(tmp_path: Path) -> None:
    stop = threading.Event()
    on_progress: Callable[[Any], None] = lambda p: stop.set()  # noqa: E731
    with Server(record(100), seconds_per_token=0.001) as server:
        store = new_store(tmp_path)
        result = generate(
            store, problems(100), engine_for(server.url, max_concurrency=8), sampling=SAMPLING,
            policy=FIXED, stop=stop, on_progress=on_progress,
        )  # fmt: skip
    assert result.stopped == "interrupted"
    kept = set(store.table("traces").read(["trace_id"])["trace_id"])
    assert kept == set(server.asked)
    assert isinstance(result.universe, pl.DataFrame)
