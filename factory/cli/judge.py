"""``factory judge`` as the command line calls it."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from pydantic import Field

from factory.cli.common import draining, note, sampling_of, start_engine, store_of, tell
from factory.config import Config
from factory.errors import UsageError
from factory.stages.judge import Judging


class JudgeRecipe(Config):
    """What ``factory judge`` does; ``--set key=value`` wins over the file."""

    engine: dict[str, Any]
    """``kind`` (vllm, openai, ray, replay), ``model``, and the engine's own arguments."""
    sampling: dict[str, Any]
    """Temperature, max_tokens …: fields of ``records.Sampling``."""
    judge: dict[str, Any] = Field(default_factory=dict)
    """What is judged, and how well: universe, ask, with_reasoning, measure."""


def judge(args: Namespace) -> int:
    """``factory judge RECIPE``: measure a judge against the rules, then use it."""
    from factory.engines import base
    from factory.stages.generate.progress import View
    from factory.stages.judge import judge_store, plan_judging

    recipe = JudgeRecipe.load(args.recipe, overrides=args.overrides)
    judging = Judging.make(recipe.judge, where=f"{args.recipe}: judge")
    store = store_of(args)
    sampling = sampling_of(recipe.sampling, seed=None)
    settings = dict(recipe.engine)
    kind, model = str(settings.pop("kind", "vllm")), settings.pop("model", None)
    if not isinstance(model, str):
        raise UsageError("the recipe's engine names no model", "give engine.model")
    if args.plan:
        identity = base.identify(kind, model, settings)
        found = plan_judging(store, engine=identity, sampling=sampling, recipe=judging)
        lines = [f"{name.replace('_', ' '):34}{value:>14,}" for name, value in found.items()]
        tell(args, found, lines, on_out=True)
        return 0
    engine = start_engine(kind, model, settings)
    view = View()
    try:
        with draining() as stop:
            done = judge_store(
                store, engine, sampling=sampling, recipe=judging,
                max_tokens=args.max_tokens, stop=stop,
                on_progress=None if args.quiet else view,
            )  # fmt: skip
    finally:
        view.close()
        engine.close()
    m = done.measured
    if m.agreement is not None:
        accepts = "none to measure" if m.false_accept is None else f"{m.false_accept:.1%}"
        note(
            f"agreement with the rules {m.agreement:.1%} on {m.n} rows ({m.n_errors} more without "
            f"a judgement); false accepts {accepts}"
        )
    if done.shortfall:
        note(f"warning: {done.shortfall}")
    new = sum(done.by_status.values())
    line = (
        f"judge: {new} new verdicts, {done.present} were there; "
        + ", ".join(f"{n} {status}" for status, n in done.by_status.most_common())
        + f"; {done.n_empty} empty answers failed without it; {done.missing} replies missing"
        + (f"; stopped: {done.stopped}" if done.stopped else "")
    )
    figures = {"new": new, "present": done.present, "by_status": done.by_status,
               "agreement": m.agreement, "false_accept": m.false_accept, "measured": m.n,
               "empty": done.n_empty, "missing": done.missing, "shortfall": done.shortfall,
               "stopped": done.stopped}  # fmt: skip
    tell(args, figures, [line])
    return 1 if done.missing and not done.stopped else 0
