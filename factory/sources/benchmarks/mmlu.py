"""MMLU: four options in a list, the right one by number."""

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import chosen, first, item, place


def read(row: Row, seed: int) -> Question:
    """Read a row of MMLU."""
    del seed
    return chosen(
        str(first(row, "question")), row["choices"], place(row["answer"]),
        domain=str(row.get("subject") or "") or None, item=item(row, "id"),
    )  # fmt: skip


BENCHMARK = Benchmark(
    about="14,042 questions of 57 subjects",
    dataset="cais/mmlu",
    read=read,
    template="choice",
    k=4,
    licence="mit",
    config=("all",),
    of_paper=True,
)
