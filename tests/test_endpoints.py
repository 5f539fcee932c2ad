"""Servers as they are: forty behaviours, what a run makes of each, and what it says."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from factory.engines.openai import Engine
from factory.engines.openai.faults import wait_of
from factory.errors import EngineError
from tests.helpers_faults import (
    LS,
    MODEL,
    NEL,
    REVISION,
    FaultServer,
    Row,
    engine_for,
    halves,
    pieces,
    record,
    run,
    sse,
    whole,
)
from tests.helpers_run import new_store, problems


def odd(text: str) -> str:
    return f"{LS}first{NEL}second{LS}{text} \x0b\x0c\x1c\u2029 end"


def boxed(row: Row) -> str:
    """The completion as the one rule joins it, where a server splits the thinking off."""
    thought, answer = halves(row["completion"])
    thought = thought.strip("\n")
    answer = answer.lstrip("\n")
    return f"<think>\n{thought}\n</think>\n\n{answer}"


def split_message(row: Row, **fields: Any) -> Row:
    return whole(
        row, message={"role": "assistant", "content": halves(row["completion"])[1], **fields}
    )


def thought_of(row: Row) -> str:
    return halves(row["completion"])[0]


def mistral(row: Row) -> list[Row]:
    thought, answer = halves(row["completion"])
    parts: list[Any] = [
        [{"type": "thinking", "thinking": [{"type": "text", "text": thought[:9]}]}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": thought[9:]}]}],
        answer[:5], [{"type": "text", "text": answer[5:]}],
    ]  # fmt: skip
    return [{"choices": [{"index": 0, "delta": {"content": p}}]} for p in parts] + pieces(row)[-2:]


def same(row: Row) -> str:
    return str(row["completion"])


ASKED: set[str] = set()


def once(row: Row, made: Any) -> Any:
    """The made answer at the first try of a request, a good one after that."""
    first = row["trace_id"] not in ASKED
    ASKED.add(row["trace_id"])
    return made if first else whole(row)


FORMS: dict[str, tuple[str, Callable[[Row], Any], Callable[[Row], str]]] = {
    # name: (value or stream, what the server sends, the completion that is kept)
    "U+2028 and U+0085 raw in a stream": ("stream", lambda r: sse(pieces(r, 5)), same),
    "the same, CR alone": ("stream", lambda r: sse(pieces(r), b"\r", space=b""), same),
    "the same, CRLF, cut in pieces of 3": ("stream 3", lambda r: sse(pieces(r, 40), b"\r\n"), same),
    "no empty line between events": (
        "stream", lambda r: sse(pieces(r)).replace(b"\n\n", b"\n"), same),
    "a JSON over several data lines": (
        "stream", lambda r: sse(pieces(r)).replace(b', "delta"', b'\r\ndata: , "delta"'), same),
    "comments, names, a BOM": (
        "stream", lambda r: b"\xef\xbb\xbf: hello\nevent: x\nid: 1\n" + sse(pieces(r)), same),
    "a stream without its content type": ("untyped", lambda r: sse(pieces(r)), same),
    "a whole body where a stream was asked": ("value", whole, same),
    "[DONE] without a finish reason": ("stream", lambda r: sse(pieces(r)[:-2]), same),
    "the whole once more at the end": (
        "stream", lambda r: sse([*pieces(r)[:-2], whole(r)]), same),
    "reasoning_content": ("value", lambda r: split_message(
        r, reasoning_content=thought_of(r)), boxed),
    "reasoning and reasoning_details": ("value", lambda r: split_message(
        r, reasoning=thought_of(r),
        reasoning_details=[{"type": "reasoning.text", "text": thought_of(r)}]), boxed),
    "reasoning_details alone": ("value", lambda r: split_message(
        r, reasoning_details=[{"type": "reasoning.text", "text": thought_of(r)},
                              {"type": "reasoning.encrypted", "data": "xyz"}]), boxed),
    "thinking": ("value", lambda r: split_message(r, thinking=thought_of(r)), boxed),
    "reasoning as an object": (
        "value", lambda r: split_message(r, reasoning={"content": thought_of(r)}), boxed),
    "content as thinking and text parts": ("stream", lambda r: sse(mistral(r)), boxed),
    "content as one object": ("value", lambda r: whole(
        r, message={"content": {"type": "text", "text": r["completion"]}}), same),
    "content as a list of texts": ("value", lambda r: whole(
        r, message={"content": [r["completion"][:4], r["completion"][4:]]}), same),
    "finish reason end_turn": ("value", lambda r: whole(r, finish_reason="end_turn"), same),
    "finish reason STOP": ("value", lambda r: whole(r, finish_reason="STOP"), same),
    "finish reason eos_token": ("value", lambda r: whole(r, finish_reason="eos_token"), same),
    "finish reason null in a whole body": ("value", lambda r: whole(r, finish_reason=None), same),
    "content as a number, once": ("value", lambda r: once(
        r, whole(r, message={"content": 4})), same),
    "a message that is text, once": ("value", lambda r: once(r, whole(r, message="hi")), same),
    "choices of null, once": ("value", lambda r: once(r, {"choices": [None]}), same),
    "choices as text, once": ("value", lambda r: once(r, {"choices": "x"}), same),
    "an error in the middle, once": ("value", lambda r: once(
        r, {"object": "error", "message": "CUDA out of memory", "code": 500}), same),
    "a finish reason that says it broke, once": (
        "value", lambda r: once(r, whole(r, finish_reason="insufficient_system_resource")), same),
}  # fmt: skip


WITHOUT_A_REASON = ("[DONE] without a finish reason", "finish reason null in a whole body")


def test_every_form_of_an_answer_is_read(tmp_path: Path) -> None:
    """One prompt for each form, four samples of each."""
    ASKED.clear()
    names = dict(zip((p.text for p, _ in problems(len(FORMS))), FORMS, strict=True))
    rows = record(len(FORMS), text=odd)

    def behave(number: int, body: dict[str, Any]) -> str:
        name = names[body["messages"][0]["content"]]
        kind, _, cut = FORMS[name][0].partition(" ")
        return f"{kind} {name}|{cut}"

    made = {name: make for name, (_, make, _) in FORMS.items()}
    with FaultServer(rows, make=made, behave=behave) as server:
        store = new_store(tmp_path)
        result = run(store, engine_for(server.url), len(FORMS))
    failures = store.table("failures").read()
    assert failures.height == 0, failures.rows(named=True)
    assert (result.progress.n_new, result.missing) == (4 * len(FORMS), 0)
    found = store.table("traces").read().rows(named=True)
    assert len({t["trace_id"] for t in found}) == len(found) == 4 * len(FORMS)
    by_key = {row["trace_id"]: row for row in rows.values()}
    by_prompt = {p.prompt_id: names[p.text] for p, _ in problems(len(FORMS))}
    for trace in found:
        name = by_prompt[trace["prompt_id"]]
        assert trace["completion"] == FORMS[name][2](by_key[trace["trace_id"]]), name
        assert trace["finish_reason"] == (None if name in WITHOUT_A_REASON else "stop"), name


LIMITED = {"error": {"message": "Rate limit reached. Please try again in 0.05s."}}
REFUSALS: dict[str, Callable[[Row], tuple[int, Any, dict[str, str]]]] = {
    "words": lambda r: (429, LIMITED, {}),
    "milliseconds": lambda r: (429, {}, {"retry_after_ms": "40"}),
    "resets": lambda r: (429, {}, {"x_ratelimit_reset_requests": "50ms",
                                   "x_ratelimit_remaining_requests": "0",
                                   "x_ratelimit_reset_tokens": "6m0s",
                                   "x_ratelimit_remaining_tokens": "9999"}),
    "no_header": lambda r: (429, {}, {}),
    "nonsense": lambda r: (429, {}, {"retry_after": "soon", "x_ratelimit_reset": "nan"}),
    "overloaded": lambda r: (529, {"error": {"type": "overloaded_error"}}, {"retry_after": "0.05"}),
    "key": lambda r: (401, {"error": {"message": "invalid key"}}, {}),
    "gone": lambda r: (404, {"detail": "Not Found"}, {}),
    "gateway": lambda r: (502, "bad gateway", {}),
    "cloudflare": lambda r: (524, "timeout", {}),
}  # fmt: skip
BROKEN: dict[str, Callable[[Row], Any]] = {
    "number": lambda r: whole(r, message={"content": 4}),
    "text": lambda r: whole(r, message="hi"),
    "null": lambda r: {"choices": [None]},
    "limited": lambda r: {"error": {"type": "rate_limit_exceeded", "message": "slow down"}},
    "detail": lambda r: {"detail": "worker died"},
    "aborted": lambda r: whole(r, finish_reason="abort"),
    "odd_usage": lambda r: whole(r, usage={"completion_tokens": 2**63, "prompt_tokens": -1}),
}
CUT: dict[str, Callable[[Row], bytes]] = {
    "cut": lambda r: sse(pieces(r))[: len(sse(pieces(r))) // 2],
    "words_inside": lambda r: b"data: out of memory\n\n",
    "event_error": lambda r: b'event: error\ndata: {"message": "engine died"}\n\n',
    "raw_error": lambda r: b'{"error": {"message": "engine died"}}\n',
}
MIXED = [
    *(f"refuse {name}" for name in REFUSALS), *(f"value {name}" for name in BROKEN),
    *(f"stream {name}" for name in CUT), "500", "503 0.05", "429 0.05", "half", "garbage", "empty",
    "error", "two", "blank", "reset", "hang",
]  # fmt: skip


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_all_kinds_of_faults_mixed_lose_nothing_and_double_nothing(
    tmp_path: Path, stream: bool
) -> None:
    """Every second answer is a fault, each kind in its turn."""
    turns = itertools.cycle(MIXED)
    with FaultServer(
        record(20), make=REFUSALS | BROKEN | CUT,
        behave=lambda i, b: next(turns) if i % 2 else "answer",
    ) as server:  # fmt: skip
        store = new_store(tmp_path)
        engine = engine_for(server.url, stream=stream, tries=30, deadline_s=1.0, stall_s=0.5)
        result = run(store, engine, 20)
    assert (result.progress.n_new, result.missing, result.progress.n_failed) == (80, 0, 0)
    traces = store.table("traces").read()
    assert traces["trace_id"].n_unique() == traces.height == 80
    assert traces["n_completion_tokens"].null_count() == 0
    assert len(server.bodies) > 80 + len(MIXED)


# ---- rate limits


def _headers(**names: str) -> dict[str, str]:
    return {k.replace("_", "-"): v for k, v in names.items()}


NOW = 1_800_000_000.0
DATE = (datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("headers", "words", "expected"),
    [
        ({}, "", None),
        (_headers(retry_after="7"), "", 7.0),
        (_headers(retry_after="Fri, 15 Jan 2027 08:00:30 GMT"), "", 30.0),
        (_headers(retry_after=DATE), "", 30.0),
        (_headers(retry_after="-5"), "", 0.0),
        (_headers(retry_after="inf"), "try again in 2s", 2.0),
        (_headers(retry_after="1000000000"), "", 1e9),
        (_headers(retry_after_ms="1500", retry_after="9"), "", 1.5),
        (_headers(x_ratelimit_reset_requests="1m2.5s"), "", 62.5),
        (_headers(x_ratelimit_reset_tokens="120ms"), "", 0.12),
        (_headers(x_ratelimit_reset=str(int(NOW) + 12)), "", 12.0),
        (_headers(x_ratelimit_reset=str(int(NOW + 12) * 1000)), "", 12.0),
        (_headers(ratelimit_reset="40"), "", 40.0),
        (_headers(anthropic_ratelimit_tokens_reset=DATE), "", 30.0),
        (_headers(x_ratelimit_reset_requests="1h", x_ratelimit_remaining_requests="5",
                  x_ratelimit_reset_tokens="3s", x_ratelimit_remaining_tokens="0"), "", 3.0),
        ({}, "Rate limit reached ... Please try again in 1.5s. Visit", 1.5),
        ({}, "Please try again in 6m0s.", 360.0),
        ({}, "Please retry after 20 seconds", 20.0),
        ({}, "Please wait 2 minutes and try", 120.0),
        ({}, '"retryDelay": "36s"', 36.0),
        ({}, "Please retry in 250ms", 0.25),
        ({}, "try again in a while", None),
    ],
)  # fmt: skip
def test_what_a_server_asks_to_wait(
    headers: dict[str, str], words: str, expected: float | None
) -> None:
    assert wait_of(headers, words, now=NOW) == (
        pytest.approx(expected) if expected is not None else None
    )


def window(n: int, seconds: float) -> Callable[[int, Row], str]:
    """So many requests in a window, 429 without a word for the others."""
    begun: list[float] = []
    lock = threading.Lock()

    def behave(number: int, body: Row) -> str:
        now = time.monotonic()
        with lock:
            begun[:] = [t for t in begun if now - t < seconds]
            if len(begun) >= n:
                return "429"
            begun.append(now)
        return "answer"

    return behave


def test_a_rate_limit_without_a_word_gives_nothing_up(tmp_path: Path) -> None:
    with FaultServer(record(12), make={}, behave=window(12, 1.2)) as server:
        result = run(
            new_store(tmp_path), engine_for(server.url, tries=1, backoff_s=0.1, max_backoff_s=6), 12
        )
    assert (result.progress.n_new, result.progress.n_failed) == (48, 0)


@pytest.mark.slow
def test_twelve_requests_in_twelve_seconds_with_the_engines_own_settings(tmp_path: Path) -> None:
    with FaultServer(record(15), make={}, behave=window(12, 12.0)) as server:
        engine = Engine(MODEL, base_url=server.url, revision=REVISION)
        result = run(new_store(tmp_path), engine, 15)
    assert (result.progress.n_new, result.progress.n_failed) == (60, 0)
    assert len(server.bodies) < 240, "refused now and then, not hammered"


@pytest.mark.parametrize(
    "options", [{"requests_per_minute": 1200}, {"tokens_per_minute": 45_000}], ids=str
)
def test_a_pace_is_kept(tmp_path: Path, options: dict[str, float]) -> None:
    """24 requests at 20 a second; or of about 40 tokens at 750 a second."""
    with FaultServer(record(6), make={}) as server:
        begun = time.monotonic()
        result = run(new_store(tmp_path), engine_for(server.url, **options), 6)
        seconds = time.monotonic() - begun
    assert result.progress.n_new == 24
    assert 0.9 < seconds < 6.0


def test_a_longer_wait_than_ours_is_capped_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FaultServer(
        record(2), make={}, behave=lambda i, b: "429 1000000000" if i < 3 else "answer"
    ) as server:
        result = run(new_store(tmp_path), engine_for(server.url, max_retry_after_s=0.2), 2)
    assert (result.progress.n_new, result.progress.n_failed) == (8, 0)
    assert "asks to wait for 1,000,000,000 s; asking again after 0 s" in caplog.text


def test_a_limit_that_stays_for_one_prompt_gives_up_that_one(tmp_path: Path) -> None:
    victim = problems(3)[0][0].text
    with FaultServer(
        record(3), make={},
        behave=lambda i, b: "429" if b["messages"][0]["content"] == victim else "answer",
    ) as server:  # fmt: skip
        store = new_store(tmp_path)
        result = run(store, engine_for(server.url, rate_limit_wait_s=0.5), 3)
    assert (result.progress.n_new, result.progress.failures) == (8, {"http_429": 4})


# ---- refusals of everything


@pytest.mark.parametrize(
    ("status", "body", "n_at_most", "says"),
    [
        (400, {"error": {"message": "Unsupported parameter: 'top_k'"}}, 40,
         "http_400: Unsupported parameter: 'top_k': engine.drop and engine.rename"),
        (401, {"error": {"message": "Incorrect API key provided"}}, 20,
         "http_401: Incorrect API key provided: no key was sent; name its .*key_env"),
        (402, {"error": {"message": "Insufficient Balance"}}, 20, "http_402: Insufficient Balance"),
        (403, {"message": "no access to this model"}, 20, "http_403: no access to this model"),
        (404, {"error": "model 'x' not found"}, 20, "http_404: model 'x' not found"),
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, 40,
         r"http_422: Extra inputs are not permitted \(body.seed\)"),
        (429, {"error": {"code": "insufficient_quota", "message": "You exceeded"}}, 20,
         "http_429: You exceeded"),
        (400, {"message": "This model's maximum context length is 64 tokens, not 999"}, 40,
         "too_long: This model's maximum context length"),
        (308, {}, 20, "http_308: it points to https://elsewhere/v1"),
    ],
)  # fmt: skip
def test_the_same_refusal_of_the_first_requests_ends_the_run(
    tmp_path: Path, status: int, body: Any, n_at_most: int, says: str
) -> None:
    headers = {"Location": "https://elsewhere/v1"} if status == 308 else {}
    make = {"no": lambda r: (status, body, headers)}
    with FaultServer(record(40), make=make, behave=lambda i, b: "refuse no") as server:
        with pytest.raises(EngineError, match=says):
            run(new_store(tmp_path), engine_for(server.url), 40)
        assert len(server.bodies) <= n_at_most


def test_what_is_refused_after_answers_is_the_requests_own_fault(tmp_path: Path) -> None:
    made = {"no": lambda r: (400, {"message": "too long: reduce the length"}, {})}
    with FaultServer(
        record(20), make=made, behave=lambda i, b: "answer" if i < 4 else "refuse no"
    ) as server:
        result = run(
            new_store(tmp_path), engine_for(server.url, max_concurrency=1, give_up_after=3), 20
        )
    assert (result.progress.n_new, result.progress.failures) == (4, {"too_long": 76})


def test_all_samples_of_one_prompt_are_no_reason_to_end(tmp_path: Path) -> None:
    victim = problems(3)[0][0].text
    made = {"no": lambda r: (400, {"message": "maximum context length"}, {})}
    with FaultServer(
        record(3), make=made,
        behave=lambda i, b: "refuse no" if b["messages"][0]["content"] == victim else "answer",
    ) as server:  # fmt: skip
        result = run(new_store(tmp_path), engine_for(server.url, max_concurrency=1), 3)
    assert (result.progress.n_new, result.progress.failures) == (8, {"too_long": 4})


# ---- nobody there, and Ctrl-C


DEAD = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    "what", ["nobody", "limit", "retries"], ids=["nobody answers", "Retry-After", "between tries"]
)
def test_a_wait_is_said_and_ended_by_the_first_stop(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told what is waited for within five seconds, and nothing is lost or given up."""
    behave = {"limit": "429 1000000000", "retries": "500"}.get(what, "answer")
    stop, said_at = threading.Event(), 0.0
    begun = time.monotonic()

    def watch() -> None:
        nonlocal said_at
        while time.monotonic() - begun < 8.0:
            if {
                "nobody": "nobody answers at http://127.0.0.1:9/v1 (",
                "limit": "asks to wait for 1,000,000,000 s",
            }.get(what, "") in caplog.text:
                said_at = time.monotonic()
                time.sleep(0.2)
                break
            time.sleep(0.02)
        stop.set()

    thread = threading.Thread(target=watch)
    with FaultServer(record(4), make={}, behave=lambda i, b: behave) as server:
        engine = Engine(MODEL, base_url=DEAD if what == "nobody" else server.url, revision=REVISION,
                        backoff_s=20.0 if what == "retries" else 1.0)  # fmt: skip
        store = new_store(tmp_path)
        thread.start()
        result = run(store, engine, 4, stop=stop)
    ended = time.monotonic()
    thread.join()
    assert said_at, caplog.text
    assert said_at - begun < 5.0
    assert ended - said_at < 2.0
    assert (result.stopped, result.progress.n_failed, result.missing) == ("interrupted", 0, 16)
    assert store.table("failures").n_rows() == 0


def test_a_host_that_swallows_connections_is_told_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener whose queue is full: connecting neither works nor fails."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        stop = threading.Event()
        timer = threading.Timer(5.0, stop.set)
        timer.start()
        engine = engine_for(f"http://127.0.0.1:{port}/v1", connect_s=30.0)
        begun = time.monotonic()
        result = run(new_store(tmp_path), engine, 1, stop=stop)
        assert time.monotonic() - begun < 7.0
        for filler in fillers:
            filler.close()
    assert result.stopped == "interrupted"
    assert "nobody answers" in caplog.text
