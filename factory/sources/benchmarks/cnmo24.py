"""CNMO 2024: the Chinese mathematical olympiad, as LiveMathBench keeps it."""

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import mathematics


def read(row: Row, seed: int) -> Question:
    """Read a row of LiveMathBench's CNMO, Chinese unless the row says otherwise."""
    return mathematics(row, seed, language="zh")


BENCHMARK = Benchmark(
    about="CNMO 2024, 18 problems in Chinese",
    dataset="opencompass/LiveMathBench",
    read=read,
    template="r1_zh",
    k=64,
    licence="cc-by-4.0",
    config=("v202412_CNMO_cn",),
    of_paper=True,
)
