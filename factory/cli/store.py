"""The verbs on a store, as the command line calls them."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from pathlib import Path
from typing import Any

from factory.cli.common import (
    Counting,
    assignments,
    columns,
    folder_of,
    funnel_lines,
    note,
    out,
    score_params,
    store_of,
    tell,
    waiting,
)  # fmt: skip
from factory.config import read_yaml
from factory.errors import CorruptError, UsageError
from factory.store import Store

# ---- facts in


def import_(args: Namespace) -> int:
    """``factory import FILE…``: existing traces become prompts, sources and traces."""
    from factory.sources import files, hub
    from factory.stages.importing import import_rows

    store = store_of(args, create=True)
    if args.dataset:
        rows = hub.rows(
            args.dataset,
            revision=args.revision,
            config=args.config,
            split=args.split or "train",
            streaming=args.limit is not None,
            limit=args.limit,
        )
    else:
        if not args.inputs:
            raise UsageError("nothing to import", "give files, or --dataset NAME")
        rows = files.rows(args.inputs, limit=args.limit)
    with Counting() as counting:
        done = import_rows(
            store,
            rows,
            source=args.source,
            model=args.model,
            shape=args.shape,
            mapping=columns(args.map),
            verifier=args.verifier,
            options=assignments(args.option, flag="--option"),
            split=None if args.dataset else args.split,
            language=args.language,
            on_count=counting,
        )
    skipped = "".join(f", {n} {why}" for why, n in sorted(done.skipped.items()))
    line = (
        f"{done.rows} rows: {done.traces} traces, {done.new} new, {done.known} known, "
        f"{done.duplicates} exact duplicates{skipped}; {done.with_gold} rows with a gold"
        + (f", {done.bad_golds.total()} of them bad golds" if done.bad_golds else "")
        + (f"; {done.corrected} sources corrected" if done.corrected else "")
        + (f"; more is known of {done.updated} known traces" if done.updated else "")
        + (f"; {done.replaced} earlier traces replaced" if done.replaced else "")
        + (f"; special tokens cut off {done.cut_tokens} completions" if done.cut_tokens else "")
    )
    shapes = [f"{label}: read as {shape}" for label, shape in done.shapes.items()]
    figures = {k: v for k, v in vars(done).items() if k != "trace_ids"}
    tell(args, figures, [*shapes, line])
    return 1 if done.skipped.keys() - {"forgotten"} else 0


def verify(args: Namespace) -> int:
    """``factory verify`` on a store: every verdict that is wanted and missing."""
    from factory.stages.verify import verify as run

    store = store_of(args)
    if args.diff:
        return _diff_verdicts(store, args.verifier)
    with Counting() as counting:
        counts = run(
            store, verifier=args.verifier, n_workers=args.workers, on_count=counting,
            skip_unready=not args.verifier,
        )  # fmt: skip
    lines = [
        f"{label}: {counts.new[label]} new verdicts, {counts.present[label]} were there"
        for label in sorted({*counts.new, *counts.present})
    ]
    lines.append(", ".join(f"{n} {status}" for status, n in counts.by_status.most_common()))
    lines += [
        f"{name}: no verdicts: {reason}; `factory check --gold` names its rows"
        for name, reason in counts.unready.items()
    ]
    tell(args, vars(counts), lines)
    return 1 if counts.unready else 0


def _diff_verdicts(store: Store, verifier: str | None) -> int:
    """Show what present versions change against the newest stored ones, of all verifiers or one."""
    from factory import plugins
    from factory.stages.verify import diff_verdicts

    tables = {t.removeprefix("verdicts.").partition("@")[0] for t in store.tables()}
    known = [name for name in plugins.names("verifiers") if name in tables]
    if not verifier and not known:
        note("the store holds no verdicts to compare")
    for name in [verifier] if verifier else known:
        label, changed, same = diff_verdicts(store, name)
        out(f"{label}: {same} verdicts the same, {len(changed)} changed")
        for row in changed[:50]:
            out(
                f"  {row['trace_id'][:12]}  {row['before']} -> {row['after']}  "
                f"{row['extracted'] or ''}"
            )
        if len(changed) > 50:
            out(f"  and {len(changed) - 50} more")
    return 0


def score(args: Namespace) -> int:
    """``factory score`` on a store: every score that is wanted and missing."""
    from factory import plugins
    from factory.stages.score import score as score_here
    from factory.stages.score_ray import score_on_ray

    names = args.scores.split(",") if args.scores else plugins.default_scores()
    store, params = store_of(args), score_params(args.param)
    with Counting() as counting:
        if args.on == "ray":
            counts = score_on_ray(store, names, params=params, on_count=counting)
        else:
            counts = score_here(
                store, names, params=params, n_workers=args.workers, on_count=counting
            )
    lines = []
    for label in sorted({*counts.new, *counts.present}):
        over = counts.too_long[label]
        long = f", {over} of them too long to measure: they hold nulls" if over else ""
        lines.append(f"{label}: {counts.new[label]} new, {counts.present[label]} were there{long}")
    tell(args, vars(counts), lines)
    return 1 if counts.too_long.total() else 0


# ---- decisions


def select(args: Namespace) -> int:
    """``factory select RECIPE``: show what a selection keeps and drops; writes nothing."""
    selected = _selected(args)
    kept = selected.keys.height
    lines = funnel_lines(selected.funnel, kept=kept)
    tell(args, {"kept": kept, "funnel": selected.funnel}, lines, on_out=True)
    return 0


def release(args: Namespace) -> int:
    """``factory release NAME RECIPE``: select and write the release."""
    from factory.stages.contents import contents_lines
    from factory.stages.release import release as write
    from factory.store.table import check_name

    check_name(args.name, what="release")
    selected = _selected(args)
    lines = funnel_lines(selected.funnel, kept=selected.keys.height)
    with waiting("the release is written"):
        made = write(store_of(args), args.name, selected, recipe=read_yaml(Path(args.recipe)))
    lines.append(f"release {made.name}/{made.version}: {made.manifest['rows']} traces "
                 f"in {made.folder}")  # fmt: skip
    lines += [f"  {line}" for line in contents_lines(made.manifest)]
    figures = {"release": made.name, "version": made.version, "rows": made.manifest["rows"],
               "folder": made.folder, "funnel": selected.funnel}  # fmt: skip
    tell(args, figures, lines, on_out=True)
    return 0


def _selected(args: Namespace) -> Any:
    from factory.stages.select import Selection
    from factory.stages.select import select as run

    recipe = Selection.load(args.recipe, overrides=args.overrides)
    with Counting() as counting:
        return run(store_of(args), recipe, on_count=counting)


def export(args: Namespace) -> int:
    """``factory export NAME --form F --out OUT``."""
    from factory.stages import exported
    from factory.stages.export import export as write
    from factory.stages.release import open_release

    store = store_of(args)
    release = open_release(store, args.name)
    with waiting(f"{args.out} is written"):
        n = write(store, release, form=args.form, out=args.out, splits=args.split or None)
    exported.note(store, release, form=args.form, out=args.out)
    lines = [f"{n} rows in {args.out}"]
    left = release.manifest["rows"] - n
    if left and not args.split and args.form != "dpo":
        lines.append(f"{left} rows are evaluation and left out; --split NAME writes those of one")
    figures = {"release": f"{release.name}/{release.version}", "rows": n, "left_out": left,
               "out": args.out}  # fmt: skip
    tell(args, figures, lines)
    return 0


def report(args: Namespace) -> int:
    """``factory report NAME``: the HTML report of a release; with ``--runs`` of trainings."""
    from catalogs.show import open_release
    from factory.report import write_report

    store = store_of(args)
    if args.runs == (args.name is not None):
        raise UsageError("what shall be reported?", "give the name of a release, or --runs")
    if args.runs:
        from factory.browse.runs import all_runs, evaluations
        from factory.report.runs import write_runs

        roots = [store.root / "models", *map(Path, args.models)]
        page = store.root / "reports" / "runs.html"
        out(str(write_runs(page, str(store.root), all_runs(store, roots), evaluations(store))))
        return 0
    with (
        waiting("the report is written"),
        open_release(store, args.name) as (con, name, version),
    ):
        page = write_report(con, name, version, folder=store.root / "reports").html
    out(str(page))
    return 0


def reviews(args: Namespace) -> int:
    """``factory reviews --out FILE | --from FILE``: what people said of traces."""
    from factory.stages.review import export_reviews, import_reviews

    if args.out:
        n = export_reviews(store_of(args), args.out)
        tell(args, {"reviews": n, "out": args.out}, [f"{n} reviews in {args.out}"])
    else:
        new, known = import_reviews(store_of(args), args.source)
        tell(args, {"new": new, "known": known}, [f"{new} new reviews, {known} were there"])
    return 0


# ---- keeping house


def check(args: Namespace) -> int:
    """``factory check``: hashes of every file; with ``--gold`` and ``--audit`` more."""
    from catalogs.show import audit
    from factory.stages.forget import unfinished
    from factory.stages.release_repair import check_releases, repair_releases
    from factory.store import check as check_files
    from factory.store import repair

    lines: list[str] = []
    if args.repair:
        lines += [*repair(Path(folder_of(args))), *repair_releases(store_of(args))]
    store = store_of(args)
    with waiting("files are checked"):
        bad = [*check_files(store), *check_releases(store)]
    n_damaged = len(bad)
    with contextlib.suppress(CorruptError):  # named above
        bad += [f"run {r} of `factory forget` did not end: the same verb alone goes on"
                for r in unfinished(store)]  # fmt: skip
    lines += bad
    if n_damaged and not args.repair:
        lines.append("`factory check --repair` brings back what is whole; nothing is deleted")
    if args.gold:
        from factory.stages.verify import check_golds

        with waiting("golds are checked"):
            checked, failing = check_golds(store)
        bad += [str(f) for f in failing]
        for row in failing:
            lines.append(f"gold of {row['source']}/{row['item']} does not pass its own verifier "
                         f"{row['verifier']}: {row['reason']}")  # fmt: skip
        lines.append(f"{checked} golds checked, {len(failing)} do not pass")
    if args.audit:
        with waiting("audits are run"):
            answers = list(audit(store))
        for answer in answers:
            lines.append(answer.render("table"))
            bad.append(answer.title)
    lines.append("all is well" if not bad else f"{len(bad)} findings")
    tell(args, {"findings": bad}, lines, on_out=True)
    if bad:  # standard output may go to a file
        note(f"{len(bad)} findings; the first: {bad[0]}")
    return 1 if bad else 0


def revoke(args: Namespace) -> int:
    """``factory revoke RUN``: a run's facts count as missing from now on; nothing is deleted."""
    store = store_of(args)
    known = [r["run_id"] for r in store.runs()]
    if args.run_id not in known:
        raise UsageError(
            f"no run {args.run_id!r}", '`factory sql "SELECT run_id, kind FROM runs"` lists them'
        )
    if args.run_id in store.excluded_runs():
        note(f"run {args.run_id} was revoked before; nothing is changed")
        return 0
    by = store.start_run("revoke", {"run": args.run_id})
    store.revoke(args.run_id, reason=args.reason, by=by)
    store.end_run(by, {})
    note(f"run {args.run_id} is revoked: its facts count as missing")
    return 0


