"""Evaluation: a model's answers to benchmark prompts are traces; a metric is a count over them.

``evaluate`` makes the samples that are missing (k = 4 to 16 makes twelve more per prompt), says
which of those wanted are missing or unscored and why, and measures: pass@1 as the mean over k
samples with intervals over prompts and over seeds, unbiased pass@k, cons@k, truncation, format,
language and readability of the thinking, tokens and cost. ``paired`` and ``compare`` set two
models side by side on the same prompts. Undefined is None, never zero. Every number has a query
over the table ``evaluation_samples`` (``distill.evaluate.queries``).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from distill.evaluate.contamination import Contamination
from distill.evaluate.results import (
    FORM,
    SAMPLES,
    Evaluation,
    Paired,
    clean_interval,
    paired,
    shown,
)
from distill.evaluate.samples import Sample, gaps, wanted_samples
from factory.engines.base import Engine
from factory.errors import Refused, UsageError
from factory.metrics import Interval, cons_at_k, mean_interval, over_seeds, pass_at_k, pass_rate
from factory.records import Prompt, PromptSource, Sampling
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.generate.price import Price
from factory.stages.select.evaluation import RUN_KIND
from factory.store import Store

# Columns of ``per_prompt`` that are means over a prompt's samples.
_MEANS = ("reward", "truncated", "format", "language_consistency", "readability",
          "completion_tokens", "reasoning_chars")  # fmt: skip
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
    "record",
    "shown",
    "summarise",
    "unique_pairs",
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
    price: Price | None = None,
    trained_on: Contamination | None = None,
    judged: bool = False,
) -> Evaluation:
    """Sample what is missing, verify it, and measure.

    Args:
        store: where traces, verdicts, scores and the rows of the tables ``evaluations`` and
            ``evaluation_samples`` go.
        pairs: the benchmark's prompts with their golds; a prompt that comes twice counts once.
        engine: of the model.
        benchmark: its name in tables.
        k: samples per prompt.
        sampling: default: the paper's (T 0.6, top-p 0.95, 32,768 tokens).
        dialect: of the format that counts as well-formed.
        n_workers: processes for verification.
        allow_missing: measure what exists where samples could not be made, and say how many.
        on_progress: as in ``generate``.
        price: what the samples' tokens cost.
        trained_on: what of the benchmark stands in the model's training data.
        judged: prompts without a verifier are counted by what a judge said of their answers
            (``factory judge``); without that, such a prompt is refused.

    Raises:
        UsageError: a prompt without gold or verifier, or none at all.
        Refused: samples are missing, or wait for a judge; the message says why.
    """
    unique = unique_pairs(pairs, judged=judged)
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
        price=price,
        trained_on=trained_on,
    )
    record(store, out)
    return out


def record(store: Store, found: Evaluation) -> None:
    """Store an evaluation and its samples; the same evaluation adds nothing."""
    for name, form, rows in (
        ("evaluation_samples", SAMPLES, found.sample_rows()),
        ("evaluations", FORM, [found.row()]),
    ):
        kinds = {"text": pl.String, "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean}
        schema = {column: kinds[kind] for column, kind in form.columns.items()}
        store.table(name, form).add(pl.DataFrame(rows, schema=schema))


def unique_pairs(pairs: Iterable[Pair], *, judged: bool = False) -> list[Pair]:
    """Return each prompt once; refuse what cannot be checked.

    Args:
        pairs: prompts with their golds.
        judged: whether a judge decides where no verifier is named.

    Raises:
        UsageError: no prompt, or one without a gold and a verifier.
    """
    out: dict[str, Pair] = {}
    for prompt, source in pairs:
        if source.gold is None or (source.verifier is None and not judged):
            raise UsageError(
                f"prompt {source.item} of {source.source} has no gold or no verifier",
                "an evaluation needs both",
            )
        out.setdefault(prompt.prompt_id, (prompt, source))
    if not out:
        raise UsageError("there are no prompts to evaluate on", "check the source")
    return list(out.values())


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
    price: Price | None = None,
    trained_on: Contamination | None = None,
) -> Evaluation:
    """Measure the samples that the store has; the arguments are those of ``evaluate``.

    Raises:
        Refused: samples are missing and that is not allowed, or verdicts are.
    """
    samples = wanted_samples(
        store, pairs, model=model, revision=revision, sampling_id=sampling_id, k=k, dialect=dialect
    )
    missing = [s for s in samples if s["status"] == "missing"]
    if missing and not allow_missing:
        why = Counter(str(s["reason"]) for s in missing).most_common(3)
        raise Refused(
            f"{len(missing)} of {len(samples)} samples are missing "
            f"({'; '.join(f'{n} {reason}' for reason, n in why)})",
            "run it again, or measure what exists with --allow-missing",
        )
    prompts = [p.prompt_id for p, _ in pairs]
    per_prompt, pass_at = summarise(samples, prompts=prompts, k=k)
    if any(source.verifier is None for _, source in pairs):
        # A judge says right or wrong and takes no answer out: there is nothing to vote with.
        per_prompt = per_prompt.with_columns(cons=pl.lit(None, dtype=pl.Float64))
    metrics = _metrics(per_prompt)
    if trained_on is not None:
        metrics["pass@1 uncontaminated"] = clean_interval(per_prompt, trained_on.prompts)
    seeds, seed_sd = over_seeds(_marks(samples, prompts))
    out = Evaluation(
        benchmark=benchmark,
        model=model,
        revision=revision,
        sampling_id=sampling_id,
        k=k,
        n_samples=len(samples) - len(missing),
        n_unscored=int(per_prompt["n_unscored"].sum()),
        n_missing=len(missing),
        per_prompt=per_prompt,
        metrics=metrics,
        pass_at=pass_at,
        run_id=run_id,
        samples=samples,
        gaps=gaps(samples),
        seeds=seeds,
        seed_sd=seed_sd,
        trained_on=trained_on,
    )
    if price is None:
        return out
    prompt, completion = out.n_tokens
    cost = price.of(prompt_tokens=prompt, completion_tokens=completion)
    return dataclasses.replace(out, cost=cost)


def _metrics(per_prompt: pl.DataFrame) -> dict[str, Interval]:
    named = {"pass@1": "pass_rate", "cons@k": "cons", **{name: name for name in _MEANS}}
    return {
        name: mean_interval(per_prompt[column].to_list(), bounded=name not in _LENGTHS)
        for name, column in named.items()
    }


def _marks(samples: Sequence[Sample], prompts: Sequence[str]) -> list[list[float | None]]:
    """Return each prompt's marks by sample index; None where unscored or missing."""
    marks: dict[str, list[float | None]] = {p: [] for p in prompts}
    for sample in samples:
        mark = {"pass": 1.0, "fail": 0.0}.get(sample["status"])
        marks[sample["prompt_id"]].append(mark)
    return list(marks.values())


