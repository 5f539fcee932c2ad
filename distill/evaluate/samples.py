"""The samples that an evaluation wants: what each holds, and why one is missing or unscored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from factory.dialects import split_reasoning
from factory.errors import Refused
from factory.records import Prompt, PromptSource, ids
from factory.stages import judge
from factory.stages.checker import Checker, item_of, verdict_key
from factory.stages.score import score, score_table
from factory.stages.scorer import Scorer
from factory.store import Store

Pair = tuple[Prompt, PromptSource]
Sample = dict[str, Any]

SCORES = {"language": "language_consistency", "readability": "readability"}
"""Score → its column that an evaluation reports."""
_TRACE = ("completion", "prefill", "finish_reason", "n_prompt_tokens", "n_completion_tokens")
_MEASURED = ("format", "language_consistency", "readability", "reasoning_chars")


def wanted_samples(
    store: Store,
    pairs: Sequence[Pair],
    *,
    model: str,
    revision: str,
    sampling_id: str,
    k: int,
    dialect: str,
) -> list[Sample]:
    """Return samples 0 … k−1 of every prompt, by prompt and index, the missing ones included.

    Args:
        store: traces, verdicts, scores (those that lack are measured) and failures.
        pairs: prompts with their golds.
        model: as it enters the keys, with ``revision`` and ``sampling_id``.
        revision: of the model.
        sampling_id: of the sampling.
        k: samples per prompt.
        dialect: of the format that counts as well-formed.

    Raises:
        Refused: traces without a verdict, or with those of several judges.
    """
    samples: dict[str, Sample] = {}
    owner: dict[str, Pair] = {}
    for pair in pairs:
        keys = ids.trace_ids(
            prompt_id=pair[0].prompt_id, model=model, revision=revision, sampling_id=sampling_id,
            n=k,
        )  # fmt: skip
        for index, key in enumerate(keys):
            owner[key] = pair
            samples[key] = {
                "trace_id": key, "prompt_id": pair[0].prompt_id, "item": pair[1].item,
                "sample_index": index, "status": "missing", "reason": "not_sampled",
                **dict.fromkeys(
                    ("reward", "extracted", "vote", *_MEASURED, *_TRACE[2:]), None
                ),
            }  # fmt: skip
    wanted = pl.DataFrame({"trace_id": list(samples)})
    for frame in store.table("traces").batches(["trace_id", *_TRACE]):
        for row in frame.join(wanted, on="trace_id", how="semi").iter_rows(named=True):
            samples[row["trace_id"]].update(row, status=None, reason=None)
    made = [s for s in samples.values() if s["status"] is None]
    judged = [s for s in made if owner[s["trace_id"]][1].verifier is None]
    _add_judged(store, judged, owner)
    _add_verdicts(store, [s for s in made if s not in judged] if judged else made, owner)
    _add_measures(store, made, owner, dialect=dialect)
    _add_failures(store, samples)
    for sample in made:
        sample["vote"] = _vote(sample)
    return list(samples.values())


def gaps(samples: Sequence[Mapping[str, Any]]) -> Counter[tuple[str, str]]:
    """Count what is missing or unscored, by (status, reason).

    >>> gaps([{"status": "missing", "reason": "too_long"}, {"status": "pass", "reason": None}])
    Counter({('missing', 'too_long'): 1})
    """
    return Counter(
        (s["status"], str(s["reason"] or "").partition(":")[0])
        for s in samples
        if s["status"] in ("missing", "unscored")
    )


def _add_verdicts(store: Store, samples: Sequence[Sample], owner: Mapping[str, Pair]) -> None:
    checkers: dict[str, Checker] = {}
    by_label: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        source = owner[sample["trace_id"]][1]
        name = str(source.verifier)
        checker = checkers.get(name) or Checker(name)
        checkers[name] = checker
        key = verdict_key(sample["trace_id"], source, checker)
        by_label.setdefault(checker.label, {})[key] = sample
    columns = ["verdict_id", "status", "reason", "reward", "extracted"]
    for label, waiting in by_label.items():
        keys = pl.DataFrame({"verdict_id": list(waiting)})
        for frame in store.table(f"verdicts.{label}").batches(columns):
            for row in frame.join(keys, on="verdict_id", how="semi").iter_rows(named=True):
                waiting[row.pop("verdict_id")].update(row)
    lacking = sum(s["status"] is None for s in samples)
    if lacking:
        raise Refused(f"{lacking} of {len(samples)} samples have no verdict", "run it again")


def _add_judged(store: Store, samples: Sequence[Sample], owner: Mapping[str, Pair]) -> None:
    """Take the verdicts of a judge, where the source names no verifier."""
    if not samples:
        return
    waiting = {
        (s["trace_id"], ids.text_hash(owner[s["trace_id"]][1].gold or "")): s for s in samples
    }
    keys = pl.DataFrame([*waiting], schema=["trace_id", "gold_hash"], orient="row")
    judges: set[str] = set()
    if store.has(judge.TABLE):
        columns = [*keys.columns, "options_hash", "status", "reason", "reward"]
        for frame in store.table(judge.TABLE).batches(columns):
            mine = frame.join(keys, on=keys.columns, how="semi")
            for key, gold, options, status, reason, reward in mine.iter_rows():
                judges.add(options)
                waiting[key, gold].update(status=status, reason=reason, reward=reward)
    if len(judges) > 1:
        raise Refused(
            f"{len(judges)} judges judged these samples", "revoke the runs of all but one"
        )
    lacking = sum(s["status"] is None for s in samples)
    if lacking:
        raise Refused(
            f"{lacking} of {len(samples)} samples wait for a judge",
            "run `factory judge` on this store (ask: unscored), then this again",
        )


def _add_measures(
    store: Store, samples: Sequence[Sample], owner: Mapping[str, Pair], *, dialect: str
) -> None:
    form = Checker("format", {"dialect": dialect})
    items = [item_of(*owner[s["trace_id"]], s) for s in samples]
    for sample, item, verdict in zip(samples, items, form.check(items), strict=True):
        sample["format"] = int(verdict.status == "pass")
        sample["reasoning_chars"] = len(split_reasoning(item.text).reasoning.strip())
    keys = pl.Series("trace_id", [s["trace_id"] for s in samples], dtype=pl.String)
    scorer = Scorer(list(SCORES))
    score(store, list(SCORES), trace_ids=keys)
    for name, column in SCORES.items():
        found: dict[str, float | None] = {}
        for frame in score_table(store, scorer, name).batches(["trace_id", column]):
            found.update(frame.join(keys.to_frame(), on="trace_id", how="semi").iter_rows())
        for sample in samples:
            sample[column] = found.get(sample["trace_id"])


def _add_failures(store: Store, samples: Mapping[str, Sample]) -> None:
    """Say of each missing sample why its last request failed."""
    wanted = pl.DataFrame({"trace_id": [k for k, s in samples.items() if s["status"] == "missing"]})
    if not wanted.height:
        return
    table = store.table("failures")
    for frame in table.batches(["trace_id", "kind", "message", "created_at"]):
        mine = frame.join(wanted, on="trace_id", how="semi").sort("created_at")
        for row in mine.iter_rows(named=True):
            samples[row["trace_id"]]["reason"] = f"{row['kind']}: {row['message'] or ''}"[:300]


def _vote(sample: Mapping[str, Any]) -> str | None:
    """All right answers are one class, since each equals the gold; the rest vote by their text."""
    if sample["status"] == "pass":
        return "right"
    answer = sample["extracted"]
    return None if answer is None else "=" + " ".join(str(answer).split())
