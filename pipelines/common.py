"""What the R1 pipelines share: prompt sets, engines, trained stages, format verdicts, lines."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from factory import model_files, plugins
from factory.cli.common import say
from factory.cli.common import step as step  # the scripts of this folder take both from here
from factory.config import Config
from factory.errors import EngineError, FactoryError, UsageError
from factory.records import Prompt, PromptSource, ids
from factory.store import Store
from factory.store.durable import locked

HERE = Path(__file__).parent
Pair = tuple[Prompt, PromptSource]
SCORES = ("length", "language", "repetition", "readability", "dynamics")


class PromptSet(Config):
    """Prompts of a source plug-in.

    Attributes:
        source: name, a path to a ``.py`` file, ``miniature``, or ``benchmark`` (then ``options``
            has its ``name``).
        options: of its ``prompts`` function.
    """

    source: str
    options: dict[str, Any]

    def load(self, **changes: Any) -> list[Pair]:
        """Return the prompts; ``changes`` win over the options."""
        options = {**self.options, **changes}
        if self.source == "benchmark":
            from distill.evaluate import benchmarks

            path = options.pop("path", None)
            return list(benchmarks.load(path=Path(path) if path else None, **options))
        name = self.source
        if name == "miniature":
            name = str(HERE / "miniature" / "problems.py")
        return list(plugins.load("sources", name).prompts(**options))


class ModelOf(Config):
    """A model: grown from nothing (miniature), or by name or folder.

    Attributes:
        shape: a shape of ``pipelines/miniature/grow.py``.
        n_documents: documents of the crawl that it reads.
        crawl: how that crawl mixes languages (``pipelines/miniature/corpus.py``).
        model: ``name@revision`` or a folder, instead.
        n_parameters: for plans: those that work on a token.
    """

    shape: str | None = None
    n_documents: int = 0
    crawl: dict[str, float] | None = None
    model: str | None = None
    n_parameters: float | None = None


class Engines:
    """Engines by model: on a CPU one engine per shape, which takes other weights in milliseconds.

    Every reload is checked: the engine's log probabilities of a text are compared with those that
    transformers computes from the same folder.
    """

    def __init__(self, *, options: dict[str, Any] | None = None) -> None:
        self.options = dict(options or {})
        self._by_shape: dict[str, Any] = {}
        self._loaded: dict[str, str] = {}

    def get(self, model: str) -> Any:
        """Return an engine that holds the weights of ``model``."""
        from factory.engines.vllm import Engine, prepare_environment

        if prepare_environment() == "cuda" or not model_files.is_local(model):
            self.close()
            engine = Engine(model, **self.options)
            self._by_shape["only"] = engine
            return engine
        shape = shape_of(Path(model))
        revision = model_files.revision_of(model)
        engine = self._by_shape.get(shape)
        if engine is None:
            engine = Engine(model, **self.options)
            self._by_shape[shape] = engine
        elif self._loaded.get(shape) != revision:
            engine.reload(model)
            _check_weights(engine, model)
        self._loaded[shape] = revision
        return engine

    def lent(self, model: str) -> Any:
        """Return an engine whose weights the borrower will change (a GRPO run)."""
        engine = self.get(model)
        self._loaded.clear()
        return engine

    def close(self) -> None:
        """Free all engines."""
        for engine in self._by_shape.values():
            engine.close()
        self._by_shape.clear()
        self._loaded.clear()


def shape_of(model: Path) -> str:
    """Return a key of a model's shape: its configuration without what training may change."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    for name in ("use_cache", "dtype", "torch_dtype", "transformers_version", "_name_or_path"):
        config.pop(name, None)
    return ids.key_of(config)


def _check_weights(engine: Any, model: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    probe = list(range(5, 37))
    with torch.no_grad():
        own = AutoModelForCausalLM.from_pretrained(model, dtype="float32")
        logits = torch.log_softmax(own(torch.tensor([probe])).logits[0, :-1].float(), -1)
    expected = logits[range(len(probe) - 1), probe[1:]]
    apart = float((expected - torch.tensor(engine.logprobs(probe))).abs().max())
    if not apart < 0.02:
        raise EngineError(f"the engine did not take the weights of {model} ({apart:.3f} nats off)")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a stage: another process that reaches it waits, and finds it finished."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock", timeout_s=7 * 86_400.0):
        yield