def forget(args: Namespace) -> int:
    """``factory forget KEY…``: records and all that was made of them leave the store for good."""
    from catalogs import query
    from factory.stages.forget import forget as run
    from factory.stages.forget import unfinished

    store = store_of(args)
    keys = list(args.keys)
    if not keys and not args.where and not unfinished(store):
        raise UsageError("nothing is named to be forgotten", "give keys, or --where SQL")
    if args.where:
        table, key = ("prompt_sources", "prompt_id") if args.prompts else ("wide", "trace_id")
        # On a line of its own: a comment in the predicate must not swallow what follows.
        text = f"SELECT DISTINCT {key} FROM {table} WHERE (\n{args.where}\n)"
        named = [str(row[0]) for row in query.run(store, text, max_rows=None).rows]
        if not named and not keys:
            tell(args, {"prompts": [], "traces": []}, ["nothing fits; nothing is forgotten"])
            return 0
        keys += named
    done = run(store, keys, reason=args.reason, dry_run=args.dry_run)
    would = "would go" if args.dry_run else "are gone"
    lines = [f"{len(done.prompts)} prompts and {len(done.traces)} traces {would}"]
    lines += [f"  {n:>9,} rows of {name}" for name, n in sorted(done.rows.items()) if n]
    for name, new in done.releases.items():
        became = f"{name.partition('/')[0]}/{new}" if new else "no row is left"
        lines.append(f"  release {name}" + ("" if args.dry_run else f": {became}"))
    beyond = list(done.beyond)
    if done.releases:
        beyond.append("models that were trained on these releases")
    lines += [f"  not reached: {line}" for line in beyond]
    figures = {"prompts": done.prompts, "traces": done.traces, "rows": done.rows,
               "releases": done.releases, "not_reached": beyond}  # fmt: skip
    tell(args, figures, lines, on_out=True)
    return 0


def gc(args: Namespace) -> int:
    """``factory gc``: remove temporary files and parts that no manifest names."""
    freed = store_of(args).gc()
    tell(args, {"bytes_freed": freed}, [f"{freed:,} bytes freed"])
    return 0
