"""The verbs on a store, as the command line calls them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.cli.files import columns, pairs, score_params
from factory.cli.main import DEFAULT_STORE
from factory.config import Config, read_yaml
from factory.errors import UsageError
from factory.store import Store


def store_of(args: Namespace, *, create: bool = False) -> Store:
    """Open the store that ``--store``, or FACTORY_STORE, names."""
    return Store(_folder(args), create=create)


def _folder(args: Namespace) -> str:
    return args.store or os.environ.get("FACTORY_STORE") or DEFAULT_STORE


@contextlib.contextmanager
def _to_generate(args: Namespace) -> Iterator[Store]:
    """Open the store, made where there is none; for a plan it is then gone afterwards."""
    folder = Path(_folder(args))
    has_something = any(folder.iterdir()) if folder.is_dir() else folder.exists()
    if has_something or not args.plan:
        yield store_of(args, create=True)
    else:
        with tempfile.TemporaryDirectory() as nothing:
            yield Store(nothing)


def out(text: str) -> None:
    """Print text that ends its own lines."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def note(text: str) -> None:
    """Print one line to standard error."""
    if text:
        sys.stderr.write(text.rstrip("\n") + "\n")


# ---- facts in


def import_(args: Namespace) -> int:
    """``factory import FILE…``: existing traces become prompts, sources and traces."""
    from factory.sources import files, hub
    from factory.stages.importing import import_rows

    store = store_of(args, create=True)
    mapping = columns(args.map)
    if args.dataset:
        named = hub.rows(
            args.dataset,
            revision=args.revision,
            config=args.config,
            split=args.split,
            mapping=mapping,
        )
    else:
        if not args.inputs:
            raise UsageError("nothing to import", "give files, or --dataset NAME")
        named = ((files.stem(path), n, row) for path, n, row in files.rows(args.inputs, mapping))
    done = import_rows(
        store,
        named,
        source=args.source,
        model=args.model,
        verifier=args.verifier,
        options=pairs(args.option, flag="--option"),
        language=args.language,
    )
    skipped = "".join(f", {n} {why}" for why, n in sorted(done.skipped.items()))
    note(
        f"{done.rows} rows: {done.traces} traces, {done.new} new, {done.known} known, "
        f"{done.duplicates} exact duplicates{skipped}; {done.with_gold} rows with a gold"
    )
    return 1 if done.skipped else 0


class GenerateRecipe(Config):
    """What ``factory generate`` does; ``--set key=value`` wins over the file."""

    source: dict[str, Any]
    """``kind`` (files, hub, procedural, store, or a .py path) and that source's own arguments."""
    engine: dict[str, Any]
    """``kind`` (vllm, openai, ray, replay), ``model``, and the engine's own arguments."""
    sampling: dict[str, Any]
    """Temperature, max_tokens, top_p, prefill …: fields of ``records.Sampling``."""
    policy: dict[str, Any]
    """``kind`` (fixed, until, adaptive) with its numbers."""
    verify: bool = True
    """Verify while sampling."""
    scores: tuple[str, ...] = ()
    """Scores to measure while sampling."""
    price: dict[str, float] | None = None
    """``per_million_prompt_tokens``, ``per_million_completion_tokens``, ``per_gpu_hour``."""


def generate(args: Namespace) -> int:
    """``factory generate RECIPE``: make the wanted traces that the store lacks."""
    recipe = GenerateRecipe.load(args.recipe, overrides=args.overrides)
    with _to_generate(args) as store:
        return _generate(args, recipe, store)


