"""DeepScaleR: problem, key, and a written solution that is no trace."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="DeepScaleR",
    datasets=("agentica-org/DeepScaleR-Preview-Dataset",),
    has=("problem", "answer", "solution"),
    keys=("answer",),
    lacks=("generations", "generation", "problem_is_valid"),
    rank=0,
    prompt="problem",
    gold="answer",
)
