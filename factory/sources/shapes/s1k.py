"""s1K: one trajectory, in a list of one, and the attempt."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="s1K",
    datasets=("simplescaling/s1K",),
    has=("question", "thinking_trajectories", "attempt"),
    prompt="question",
    thinking="thinking_trajectories",
    answer="attempt",
    gold="solution",
    domain="cot_type",
)
