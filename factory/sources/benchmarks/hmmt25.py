"""HMMT February 2025, as MathArena keeps it."""

from factory.sources.benchmarks import Benchmark
from factory.sources.benchmarks.readers import mathematics

BENCHMARK = Benchmark(
    about="HMMT February 2025, 30 problems",
    dataset="MathArena/hmmt_feb_2025",
    read=mathematics,
    template="r1",
    k=64,
    licence="cc-by-nc-sa-4.0",
    split="train",
)
