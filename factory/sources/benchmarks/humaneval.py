"""HumanEval: functions to be completed."""

from factory.sources.benchmarks import Benchmark
from factory.sources.benchmarks.readers import completion_task

BENCHMARK = Benchmark(
    about="164 Python functions to be completed",
    dataset="openai/openai_humaneval",
    read=completion_task,
    template="code",
    k=8,
    licence="mit",
)
