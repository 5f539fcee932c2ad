"""Alpaca, also of LLaMA-Factory: instruction, input, output; the input belongs to the prompt."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Alpaca",
    datasets=("tatsu-lab/alpaca",),
    has=("instruction", "input", "output"),
    prompt=("{instruction}\n\n{input}",),
    completion="output",
    copies=("text",),
)
