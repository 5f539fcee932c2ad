"""Dolly-15k rows, most of them without a context."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Dolly",
    has=("instruction", "response", "category"),
    prompt="{context}\n\n{instruction}",
    completion="response",
)
