"""IFEval: instructions that a program can check; prompt-level strict accuracy."""

import json

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import first, item, plain, without_nulls


def read(row: Row, seed: int) -> Question:
    """Read a row of IFEval."""
    del seed
    names = list(first(row, "instruction_id_list", "instruction_ids"))
    gold = {"instruction_ids": names, "kwargs": [without_nulls(kw) for kw in plain(row["kwargs"])]}
    return Question(
        text=str(row["prompt"]), gold=json.dumps(gold, ensure_ascii=False),
        verifier="constraints", domain="instructions", item=item(row, "key", "id"),
    )  # fmt: skip


BENCHMARK = Benchmark(
    about="541 prompts with instructions that a program checks",
    dataset="google/IFEval",
    read=read,
    template="plain",
    k=8,
    licence="apache-2.0",
    split="train",
    of_paper=True,
)
