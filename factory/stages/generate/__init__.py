"""Generation: ask an engine for the samples that are wanted and missing, and keep what comes.

A finished trace is committed (group commit, fsync) before anything is done with it; until then its
request counts as in flight. ``kill -9`` at any moment therefore costs at most the requests in
flight and one commit batch, and nothing that is on disk is asked for again. Verification runs in
other processes while the engine samples; a policy decides from verdicts what to ask next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from factory.engines.base import Engine, OnPartial, with_defaults
from factory.errors import FactoryError, UsageError
from factory.records import Prompt, PromptSource, Sampling, ids
from factory.stages.generate.aborts import rule_of
from factory.stages.generate.budget import check_budget
from factory.stages.generate.checks import SampleState
from factory.stages.generate.loop import Limits, Loop
from factory.stages.generate.policy import Policy
from factory.stages.generate.price import Price
from factory.stages.generate.progress import Progress
from factory.stages.generate.scoring import Scores
from factory.stages.gold_faults import count_bad
from factory.stages.origins import Origins
from factory.store import Store
from factory.store.forgotten import Forgotten

Pair = tuple[Prompt, PromptSource]
INPUT_ROWS = 20_000


@dataclass(frozen=True)
class Generated:
    """Result of a generate run.

    Attributes:
        universe: wanted traces that exist, columns trace_id, prompt_id, sample_index; what the
            policy wants, whenever it was made.
        sampling_id: key of the sampling in force (template included).
        progress: final figures.
        missing: wanted traces that could not be made.
        stopped: why the run ended early (``interrupted``, ``max_tokens``, ``max_cost``), or None.
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
    scores: Sequence[str] = (),
    score_params: Mapping[str, Mapping[str, Any]] | None = None,
    n_workers: int | None = None,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    price: Price | None = None,
    on_partial: OnPartial | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_prompt: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    run_kind: str = "generate",
) -> Generated:
    """Make the wanted traces that the store lacks.

    Args:
        store: where facts go.
        pairs: prompts and where they come from; a prompt that comes twice is taken once, and
            judged by the source of the smallest key among those that can judge it.
        engine: answers requests; what is optional in ``factory.engines.base.Engine`` may be left
            out.
        sampling: settings; its ``template`` is filled in from the engine.
        policy: how many samples each prompt gets.
        verify: verify traces as they come, where the source names a verifier and has a gold.
        scores: measure the traces with these while the engine samples.
        score_params: score → its parameters.
        n_workers: processes for verification; default: the machine's cores.
        max_tokens: stop in order once this run has made so many completion tokens; what is in
            flight then is finished and kept.
        max_cost: the same for the money of this run, by ``price``.
        price: what tokens and devices cost; default: nothing is known.
        on_partial: rule that ends loops early; default: that of ``sampling.abort``.
        on_progress: called several times a second.
        on_prompt: called once with the first rendered prompt, before anything is sampled.
        stop: when set, nothing new is asked; what is in flight is finished and kept.
        run_kind: kind of the run's record; the traces of ``evaluate`` stay out of selections.

    Raises:
        UsageError: the policy needs verdicts that no verifier can give, or a cost limit a price.
        EngineError: the engine died for good; what was committed is kept.
        StoreError: the disk is full or gone; what was committed is kept.
    """
    engine = with_defaults(engine)
    sampling = dataclasses.replace(sampling, template=engine.template)
    check_wishes(sampling, policy, verify=verify, max_cost=max_cost, price=price)
    check_budget(sampling, engine)
    if on_partial is None:
        on_partial = rule_of(sampling.abort)
    details = {
        "model": engine.model, "revision": engine.revision, "sampling": sampling.key_fields(),
        "policy": policy.model_dump(exclude_none=True),
    }  # fmt: skip
    run_id = store.start_run(run_kind, details)
    gone = store.forgotten()
    states = _states(pairs, engine, sampling, policy, gone)
    _record_inputs(store, states, sampling, run_id)
    measuring = Scores(store, run_id, scores, score_params) if scores else None
    limits = Limits(max_tokens=max_tokens, max_cost=max_cost, price=price, stop=stop)
    loop = Loop(
        store,
        engine,
        states,
        sampling,
        policy,
        run_id=run_id,
        verify=verify,
        scores=measuring,
        n_workers=n_workers,
        limits=limits,
        gone=gone,
    )
    try:
        loop.load()
        _show_first(loop, engine, on_prompt)
        loop.run(on_partial, on_progress)
    except BaseException:
        if measuring is not None:
            measuring.abandon()
        _end(loop, store, "failed")
        raise
    _end(loop, store, None)
    _seal(store)
    universe, missing = loop.universe()
    if measuring is not None:
        measuring.finish(universe["trace_id"])
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


