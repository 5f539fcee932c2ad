"""SimpleQA: short facts; a judge compares the answer with the gold."""

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import first, item


def read(row: Row, seed: int) -> Question:
    """Read a row of SimpleQA."""
    del seed
    return Question(
        text=str(first(row, "problem", "question")), gold=str(first(row, "answer")),
        verifier=None, domain="facts", item=item(row, "id"),
    )  # fmt: skip


BENCHMARK = Benchmark(
    about="4,326 short questions of fact",
    dataset="basicv8vc/SimpleQA",
    read=read,
    template="plain",
    k=4,
    licence="mit",
    of_paper=True,
    needs_judge=True,
)
