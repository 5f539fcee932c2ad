"""MMLU-Pro: up to ten options."""

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import chosen, first, item, place


def read(row: Row, seed: int) -> Question:
    """Read a row of MMLU-Pro; the filler option "N/A" is none."""
    del seed
    right = row.get("answer_index")
    options = [o for o in row["options"] if str(o).strip() != "N/A"]
    return chosen(
        str(first(row, "question")), options, place(row["answer"] if right is None else right),
        domain=str(row.get("category") or "") or None, item=item(row, "question_id"),
    )  # fmt: skip


BENCHMARK = Benchmark(
    about="12,032 questions of 14 fields with up to ten options",
    dataset="TIGER-Lab/MMLU-Pro",
    read=read,
    template="choice_is",
    k=4,
    licence="mit",
    of_paper=True,
)
