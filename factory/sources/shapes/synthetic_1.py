"""SYNTHETIC-1: a response per row, tests or key as JSON text."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="SYNTHETIC-1",
    datasets=("PrimeIntellect/SYNTHETIC-1",),
    has=("prompt", "llm_response", "verification_info"),
    prompt="prompt",
    completion="llm_response",
    gold=("verification_info.ground_truth", "verification_info"),
    domain="task_type",
)
