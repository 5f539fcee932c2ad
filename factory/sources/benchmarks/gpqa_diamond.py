"""GPQA Diamond: the right answer and three wrong ones, put in an order by seed."""

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import first, item, shuffled


def read(row: Row, seed: int) -> Question:
    """Read a row of GPQA."""
    wrong = [str(row[f"Incorrect Answer {i}"]) for i in (1, 2, 3)]
    return shuffled(
        str(first(row, "Question", "question")), str(first(row, "Correct Answer")), wrong, seed,
        domain=str(row.get("High-level domain") or "science"), item=item(row, "Record ID", "id"),
    )  # fmt: skip


BENCHMARK = Benchmark(
    about="198 questions of biology, physics and chemistry for experts",
    dataset="Idavidrein/gpqa",
    read=read,
    template="choice",
    k=64,
    licence="cc-by-4.0 (gated: its authors ask that no item be shown in the open)",
    config=("gpqa_diamond",),
    split="train",
    of_paper=True,
    k_of_paper=True,
    has_options=True,
)
