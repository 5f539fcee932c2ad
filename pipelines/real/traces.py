"""The base's traces as two releases, and what models are worth on problems."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory import model_files
from factory.cli.common import say
from factory.metrics import Interval
from factory.records import Sampling
from factory.store import Store
from factory.store.durable import replacing
from pipelines.common import Engines, Pair, keys_of, once

# What must come out of the base for training to have a choice: with less, hardly a trace is right;
# with more, hardly a trace is wrong.
BAND = (0.05, 0.40)
PAIRS = (
    ("base", "sft"), ("base", "sft-uncurated"), ("sft-uncurated", "sft"), ("sft", "grpo"),
    ("base-zero", "zero"), ("zero", "grpo"),
)  # fmt: skip
"""Before → after, of the table of differences."""


def releases(
    store: Store, recipe: Any, pairs: Sequence[Pair], base: str, engines: Engines, *, folder: Path
) -> tuple[Path, Path]:
    """Sample the base; return the rows of a curated release and of an unchosen one of equal size.

    Args:
        store: where everything goes.
        recipe: of ``pipelines.real``.
        pairs: training problems.
        base: folder of the base.
        engines: by model.
        folder: of the seed; the rows go to ``traces`` in it.
    """
    out = folder / "traces"
    inputs = {
        "base": model_files.revision_of(base), "prompts": keys_of(pairs),
        "values": recipe.model_dump(
            mode="json",
            include={"n_samples", "temperature", "max_tokens", "filters", "cap_per_prompt",
                     "max_rows"},
        ),
    }  # fmt: skip
    made = once(
        out, kind="traces", inputs=inputs,
        work=lambda: _released(store, recipe, pairs, engines.get(base), out=out),
    )  # fmt: skip
    return out / made["curated"], out / made["uncurated"]


def _released(
    store: Store, recipe: Any, pairs: Sequence[Pair], engine: Any, *, out: Path
) -> dict[str, Any]:
    from factory.stages.export import export
    from factory.stages.generate import generate
    from factory.stages.generate.policy import Policy
    from factory.stages.release import release
    from factory.stages.select import Selection
    from pipelines.sample_and_select import decided, measured, say_funnel

    made = generate(
        store, pairs, engine, sampling=sampling_of(recipe), policy=Policy(n=recipe.n_samples)
    )
    universe = made.universe["trace_id"]
    measured(store, universe, dialect="think")
    figures: dict[str, Any] = {"n_samples": len(universe)}
    n_rows = recipe.max_rows
    for kind, filters in (("curated", recipe.filters), ("uncurated", {})):
        # What nobody curated keeps its copies, too.
        selection = Selection(
            filters=filters, cap_per_prompt=recipe.cap_per_prompt, max_rows=n_rows,
            exact_duplicates="prompt" if kind == "curated" else None,
        )  # fmt: skip
        selected = decided(store, selection, universe, pairs)
        name = f"{recipe.name}-{recipe.seed}-{kind}"
        dataset = release(store, name, selected, recipe=recipe.model_dump(mode="json"))
        n_rows = dataset.manifest["rows"]
        path = out / f"{kind}-{dataset.version}.jsonl"
        if not path.exists():
            export(store, dataset, form="trl", out=str(path))
        say(f"release {name}/{dataset.version}: {n_rows} of {len(universe)} traces")
        say_funnel(selected)
        figures |= {kind: path.name, "rows": n_rows}
    return figures


def sampling_of(recipe: Any) -> Sampling:
    """Return the sampling of a recipe."""
    return Sampling(temperature=recipe.temperature, max_tokens=recipe.max_tokens)


class Measured:
    """Evaluates models, each of them once.

    Args:
        store: where traces go.
        recipe: of ``pipelines.real``.
        engines: by model.
        folder: of the seed.
    """

    def __init__(self, store: Store, recipe: Any, engines: Engines, folder: Path) -> None:
        self.store, self.recipe, self.engines, self.folder = store, recipe, engines, folder

    def one(self, model: str, pairs: Sequence[Pair], *, k: int, benchmark: str) -> Any:
        """Return the evaluation of one model."""
        from distill.evaluate import evaluate

        return evaluate(
            self.store, pairs, self.engines.get(model), benchmark=benchmark, k=k,
            sampling=sampling_of(self.recipe), n_workers=1,
        )  # fmt: skip

    def difficulty(self, base: str, pairs: Sequence[Pair]) -> None:
        """Say the base's pass rate on development problems, and where it leaves no choice."""

        def work() -> dict[str, Any]:
            found = self.one(base, pairs, k=1, benchmark="story-sums-dev")
            levels = {s.level for _, s in pairs}
            rates = dict(found.per_prompt.select("prompt_id", "pass_rate").iter_rows())
            by_level = {
                f"steps_{level}": _mean([rates[p.prompt_id] for p, s in pairs if s.level == level])
                for level in sorted(levels, key=str)
            }
            return {"pass_rate": found.pass_at_1, **by_level}

        inputs = self._inputs({"base": base}, pairs)
        seen = once(self.folder / "difficulty", kind="difficulty", inputs=inputs, work=work)
        shown = ", ".join(
            f"{name} {value:.3f}" for name, value in seen.items()
            if name.startswith(("pass", "steps")) and value is not None
        )  # fmt: skip
        say(f"difficulty, {len(pairs)} development problems: {shown}")
        rate = seen["pass_rate"]
        if rate is not None and not BAND[0] <= rate <= BAND[1]:
            what = "steps or largest down" if rate < BAND[0] else "steps or largest up"
            say(f"  outside {BAND[0]:.0%} to {BAND[1]:.0%}: bring problems.{what}")

    def all(self, models: Mapping[str, str], pairs: Sequence[Pair]) -> None:
        """Evaluate models on the same problems; ``evaluation/results.json`` holds the figures."""
        from distill.evaluate import paired

        def work() -> dict[str, Any]:
            found = {}
            for label, model in models.items():
                found[label] = self.one(model, pairs, k=self.recipe.k_eval, benchmark="story-sums")
                say(f"  {label}: {found[label].pass_at_1:.3f}")
            results = {
                "n_problems": len(pairs),
                "models": {
                    label: {
                        name: _triple(e.metrics[name])
                        for name in ("pass@1", "completion_tokens", "truncated")
                    }
                    for label, e in found.items()
                },
                "differences": {
                    f"{before} → {after}": _triple(
                        paired(found[before], found[after]).differences["pass_rate"]
                    )
                    for before, after in PAIRS
                    if before in found and after in found
                },
            }
            with replacing(self.folder / "evaluation" / "results.json") as part:
                part.write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
            return {"n_models": len(found)}

        inputs = self._inputs(models, pairs)
        once(self.folder / "evaluation", kind="evaluation", inputs=inputs, work=work)

    def _inputs(self, models: Mapping[str, str], pairs: Sequence[Pair]) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "models": {label: model_files.revision_of(path) for label, path in models.items()},
            "prompts": keys_of(pairs),
            "sampling": [recipe.temperature, recipe.max_tokens, recipe.k_eval],
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _triple(interval: Interval) -> list[float | None]:
    return [interval.mean, interval.low, interval.high]
