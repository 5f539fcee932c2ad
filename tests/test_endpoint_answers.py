"""What is read in an answer, what is sent, and which secrets are kept: servers, piece by piece."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from factory.engines.openai import Engine
from factory.engines.openai.addresses import Address
from factory.engines.openai.answers import Answer, count_of
from factory.engines.openai.faults import Fault, fault_of_error, fault_of_status
from factory.engines.openai.stream import Events
from factory.errors import EngineError, UsageError
from factory.records import Prompt
from tests.helpers_faults import (
    MODEL,
    REVISION,
    SAMPLING,
    FaultServer,
    Row,
    engine_for,
    record,
    run,
    whole,
)
from tests.helpers_run import new_store, problems

# ---- counts, models, log probabilities


UNCOUNTED: list[Any] = [
    {}, {"completion_tokens": 0}, {"completion_tokens": 2**63}, {"completion_tokens": True},
    {"completion_tokens": -3}, 7, {"completion_tokens": "many"},
]  # fmt: skip


def test_tokens_that_nobody_counted_are_estimated_and_the_budget_holds(tmp_path: Path) -> None:
    turns = itertools.cycle(UNCOUNTED)
    make = {"form": lambda r: whole(r, usage=next(turns))}
    with FaultServer(record(20), make=make, behave=lambda i, b: "value form") as server:
        store = new_store(tmp_path)
        result = run(store, engine_for(server.url, max_concurrency=2), 20, max_tokens=200)
    assert result.stopped == "max_tokens"
    assert len(UNCOUNTED) < result.progress.n_new < 20
    for trace in store.table("traces").read().rows(named=True):
        assert trace["n_completion_tokens"] == -(-len(trace["completion"]) // 4)
        assert json.loads(trace["meta"])["tokens_estimated"] is True


def test_counts_in_odd_forms_are_counts(tmp_path: Path) -> None:
    turns = itertools.cycle([12, 12.0, "12"])
    make = {
        "form": lambda r: whole(r, usage=dict.fromkeys(("completion_tokens", "prompt_tokens"),
                                                       next(turns)))
    }  # fmt: skip
    with FaultServer(record(1), make=make, behave=lambda i, b: "value form") as server:
        store = new_store(tmp_path)
        run(store, engine_for(server.url), 1)
    traces = store.table("traces").read()
    assert set(traces["n_completion_tokens"]) == set(traces["n_prompt_tokens"]) == {12}
    assert set(traces["meta"]) == {None}


def test_no_count_is_made_of_what_is_none() -> None:
    odd_ones = [
        None,
        True,
        -1,
        2**63,
        1.5,
        float("nan"),
        float("inf"),
        "1e3",
        "",
        [],
        {},
        "9" * 400,
    ]
    assert [count_of(v) for v in odd_ones] == [None] * len(odd_ones)


def test_another_model_is_said_once_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make = {"form": lambda r: whole(r, model="cheap-model")}
    with FaultServer(record(3), make=make, behave=lambda i, b: "value form") as server:
        store = new_store(tmp_path)
        result = run(store, engine_for(server.url), 3)
        with pytest.raises(EngineError, match="'cheap-model' answered where 'm' was asked"):
            run(new_store(tmp_path / "b"), engine_for(server.url, strict_model=True), 3)
        fine = engine_for(server.url, served_as="cheap-model", strict_model=True)
        assert run(new_store(tmp_path / "c"), fine, 3).missing == 0
    assert result.progress.n_new == 12
    metas = set(store.table("traces").read()["meta"])
    assert metas == {'{"answered_by":"cheap-model"}'}
    assert caplog.text.count("answers as 'cheap-model' where 'm' was asked") == 1


@pytest.mark.parametrize(
    ("api", "sent", "expected"),
    [
        ("chat", {"content": [
            {"token": "4", "logprob": -0.5, "top_logprobs": [{"token": "5", "logprob": -1}]},
            {"token": "!", "logprob": -0.25}]}, [["4", -0.5, {"5": -1}], ["!", -0.25]]),
        ("completions", {"tokens": ["4", "!"], "token_logprobs": [-0.5, -0.25],
                         "top_logprobs": [{"5": -1}, None]},
         [["4", -0.5, {"5": -1}], ["!", -0.25]]),
        ("chat", {"content": [None, {"token": "4", "logprob": "x"}]}, None),
        ("chat", "none", None),
    ],
)  # fmt: skip
def test_log_probabilities_are_kept_where_asked_for(
    tmp_path: Path, api: str, sent: Any, expected: Any
) -> None:
    make = {"form": lambda r: whole(r, logprobs=sent)}
    with FaultServer(record(1), make=make, behave=lambda i, b: "value form") as server:
        store = new_store(tmp_path)
        run(store, engine_for(server.url, api=api, logprobs=1), 1)
        plain = new_store(tmp_path / "b")
        run(plain, engine_for(server.url, api=api), 1)
        body = server.bodies[0]
    assert (body["logprobs"], body.get("top_logprobs")) == (
        (True, 1) if api == "chat" else (1, None)
    )
    trace = store.table("traces").read().row(0, named=True)
    assert trace["cumulative_logprob"] == (None if expected is None else -0.75)
    assert (json.loads(trace["meta"])["logprobs"] if trace["meta"] else None) == expected
    assert set(plain.table("traces").read()["meta"]) == {None}


@pytest.mark.parametrize(
    ("reason", "stored", "detail"),
    [
        ("stop", "stop", None), ("eos", "stop", "eos"), ("eos_token", "stop", "eos_token"),
        ("stop_sequence", "stop", "stop_sequence"), ("end_turn", "stop", "end_turn"),
        ("STOP", "stop", "STOP"), ("COMPLETE", "stop", "COMPLETE"), ("length", "length", None),
        ("max_tokens", "length", "max_tokens"), ("MAX_TOKENS", "length", "MAX_TOKENS"),
        ("model_length", "length", "model_length"), ("tool_calls", "tool_calls", None),
        ("Repetition", "Repetition", None), ({"type": "eos_token"}, "stop", "eos_token"),
        ("content_filter", "content_filter", ""), ("SAFETY", "content_filter", ""),
        ("refusal", "content_filter", ""), ("error", "bad_finish", ""), ("abort", "bad_finish", ""),
    ],
)  # fmt: skip
def test_finish_reasons_are_mapped_and_unknown_ones_kept(
    reason: Any, stored: str, detail: str | None
) -> None:
    answer = Answer()
    answer.feed({"choices": [{"message": {"content": "4"}, "finish_reason": reason}]})
    if detail == "":
        with pytest.raises(Fault, match=stored):
            answer.check()
        return
    answer.check()
    trace = answer.trace(first_request(), seconds=1.0)
    assert (trace.finish_reason, trace.stop_reason) == (stored, detail)
    with pytest.raises(Fault, match="unwanted_finish"):
        answer.check((stored,))


def first_request() -> Any:
    from factory.engines.base import Request

    prompt = problems(1)[0][0]
    return Request(
        trace_id="ab", prompt_id=prompt.prompt_id, messages=prompt.messages, model=MODEL,
        revision=REVISION, sampling=SAMPLING, sampling_id=SAMPLING.sampling_id, sample_index=0,
    )  # fmt: skip


@pytest.mark.parametrize("ignores", [True, False])
def test_a_server_that_ignores_the_seed_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ignores: bool
) -> None:
    """Equal texts are no fault of a request, and are kept; but they are said."""
    long = "<think>\nOne and one and one more.\n</think>\n\nThat is "
    rows = record(3)
    prompt_of = {row["trace_id"]: number // 4 for number, row in enumerate(rows.values())}

    def answer(row: Row) -> Row:
        of = prompt_of[row["trace_id"]] if ignores else row["trace_id"]
        return whole(row, message={"content": f"{long}{of}"})

    with FaultServer(rows, make={"form": answer}, behave=lambda i, b: "value form") as server:
        result = run(new_store(tmp_path), engine_for(server.url), 3)
    assert result.progress.n_new == 12
    assert caplog.text.count("may ignore the seed") == ignores


@pytest.mark.parametrize(
    "piece",
    [
        {"choices": [{"delta": {"content": 4}}]}, {"choices": [{"delta": {"content": True}}]},
        {"choices": [{"delta": "text"}]}, {"choices": [{"message": ["x"]}]}, {"choices": [7]},
        {"choices": {"a": 1}}, {"choices": "x"}, {"choices": [{"index": 1}]},
        {"choices": [{"index": "x"}]}, {"choices": [{}, {}]}, {"error": ["x"]}, {"error": 7},
        {"detail": {"a": [1]}}, {"error": {"code": "x" * 99, "status": [1]}},
    ],
    ids=str,
)  # fmt: skip
def test_nothing_that_a_server_says_is_more_than_a_fault(piece: dict[str, Any]) -> None:
    with pytest.raises(Fault):
        Answer().feed(piece)


def test_an_answer_of_another_type_than_expected_holds_no_text() -> None:
    answer = Answer()
    for piece in ({"usage": 7}, {"usage": {"completion_tokens": [1]}, "choices": []},
                  {"model": 7, "choices": [{"delta": {"reasoning": 7}}]},
                  {"choices": [{"delta": {"reasoning_details": [7, {"type": 4}]}}]},
                  {"choices": [{"delta": None, "finish_reason": "", "stop_reason": {}}]},
                  ):  # fmt: skip
        assert not answer.feed(piece)
    with pytest.raises(Fault, match="empty_choices"):
        answer.check()


def test_half_surrogates_are_joined_or_replaced() -> None:
    events = Events()
    data = b'data: {"choices": [{"delta": {"content": "a%s"}}]}\n\n'
    answer = Answer()
    for part in (b"\\ud83d", b"\\ude00 \\ud800"):
        for event in events.feed(data % part):
            answer.feed(event)
    assert answer.text("") == "a\ud83da\ude00 \ufffd".encode("utf-16", "surrogatepass").decode(
        "utf-16", "replace"
    )


# ---- who is asked, and what may be said


@pytest.mark.parametrize(
    ("owned_by", "options", "sends_all"),
    [("vllm", {}, True), ("openai", {}, False), ("vllm", {"fields": "standard"}, False),
     ("openai", {"fields": "all"}, True)],
)  # fmt: skip
def test_the_fields_of_vllm_are_sent_to_vllm_alone(
    tmp_path: Path, owned_by: str, options: dict[str, Any], sends_all: bool
) -> None:
    server = FaultServer(record(1), make={})
    server.owned_by = owned_by
    with server:
        run(new_store(tmp_path), engine_for(server.url, **options), 1)
    assert {"skip_special_tokens" in body for body in server.bodies} == {sends_all}
    assert {"top_k" in body for body in server.bodies} == {sends_all}


@pytest.mark.parametrize("status", [401, 500])
def test_secrets_of_a_url_are_sent_and_never_said_or_stored(
    tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"message": "no: pass-word-1 at http://me:pass-word-1@h/v1?key=query-secret"}}
    with FaultServer(
        record(2), make={"no": lambda r: (status, echo, {})}, behave=lambda i, b: "refuse no"
    ) as server:
        url = server.url.replace("//", "//me:pass-word-1@") + "?key=query-secret"
        engine = engine_for(url, tries=3, give_up_after=4)
        with pytest.raises(EngineError) as caught:
            run(new_store(tmp_path), engine, 2)
        assert server.headers[0]["authorization"].startswith("Basic ")
    told = str(caught.value) + caplog.text + repr(engine._settings)
    told += "".join(p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file())
    assert "http" in told
    assert "pass-word-1" not in told
    assert "query-secret" not in told


@pytest.mark.parametrize(
    ("url", "env", "options", "sent"),
    [
        ("https://h/v1", "sk-default", {}, "sk-default"), ("http://h/v1", "sk-default", {}, None),
        ("https://h/v1", "sk-default", {"key_env": ""}, None), ("https://h/v1", None, {}, None),
        ("https://me:pw@h/v1", "sk-default", {}, None),
        ("https://h/v1", "sk-default\n", {}, "sk-default"),
        ("https://h/v1", "sk-default", {"key_env": "OWN_KEY"}, "own"),
    ],
)  # fmt: skip
def test_the_usual_key_goes_to_https_alone(
    monkeypatch: pytest.MonkeyPatch, url: str, env: str | None, options: Any, sent: str | None
) -> None:
    monkeypatch.setenv("OWN_KEY", "own")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if env:
        monkeypatch.setenv("OPENAI_API_KEY", env)
    assert engine_for(url, **options)._settings.key == sent


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"base_url": "ftp://me:hidden@h/v1"}, "base_url 'ftp://h/v1'"),
        ({"base_url": "http://me:hidden@h:port/v1"}, "base_url 'http://h:port/v1'"),
        ({"base_url": []}, "no base_url"), ({"base_url": "https:///v1"}, "base_url"),
        ({"base_url": "https://me:hidden@h/v1", "key_env": "PATH"}, "both base_url and key_env"),
        ({"fields": "some"}, "engine.fields is 'some': it must be auto or all or standard"),
        ({"tries": 0}, "engine.tries"), ({"backoff_s": -1}, "engine.backoff_s"),
        ({"requests_per_minute": 0}, "requests_per_minute"), ({"drop": ["messages"]}, "drop names"),
        ({"rename": {"a": None}}, "engine.rename"), ({"rename": ["a"]}, "engine.rename"),
        ({"stream": "yes"}, "engine.stream"), ({"logprobs": -1}, "engine.logprobs"),
        ({"max_concurrency": 2.5}, "engine.max_concurrency"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Engine(MODEL, **{"base_url": "http://h/v1", "revision": "r", **options})
    assert "hidden" not in str(caught.value)


def test_an_address_is_joined_before_its_query() -> None:
    address = Address.of("https://h:8443/openai/v1/?api-version=2026-01-01")
    assert address.at("/chat/completions") == (
        "https://h:8443/openai/v1/chat/completions?api-version=2026-01-01"
    )
    assert address.root("/version") == "https://h:8443/openai/version?api-version=2026-01-01"
    assert address.name == "https://h:8443/openai/v1"


def test_a_prompt_that_is_no_text_is_a_failure_of_its_own() -> None:
    """A lone surrogate cannot be sent; the other requests are."""
    request = first_request()
    bad = dataclasses.replace(request, trace_id="cd", messages=Prompt.of("\ud800?").messages)
    rows = {request.seed: {**next(iter(record(1).values())), "trace_id": request.trace_id}}
    with FaultServer(rows, make={}) as server:
        found = [a for a in engine_for(server.url).run(iter([bad, request])) if a is not None]
    assert {a.trace_id: getattr(a, "kind", "answered") for a in found} == {
        "cd": "bad_request", "ab": "answered"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, "The input (6301 tokens) is longer than the model's context length (512 tokens).",
         "too_long"),
        (400, "the request exceeds the available context size. try increasing it", "too_long"),
        (422, "Error: `inputs` tokens + `max_new_tokens` must be <= 4096", "too_long"),
        (400, "The response was filtered: content management policy", "content_filter"),
        (400, "unknown field", "http_400"), (503, "Loading model", "http_503"),
        (500, "<html><style>x{}</style><b>oh no</b></html>", "http_500"),
    ],
)  # fmt: skip
def test_refusals_have_their_kind(status: int, body: str, kind: str) -> None:
    fault = fault_of_status(status, {}, body.encode())
    assert fault.kind == kind
    assert "<" not in fault.message.replace("<=", "")
    assert fault_of_status(503, {}, b"Loading", has_answered=False).is_down
    assert fault_of_error({"code": "429", "message": "slow down"}).is_limit
