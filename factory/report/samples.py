"""The traces that a report shows: some that were kept, and one that each filter dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from factory.store.wide import literal

N_KEPT_SAMPLES, MAX_SAMPLES = 2, 12


@dataclass(frozen=True)
class Sample:
    """One trace shown in full (or shortened by whoever prints it)."""

    title: str
    trace_id: str
    facts: str
    prompt: str
    gold: str | None
    text: str


def samples_of(
    con: duckdb.DuckDBPyConnection, have: set[str], where: str, funnel: Sequence[dict[str, Any]]
) -> list[Sample]:
    """Two kept traces, and for each filter one that it dropped, alone where there is such a one."""
    consistency = "language_consistency" if "language_consistency" in have else "NULL"
    kinds = [("kept", "is_kept", "md5(trace_id)", N_KEPT_SAMPLES)]
    for item in funnel:
        if item["is_on"] and item["n_dropped"]:
            name = literal(item["filter"])
            dropped = (
                f"SELECT trace_id, len(dropped_by) AS n FROM release_decisions WHERE {where} "
                f"AND list_contains(dropped_by, {name})"
            )
            # A wrong answer says more than one that nobody verified.
            order = (
                f"(SELECT n FROM ({dropped}) AS d WHERE d.trace_id = u.trace_id) > 1, "
                "status IS NULL, md5(trace_id)"
            )
            chosen = f"trace_id IN (SELECT trace_id FROM ({dropped}))"
            kinds.append((f"dropped by {item['filter']}", chosen, order, 1))
    out: list[Sample] = []
    for title, condition, order, n in kinds[:MAX_SAMPLES]:
        result = con.execute(
            "WITH one AS (SELECT trace_id, prompt_id, source, item, model, status, reason, "
            f"n_completion_tokens, {consistency} AS consistency FROM u WHERE {condition} "
            f"ORDER BY {order} LIMIT {n}) SELECT one.*, p.text AS prompt, "
            "coalesce(t.prefill, '') || coalesce(t.completion, '') AS text, "
            "(SELECT gold FROM golds g WHERE g.prompt_id = one.prompt_id AND gold IS NOT NULL "
            "ORDER BY source_id LIMIT 1) AS gold FROM one JOIN trace_texts t USING (trace_id) "
            "LEFT JOIN prompt_texts p ON p.prompt_id = one.prompt_id"
        )
        names = [d[0] for d in result.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        out += [_sample(title, row) for row in rows]
    return out


def _sample(title: str, row: dict[str, Any]) -> Sample:
    facts = [row["status"] or "no verdict", row["reason"], row["model"]]
    facts += [f"{row['source']}/{row['item']}"] if row["source"] else []
    if row["n_completion_tokens"] is not None:
        facts.append(f"{row['n_completion_tokens']:,} tokens")
    if row["consistency"] is not None:
        facts.append(f"language consistency {row['consistency']:.3f}")
    return Sample(
        title=title,
        trace_id=row["trace_id"],
        facts=" · ".join(str(f) for f in facts if f),
        prompt=row["prompt"] or "",
        gold=row["gold"],
        text=row["text"],
    )
