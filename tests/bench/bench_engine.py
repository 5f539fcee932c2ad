"""The whole of generate + verify + score beside plain ``LLM.generate``, on one vLLM engine.

    python -m pipelines.miniature.grow /tmp/base shape=base
    python tests/bench/bench_engine.py pairs /tmp/base [--pairs 10] [--prompts 250]
    python tests/bench/bench_engine.py sweep SMOLLM2 [--prompts 16] [--tokens 64]
    python tests/bench/bench_engine.py record /tmp/base STORE [--prompts 600]

``pairs``: both sides ask for the same samples of the same prompts with the same settings and the
same seeds; the seed base changes with every pair, the order within a pair alternates, and the
prefix cache is emptied before each side. Ours includes every commit, sealing and the scores;
scores and verifiers are loaded before. ``engine_cpu`` is that of the engine's process, ``cpu`` that
of its workers, too (the scores' process, the verifiers' pool).
``sweep``: ``LLM.generate`` at several settings of the CPU build and ours at its own, each in a
process of its own; what is said is ours over the best of the others.
``record``: 16 verified samples per prompt, for ``bench_generate.py policies --store``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from factory.engines.base import Request
from factory.engines.vllm import Engine
from factory.engines.vllm_start import prepare_environment
from factory.records import Sampling
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.generate.progress import View
from factory.store import Store

SAMPLING = Sampling(temperature=0.7, max_tokens=128)
SCORES = ["length", "language", "readability", "repetition", "dynamics"]
N = 8
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s() -> float:
    """CPU seconds of this process and its living children."""
    total = time.process_time()
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(x) for x in fields[11:15]) / _TICKS
    return total


def plain(engine: Engine, some: list[Any], sampling: Sampling) -> int:
    """What a user of vLLM writes: all requests to ``LLM.generate``, seeds as ours."""
    from vllm import SamplingParams

    from factory.records import ids

    prompts, params = [], []
    common = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens,
              "skip_special_tokens": False, "spaces_between_special_tokens": False}  # fmt: skip
    for prompt, _ in some:
        keys = ids.trace_ids(prompt_id=prompt.prompt_id, model=engine.model,
                             revision=engine.revision, sampling_id=sampling.sampling_id,
                             n=N)  # fmt: skip
        request = Request(trace_id=keys[0], prompt_id=prompt.prompt_id, messages=prompt.messages,
                          model=engine.model, revision=engine.revision, sampling=sampling,
                          sampling_id=sampling.sampling_id, sample_index=0)  # fmt: skip
        tokens = {"prompt_token_ids": engine.render(request)}
        for key in keys:
            prompts.append(tokens)
            params.append(SamplingParams(**common, seed=ids.seed_of(base=sampling.seed,
                                                                    trace_id=key)))  # fmt: skip
    out = engine.llm.generate(prompts, params, use_tqdm=False)
    return sum(len(o.outputs[0].token_ids) for o in out)


def ours(engine: Engine, some: list[Any], sampling: Sampling, store: Store) -> int:
    """The same through the factory: committed, verified and scored."""
    made = generate(store, some, engine, sampling=sampling, policy=Policy(n=N), scores=SCORES)
    assert made.missing == 0
    return made.progress.n_completion_tokens


SWEPT = [
    {"max_num_seqs": 32}, {"max_num_seqs": 64}, {"max_num_seqs": 128}, {"max_num_seqs": 256},
    {"max_num_seqs": 256, "args": {"block_size": 16}},
    {"max_num_seqs": 256, "args": {"block_size": 128}},
    {"max_num_seqs": 256, "args": {"enable_prefix_caching": False}},
]  # fmt: skip


def sweep(model: str, n_prompts: int, tokens: int) -> None:
    """Say how long ``LLM.generate`` takes at each setting, and how long ours does."""
    took: dict[str, float] = {}
    for settings in (None, *SWEPT, None):
        words = [sys.executable, __file__, "one", model, json.dumps(settings)]
        words += ["--prompts", str(n_prompts), "--tokens", str(tokens)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        name = "ours, no setting" if settings is None else json.dumps(settings)
        seconds = float(done.stdout.splitlines()[-1])
        took[name] = min(seconds, took.get(name, seconds))
        print(f"{name}: {seconds:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    own = took.pop("ours, no setting")
    best = min(took, key=took.__getitem__)
    print(f"ours / best of LLM.generate ({best}): {own / took[best]:.3f}")


def one(model: str, settings: dict[str, Any] | None, n_prompts: int, tokens: int) -> None:
    """Print the seconds of one side, the engine's start left out; None: ours."""
    from pipelines.miniature.problems import prompts

    some = list(prompts(n=n_prompts, seed=0, split="train"))
    engine = Engine(model, sequence_tokens=512, **(settings or {}))
    sampling = replace(SAMPLING, template=engine.template, max_tokens=tokens)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "data")

        def side(some: list[Any], sampling: Sampling) -> None:
            if settings is None:
                ours(engine, some, sampling, store)
            else:
                plain(engine, some, sampling)

        # The first tokens of a process take longer; scores and verifiers are loaded here, too.
        side(some[:1], replace(sampling, max_tokens=4))
        engine.llm.reset_prefix_cache()
        began = time.monotonic()
        side(some, sampling)
        print(time.monotonic() - began)


