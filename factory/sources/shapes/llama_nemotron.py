"""Llama-Nemotron-Post-Training: input (text or messages), output, system prompt."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Llama-Nemotron-Post-Training",
    datasets=("nvidia/Llama-Nemotron-Post-Training-Dataset",),
    has=("input", "output", "generator"),
    prompt="input",
    completion="output",
    model="generator",
)
