"""The main job in miniature: prompts → vLLM traces → verified, scored, filtered → release → SFT.

    make quickstart                      (or: python -m pipelines.quickstart [RECIPE] [--set k=v])

Read it from top to bottom. A base model is grown from nothing on a noisy bilingual crawl; it
answers prompts; verified, readable, consistent traces become a release; the base itself and a
smaller student are trained on them; all are evaluated on problems that none has seen. Run it again
and nothing is made twice; kill it anywhere, run it again, and it goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from distill.runs import die_with_parent
from factory.cli.arguments import add_common
from factory.cli.common import run_parsed, say, step, waiting
from factory.config import Config
from factory.errors import FactoryError

HERE = Path(__file__).parent


class Grown(Config):
    """A model to grow: a shape of ``pipelines/miniature/grow.py`` and the documents it reads.

    Attributes:
        shape: its name.
        n_documents: how many it reads.
    """

    shape: str
    n_documents: int


class Recipe(Config):
    """Values of the quickstart; control flow is in the script."""

    store: Path
    """Store directory."""
    name: str
    """Name of the releases and of the models' folder."""
    seed: int
    """Of all that is drawn."""
    base: Grown
    student: Grown
    n_prompts: int
    """Training prompts that traces are sampled for."""
    n_samples: int
    """Samples per prompt in the first round."""
    second_round_samples: int
    """Samples per prompt of the trained model in the second round."""
    rounds: int
    """1 or 2."""
    max_tokens: int
    """Most tokens of a completion."""
    temperature: float
    """Of the sampling."""
    filters: dict[str, str | None]
    """Name → SQL predicate over wide."""
    exact_duplicates: Literal["set", "prompt"] | None = "prompt"
    """As in ``Selection``: copies of a text that are kept."""
    cap_per_prompt: int
    """Most traces kept of one prompt."""
    n_eval: int
    """Evaluation problems; their numbers occur in no other split."""
    k_eval: int
    """Samples per evaluation problem at ``temperature``."""


