"""``factory generate`` as the command line calls it."""

from __future__ import annotations

import contextlib
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.cli.common import (
    draining,
    folder_of,
    note,
    sampling_of,
    start_engine,
    store_of,
    tell,
)
from factory.config import Config
from factory.errors import UsageError
from factory.store import Store


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


@contextlib.contextmanager
def _to_generate(args: Namespace) -> Iterator[Store]:
    """Open the store, made where there is none; for a plan it is then gone afterwards."""
    folder = Path(folder_of(args))
    has_something = any(folder.iterdir()) if folder.is_dir() else folder.exists()
    if has_something or not args.plan:
        yield store_of(args, create=True)
    else:
        with tempfile.TemporaryDirectory() as nothing:
            yield Store(nothing)


def generate(args: Namespace) -> int:
    """``factory generate RECIPE``: make the wanted traces that the store lacks."""
    recipe = GenerateRecipe.load(args.recipe, overrides=args.overrides)
    with _to_generate(args) as store:
        return _generate(args, recipe, store)


def _generate(args: Namespace, recipe: GenerateRecipe, store: Store) -> int:
    from factory.engines import base, opening
    from factory.stages.generate import check_wishes, plan
    from factory.stages.generate import generate as run
    from factory.stages.generate.policy import Policy
    from factory.stages.generate.progress import View
    from factory.stages.scorer import Scorer

    # What costs nothing is checked before a source is read and a model loaded.
    sampling = sampling_of(recipe.sampling, seed=args.seed)
    policy = Policy.make(recipe.policy, where="policy")
    price = _price(recipe.price)
    check_wishes(sampling, policy, verify=recipe.verify, max_cost=args.max_cost, price=price)
    Scorer(recipe.scores)
    settings = dict(recipe.engine)
    kind, model = str(settings.pop("kind", "vllm")), settings.pop("model", None)
    if not isinstance(model, str):
        raise UsageError("the recipe's engine names no model", "give engine.model")
    opening.check_model(kind, model, settings)
    prompts = _prompts(store, recipe.source, limit=args.limit)
    if args.plan:
        found = plan(store, prompts, engine=base.identify(kind, model, settings),
                     sampling=sampling, policy=policy)  # fmt: skip
        lines = [f"{name.replace('_', ' '):28}{value:>14,}" for name, value in found.items()]
        cost = {}
        if price is not None:
            cost["cost_at_most"] = price.of(completion_tokens=found["completion_tokens_at_most"])
            lines.append(f"{'cost of these tokens at most':28}{cost['cost_at_most']:>14,.2f}")
        tell(args, {**found, **cost}, lines, on_out=True)
        return 0
    work = opening.Work([prompt for prompt, _ in prompts], sampling)
    engine = start_engine(kind, model, settings, work=work)
    view = View()
    try:
        with draining() as stop:
            made = run(
                store, prompts, engine, sampling=sampling, policy=policy, verify=recipe.verify,
                scores=recipe.scores,
                max_tokens=args.max_tokens, max_cost=args.max_cost, price=price,
                on_progress=None if args.quiet else view, on_prompt=_show_first, stop=stop,
            )  # fmt: skip
    finally:
        view.close()
        engine.close()
    p = made.progress
    if p.failures:
        why = ", ".join(f"{n} {kind}" for kind, n in sorted(p.failures.items()))
        sql = f"SELECT kind, message FROM failures WHERE run_id = '{made.run_id}'"
        note(f'{p.n_failed} requests were given up: {why}; `factory sql "{sql}"` says more')
    line = (
        f"run {made.run_id}: {p.n_new} new traces, {p.n_have} were there, {made.missing} missing; "
        f"{p.n_completion_tokens:,} tokens in {p.seconds:.0f} s"
        + (f"; stopped: {made.stopped}" if made.stopped else "")
        + ("; the same command goes on from here" if made.missing else "")
    )
    tell(args, {"run_id": made.run_id, "missing": made.missing, "stopped": made.stopped, **vars(p)},
         [line])  # fmt: skip
    if made.missing and made.stopped == "interrupted":
        return 130  # as after any Ctrl-C: what was to follow must not run
    return 1 if made.missing else 0


def _prompts(store: Store, source: dict[str, Any], *, limit: int | None) -> list[Any]:
    prompts = list(_pairs(store, source, limit=limit))
    if not prompts:
        raise UsageError("the source gives no prompt", "see `source` in the recipe")
    gone = store.forgotten()
    n_gone = sum(gone.has_prompt(p.prompt_id, p.text) for p, _ in prompts) if gone else 0
    note(f"{n_gone} prompts were forgotten and are left out" if n_gone else "")
    return prompts


def _price(fields: dict[str, float] | None) -> Any:
    from factory.stages.generate.price import Price

    try:
        return None if fields is None else Price(**fields)
    except TypeError as error:
        raise UsageError(f"price: {error}", "see GenerateRecipe") from None


def _show_first(text: str) -> None:
    note(f"first prompt, as the model sees it: {text!r}")


def _pairs(store: Store, source: dict[str, Any], *, limit: int | None) -> Iterator[Any]:
    from factory.sources.template import asked, open_source
    from factory.stages.reading import read_pairs

    values = dict(source)
    kind = str(values.pop("kind", "files"))
    if kind == "store":
        found: Iterator[Any] = iter(read_pairs(store, values.get("name")))
        if values.get("template") is not None:
            found = asked(found, str(values["template"]))
    else:
        found = open_source(kind, values)
    for number, pair in enumerate(found):
        if limit is not None and number >= limit:
            return
        yield pair
