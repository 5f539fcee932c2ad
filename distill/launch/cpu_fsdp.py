"""Stands in for ``accelerate launch`` where there is no accelerator: rehearsals and tests alone.

    python -m distill.launch.cpu_fsdp --config_file FILE --num_processes 2 -m distill.cli sft …

accelerate 1.15 on a CPU starts one process, and where several are started takes plain DDP for FSDP
without a word: its ``AcceleratorState`` asks for an accelerator before it looks at FSDP. Here the
same file is read by accelerate's own code, torchrun starts the processes, and each of them lets
accelerate shard on the CPU before it runs the program. Nothing else of accelerate is changed. What
is learned this way is learned of the program and of PyTorch's sharding over gloo; speed, memory of
a device and NCCL are not.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from distill.launch import torchrun
from distill.runs import FOLLOW_PARENT, die_with_parent
from factory.cli.common import say

SAYS = "cpu_fsdp: accelerate's check for an accelerator is lifted (rehearsals and tests alone)"


def let_accelerate_shard() -> None:
    """Make accelerate of this process shard on a CPU where its environment asks for FSDP.

    Raises:
        RuntimeError: there is a GPU, where this must never be used.
    """
    import torch
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    if torch.cuda.is_available():
        raise RuntimeError("cpu_fsdp is for machines without a GPU: use accelerate launch")
    original = AcceleratorState.__init__

    def init(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        original(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is None or self.distributed_type != DistributedType.MULTI_CPU:
            return
        # What accelerate itself does on a GPU.
        self.distributed_type = DistributedType.FSDP
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)
        self.fsdp_plugin = fsdp_plugin
        PartialState._shared_state["distributed_type"] = self.distributed_type

    AcceleratorState.__init__ = init


def asked(words: Sequence[str]) -> tuple[dict[str, str], list[str], int]:
    """Return what a command line asks for: environment, program with arguments, processes."""
    from accelerate.commands import launch
    from accelerate.utils.launch import prepare_multi_gpu_env

    args = launch.launch_command_parser().parse_args(list(words))
    args, *_ = launch._validate_launch_command(args)
    processes, args.main_process_port = int(args.num_processes), 0
    environment = prepare_multi_gpu_env(args)
    environment["ACCELERATE_USE_CPU"] = "true"
    program = ["-m", args.training_script] if args.module else [args.training_script]
    say(f"{SAYS}; {processes} processes")
    return environment, [*program, *args.training_script_args], processes


def main(words: Sequence[str]) -> int:
    """Start the processes of a launch file; returns the exit status of torchrun."""
    environment, program, processes = asked(words)
    worker = ["-m", "distill.launch.cpu_fsdp", "--worker", *program]
    command = torchrun(environment, processes=processes, words=worker)
    environment[FOLLOW_PARENT] = str(os.getpid())
    return subprocess.Popen(command, env=environment, preexec_fn=die_with_parent).wait()


def work(words: Sequence[str]) -> None:
    """Run a script or a module, as Python does, with sharding allowed."""
    die_with_parent()
    let_accelerate_shard()
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    if os.environ.get(FOLLOW_PARENT):
        die_with_parent()
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
