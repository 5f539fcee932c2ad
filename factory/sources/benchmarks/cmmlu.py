"""CMMLU: Chinese knowledge in 67 subjects."""

from factory.sources.benchmarks import Benchmark
from factory.sources.benchmarks.readers import by_columns

BENCHMARK = Benchmark(
    about="11,582 questions of Chinese knowledge",
    dataset="haonan-li/cmmlu",
    read=by_columns,
    template="choice_zh",
    k=4,
    licence="cc-by-nc-4.0",
    of_paper=True,
)
