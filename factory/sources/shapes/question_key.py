"""Questions beside a column of golds."""

from factory.sources.shape import GOLDS, PROMPTS, Shape

SHAPE = Shape(
    name="question and gold",
    has=("|".join(PROMPTS), "|".join(GOLDS)),
    rank=-1,
    prompt=PROMPTS,
    gold=GOLDS,
)
