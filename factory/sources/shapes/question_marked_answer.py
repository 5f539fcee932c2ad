"""A question whose `answer` (or `solution`) is the reply: its texts mark their thinking."""

from factory.sources.shape import GOLDS, PROMPTS, Shape

SHAPE = Shape(
    name="question and reply with marked thinking",
    has=("|".join(PROMPTS), "answer"),
    marked=("answer",),
    lacks=("messages", "reasoning"),
    rank=0,
    prompt=PROMPTS,
    completion="answer",
    gold=GOLDS,
)
