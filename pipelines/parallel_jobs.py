"""Lanes of processes: jobs of one or several seeds, each started as soon as its inputs are there.

A job is a call of ``pipelines.r1`` with some of its stages. The order of ``JOBS`` is the order in
which free lanes take what is ready, so that the longest chain begins first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill.runs import die_with_parent
from factory.errors import FactoryError


@dataclass(frozen=True)
class Job:
    """Stages that run one after the other in a process.

    Attributes:
        name: of the job.
        stages: of ``pipelines.r1``.
        student: the stages are for this student alone; None: for all.
        after: jobs of the same seed that must have ended.
    """

    name: str
    stages: tuple[str, ...]
    student: str | None = None
    after: tuple[str, ...] = ()


def jobs(students: Sequence[str]) -> list[Job]:
    """Return the jobs of one seed.

    >>> [j.name for j in jobs(["qwen"])]
    ['teacher', 'controls', 'student qwen', 'evaluation']
    """
    teacher = Job(
        "teacher",
        (
            "bases", "zero", "cold_start", "sft1", "reasoning", "rejection_sampling", "general",
            "mixture", "safety_review", "sft2", "preferences", "reward_models", "all_scenarios",
        ),
    )  # fmt: skip
    controls = Job("controls", ("control", "zero_language"))
    each = [
        Job(f"student {name}", ("distill", "direct_rl"), name, ("teacher",)) for name in students
    ]
    everything = tuple(j.name for j in (teacher, controls, *each))
    return [teacher, controls, *each, Job("evaluation", ("evaluate",), None, everything)]


def run_jobs(
    seeds: Sequence[int],
    wanted: Sequence[Job],
    command: Callable[[int, Job], list[str]],
    *,
    lanes: int,
    say: Callable[[str], None],
) -> None:
    """Run every job of every seed, at most ``lanes`` at a time; earlier seeds go first.

    Args:
        seeds: of the runs.
        wanted: jobs of one seed.
        command: seed and job → the command line of its process.
        lanes: processes side by side.
        say: takes lines, each with its seed and job before it.

    Raises:
        FactoryError: a job failed; those under way are stopped, and what is finished is kept.
    """
    waiting = [(seed, job) for seed in seeds for job in wanted]
    done: set[tuple[int, str]] = set()
    under_way: dict[tuple[int, str], tuple[subprocess.Popen[str], threading.Thread]] = {}
    try:
        while waiting or under_way:
            for seed, job in list(waiting):
                if len(under_way) < lanes and all((seed, name) in done for name in job.after):
                    waiting.remove((seed, job))
                    under_way[seed, job.name] = _started(
                        command(seed, job), f"[{seed} {job.name}] ", say
                    )
            time.sleep(0.1)
            for key, (process, reader) in list(under_way.items()):
                if process.poll() is None:
                    continue
                reader.join()
                del under_way[key]
                if process.returncode != 0:
                    raise FactoryError(
                        f"{key[1]} of seed {key[0]} ended with status {process.returncode}",
                        "its last lines stand above; what was finished is kept, run the same "
                        "command again",
                    )
                done.add(key)
    finally:
        for process, _ in under_way.values():
            process.terminate()
        for process, _ in under_way.values():
            process.wait()


def _started(
    command: Sequence[str], head: str, say: Callable[[str], None]
) -> tuple[subprocess.Popen[str], threading.Thread]:
    process = subprocess.Popen(
        list(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TQDM_DISABLE": "1"},
        preexec_fn=die_with_parent,
    )

    def show() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                say(head + line.rstrip())

    reader = threading.Thread(target=show, daemon=True)
    reader.start()
    return process, reader


def python() -> list[str]:
    """Return the start of a command line of this interpreter."""
    return [sys.executable, "-m"]
