"""MATH: problem, level, type; the key stands in the solution's box."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="MATH",
    datasets=("hendrycks/competition_math", "EleutherAI/hendrycks_math"),
    has=("problem", "solution", "level"),
    lacks=("answer",),
    prompt="problem",
    gold="solution",
    gold_form="boxed",
    domain=("type", "subject"),
)
