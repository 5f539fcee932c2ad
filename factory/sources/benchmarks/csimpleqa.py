"""C-SimpleQA: short facts in Chinese; a judge compares the answer with the gold."""

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import first, item


def read(row: Row, seed: int) -> Question:
    """Read a row of Chinese SimpleQA."""
    del seed
    return Question(
        text=str(first(row, "question", "problem")), gold=str(first(row, "answer")),
        verifier=None, domain=str(row.get("primary_category") or "facts"), language="zh",
        item=item(row, "id"),
    )  # fmt: skip


BENCHMARK = Benchmark(
    about="3,000 short questions of fact in Chinese",
    dataset="OpenStellarTeam/Chinese-SimpleQA",
    read=read,
    template="plain",
    k=4,
    licence="cc-by-nc-sa-4.0",
    split="train",
    of_paper=True,
    needs_judge=True,
)
