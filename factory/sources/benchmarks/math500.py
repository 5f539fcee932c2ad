"""MATH-500: the test problems of Let's Verify Step by Step."""

from factory.sources.benchmarks import Benchmark
from factory.sources.benchmarks.readers import mathematics

BENCHMARK = Benchmark(
    about="500 problems of MATH",
    dataset="HuggingFaceH4/MATH-500",
    read=mathematics,
    template="r1",
    k=16,
    licence="mit (MATH)",
    of_paper=True,
    k_of_paper=True,
)
