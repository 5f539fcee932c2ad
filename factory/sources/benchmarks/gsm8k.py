"""GSM8K: the key follows ``####`` in the worked solution; local copies may have it apart."""

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import first, mathematics


def read(row: Row, seed: int) -> Question:
    """Read a row of GSM8K."""
    worked = str(first(row, "gold", "answer"))
    key = worked.rpartition("####")[2].strip().replace(",", "")
    solution = worked if "####" in worked else row.get("solution")
    return mathematics({**row, "answer": key, "gold": key, "solution": solution}, seed)


BENCHMARK = Benchmark(
    about="1,319 word problems of grade school",
    dataset="openai/gsm8k",
    read=read,
    template="r1",
    k=4,
    licence="mit",
    config=("main",),
)
