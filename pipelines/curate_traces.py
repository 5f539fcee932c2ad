"""Existing traces → dataset: import, verify, score, filter, release, report, export.

    python -m pipelines.curate_traces traces.jsonl.gz … --out curated.jsonl
    python -m pipelines.curate_traces --dataset open-r1/OpenR1-Math-220k --out curated.parquet

Any file with a prompt, a completion (or reasoning and answer) and optionally a gold. No GPU, and no
network for files. Run it again and only what is missing is computed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field

from factory.cli.arguments import add_common
from factory.cli.common import Counting, assignments, columns, funnel_lines, run_parsed, waiting
from factory.config import Config

RECIPE = Path(__file__).parent / "recipes" / "curate.yaml"


class Recipe(Config):
    """Values of a curation."""

    store: Path
    """Store directory."""
    name: str
    """Name of the release."""
    scores: list[str]
    """Scores that are measured before anything is decided."""
    presets: list[str] = Field(default_factory=list)
    """Presets of ``factory.sets.filters``."""
    filters: dict[str, str | None]
    """Name → SQL predicate over wide; they come after the presets'."""
    disabled: list[str] = Field(default_factory=list)
    """As in a select recipe, like all that follows."""
    exact_duplicates: Literal["set", "prompt"] | None = "prompt"
    """One of each text of a prompt, or of the whole set; null keeps all copies."""
    near_duplicates: dict[str, object] | None = None
    """``threshold``, ``ngram``, ``within``."""
    decontaminate: dict[str, object] | None = None
    """``against`` (benchmark files), ``ngram``, ``mapping``, ``ignore_text``."""
    cap_per_prompt: int | None = None
    """Most traces kept of one prompt."""
    prefer: str = "sample_index"
    """Which of a prompt's traces come first."""


def main(recipe: Recipe, args: argparse.Namespace) -> None:
    """Curate ``args.inputs`` (or ``args.dataset``) by the recipe."""
    import polars as pl

    from catalogs.show import open_release
    from factory.report import write_report
    from factory.sets.filters import PRESETS
    from factory.sources import files, hub
    from factory.stages.contents import contents_lines
    from factory.stages.export import export
    from factory.stages.importing import import_rows
    from factory.stages.release import release
    from factory.stages.score import score
    from factory.stages.select import Selection, check_filters, select
    from factory.stages.verify import verify
    from factory.store import Store

    begun = time.monotonic()
    filters: dict[str, str | None] = {}
    for preset in recipe.presets:
        filters |= PRESETS[preset]
    filters |= recipe.filters
    check_filters(filters, verifiers=["math"], scores=recipe.scores)
    store = Store(recipe.store)

    # 1. Rows become prompts, sources and traces; each exact text once.
    if args.dataset:
        rows = hub.rows(args.dataset, revision=args.revision, split=args.split or "train")
    else:
        rows = files.rows(args.inputs)
    with Counting() as counting:
        imported = import_rows(
            store, rows, model=args.model, mapping=columns(args.map), verifier=args.verifier,
            options=assignments(args.option, flag="--option"),
            split=None if args.dataset else args.split, on_count=counting,
        )  # fmt: skip
    trace_ids = pl.Series("trace_id", imported.trace_ids, dtype=pl.String)
    skipped = "".join(f", {n} rows with {why}" for why, n in sorted(imported.skipped.items()))
    duplicates = f"{imported.duplicates} exact duplicates"
    print(f"{imported.rows} rows: {imported.traces} traces, {duplicates}{skipped}")

    # 2. Verdicts where there is a gold, scores for all.
    with Counting() as counting:
        verified = verify(store, trace_ids=trace_ids, on_count=counting)
    print("verdicts: " + (", ".join(f"{n} {s}" for s, n in verified.by_status.most_common())
                          or f"{sum(verified.present.values())} were there"))  # fmt: skip
    with Counting() as counting:
        score(store, recipe.scores, trace_ids=trace_ids, on_count=counting)

    # 3. Decide, release, show.
    selection = Selection.make(
        {
            "filters": filters,
            "disabled": recipe.disabled,
            "exact_duplicates": recipe.exact_duplicates,
            "near_duplicates": recipe.near_duplicates,
            "decontaminate": recipe.decontaminate,
            "cap_per_prompt": recipe.cap_per_prompt,
            "prefer": recipe.prefer,
        }
    )
    with Counting() as counting:
        selected = select(
            store, selection, trace_ids=trace_ids, verifiers=["math"], scores=recipe.scores,
            on_count=counting,
        )  # fmt: skip
    accounting(imported, selected)
    with waiting("the release is written"):
        made = release(store, recipe.name, selected, recipe=recipe.model_dump(mode="json"))
    print(f"\nrelease {made.name}/{made.version}: {made.manifest['rows']} traces in {made.folder}")
    for line in contents_lines(made.manifest):
        print(f"  {line}")
    which = f"{made.name}/{made.version}"
    with waiting("the report is written"), open_release(store, which) as (con, name, version):
        page = write_report(con, name, version, folder=store.root / "reports").html
    print(f"report: {page}")
    if args.out:
        with waiting(f"{args.out} is written"):
            n = export(store, made, form=args.form, out=args.out)
        print(f"export: {n} rows in {args.out} ({args.form})")
    seconds = time.monotonic() - begun
    print(f"{seconds:.1f} s, {imported.rows / seconds:,.0f} rows/s")


def accounting(imported, selected) -> None:  # type: ignore[no-untyped-def]
    """Print where every trace went: rows in = kept + dropped by reason."""
    reasons: Counter[str] = Counter()
    for kept, dropped, undefined in selected.decisions.select(
        "is_kept", "dropped_by", "undefined_by"
    ).iter_rows():
        if not kept:
            reasons[(dropped or [f"{undefined[0]} (undefined)"])[0]] += 1
    print("\nwhere they went (each dropped trace under its first reason)")
    total = imported.traces
    print(f"  {'traces in':28}{total:>8}")
    print(f"  {'exact duplicates':28}{-imported.duplicates:>8}")
    for reason, n in reasons.most_common():
        print(f"  {reason:28}{-n:>8}")
    print(f"  {'kept':28}{selected.keys.height:>8}")
    assert total - imported.duplicates - sum(reasons.values()) == selected.keys.height
    print("\nfunnel (every filter is evaluated for every trace)")
    for line in funnel_lines(selected.funnel, kept=selected.keys.height):
        print(f"  {line}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("inputs", nargs="*", metavar="FILE", help="files of traces")
    parser.add_argument("--recipe", default=str(RECIPE), help="YAML (default: recipes/curate.yaml)")
    parser.add_argument("--dataset", help="a Hugging Face dataset instead of files")
    parser.add_argument("--revision", help="its commit, tag or branch")
    parser.add_argument("--split", help="the dataset's (default: train); of files: what they are")
    parser.add_argument("--model", help="model of all traces (default: each row's)")
    parser.add_argument("--verifier", help="verifier of all golds (default: one that fits)")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--map", action="append", default=[], metavar="NAME=COLUMN")
    parser.add_argument("--out", metavar="OUT", help="also export, SFT-ready")
    parser.add_argument("--form", default="trl", help="form of the export (default: trl)")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", dest="overrides")
    add_common(parser)
    args = parser.parse_args()
    if not args.inputs and not args.dataset:
        parser.error("give files, or --dataset NAME")
    return args


if __name__ == "__main__":
    sys.exit(
        run_parsed(
            "curate_traces",
            parse(),
            lambda args: main(Recipe.load(args.recipe, overrides=args.overrides), args),
        )
    )
