"""What each filter is worth: the same small student trained with and without it.

    python -m pipelines.filter_effects pipelines/recipes/filter-effects.yaml
    python -m pipelines.filter_effects RECIPE --set selection=my-select.yaml --set sample=null
    python -m pipelines.filter_effects RECIPE --plan          what it would do; starts nothing

For any select recipe: one release with all its filters, one with none, one without each of them
(and, where asked, one with each alone). The same student is trained on each with the same settings,
on as many rows as the smallest release has (``equal``), on all that each has (``all``), or both,
and evaluated on problems that it has not seen. The table gives rows, pass@1, the difference to
"all filters" on the same problems, language consistency and tokens, over one or several seeds.

Releases, trainings and samples that are finished are not made again: kill it, run it again. Two
releases that hold the same rows are trained on once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from distill.launch import Launch
from factory.cli.arguments import add_common
from factory.cli.common import run_parsed, say, step
from factory.config import Config
from factory.errors import UsageError
from factory.stages.select import Selection
from pipelines.common import Engines, ModelOf, Pair, PromptSet, grown, run_sft
from pipelines.r1_recipe import Evaluation, PlanFigures, StudentOf

ALL, NONE, UNTRAINED = "all filters", "no filter", "nothing (its base)"
RowsMode = Literal["equal", "all"]


class Sample(Config):
    """Traces to make before anything is selected.

    Attributes:
        teacher: who makes them.
        prompts: what for.
        n_samples: samples per prompt.
        temperature, top_p, max_tokens: of the sampling.
        prefill: text that every completion begins with.
        seed: of the sampling.
    """

    teacher: ModelOf
    prompts: PromptSet
    n_samples: int
    temperature: float
    top_p: float = 1.0
    max_tokens: int
    prefill: str = ""
    seed: int = 0


class Recipe(Config):
    """Values of a comparison; control flow is in the script."""

    store: Path
    """Store directory."""
    name: str
    """Name of the releases and of the models' folder."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """Each seed has its own draw of rows, its own order of training and, where the student is grown
    here, its own base."""
    contrivances: tuple[str, ...] = ()
    """What must be said under the table."""
    launch: Launch | None = None
    """How a training is started; None trains in this process."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Options of the vLLM engine."""
    sample: Sample | None = None
    """None: the traces are in the store already, with their verdicts and scores."""
    selection: str | Selection
    """A select recipe, or the path of one."""
    always: tuple[str, ...] = ()
    """Filters that are never left out: without them the student cannot be trained."""
    each_alone: bool = False
    """Whether to train with each filter alone, too."""
    rows: tuple[RowsMode, ...] = ("equal",)
    """``equal``: as many rows for every student; ``all``: each release whole."""
    most_rows: int | None = Field(default=None, ge=1)
    """Rows of a training at most, in both modes."""
    verifiers: tuple[str, ...] = ("math", "format")
    """Verifiers whose columns the filters may name."""
    scores: tuple[str, ...] = ("length", "language", "repetition", "readability", "dynamics")
    """Scores likewise; they are measured where they are missing."""
    student: StudentOf
    prompts: PromptSet
    """To evaluate on."""
    evaluation: Evaluation
    plan: PlanFigures

    def selected(self) -> Selection:
        """Return the select recipe.

        Raises:
            ConfigError: its file is missing or does not fit.
        """
        return Selection.load(self.selection) if isinstance(self.selection, str) else self.selection


@dataclass(frozen=True)
class Variant:
    """One choice of filters; ``selection`` has the others disabled."""

    label: str
    selection: Selection


