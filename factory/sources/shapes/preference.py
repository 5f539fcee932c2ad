"""Preference pairs beside a prompt: chosen and rejected are two completions."""

from factory.sources.shape import GOLDS, PROMPTS, Shape

SHAPE = Shape(
    name="preference pairs",
    has=("|".join((*PROMPTS, "input")), "chosen", "rejected"),
    prompt=(*PROMPTS, "input"),
    each=("chosen", "rejected"),
    gold=GOLDS,
    key_gold="answer",
)
