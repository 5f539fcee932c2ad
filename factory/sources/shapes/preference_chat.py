"""Preference pairs whose conversations hold the prompt: chosen and rejected end alike."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="preference conversations",
    datasets=("qihoo360/Light-R1-DPOData",),
    has=("chosen", "rejected"),
    rank=0,
    prompt=("chosen",),
    each=("chosen", "rejected"),
)
