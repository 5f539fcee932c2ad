"""The work of ``distill evaluate`` and of the verbs about its results; imported when called."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distill.cli_work import check_prompts, pairs_of
from factory.cli.common import remark, say, start_engine, tell
from factory.config import apply_override
from factory.errors import UsageError
from factory.records import Prompt, PromptSource, Sampling
from factory.store import Store

Pair = tuple[Prompt, PromptSource]


# ---- distill benchmarks


def benchmarks(args: Namespace) -> int:
    """``distill benchmarks [NAME]``."""
    from factory.sources.benchmarks import NOT_OFFERED

    if args.name is None:
        tell(args, {"benchmarks": _facts(), "not_offered": NOT_OFFERED}, listing(), on_out=True)
        return 0
    if args.name in NOT_OFFERED:
        why = NOT_OFFERED[args.name]
        line = f"{args.name}: not offered: {why}"
        tell(args, {"not_offered": {args.name: why}}, [line], on_out=True)
        return 0
    figures: dict[str, Any] = dict(_facts([args.name])[0])
    lines = list(_about(args.name))
    if args.show:
        left_out: Counter[str] = Counter()
        pairs = list(questions(args.name, args, left_out=left_out, limit=None))
        prompt, source = pairs[0]
        asked, options = _shown(prompt, args.model), dict(source.options)
        figures |= {
            "questions": len(pairs), "left_out": left_out, "verifier": source.verifier,
            "options": options, "first": {"prompt": asked, "gold": source.gold},
        }  # fmt: skip
        lines += [
            f"  questions       {len(pairs):,}{_out(left_out)}",
            f"  checked by      {source.verifier or 'a judge'} {options or ''}",
            "--- as it is asked", asked, "--- gold", str(source.gold)[:2000],
        ]  # fmt: skip
    tell(args, figures, lines, on_out=True)
    return 0


def _facts(wanted: Sequence[str] = ()) -> list[dict[str, Any]]:
    from factory.sources.benchmarks import load, names

    return [
        {"benchmark": name, "of_paper": b.of_paper, "needs_judge": b.needs_judge, "k": b.k,
         "k_of_paper": b.k_of_paper, "template": b.template, "dataset": b.dataset,
         "licence": b.licence, "about": b.about, "headline": b.headline}
        for name, b in ((name, load(name)) for name in wanted or names())
    ]  # fmt: skip


def listing() -> Iterator[str]:
    """Yield the table of all benchmarks: whether each runs, and how it is asked."""
    from factory.sources.benchmarks import NOT_OFFERED, load, names

    yield f"{'benchmark':16} {'here':11} {'paper':5} {'k':>3}  {'template':12} what"
    for name in names():
        b = load(name)
        here = "needs judge" if b.needs_judge else "runs"
        k = f"{b.k}{'' if b.k_of_paper else '*'}"
        yield (
            f"{name:16} {here:11} {'yes' if b.of_paper else '':5} {k:>4} {b.template:12} {b.about}"
        )
    for name, why in NOT_OFFERED.items():
        yield f"{name:16} {'not offered':11} {'yes':5} {'':>4} {'':12} {why}"
    yield "* our choice: the paper names k for AIME, GPQA, MATH, Codeforces and LiveCodeBench alone"


def _about(name: str) -> Iterator[str]:
    from factory.sources.benchmarks import MAX_TOKENS, load
    from factory.sources.template import load as template

    b = load(name)
    yield f"{name}: {b.about}"
    where = f"{b.dataset}@{b.revision or 'main'} (the commit read is part of the source's name)"
    yield f"  data            {where}"
    yield f"  licence         {b.licence}; nothing of it comes with this package"
    if b.files:
        yield f"  releases        {', '.join(b.files)} (default {b.release})"
    yield f"  asked by        template {b.template}: {template(b.template).about}"
    yield (
        f"  sampling        k {b.k} ({'paper' if b.k_of_paper else 'ours'}), T 0.6, top-p 0.95, "
        f"{MAX_TOKENS:,} tokens (paper)"
    )
    yield f"  reported as     {b.headline}{' by a judge' if b.needs_judge else ''}"


def _shown(prompt: Prompt, model: str | None) -> str:
    if model is None:
        return "\n".join(f"[{m['role']}] {m['content']}" for m in prompt.messages)
    from transformers import AutoTokenizer

    from factory import model_files

    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    ids = model_files.render(
        tokenizer, prompt.messages, template=tokenizer.chat_template, prefill=""
    )
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def questions(
    name: str, args: Namespace, *, left_out: Counter[str], limit: int | None, asked: bool = True
) -> Iterator[Pair]:
    """Yield a benchmark's prompts as the command line asks for them, or the bare questions."""
    from factory.sources.template import open_source

    options: dict[str, Any] = {
        "name": name, "path": args.file, "revision": args.dataset_revision, "limit": limit,
        "release": args.release, "since": args.since, "until": args.until,
        "seed": args.options_seed, "left_out": left_out,
    }  # fmt: skip
    if not asked:
        options["asked"] = False
    elif args.template:
        options["template"] = args.template
    yield from open_source("benchmark", options)


