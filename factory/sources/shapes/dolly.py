"""Dolly-15k: instruction, context, response; the context belongs to the prompt."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Dolly",
    datasets=("databricks/databricks-dolly-15k",),
    has=("instruction", "context", "response"),
    prompt="{context}\n\n{instruction}",
    completion="response",
)
