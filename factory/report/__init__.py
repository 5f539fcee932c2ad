"""The report of a release: a self-contained HTML page and the same as Markdown.

The caller opens the catalog, since the report stands below nobody that could: ::

    with catalogs.show.open_release(store, "r1-reasoning") as (con, name, version):
        print(write_report(con, name, version, folder=store.root / "reports").html)
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import duckdb

from factory.report.data import ReportData, collect
from factory.report.html import number, page, percent
from factory.report.samples import Sample
from factory.rows.answers import Answer, md_text
from factory.store.durable import replacing

SHOWN_CHARS = 2000


class ReportPaths(NamedTuple):
    """Where a report was written."""

    html: Path
    markdown: Path


def write_report(
    con: duckdb.DuckDBPyConnection, name: str, version: str, *, folder: Path
) -> ReportPaths:
    """Write the report of a release as ``<folder>/<name>-<version>.html`` and ``.md``.

    Args:
        con: the catalog, up to date.
        name: of the release.
        version: of the release.
        folder: made where absent.

    Raises:
        UsageError: no such release.
        StoreError: it cannot be written.
    """
    data = collect(con, name, version)
    paths = ReportPaths(folder / f"{name}-{version}.html", folder / f"{name}-{version}.md")
    for target, text in ((paths.html, page(data)), (paths.markdown, markdown(data))):
        with replacing(target) as tmp:
            tmp.write_text(text, encoding="utf-8")
    return paths


def markdown(data: ReportData) -> str:
    """Return the report as Markdown."""
    t = data.totals
    lines = [f"# {data.name}/{data.version}", ""]
    if data.problem:
        lines += [f"> {md_text(data.problem)}", ""]
    lines += [
        f"- {number(t['n_kept'])} traces kept of {number(t['n_universe'])}, "
        f"{number(t['n_prompts_kept'])} prompts of {number(t['n_prompts'])}",
        f"- pass rate {percent(t['pass_rate'])} over {number(t['n_scored'])} scored; "
        f"{number(t['n_unscored'])} unscored, {number(t['n_unverified'])} unverified",
        f"- {number(t['tokens_per_kept'])} tokens made per kept trace; "
        f"{number(t['n_duplicates'])} exact duplicates; {number(t['n_truncated'])} truncated",
        "",
    ]
    if data.warnings:
        lines += ["## To know before training on it", ""]
        lines += [*(f"- {md_text(line)}" for line in data.warnings), ""]
    funnel = Answer(
        ("filter", "on", "in", "dropped here", "dropped in all", "only by this", "undefined",
         "predicate"),
        [
            (f["filter"], "yes" if f["is_on"] else "off", f["n_in"], f["n_dropped_here"],
             f["n_dropped"], f["n_dropped_only"], f["n_undefined"], f["predicate"])
            for f in data.funnel
        ],
    )  # fmt: skip
    rates = Answer(
        ("source", "model", "prompts", "scored", "pass rate", "95 % interval"),
        [
            (r.source, r.model, r.interval.n, r.n_scored, percent(r.interval.mean),
             f"{percent(r.interval.low)} … {percent(r.interval.high)}")
            for r in data.rates
        ],
    )  # fmt: skip
    for title, answer in (
        ("Funnel", funnel),
        ("What it is made of", data.makeup),
        ("Splits", data.splits),
        ("How thinking is marked", data.formats),
        ("Lengths", data.quantiles),
        ("Languages", data.languages),
        ("Pass rates", rates),
        ("Coverage by pass rate", data.coverage),
        ("Why traces were rejected", data.rejected),
        ("Cost", data.cost),
    ):
        if answer is not None:
            lines += [f"## {title}", "", replace(answer, title="").render("md")]
    lines += ["## Sample traces", ""]
    for sample in data.samples:
        lines += _sample(sample)
    return "\n".join(lines)


def _sample(sample: Sample) -> list[str]:
    text = sample.text
    if len(text) > SHOWN_CHARS:
        half = SHOWN_CHARS // 2
        text = f"{text[:half]}\n… {len(text) - SHOWN_CHARS:,} characters left out …\n{text[-half:]}"
    body = f"{sample.prompt}\n\n{text}"
    # Longer than any run of backticks inside, so that no text can end its own block.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", body)), default=0))
    return [f"### {sample.title}: {md_text(sample.facts)}", "", fence, body, fence, ""]