def _out(left_out: Counter[str]) -> str:
    if not left_out:
        return ""
    return f"; left out: {', '.join(f'{n} {why}' for why, n in left_out.most_common())}"


# ---- distill evaluate


def evaluate(args: Namespace) -> int:
    """``distill evaluate``."""
    from distill.evaluate import unique_pairs
    from distill.evaluate.contamination import contamination
    from distill.evaluate.fitting import fit, on_all_devices
    from distill.evaluate.page import page
    from factory.stages.generate.price import Price

    models = _models(args)
    store = Store(args.store)
    name, k, pairs, bare = _asked(args, store)
    pairs = unique_pairs(pairs, judged=bool(args.benchmark))
    asked = Sampling(
        temperature=args.temperature, top_p=args.top_p, max_tokens=args.max_tokens,
        prefill=args.prefill, seed=args.seed,
    )  # fmt: skip
    try:
        price = Price(**{k: float(v) for k, _, v in (p.partition("=") for p in args.price)})
    except (TypeError, ValueError):
        raise UsageError(
            f"--price {' '.join(args.price)}", "KEY=NUMBER, e.g. per_million_completion_tokens=2"
        ) from None
    trained_on = contamination(args.trained_on, bare) if args.trained_on else None
    found, plans, lines = [], [], []
    for step, model in models:
        settings = on_all_devices(args.engine, _settings(args))
        sampling = fit(
            asked, [prompt for prompt, _ in pairs], engine=args.engine, model=model,
            settings=settings, context=args.context, say=remark,
        )  # fmt: skip
        if args.plan:
            plans.append(_plan(args, store, k, pairs, model, settings, sampling))
            lines.append(f"{name}: {len(pairs)} prompts x k={k}; nothing was started")
            lines += [f"  {key.replace('_', ' '):28} {n:,}" for key, n in plans[-1].items()]
            continue
        out = _measured(
            args, store, pairs, model, settings, benchmark=name, k=k, sampling=sampling,
            price=price if args.price else None, trained_on=trained_on,
            judged=bool(args.benchmark),
        )  # fmt: skip
        found.append((step, out))
        if args.log_samples:
            _log_samples(store, out, Path(args.log_samples), model)
        head = [] if step is None else [f"step {step}"]
        if not args.json:  # of many checkpoints, each is told when it is done
            say("\n".join([*head, *out.lines()]))
    if args.page and found:
        Path(args.page).write_text(page([out for _, out in found]), encoding="utf-8")
        lines.append(f"page: {args.page}")
    figures = [{"step": step, **_figures(out)} for step, out in found]
    tell(args, {"plans": plans} if args.plan else {"evaluations": figures}, lines, on_out=True)
    return 0


def _models(args: Namespace) -> list[tuple[int | None, str]]:
    """Return what is evaluated, with the step of a checkpoint.

    What costs nothing is checked here, before a data set is read: names, and that the models exist.
    """
    from distill.evaluate.fitting import checkpoints
    from factory.engines.opening import check_model
    from factory.sources.benchmarks import load

    if args.benchmark:
        load(args.benchmark)
    else:
        check_prompts(args)
    models: list[tuple[int | None, str]] = [(None, args.model)]
    if args.checkpoints:
        models = [(step, str(path)) for step, path in checkpoints(Path(args.model))]
    for _, model in models:
        check_model(args.engine, model, _settings(args))
    return models


def _figures(out: Any) -> dict[str, Any]:
    gaps = [{"kind": k, "reason": why, "samples": n} for (k, why), n in out.gaps.items()]
    return {**out.row(), "metrics": out.metrics, "pass_at": out.pass_at, "gaps": gaps}


def _log_samples(store: Store, out: Any, folder: Path, model: str) -> None:
    """Write samples as lm-evaluation-harness names and forms them."""
    from distill.evaluate.harness import log_rows
    from factory.rows import files

    target = folder / f"samples_{out.benchmark}_{Path(model).name}.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write_rows(str(target), [list(log_rows(store, out))])
    remark(f"samples: {target}")


def _plan(
    args: Namespace, store: Store, k: int, pairs: list[Pair], model: str,
    settings: dict[str, Any], sampling: Sampling,
) -> dict[str, int]:  # fmt: skip
    from factory.engines.base import identify
    from factory.stages.generate import plan
    from factory.stages.generate.policy import Policy

    who = identify(args.engine, model, settings)
    return plan(store, pairs, engine=who, sampling=sampling, policy=Policy(kind="fixed", n=k))