def _generate(args: Namespace, recipe: GenerateRecipe, store: Store) -> int:
    from factory.engines import opening
    from factory.stages.generate import check_wishes, plan
    from factory.stages.generate import generate as run
    from factory.stages.generate.policy import Policy
    from factory.stages.generate.progress import View
    from factory.stages.scorer import Scorer

    prompts = list(_pairs(store, recipe.source, limit=args.limit))
    if not prompts:
        raise UsageError("the source gives no prompt", "see `source` in the recipe")
    sampling = sampling_of(recipe.sampling, seed=args.seed)
    policy = Policy.make(recipe.policy, where="policy")
    price = _price(recipe.price)
    check_wishes(sampling, policy, verify=recipe.verify, max_cost=args.max_cost, price=price)
    Scorer(recipe.scores)  # a misspelt name is told before a model is loaded
    settings = dict(recipe.engine)
    kind, model = str(settings.pop("kind", "vllm")), settings.pop("model", None)
    if not isinstance(model, str):
        raise UsageError("the recipe's engine names no model", "give engine.model")
    if args.plan:
        found = plan(store, prompts, engine=opening.identify(kind, model, settings),
                     sampling=sampling, policy=policy)  # fmt: skip
        for name, value in found.items():
            out(f"{name.replace('_', ' '):28}{value:>14,}")
        if price is not None:
            cost = price.of(completion_tokens=found["completion_tokens_at_most"])
            out(f"{'cost of these tokens at most':28}{cost:>14,.2f}")
        return 0
    engine = opening.open_engine(kind, model, settings)
    view = View()
    try:
        with draining() as stop:
            made = run(
                store, prompts, engine, sampling=sampling, policy=policy, verify=recipe.verify,
                scores=recipe.scores,
                max_tokens=args.max_tokens, max_cost=args.max_cost, price=price,
                on_progress=view, on_prompt=_show_first, stop=stop,
            )  # fmt: skip
    finally:
        view.close()
        engine.close()
    p = made.progress
    if p.failures:
        why = ", ".join(f"{n} {kind}" for kind, n in sorted(p.failures.items()))
        sql = f"SELECT kind, message FROM failures WHERE run_id = '{made.run_id}'"
        note(f'{p.n_failed} requests were given up: {why}; `factory sql "{sql}"` says more')
    note(
        f"run {made.run_id}: {p.n_new} new traces, {p.n_have} were there, {made.missing} missing; "
        f"{p.n_completion_tokens:,} tokens in {p.seconds:.0f} s"
        + (f"; stopped: {made.stopped}" if made.stopped else "")
        + ("; the same command goes on from here" if made.missing else "")
    )
    if made.missing and made.stopped == "interrupted":
        return 130  # as after any Ctrl-C: what was to follow must not run
    return 1 if made.missing else 0


def _price(fields: dict[str, float] | None) -> Any:
    from factory.stages.generate.price import Price

    try:
        return None if fields is None else Price(**fields)
    except TypeError as error:
        raise UsageError(f"price: {error}", "see GenerateRecipe") from None


def _show_first(text: str) -> None:
    note(f"first prompt, as the model sees it: {text!r}")


def sampling_of(fields: dict[str, Any], *, seed: int | None) -> Any:
    """Return the sampling of a recipe; ``seed`` wins over its own."""
    from factory.records import Sampling

    if isinstance(fields.get("stop"), str):  # not its letters
        fields = {**fields, "stop": (fields["stop"],)}
    try:
        return Sampling(**{**fields, **({} if seed is None else {"seed": seed})})
    except TypeError as error:
        raise UsageError(f"sampling: {error}", "temperature and max_tokens are needed") from None
    except ValueError as error:
        raise UsageError(f"sampling: {error}", "temperature, top_p … are numbers") from None


def _pairs(store: Store, source: dict[str, Any], *, limit: int | None) -> Iterator[Any]:
    from factory import plugins
    from factory.stages.reading import read_pairs

    values = dict(source)
    kind = str(values.pop("kind", "files"))
    if kind == "store":
        found: Iterator[Any] = iter(read_pairs(store, values.get("name")))
    else:
        try:
            found = plugins.load("sources", kind).prompts(**values)
        except TypeError as error:
            raise UsageError(f"source {kind!r}: {error}", "see its docstring") from None
    for number, pair in enumerate(found):
        if limit is not None and number >= limit:
            return
        yield pair


