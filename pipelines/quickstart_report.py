"""What the quickstart prints at its end: table, funnel, three traces, report, what to try next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from factory.cli.common import funnel_lines
from factory.stages.generate import Generated
from factory.stages.release import Release
from factory.stages.select import Selected
from factory.store import Store

NOTE = """\
The little world is contrived: in its crawl, notes that mix languages are more often careful, as web
text was for R1-Zero. Base models are grown from nothing in about a minute; only orderings count."""


def finish(
    store: Store,
    recipe: Any,
    made: Sequence[Generated],
    releases: Sequence[tuple[Release, Selected]],
    results: Mapping[str, Sequence[Any]],
    gains: Mapping[str, Any],
    *,
    seconds: float,
) -> None:
    """Print everything that the run found."""
    table(results, recipe)
    for name, gain in gains.items():
        d = gain.differences["pass_rate"]
        interval = f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
        print(
            f"gain of the {name}: {100 * d.mean:+.1f} points of sampled pass@1 {interval}, paired"
        )
    accepted(made, releases)
    print(NOTE)
    dataset, selected = releases[-1]
    funnel(selected, dataset)
    samples(store, selected)
    report(store, dataset)
    following(recipe, dataset)
    n_new = sum(g.progress.n_new for g in made)
    print(f"\n{n_new} training traces sampled in this run; {seconds:.0f} s in all")


WIDTHS = (14, 24, 9, 17, 15)


def row(*cells: str) -> None:
    """Print one row: the first cell to the left, the others to the right."""
    first, *others = cells
    print(first.ljust(WIDTHS[0]), *[c.rjust(w) for c, w in zip(others, WIDTHS[1:], strict=False)])


def table(results: Mapping[str, Sequence[Any]], recipe: Any) -> None:
    """Print one row per model."""
    print(
        f"\n{recipe.n_eval} fresh problems, {recipe.k_eval} x T={recipe.temperature} "
        "and greedy; 95 % intervals over problems"
    )
    row("model", "pass@1 sampled", "greedy", "in one language", "tokens/answer")
    for label, (sampled, greedy) in results.items():
        m = sampled.metrics
        p = m["pass@1"]
        language, tokens = m["language_consistency"].mean, m["completion_tokens"].mean
        cell = f"{p.mean:.3f} [{p.low:.3f}, {p.high:.3f}]"
        row(label, cell, number(greedy.pass_at_1), number(language), number(tokens, 1))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, or a dash where it is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"


def accepted(made: Sequence[Generated], releases: Sequence[tuple[Release, Selected]]) -> None:
    """Print what a kept trace cost."""
    for n, (generated, (dataset, _)) in enumerate(zip(made, releases, strict=True), start=1):
        tokens = generated.progress.n_completion_tokens
        kept = dataset.manifest["rows"]
        if tokens:
            print(f"round {n}: {tokens:,} tokens sampled, {kept} traces in the release")


def funnel(selected: Selected, dataset: Release) -> None:
    """Print what each filter did."""
    print(f"\nfunnel of {dataset.name}/{dataset.version}: {selected.decisions.height} traces")
    print(*funnel_lines(selected.funnel, kept=dataset.manifest["rows"]), sep="\n")


def samples(store: Store, selected: Selected) -> None:
    """Print three traces: kept, wrong, mixed language."""
    decisions = selected.decisions
    kinds = {
        "kept": decisions.filter(pl.col("is_kept")),
        "dropped as wrong": decisions.filter(pl.col("dropped_by").list.contains("right")),
        "dropped for mixing languages": decisions.filter(
            pl.col("dropped_by").list.contains("one_language")
            & ~pl.col("dropped_by").list.contains("right")
        ),
    }
    wanted = {k: f["trace_id"][0] for k, f in kinds.items() if f.height}
    texts: dict[str, tuple[str, str]] = {}
    prompts = dict(store.table("prompts").read(["prompt_id", "text"]).iter_rows())
    for batch in store.table("traces").batches(["trace_id", "prompt_id", "completion"]):
        for row in batch.filter(pl.col("trace_id").is_in(list(wanted.values()))).iter_rows():
            texts[row[0]] = (prompts[row[1]], row[2])
    for kind, trace_id in wanted.items():
        prompt, completion = texts[trace_id]
        print(f"\n{kind} ({trace_id[:8]})\n  prompt: {prompt}")
        print(f"  trace:  {' '.join(completion.split())}")


def report(store: Store, dataset: Release) -> None:
    """Write the HTML report of the last release and say where it is."""
    from catalogs.show import open_release
    from factory.report import write_report

    with open_release(store, f"{dataset.name}/{dataset.version}") as (con, name, version):
        paths = write_report(con, name, version, folder=store.root / "reports")
    print(f"\nreport: {paths.html}")


def following(recipe: Any, dataset: Release) -> None:
    """Print the next three commands."""
    where = "" if str(recipe.store) == "data" else f" --store {recipe.store}"
    print("\nnext:")
    query = (
        "SELECT level, count(*) AS n, avg(reward) AS pass_rate FROM wide "
        "WHERE split = 'train' GROUP BY level ORDER BY level"
    )
    print(f"  .venv/bin/factory sql{where} @funnel")
    print(f'  .venv/bin/factory sql{where} "{query}"')
    print(f"  .venv/bin/factory sample{where} {dataset.name} -n 2 --dropped-by one_language")