def variants(selection: Selection, *, always: Sequence[str], each_alone: bool) -> list[Variant]:
    """Return all filters, none, all but each, and each alone where asked.

    What the recipe itself has disabled stays so. Set steps (duplicates, contamination) count as
    filters; caps, mixtures and the like shape every variant alike.

    Raises:
        UsageError: there is no filter to leave out, or ``always`` names one that is not there.
    """
    shaping = ("cap_per_prompt", "diversity", "mixture", "max_rows")
    names = [s for s in selection.steps() if s not in selection.disabled and s not in shaping]
    stray = sorted(set(always) - set(names))
    if stray:
        raise UsageError(f"always names {', '.join(stray)}", f"there is {', '.join(names)}")
    toggled = [n for n in names if n not in always]
    if not toggled:
        raise UsageError("there is no filter to leave out", "add filters to the selection")

    def off(label: str, left_out: Sequence[str]) -> Variant:
        disabled = [*selection.disabled, *left_out]
        return Variant(label, selection.model_copy(update={"disabled": disabled}))

    out = [off(ALL, []), off(NONE, toggled)]
    if len(toggled) > 1:
        out += [off(f"without {n}", [n]) for n in toggled]
        if each_alone:
            out += [off(f"only {n}", [m for m in toggled if m != n]) for n in toggled]
    return out


@dataclass(frozen=True)
class Training:
    """One training: a variant's rows at a seed."""

    variant: str
    mode: RowsMode
    seed: int
    n_rows: int
    data: Path
    out: Path


def main(recipe: Recipe) -> None:
    """Make everything that is not there yet, then the table."""
    from factory.engines.vllm_start import prepare_environment
    from factory.store import Store
    from pipelines.filter_effects_results import Result, evaluated, write_table

    chosen = variants(recipe.selected(), always=recipe.always, each_alone=recipe.each_alone)
    say(f"filter_effects {recipe.name}: {prepare_environment()}, store {recipe.store}, "
        f"{len(chosen)} variants, seeds {', '.join(map(str, recipe.seeds))}")  # fmt: skip
    store = Store(recipe.store)
    folder = recipe.store / "models" / recipe.name
    engines = Engines(options=recipe.engine)

    universe = None
    if recipe.sample is not None:
        step("traces")
        universe = sample(store, recipe, recipe.sample, folder, engines)

    step("releases: with all filters, with none, without each")
    releases = {v.label: release_of(store, recipe, v, universe) for v in chosen}
    funnel_of = releases[ALL].manifest["filters"]

    step("trainings")
    bases = {
        seed: grown(recipe.student.base, out=folder / f"base-s{seed}", seed=seed + 100)
        for seed in recipe.seeds
    }
    plan = list(trainings(store, recipe, releases, folder))
    for at, one in enumerate(plan, start=1):
        say(f"{at}/{len(plan)} {one.variant}, {one.mode} rows ({one.n_rows}), seed {one.seed}")
        run_sft(
            student=recipe.student.student, overrides=recipe.student.overrides, data=one.data,
            base=bases[one.seed], out=one.out, seed=one.seed, launch=recipe.launch, engines=engines,
        )  # fmt: skip

    step("evaluation")
    pairs = recipe.prompts.pairs()
    models = {*bases.values(), *(str(one.out) for one in plan)}
    found = {m: evaluated(recipe, store, engines, pairs, m) for m in sorted(models)}
    results = [
        Result(UNTRAINED, mode, seed, 0, found[bases[seed]])
        for mode in recipe.rows
        for seed in recipe.seeds
    ]
    results += [Result(t.variant, t.mode, t.seed, t.n_rows, found[str(t.out)]) for t in plan]
    engines.close()
    for path in write_table(recipe, results, funnel_of, folder):
        say(f"table: {path}")


def sample(store: Any, recipe: Recipe, values: Sample, folder: Path, engines: Engines) -> Any:
    """Sample, verify and score the universe; returns its trace ids."""
    from factory.records import Sampling
    from factory.stages.generate import generate
    from factory.stages.generate.policy import Policy
    from factory.stages.score import score
    from factory.stages.verify import verify_shape

    teacher = grown(values.teacher, out=folder / "teacher", seed=values.seed)
    prompts: list[Pair] = values.prompts.pairs(seed=values.seed)
    made = generate(
        store, prompts, engines.get(teacher), policy=Policy(kind="fixed", n=values.n_samples),
        sampling=Sampling(temperature=values.temperature, top_p=values.top_p,
                          max_tokens=values.max_tokens, prefill=values.prefill),
    )  # fmt: skip
    universe = made.universe["trace_id"]
    verify_shape(store, options={"dialect": recipe.evaluation.dialect}, trace_ids=universe)
    score(store, list(recipe.scores), trace_ids=universe)
    say(f"{len(universe)} traces of {len(prompts)} prompts by {Path(teacher).name}")
    return universe


