"""Batch files of OpenAI and vLLM, results joined with their requests by `custom_id`."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="batch results",
    has=("custom_id", "request.body.messages", "response.body.choices"),
    prompt="request.body.messages",
    completion="response.body.choices",
    model="response.body.model",
    item="custom_id",
    copies=("request", "response"),
)
