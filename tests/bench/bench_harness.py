"""The same texts graded by lm-evaluation-harness and by us: how often both agree, and where not.

usage: python tests/bench/bench_harness.py --harness VENV/bin/python [--model FOLDER]
           [--data ../shared/data] [--out FOLDER] [--limit 75]

The harness stands in an environment of its own: ``lm-eval[hf,math]`` and torch. Its own files of
GSM8K, minerva_math and BBH (prompts, filters, metrics) are pointed at local rows. With ``--model``
it samples that model (SmolLM2-135M-Instruct: ``make real-model``), and without it gets texts that
other models have written (``math_model_outputs``, ``logic_model_outputs``). It writes its own logs
(``--log_samples``), which ``distill regrade`` grades again: a line per task, filter and metric,
then what the differences are. ``FOLDER/differences.jsonl`` holds each of them to be read.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from _corpus import DATA  # noqa: E402
from bench_sets import peer  # noqa: E402

from distill.evaluate.regrade import differences, groups, kinds, read_graded, regrade  # noqa: E402

Row = dict[str, Any]
Tasks = Mapping[str, tuple[Row, list[Row]]]
"""Task → keys over the harness's own file, and its rows."""
GSM8K = {"include": "gsm8k/gsm8k.yaml"}
MINERVA = {"include": "minerva_math/minerva_math500.yaml"}
BBH = {"include": "bbh/cot_fewshot/_cot_fewshot_template_yaml", "doc_to_text": "{{input}}"}
METRICS = {"minerva": ("math_verify", "exact_match")}


def rows_of(folder: Path, name: str) -> list[Row]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt") as handle:
        return [json.loads(line) for line in handle]


def word_problem(row: Mapping[str, Any], question: str) -> Row:
    """A row in GSM8K's shape: the key follows the worked solution."""
    worked = str(row.get("solution") or "").partition("\n####")[0]
    return {"question": row[question], "answer": f"{worked}\n#### {row['gold']}"}


def competition(row: Mapping[str, Any], question: str) -> Row:
    """A row in MATH's shape: the key is the last box of the solution."""
    return {"problem": row[question], "solution": f"Therefore $\\boxed{{{row['gold']}}}$."}


def numeric(gold: object) -> bool:
    return re.fullmatch(r"-?[\d,]+(\.\d+)?", str(gold)) is not None


def sampled(data: Path, limit: int) -> Tasks:
    """Tasks for a small model: few examples in the prompt, easy problems among the rows."""
    math_en = rows_of(data, "prompts_math_en")
    svamp = [r for r in math_en if r["benchmark"] == "svamp" and numeric(r["gold"])]
    easy = [r for r in math_en if r["benchmark"] == "math500" and r["meta"]["level"] <= 3]
    shots = rows_of(data, "prompts_gsm8k_train")[:200]
    brief = {"do_sample": False, "max_gen_toks": 128}
    gsm = {
        **GSM8K, "num_fewshot": 3, "shots": [word_problem(r, "prompt") for r in shots],
        "generation_kwargs": {**brief, "until": ["Question:", "<|im_end|>"]},
    }  # fmt: skip
    hard = {
        **MINERVA, "num_fewshot": 2,
        "generation_kwargs": {**brief, "until": ["Problem:", "<|im_end|>"]},
    }  # fmt: skip
    gsm8k = rows_of(data, "prompts_gsm8k_test")
    return {
        "gsm8k": (gsm, [word_problem(r, "prompt") for r in gsm8k[:limit]]),
        "svamp": (gsm, [word_problem(r, "prompt") for r in svamp[:limit]]),
        "minerva": (hard, [competition(r, "prompt") for r in easy[:limit]]),
    }


def recorded(data: Path) -> Tasks:
    """Texts of other models, by how they give their answer."""
    texts = rows_of(data, "math_model_outputs")
    tasks: dict[str, tuple[Row, list[Row]]] = {}
    for row in texts:
        boxed = "boxed" in row["answer_format"]
        name = f"{'minerva' if boxed else 'gsm8k'}_{row['source'].rpartition('/')[2].lower()}"
        made = competition(row, "question") if boxed else word_problem(row, "question")
        _, rows = tasks.setdefault(name, ({**(MINERVA if boxed else GSM8K), "num_fewshot": 0}, []))
        if boxed or numeric(row["gold"]):
            rows.append({**made, "output": row["output"], "id": row["id"]})
    for row in rows_of(data, "logic_model_outputs"):
        _, rows = tasks.setdefault(row["task"], ({**BBH, "num_fewshot": 0}, []))
        rows.append({"input": row["prompt"], "target": row["gold"], "output": row["output"]})
    return tasks


def logs(
    python: str, folder: Path, tasks: Mapping[str, tuple[Row, list[Row]]], model: str | None
) -> list[Path]:
    """Let the harness run; return its logs, one a task."""
    folder.mkdir(parents=True, exist_ok=True)
    configurations: dict[str, Row] = {}
    for name, (keys, rows) in tasks.items():
        keys = dict(keys)
        data_files = {"test": _written(folder / f"{name}.jsonl", rows)}
        if shots := keys.pop("shots", None):
            data_files["train"] = _written(folder / f"{name}-shots.jsonl", shots)
        if "train" not in data_files and "gsm8k.yaml" in keys["include"]:
            keys |= {"training_split": None, "fewshot_split": None}
        configurations[name] = {
            **keys, "dataset_path": "json", "dataset_name": None,
            "dataset_kwargs": {"data_files": data_files},
        }  # fmt: skip
    done = peer(python, "_peer_harness.py", {
        "tasks": configurations, "folder": str(folder), "model": model
    })  # fmt: skip
    print(f"lm-evaluation-harness {done['version']}, {model or 'recorded texts'}")
    return [Path(p) for p in done["logs"]]


def _written(path: Path, rows: Iterable[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--harness", required=True, help="the interpreter of its environment")
    parser.add_argument("--model", help="a folder; default: texts of other models")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--limit", type=int, default=75)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.out or Path(name)
        tasks = sampled(args.data, args.limit) if args.model else recorded(args.data)
        found = logs(args.harness, folder, tasks, args.model)
        compare(found, folder)


def compare(paths: Iterable[Path], folder: Path) -> None:
    """Print how both graded each log, and what the differences are."""
    print(f"{'task':34} {'filter':16} {'metric':12} {'texts':>5} {'theirs':>6} {'ours':>6} "
          f"{'agree':>6} {'differ':>6}")  # fmt: skip
    everything: list[Row] = []
    for path in paths:
        task = path.name.removeprefix("samples_").partition("_20")[0]
        for metric in METRICS.get(task.partition("_")[0], ("exact_match",)):
            rows = regrade(read_graded(str(path), score=metric), n_workers=1)
            for one in groups(rows)[:-1]:
                n = one["compared"]
                print(f"{task:34} {one['by'][1]:16} {metric:12} {n:5} {100 * one['theirs']:6.1f} "
                      f"{100 * one['ours']:6.1f} {100 * (1 - one['differ'] / n):6.1f} "
                      f"{one['differ']:6}")  # fmt: skip
            for what, n in kinds(rows).items():
                print(f"{n:10} {what}")
            everything += [{"metric": metric, **row} for row in differences(rows)]
    _written(folder / "differences.jsonl", everything)


if __name__ == "__main__":
    main()