def _measured(
    args: Namespace, store: Store, pairs: list[Pair], model: str, settings: dict[str, Any],
    *, sampling: Sampling, **more: Any,
) -> Any:  # fmt: skip
    from distill.evaluate import evaluate as measure
    from factory.engines.opening import Work
    from factory.stages.generate.progress import View

    work = Work([prompt for prompt, _ in pairs], sampling)
    engine = start_engine(args.engine, model, settings, work=work)
    view = View()
    try:
        return measure(
            store, pairs, engine, sampling=sampling, allow_missing=args.allow_missing,
            on_progress=None if args.quiet else view, **more,
        )  # fmt: skip
    finally:
        view.close()
        engine.close()


def compare(args: Namespace) -> int:
    """``distill compare A B``."""
    from distill.evaluate.compare import compare as compared
    from distill.evaluate.compare import lines, recorded

    store = Store(args.store)
    before, after = (recorded(store, w, benchmark=args.benchmark) for w in (args.a, args.b))
    found = compared(before, after)
    figures = {
        "before": before.row, "after": after.row, "prompts": before.per_prompt.height,
        "differences": [{**vars(d), "verdict": d.verdict} for d in found],
    }  # fmt: skip
    tell(args, figures, lines(before, after, found), on_out=True)
    return 0


def regrade(args: Namespace) -> int:
    """``distill regrade LOG``."""
    from distill.evaluate.harness import is_log, replayed
    from distill.evaluate.regrade import differences, groups, kinds, read_graded, table
    from distill.evaluate.regrade import regrade as graded
    from factory.rows import files

    options: dict[str, Any] = {}
    for assignment in args.option:
        apply_override(options, assignment)
    logged = read_graded(
        args.log, benchmark=args.benchmark, by=args.by.split(",") if args.by else (),
        score=args.score, completion=args.completion,
    )  # fmt: skip
    rows = graded(logged, verifier=args.verifier, options=options)
    figures: dict[str, Any] = {"groups": groups(rows), "differences": kinds(rows)}
    lines = list(table(rows))
    if args.out:
        files.write_rows(args.out, [list(differences(rows))])
        lines.append(f"every difference: {args.out}")
    figures["rows"] = list(differences(rows, args.rows))
    for row in figures["rows"]:
        lines.append("")
        for name, value in row.items():
            lines.append(f"  {name:7} {value!r}" if name == "end" else f"  {name:7} {value}")
    if args.store:
        first = next(iter(files.read_rows(args.log)))
        if not isinstance(first, dict) or not is_log(first) or not args.model:
            raise UsageError(
                "only a log of lm-evaluation-harness is taken into a store",
                "give --store and --model with a samples_….jsonl",
            )
        name = args.benchmark or logged[0].group[0]
        taken = replayed(Store(args.store), logged, model=args.model, benchmark=name)
        figures["evaluation"] = _figures(taken)
        lines += taken.lines()
    tell(args, figures, lines, on_out=True)
    return 0


def winrate(args: Namespace) -> int:
    """``distill winrate FILE``."""
    from distill.evaluate.judged import read_judgements, win_rate

    found = win_rate(read_judgements(_mappings(args.file), args.model))
    tell(args, {"model": args.model, **vars(found)}, found.lines(), on_out=True)
    return 0


def rating(args: Namespace) -> int:
    """``distill rating FILE``."""
    from distill.evaluate.judged import ratings

    found = ratings(_mappings(args.file))
    tell(args, vars(found), found.lines(), on_out=True)
    return 0


def _mappings(path: str) -> Iterator[dict[str, Any]]:
    from factory.rows import files

    files.check_input(path)
    for number, row in enumerate(files.read_rows(path), start=1):
        if not isinstance(row, dict):
            raise UsageError(f"{path} line {number} is malformed", "correct the file")
        yield row


def _asked(args: Namespace, store: Store) -> tuple[str, int, list[Pair], dict[str, str]]:
    """Return name, k and prompts of what is evaluated, and each prompt's bare question."""
    if not args.benchmark:
        name = args.source or Path(args.prompts or "").stem
        pairs = pairs_of(args, store)[: args.limit]
        return name, args.k or 1, pairs, {p.prompt_id: p.text for p, _ in pairs}
    from factory.sources.benchmarks import load

    benchmark = load(args.benchmark)
    left_out: Counter[str] = Counter()
    pairs = list(questions(args.benchmark, args, left_out=left_out, limit=args.limit))
    if left_out:
        remark(f"{args.benchmark}: {len(pairs)} prompts{_out(left_out)}")
    bare: dict[str, str] = {}
    if args.trained_on:
        alone = questions(args.benchmark, args, left_out=Counter(), limit=args.limit, asked=False)
        bare = {p.prompt_id: q.text for (p, _), (q, _) in zip(pairs, alone, strict=True)}
    return args.benchmark, args.k or benchmark.k, pairs, bare


def _settings(args: Namespace) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if args.revision:
        settings["revision"] = args.revision
    if args.chat_template:
        plain = args.chat_template == "plain"
        text = "plain" if plain else Path(args.chat_template).read_text(encoding="utf-8")
        settings["chat_template"] = text
    for assignment in args.engine_option:
        apply_override(settings, assignment)
    return settings
