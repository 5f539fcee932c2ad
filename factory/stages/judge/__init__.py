"""Judging stored traces: measure the judge on rows that a rule decides, then ask it about the rest.

The judge's own prompts and replies are facts of a store of their own, ``judge`` inside the store:
no dataset takes them for traces, every verb reads them with ``--store DATA/judge``, and a second
run asks nothing that was answered. Its verdicts stand in ``verdicts.judge@VERSION``, so that a
recipe can name ``judge_status``; who judged, how and by which text is part of their key.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from factory.config import Config
from factory.engines.base import Engine
from factory.errors import Refused
from factory.records import Item, Prompt, PromptSource, Sampling, Verdict, ids
from factory.records.text import trace_text
from factory.stages.generate import generate, plan
from factory.stages.generate.policy import Policy
from factory.stages.generate.progress import Progress
from factory.stages.judge import grading
from factory.stages.reading import read_pairs, texts_of
from factory.stages.select import Selection, Universe, select
from factory.stages.verify import verifier_stem
from factory.store import Store

TABLE = f"verdicts.judge@{grading.VERSION}"
FOLDER = "judge"
CHUNK = 1000
"""Rows asked for before their verdicts are written."""


class Measure(Config):
    """How far the judge has to agree with the rules before it is used."""

    n: int = Field(default=200, ge=0)
    """Rows that a rule decides, half of them fails where there are enough."""
    min_n: int = Field(default=50, ge=0)
    """Rows that it must have been measured on, fails among them."""
    min_agreement: float = Field(default=0.95, ge=0, le=1)
    """Smallest fraction on which both say the same."""
    max_false_accept: float = Field(default=0.05, ge=0, le=1)
    """Largest fraction of the rules' fails that it may call correct."""
    on_short: Literal["refuse", "warn"] = "refuse"
    """What happens where it falls short."""


class Judging(Config):
    """What is judged."""

    universe: Universe = Universe()
    """Which traces, as in a selection; those whose prompt has a gold. It is measured on those of
    them that a rule decides."""
    ask: Literal["unscored", "not_failed"] = "unscored"
    """``unscored``: what no rule could score. ``not_failed``: the rules' passes, too; the judge
    may lower them."""
    with_reasoning: bool = False
    """Quote the thinking as well as the answer."""
    measure: Measure = Measure()


@dataclass(frozen=True, slots=True)
class Case:
    """One trace to judge: its keys, what is quoted of it, and what the rules say of it."""

    trace_id: str
    gold_hash: str
    rule: Verdict | None
    prompt: Prompt
    is_empty: bool

    @property
    def is_decided(self) -> bool:
        """Whether a rule passed or failed it."""
        return self.rule is not None and self.rule.status != "unscored"


@dataclass
class Judged:
    """What a run did.

    Attributes:
        measured: agreement with the rules.
        shortfall: why the judge falls short, where it does and the recipe only warns.
        by_status: verdict status → verdicts written by this run.
        present: verdicts that were there.
        n_empty: answers without content, failed without the judge.
        missing: rows for which no reply could be had; the next run asks again.
        stopped: why it ended early, or None.
    """

    run_id: str
    measured: grading.Agreement
    shortfall: str | None = None
    by_status: Counter[str] = field(default_factory=Counter)
    present: int = 0
    n_empty: int = 0
    missing: int = 0
    stopped: str | None = None


