"""Evaluation: a model's answers to benchmark prompts are traces; a metric is a count over them.

``evaluate`` makes the samples that are missing (k = 4 to 16 makes twelve more per prompt), checks
that every wanted sample is there exactly once, and measures: pass@1 as the mean over k samples with
an interval over prompts, unbiased pass@k, cons@k, truncation, format, language and
readability of the thinking. ``paired`` compares two models on the same prompts. Undefined is None,
never zero.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from distill.evaluate.results import FORM, Evaluation, Paired, paired, shown
from factory.dialects import split_reasoning
from factory.engines.base import Engine
from factory.errors import Refused, UsageError
from factory.metrics import cons_at_k, mean_interval, pass_at_k, pass_rate
from factory.records import Prompt, PromptSource, Sampling, ids
from factory.stages.checker import Checker, item_of, verdict_key
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.score import score, score_table
from factory.stages.scorer import Scorer
from factory.stages.select.evaluation import RUN_KIND
from factory.store import Store

# Score → its column that an evaluation reports.
_SCORES = {"language": "language_consistency", "readability": "readability"}
# Columns of ``per_prompt`` that are means over a prompt's samples.
_MEANS = ("truncated", "format", "language_consistency", "readability", "completion_tokens",
          "reasoning_chars")  # fmt: skip
_LENGTHS = ("completion_tokens", "reasoning_chars")

__all__ = [
    "FORM",
    "PAPER",
    "Evaluation",
    "Paired",
    "evaluate",
    "measure",
    "paired",
    "preset",
    "shown",
]

Pair = tuple[Prompt, PromptSource]

# DeepSeek-R1 v2, D.1: sampling of every benchmark; k is the benchmark's own.
PAPER = Sampling(temperature=0.6, top_p=0.95, max_tokens=32_768)


def evaluate(
    store: Store,
    pairs: Iterable[Pair],
    engine: Engine,
    *,
    benchmark: str,
    k: int,
    sampling: Sampling = PAPER,
    dialect: str = "think",
    n_workers: int | None = None,
    allow_missing: bool = False,
    on_progress: Callable[[Any], None] | None = None,
) -> Evaluation:
    """Sample what is missing, verify it, and measure.

    Args:
        store: where traces, verdicts, scores and the row of table ``evaluations`` go.
        pairs: the benchmark's prompts with their golds; a prompt that comes twice counts once.
        engine: of the model.
        benchmark: its name in tables.
        k: samples per prompt.
        sampling: default: the paper's (T 0.6, top-p 0.95, 32,768 tokens).
        dialect: of the format that counts as well-formed.
        n_workers: processes for verification.
        allow_missing: measure what exists where samples could not be made, and say how many.
        on_progress: as in ``generate``.

    Raises:
        UsageError: a prompt without gold or verifier, or none at all.
        Refused: samples are missing.
    """
    unique = unique_pairs(pairs)
    made = generate(
        store,
        unique,
        engine,
        sampling=sampling,
        policy=Policy(kind="fixed", n=k),
        n_workers=n_workers,
        on_progress=on_progress,
        run_kind=RUN_KIND,
    )
    out = measure(
        store,
        unique,
        model=engine.model,
        revision=engine.revision,
        sampling_id=made.sampling_id,
        k=k,
        benchmark=benchmark,
        dialect=dialect,
        allow_missing=allow_missing,
        run_id=made.run_id,
    )
    table = store.table("evaluations", FORM)
    table.add(pl.DataFrame([out.row()], schema_overrides=_floats()))
    return out


def _floats() -> dict[str, Any]:
    return {name: pl.Float64 for name, kind in FORM.columns.items() if kind == "float"}


def unique_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Return each prompt once; refuse what cannot be checked.

    Raises:
        UsageError: no prompt, or one without a gold and a verifier.
    """
    out: dict[str, Pair] = {}
    for prompt, source in pairs:
        if source.gold is None or source.verifier is None:
            raise UsageError(
                f"prompt {source.item} of {source.source} has no gold or no verifier",
                "an evaluation needs both",
            )
        out.setdefault(prompt.prompt_id, (prompt, source))
    if not out:
        raise UsageError("there are no prompts to evaluate on", "check the source")
    return list(out.values())


