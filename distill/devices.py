"""What training sets by itself on the machine it finds: the CPU's needs, or the GPU's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from factory.engines.vllm_start import has_cuda

__all__ = ["cores", "has_cuda", "of_main", "settle", "trl_settings", "world"]


def trl_settings(*, cuda: bool) -> dict[str, Any]:
    """Return the settings of a TRL configuration that the device decides.

    On a CPU: no bf16 (nothing is gained below a million parameters) and no gradient checkpointing,
    which TRL turns on by default and which would compute everything twice.
    """
    if cuda:
        import torch

        return {"bf16": bool(torch.cuda.is_bf16_supported()), "gradient_checkpointing": True}
    return {
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
    }


def settle(*, cuda: bool) -> None:
    """Prepare this process: on a CPU one thread, unless ``OMP_NUM_THREADS`` says otherwise.

    Two threads that share a busy core spin and wait for each other: 25 times slower, as measured.
    """
    if not cuda:
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))


def world() -> Any:
    """Return the processes that train together, as accelerate's ``PartialState``.

    A run asks for it before it starts an engine: on a CPU vLLM makes a process group of one where
    there is none yet, and every process would then train a model of its own.
    """
    from accelerate import PartialState

    is_cpu = not has_cuda()
    if is_cpu:
        # accelerate numbers the CPUs of several processes, and torch restores no optimiser of a
        # checkpoint to ``cpu:0``: no such run could go on.
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
    return PartialState(cpu=is_cpu)


def of_main(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return ``say`` in the first of several processes, and what says nothing in the others."""
    return say if world().is_main_process else lambda _: None


def cores() -> int:
    """Return this process's part of the cores that it may run on.

    Trainers of one machine verify at the same time: each with a worker per core would start eight
    times as many as there are.
    """
    together = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return max(1, len(os.sched_getaffinity(0)) // together)
