"""A question whose `solution` is the reply: its texts mark their thinking."""

from factory.sources.shape import GOLDS, PROMPTS, Shape

SHAPE = Shape(
    name="question and solution with marked thinking",
    has=("|".join(PROMPTS), "solution"),
    marked=("solution",),
    rank=0,
    prompt=PROMPTS,
    completion="solution",
    gold=GOLDS,
    key_gold="answer",
)