def check_counts(found: Sequence[tuple[str, int]], *, prompts: Sequence[str], k: int) -> int:
    """Return the number of missing samples, after refusing what should not be there.

    Args:
        found: (prompt_id, sample_index) of every sample.
        prompts: wanted prompts.
        k: wanted samples 0 … k−1 of each.

    Raises:
        Refused: samples that nobody asked for, or doubled ones, with their counts.

    >>> check_counts([("p", 0)], prompts=["p"], k=2)
    1
    """
    wanted = {(p, i) for p in prompts for i in range(k)}
    counts = Counter(found)
    extra = sum(n for key, n in counts.items() if key not in wanted)
    doubled = sum(n - 1 for key, n in counts.items() if key in wanted)
    if extra or doubled:
        raise Refused(
            f"{extra} samples too many and {doubled} doubled, of {len(wanted)} wanted",
            "evaluate one model with one sampling on one set of prompts",
        )
    return len(wanted) - len(counts)


def measure(
    store: Store,
    pairs: Sequence[Pair],
    *,
    model: str,
    revision: str,
    sampling_id: str,
    k: int,
    benchmark: str,
    dialect: str = "think",
    allow_missing: bool = False,
    run_id: str = "",
) -> Evaluation:
    """Measure the samples that the store has; the arguments are those of ``evaluate``.

    Raises:
        Refused: samples are missing and that is not allowed, or verdicts are.
    """
    samples = _samples(store, pairs, model, revision, sampling_id, k)
    found = [(s["prompt_id"], s["sample_index"]) for s in samples]
    prompts = [p.prompt_id for p, _ in pairs]
    n_missing = check_counts(found, prompts=prompts, k=k)
    if n_missing and not allow_missing:
        raise Refused(
            f"{n_missing} of {len(prompts) * k} samples are missing",
            "run it again, or see `factory sql @failures`",
        )
    _add_measures(store, samples, dialect=dialect)
    per_prompt, pass_at = summarise(samples, prompts=prompts, k=k)
    metrics = {
        "pass@1": mean_interval(per_prompt["pass_rate"].to_list()),
        "cons@k": mean_interval(per_prompt["cons"].to_list()),
        **{
            name: mean_interval(per_prompt[name].to_list(), bounded=name not in _LENGTHS)
            for name in _MEANS
        },
    }
    return Evaluation(
        benchmark=benchmark,
        model=model,
        revision=revision,
        sampling_id=sampling_id,
        k=k,
        n_samples=len(samples),
        n_unscored=int(per_prompt["n_unscored"].sum()),
        n_missing=n_missing,
        per_prompt=per_prompt,
        metrics=metrics,
        pass_at=pass_at,
        run_id=run_id,
    )


def _samples(
    store: Store, pairs: Sequence[Pair], model: str, revision: str, sampling_id: str, k: int
) -> list[dict[str, Any]]:
    """Return the wanted traces that exist, each with its verdict's status and extracted answer."""
    owner: dict[str, tuple[int, int]] = {}
    for at, (prompt, _) in enumerate(pairs):
        for index in range(k):
            key = ids.trace_id(
                prompt_id=prompt.prompt_id,
                model=model,
                revision=revision,
                sampling_id=sampling_id,
                sample_index=index,
            )
            owner[key] = (at, index)
    wanted = pl.DataFrame({"trace_id": list(owner)})
    columns = ["trace_id", "completion", "prefill", "finish_reason", "n_completion_tokens"]
    samples: list[dict[str, Any]] = []
    for frame in store.table("traces").batches(columns):
        for row in frame.join(wanted, on="trace_id", how="semi").iter_rows(named=True):
            at, index = owner[row["trace_id"]]
            prompt, source = pairs[at]
            row |= {"prompt_id": prompt.prompt_id, "sample_index": index, "pair": (prompt, source)}
            samples.append(row)
    samples.sort(key=lambda s: owner[s["trace_id"]])
    _add_verdicts(store, samples)
    return samples


def _add_verdicts(store: Store, samples: Sequence[dict[str, Any]]) -> None:
    checkers: dict[str, Checker] = {}
    by_label: dict[str, dict[str, dict[str, Any]]] = {}
    for sample in samples:
        source = sample["pair"][1]
        checker = checkers.get(source.verifier) or Checker(source.verifier)
        checkers[source.verifier] = checker
        key = verdict_key(sample["trace_id"], source, checker)
        by_label.setdefault(checker.label, {})[key] = sample
    for label, waiting in by_label.items():
        keys = pl.DataFrame({"verdict_id": list(waiting)})
        table = store.table(f"verdicts.{label}")
        for frame in table.batches(["verdict_id", "status", "extracted"]):
            for key, status, extracted in frame.join(
                keys, on="verdict_id", how="semi"
            ).iter_rows():  # fmt: skip
                waiting[key] |= {"status": status, "extracted": extracted}
    lacking = sum("status" not in s for s in samples)
    if lacking:
        raise Refused(f"{lacking} of {len(samples)} samples have no verdict", "run it again")