def summarise(
    samples: Sequence[Mapping[str, Any]], *, prompts: Sequence[str], k: int
) -> tuple[pl.DataFrame, dict[int, float | None]]:
    """Return one row per prompt, and the unbiased pass@k' for k' = 1, 2, 4 … k.

    cons@k votes over extracted answers, where all right answers are one class, since each equals
    the gold; ties share the point (``factory.metrics.cons_at_k``).

    Args:
        samples: fields of the table ``evaluation_samples``, in order of sample_index per prompt;
            those of status ``missing`` count nowhere.
        prompts: all wanted prompts; one without samples has undefined values.
        k: samples per prompt.
    """
    grouped: dict[str, list[Mapping[str, Any]]] = {p: [] for p in prompts}
    for sample in samples:
        if sample["status"] != "missing":
            grouped[sample["prompt_id"]].append(sample)
    rows = []
    ladder = sorted({*(2**i for i in range(k.bit_length())), k})
    unbiased: dict[int, list[float | None]] = {n: [] for n in ladder if n <= k}
    for prompt_id, group in grouped.items():
        scored = [s for s in group if s["status"] != "unscored"]
        n_pass = sum(s["status"] == "pass" for s in scored)
        for n, values in unbiased.items():
            values.append(pass_at_k(n=len(scored), c=n_pass, k=n))
        votes = [s["vote"] for s in scored]
        rows.append(
            {
                "prompt_id": prompt_id,
                "n": len(group),
                "n_pass": n_pass,
                "n_unscored": len(group) - len(scored),
                "pass_rate": pass_rate(n=len(scored), c=n_pass),
                "cons": cons_at_k(votes, [s["status"] == "pass" for s in scored], k=k),
                "reward": _mean([s["reward"] for s in scored]),
                "truncated": _mean([float(s["finish_reason"] == "length") for s in group]),
                "completion_tokens": _mean([s["n_completion_tokens"] for s in group]),
                **{
                    name: _mean([s[name] for s in group])
                    for name in ("format", "language_consistency", "readability", "reasoning_chars")
                },
            }
        )
    floats = ("pass_rate", "cons", *_MEANS)
    frame = pl.DataFrame(
        rows, schema_overrides=dict.fromkeys(floats, pl.Float64), infer_schema_length=None
    )
    return frame, {n: mean_interval(v).mean for n, v in unbiased.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return sum(known) / len(known) if known else None


def preset(k: int, **changes: Any) -> tuple[int, Sampling]:
    """Return k and the paper's sampling with changes.

    >>> preset(64)[1].top_p
    0.95
    """
    return k, dataclasses.replace(PAPER, **changes)
