"""A prompt, the thinking and the answer, each in a column of its own."""

from factory.sources.shape import GOLDS, PROMPTS, THINKINGS, Shape

SHAPE = Shape(
    name="prompt, thinking and answer",
    has=("|".join(PROMPTS), "|".join(THINKINGS), "answer"),
    rank=0,
    prompt=PROMPTS,
    completion=("raw", "completion", "response", "output"),
    thinking=THINKINGS,
    answer="answer",
    gold=GOLDS,
)
