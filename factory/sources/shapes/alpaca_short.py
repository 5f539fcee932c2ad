"""Alpaca rows whose input is empty throughout."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Alpaca",
    has=("instruction", "output"),
    rank=0,
    prompt=("{instruction}\n\n{input}", "instruction"),
    completion="output",
    copies=("text",),
)
