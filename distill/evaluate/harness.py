"""Samples of lm-evaluation-harness (``--log_samples``): read, replayed into a store, and written.

A log has a line per document and filter: ``doc``, ``target``, ``arguments`` (the prompt and how it
was sampled), ``resps`` (what the model wrote, one list per request), ``filtered_resps``, ``filter``
and the metrics by name (read from the harness's own writer, version 0.4.13).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.errors import UsageError
from factory.records import ids

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Logged:
    """One text of a log, with the score that its source gave it.

    Attributes:
        key: what names it in a table (document, sample).
        group: what scores are compared by (task and filter; source and model).
        score: 0 to 1; None where the source gave none. A score of several samples of one document
            is their mean.
        extracted: what the source took out of the text, where it says so.
        options: of the verifier, where the row names them.
    """

    key: str
    group: tuple[str, ...]
    text: str
    gold: str | None
    score: float | None
    prompt: str = ""
    extracted: str | None = None
    verifier: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    language: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


def is_log(row: Row) -> bool:
    """Tell whether a row is a line of the harness's log."""
    return {"doc", "resps", "arguments"} <= set(row)


def read_log(
    path: Path, *, benchmark: str | None = None, metric: str | None = None
) -> Iterator[Logged]:
    """Yield every text of a log.

    Args:
        path: ``samples_<task>_….jsonl``.
        benchmark: whose reader makes gold and options of ``doc``; without it ``target`` is the
            gold, after ``####`` where it holds that.
        metric: the one of the log's that is its score; default: the first.

    Raises:
        UsageError: a line that is no line of a log, one of a likelihood task, which has no text,
            or one without that metric.
    """
    from factory.rows import files

    name = path.name.removeprefix("samples_").partition("_20")[0].removesuffix(".jsonl")
    files.check_input(str(path))
    for number, row in enumerate(files.read_rows(str(path)), start=1):
        if not isinstance(row, dict) or not is_log(row):
            raise UsageError(
                f"{path} line {number} is no sample of lm-evaluation-harness",
                "it needs doc, arguments and resps (run the harness with --log_samples)",
            )
        where = f"{path} line {number}"
        yield from _texts(row, name, where, benchmark, _score(row, where, metric))


def _score(row: Row, where: str, metric: str | None) -> float | None:
    """Return the line's score by a metric: the one asked for, else the first that is a number."""
    metrics = [m for m in row.get("metrics") or [] if isinstance(row.get(m), int | float)]
    if metric is not None and metric not in metrics:
        raise UsageError(f"{where} has no metric {metric!r}", f"it has {', '.join(metrics)}")
    return float(row[metric or metrics[0]]) if metrics else None


def _texts(
    row: Row, task: str, where: str, benchmark: str | None, score: float | None
) -> Iterator[Logged]:
    prompt, sampling = _asked(row["arguments"])
    gold, verifier, options = _gold(row, benchmark)
    texts = [text for request in row["resps"] for text in _listed(request)]
    if not texts or not all(isinstance(t, str) for t in texts):
        raise UsageError(
            f"{where} holds likelihoods of given answers, no text that a model wrote",
            "re-grade a task of the kind generate_until",
        )
    filtered = [t for request in _listed(row.get("filtered_resps")) for t in _listed(request)]
    for j, text in enumerate(texts):
        yield Logged(
            key=f"{row.get('doc_id')}" + (f".{j}" if len(texts) > 1 else ""),
            group=(task, str(row.get("filter") or "none")),
            text=text,
            gold=gold,
            score=score,
            prompt=prompt,
            extracted=str(filtered[j]) if j < len(filtered) else None,
            verifier=verifier,
            options=options,
            sampling=sampling,
        )


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _asked(arguments: Any) -> tuple[str, dict[str, Any]]:
    """Return the prompt and the generation's settings; both forms of the harness are read."""
    first = arguments
    if isinstance(arguments, Mapping):
        first = next(iter(arguments.values()), None)
    elif isinstance(arguments, list) and arguments:
        first = arguments[0]
    if isinstance(first, Mapping):
        prompt, settings = first.get("arg_0"), first.get("arg_1")
    else:
        prompt, settings = (*_listed(first), None, None)[:2]
    return str(prompt or ""), dict(settings) if isinstance(settings, Mapping) else {}


