"""What the R1 pipelines share: prompt sets, engines, trained stages, format verdicts, lines."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from distill.launch import Launch
from factory import model_files, plugins
from factory.cli.common import say, start_engine, waiting
from factory.config import Config
from factory.errors import ConfigError, EngineError, UsageError
from factory.records import Prompt, PromptSource, ids
from factory.sources import template
from factory.store import Store
from factory.store.durable import locked, write_json

HERE = Path(__file__).parent
Pair = tuple[Prompt, PromptSource]
MINIATURE = {"miniature": "problems.py", "miniature-general": "general.py"}
"""Prompt sources of the little world."""
SCORES = ("length", "language", "repetition", "readability", "dynamics")


_template = functools.cache(template.load)


class PromptSet(Config):
    """Prompts of a source plug-in.

    Attributes:
        source: name, a path to a ``.py`` file, ``miniature``, ``miniature-general``, or
            ``benchmark`` (then ``options`` has its ``name``).
        options: of its ``prompts`` function.
        template: prompt template (``factory/sources/templates``) that every prompt is asked in, so
            that what the reward pays for was asked for; or one for each verifier, where a set has
            prompts of several domains; None leaves the source's own words.
        more: further sets of other domains, taken together with this one.
    """

    source: str
    options: dict[str, Any]
    template: str | dict[str, str] | None = None
    more: tuple[PromptSet, ...] = ()

    def pairs(self, *, seed: int | None = None) -> list[Pair]:
        """Return the prompts.

        Args:
            seed: for sources that draw, None leaves them their own; files and hub data sets have
                one order.

        Raises:
            UsageError: the source takes no such option.
            ConfigError: no such template, or it does not ask for what a prompt's verifier checks.
        """
        function, options = self._function()
        takes = inspect.signature(function).parameters
        stray = sorted(set(options) - set(takes))
        if stray:
            raise UsageError(
                f"source {self.source!r} takes no {', '.join(stray)}",
                f"it takes {', '.join(takes)}",
            )
        if seed is not None and "seed" in takes:
            options["seed"] = seed
        pairs = [self._asked(*pair) for pair in function(**options)]
        for other in self.more:
            pairs += other.pairs(seed=seed)
        unique: dict[str, Pair] = {}
        for prompt, source in pairs:
            unique.setdefault(prompt.prompt_id, (prompt, source))
        return list(unique.values())

    def _asked(self, prompt: Prompt, source: PromptSource) -> Pair:
        """Return a prompt as its template asks it."""
        name = self.template
        if isinstance(name, dict):
            verifier = source.verifier or plugins.verifier_of_gold(source.gold or "")
            if verifier not in name:
                raise ConfigError(
                    f"no template for the verifier {verifier!r} of {source.source} {source.item}",
                    f"template names {', '.join(name)}: add it",
                )
            name = name[verifier]
        return (prompt, source) if name is None else _template(name).apply(prompt, source)

    @property
    def size(self) -> int:
        """Prompts at most, for plans; 0 where the options do not say."""
        own = int(self.options.get("n") or self.options.get("limit") or 0)
        return own + sum(other.size for other in self.more)

    def _function(self) -> tuple[Callable[..., Iterable[Pair]], dict[str, Any]]:
        options = dict(self.options)
        name = self.source
        if name in MINIATURE:
            name = str(HERE / "miniature" / MINIATURE[name])
        return plugins.load("sources", name).prompts, options


class ModelOf(Config):
    """A model: grown from nothing (miniature), or by name or folder.

    Attributes:
        shape: a shape of ``pipelines/miniature/grow.py``.
        n_documents: documents of the crawl that it reads.
        crawl: how that crawl mixes languages (``pipelines/miniature/corpus.py``).
        model: ``name@revision`` or a folder, instead.
        context: tokens that its configuration is made to allow, for training on longer ones than
            it was made for (DeepSeek's own students were raised so); ``rope`` is set beside it.
        rope: keys of ``rope_parameters`` that the configuration gets.
        n_parameters: for plans: those that work on a token.
    """

    shape: str | None = None
    n_documents: int = 0
    crawl: dict[str, float] | None = None
    model: str | None = None
    context: int | None = None
    rope: dict[str, Any] | None = None
    n_parameters: float | None = None


class Engines:
    """Engines by model: on a CPU one engine per shape, which takes other weights in milliseconds.

    Every reload is checked: the engine's log probabilities of a text are compared with those that
    transformers computes from the same folder.

    Args:
        options: of the engines.

    Attributes:
        wrap: goes around every engine that is given out (rehearsals).
    """

    def __init__(self, *, options: dict[str, Any] | None = None) -> None:
        self.options = dict(options or {})
        self.wrap: Callable[[Any], Any] = lambda engine: engine
        self._by_shape: dict[str, Any] = {}
        self._loaded: dict[str, str] = {}

    def get(self, model: str, *, longest: int | None = None) -> Any:
        """Return an engine that holds the weights of ``model``.

        On a GPU there is one at a time, over all devices (``replicas``): an engine that was
        returned before is closed, unless it is the same.

        Args:
            model: folder, or ``name@revision``.
            longest: tokens of prompt and completion that it must hold, where that is less than
                the model's context.
        """
        return self.wrap(self._get(model, longest=longest))

    def _get(self, model: str, *, longest: int | None = None) -> Any:
        from distill.student import local_folder
        from factory.engines.vllm import Engine
        from factory.engines.vllm_start import prepare_environment

        if prepare_environment() == "cuda" or not model_files.is_local(model):
            folder = local_folder(model)
            key = f"{folder} {longest}"
            if self._loaded.get("only") != key:
                self.close()
                options = dict(self.options)
                kind = options.pop("kind", "vllm")
                if kind == "ray":
                    inner = options.get("options", {})
                    options["options"] = fitting(inner, Path(folder), longest=longest)
                else:
                    options = fitting(options, Path(folder), longest=longest)
                self._by_shape["only"] = start_engine(kind, folder, options)
                self._loaded["only"] = key
            return self._by_shape["only"]
        shape = shape_of(Path(model))
        revision = model_files.revision_of(model)
        engine = self._by_shape.get(shape)
        if engine is None:
            with waiting(f"engine vllm starts on {model}"):
                engine = Engine(model, **self.options)
            self._by_shape[shape] = engine
        elif self._loaded.get(shape) != revision:
            engine.reload(model)
            _check_weights(engine, model)
        self._loaded[shape] = revision
        return engine

    @property
    def n_devices(self) -> int:
        """Devices that an engine of these options holds."""
        own = self.options
        each = own.get("num_gpus") or own.get("tensor_parallel_size") or 1
        return max(1, round(float(each) * int(own.get("replicas", 1))))

    @property
    def on_gpu(self) -> bool:
        """Whether engines and trainers compete for a GPU's memory."""
        from factory.engines.vllm_start import has_cuda

        return has_cuda()

    def lent(self, model: str) -> Any:
        """Return an engine whose weights the borrower will change (a GRPO run)."""
        engine = self._get(model)
        self._loaded.clear()
        return engine

    def close(self) -> None:
        """Free all engines."""
        for engine in self._by_shape.values():
            engine.close()
        self._by_shape.clear()
        self._loaded.clear()


def fitting(options: dict[str, Any], model: Path, *, longest: int | None = None) -> dict[str, Any]:
    """Return engine options that a model can be started with.

    Its context bounds ``max_model_len``; ``tensor_parallel_size`` becomes the greatest divisor of
    it that divides the attention heads, and the devices that this frees hold replicas.

    >>> fitting({"tensor_parallel_size": 8, "max_model_len": 99_999}, Path("missing"))
    {'tensor_parallel_size': 8, 'max_model_len': 99999}
    """
    path, out = model / "config.json", dict(options)
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known = (config.get("max_position_embeddings"), longest, options.get("max_model_len"))
    if limits := [int(n) for n in known if n]:
        out["max_model_len"] = min(limits)
    wanted, heads = int(options.get("tensor_parallel_size", 1)), config.get("num_attention_heads")
    if heads and heads % wanted:
        out["tensor_parallel_size"] = math.gcd(wanted, int(heads))
        freed = wanted // out["tensor_parallel_size"]
        out["replicas"] = int(options.get("replicas", 1)) * freed
    return out


def room(model: str, max_tokens: int, *, prompt_tokens: int) -> int:
    """Return how many tokens a model may answer with: no more than its context leaves.

    An engine refuses what does not fit, and every sample of a model whose context is just
    ``max_tokens`` would be missing.
    """
    from distill.student import context_of

    context = context_of(model)
    left = context - prompt_tokens if context else max_tokens
    if left < 1:
        raise UsageError(
            f"{model}: a context of {context} tokens holds no prompt of {prompt_tokens}",
            "lower prompt_tokens of the recipe",
        )
    if left < max_tokens:
        say(f"  {Path(model).name}: answers of at most {left:,} tokens (context {context:,})")
    return min(max_tokens, left)


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
    folder: Path, *, kind: str, inputs: dict[str, Any], work: Callable[[], dict[str, Any]],
    n_devices: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Run a stage that is no training, unless it is finished; ``run.json`` is written last.

    Args:
        folder: of the stage.
        kind: what the stage is.
        inputs: everything that shapes its result.
        work: does it and returns its figures.
        n_devices: that the stage holds meanwhile; what it has spent is ``device_s``.

    Returns:
        The figures, of this run or of the one that finished it.

    Raises:
        UsageError: the folder holds a finished stage of other inputs.
    """
    from distill.runs import cpu_s, device_time, finished, read_run, write_run

    key = ids.key_of(inputs)
    with alone(folder):
        if not finished(folder, inputs=key):
            folder.mkdir(parents=True, exist_ok=True)
            began, cpu = time.monotonic(), cpu_s()
            with device_time(folder, n_devices) as devices:
                figures = work()
                figures |= {
                    "cpu_s": round(cpu_s() - cpu, 2), "wall_s": round(time.monotonic() - began, 2),
                    "device_s": devices.total_s,
                }  # fmt: skip
            write_run(folder, kind=kind, inputs=key, config=inputs, metrics=figures)
        run = read_run(folder)
    assert run is not None
    return dict(run["metrics"])


def keys_of(pairs: Sequence[Pair]) -> str:
    """Return the hash of prompts and golds, as inputs of a stage."""
    return ids.key_of([[p.prompt_id, s.gold or ""] for p, s in pairs])


def grown(what: ModelOf, *, out: Path, seed: int) -> str:
    """Return the model's folder or name, growing it or its context where the recipe says so."""
    if what.model is not None:
        return what.model if what.context is None else _with_context(what, out)
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


def _with_context(what: ModelOf, out: Path) -> str:
    """Return a folder with the model's files, linked, and a configuration of a longer context."""
    from distill.student import local_folder

    assert what.model is not None
    folder = Path(local_folder(what.model))
    with alone(out):
        out.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            if file.is_file() and file.name != "config.json" and not (out / file.name).exists():
                (out / file.name).symlink_to(file.resolve())
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["max_position_embeddings"] = what.context
        if what.rope is not None:
            config["rope_parameters"] = {**(config.get("rope_parameters") or {}), **what.rope}
        write_json(out / "config.json", config)
    return str(out)


def run_grpo(
    section: dict[str, Any], *, base: str, out: Path, pairs: Sequence[Pair], store: Store,
    engines: Engines, launch: Launch | None, seed: int, restart: bool = False,
) -> Path:  # fmt: skip
    """Train with GRPO, here or by the launcher of the recipe; ``restart`` as in ``grpo``."""
    from distill.grpo import GrpoConfig, grpo, inputs_of_run

    config = GrpoConfig.make({**section, "base": base, "out": out, "seed": seed}, where=out.name)
    with alone(out):
        if launch:
            launched = config.model_copy(update={"n_devices": config.n_devices or launch.processes})
            if _is_done(out, lambda: inputs_of_run(launched, pairs, store)):
                return out
            path = out.parent / f"{out.name}.json"
            path.write_text(config.model_dump_json(indent=2), encoding="utf-8")
            engines.close()
            prompts = out.parent / f"{out.name}-prompts.jsonl"
            write_pairs(pairs, prompts)
            command = ["grpo", str(path), "--prompts", str(prompts), "--store", str(store.root)]
            launch.run(command + ["--restart"] * restart)
        else:
            if engines.on_gpu:
                engines.close()
            grpo(
                config, pairs, store, say=say, lend=lambda: engines.lent(base), restart=restart
            )  # fmt: skip
    return out


def run_sft(
    *, student: str, data: Path, base: str, out: Path, seed: int, launch: Launch | None,
    engines: Engines, overrides: Sequence[str] = (), restart: bool = False,
) -> Path:  # fmt: skip
    """Train with SFT, here or by the launcher of the recipe; ``restart`` as in ``sft``."""
    from distill.sft import SftConfig, inputs_of, sft

    config = SftConfig(
        student=student, data=data, out=out, base=base, seed=seed, overrides=tuple(overrides)
    )
    with alone(out):
        if launch and _is_done(out, lambda: inputs_of(config)):
            return out
        # An engine holds most of a GPU: the trainer would find no room beside it.
        if launch or engines.on_gpu:
            engines.close()
        if launch:
            command = ["sft", student, str(data), "--out", str(out), "--base", base]
            command += ["--seed", str(seed), *["--restart"] * restart]
            launch.run(command + [w for a in overrides for w in ("--set", a)])
        else:
            sft(config, say=say, restart=restart)
    return out


def run_reward_model(
    section: dict[str, Any], *, base: str, out: Path, seed: int, launch: Launch | None,
    engines: Engines, restart: bool = False,
) -> Path:  # fmt: skip
    """Train a reward model, here or by the launcher of the recipe."""
    from distill.reward_model import RewardModelConfig, inputs_of, reward_model

    config = RewardModelConfig.make(
        {**section, "base": base, "out": out, "seed": seed}, where=out.name
    )
    with alone(out):
        if launch and _is_done(out, lambda: inputs_of(config)):
            return out
        if launch or engines.on_gpu:
            engines.close()
        if launch:
            path = out.parent / f"{out.name}.json"
            path.write_text(config.model_dump_json(indent=2), encoding="utf-8")
            launch.run(["reward-model", str(path)] + ["--restart"] * restart)
        else:
            reward_model(config, say=say, restart=restart)
    return out


def _is_done(out: Path, inputs: Callable[[], str]) -> bool:
    """Tell whether a training that would be launched has finished.

    A launcher takes a minute to start its processes, only for them to find that there is nothing to
    do, or that the folder holds the run of other inputs: a recipe asks here what they would ask.

    Raises:
        UsageError: the folder holds a finished run of other inputs.
    """
    from distill.runs import finished, read_run

    # Rows and weights are hashed only where a run has finished.
    return read_run(out) is not None and finished(out, inputs=inputs())


def write_pairs(pairs: Sequence[Pair], path: Path) -> None:
    """Write prompts with their golds as JSON Lines, to be read by ``read_pairs``."""
    lines = []
    for prompt, source in pairs:
        row = {name: getattr(source, name) for name in source.__dataclass_fields__}
        lines.append(json.dumps({**row, "messages": list(prompt.messages)}, ensure_ascii=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
