"""Batch files of OpenAI and vLLM, requests: messages under `body`."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="batch requests",
    has=("custom_id", "body.messages"),
    lacks=("response",),
    prompt="body.messages",
    item="custom_id",
    copies=("body",),
)
