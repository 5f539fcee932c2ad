"""The paper's tables and curves in the report of a seed, from the catalog with SQL.

Each is a named query (``catalogs/queries/r1_*.sql``), so that ``factory sql @r1_stages`` gives the
same without a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from catalogs import query
from factory.store import Store
from factory.store.wide import literal

QUERIES = {
    "r1_stages": ("Stages, as Table 3 (all seeds of the store)", False),
    "r1_students": ("Students, as Table 15 (all seeds of the store)", False),
    "r1_counts": ("Prompts and traces by stage and domain (all seeds of the store)", False),
    "r1_benchmark": ("A benchmark over the steps of RL", True),
    "r1_thinking": ("Thinking: length, and reflective words over those of step 0", True),
    "r1_language": ("Language consistency, with the reward for it and without", True),
    "r1_levels": ("Accuracy by level", True),
    "r1_aha": ('Candidate "aha" moments: `factory show TRACE` shows one', True),
}
"""Named query → what the report calls it, and whether its rows are those of RL runs."""


def catalog_lines(store: Store, rl_runs: Sequence[str]) -> list[str]:
    """Return the tables as Markdown; those without a row are left out.

    Args:
        store: whose catalog is asked; the score ``dynamics`` of its rollouts is there.
        rl_runs: runs of this seed; rows of other runs are left out, and of each run's steps six
            are shown.
    """
    lines = ["", "## From the catalog", ""]
    ours = ", ".join(literal(name) for name in rl_runs)
    for name, (title, is_of_runs) in QUERIES.items():
        text = query.text_of(f"@{name}")
        if is_of_runs and not rl_runs:
            continue
        if is_of_runs:
            text = f"SELECT * FROM (\n{text}\n) WHERE rl_run IN ({ours}) ORDER BY ALL"
        found = query.run(store, text, max_rows=None)
        rows = found.rows
        if name in ("r1_thinking", "r1_benchmark"):
            rows = [row for _, own in groupby(rows, lambda r: r[0]) for row in spread(list(own))]
        if rows:
            shown = replace(found, rows=rows).render("md")
            lines += [f"### {title}", "", f"`factory sql @{name}`", "", shown]
    return lines


def spread(rows: Sequence[Any]) -> list[Any]:
    """Return six rows, spread evenly from the first to the last.

    >>> spread(range(11))
    [0, 2, 4, 6, 8, 10]
    """
    return [rows[i] for i in sorted({round(i * (len(rows) - 1) / 5) for i in range(6)})]