def pairs(model: str, n_pairs: int, n_prompts: int, tokens: int) -> None:
    from pipelines.miniature.problems import prompts

    engine = Engine(model)
    some = list(prompts(n=n_prompts, seed=0, split="train"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "data")
        for number in range(-1, n_pairs):
            sampling = replace(
                SAMPLING, template=engine.template, seed=number + 1, max_tokens=tokens
            )
            sides: list[tuple[str, Callable[[], int]]] = [
                ("plain", lambda s=sampling: plain(engine, some, s)),
                ("ours", lambda s=sampling: ours(engine, some, s, store)),
            ]  # fmt: skip
            took: dict[str, Any] = {"pair": number}
            for name, side in sides if number % 2 else reversed(sides):
                engine.llm.reset_prefix_cache()
                wall, spent, own = time.monotonic(), cpu_s(), time.process_time()
                took[f"{name}_tokens"] = side()
                took[f"{name}_wall_s"] = time.monotonic() - wall
                took[f"{name}_cpu_s"] = cpu_s() - spent
                took[f"{name}_engine_cpu_s"] = time.process_time() - own
            if number >= 0:  # the first warms both up
                rows.append(took)
                print({k: round(v, 2) for k, v in took.items()}, flush=True)
    frame = pl.DataFrame(rows)
    assert frame["plain_tokens"].equals(frame["ours_tokens"], check_names=False), "other samples"
    n = n_prompts * N
    for what in ("wall", "engine_cpu", "cpu"):
        ratio = (frame[f"ours_{what}_s"] / frame[f"plain_{what}_s"]).to_list()
        low, high = interval(ratio)
        more = (frame[f"ours_{what}_s"] - frame[f"plain_{what}_s"]).median()
        print(f"{what}: ours / plain, median of {len(ratio)} pairs {statistics.median(ratio):.3f} "
              f"[{low:.3f}, {high:.3f}]; {more * 1e6 / n:+.0f} us per trace")  # fmt: skip


def interval(values: list[float], *, n_draws: int = 10_000) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    generator = random.Random(0)
    medians = sorted(
        statistics.median(generator.choices(values, k=len(values))) for _ in range(n_draws)
    )
    return medians[int(0.025 * n_draws)], medians[int(0.975 * n_draws)]


def record(model: str, store: str, n_prompts: int) -> None:
    from pipelines.miniature.problems import prompts

    engine, view = Engine(model), View()
    some = list(prompts(n=n_prompts, seed=0, split="train"))
    generate(Store(store), some, engine, sampling=SAMPLING, policy=Policy(n=16), on_progress=view)
    view.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["pairs", "sweep", "one", "record"])
    parser.add_argument("model")
    parser.add_argument("store", nargs="?")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--tokens", type=int)
    args = parser.parse_args()
    prepare_environment()
    tokens = args.tokens or SAMPLING.max_tokens
    if args.what == "pairs":
        pairs(args.model, args.pairs, args.prompts or 250, tokens)
    elif args.what == "sweep":
        sweep(args.model, args.prompts or 16, tokens)
    elif args.what == "one":
        one(args.model, json.loads(args.store), args.prompts or 16, tokens)
    else:
        record(args.model, args.store, args.prompts or 600)


if __name__ == "__main__":
    main()
