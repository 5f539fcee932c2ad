"""OpenThoughts-114k, configuration metadata: DeepSeek's thinking and solution in columns."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="OpenThoughts (metadata)",
    datasets=("open-thoughts/OpenThoughts-114k",),
    has=("problem", "deepseek_reasoning", "deepseek_solution"),
    prompt="problem",
    thinking="deepseek_reasoning",
    answer="deepseek_solution",
    gold=("test_cases",),
    copies=("conversations",),
)