def main(recipe: Recipe) -> None:
    """Run everything that is not done yet."""
    from distill.evaluate import evaluate, paired
    from distill.sft import SftConfig
    from factory import Policy, Sampling, Selection, Store, export, generate, release, score, select
    from factory.engines.vllm import Engine
    from factory.engines.vllm_start import prepare_environment
    from factory.stages.generate.progress import View
    from factory.stages.select import check_filters
    from factory.stages.verify import verify_shape
    from pipelines.miniature.problems import prompts
    from pipelines.quickstart_report import finish

    begun = time.monotonic()
    scores = ["length", "language", "repetition", "dynamics"]
    check_filters(recipe.filters, verifiers=["math", "format"], scores=scores)
    device = prepare_environment()
    say(f"device: {device} ({os.cpu_count()} cores); store: {recipe.store}")
    store = Store(recipe.store)
    models = recipe.store / "models" / recipe.name
    seed = recipe.seed

    # 1. A base model for the teacher and a smaller one for the student, grown side by side.
    step("grow two base models from nothing")
    base, student = models / "base", models / "student-base"
    lanes(
        ["pipelines.miniature.grow", base, f"shape={recipe.base.shape}",
         f"n_documents={recipe.base.n_documents}", f"seed={seed}"],
        ["pipelines.miniature.grow", student, f"shape={recipe.student.shape}",
         f"n_documents={recipe.student.n_documents}", f"seed={seed + 100}"],
    )  # fmt: skip

    train = list(prompts(n=recipe.n_prompts, seed=seed, split="train"))
    test = list(prompts(n=recipe.n_eval, seed=seed, split="eval"))
    sampled = Sampling(temperature=recipe.temperature, max_tokens=recipe.max_tokens)
    greedy = Sampling(temperature=0.0, max_tokens=recipe.max_tokens)

    # 2. Rounds: sample, verify while sampling, score, decide, release, train on what was kept.
    teacher, made, releases = base, [], []
    for number in range(1, recipe.rounds + 1):
        step(f"round {number}: sample {recipe.n_prompts} prompts from {teacher.name}")
        n = recipe.n_samples if number == 1 else recipe.second_round_samples
        with opened(Engine, teacher) as engine, contextlib.closing(View()) as view:
            generated = generate(
                store, train, engine, sampling=sampled, policy=Policy(n=n), on_progress=view
            )
        made.append(generated)
        verify_shape(store, "format", trace_ids=generated.universe["trace_id"])
        score(store, scores, trace_ids=generated.universe["trace_id"])

        step(f"round {number}: keep what is right, well-formed and in one language")
        wanted = [t for g in made for t in g.universe["trace_id"]]
        selected = select(
            store,
            Selection(filters=recipe.filters, exact_duplicates=recipe.exact_duplicates,
                      cap_per_prompt=recipe.cap_per_prompt,
                      prefer="reasoning_words, sample_index"),
            trace_ids=series(wanted), verifiers=["math", "format"], scores=scores,
        )  # fmt: skip
        release_name = f"{recipe.name}-round{number}"
        dataset = release(store, release_name, selected, recipe=recipe.model_dump(mode="json"))
        releases.append((dataset, selected))
        rows = models / f"{release_name}-{dataset.version}.jsonl"
        if not rows.exists():
            export(store, dataset, form="trl", out=str(rows))
        say(f"release {release_name}/{dataset.version}: {dataset.manifest['rows']} traces of "
            f"{dataset.manifest['prompts']} prompts, out of {len(wanted)}")  # fmt: skip

        step(f"round {number}: train on the release")
        teacher = models / f"round{number}"
        runs = [SftConfig(student="miniature", data=rows, out=teacher, base=str(base), seed=seed)]
        if number == recipe.rounds:
            out = models / "student"
            runs.append(
                SftConfig(student="miniature", data=rows, out=out, base=str(student), seed=seed)
            )
        lanes(*[sft_command(run) for run in runs])

    # 3. Evaluate everything on fresh problems, sampled and greedy.
    step(f"evaluate on {recipe.n_eval} fresh problems")
    rounds = [(f"round{n}", models / f"round{n}") for n in range(1, recipe.rounds + 1)]
    results = {}
    for label, folder in [
        ("base", base), *rounds, ("student-base", student), ("student", models / "student")
    ]:  # fmt: skip
        with opened(Engine, folder) as engine, contextlib.closing(View()) as view:
            results[label] = tuple(
                evaluate(store, test, engine, benchmark="miniature-eval", k=k, sampling=sampling,
                         on_progress=view)
                for sampling, k in ((sampled, recipe.k_eval), (greedy, 1))
            )  # fmt: skip
        pass_at_1 = results[label][0].pass_at_1
        say(f"{label}: sampled pass@1 {pass_at_1:.3f}" if pass_at_1 is not None else f"{label}: -")
    gains = {
        "teacher": paired(results["base"][0], results[f"round{recipe.rounds}"][0]),
        "student": paired(results["student-base"][0], results["student"][0]),
    }

    # 4. What came out.
    finish(store, recipe, made, releases, results, gains, seconds=time.monotonic() - begun)


def series(values: list[str]):  # type: ignore[no-untyped-def]
    """Return trace ids as the series that ``select`` takes."""
    import polars as pl

    return pl.Series("trace_id", values, dtype=pl.String)


@contextlib.contextmanager
def opened(engine_class, folder: Path) -> Iterator:  # type: ignore[no-untyped-def, type-arg]
    """Start an engine on a model folder and free it afterwards."""
    with waiting(f"engine vllm starts on {folder}"):
        engine = engine_class(str(folder))
    try:
        yield engine
    finally:
        engine.close()


def sft_command(config) -> list[object]:  # type: ignore[no-untyped-def]
    """Return the command line of a training run, for a lane."""
    return [
        "distill.sft", f"student={config.student}", f"data={config.data}", f"out={config.out}",
        f"base={config.base}", f"seed={config.seed}",
    ]  # fmt: skip


def lanes(*commands: list[object]) -> None:
    """Run modules as processes side by side, one core each; their lines are shown as they come.

    Raises:
        FactoryError: one of them failed; what it printed stands above.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TQDM_DISABLE": "1"},
            preexec_fn=die_with_parent,
        )
        for command in commands
    ]

    def show(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            say("  " + line.rstrip())

    threads = [threading.Thread(target=show, args=(p,)) for p in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process, command in zip(processes, commands, strict=True):
        if process.wait() != 0:
            raise FactoryError(
                f"{command[0]} ended with status {process.returncode}",
                "its last lines stand above; what was finished is kept, run the same command again",
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", nargs="?", default=str(HERE / "recipes" / "quickstart.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    add_common(parser)
    sys.exit(
        run_parsed(
            "quickstart",
            parser.parse_args(),
            lambda args: main(Recipe.load(args.recipe, overrides=args.overrides)),
        )
    )
