"""AIME 2024: both contests, answers 0 to 999."""

from factory.sources.benchmarks import Benchmark
from factory.sources.benchmarks.readers import mathematics

BENCHMARK = Benchmark(
    about="AIME 2024 I and II, 30 problems",
    dataset="HuggingFaceH4/aime_2024",
    read=mathematics,
    template="r1",
    k=64,
    licence="none stated (problems: MAA)",
    split="train",
    of_paper=True,
    k_of_paper=True,
)
