"""AIME 2025: both contests, answers 0 to 999."""

from factory.sources.benchmarks import Benchmark
from factory.sources.benchmarks.readers import mathematics

BENCHMARK = Benchmark(
    about="AIME 2025 I and II, 30 problems",
    dataset="math-ai/aime25",
    read=mathematics,
    template="r1",
    k=64,
    licence="apache-2.0 (problems: MAA)",
)