def _add_measures(store: Store, samples: Sequence[dict[str, Any]], *, dialect: str) -> None:
    form = Checker("format", {"dialect": dialect})
    items = [item_of(s["pair"][0], s["pair"][1], s) for s in samples]
    for sample, item, verdict in zip(samples, items, form.check(items), strict=True):
        sample["format"] = verdict.status == "pass"
        sample["reasoning_chars"] = len(split_reasoning(item.text).reasoning.strip())
    keys = pl.Series("trace_id", [s["trace_id"] for s in samples], dtype=pl.String)
    scorer = Scorer(list(_SCORES))
    score(store, list(_SCORES), trace_ids=keys)
    for name, column in _SCORES.items():
        table = score_table(store, scorer, name)
        found: dict[str, float | None] = {}
        for frame in table.batches(["trace_id", column]):
            found.update(frame.join(keys.to_frame(), on="trace_id", how="semi").iter_rows())
        for sample in samples:
            sample[column] = found.get(sample["trace_id"])


def summarise(
    samples: Sequence[Mapping[str, Any]], *, prompts: Sequence[str], k: int
) -> tuple[pl.DataFrame, dict[int, float | None]]:
    """Return one row per prompt, and the unbiased pass@k' for k' = 1, 2, 4 … k.

    cons@k votes over extracted answers, where all right answers are one class, since each equals
    the gold; ties share the point (``factory.metrics.cons_at_k``).

    Args:
        samples: prompt_id, sample_index, status, extracted, finish_reason, n_completion_tokens,
            format, language_consistency, readability, reasoning_chars; in order of sample_index
            per prompt.
        prompts: all wanted prompts; one without samples has undefined values.
        k: samples per prompt.
    """
    grouped: dict[str, list[Mapping[str, Any]]] = {p: [] for p in prompts}
    for sample in samples:
        grouped[sample["prompt_id"]].append(sample)
    rows = []
    ladder = sorted({*(2**i for i in range(k.bit_length())), k})
    unbiased: dict[int, list[float | None]] = {n: [] for n in ladder if n <= k}
    for prompt_id, group in grouped.items():
        scored = [s for s in group if s["status"] != "unscored"]
        n_pass = sum(s["status"] == "pass" for s in scored)
        for n, values in unbiased.items():
            values.append(pass_at_k(n=len(scored), c=n_pass, k=n))
        votes = [_vote(s) for s in scored]
        rows.append(
            {
                "prompt_id": prompt_id,
                "n": len(group),
                "n_pass": n_pass,
                "n_unscored": len(group) - len(scored),
                "pass_rate": pass_rate(n=len(scored), c=n_pass),
                "cons": cons_at_k(votes, [s["status"] == "pass" for s in scored], k=k),
                "truncated": _mean([float(s["finish_reason"] == "length") for s in group]),
                "format": _mean([float(s["format"]) for s in group]),
                "language_consistency": _mean([s["language_consistency"] for s in group]),
                "readability": _mean([s["readability"] for s in group]),
                "completion_tokens": _mean([s["n_completion_tokens"] for s in group]),
                "reasoning_chars": _mean([s["reasoning_chars"] for s in group]),
            }
        )
    floats = ("pass_rate", "cons", *_MEANS)
    frame = pl.DataFrame(
        rows, schema_overrides=dict.fromkeys(floats, pl.Float64), infer_schema_length=None
    )
    return frame, {n: mean_interval(v).mean for n, v in unbiased.items()}


def _vote(sample: Mapping[str, Any]) -> str | None:
    if sample["status"] == "pass":
        return "right"
    answer = sample["extracted"]
    return None if answer is None else "=" + " ".join(str(answer).split())


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return sum(known) / len(known) if known else None


def preset(k: int, **changes: Any) -> tuple[int, Sampling]:
    """Return k and the paper's sampling with changes.

    >>> preset(64)[1].top_p
    0.95
    """
    return k, dataclasses.replace(PAPER, **changes)
