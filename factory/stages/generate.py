"""Generation: ask an engine for the samples that are wanted and missing, and keep what comes.

A finished trace is committed (group commit, fsync) before anything is done with it; until then its
request counts as in flight. ``kill -9`` at any moment therefore costs at most the requests in
flight and one commit batch, and nothing that is on disk is asked for again. Verification runs in
other processes while the engine samples; a policy decides from verdicts what to ask next.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from factory import ids
from factory.errors import UsageError
from factory.records import Prompt, PromptSource, Sampling
from factory.requests import Engine, OnPartial
from factory.stages._checks import SampleState
from factory.stages._loop import Loop, Progress
from factory.stages.policy import Policy
from factory.store import Store

Pair = tuple[Prompt, PromptSource]


@dataclass(frozen=True)
class Generated:
    """Result of a generate run.

    Attributes:
        universe: wanted traces that exist, columns trace_id, prompt_id, sample_index; what the
            policy wants, whenever it was made.
        sampling_id: key of the sampling in force (template included).
        progress: final figures.
        missing: wanted traces that could not be made.
        stopped: why the run ended early (``interrupted``, ``max_tokens``), or None.
    """

    universe: pl.DataFrame
    run_id: str
    model: str
    revision: str
    sampling_id: str
    progress: Progress
    missing: int
    stopped: str | None


def generate(
    store: Store,
    pairs: Iterable[Pair],
    engine: Engine,
    *,
    sampling: Sampling,
    policy: Policy,
    verify: bool = True,
    n_workers: int | None = None,
    max_tokens: int | None = None,
    on_partial: OnPartial | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Generated:
    """Make the wanted traces that the store lacks.

    Args:
        store: where facts go.
        pairs: prompts and where they come from; a prompt that comes twice is taken once.
        engine: answers requests.
        sampling: settings; its ``template`` is filled in from the engine.
        policy: how many samples each prompt gets.
        verify: verify traces as they come, where the source names a verifier and has a gold.
        n_workers: processes for verification; default: the machine's cores.
        max_tokens: stop in order once this run has made so many completion tokens.
        on_partial: rule that ends loops early; its name should stand in ``sampling.abort``.
        on_progress: called after every commit.
        stop: when set, nothing new is asked; what is in flight is finished and kept.

    Raises:
        UsageError: the policy needs verdicts that no verifier can give.
        EngineError: the engine died; what was committed is kept.
    """
    sampling = dataclasses.replace(sampling, template=engine.template)
    if policy.needs_verdicts and not verify:
        raise UsageError(f"policy {policy.kind!r} needs verdicts", "leave verify on")
    details = {
        "model": engine.model, "revision": engine.revision, "sampling": sampling.key_fields(),
        "policy": policy.model_dump(exclude_none=True),
    }  # fmt: skip
    run_id = store.start_run("generate", details)
    states = _states(pairs, engine, sampling, policy)
    _record_inputs(store, states, sampling, run_id)
    loop = Loop(
        store, engine, states, sampling, policy, run_id, verify, n_workers, max_tokens, stop
    )
    try:
        loop.load()
        loop.run(on_partial, on_progress)
    finally:
        loop.close()
        store.end_run(run_id, dataclasses.asdict(loop.progress) | {"stopped": loop.stopped})
    store.table("traces").seal()
    for table in store.tables():
        if table.startswith("verdicts."):
            store.table(table).seal()
    universe, missing = loop.universe()
    return Generated(
        universe=universe,
        run_id=run_id,
        model=engine.model,
        revision=engine.revision,
        sampling_id=sampling.sampling_id,
        progress=loop.progress,
        missing=missing,
        stopped=loop.stopped,
    )


def plan(
    store: Store, pairs: Iterable[Pair], *, engine: Any, sampling: Sampling, policy: Policy
) -> dict[str, int]:
    """Say what a run would ask for, without asking: wanted at most, present, missing at most.

    ``engine`` is anything with ``model``, ``revision`` and ``template``; no model is loaded.
    """
    sampling = dataclasses.replace(sampling, template=engine.template)
    states = _states(pairs, engine, sampling, policy)
    wanted = [t for s in states for t in s.trace_ids]
    missing = len(store.table("traces").missing(wanted))
    return {
        "prompts": len(states),
        "wanted_at_most": len(wanted),
        "present": len(wanted) - missing,
        "missing_at_most": missing,
        "completion_tokens_at_most": missing * sampling.max_tokens,
    }


def _states(
    pairs: Iterable[Pair], engine: Any, sampling: Sampling, policy: Policy
) -> list[SampleState]:
    states: dict[str, SampleState] = {}
    sampling_id = sampling.sampling_id
    for prompt, source in pairs:
        prompt_id = prompt.prompt_id
        if prompt_id in states:
            continue
        trace_ids = [
            ids.trace_id(
                prompt_id=prompt_id,
                model=engine.model,
                revision=engine.revision,
                sampling_id=sampling_id,
                sample_index=i,
            )
            for i in range(policy.limit)
        ]
        states[prompt_id] = SampleState(prompt, prompt_id, source, trace_ids, [None] * policy.limit)
    return list(states.values())


def _record_inputs(
    store: Store, states: Sequence[SampleState], sampling: Sampling, run_id: str
) -> None:
    """Store prompts, sources and the sampling; those that are known already add nothing."""
    if states:
        store.table("prompts").add(pl.DataFrame([s.prompt.row(run_id) for s in states]))
        rows = [s.source.row(run_id) for s in states]
        store.table("prompt_sources").add(pl.DataFrame(rows, infer_schema_length=None))
    store.table("samplings").add(pl.DataFrame([sampling.row(run_id)]))
