"""The work of ``distill grpo``, and prompts by file or source; imported when it is called."""

from __future__ import annotations

from argparse import Namespace

from distill.prompts import read_prompts
from factory.cli.common import say
from factory.errors import UsageError
from factory.records import Prompt, PromptSource
from factory.store import Store

Pair = tuple[Prompt, PromptSource]


def grpo(args: Namespace) -> int:
    """``distill grpo CONFIG``."""
    from distill.devices import world
    from distill.grpo import GrpoConfig
    from distill.grpo import grpo as train
    from factory.stages.select.evaluation import training_pairs

    config = GrpoConfig.load(args.config, overrides=args.overrides)
    # Processes that train together open the store one after the other: the first may have to make
    # it, and all have the same settings.
    with world().main_process_first():
        store = Store(args.store)
    found = pairs_of(args, store)
    pairs = training_pairs(store, found, splits=args.split)
    if len(pairs) < len(found) and world().is_main_process:
        why = "not of these splits" if args.split else "evaluation (test, validation, dev …)"
        say(f"{len(found) - len(pairs)} of {len(found)} prompts are left out: {why}")
    out = train(config, pairs, store, say=say, restart=args.restart)
    if world().is_main_process:
        say(f"model: {out}")
    return 0


def pairs_of(args: Namespace, store: Store) -> list[Pair]:
    """Return the prompts that ``--prompts`` or ``--source`` names.

    Raises:
        UsageError: neither or both, or nothing there.
    """
    if bool(args.prompts) == bool(args.source):
        raise UsageError("which prompts?", "give either --prompts FILE or --source NAME")
    if args.source:
        from factory.stages.reading import read_pairs

        pairs = read_pairs(store, args.source)
    else:
        pairs = read_prompts(args.prompts)
    if not pairs:
        raise UsageError("there are no prompts", "check --prompts or --source")
    return pairs
