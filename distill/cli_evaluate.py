"""The work of ``distill evaluate`` and ``distill benchmarks``; imported when one is called."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.cli_work import pairs_of
from factory.cli.common import say
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
        for line in listing():
            say(line)
        return 0
    if args.name in NOT_OFFERED:
        say(f"{args.name}: not offered: {NOT_OFFERED[args.name]}")
        return 0
    for line in _about(args.name):
        say(line)
    if args.show:
        left_out: Counter[str] = Counter()
        pairs = list(questions(args.name, args, left_out=left_out, limit=None))
        say(f"  questions       {len(pairs):,}{_out(left_out)}")
        prompt, source = pairs[0]
        say(f"  checked by      {source.verifier or 'a judge'} {dict(source.options) or ''}")
        say("--- as it is asked")
        say(_shown(prompt, args.model))
        say("--- gold")
        say(str(source.gold)[:2000])
    return 0


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
    name: str, args: Namespace, *, left_out: Counter[str], limit: int | None
) -> Iterator[Pair]:
    """Yield a benchmark's prompts as the command line asks for them."""
    from factory.sources.template import open_source

    options: dict[str, Any] = {
        "name": name, "path": args.file, "revision": args.dataset_revision, "limit": limit,
        "release": args.release, "since": args.since, "until": args.until,
        "seed": args.options_seed, "left_out": left_out,
    }  # fmt: skip
    if args.template:
        options["template"] = args.template
    yield from open_source("benchmark", options)


def _out(left_out: Counter[str]) -> str:
    if not left_out:
        return ""
    return f"; left out: {', '.join(f'{n} {why}' for why, n in left_out.most_common())}"


# ---- distill evaluate


def evaluate(args: Namespace) -> int:
    """``distill evaluate``."""
    from distill.evaluate import evaluate as measure
    from distill.evaluate import unique_pairs
    from factory.engines.base import identify
    from factory.engines.opening import Work, open_engine
    from factory.stages.generate import plan
    from factory.stages.generate.policy import Policy

    store = Store(args.store)
    name, k, pairs = _asked(args, store)
    sampling = Sampling(
        temperature=args.temperature, top_p=args.top_p, max_tokens=args.max_tokens,
        prefill=args.prefill,
    )  # fmt: skip
    pairs = unique_pairs(pairs)
    settings = _settings(args)
    if args.plan:
        who = identify(args.engine, args.model, settings)
        counts = plan(store, pairs, engine=who, sampling=sampling, policy=Policy(kind="fixed", n=k))
        say(f"{name}: {len(pairs)} prompts x k={k}; nothing was started")
        for key, value in counts.items():
            say(f"  {key.replace('_', ' '):28} {value:,}")
        return 0
    work = Work([prompt for prompt, _ in pairs], sampling)
    engine = open_engine(args.engine, args.model, settings, work=work)
    try:
        found = measure(
            store, pairs, engine, benchmark=name, k=k, sampling=sampling,
            allow_missing=args.allow_missing,
        )  # fmt: skip
    finally:
        engine.close()
    for line in found.lines():
        say(line)
    return 0


def _asked(args: Namespace, store: Store) -> tuple[str, int, list[Pair]]:
    """Return name, k and prompts of what is evaluated."""
    if not args.benchmark:
        name = args.source or Path(args.prompts or "").stem
        return name, args.k or 1, pairs_of(args, store)[: args.limit]
    from factory.sources.benchmarks import load

    benchmark = load(args.benchmark)
    if benchmark.needs_judge:
        raise UsageError(
            f"benchmark {args.benchmark!r} needs a judge",
            "sample it with `factory generate` (source: {kind: benchmark, name: …}), then "
            "`factory judge`",
        )
    left_out: Counter[str] = Counter()
    pairs = list(questions(args.benchmark, args, left_out=left_out, limit=args.limit))
    if left_out:
        say(f"{args.benchmark}: {len(pairs)} prompts{_out(left_out)}")
    return args.benchmark, args.k or benchmark.k, pairs


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
