"""Scores of stored traces: what is wanted and missing is computed, and appended.

Scores can be computed again at any time, so an interrupted run loses at most one batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from factory.records import Prompt, ids, score_form
from factory.records.text import trace_text
from factory.stages.reading import (
    OnCount,
    batches_of_texts,
    extracted_of,
    languages_of,
    prompt_messages,
)
from factory.stages.scorer import Scorer, frame_of, too_long
from factory.store import Store, Table

ADD_ROWS = 20_000
"""Rows that are written at once: scores can be computed again, so few and large parts are best."""


@dataclass
class ScoreCounts:
    """What a score run did, by ``score@VERSION``.

    Attributes:
        present: scores that were there before; new: scores appended.
        too_long: traces over ``scorer.MAX_TEXT_BYTES``, which were not measured.
    """

    run_id: str
    present: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    too_long: Counter[str] = field(default_factory=Counter)


def score(
    store: Store,
    scores: Sequence[str],
    *,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    trace_ids: pl.Series | None = None,
    on_count: OnCount | None = None,
) -> ScoreCounts:
    """Give every stored trace the scores that it lacks.

    Args:
        store: where traces are and scores go.
        scores: names or paths of scores.
        params: score → its parameters; they become part of the table's name.
        trace_ids: only these; None means all.
        on_count: called after every batch.
    """
    scorer = Scorer(scores, params)
    counts = ScoreCounts(
        store.start_run("score", {"scores": list(scores), "params": scorer.params})
    )
    present = store.table("traces").keys()
    if trace_ids is not None:
        present = present.filter(present.is_in(trace_ids.implode()))
    # Scores that lack the same traces go over them together: the texts are read once, and a score
    # that reads another's columns finds them made.
    groups: list[tuple[pl.Series, dict[str, Table]]] = []
    for name in scorer.modules:
        table = score_table(store, scorer, name)
        wanted = table.missing(present)
        counts.present[_label(table)] += len(present) - len(wanted)
        for other, tables in groups:
            if other.equals(wanted):
                tables[name] = table
                break
        else:
            groups.append((wanted, {name: table}))
    for wanted, tables in groups:
        if len(wanted):
            _score_group(store, scorer, wanted, tables, counts, on_count)
    store.end_run(counts.run_id, {"new": dict(counts.new), "failures": scorer.failures})
    return counts


def _score_group(
    store: Store,
    scorer: Scorer,
    wanted: pl.Series,
    tables: Mapping[str, Table],
    counts: ScoreCounts,
    on_count: OnCount | None,
) -> None:
    """Give the wanted traces the scores of several tables, batch by batch."""
    prompts, languages = prompt_messages(store), languages_of(store)
    extracted = extracted_of(store) if "extracted" in scorer.inputs else {}
    waiting: dict[str, list[pl.DataFrame]] = {name: [] for name in tables}

    def write(name: str) -> None:
        if waiting[name]:
            counts.new[_label(tables[name])] += tables[name].add(pl.concat(waiting[name]))
            waiting[name].clear()

    done = 0
    for rows in batches_of_texts(store, wanted, batch=2048):
        frame = frame_of(
            [trace_text(r["prefill"], r["completion"]) for r in rows],
            prompts=[Prompt(messages=prompts(r["prompt_id"])).text for r in rows],
            target_languages=[languages.get(r["prompt_id"]) for r in rows],
            extracted=[extracted.get(r["trace_id"]) for r in rows],
        )
        n_too_long = int(too_long(frame).sum())
        done += len(rows)
        keys = pl.DataFrame({"trace_id": [r["trace_id"] for r in rows]})
        for name, scored in scorer.each(frame, tables):
            label = _label(tables[name])
            counts.too_long[label] += n_too_long
            run_id = pl.lit(counts.run_id).alias("run_id")
            waiting[name].append(keys.hstack(scored).with_columns(run_id))
            if sum(f.height for f in waiting[name]) >= ADD_ROWS:
                write(name)
            if on_count is not None:
                on_count(label, done, len(wanted))
    for name in waiting:
        write(name)


def _label(table: Table) -> str:
    return table.name.removeprefix("scores.")


def score_table(store: Store, scorer: Scorer, name: str) -> Table:
    """Return the table of a score; parameters other than the defaults are part of its name."""
    params = scorer.params[name]
    suffix = f"+{ids.key_of(params)[:8]}" if params else ""
    return store.table(
        f"scores.{scorer.labels[name]}{suffix}", score_form(scorer.modules[name].WRITES)
    )