def judge_store(
    store: Store,
    engine: Engine,
    *,
    sampling: Sampling,
    recipe: Judging,
    max_tokens: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Judged:
    """Measure the judge, and give the wanted traces its verdict.

    Args:
        store: traces, their prompts, golds and rules' verdicts.
        engine: answers the judge's prompts.
        sampling: of the judge; at temperature 0 a malformed reply is not asked for again.
        recipe: which traces, and how good the judge has to be.
        max_tokens: stop in order once this run has made so many tokens of replies.
        stop: when set, nothing new is asked.
        on_progress: as in ``generate``; of the rows it is measured on, then chunk by chunk.

    Raises:
        Refused: it was measured and falls short; no verdict is written.
    """
    own = Store(store.root / FOLDER)
    made = grading.provenance(
        model=engine.model, revision=engine.revision, sampling=_key_fields(sampling, engine)
    )
    options = ids.key_of({**made, "with_reasoning": recipe.with_reasoning})
    run_id = store.start_run("judge", {**made, "recipe": recipe.model_dump()})
    asker = _Asker(own, engine, sampling, max_tokens=max_tokens, stop=stop, on_progress=on_progress)
    table = store.table(TABLE)
    try:
        sample = list(measured_sample(_cases(store, recipe), recipe.measure.n))
        replies = asker.ask(sample)
        found = grading.agreement(
            (c.rule, replies[c.trace_id])
            for c in sample
            if c.rule is not None and c.trace_id in replies
        )
        result = Judged(run_id, found, stopped=asker.why_stopped())
        if result.stopped is None:
            result.shortfall = _shortfall(found, recipe.measure)
            with table.writer(run_id) as writer:
                for cases in _chunks(_wanted(_cases(store, recipe), recipe, sample)):
                    rows = {_verdict_id(c, options): c for c in cases}
                    missing = set(table.missing(list(rows)).to_list())
                    result.present += len(rows) - len(missing)
                    asked = [c for key, c in rows.items() if key in missing]
                    answers = asker.ask([c for c in asked if not c.is_empty])
                    writer.append(_verdict_rows(asked, answers, options, result))
                    result.stopped = asker.why_stopped()
                    if result.stopped is not None:
                        break
    except BaseException:
        store.end_run(run_id, {"stopped": "failed"})
        raise
    table.seal()
    store.end_run(
        run_id,
        {"by_status": dict(result.by_status), "agreement": found.agreement, "n": found.n,
         "false_accept": found.false_accept, "stopped": result.stopped},
    )  # fmt: skip
    return result


def plan_judging(
    store: Store, *, engine: Any, sampling: Sampling, recipe: Judging
) -> dict[str, int]:
    """Say what a run would ask, without asking; ``engine`` has model, revision and template."""
    cases = list(_cases(store, recipe))
    sample = list(measured_sample(cases, recipe.measure.n))
    wanted = list(_wanted(cases, recipe, sample))
    asked = {c.trace_id: c for c in [*sample, *wanted] if not c.is_empty}
    counts = {
        "traces_with_a_gold": len(cases),
        "measured": len(sample),
        "failed_without_the_judge": sum(c.is_empty for c in wanted),
    }
    if (store.root / FOLDER).is_dir():
        own = Store(store.root / FOLDER)
        found = plan(own, _pairs(asked.values()), engine=engine, sampling=sampling, policy=_one(1))
        return counts | {f"judge_{k}": v for k, v in found.items()}
    prompts = len({c.prompt.prompt_id for c in asked.values()})
    return counts | {
        "judge_prompts": prompts, "judge_wanted_at_most": prompts, "judge_present": 0,
        "judge_missing_at_most": prompts,
        "judge_completion_tokens_at_most": prompts * sampling.max_tokens,
    }  # fmt: skip


def measured_sample(cases: Iterable[Case], n: int) -> Iterator[Case]:
    """Choose the rows that the judge is measured on: by key, passes and fails in turn."""
    by_status: dict[str, list[Case]] = {"pass": [], "fail": []}
    for case in cases:
        if case.rule is not None and case.is_decided and not case.is_empty:
            by_status[case.rule.status].append(case)
    passes, fails = (sorted(v, key=lambda c: c.trace_id) for v in by_status.values())
    n_fails = min(len(fails), max(n // 2, n - len(passes)))
    yield from fails[:n_fails]
    yield from passes[: n - n_fails]


# ---- asking


class _Asker:
    """Asks the judge, again where a reply is no judgement, within one run's limits."""

    def __init__(
        self,
        own: Store,
        engine: Engine,
        sampling: Sampling,
        *,
        max_tokens: int | None,
        stop: threading.Event | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.own, self.engine, self.sampling, self.stop = own, engine, sampling, stop
        self.left, self.on_progress = max_tokens, on_progress
        self._stopped: str | None = None

    def why_stopped(self) -> str | None:
        """Return why nothing more is asked, or None."""
        return self._stopped

    def ask(self, cases: Sequence[Case]) -> dict[str, grading.Judgement]:
        """Return a judgement per trace; none where no reply could be had."""
        by_prompt = {c.prompt.prompt_id: c for c in cases}
        found: dict[str, grading.Judgement] = {}
        # at temperature 0 the same words would come again
        for n_tries in range(1, (grading.MAX_TRIES if self.sampling.temperature else 1) + 1):
            open_ = [c for key, c in by_prompt.items() if not _is_settled(found.get(key))]
            if not open_ or self._stopped is not None:
                break
            made = generate(
                self.own, _pairs(open_), self.engine, sampling=self.sampling,
                policy=_one(n_tries), verify=False, max_tokens=self.left, stop=self.stop,
                on_progress=self.on_progress,
            )  # fmt: skip
            self._stopped = made.stopped
            if self.left is not None:
                self.left = max(self.left - made.progress.n_completion_tokens, 0)
            keys = made.universe.sort("sample_index")["trace_id"].to_list()
            replies = {row["trace_id"]: row for row in texts_of(self.own, keys)}
            for key in keys:
                row = replies[key]
                if not _is_settled(found.get(row["prompt_id"])):
                    text = trace_text(row["prefill"], row["completion"])
                    found[row["prompt_id"]] = grading.parse(text)
        return {c.trace_id: found[k] for c in cases if (k := c.prompt.prompt_id) in found}


def _is_settled(judgement: grading.Judgement | None) -> bool:
    return judgement is not None and judgement.correctness is not None


def _one(n: int) -> Policy:
    return Policy.make({"kind": "fixed", "n": n})


def _pairs(cases: Iterable[Case]) -> Iterator[tuple[Prompt, PromptSource]]:
    for case in cases:
        source = PromptSource(
            prompt_id=case.prompt.prompt_id, source="judge", item=case.trace_id, domain="judge"
        )
        yield case.prompt, source


# ---- what is judged


def _cases(store: Store, recipe: Judging) -> Iterator[Case]:
    """Yield the universe's traces that have a gold, with the rules' verdict on them."""
    golds: dict[tuple[str, str], tuple[Prompt, str]] = {}
    for prompt, source in read_pairs(store):
        if source.gold is not None and source.gold.strip():
            golds[source.prompt_id, ids.text_hash(source.gold)] = (prompt, source.gold)
    # A judge is asked about everything in the universe, answers to a benchmark included.
    every = Selection(universe=recipe.universe, exact_duplicates=None, disabled=["not_evaluation"])
    chosen = select(store, every)
    for frame in chosen.batches():
        rows = {r["trace_id"]: r for r in frame.iter_rows(named=True)}
        for text in texts_of(store, sorted(rows)):
            row = rows[text["trace_id"]]
            found = golds.get((row["prompt_id"], row["gold_hash"] or ""))
            if found is not None:
                yield _case(row, text, *found, with_reasoning=recipe.with_reasoning)


def _case(
    row: Mapping[str, Any],
    text: Mapping[str, Any],
    prompt: Prompt,
    gold: str,
    *,
    with_reasoning: bool,
) -> Case:
    item = Item(text=trace_text(text["prefill"], text["completion"]))
    asked = grading.prompt_for(
        question=prompt.text, reference=gold, item=item, with_reasoning=with_reasoning
    )
    return Case(
        trace_id=row["trace_id"],
        gold_hash=row["gold_hash"],
        rule=_rule(row),
        prompt=asked,
        is_empty=grading.settled_without_judge(item.answer) is not None,
    )


def _rule(row: Mapping[str, Any]) -> Verdict | None:
    """Return the verdict of the source's own verifier, never that of a judge."""
    name = verifier_stem(row["verifier"] or "")
    status = row.get(f"{name}_status")
    if not name or status is None:
        return None
    fields = ("reward", "reason", "extracted", "decided_by")
    return Verdict(status=status, **{f: row[f"{name}_{f}"] for f in fields})


def _wanted(cases: Iterable[Case], recipe: Judging, sample: Sequence[Case]) -> Iterator[Case]:
    """Yield what gets a verdict: what was measured, what is asked for, what is empty."""
    measured = {c.trace_id for c in sample}
    for case in cases:
        is_pass = case.rule is not None and case.rule.status == "pass"
        if (
            case.trace_id in measured
            or not case.is_decided
            or (is_pass and recipe.ask == "not_failed")
        ):
            yield case


def _chunks(cases: Iterable[Case]) -> Iterator[list[Case]]:
    chunk: list[Case] = []
    for case in cases:
        chunk.append(case)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


# ---- what is written


def _verdict_id(case: Case, options: str) -> str:
    return ids.verdict_id_of(case.trace_id, (case.gold_hash, options))


def _verdict_rows(
    cases: Sequence[Case],
    judgements: Mapping[str, grading.Judgement],
    options: str,
    result: Judged,
) -> list[dict[str, Any]]:
    rows = []
    for case in cases:
        if case.is_empty:
            verdict = Verdict.failed("empty_answer", decided_by="judge_skipped")
            result.n_empty += 1
        elif case.trace_id not in judgements:
            result.missing += 1
            continue
        else:
            verdict = grading.verdict_of(judgements[case.trace_id], rule=case.rule)
        result.by_status[verdict.status] += 1
        rows.append(
            {"verdict_id": _verdict_id(case, options), "trace_id": case.trace_id,
             "gold_hash": case.gold_hash, "options_hash": options, **verdict.to_dict(),
             "seconds": None, "run_id": result.run_id}
        )  # fmt: skip
    return rows


def _key_fields(sampling: Sampling, engine: Any) -> dict[str, Any]:
    return {**sampling.key_fields(), "template": engine.template}


def _shortfall(found: grading.Agreement, measure: Measure) -> str | None:
    """Return why a judge that falls short is used all the same; refuse it where it is not."""
    try:
        grading.demand(
            found,
            min_n=measure.min_n,
            min_agreement=measure.min_agreement,
            max_false_accept=measure.max_false_accept,
        )
    except Refused as refused:
        if measure.on_short == "refuse":
            raise
        return str(refused)
    return None


__all__ = ["Judged", "Judging", "Measure", "judge_store", "measured_sample", "plan_judging"]
