"""MBPP: short Python tasks with three assertions each."""

from factory.sources.benchmarks import Benchmark
from factory.sources.benchmarks.readers import asserted_task

BENCHMARK = Benchmark(
    about="500 short Python tasks",
    dataset="google-research-datasets/mbpp",
    read=asserted_task,
    template="code",
    k=8,
    licence="cc-by-4.0",
    config=("full",),
)