@contextlib.contextmanager
def draining() -> Iterator[threading.Event]:
    """First Ctrl-C (or SIGTERM): ask nothing new, finish and keep; second: leave at once."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        note("\nfinishing what is in flight; press Ctrl-C again to leave at once")

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def verify(args: Namespace) -> int:
    """``factory verify`` on a store: every verdict that is wanted and missing."""
    from factory.stages.verify import verify as run

    store = store_of(args)
    if args.diff:
        return _diff_verdicts(store, args.verifier)
    counts = run(
        store, verifier=args.verifier, n_workers=args.workers, skip_unready=not args.verifier
    )
    for label in sorted({*counts.new, *counts.present}):
        note(f"{label}: {counts.new[label]} new verdicts, {counts.present[label]} were there")
    note(", ".join(f"{n} {status}" for status, n in counts.by_status.most_common()))
    for name, reason in counts.unready.items():
        note(f"{name}: no verdicts: {reason}; `factory check --gold` names its rows")
    return 1 if counts.unready else 0


def _diff_verdicts(store: Store, verifier: str | None) -> int:
    """Show what present versions change against the newest stored ones, of all verifiers or one."""
    from factory import plugins
    from factory.stages.verify import diff_verdicts

    tables = {t.removeprefix("verdicts.").partition("@")[0] for t in store.tables()}
    known = [name for name in plugins.names("verifiers") if name in tables]
    for name in [verifier] if verifier else known or ["math"]:
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

    names = args.scores.split(",") if args.scores else plugins.names("scores")
    run = score_on_ray if args.on == "ray" else score_here
    counts = run(store_of(args), names, params=score_params(args.param))
    for label in sorted({*counts.new, *counts.present}):
        over = counts.too_long[label]
        long = f", {over} of them too long to measure: they hold nulls" if over else ""
        note(f"{label}: {counts.new[label]} new, {counts.present[label]} were there{long}")
    return 1 if counts.too_long.total() else 0


# ---- decisions


def select(args: Namespace) -> int:
    """``factory select RECIPE``: show what a selection keeps and drops; writes nothing."""
    selected = _selected(args)
    _print_funnel(selected)
    return 0


def release(args: Namespace) -> int:
    """``factory release NAME RECIPE``: select and write the release."""
    from factory.stages.release import release as write

    selected = _selected(args)
    _print_funnel(selected)
    made = write(store_of(args), args.name, selected, recipe=read_yaml(Path(args.recipe)))
    out(f"release {made.name}/{made.version}: {made.manifest['rows']} traces in {made.folder}")
    return 0


def _selected(args: Namespace) -> Any:
    from factory.stages.select import Selection
    from factory.stages.select import select as run

    return run(store_of(args), Selection.load(args.recipe, overrides=args.overrides))


def _print_funnel(selected: Any) -> None:
    out(f"{'step':24}{'in':>9}{'drops':>9}{'only this':>11}{'undefined':>11}")
    for f in selected.funnel:
        off = "" if f["is_on"] else "  (off)"
        out(f"{f['name'][:23]:24}{f['n_in']:>9}{f['n_dropped']:>9}{f['n_dropped_only']:>11}"
            f"{f['n_undefined']:>11}{off}")  # fmt: skip
    out(f"{'kept':24}{selected.kept.height:>9}")


def export(args: Namespace) -> int:
    """``factory export NAME --form F --out OUT``."""
    from factory.stages.export import export as write
    from factory.stages.release import open_release

    store = store_of(args)
    n = write(store, open_release(store, args.name), form=args.form, out=args.out)
    note(f"{n} rows in {args.out}")
    return 0


def report(args: Namespace) -> int:
    """``factory report NAME``: the HTML report of a release."""
    from factory.report import write_report
    from factory.stages.release import open_release

    store = store_of(args)
    found = open_release(store, args.name)
    out(str(write_report(store, f"{found.name}/{found.version}").html))
    return 0


# ---- looking


def sql(args: Namespace) -> int:
    """``factory sql "SELECT …"`` or ``@query``."""
    from catalogs import show as show_module

    text, remark = show_module.sql(store_of(args), args.query, form=args.form, limit=args.limit)
    out(text)
    note(remark)
    return 0


def ls(args: Namespace) -> int:
    """``factory ls``."""
    from catalogs import show as show_module

    out(show_module.ls(store_of(args), form=args.form))
    return 0


def show(args: Namespace) -> int:
    """``factory show NAME``."""
    from catalogs import show as show_module

    out(show_module.show(store_of(args), args.name, form=args.form))
    return 0


def sample(args: Namespace) -> int:
    """``factory sample NAME``."""
    from catalogs import show as show_module

    out(
        show_module.sample(
            store_of(args),
            args.name,
            n=args.n,
            dropped_by=args.dropped_by,
            seed=args.seed,
            form=args.form,
        )
    )
    return 0


def diff(args: Namespace) -> int:
    """``factory diff A B``: what changed between two releases, and why."""
    from catalogs.diff import diff as compare

    out(compare(store_of(args), args.before, args.after, form=args.form))
    return 0


# ---- keeping house


def check(args: Namespace) -> int:
    """``factory check``: hashes of every file; with ``--gold`` and ``--audit`` more."""
    from catalogs import show as show_module

    store = store_of(args)
    bad = store.check()
    for line in bad:
        out(line)
    if args.gold:
        from factory.stages.verify import check_golds

        checked, failing = check_golds(store)
        bad += [str(f) for f in failing]
        for row in failing:
            out(f"gold of {row['source']}/{row['item']} does not pass its own verifier "
                f"{row['verifier']}: {row['reason']}")  # fmt: skip
        out(f"{checked} golds checked, {len(failing)} do not pass")
    if args.audit:
        for answer in show_module.audit(store):
            out(answer.render("table"))
            bad.append(answer.title)
    out("all is well" if not bad else f"{len(bad)} findings")
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


def gc(args: Namespace) -> int:
    """``factory gc``: remove temporary files and parts that no manifest names."""
    note(f"{store_of(args).gc():,} bytes freed")
    return 0
