"""Run a rehearsal: start the recipe, kill it in its stages, and start it again.

The recipe runs as a program of its own, so that a kill is a kill: of the program, of one rank, or
of the program while a checkpoint is being written. What then goes on must go on by itself.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from factory.engines.vllm_start import has_cuda
from factory.errors import FactoryError, UsageError
from pipelines.r1_recipe import Recipe, folder_of
from pipelines.rehearsal.processes import descendants, kill, last_rank, survivors
from pipelines.rehearsal.recipe import rehearsed
from pipelines.rehearsal.table import SAMPLE, TRAINED, names_of, rows_of, table_lines

KINDS = ("program", "rank", "save")
_POLL_S = 0.004


@dataclass
class Kill:
    """A stage that is to be killed once.

    Attributes:
        stage: name of its folder.
        kind: ``program``, ``rank``, or ``save``: the program, in the middle of a checkpoint.
        is_training: whether the stage writes checkpoints.
        is_sampling: whether it samples; a stage that does neither is killed once it has begun.
        done: what was found at the kill; None: it was not killed yet.
    """

    stage: str
    kind: str
    is_training: bool
    is_sampling: bool
    done: str | None = None
    sampled_before: int | None = field(default=None, repr=False)


def rehearse(
    recipe: Recipe, *, only: Sequence[str], ranks: int, launch: str | None, kills: Sequence[str],
    kill_kind: str, folder: Path, say: Callable[[str], None],
) -> int:  # fmt: skip
    """Rehearse a recipe; returns the exit status: 0 where every cell of the table is filled.

    Args:
        recipe: of a scale.
        only: stages to rehearse; those that they read must be among them.
        ranks: processes of a training.
        launch: file of accelerate instead of the recipe's.
        kills: of ``planned_kills``.
        kill_kind: of ``KINDS``.
        folder: of the rehearsal; must not hold another.
        say: takes lines.

    Raises:
        UsageError: a kill of a stage that the recipe has not.
    """
    began = time.monotonic()
    folder.mkdir(parents=True)
    say(f"rehearsal of {recipe.name} in {folder}")
    values = rehearsed(recipe, ranks=ranks, launch=launch, folder=folder, say=say)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
    small = Recipe.load(path)
    stages = names_of(small, only)
    planned = planned_kills(stages, kills, kill_kind=kill_kind)
    run(path, small, only, planned, say=say)
    rows = rows_of(small, stages, {k.stage: k.done for k in planned})
    for line in table_lines(rows):
        say(line)
    empty = [f"{row.stage}: {name}" for row in rows for name in row.empty]
    say(f"rehearsal: {time.monotonic() - began:.0f} s, {len(planned)} kills, "
        f"{'every stage ran, saved, was read and resumed' if not empty else 'FAILED'}")  # fmt: skip
    for line in empty:
        say(f"  nothing to show for {line}")
    return 1 if empty else 0


def planned_kills(stages: Mapping[str, str], kills: Sequence[str], *, kill_kind: str) -> list[Kill]:
    """Return the kills that are asked for, in the order of the stages.

    Args:
        stages: of ``names_of``.
        kills: folders, or ``FOLDER:KIND``; ``all``: each stage; ``none``: no stage.
        kill_kind: of those that name none; a stage that is no training knows ``program`` alone.

    Raises:
        UsageError: no such stage, or no such kind.

    >>> [(k.stage, k.kind) for k in planned_kills({"dev1": "sft", "r1": "grpo"},
    ...                                           ["r1:save"], kill_kind="rank")]
    [('r1', 'save')]
    """
    split = [word.partition(":") for word in kills]
    named = {stage: kind or kill_kind for stage, _, kind in split}
    stray = sorted(named.keys() - stages.keys() - {"all", "none"})
    if stray or not {*named.values()} <= {*KINDS}:
        raise UsageError(
            f"--kill {','.join(kills)}: no stage {stray[0]}" if stray
            else f"--kill {','.join(kills)}: a kill is {', '.join(KINDS)}",
            f"stages: {', '.join(stages)}",
        )  # fmt: skip
    planned = []
    for stage, kind in stages.items():
        if stage in named or "all" in named:
            trains = kind in TRAINED
            how = named.get(stage, kill_kind) if trains else "program"
            planned.append(Kill(stage, how, is_training=trains, is_sampling=kind in SAMPLE))
    return planned


def run(
    path: Path, recipe: Recipe, only: Sequence[str], kills: list[Kill],
    *, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Run the rehearsed recipe to its end, through all kills.

    Raises:
        FactoryError: it ends with an error that no kill caused, or a process outlives a kill.
    """
    command = [sys.executable, "-m", "pipelines.rehearsal", str(path), "--only", ",".join(only)]
    if not kills and recipe.launch is not None and not has_cuda():
        say("  nothing is killed: all ranks are forked from one process that loads the libraries")
        command.append("--forked")
    while True:
        process = subprocess.Popen(command)
        hit = _watch(process, recipe, kills)
        if hit is None:
            if process.returncode == 0:
                return
            raise FactoryError(
                f"the rehearsal ended with status {process.returncode}",
                f"its last lines stand above; what it left is in {path.parent}",
            )
        say(f"rehearsal: {hit.stage} killed ({hit.kind}): {hit.done}; it is started again")


def _watch(process: subprocess.Popen[bytes], recipe: Recipe, kills: list[Kill]) -> Kill | None:
    """Wait for the next kill's moment and do it; None where the program ended before one."""
    while process.poll() is None:
        for due in (k for k in kills if k.done is None):
            found = moment(due, recipe)
            if found is not None:
                _strike(process, due)
                due.done = found
                return due
        time.sleep(_POLL_S)
    return None


def moment(due: Kill, recipe: Recipe) -> str | None:
    """Return what is on disk where it is the moment to kill, else None.

    Of a stage that samples it is the moment when traces are written that its begin did not have.
    """
    folder = folder_of(recipe) / due.stage
    if not folder.is_dir() or (folder / "run.json").is_file():
        return None
    checkpoints = list((folder / "checkpoints").glob("checkpoint-*"))
    whole = [c for c in checkpoints if (c / "whole").is_file()]
    if due.kind == "save":
        torn = [c for c in checkpoints if c not in whole and any(c.iterdir())]
        return f"{torn[0].name} half written" if whole and torn else None
    if due.is_training:
        return f"{whole[0].name} whole" if whole else None
    if not due.is_sampling:
        return "rows half written"
    size = _of_traces(recipe.store)
    if due.sampled_before is None or size < due.sampled_before:
        due.sampled_before = size
    return "samples half made" if size > due.sampled_before else None


def _of_traces(store: Path) -> int:
    """Return the bytes of all traces, sealed or not; those of judges, too.

    A segment of a few traces is sealed within milliseconds, but a stage may go on to others.
    """
    size = 0
    for place in ("tables", "*/tables"):
        for path in store.glob(f"{place}/traces/*"):
            with contextlib.suppress(FileNotFoundError):
                size += path.stat().st_size
    return size


def _strike(process: subprocess.Popen[bytes], due: Kill) -> None:
    """Kill, and wait until all that the program started is gone."""
    family = descendants(process.pid)
    victim = last_rank(process.pid) if due.kind == "rank" else process.pid
    kill(victim or process.pid)
    process.wait()
    alive = survivors(family, within_s=30)
    if alive:
        for pid in alive:
            kill(pid)
        raise FactoryError(
            f"{len(alive)} processes of {due.stage} outlived the program that started them",
            "they were ended now; a rerun would have trained beside them",
        )
