"""MATH-500: problem, key, written solution, subject and level."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="MATH-500",
    datasets=("HuggingFaceH4/MATH-500",),
    has=("problem", "answer", "solution", "level"),
    prompt="problem",
    gold="answer",
    domain="subject",
)
