"""AMC 12 of 2022 and 2023, as numbers instead of options."""

from factory.sources.benchmarks import Benchmark
from factory.sources.benchmarks.readers import mathematics

BENCHMARK = Benchmark(
    about="AMC 12, 83 problems asked without options",
    dataset="AI-MO/aimo-validation-amc",
    read=mathematics,
    template="r1",
    k=64,
    licence="apache-2.0 (problems: MAA)",
    split="train",
)
