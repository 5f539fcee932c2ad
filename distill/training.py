"""What our training runs share around TRL's trainers: quiet, short lines, whole checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from distill.devices import world
from distill.launch import require_wrapper, wrapper_of
from distill.runs import Spent
from factory.errors import ConfigError, FactoryError, UsageError
from factory.stages.generate.progress import duration

# Written into a checkpoint's folder when all of it is on disk; holds ``mark_of``.
_WHOLE = "whole"


def quiet() -> None:
    """Silence progress bars and chatter of the training libraries in this process."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def require_free(block: Collection[str], ours: Collection[str]) -> None:
    """Make sure that a ``trl`` block leaves the keys alone that we set.

    Raises:
        ConfigError: it does not.
    """
    if taken := sorted(set(ours) & set(block)):
        raise ConfigError(f"{', '.join(taken)} in the trl block", "the factory sets it")


def trl_config(
    kind: type, values: Mapping[str, Any], *, out: Path, seed: int, what: str = "trl block",
    **own: Any,
) -> Any:  # fmt: skip
    """Return a configuration of TRL with what all our runs set.

    Args:
        kind: class of the configuration, such as ``trl.SFTConfig``.
        values: its keys.
        out: folder of the run.
        seed: of the run.
        what: where the keys stand, for errors.
        own: keys that this kind of run sets itself.

    Raises:
        ConfigError: TRL does not know a key, or refuses a value.
    """
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - known):
        raise ConfigError(
            f"{what}: unknown key {', '.join(map(repr, unknown))}",
            f"keys are those of trl.{kind.__name__}",
        )
    try:
        return kind(
            **values, **own, output_dir=str(out / "checkpoints"), seed=seed, disable_tqdm=True,
            logging_nan_inf_filter=False, remove_unused_columns=False,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{what}: {detail}", "correct the file") from None


def accumulated(batch_size: int, values: Mapping[str, Any]) -> int:
    """Return how many forward passes of each device stand behind an update.

    Args:
        batch_size: of an update, over all devices.
        values: keys of TRL.

    Raises:
        ConfigError: it does not divide.
    """
    processes = int(world().num_processes)
    at_once = int(values.get("per_device_train_batch_size", 8)) * processes
    if batch_size % at_once:
        raise ConfigError(
            f"batch_size {batch_size} does not divide by {at_once} at once ({processes} processes)",
            "change batch_size or trl.per_device_train_batch_size",
        )
    return batch_size // at_once


def resumable(out: Path, *, mark: str, restart: bool) -> Path | None:
    """Return where a run goes on, the same in all processes; see ``last_checkpoint``."""
    processes = world()
    with processes.main_process_first():
        first = restart and processes.is_main_process
        return last_checkpoint(out / "checkpoints", mark=mark, restart=first)


def mark_of(inputs: str, settings: Mapping[str, Any]) -> str:
    """Return what marks a whole checkpoint: the hash of its run's inputs, and its settings."""
    return json.dumps({"inputs": inputs, "settings": settings}, sort_keys=True)


def last_checkpoint(folder: Path, *, mark: str, restart: bool = False) -> Path | None:
    """Return the last whole checkpoint of this run.

    A checkpoint that a killed run left half written has no mark, cannot be loaded, and is removed.
    Whole checkpoints of other settings are kept; the run is refused.

    Args:
        folder: of the checkpoints.
        mark: of ``mark_of``.
        restart: remove what is there, and begin at the first step.

    Raises:
        UsageError: whole checkpoints of other settings; the message says what differs.
    """
    if restart:
        shutil.rmtree(folder, ignore_errors=True)
    whole: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        found = path / _WHOLE
        if not found.is_file():
            shutil.rmtree(path, ignore_errors=True)
            continue
        before, now = _read_mark(found.read_text()), _read_mark(mark)
        if before["inputs"] != now["inputs"]:
            raise UsageError(
                f"{path} is of other settings: {difference(before['settings'], now['settings'])}",
                "set them back to go on, or begin anew with --restart, which removes it",
            )
        whole.append((int(path.name.rpartition("-")[2]), path))
    return max(whole)[1] if whole else None


def _read_mark(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    return values if isinstance(values, dict) else {"inputs": text, "settings": {}}


def difference(before: Mapping[str, Any], now: Mapping[str, Any], *, within: str = "") -> str:
    """Say in which settings two runs differ.

    >>> difference({"seed": 0, "trl": {"lr": 1}}, {"seed": 0, "trl": {"lr": 2}})
    'trl.lr 1 -> 2'
    >>> difference({"seed": 0}, {"seed": 0})
    'the base model, the data, or their order'
    """
    said = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            said.append(difference(old, new, within=f"{within}{key}."))
        else:
            said.append(f"{within}{key} {_short(old)} -> {_short(new)}")
    return ", ".join(said) or "the base model, the data, or their order"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def remove_checkpoints(out: Path) -> None:
    """Remove the checkpoints of a finished run; what TensorBoard wrote beside them is kept."""
    folder = out / "checkpoints"
    for path in (folder / "runs").glob("*"):
        (out / "runs").mkdir(exist_ok=True)
        path.replace(out / "runs" / path.name)
    shutil.rmtree(folder, ignore_errors=True)


def save_trained(trainer: Any, tokenizer: Any, out: Path) -> None:
    """Write weights and tokenizer of a finished training; every process of it calls this.

    Raises:
        FactoryError: no whole weights are on disk; the checkpoints are kept.
    """
    accelerator = trainer.accelerator
    if hasattr(trainer.model, "merge_and_unload"):
        # Adapters become part of the weights, so that the model loads like any other.
        trainer.model = accelerator.unwrap_model(trainer.model).merge_and_unload()
    sharding = getattr(accelerator.state, "fsdp_plugin", None)
    if sharding is not None:
        # The trainer writes no model at all where states are saved in shards, accelerate's default.
        sharding.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(out))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        tokenizer.save_pretrained(str(out))
        (out / "training_args.bin").unlink(missing_ok=True)
    require_weights(out)


def require_weights(folder: Path) -> None:
    """Make sure that a folder holds whole weights: what it should, and nothing empty.

    Raises:
        FactoryError: it does not.
    """
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    files = sorted(folder.glob("*.safetensors"))
    if index.is_file():
        files = [folder / n for n in {*json.loads(index.read_text())["weight_map"].values()}]
    problem = None if files else "no weights were written"
    for file in files:
        try:
            with safe_open(str(file), framework="pt") as tensors:
                # ZeRO-3 leaves tensors without a value where their shards were not gathered.
                empty = [n for n in tensors.keys() if 0 in tensors.get_slice(n).get_shape()]  # noqa: SIM118
                if empty:
                    problem = f"{empty[0]} in {file.name} is empty"
        except (OSError, SafetensorError):
            problem = f"{file.name} is missing or damaged"
    if problem is not None:
        raise FactoryError(
            f"{folder}: {problem} although the training ended",
            "its checkpoints are kept; save a full state dict (FSDP) or gather 16-bit weights "
            "(ZeRO-3), and run the same command again",
        )


def train(
    make: Callable[[Any], Any], tokenizer: Any, out: Path, *, what: str, mark: str,
    resume: Path | None, say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Train from the last checkpoint on, save, and return the figures of this attempt.

    Args:
        make: makes the trainer, given its callback.
        tokenizer: that is saved beside the weights.
        out: folder of the run.
        what: kind of the run, for lines.
        mark: of whole checkpoints (``mark_of``).
        resume: checkpoint to go on from.
        say: takes the lines.
    """
    spent, progress = Spent(), Progress.callback(name=out.name, mark=mark, say=say)
    trainer = progress.trainer = make(progress)
    Progress.only(trainer)
    if resume is not None:
        say(f"{what} {out.name}: going on from {resume.name}")
    spent.begin()
    result = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    save_trained(trainer, tokenizer, out)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "steps": trainer.state.global_step,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "train_loss": result.training_loss,
        "wrapper": wrapper_of(trainer),
        "processes": world().num_processes,
        "resumed_from": resume.name if resume else None,
        "cpu_s": round(spent.cpu_s, 2),
        "wall_s": round(spent.wall_s, 2),
        "log": trainer.state.log_history,
    }


def eta(begun: int, step: int, steps: int, seconds: float) -> str:
    """Return when a training will end, as the end of a line; nothing where that is not known.

    Args:
        begun: step at which this attempt began.
        step: step that is done.
        steps: in all.
        seconds: since it began.

    >>> eta(10, 20, 40, 60.0)
    ', ETA 2 min'
    >>> eta(0, 40, 40, 60.0)
    ''
    """
    if not begun < step < steps:
        return ""
    return f", ETA {duration(seconds / (step - begun) * (steps - step))}"


class Progress:
    """Makes the callback that says how training goes, marks checkpoints and stops at NaN."""

    @staticmethod
    def callback(*, name: str, mark: str, say: Callable[[str], None]) -> Any:
        """Return a ``TrainerCallback``.

        Args:
            name: of the run, at the head of each line.
            mark: of this run's whole checkpoints (``mark_of``).
            say: takes the lines.
        """
        from transformers import TrainerCallback

        class _Callback(TrainerCallback):  # type: ignore[misc]
            trainer: Any = None
            begun_step, begun = 0, 0.0

            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                self.begun_step, self.begun = state.global_step, time.monotonic()
                if self.trainer is None:
                    return
                found = wrapper_of(self.trainer)
                require_wrapper(found, processes=world().num_processes)
                say(f"{name}: {world().num_processes} processes, wrapper {found}")

            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                # Each process writes its own part, such as the state of its random numbers.
                world().wait_for_everyone()
                if state.is_world_process_zero and folder.is_dir():
                    (folder / _WHOLE).write_text(mark)

            def on_log(
                self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
            ) -> None:
                loss = (logs or {}).get("loss")
                if loss is None:
                    return
                if not math.isfinite(float(loss)):
                    raise FactoryError(
                        f"the loss is {loss} at step {state.global_step}",
                        "lower trl.learning_rate; earlier checkpoints are kept",
                    )
                if state.is_world_process_zero:
                    rate = float(logs.get("learning_rate", 0.0))
                    steps = (self.begun_step, state.global_step, state.max_steps)
                    say(
                        f"{name}: step {state.global_step}/{state.max_steps}, "
                        f"loss {float(loss):.3f}, rate {rate:.1e}"
                        f"{eta(*steps, time.monotonic() - self.begun)}"
                    )

        return _Callback()

    @staticmethod
    def only(trainer: Any) -> None:
        """Take the printing callbacks of transformers out: our lines say it all."""
        from transformers import PrinterCallback, ProgressCallback

        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