def _gold(row: Row, benchmark: str | None) -> tuple[str | None, str | None, Mapping[str, Any]]:
    if benchmark is not None:
        from factory.sources.benchmarks import load

        question = load(benchmark).read(row["doc"], 0)
        options = {**question.options, **({"mode": "auto"} if question.verifier == "math" else {})}
        return question.gold, question.verifier, options
    target = str(row.get("target") if row.get("target") is not None else "").strip()
    if "####" in target:
        target = target.rpartition("####")[2].strip().replace(",", "")
    return target or None, None, {}


def replayed(
    store: Any,
    logged: Sequence[Logged],
    *,
    model: str,
    benchmark: str,
    n_workers: int | None = None,
) -> Any:
    """Take a log's samples into a store, and evaluate them there as if they had been sampled.

    Args:
        store: where traces, verdicts and the evaluation go.
        logged: of one task; of several filters the first counts.
        model: under which name.
        benchmark: its name in tables.
        n_workers: processes for verification.

    Raises:
        UsageError: documents with different numbers of samples, or without a gold.
    """
    from distill.evaluate import evaluate
    from factory import plugins
    from factory.engines.replay import Engine
    from factory.records import Prompt, PromptSource, Sampling

    mine = [x for x in logged if x.group == logged[0].group]
    by_prompt: dict[str, list[Logged]] = {}
    for one in mine:
        by_prompt.setdefault(one.prompt, []).append(one)
    sizes = {len(v) for v in by_prompt.values()}
    if len(sizes) != 1:
        raise UsageError(f"documents have {sorted(sizes)} samples", "log one number for all")
    pairs, answers = [], {}
    for prompt_text, samples in by_prompt.items():
        prompt, first = Prompt.of(prompt_text), samples[0]
        verifier = first.verifier or plugins.verifier_of_gold(first.gold or "")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source=f"{benchmark}:lm-evaluation-harness",
            item=first.key.partition(".")[0], split="test", gold=first.gold, verifier=verifier,
            options={**plugins.file_options("verifiers", verifier), **first.options},
        )  # fmt: skip
        pairs.append((prompt, source))
        for j, sample in enumerate(samples):
            answers[f"{prompt.prompt_id}:{j}"] = {"completion": sample.text}
    settings = mine[0].sampling
    sampling = Sampling(
        temperature=float(settings.get("temperature") or 0.0),
        max_tokens=int(settings.get("max_gen_toks") or settings.get("max_tokens") or 256),
    )
    engine = Engine(model, answers=answers, revision="lm-evaluation-harness")
    return evaluate(
        store, pairs, engine, benchmark=benchmark, k=sizes.pop(), sampling=sampling,
        n_workers=n_workers,
    )  # fmt: skip


def log_rows(store: Any, found: Any) -> Iterator[dict[str, Any]]:
    """Yield an evaluation's samples as the harness would have logged them, one line a document.

    Args:
        store: where the texts are.
        found: an ``Evaluation`` with its samples.
    """
    from factory.records.text import trace_text
    from factory.stages.reading import read_pairs, texts_of

    made = [s for s in found.samples if s["status"] != "missing"]
    rows = texts_of(store, sorted(s["trace_id"] for s in made))
    texts = {r["trace_id"]: trace_text(r["prefill"], r["completion"]) for r in rows}
    wanted = {s["prompt_id"] for s in made}
    pairs = {
        source.prompt_id: (prompt, source)
        for prompt, source in read_pairs(store)
        if source.prompt_id in wanted and source.gold is not None
    }
    for number, prompt_id in enumerate(dict.fromkeys(s["prompt_id"] for s in made)):
        mine = [s for s in made if s["prompt_id"] == prompt_id]
        prompt, source = pairs[prompt_id]
        marks = [s["reward"] for s in mine if s["reward"] is not None]
        yield {
            "doc_id": number,
            "doc": {"item": source.item, "source": source.source, "gold": source.gold,
                    "verifier": source.verifier},
            "target": source.gold,
            "arguments": {"gen_args_0": {"arg_0": prompt.text, "arg_1": {}}},
            "resps": [[texts[s["trace_id"]] for s in mine]],
            "filtered_resps": [s["extracted"] or "" for s in mine],
            "filter": "none",
            "metrics": ["exact_match"],
            "exact_match": sum(marks) / len(marks) if marks else None,
            "statuses": [s["status"] for s in mine],
            "doc_hash": ids.text_hash(source.item), "prompt_hash": prompt_id,
            "target_hash": ids.text_hash(source.gold or ""),
        }  # fmt: skip
