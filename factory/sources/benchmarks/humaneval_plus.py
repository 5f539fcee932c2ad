"""HumanEval+: HumanEval's functions with eighty times the tests (EvalPlus)."""

from factory.sources.benchmarks import Benchmark
from factory.sources.benchmarks.readers import completion_task

BENCHMARK = Benchmark(
    about="164 Python functions, tests of EvalPlus",
    dataset="evalplus/humanevalplus",
    read=completion_task,
    template="code",
    k=8,
    licence="apache-2.0",
)
