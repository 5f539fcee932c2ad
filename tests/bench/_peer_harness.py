"""Run by lm-evaluation-harness' own interpreter: tasks on a model, or on recorded texts.

usage: python _peer_harness.py TASK.json

TASK: ``tasks`` (name → keys over those of one of the harness's own files, which ``include`` names
below its folder), ``folder`` (where the tasks are written and the logs go) and ``model`` (a folder;
null: each document's ``output`` is what the model is taken to have written). Prints the logs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


class Recorded(LM):
    """Gives every document the text that its row holds."""

    def generate_until(self, requests: list[Any]) -> list[str]:
        return [request.doc["output"] for request in requests]

    def loglikelihood(self, requests: list[Any]) -> Any:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Any]) -> Any:
        raise NotImplementedError


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(task["folder"])
    shipped = Path(lm_eval.__file__).parent / "tasks"
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    for name, keys in task["tasks"].items():
        whole = {**keys, "include": str(shipped / keys["include"]), "task": name}
        (folder / "tasks" / f"{name}.yaml").write_text(json.dumps(whole))
    tracker = EvaluationTracker(output_path=str(folder / "logs"))
    model: LM = Recorded()
    if task["model"]:
        model = HFLM(task["model"], device="cpu", dtype="bfloat16", batch_size=25)
    found = lm_eval.simple_evaluate(
        model,
        tasks=list(task["tasks"]),
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
        evaluation_tracker=tracker,
        log_samples=True,
        bootstrap_iters=0,
    )
    assert found is not None
    logged = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=logged)
    for name, samples in logged.items():
        tracker.save_results_samples(task_name=name, samples=samples)
    logs = sorted(str(p) for p in (folder / "logs").rglob("samples_*.jsonl"))
    print(json.dumps({"version": lm_eval.__version__, "logs": logs}))


if __name__ == "__main__":
    main()
