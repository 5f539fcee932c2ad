"""vLLM on CPU, in this process and as a server that we start, with a tiny random model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory.engines.opening import open_engine
from factory.records import Prompt, PromptSource, Sampling
from factory.stages.generate import Generated, generate
from factory.stages.generate.policy import Policy
from factory.store import Store
from tests.tiny_model import make_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SAMPLING = Sampling(temperature=1.0, max_tokens=40, prefill="<think>\n")
COLUMNS = ["trace_id", "completion", "finish_reason", "n_prompt_tokens", "n_completion_tokens"]


def pairs(n: int = 6) -> list[tuple[Prompt, PromptSource]]:
    prompts = [Prompt.of(f"What is {i} + {i}?") for i in range(n)]
    return [
        (p, PromptSource(prompt_id=p.prompt_id, source="s", item=str(i)))
        for i, p in enumerate(prompts)
    ]


def run(
    folder: Path, engine: Any, sampling: Sampling = SAMPLING, **options: Any
) -> tuple[Generated, pl.DataFrame]:
    store = Store(folder)
    made = generate(store, pairs(), engine, sampling=sampling, policy=Policy(n=3), **options)
    return made, store.table("traces").read().sort("trace_id")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def engine(folder: str) -> Iterator[Any]:
    engine = open_engine("vllm", folder, {"max_num_seqs": 8, "kv_cache_bytes": 64 << 20})
    yield engine
    engine.close()


def test_the_first_prompt_is_shown_as_the_model_sees_it(tmp_path: Path, engine: Any) -> None:
    shown: list[str] = []
    made, traces = run(tmp_path / "a", engine, on_prompt=shown.append)
    assert shown == ["<|user|>What is 0 + 0?<|end|><|assistant|><think>\n"]
    assert made.missing == 0
    assert traces["finish_reason"].is_in(["length", "stop"]).all()


def test_what_cannot_fit_is_refused_before_it_is_sent(tmp_path: Path, engine: Any) -> None:
    made, _ = run(tmp_path / "a", engine, replace(SAMPLING, max_tokens=500))
    assert (made.progress.n_new, made.missing) == (0, 18)
    kinds = Store(tmp_path / "a").table("failures").read()
    assert set(kinds["kind"]) == {"too_long"}
    assert kinds["attempt"].max() == 1, "it is not tried again"


def test_requests_are_taken_in_bursts_and_no_slot_waits_for_one(engine: Any) -> None:
    """8 slots and a queue of 64: refilled when half the queue is used, long before a slot is."""
    n_in_flight: list[int] = []

    def requests() -> Iterator[Any]:
        for i in range(200):
            n_in_flight.append(len(engine._flights))
            yield replace(_request(engine), trace_id=f"t{i}")

    traces = list(engine.run(requests()))
    assert {t.trace_id for t in traces} == {f"t{i}" for i in range(200)}
    assert len({t.completion for t in traces}) > 100, "each with a seed of its own"
    bursts = [n for n, before in zip(n_in_flight[1:], n_in_flight, strict=False) if n <= before]
    assert 1 <= len(bursts) <= 5
    assert all(8 + 16 <= n < 8 + 32 for n in bursts)


def test_thinking_is_closed_at_its_budget(tmp_path: Path, engine: Any) -> None:
    budgeted = replace(SAMPLING, thinking_budget=12)
    made, traces = run(tmp_path / "a", engine, budgeted)
    _, again = run(tmp_path / "b", engine, budgeted)
    assert traces.drop("run_id", "seconds").equals(again.drop("run_id", "seconds"))
    closed = traces.filter(pl.col("meta").is_not_null())
    assert made.progress.n_thinking_closed == closed.height > 0
    for row in closed.iter_rows(named=True):
        thinking, end, _ = row["completion"].partition("\n</think>\n\n")
        assert end
        # A token of this model is a byte, or a special token.
        assert 0 < len(re.sub(r"<\|?\w+\|?>", "x", thinking)) <= 12
        assert 12 < row["n_completion_tokens"] <= 40
    # What ended in time, or closed its thinking by itself, is left alone.
    for row in traces.filter(pl.col("meta").is_null()).iter_rows(named=True):
        assert row["n_completion_tokens"] <= 12 or "</think>" in row["completion"]


def test_new_weights_are_taken_without_a_restart(tmp_path: Path, engine: Any, folder: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    tokens = engine.render(_request(engine))
    other = make_tiny_model(tmp_path / "other", seed=5)
    for path in (other, folder):
        engine.reload(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        expected = [float(logits[i, t]) for i, t in enumerate(tokens[1:])]
        assert engine.logprobs(tokens) == pytest.approx(expected, abs=1e-3)


def _request(engine: Any) -> Any:
    from factory.engines.base import Request

    prompt = pairs(1)[0][0]
    return Request(
        trace_id="a", prompt_id=prompt.prompt_id, messages=prompt.messages, model=engine.model,
        revision=engine.revision, sampling=SAMPLING, sampling_id="s", sample_index=0,
    )  # fmt: skip


def test_a_server_that_we_start_gives_the_traces_of_the_engine_in_this_process(
    tmp_path: Path, engine: Any, folder: str
) -> None:
    """The same keys, so either goes on where the other stopped; and here the same texts."""
    _, here = run(tmp_path / "here", engine)
    serve = {"args": {"max_model_len": 512, "max_num_seqs": 8, "kv_cache_memory_bytes": 64 << 20},
             "log": str(tmp_path / "log")}  # fmt: skip
    server = open_engine("openai", folder, {"serve": serve})
    try:
        made, there = run(tmp_path / "there", server)
    finally:
        server.close()
    assert made.missing == 0
    assert there.select(COLUMNS).equals(here.select(COLUMNS))


def test_two_replicas_by_one_setting_give_the_traces_of_one(
    tmp_path: Path, engine: Any, folder: str
) -> None:
    _, one = run(tmp_path / "one", engine)
    settings = {"replicas": 2, "max_num_seqs": 8, "kv_cache_bytes": 64 << 20}
    many = open_engine("vllm", folder, settings)
    try:
        made, two = run(tmp_path / "two", many)
    finally:
        many.close()
    assert made.missing == 0
    assert two.select(COLUMNS).equals(one.select(COLUMNS))
