"""CMATH: word problems of Chinese elementary schools, by grade."""

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import mathematics


def read(row: Row, seed: int) -> Question:
    """Read a row of CMATH; the grade is its level."""
    return mathematics({**row, "level": row.get("grade")}, seed, language="zh")


BENCHMARK = Benchmark(
    about="1,098 Chinese word problems of elementary school",
    dataset="weitianwen/cmath",
    read=read,
    template="r1_zh",
    k=4,
    licence="cc-by-4.0 (its repository: mit)",
)
