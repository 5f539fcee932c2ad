"""LIMO: the solution is the trace, thinking unmarked; the answer is the key."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="LIMO",
    datasets=("GAIR/LIMO", "GAIR/LIMO-v2"),
    has=("question", "solution", "answer"),
    keys=("answer",),
    lacks=("level", "difficulty", "subject", "type", "unique_id", "source", "options", "choices"),
    rank=0,
    prompt="question",
    completion="solution",
    gold="answer",
)
