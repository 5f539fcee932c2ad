"""NuminaMath-1.5: competition problems with keys and written solutions; prompts."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="NuminaMath-1.5",
    datasets=("AI-MO/NuminaMath-1.5",),
    has=("problem", "answer", "problem_is_valid|solution_is_valid"),
    lacks=("generations",),
    prompt="problem",
    gold="answer",
)
