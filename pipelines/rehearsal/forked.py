"""Ranks of a rehearsal on a CPU, forked from one process that has loaded the libraries.

A tiny model trains in seconds, and torch, transformers, trl and vLLM load in half a minute of a
core: in each rank of each stage. Where nothing is killed, one process loads them for the whole
rehearsal and does nothing else; every rank of every stage is forked from it. The launch file is
read by accelerate's own code, and what a rank runs is what ``cpu_fsdp`` runs. torchrun is left out,
and so a rehearsal with kills starts its ranks as usual.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from distill.launch import Launch, cpu_fsdp, require_done
from distill.runs import FOLLOW_PARENT, die_with_parent
from factory.engines.vllm_start import prepare_environment, quiet_stderr

_LIBRARIES = (
    "torch.distributed.fsdp", "torch.distributed.checkpoint.state_dict", "datasets", "peft",
    "accelerate.commands.launch", "vllm", "vllm.v1.engine.llm_engine", "trl.trainer.grpo_trainer",
    "trl.trainer.sft_trainer", "trl.trainer.reward_trainer", "transformers.core_model_loading",
    "distill.grpo", "distill.sft", "distill.reward_model", "factory.engines.vllm",
)  # fmt: skip


class Forked(Launch):
    """A launch whose ranks are forked."""

    def run(self, arguments: Sequence[str]) -> None:
        """Run ``distill`` in ranks of its own, none of which outlives this process.

        Args:
            arguments: of ``distill``: a verb and what follows it.

        Raises:
            FactoryError: it ended with an error.
        """
        words = self.command(python=sys.executable, cuda=False)
        server, answers = _server()
        asked = [*words[words.index(cpu_fsdp.__name__) + 1 :], "-m", "distill.cli", *arguments]
        print(json.dumps(asked), file=server.stdin, flush=True)
        require_done(words, int(answers.readline() or -signal.SIGKILL))


@functools.cache
def _server() -> tuple[subprocess.Popen[str], Any]:
    """Start the process that forks; return it and where it says how each launch ended."""
    read, write = os.pipe()
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(write)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, text=True, pass_fds=[write], preexec_fn=die_with_parent,
        env={**os.environ, FOLLOW_PARENT: str(os.getpid())},
    )  # fmt: skip
    os.close(write)
    # Ends it, and waits: what it has cost is counted in this process's children.
    atexit.register(process.communicate)
    return process, os.fdopen(read)


def serve(answers: int) -> None:
    """Load the libraries, and fork the ranks of each launch that a line asks for.

    Args:
        answers: file descriptor that takes the exit status of each launch, a line each.
    """
    prepare_environment()
    with quiet_stderr():
        for name in _LIBRARIES:
            importlib.import_module(name)
    # What is loaded is read by all ranks: the collector would copy it by writing into it.
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        environment, program, processes = cpu_fsdp.asked(json.loads(line))
        environment[FOLLOW_PARENT] = str(os.getpid())
        status = waited(forked(program, environment, processes=processes))
        os.write(answers, f"{status}\n".encode())


def forked(program: Sequence[str], environment: Mapping[str, str], *, processes: int) -> set[int]:
    """Fork the ranks of a launch; return their process ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    pids = set()
    for rank in range(processes):
        own = dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank))
        pid = os.fork()
        if pid == 0:
            _rank(program, {**environment, **common, **own})
        pids.add(pid)
    return pids


def _rank(program: Sequence[str], environment: Mapping[str, str]) -> None:
    """Be a rank: run the program and end, whatever happens."""
    status = 1
    try:
        # The next launch's words wait in the input.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(environment)
        cpu_fsdp.work(program)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - a rank must never go on as the process that forked it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def waited(pids: set[int]) -> int:
    """Wait for ranks; where one fails the others are ended. Returns the first failure, or 0."""
    status = 0
    while pids:
        pid, found = os.wait()
        pids.discard(pid)
        if found and not status:
            status = os.waitstatus_to_exitcode(found)
            for other in pids:
                os.kill(other, signal.SIGKILL)
    return status


if __name__ == "__main__":
    die_with_parent()
    serve(int(sys.argv[1]))
