"""Prompts alone, as text or as messages."""

from factory.sources.shape import PROMPTS, Shape

SHAPE = Shape(
    name="prompts",
    has=("|".join(PROMPTS),),
    rank=-3,
    prompt=PROMPTS,
)