def release_of(store: Any, recipe: Recipe, variant: Variant, universe: Any) -> Any:
    """Return the release of a variant."""
    from factory.stages.release import release
    from factory.stages.select import select

    selected = select(
        store, variant.selection, trace_ids=universe, verifiers=recipe.verifiers,
        scores=recipe.scores,
    )  # fmt: skip
    made = release(store, f"{recipe.name}-{_slug(variant.label)}", selected)
    say(f"  {variant.label:32} {made.manifest['rows']:7} rows  {made.version}")
    return made


def trainings(
    store: Any, recipe: Recipe, releases: dict[str, Any], folder: Path
) -> Iterator[Training]:
    """Yield every training with its rows written; equal rows have equal folders."""
    from pipelines.filter_effects_results import write_rows

    smallest = min(r.manifest["rows"] for r in releases.values())
    for seed in recipe.seeds:
        for mode in recipe.rows:
            for label, release in releases.items():
                n = release.manifest["rows"] if mode == "all" else smallest
                n = min(n, recipe.most_rows or n)
                data = folder / "data" / f"{release.version}-{n}-s{seed}.jsonl"
                write_rows(store, release, data, n=n, seed=seed)
                yield Training(label, mode, seed, n, data, folder / f"{data.stem}")


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in label.lower())


def plan_lines(recipe: Recipe) -> Iterator[str]:
    """Yield what a run would do, without starting anything."""
    selection = recipe.selected()
    chosen = variants(selection, always=recipe.always, each_alone=recipe.each_alone)
    figures, mean = recipe.plan, recipe.plan.mean_completion_tokens
    yield f"plan of {recipe.name}: {len(chosen)} variants x {len(recipe.rows)} x "\
          f"{len(recipe.seeds)} seeds"  # fmt: skip
    for variant in chosen:
        off = ", ".join(variant.selection.disabled) or "nothing"
        yield f"  {variant.label:32} off: {off}"
    n_universe = None
    if recipe.sample is not None:
        options = recipe.sample.prompts.options
        n_prompts = int(options.get("n") or options.get("limit") or 0)
        n_universe = n_prompts * recipe.sample.n_samples
        yield f"sample: {n_universe:,} traces, about {n_universe * mean:,} tokens"
    else:
        yield f"universe: what {recipe.store} holds"
    most = [n for n in (n_universe, selection.max_rows, recipe.most_rows) if n is not None]
    if n_universe is not None and selection.cap_per_prompt is not None and recipe.sample:
        most.append(n_universe // recipe.sample.n_samples * selection.cap_per_prompt)
    n_trainings = len(chosen) * len(recipe.rows) * len(recipe.seeds)
    n_evaluated = (len(chosen) * len(recipe.rows) + 1) * len(recipe.seeds)
    options = recipe.prompts.options
    answers = n_evaluated * int(options.get("n") or options.get("limit") or 0) * recipe.evaluation.k
    trained = "unknown" if not most else f"at most {n_trainings * min(most) * mean:,} an epoch"
    yield f"train: {n_trainings} students, tokens {trained}"
    yield f"evaluate: {answers:,} answers, about {answers * mean:,} tokens"
    seconds = ((n_universe or 0) + answers) * mean / figures.generate_tokens_per_gpu_s
    hours = f"{seconds / 3600:.2f} {figures.unit}"
    yield f"sampling alone: {hours} (assumed rates); nothing was started"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    recipe = Recipe.load(args.recipe, overrides=args.overrides)
    if args.plan:
        for line in plan_lines(recipe):
            say(line)
        return
    main(recipe)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--plan", action="store_true", help="print what it would do, and stop")
    add_common(parser)
    sys.exit(run_parsed("filter_effects", parser.parse_args(), run))
