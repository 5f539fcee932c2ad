"""What our training runs share around TRL's trainers: quiet, short lines, whole checkpoints."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from factory.errors import FactoryError

# Written into a checkpoint's folder when all of it is on disk; holds the hash of the run's inputs.
_WHOLE = "whole"


def quiet() -> None:
    """Silence progress bars and chatter of the training libraries in this process."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def last_checkpoint(folder: Path, *, inputs: str) -> Path | None:
    """Return the last whole checkpoint of these inputs; remove all others.

    A checkpoint that a killed run left half written has no mark and cannot be loaded.
    """
    whole: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        mark = path / _WHOLE
        if mark.is_file() and mark.read_text() == inputs:
            whole.append((int(path.name.rpartition("-")[2]), path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(whole)[1] if whole else None


class Progress:
    """Makes the callback that says how training goes, marks checkpoints and stops at NaN."""

    @staticmethod
    def callback(*, name: str, inputs: str, say: Callable[[str], None]) -> Any:
        """Return a ``TrainerCallback``.

        Args:
            name: of the run, at the head of each line.
            inputs: hash that marks this run's checkpoints.
            say: takes the lines.
        """
        from transformers import TrainerCallback

        class _Callback(TrainerCallback):  # type: ignore[misc]
            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                if state.is_world_process_zero and folder.is_dir():
                    (folder / _WHOLE).write_text(inputs)

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
                    say(
                        f"{name}: step {state.global_step}/{state.max_steps}, "
                        f"loss {float(loss):.3f}, rate {rate:.1e}"
                    )

        return _Callback()

    @staticmethod
    def only(trainer: Any) -> None:
        """Take the printing callbacks of transformers out: our lines say it all."""
        from transformers import PrinterCallback, ProgressCallback

        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
