"""Engines by name: start one, or several of a kind as one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from factory import model_files, plugins
from factory.engines.base import Engine, identify, with_defaults
from factory.errors import UsageError
from factory.records import Prompt, Sampling

LOCAL = ("vllm", "ray")
"""Engines that load a model here: its context and its tokenizer can be asked."""


class Work(NamedTuple):
    """What an engine is started for: prompts, and how they are sampled."""

    prompts: Sequence[Prompt]
    sampling: Sampling


_NVIDIA = Path("/proc/driver/nvidia/gpus")


def open_engine(
    kind: str, model: str, settings: Mapping[str, Any], *, work: Work | None = None
) -> Engine:
    """Start an engine.

    Args:
        kind: ``vllm``, ``openai``, ``ray``, ``replay`` or a path to a ``.py`` file.
        model: name or local path.
        settings: the engine's own arguments. ``replicas`` (with any engine): so many of it, each in
            a process of its own that is replaced when it dies; 1 is one supervised engine.
        work: what it is started for, where that is known: an engine's file may define
            ``fitted(model, settings, prompts, sampling)``, which returns settings made for it.

    Raises:
        UsageError: an argument that it does not take.
        PluginError: there is no such engine, or it lacks a part of the contract.
    """
    module = plugins.load("engines", kind)
    if work is not None and hasattr(module, "fitted"):
        settings = module.fitted(model, settings, [p.messages for p in work.prompts], work.sampling)
    if "replicas" in settings and kind != "ray":
        return open_replicas(kind, model, settings)
    try:
        engine = module.Engine(model, **settings)
    except TypeError as error:
        raise UsageError(
            f"engine {kind!r}: {error}", "see its docstring for its arguments"
        ) from None
    return with_defaults(engine)


def check_model(kind: str, model: str, settings: Mapping[str, Any]) -> None:
    """Refuse a model that is nowhere, before any work is done for it; of engines that load one.

    Args:
        kind: as in ``open_engine``, like the others.
        model: name or local path.
        settings: the engine's own arguments.

    Raises:
        UsageError: it is neither a folder nor found on the hub.
    """
    if kind == "ray":
        kind, settings = settings.get("engine", "vllm"), settings.get("options") or {}
    if kind == "vllm":
        model_files.revision_of(model, settings.get("revision"))


def open_replicas(kind: str, model: str, settings: Mapping[str, Any]) -> Engine:
    """Start several engines of one kind on this machine, as one engine.

    On CUDA each gets ``tensor_parallel_size`` devices of those visible, in order.

    Raises:
        UsageError: more replicas than devices.
    """
    from factory.engines.replica_process import ProcessReplica
    from factory.engines.replicas import Replicas

    options = dict(settings)
    n = int(options.pop("replicas"))
    watching = {k: options.pop(k) for k in ("hang_s", "backoff_s") if k in options}
    identity = identify(kind, model, options)
    devices = _devices(n, int(options.get("tensor_parallel_size", 1))) if kind == "vllm" else []
    envs = [{"CUDA_VISIBLE_DEVICES": d} for d in devices] or [{}] * n
    return Replicas(
        replicas=n,
        make=lambda i, events: ProcessReplica(
            i, events, kind=kind, model=model, options=options, env=envs[i]
        ),
        model=identity.model,
        revision=identity.revision,
        template=identity.template,
        n_devices=sum(d.count(",") + 1 for d in devices),
        **watching,
    )


def _devices(n_replicas: int, per_replica: int) -> list[str]:
    """Return each replica's CUDA devices; nothing where there is no CUDA."""
    from factory.engines.vllm_start import has_cuda

    if not has_cuda():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = given.split(",") if given else [p.name for p in _NVIDIA.iterdir()]
    ids = found if given else [str(i) for i in range(len(found))]
    if n_replicas * per_replica > len(ids):
        raise UsageError(
            f"{n_replicas} replicas of {per_replica} devices need {n_replicas * per_replica}, "
            f"{len(ids)} are here",
            "lower replicas",
        )
    return [",".join(ids[i * per_replica : (i + 1) * per_replica]) for i in range(n_replicas)]
