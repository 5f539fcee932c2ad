"""MBPP+: tasks of MBPP with EvalPlus's tests."""

from factory.sources.benchmarks import Benchmark
from factory.sources.benchmarks.readers import asserted_task

BENCHMARK = Benchmark(
    about="378 short Python tasks, tests of EvalPlus",
    dataset="evalplus/mbppplus",
    read=asserted_task,
    template="code",
    k=8,
    licence="apache-2.0",
)
