"""How several processes are started: accelerate's files, and what stands in for it on a CPU.

``ddp.yaml`` gives every GPU the whole model, ``fsdp2.yaml`` shards it, ``fsdp2-sharded.yaml``
shards its checkpoints too. ZeRO-3 may be given as a file of one's own; it was never run here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.runs import FOLLOW_PARENT, die_with_parent
from factory.config import Config
from factory.engines.vllm_start import has_cuda
from factory.errors import ConfigError, FactoryError

HERE = Path(__file__).parent


class Launch(Config):
    """How a stage's training is started.

    Attributes:
        file: ``ddp``, ``fsdp2``, ``fsdp2-sharded``, or the path of a file of accelerate.
        processes: in all, one per GPU. Batch sizes are global numbers, divided by it.
        before: words before ``accelerate launch``, such as ``srun``.
        options: further options of ``accelerate launch``, such as those of several machines.
    """

    file: str = "ddp"
    processes: int = 1
    before: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file of accelerate.

        Raises:
            ConfigError: there is none.
        """
        path = Path(self.file)
        if path.suffix not in (".yaml", ".yml"):
            path = HERE / f"{self.file}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in HERE.glob("*.yaml")))
            raise ConfigError(
                f"launch file {self.file!r} is not there", f"known: {known}; or a path"
            )
        return path

    def command(self, *, python: str, cuda: bool) -> list[str]:
        """Return the words that ``-m MODULE ARGUMENTS`` follow.

        On a CPU ``distill.launch.cpu_fsdp`` stands in for ``accelerate launch``, which would start
        one process there, and take plain DDP for FSDP.

        Args:
            python: the interpreter.
            cuda: whether there are GPUs.

        >>> Launch(processes=8).command(python="python", cuda=True)[-3:]
        ['8', '--num_machines', '1']
        """
        module = "accelerate.commands.launch" if cuda else "distill.launch.cpu_fsdp"
        words = [*self.before, python, "-m", module, "--config_file", str(self.path)]
        words += ["--num_processes", str(self.processes)]
        if "--num_machines" not in self.options:
            words += ["--num_machines", "1"]
        return [*words, *self.options]

    def run(self, arguments: Sequence[str]) -> None:
        """Run ``distill`` in processes of its own, none of which outlives this one.

        Args:
            arguments: of ``distill``: a verb and what follows it.

        Raises:
            FactoryError: it ended with an error.
        """
        words = self.command(python=sys.executable, cuda=has_cuda())
        command = [*words, "-m", "distill.cli", *arguments]
        environment = {**os.environ, FOLLOW_PARENT: str(os.getpid())}
        process = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)
        require_done(command, process.wait())


def require_done(command: Sequence[str], status: int) -> None:
    """Make sure that what was launched has done its work.

    Raises:
        FactoryError: it ended with an error.
    """
    if status != 0:
        raise FactoryError(
            f"{' '.join(command[:4])} … ended with status {status}",
            "its last lines stand above; what was finished is kept, run the same command again",
        )


def wrapper_of(trainer: Any) -> str:
    """Return what really wraps a trainer's model: DDP, FSDP2, FSDP1, ZeRO-n, or none.

    Args:
        trainer: a transformers ``Trainer`` whose training has begun.
    """
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
    from torch.nn.parallel import DistributedDataParallel

    model = trainer.model_wrapped
    if isinstance(model, FSDPModule) or isinstance(trainer.model, FSDPModule):
        return "FSDP2"
    if isinstance(model, FullyShardedDataParallel):
        return "FSDP1"
    if isinstance(model, DistributedDataParallel):
        return "DDP"
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    return f"ZeRO-{plugin.zero_stage}" if plugin is not None else "none"


def require_wrapper(found: str, *, processes: int) -> None:
    """Make sure that the model is sharded where that was asked for.

    Args:
        found: of ``wrapper_of``.
        processes: that train together.

    Raises:
        FactoryError: FSDP was asked for, and something else wraps the model.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and processes > 1 and not found.startswith("FSDP"):
        raise FactoryError(
            f"FSDP was asked for, but the model is wrapped by {found}",
            "accelerate shards on accelerators alone; for a rehearsal on a CPU start the processes "
            "by python -m distill.launch.cpu_fsdp",
        )


def torchrun(environment: dict[str, str], *, processes: int, words: Sequence[str]) -> list[str]:
    """Return the command that starts processes of one machine by torchrun.

    Args:
        environment: of the processes; a free port is chosen by torchrun itself.
        processes: how many.
        words: what each runs: a script, or ``-m`` and a module, with arguments.
    """
    environment.setdefault("OMP_NUM_THREADS", "1")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*start, f"--nproc-per-node={processes}", *words]