def check_wishes(
    sampling: Sampling,
    policy: Policy,
    *,
    verify: bool = True,
    max_cost: float | None = None,
    price: Price | None = None,
) -> None:
    """Refuse what can be refused before an engine is started, which may take minutes.

    Raises:
        UsageError: see ``generate``.
    """
    _check_values(sampling)
    check_budget(sampling, None)
    rule_of(sampling.abort)
    if policy.needs_verdicts and not verify:
        raise UsageError(f"policy {policy.kind!r} needs verdicts", "leave verify on")
    if max_cost is not None and price is None:
        raise UsageError(
            "a cost limit needs a price", "give price in the recipe, or --max-tokens instead"
        )


def _check_values(s: Sampling) -> None:
    fits = {
        "temperature": ("0 or more", 0 <= s.temperature < math.inf),
        "max_tokens": ("a whole number of 1 or more", _is_int(s.max_tokens) and s.max_tokens >= 1),
        "top_p": ("above 0, at most 1", 0 < s.top_p <= 1),
        "top_k": ("a whole number; 0 switches it off", _is_int(s.top_k) and s.top_k >= -1),
        "min_p": ("0 to 1", 0 <= s.min_p <= 1),
        "min_tokens": ("a whole number of 0 or more", _is_int(s.min_tokens) and s.min_tokens >= 0),
        "seed": ("a whole number", _is_int(s.seed)),
    }
    for name, (form, is_fit) in fits.items():
        if not is_fit:
            raise UsageError(f"sampling.{name} is {getattr(s, name)!r}", f"it must be {form}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _show_first(loop: Loop, engine: Engine, on_prompt: Callable[[str], None] | None) -> None:
    request = loop.first_request()
    text = engine.rendered_text(request) if on_prompt and request else None
    if on_prompt is not None and text is not None:
        on_prompt(text)


def _end(loop: Loop, store: Store, failed: str | None) -> None:
    """Release what the loop holds and write the run's end; an error on its way is not hidden."""
    quiet = contextlib.suppress(FactoryError) if failed else contextlib.nullcontext()
    with quiet:
        loop.close()
    with quiet:
        results = loop.results()
        store.end_run(loop.run_id, {**results, "stopped": results["stopped"] or failed})


def _seal(store: Store) -> None:
    store.table("traces").seal()
    store.table("failures").seal()
    for table in store.tables():
        if table.startswith("verdicts."):
            store.table(table).seal()


def plan(
    store: Store, pairs: Iterable[Pair], *, engine: Any, sampling: Sampling, policy: Policy
) -> dict[str, int]:
    """Say what a run would ask for, without asking: wanted at most, present, missing at most.

    ``bad_golds`` are prompts whose answers would all be unscored (``gold_faults``).

    ``engine`` is anything with ``model``, ``revision`` and ``template``; no model is loaded.
    """
    sampling = dataclasses.replace(sampling, template=engine.template)
    gone = store.forgotten()
    states = _states(pairs, engine, sampling, policy, gone)
    wanted = [t for s in states for t in s.trace_ids if not gone.has(t)]
    missing = len(store.table("traces").missing(wanted))
    bad = count_bad([(s.prompt, s.source) for s in states])
    return {
        "prompts": len(states),
        "bad_golds": bad.total(),
        "wanted_at_most": len(wanted),
        "present": len(wanted) - missing,
        "missing_at_most": missing,
        "completion_tokens_at_most": missing * sampling.max_tokens,
    }


def _states(
    pairs: Iterable[Pair], engine: Any, sampling: Sampling, policy: Policy, gone: Forgotten
) -> list[SampleState]:
    states: dict[str, SampleState] = {}
    sampling_id = sampling.sampling_id
    for prompt, source in pairs:
        prompt_id = prompt.prompt_id
        if gone and gone.has_prompt(prompt_id, prompt.text):
            continue
        state = states.get(prompt_id)
        if state is None:
            trace_ids = ids.trace_ids(
                prompt_id=prompt_id,
                model=engine.model,
                revision=engine.revision,
                sampling_id=sampling_id,
                n=policy.limit,
            )
            states[prompt_id] = state = SampleState(
                prompt, prompt_id, source, trace_ids, [None] * policy.limit
            )
        state.sources.append(source)
        # A prompt of several sources is judged by one of them, whatever the input's order.
        if len(state.sources) > 1:
            state.source = min(state.sources, key=_precedence)
    return list(states.values())


def _precedence(source: PromptSource) -> tuple[bool, str]:
    return (source.verifier is None or source.gold is None, source.source_id)


def _record_inputs(
    store: Store, states: Sequence[SampleState], sampling: Sampling, run_id: str
) -> None:
    """Store prompts, sources and the sampling; those that are known already add nothing."""
    origins = Origins(store)
    for begin in range(0, len(states), INPUT_ROWS):
        some = states[begin : begin + INPUT_ROWS]
        prompts = [s.prompt.row(run_id) for s in some]
        facts = [origins.changed(source) for s in some for source in s.sources]
        for name, rows in (
            ("prompts", prompts), ("prompt_sources", [f.row(run_id) for f in facts if f]),
        ):  # fmt: skip
            if rows:
                store.table(name).add(pl.DataFrame(rows, infer_schema_length=None))
    store.table("samplings").add(pl.DataFrame([sampling.row(run_id)]))
