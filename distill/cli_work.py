"""The work of ``distill grpo`` and of reward models; imported when it is called."""

from __future__ import annotations

from argparse import Namespace

from distill.cli import tell_run
from distill.prompts import read_prompts
from factory.cli.common import remark, start_engine, tell
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
        remark(f"{len(found) - len(pairs)} of {len(found)} prompts are left out: {why}")
    out = train(config, pairs, store, say=remark, restart=args.restart)
    tell_run(args, out, f"model: {out}")
    return 0


def preferences(args: Namespace) -> int:
    """``distill preferences CONFIG``."""
    from distill.preferences import PreferencesConfig, judged_pairs, read_candidates, write_pairs
    from factory.cli.common import sampling_of

    config = PreferencesConfig.load(args.config, overrides=args.overrides)
    candidates = read_candidates(config.data)
    settings = dict(config.engine)
    kind, model = str(settings.pop("kind", "vllm")), settings.pop("model", None)
    if not isinstance(model, str):
        raise UsageError("the engine names no model", "give engine.model")
    engine = start_engine(kind, model, settings)
    try:
        found = judged_pairs(
            Store(args.store), candidates, engine, sampling=sampling_of(config.sampling, seed=None),
            n_judgements=config.n_judgements, min_delta=config.min_delta, balance=config.balance,
        )  # fmt: skip
    finally:
        engine.close()
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_pairs(config.out, found.pairs)
    figures = {
        "pairs": len(found.pairs), "candidates": found.n_candidates, "too_close": found.n_close,
        "without_judgements": found.n_missing, "left_out_for_length": found.n_for_length,
        "first_share": found.first_share, "out": str(config.out),
    }  # fmt: skip
    tell(args, figures, found.lines(), on_out=True)
    return 0 if found.pairs else 1


def reward_model(args: Namespace) -> int:
    """``distill reward-model CONFIG``."""
    from distill.reward_model import RewardModelConfig
    from distill.reward_model import reward_model as train

    config = RewardModelConfig.load(args.config, overrides=args.overrides)
    tell_run(args, train(config, say=remark, restart=args.restart))
    return 0


def measure(args: Namespace) -> int:
    """``distill measure MODEL``."""
    from pathlib import Path

    from distill.devices import has_cuda
    from distill.measure import Work, rates
    from factory.store.durable import write_json

    length = args.length or (8192 if has_cuda() else 256)
    try:
        work = Work(
            model=args.model, length=length, per_device=args.per_device, lora=args.lora,
            group=args.per_device, seconds=args.seconds / 3, steps=1000,
        )  # fmt: skip
        found = rates(work, say=remark)
    except ValueError as error:
        raise UsageError(str(error), "its config.json is read, weights are not") from None
    write_json(Path(args.out), found)
    line = f"{args.out}: give it to a recipe as plan.measured={args.out}"
    tell(args, {**found, "out": args.out}, [line], on_out=True)
    return 0 if all("error" not in phase for phase in found["phases"].values()) else 1


def check_prompts(args: Namespace) -> None:
    """Refuse neither or both of ``--prompts`` and ``--source``."""
    if bool(args.prompts) == bool(args.source):
        raise UsageError("which prompts?", "give either --prompts FILE or --source NAME")


def pairs_of(args: Namespace, store: Store) -> list[Pair]:
    """Return the prompts that ``--prompts`` or ``--source`` names.

    Raises:
        UsageError: neither or both, or nothing there.
    """
    check_prompts(args)
    if args.source:
        from factory.stages.reading import read_pairs

        pairs = read_pairs(store, args.source)
    else:
        pairs = read_prompts(args.prompts)
    if not pairs:
        raise UsageError("there are no prompts", "check --prompts or --source")
    return pairs