def once(
    folder: Path, *, kind: str, inputs: dict[str, Any], work: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Run a stage that is no training, unless it is finished; ``run.json`` is written last.

    Args:
        folder: of the stage.
        kind: what the stage is.
        inputs: everything that shapes its result.
        work: does it and returns its figures.

    Returns:
        The figures, of this run or of the one that finished it.

    Raises:
        UsageError: the folder holds a finished stage of other inputs.
    """
    from distill.runs import cpu_s, finished, read_run, write_run

    key = ids.key_of(inputs)
    with alone(folder):
        if not finished(folder, inputs=key):
            folder.mkdir(parents=True, exist_ok=True)
            began, cpu = time.monotonic(), cpu_s()
            figures = work()
            figures |= {
                "cpu_s": round(cpu_s() - cpu, 2), "wall_s": round(time.monotonic() - began, 2),
            }  # fmt: skip
            write_run(folder, kind=kind, inputs=key, config=inputs, metrics=figures)
        run = read_run(folder)
    assert run is not None
    return dict(run["metrics"])


def keys_of(pairs: Sequence[Pair]) -> str:
    """Return the hash of prompts and golds, as inputs of a stage."""
    return ids.key_of([[p.prompt_id, s.gold or ""] for p, s in pairs])


def grown(what: ModelOf, *, out: Path, seed: int) -> str:
    """Return the model's folder or name, growing it where the recipe says so."""
    if what.model is not None:
        return what.model
    from pipelines.miniature.corpus import Crawl
    from pipelines.miniature.grow import SHAPES, GrowConfig, grow

    if what.shape not in SHAPES:
        raise UsageError(f"shape {what.shape!r}", f"known: {', '.join(SHAPES)}; or give model")
    with alone(out):
        grow(
            GrowConfig(
                shape=SHAPES[what.shape],
                out=out,
                n_documents=what.n_documents,
                seed=seed,
                crawl=Crawl.make(what.crawl or {}, where="crawl"),
            ),
            say=say,
        )
    return str(out)


def run_grpo(
    section: dict[str, Any], *, base: str, out: Path, pairs: Sequence[Pair], store: Store,
    engines: Engines, launch: Sequence[str], seed: int,
) -> Path:  # fmt: skip
    """Train with GRPO, here or by the launcher of the recipe."""
    from distill.grpo import GrpoConfig, grpo

    config = GrpoConfig.make({**section, "base": base, "out": out, "seed": seed}, where=out.name)
    with alone(out):
        if launch:
            path = out.parent / f"{out.name}.json"
            path.write_text(config.model_dump_json(indent=2), encoding="utf-8")
            prompts = out.parent / f"{out.name}-prompts.jsonl"
            write_pairs(pairs, prompts)
            launch_distill(launch, ["grpo", str(path), "--prompts", str(prompts), "--store",
                             str(store.root)])  # fmt: skip
        else:
            grpo(config, pairs, store, say=say, lend=lambda: engines.lent(base))
    return out


def run_sft(
    *, student: str, data: Path, base: str, out: Path, seed: int, launch: Sequence[str],
    overrides: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Train with SFT, here or by the launcher of the recipe."""
    from distill.sft import SftConfig, sft

    config = SftConfig(
        student=student, data=data, out=out, base=base, seed=seed, overrides=tuple(overrides)
    )
    with alone(out):
        if launch:
            command = ["sft", student, str(data), "--out", str(out), "--base", base]
            command += ["--seed", str(seed)]
            launch_distill(launch, command + [w for a in overrides for w in ("--set", a)])
        else:
            sft(config, say=say)
    return out


def launch_distill(launch: Sequence[str], arguments: Sequence[str]) -> None:
    """Run ``distill`` in processes of its own, none of which outlives this one."""
    from distill.runs import FOLLOW_PARENT, die_with_parent

    command = [*launch, "-m", "distill.cli", *arguments]
    if launch[0] == "python":
        command[0] = sys.executable
    environment = {**os.environ, FOLLOW_PARENT: str(os.getpid())}
    process = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)
    if process.wait() != 0:
        raise FactoryError(
            f"{' '.join(command[:4])} … ended with status {process.returncode}",
            "its last lines stand above; what was finished is kept, run the same command again",
        )


def write_pairs(pairs: Sequence[Pair], path: Path) -> None:
    """Write prompts with their golds as JSON Lines, to be read by ``read_pairs``."""
    lines = []
    for prompt, source in pairs:
        row = {name: getattr(source, name) for name in source.__dataclass_fields__}
        lines.append(json.dumps({**row, "messages": list(prompt.messages)}, ensure_ascii=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
